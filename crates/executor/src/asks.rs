//! What a person is asked, on its way out and back: names of this process alone, and bounds. Pure.
//!
//! Runtimes name what they ask as they like, some with numbers from 1. An answer that was meant for
//! a process before this one must find nothing: it would allow something else. So every name gets
//! a mark of its process.

use std::collections::BTreeSet;

use troupe_types::Uuid;

use crate::{
    event::{RuntimeEvent, TOOL_INPUT_BYTES_MAX},
    runtime::{CommandError, RunCommand},
    text,
};

/// Approvals and questions between two model calls: a Task names 1,024 blocks of an attempt between
/// two steps.
const ASKS_MAX: usize = 100;
/// Approvals and questions that may be open at once.
const OPEN_MAX: usize = 64;
/// Largest approval or question, in bytes of JSON. One that is larger could not be sent on.
const ASK_BYTES_MAX: usize = 128 * 1024;
/// Longest reason of a runtime, in bytes.
const REASON_BYTES_MAX: usize = 4 * 1024;
/// A longer command is not on offer for "always".
const ALWAYS_BYTES_MAX: usize = 8 * 1024;

/// What becomes of an event.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// It is told.
    Tell(RuntimeEvent),
    /// Nobody can be asked: the runtime is told why at once.
    Refuse {
        /// The runtime's own name of it.
        id: String,
        why: &'static str,
    },
    /// It is the end of something that nobody was asked.
    Drop,
}

/// The approvals and questions of one process.
#[derive(Debug)]
pub(crate) struct Asks {
    mark: String,
    /// Since the last model call ended.
    told: usize,
    open: BTreeSet<String>,
}

impl Asks {
    pub(crate) fn new() -> Self {
        let mark = Uuid::new_v4().simple().to_string();
        let mark = text::head(&mark, 12).to_owned();
        Self { mark, told: 0, open: BTreeSet::new() }
    }

    /// An event of the runtime as others are told it.
    pub(crate) fn outgoing(&mut self, event: RuntimeEvent) -> Outgoing {
        match event {
            RuntimeEvent::Approval(mut request) => {
                request.title = text::line(&request.title);
                request.input = text::bounded(request.input, TOOL_INPUT_BYTES_MAX);
                request.reason = request.reason.map(|why| text::cut(&why, REASON_BYTES_MAX));
                request.always = request.always.filter(|grant| {
                    grant.command.as_ref().is_none_or(|line| line.len() <= ALWAYS_BYTES_MAX)
                });
                let bytes = serde_json::to_vec(&request).map_or(usize::MAX, |json| json.len());
                if let Err(why) = self.admit(&request.id, bytes) {
                    return Outgoing::Refuse { id: request.id, why };
                }
                request.id = self.name(&request.id);
                Outgoing::Tell(RuntimeEvent::Approval(request))
            }
            RuntimeEvent::Question(mut request) => {
                let bytes = serde_json::to_vec(&request).map_or(usize::MAX, |json| json.len());
                if let Err(why) = self.admit(&request.id, bytes) {
                    return Outgoing::Refuse { id: request.id, why };
                }
                request.id = self.name(&request.id);
                Outgoing::Tell(RuntimeEvent::Question(request))
            }
            RuntimeEvent::Granted { id } => {
                Outgoing::Tell(RuntimeEvent::Granted { id: self.name(&id) })
            }
            RuntimeEvent::Closed { id, how } if self.open.remove(&id) => {
                Outgoing::Tell(RuntimeEvent::Closed { id: self.name(&id), how })
            }
            RuntimeEvent::Closed { .. } => Outgoing::Drop,
            event @ RuntimeEvent::ModelDone { .. } => {
                self.told = 0;
                Outgoing::Tell(event)
            }
            event => Outgoing::Tell(event),
        }
    }

    /// A command as the runtime is told it: an answer goes by the runtime's own name.
    pub(crate) fn incoming(&self, command: RunCommand) -> Result<RunCommand, CommandError> {
        let own = |id: &str| {
            let id = id.strip_prefix(&self.mark).and_then(|rest| rest.strip_prefix('-'));
            id.map(str::to_owned).ok_or(CommandError::NotOpen)
        };
        Ok(match command {
            RunCommand::Approve { id, decision } => RunCommand::Approve { id: own(&id)?, decision },
            RunCommand::Answer { id, reply } => RunCommand::Answer { id: own(&id)?, reply },
            RunCommand::Kept { id, error } => RunCommand::Kept { id: own(&id)?, error },
            other => other,
        })
    }

    fn name(&self, id: &str) -> String {
        format!("{}-{id}", self.mark)
    }

