//! A Namespace: the resources of one owner, written all or nothing.
//!
//! `resourceVersion` is the number of the journal entry that wrote a resource, and the
//! Namespace's version is its last one. References inside the Namespace are checked here; those
//! that lead elsewhere were looked up by the caller, who names them in [`Apply::external`].

mod deleted;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use troupe_resources::{Kind, Resource, secret::carry_over};
use troupe_types::{Seq, Timestamp, Uuid};

pub use deleted::{Deleted, KEPT_DAYS, KEPT_MAX};

/// Most changes of one apply.
pub const CHANGES_MAX: usize = 1_000;

/// What names a resource inside its Namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Of a kind and a name.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

/// A reference from one resource to another of the same or a wider Namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// What is referred to.
    #[serde(flatten)]
    pub key: Key,
    /// Where in the document: `spec.members[1].botRef.name`.
    pub path: String,
}

/// A stored resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The resource as applied, masks in place of secrets, without what the system adds.
    pub document: Value,
    /// Sealed secrets by their paths in the document.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Drawn when it was made; another one under the same name has another.
    pub uid: Uuid,
    /// The entry that last wrote it.
    pub version: Seq,
    /// Rises with each change of its spec.
    pub generation: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// What it refers to.
    pub references: Vec<Target>,
}

/// The resources of a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamespaceState {
    /// Number of the last entry.
    pub version: Seq,
    /// By kind and name.
    #[serde(with = "as_list")]
    pub items: BTreeMap<Key, Item>,
    /// What was deleted last under a kind and name, and can be brought back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "as_list")]
    pub deleted: BTreeMap<Key, Deleted>,
}

/// One journal entry of a Namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamespaceEntry {
    /// When it was decided.
    pub at: Timestamp,
    /// What changed, in order.
    pub changes: Vec<ItemChange>,
}

/// A change of one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ItemChange {
    /// Made or replaced.
    Written {
        /// Which.
        key: Key,
        /// What it is now.
        item: Box<Item>,
    },
    /// Taken away.
    Removed {
        /// Which.
        key: Key,
        /// It is not kept to be brought back.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        purge: bool,
    },
}

/// What must hold of a resource for its change to happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precondition {
    /// Nothing.
    #[default]
    Any,
    /// It does not exist.
    Absent,
    /// It exists.
    Present,
    /// It is at this `resourceVersion`.
    Version(Seq),
}

/// A wanted change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Change {
    /// Make or replace.
    Put {
        /// Which.
        key: Key,
        /// The document, masks in place of secrets.
        document: Value,
        /// New secrets, sealed, by their paths.
        secrets: BTreeMap<String, String>,
        /// Paths whose secret stays as it is stored.
        unchanged: Vec<String>,
        /// What it refers to in this Namespace or in wider ones.
        references: Vec<Target>,
        /// What must hold.
        only_if: Precondition,
    },
    /// Take away.
    Delete {
        /// Which.
        key: Key,
        /// What must hold.
        only_if: Precondition,
        /// For good; one that is deleted already is not kept any longer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        purge: bool,
    },
    /// Bring back what was deleted, as it was.
    Restore {
        /// Which.
        key: Key,
    },
}

/// Several changes, all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Apply {
    /// In order.
    pub changes: Vec<Change>,
    /// Targets outside the Namespace that exist and that the caller may use.
    pub external: BTreeSet<Key>,
    /// Decide, but write nothing.
    pub dry_run: bool,
}

/// What became (or would become) of one change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which.
    pub key: Key,
    /// What was done.
    pub operation: Operation,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Made.
    Created,
    /// Replaced.
    Updated,
    /// Already so.
    Unchanged,
    /// Taken away.
    Deleted,
    /// Brought back.
    Restored,
}

/// Why a change cannot happen. One of them refuses the whole apply.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// It exists already.
    #[error("{kind} `{name}` exists already", kind = key.kind, name = key.name)]
    Exists {
        /// Which.
        key: Key,
    },
    /// It does not exist.
    #[error("{kind} `{name}` not found", kind = key.kind, name = key.name)]
    Missing {
        /// Which.
        key: Key,
    },
    /// Somebody wrote it meanwhile.
    #[error("{kind} `{name}` is at resourceVersion {current}, not {wanted}",
        kind = key.kind, name = key.name)]
    Conflict {
        /// Which.
        key: Key,
        /// What the caller has.
        wanted: Seq,
        /// What there is.
        current: Seq,
    },
    /// It refers to something that does not exist, or that the caller may not use.
    #[error("{kind} `{name}` not found, named by {of_kind} `{of_name}`",
        kind = target.key.kind, name = target.key.name, of_kind = key.kind, of_name = key.name)]
    BrokenReference {
        /// Whose reference.
        key: Key,
        /// To what, and where in the document.
        target: Target,
    },
    /// Others refer to it.
    #[error("{kind} `{name}` is used", kind = key.kind, name = key.name)]
    InUse {
        /// Which.
        key: Key,
        /// By whom.
        users: Vec<Key>,
    },
    /// It holds masks in place of secrets that are not stored.
    #[error("{kind} `{name}` holds a mask where no secret is stored",
        kind = key.kind, name = key.name)]
    LostSecrets {
        /// Which.
        key: Key,
        /// Where.
        paths: Vec<String>,
    },
    /// More than [`CHANGES_MAX`] changes.
    #[error("{count} changes are too many for one apply")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// What an accepted apply leads to; no entry if nothing changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// To append, then fold, unless it was a dry run.
    pub entry: Option<NamespaceEntry>,
    /// One per change, in order.
    pub outcomes: Vec<Outcome>,
}

