//! What committed entries say about how well a Task is served. Durations are those that this
//! activation saw from beginning to end.

use std::collections::BTreeMap;

use metrics::{counter, histogram};
use troupe_domain::task::{AttemptEnd, TaskEntry, TaskEvent};
use troupe_types::{ErrorType, ExecutionId, FrameBody, MonoTime, Status};

use crate::metrics as names;

/// Beginnings of what is under way.
#[derive(Debug, Default)]
pub(super) struct Measure {
    turn: Option<MonoTime>,
    /// No text of the turn is committed yet.
    silent: bool,
    attempts: BTreeMap<ExecutionId, MonoTime>,
}

impl Measure {
    /// An entry was committed.
    pub(super) fn committed(&mut self, entry: &TaskEntry, now: MonoTime) {
        for event in &entry.events {
            self.event(event, now);
        }
        let speaks = |body: &FrameBody| matches!(body, FrameBody::Text(_));
        if self.silent && entry.frames.iter().any(|frame| speaks(&frame.body)) {
            self.silent = false;
            if let Some(began) = self.turn {
                histogram!(names::FIRST_TEXT_SECONDS).record(now.since(began).as_secs_f64());
            }
        }
    }

    fn event(&mut self, event: &TaskEvent, now: MonoTime) {
        match event {
            TaskEvent::TurnPlanned { .. } => {
                self.turn = Some(now);
                self.silent = true;
            }
            // A person let it wait.
            TaskEvent::TurnResumed { .. } => self.turn = None,
            TaskEvent::AttemptStarted { execution, .. } => {
                self.attempts.insert(*execution, now);
            }
            TaskEvent::AttemptEnded { execution, end, .. } => {
                let (outcome, error) = words(end);
                counter!(names::ATTEMPTS, "outcome" => outcome, "error" => error).increment(1);
                if let Some(began) = self.attempts.remove(execution) {
                    histogram!(names::ATTEMPT_SECONDS, "outcome" => outcome)
                        .record(now.since(began).as_secs_f64());
                }
            }
            TaskEvent::TurnEnded { status, .. } => {
                let outcome = match status {
                    Status::Completed => "completed",
                    Status::Failed => "failed",
                    Status::Cancelled => "cancelled",
                    Status::PendingConfirmation => "pending_confirmation",
                    _ => "other",
                };
                counter!(names::TURNS, "outcome" => outcome).increment(1);
                if let Some(began) = self.turn.take() {
                    histogram!(names::TURN_SECONDS, "outcome" => outcome)
                        .record(now.since(began).as_secs_f64());
                }
                self.attempts.clear();
            }
            _ => {}
        }
    }
}

/// How an attempt ended, and of what.
const fn words(end: &AttemptEnd) -> (&'static str, &'static str) {
    match end {
        AttemptEnd::Done { .. } => ("done", "none"),
        AttemptEnd::Failed { error } => ("failed", ErrorType::as_str(*error)),
        AttemptEnd::Cancelled => ("cancelled", "none"),
        AttemptEnd::Lost => ("lost", "none"),
    }
}
