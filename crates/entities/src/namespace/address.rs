//! The only way to reach a Namespace.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use troupe_domain::namespace::{Apply, Deleted, Fault, Item, Key, Outcome};
use troupe_resources::Kind;
use troupe_sharding::{AskError, Router};
use troupe_types::{NamespaceId, Seq, Uuid, limits::ENTRY_BYTES_MAX};

use super::parts;

/// How long an answer may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a watch is held open without news.
pub(super) const WATCH_HELD: Duration = Duration::from_secs(10);

/// A question or command to a Namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum NamespaceAsk {
    /// Changes, all or nothing.
    Apply {
        /// They.
        apply: Apply,
    },
    /// A part of an [`Apply`] as JSON that is too large for a message; the last one applies it.
    ApplyPart {
        /// Of which.
        of: Uuid,
        /// Its place, from 0.
        part: usize,
        /// Nothing follows.
        is_last: bool,
        /// The text.
        text: String,
    },
    /// Some resources by name.
    Get {
        /// Which.
        keys: Vec<Key>,
    },
    /// All resources of a kind, or of all kinds.
    List {
        /// Which kind.
        kind: Option<Kind>,
    },
    /// What was deleted and can be brought back.
    Deleted,
    /// What changed after a version; held open for up to 10 s if nothing did.
    Watch {
        /// The version that the watcher has.
        since: Seq,
    },
}

/// The answer to a [`NamespaceAsk`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum NamespaceReply {
    /// The changes are durable (or would be accepted).
    Applied {
        /// One per change.
        outcomes: Vec<Outcome>,
        /// The Namespace's version now.
        version: Seq,
    },
    /// The part is kept for the next one.
    Held,
    /// Resources at a version.
    Listed(Listed),
    /// What was deleted and can be brought back.
    Deleted {
        /// By kind and name.
        items: Vec<(Key, Deleted)>,
        /// The Namespace's version.
        version: Seq,
    },
    /// What changed, oldest first.
    Changed {
        /// They.
        events: Vec<WatchEvent>,
        /// Up to which version these are all; the Namespace may be further.
        version: Seq,
    },
}

/// Resources at a version of their Namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// By kind and name; what does not exist is left out.
    pub items: Vec<(Key, Item)>,
    /// The Namespace's version.
    pub version: Seq,
}

/// One change that a watcher is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchEvent {
    /// Which resource.
    pub key: Key,
    /// What it is now; `None`: it was deleted.
    pub item: Option<Item>,
    /// The version that changed it.
    pub version: Seq,
}

/// Why a Namespace refuses.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum NamespaceRefusal {
    /// Changes that cannot happen; nothing was changed.
    #[error("the changes are refused")]
    Faults {
        /// All of them.
        faults: Vec<Fault>,
    },
    /// The log does not reach back that far: list anew, then watch from that version.
    #[error("the log begins after version {oldest}")]
    Trimmed {
        /// The oldest version that can be watched from.
        oldest: Seq,
    },
}

/// What became of a question or command that was not answered well.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NamespaceError {
    /// The Namespace refused it; nothing happened.
    #[error("the namespace refused it")]
    Refused(#[source] NamespaceRefusal),
    /// The Router's fate.
    #[error("the namespace was not reached")]
    Ask(#[source] AskError),
    /// The answer is not what was asked for.
    #[error("the namespace's answer made no sense")]
    Protocol,
}

/// A Namespace's address plus the Router.
#[derive(Clone, Debug)]
pub struct NamespaceAddress {
    router: Router,
    id: NamespaceId,
}

impl NamespaceAddress {
    /// The address of a Namespace, whether anything was ever written to it or not.
    #[must_use]
    pub const fn new(router: Router, id: NamespaceId) -> Self {
        Self { router, id }
    }

    async fn ask(&self, ask: &NamespaceAsk) -> Result<NamespaceReply, NamespaceError> {
        let body = serde_json::to_vec(ask).map_err(|_| NamespaceError::Protocol)?;
        let (to, body) = (self.id.into(), Bytes::from(body));
        // An apply that is given twice would find its own `resourceVersion` taken.
        let is_apply = matches!(ask, NamespaceAsk::Apply { .. } | NamespaceAsk::ApplyPart { .. });
        let may_repeat = !is_apply;
        let answer = self.router.ask_or_repeat(to, body, may_repeat, ASK_TIMEOUT).await;
        let answer = answer.map_err(refusal_of)?;
        serde_json::from_slice(&answer).map_err(|_| NamespaceError::Protocol)
    }

    /// Changes resources, all or nothing; durable when it returns.
    ///
    /// # Errors
    /// `Refused(Faults)` with every fault, or the Router's fate.
    pub async fn apply(&self, apply: Apply) -> Result<(Vec<Outcome>, Seq), NamespaceError> {
        let text = serde_json::to_string(&apply).map_err(|_| NamespaceError::Protocol)?;
        // The ask has a few bytes around it.
        let asks = if text.len() + 64 <= ENTRY_BYTES_MAX {
            vec![NamespaceAsk::Apply { apply }]
        } else {
            parts::of(&text).collect()
        };
        for ask in &asks {
            match self.ask(ask).await? {
                NamespaceReply::Held => {}
                NamespaceReply::Applied { outcomes, version } => return Ok((outcomes, version)),
                _ => break,
            }
        }
        Err(NamespaceError::Protocol)
    }

    /// Some resources by name.
    ///
    /// # Errors
    /// The Router's fate.
    pub async fn get(&self, keys: Vec<Key>) -> Result<Listed, NamespaceError> {
        match self.ask(&NamespaceAsk::Get { keys }).await? {
            NamespaceReply::Listed(listed) => Ok(listed),
            _ => Err(NamespaceError::Protocol),
        }
    }

    /// All resources of a kind, or of all kinds.
    ///
    /// # Errors
    /// The Router's fate.
    pub async fn list(&self, kind: Option<Kind>) -> Result<Listed, NamespaceError> {
        match self.ask(&NamespaceAsk::List { kind }).await? {
            NamespaceReply::Listed(listed) => Ok(listed),
            _ => Err(NamespaceError::Protocol),
        }
    }

    /// What was deleted and can be brought back, by kind and name.
    ///
    /// # Errors
    /// The Router's fate.
    pub async fn deleted(&self) -> Result<(Vec<(Key, Deleted)>, Seq), NamespaceError> {
        match self.ask(&NamespaceAsk::Deleted).await? {
            NamespaceReply::Deleted { items, version } => Ok((items, version)),
            _ => Err(NamespaceError::Protocol),
        }
    }

    /// What changed after a version; returns empty after about 10 s without news.
    ///
    /// # Errors
    /// `Refused(Trimmed)` if the log does not reach back that far, or the Router's fate.
    pub async fn watch(&self, since: Seq) -> Result<(Vec<WatchEvent>, Seq), NamespaceError> {
        match self.ask(&NamespaceAsk::Watch { since }).await? {
            NamespaceReply::Changed { events, version } => Ok((events, version)),
            _ => Err(NamespaceError::Protocol),
        }
    }
}

fn refusal_of(error: AskError) -> NamespaceError {
    if let AskError::Failed(failed) = &error
        && let Some(detail) = &failed.detail
        && let Ok(refusal) = serde_json::from_str::<NamespaceRefusal>(detail)
    {
        return NamespaceError::Refused(refusal);
    }
    NamespaceError::Ask(error)
}