impl NamespaceEntry {
    /// The same changes in several entries, the first one with the number `first`, each of about
    /// `bytes_max` bytes as JSON at most. A change that is larger has one of its own.
    #[must_use]
    pub fn split(self, first: Seq, bytes_max: usize) -> Vec<Self> {
        let (mut entries, mut room) = (Vec::<Self>::new(), 0);
        for mut change in self.changes {
            let size = change.bytes();
            if entries.is_empty() || size > room {
                entries.push(Self { at: self.at, changes: Vec::new() });
                room = bytes_max;
            }
            room = room.saturating_sub(size);
            if let ItemChange::Written { item, .. } = &mut change {
                item.version = Seq(first.0 + entries.len() as u64 - 1);
            }
            if let Some(last) = entries.last_mut() {
                last.changes.push(change);
            }
        }
        entries
    }
}

impl ItemChange {
    /// Its size as JSON.
    #[must_use]
    pub fn bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |json| json.len())
    }
}

impl NamespaceState {
    /// Folds an entry.
    pub fn apply(&mut self, entry: &NamespaceEntry) {
        self.version = self.version.next();
        for change in &entry.changes {
            match change {
                ItemChange::Written { key, item } => {
                    if self.deleted.get(key).is_some_and(|gone| gone.item.uid == item.uid) {
                        self.deleted.remove(key);
                    }
                    self.items.insert(key.clone(), Item::clone(item));
                }
                ItemChange::Removed { key, purge } => {
                    let item = self.items.remove(key);
                    if *purge {
                        self.deleted.remove(key);
                    } else if let Some(item) = item {
                        self.deleted.insert(key.clone(), Deleted { item, at: entry.at });
                    }
                }
            }
        }
        deleted::trim(&mut self.deleted, entry.at);
    }

    /// Who refers to a resource.
    #[must_use]
    pub fn users_of(&self, key: &Key) -> Vec<Key> {
        self.items
            .iter()
            .filter(|(_, item)| item.references.iter().any(|t| t.key == *key))
            .map(|(user, _)| user.clone())
            .collect()
    }
}

