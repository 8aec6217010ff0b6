//! What a person, or the cluster, has for a run.

use bytes::Bytes;
use tokio::sync::oneshot;
use troupe_executor::{CommandError, Decision, Reply, RunCommand};
use troupe_wire::device::{InputFate, InputKind};

use crate::engine::RunControl;

/// An input for a run.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) kind: InputKind,
    pub(super) name: String,
    pub(super) body: Bytes,
    pub(super) reply: oneshot::Sender<(InputFate, String)>,
}

impl Told {
    /// Gives it to the runtime, and the answer to who asked. `always`: whether that counts here.
    pub(super) async fn give(self, control: &dyn RunControl, always: bool) {
        let Self { kind, name, body, reply } = self;
        let answer = match command(kind, name, &body, always) {
            Err(text) => (InputFate::Unsupported, text),
            Ok(command) => match control.tell(command).await {
                Ok(()) => (InputFate::Taken, String::new()),
                // It is over in the runtime already, which told so itself.
                Err(CommandError::NotOpen) => (InputFate::Gone, CommandError::NotOpen.to_string()),
                Err(CommandError::Ended) => (InputFate::Gone, CommandError::Ended.to_string()),
                Err(CommandError::OutcomeUnknown) => (InputFate::Taken, String::new()),
                Err(error) => (InputFate::Unsupported, error.to_string()),
            },
        };
        drop(reply.send(answer));
    }
}

fn command(kind: InputKind, name: String, body: &[u8], always: bool) -> Result<RunCommand, String> {
    fn read<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
        serde_json::from_slice(body).map_err(|error| format!("the input does not read: {error}"))
    }
    Ok(match kind {
        InputKind::Approval => {
            let decision = match read(body)? {
                // It was not on offer. Whoever says it anyway allows what was asked, once.
                Decision::AllowAlways if !always => Decision::Allow { input: None },
                decision => decision,
            };
            RunCommand::Approve { id: name, decision }
        }
        InputKind::Answer => RunCommand::Answer { id: name, reply: read(body)? },
        InputKind::Steer => RunCommand::Steer { prompt: read(body)? },
        InputKind::Interrupt => RunCommand::Interrupt,
        InputKind::Withdrawn | InputKind::Expired => late(kind, name, body),
        InputKind::Cancel | InputKind::Other(_) => {
            return Err("this device does not know this input".to_owned());
        }
    })
}

/// The body says whether it is about a question; else it is about an approval.
fn late(kind: InputKind, id: String, body: &[u8]) -> RunCommand {
    let expired = kind == InputKind::Expired;
    if body == b"question" {
        let reply = if expired { Reply::Expired } else { Reply::Withdrawn };
        RunCommand::Answer { id, reply }
    } else {
        let decision = if expired { Decision::Expired } else { Decision::Withdrawn };
        RunCommand::Approve { id, decision }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always_allows_once_where_the_policy_says_so() {
        let body = serde_json::to_vec(&Decision::AllowAlways).unwrap();
        let told = |always| command(InputKind::Approval, "a".to_owned(), &body, always).unwrap();
        let approves = |decision| RunCommand::Approve { id: "a".to_owned(), decision };
        assert_eq!(told(true), approves(Decision::AllowAlways));
        assert_eq!(told(false), approves(Decision::Allow { input: None }));
    }
}
