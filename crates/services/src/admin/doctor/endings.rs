//! I9, looked at in what a Task's journal says: nothing but late output is about an attempt that
//! is over.

use std::collections::{HashMap, HashSet};

use troupe_domain::task::{TaskEntry, TaskEvent};
use troupe_types::{Attempt, ExecutionId, FrameBody, MessageId};

/// Attempts that are over, as far as a journal was read.
#[derive(Debug, Default)]
pub(super) struct Endings {
    rows: HashMap<ExecutionId, MessageId>,
    ended: HashSet<(ExecutionId, Attempt)>,
    ended_rows: HashSet<(MessageId, Attempt)>,
}

impl Endings {
    /// Takes the next entry; answers what it says of an attempt that was over before.
    pub(super) fn entry(&mut self, entry: &TaskEntry) -> Option<String> {
        let event = entry.events.iter().find(|event| self.is_late(event));
        let event = event.map(|event| format!("{} of an attempt that is over", name_of(event)));
        let frame = entry.frames.iter().any(|frame| self.is_late_frame(&frame.body, entry));
        let frame = frame.then(|| "a frame of an attempt that is over".to_owned());
        for event in &entry.events {
            match event {
                TaskEvent::ExecutionPlanned { execution, message, .. } => {
                    self.rows.insert(*execution, *message);
                }
                TaskEvent::AttemptEnded { execution, attempt, .. } => {
                    self.ended.insert((*execution, *attempt));
                    let row = self.rows.get(execution);
                    self.ended_rows.extend(row.map(|message| (*message, *attempt)));
                }
                _ => {}
            }
        }
        event.or(frame)
    }

    fn is_late(&self, event: &TaskEvent) -> bool {
        let about = match event {
            TaskEvent::AttemptStarted { execution, attempt }
            | TaskEvent::AttemptQueued { execution, attempt, .. }
            | TaskEvent::StepFinished { execution, attempt, .. }
            | TaskEvent::AttemptEnded { execution, attempt, .. } => (*execution, *attempt),
            _ => return false,
        };
        self.ended.contains(&about)
    }

    fn is_late_frame(&self, body: &FrameBody, entry: &TaskEntry) -> bool {
        // The next attempt closes the blocks that this one left open.
        let starts = |message: MessageId| {
            let mut frames = entry.frames.iter();
            frames.any(|f| matches!(&f.body, FrameBody::Started(s) if s.message == message))
        };
        let about = match body {
            FrameBody::Started(f) => (f.message, f.attempt),
            FrameBody::Text(f) if !f.late => (f.message, f.attempt),
            FrameBody::Thinking(f) if !f.late => (f.message, f.attempt),
            FrameBody::BlockCreated(f) if !f.late => (f.message, f.attempt),
            FrameBody::BlockUpdated(f) if !f.late && !starts(f.message) => (f.message, f.attempt),
            FrameBody::Done(f) => (f.message, f.attempt),
            FrameBody::Error(f) => (f.message, f.attempt),
            FrameBody::Cancelled(f) => (f.message, f.attempt),
            _ => return false,
        };
        self.ended_rows.contains(&about)
    }
}

const fn name_of(event: &TaskEvent) -> &'static str {
    match event {
        TaskEvent::AttemptStarted { .. } => "the start",
        TaskEvent::AttemptQueued { .. } => "the queueing",
        TaskEvent::StepFinished { .. } => "a step",
        TaskEvent::AttemptEnded { .. } => "a second end",
        _ => "an event",
    }
}

#[cfg(test)]
mod tests {
    use troupe_domain::task::AttemptEnd;
    use troupe_types::Timestamp;

    use super::*;

    fn entry(events: Vec<TaskEvent>) -> TaskEntry {
        TaskEntry { at: Timestamp::from_millis(0), events, frames: Vec::new() }
    }

    #[test]
    fn an_attempt_that_is_over_stays_as_it_is_and_the_next_one_is_free() {
        let execution = ExecutionId::derived(&["e"]);
        let (first, second) = (Attempt(1), Attempt(2));
        let end = AttemptEnd::Lost;
        let ended = TaskEvent::AttemptEnded { execution, attempt: first, end };
        let mut endings = Endings::default();
        let started = |attempt| entry(vec![TaskEvent::AttemptStarted { execution, attempt }]);
        assert_eq!(endings.entry(&started(first)), None);
        assert_eq!(endings.entry(&entry(vec![ended.clone()])), None);
        assert_eq!(endings.entry(&started(second)), None);
        let late = endings.entry(&started(first)).unwrap();
        assert!(late.contains("the start"), "{late}");
        let late = endings.entry(&entry(vec![ended])).unwrap();
        assert!(late.contains("a second end"), "{late}");
    }
}