/// Decides an apply: all faults, or one entry.
///
/// # Errors
/// Every [`Fault`] of every change; nothing happens then.
pub fn decide(
    state: &NamespaceState,
    apply: &Apply,
    now: Timestamp,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<Decision, Vec<Fault>> {
    if apply.changes.len() > CHANGES_MAX {
        return Err(vec![Fault::TooMany { count: apply.changes.len() }]);
    }
    let version = state.version.next();
    let mut after = state.clone();
    let (mut outcomes, mut faults, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for change in &apply.changes {
        let (key, only_if) = match change {
            Change::Put { key, only_if, .. } | Change::Delete { key, only_if, .. } => {
                (key, *only_if)
            }
            Change::Restore { key } => (key, Precondition::Any),
        };
        let current = after.items.get(key);
        if let Err(fault) = check(key, current, only_if) {
            faults.push(fault);
            continue;
        }
        match change {
            Change::Put { document, secrets, unchanged, references, .. } => {
                let secrets = match carried(current, document, secrets, unchanged) {
                    Ok(secrets) => secrets,
                    Err(paths) => {
                        faults.push(Fault::LostSecrets { key: key.clone(), paths });
                        continue;
                    }
                };
                let new = NewItem { document, secrets, references };
                let (operation, item) = put(current, new, version, now, ids);
                outcomes.push(Outcome { key: key.clone(), operation });
                if operation != Operation::Unchanged {
                    after.items.insert(key.clone(), item.clone());
                    changes.push(ItemChange::Written { key: key.clone(), item: Box::new(item) });
                }
            }
            Change::Delete { purge, .. } => {
                let is_there = current.is_some() || (*purge && state.deleted.contains_key(key));
                if !is_there {
                    faults.push(Fault::Missing { key: key.clone() });
                    continue;
                }
                after.items.remove(key);
                outcomes.push(Outcome { key: key.clone(), operation: Operation::Deleted });
                changes.push(ItemChange::Removed { key: key.clone(), purge: *purge });
            }
            Change::Restore { .. } => match deleted::kept(&state.deleted, key, current, now) {
                Ok(kept) => {
                    let item = Item { version, updated_at: now, ..kept.clone() };
                    after.items.insert(key.clone(), item.clone());
                    outcomes.push(Outcome { key: key.clone(), operation: Operation::Restored });
                    changes.push(ItemChange::Written { key: key.clone(), item: Box::new(item) });
                }
                Err(fault) => faults.push(fault),
            },
        }
    }
    faults.extend(reference_faults(&after, &changes, &apply.external));
    if !faults.is_empty() {
        return Err(faults);
    }
    let entry = (!changes.is_empty()).then_some(NamespaceEntry { at: now, changes });
    Ok(Decision { entry, outcomes })
}

fn check(key: &Key, current: Option<&Item>, only_if: Precondition) -> Result<(), Fault> {
    match (only_if, current) {
        (Precondition::Any, _)
        | (Precondition::Absent, None)
        | (Precondition::Present, Some(_)) => Ok(()),
        (Precondition::Absent, Some(_)) => Err(Fault::Exists { key: key.clone() }),
        (Precondition::Present | Precondition::Version(_), None) => {
            Err(Fault::Missing { key: key.clone() })
        }
        (Precondition::Version(wanted), Some(item)) if item.version == wanted => Ok(()),
        (Precondition::Version(wanted), Some(item)) => {
            Err(Fault::Conflict { key: key.clone(), wanted, current: item.version })
        }
    }
}

struct NewItem<'a> {
    document: &'a Value,
    secrets: BTreeMap<String, String>,
    references: &'a [Target],
}

/// The secrets of the new version: those given, and those that a mask keeps.
fn carried(
    current: Option<&Item>,
    document: &Value,
    given: &BTreeMap<String, String>,
    unchanged: &[String],
) -> Result<BTreeMap<String, String>, Vec<String>> {
    let mut secrets = given.clone();
    if unchanged.is_empty() {
        return Ok(secrets);
    }
    let read = |value: &Value| serde_json::from_value::<Resource>(value.clone()).ok();
    let new = read(document).ok_or_else(|| unchanged.to_vec())?;
    let old = current.and_then(|item| read(&item.document));
    carry_over(unchanged, &new, old.as_ref()).map_err(|e| e.paths)?;
    for path in unchanged {
        match current.and_then(|item| item.secrets.get(path)) {
            Some(sealed) => secrets.insert(path.clone(), sealed.clone()),
            None => return Err(vec![path.clone()]),
        };
    }
    Ok(secrets)
}

fn put(
    current: Option<&Item>,
    new: NewItem<'_>,
    version: Seq,
    now: Timestamp,
    ids: &mut dyn FnMut() -> Uuid,
) -> (Operation, Item) {
    let mut item = Item {
        document: new.document.clone(),
        secrets: new.secrets,
        uid: Uuid::nil(),
        version,
        generation: 1,
        created_at: now,
        updated_at: now,
        references: new.references.to_vec(),
    };
    let Some(old) = current else {
        item.uid = ids();
        return (Operation::Created, item);
    };
    // The system's own word stays, whatever a person applies over it.
    let says = |document: &Value| document.get("status").is_some_and(|status| !status.is_null());
    if says(&old.document)
        && !says(&item.document)
        && let Some(fields) = item.document.as_object_mut()
    {
        fields.insert("status".to_owned(), old.document["status"].clone());
    }
    if old.document == item.document && old.secrets == item.secrets {
        return (Operation::Unchanged, old.clone());
    }
    let spec = |item: &Item| item.document.get("spec").cloned();
    let changed = spec(old) != spec(&item) || old.secrets != item.secrets;
    item.uid = old.uid;
    item.created_at = old.created_at;
    item.generation = old.generation + u64::from(changed);
    (Operation::Updated, item)
}

/// References are judged on the state after all changes, so documents may come in any order.
fn reference_faults(
    after: &NamespaceState,
    changes: &[ItemChange],
    external: &BTreeSet<Key>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for change in changes {
        match change {
            ItemChange::Written { key, item } => {
                // A later change of the same apply may have removed it again.
                let lives = after.items.contains_key(key);
                let broken =
                    |t: &&Target| !after.items.contains_key(&t.key) && !external.contains(&t.key);
                faults.extend(item.references.iter().filter(|_| lives).filter(broken).map(
                    |target| Fault::BrokenReference { key: key.clone(), target: target.clone() },
                ));
            }
            ItemChange::Removed { key, .. } if !after.items.contains_key(key) => {
                let users = after.users_of(key);
                if !users.is_empty() && !external.contains(key) {
                    faults.push(Fault::InUse { key: key.clone(), users });
                }
            }
            ItemChange::Removed { .. } => {}
        }
    }
    faults
}

/// JSON maps have text keys; a list of pairs keeps kind and name apart.
mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Key;

    pub(super) fn serialize<S: Serializer, T: Serialize>(
        items: &BTreeMap<Key, T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        items.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Key, T>, D::Error> {
        Ok(Vec::<(Key, T)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
