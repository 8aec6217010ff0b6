//! solo: one member answers.

use super::{Next, Note, Planned, Situation};

pub(super) fn next(at: &Situation<'_>) -> Next {
    match at.executions.last() {
        None => Next::plan(Planned::answer(at.plan.leader)),
        Some(answer) => Next::as_last(answer),
    }
}

/// A team of one, whatever its model: the leader answers.
pub(super) fn alone(at: &Situation<'_>) -> Next {
    let next = next(at);
    if !at.executions.is_empty() {
        return next;
    }
    let model = at.plan.model.as_str();
    let text = format!("the team has only one member, so it answers by itself (model: {model})");
    next.note(Note::new(None, "single_member", text).arg("model", model))
}