    /// Whether somebody can be asked; else what the runtime is told, which blames no person.
    fn admit(&mut self, id: &str, bytes: usize) -> Result<(), &'static str> {
        let why = match () {
            () if self.open.len() >= OPEN_MAX => {
                "Too many requests are open: nobody was asked, and nobody refused it. Wait for an \
                 answer to one of them."
            }
            () if self.told >= ASKS_MAX => {
                "Too many requests since the last step: nobody was asked, and nobody refused it. \
                 Go on without it."
            }
            () if bytes > ASK_BYTES_MAX => {
                "The request is too large to be shown to anybody: nobody was asked, and nobody \
                 refused it. Make it smaller."
            }
            () => {
                self.told += 1;
                self.open.insert(id.to_owned());
                return Ok(());
            }
        };
        Err(why)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        event::{ApprovalRequest, Closing, Decision, Question, QuestionRequest, Reply},
        job::Grant,
    };

    fn approval(id: &str) -> ApprovalRequest {
        ApprovalRequest {
            id: id.to_owned(),
            tool: "Bash".to_owned(),
            title: "ls".to_owned(),
            input: json!({"command": "ls"}),
            tool_call: None,
            reason: None,
            always: None,
        }
    }

    fn told(asks: &mut Asks, id: &str) -> Option<String> {
        match asks.outgoing(RuntimeEvent::Approval(approval(id))) {
            Outgoing::Tell(RuntimeEvent::Approval(request)) => Some(request.id),
            _ => None,
        }
    }

    fn close(asks: &mut Asks, id: &str) -> Outgoing {
        asks.outgoing(RuntimeEvent::Closed { id: id.to_owned(), how: Closing::Denied })
    }

    fn allow(id: &str) -> RunCommand {
        RunCommand::Approve { id: id.to_owned(), decision: Decision::Allow { input: None } }
    }

    #[test]
    fn an_answer_for_the_process_before_finds_nothing() {
        let (mut before, mut after) = (Asks::new(), Asks::new());
        let (old, new) =
            (told(&mut before, "agno-1").unwrap(), told(&mut after, "agno-1").unwrap());
        assert_ne!(old, new);
        assert_eq!(after.incoming(allow(&old)), Err(CommandError::NotOpen));
        assert_eq!(after.incoming(allow("agno-1")), Err(CommandError::NotOpen));
        assert_eq!(after.incoming(allow(&new)), Ok(allow("agno-1")));
        let reply = RunCommand::Answer { id: old, reply: Reply::Declined };
        assert_eq!(after.incoming(reply), Err(CommandError::NotOpen));
        let Outgoing::Tell(RuntimeEvent::Closed { id, .. }) = close(&mut after, "agno-1") else {
            panic!("its end is told")
        };
        assert_eq!(id, new);
    }

    #[test]
    fn what_cannot_be_asked_is_answered_at_once() {
        let mut asks = Asks::new();
        for n in 0..ASKS_MAX {
            assert!(told(&mut asks, &n.to_string()).is_some(), "{n}");
            close(&mut asks, &n.to_string());
        }
        let Outgoing::Refuse { id, why } = asks.outgoing(RuntimeEvent::Approval(approval("more")))
        else {
            panic!("one too many")
        };
        assert!(id == "more" && why.contains("nobody was asked"), "{why}");
        assert!(matches!(close(&mut asks, "more"), Outgoing::Drop), "nobody knows of it");
        // The next step makes room; not for more than may be open.
        asks.outgoing(RuntimeEvent::ModelDone { stop: None, usage: None });
        let open = (0..200).filter(|n| told(&mut asks, &format!("b{n}")).is_some()).count();
        assert_eq!(open, OPEN_MAX);
        // An end makes room, of what was told alone.
        assert!(matches!(close(&mut asks, "b199"), Outgoing::Drop));
        assert_eq!(told(&mut asks, "late"), None);
        assert!(matches!(close(&mut asks, "b0"), Outgoing::Tell(_)));
        assert!(told(&mut asks, "late").is_some());
    }

    #[test]
    fn what_is_asked_has_a_bound() {
        let mut asks = Asks::new();
        let long = "x".repeat(1024 * 1024);
        let request = ApprovalRequest {
            title: long.clone(),
            reason: Some(long.clone()),
            input: json!({"command": long}),
            always: Some(Grant { tool: "Bash".to_owned(), command: Some(long.clone()) }),
            ..approval("a")
        };
        let out = asks.outgoing(RuntimeEvent::Approval(request));
        let Outgoing::Tell(event @ RuntimeEvent::Approval(_)) = out else { panic!("{out:?}") };
        assert!(serde_json::to_vec(&event).unwrap().len() < ASK_BYTES_MAX);
        let question = Question {
            id: "q".to_owned(),
            header: String::new(),
            text: long,
            options: Vec::new(),
            multiple: false,
        };
        let request = QuestionRequest { id: "b".to_owned(), questions: vec![question] };
        let out = asks.outgoing(RuntimeEvent::Question(request));
        let Outgoing::Refuse { id, why } = out else { panic!("{out:?}") };
        assert!(id == "b" && why.contains("too large"), "{why}");
    }
}
