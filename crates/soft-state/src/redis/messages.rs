//! What nodes say on the channel of their cluster.

use std::{borrow::Cow, convert::Infallible, sync::Arc};

use redis::{FromRedisValue as _, PushInfo, PushKind};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use troupe_types::TaskId;

use crate::{Notice, news::Ears};

/// One message. A kind that a node does not know is skipped: versions mix.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Message<'a> {
    /// The node that said it.
    from: Cow<'a, str>,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum What<'a> {
    Notice { notice: Cow<'a, Notice> },
    Presence { task: TaskId },
    Revoked,
}

impl<'a> Message<'a> {
    /// `None` for what cannot be written.
    pub(super) fn notice(from: &'a str, notice: &'a Notice) -> Option<String> {
        let what = What::Notice { notice: Cow::Borrowed(notice) };
        serde_json::to_string(&Message { from: from.into(), what }).ok()
    }

    pub(super) fn presence(from: &'a str, task: TaskId) -> String {
        let message = Message { from: from.into(), what: What::Presence { task } };
        serde_json::to_string(&message).expect("a name and an id can be written")
    }

    pub(super) fn revoked(from: &'a str) -> String {
        let message = Message { from: from.into(), what: What::Revoked };
        serde_json::to_string(&message).expect("a name can be written")
    }
}

/// Hears what the connection pushes. Never waits.
pub(super) fn listener(
    node: String,
    ears: Arc<Ears>,
    suspected: Arc<Notify>,
) -> impl Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static {
    move |push| {
        match push.kind {
            PushKind::Message => {
                let text = push.data.into_iter().nth(1);
                if let Some(text) = text.and_then(|text| String::from_redis_value(text).ok()) {
                    hear(&node, &ears, &text);
                }
            }
            PushKind::Disconnection => suspected.notify_one(),
            _ => {}
        }
        Ok(())
    }
}

fn hear(node: &str, ears: &Ears, text: &str) {
    let Ok(message) = serde_json::from_str::<Message<'_>>(text) else {
        tracing::debug!("another node said something that this one does not know");
        return;
    };
    if message.from == node {
        return;
    }
    match message.what {
        What::Notice { notice } => ears.notice(notice.into_owned()),
        What::Presence { task } => ears.presence(task),
        What::Revoked => ears.revoked(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_types::{UserId, Uuid};

    use super::*;

    /// Nodes of two versions read each other's: these lines do not change.
    #[test]
    fn messages_have_these_forms() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse::<Uuid>().unwrap();
        let (user, task) = (UserId::from_uuid(id), TaskId::from_uuid(id));
        let notice =
            Notice { user, event: "task:status".into(), payload: json!({ "status": "RUNNING" }) };
        let told = [
            Message::notice("a", &notice).unwrap(),
            Message::presence("a", task),
            Message::revoked("a"),
        ];
        let written = [
            format!(
                r#"{{"from":"a","kind":"notice","notice":{{"user":"{user}","event":"task:status","payload":{{"status":"RUNNING"}}}}}}"#
            ),
            format!(r#"{{"from":"a","kind":"presence","task":"{task}"}}"#),
            r#"{"from":"a","kind":"revoked"}"#.to_owned(),
        ];
        assert_eq!(told, written);
        let ears = Ears::new();
        let (mut notices, mut presence) = (ears.notices.subscribe(), ears.presence.subscribe());
        let mut revoked = ears.revocations.subscribe();
        for text in &written {
            hear("a", &ears, text);
        }
        assert!(notices.try_recv().is_err() && presence.try_recv().is_err());
        assert!(!revoked.has_changed().unwrap(), "its own words");
        hear("b", &ears, r#"{"from":"a","kind":"weather"}"#);
        for text in &written {
            hear("b", &ears, text);
        }
        assert_eq!(notices.try_recv().unwrap(), notice);
        assert_eq!(presence.try_recv().unwrap(), task);
        assert_eq!(*revoked.borrow_and_update(), 1);
    }
}
