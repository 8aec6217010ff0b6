//! pipeline: members in order; a gate waits for a person. A stage is known by its index.

use troupe_types::{MessageKind, RunStep, Status};

use super::{Next, Outcome, Planned, Situation, handoff};
use crate::task::execution::{Execution, Work};

pub(super) fn next(at: &Situation<'_>) -> Next {
    let stage = at.stage;
    let here = |e: &&Execution| matches!(e.work, Work::Stage { stage: s } if s == stage);
    let Some(answer) = at.executions.iter().rev().find(here) else {
        return Next::plan(answer_of(stage));
    };
    match Outcome::of(answer) {
        Outcome::UnderWay => Next::wait(),
        Outcome::Broken => Next::end(Status::Failed),
        Outcome::Done if at.plan.member(stage).is_some_and(|m| m.require_confirmation) => {
            Next::end(Status::PendingConfirmation)
        }
        Outcome::Done => {
            let following = stage.saturating_add(1);
            if following >= at.plan.size() {
                return Next::end(Status::Completed);
            }
            let text = handoff::text(at.plan, stage, at.original, at.answer);
            Next { stage: Some((following, text)), ..Next::default() }
        }
    }
}

/// The answer of a stage: its member has the same index.
pub(super) const fn answer_of(stage: u32) -> Planned {
    Planned {
        member: stage,
        kind: MessageKind::Answer,
        step: Some(RunStep::Stage(stage)),
        work: Work::Stage { stage },
    }
}
