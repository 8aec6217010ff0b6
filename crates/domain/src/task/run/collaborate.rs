//! collaborate: every member, the leader too, speaks once per round in order; the discussion
//! stops when all who spoke in a round have nothing to add, or after `max_rounds`. Then the
//! leader concludes.

use troupe_types::{MessageKind, RunStep, Status};

use super::{Next, Note, Outcome, Planned, Situation};
use crate::task::{
    execution::{Execution, Work},
    leader::LeaderDecision,
};

/// Contributions of one turn; more rounds are not begun.
const CONTRIBUTIONS_MAX: usize = 256;

pub(super) fn next(at: &Situation<'_>) -> Next {
    let Some(last) = at.executions.last() else { return Next::plan(contribution(1, 0)) };
    let Work::Discuss { round } = last.work else { return Next::as_last(last) };
    if Outcome::of(last) == Outcome::UnderWay {
        return Next::wait();
    }
    if let Some(LeaderDecision::Invalid { error }) = &last.decision {
        let name = at.plan.name_of(last.member);
        let text = format!("{name} could not say whether it is done ({error}); the round ends");
        let note = Note::new(Some(last), "collaborate_round_ends", text).arg("member", name);
        return round_over(at, round, true).note(note);
    }
    let following = last.member.saturating_add(1);
    let next = if following < at.plan.size() {
        Next::plan(contribution(round, following))
    } else {
        round_over(at, round, false)
    };
    if Outcome::of(last) == Outcome::Done {
        return next;
    }
    let name = at.plan.name_of(last.member);
    let text = format!("{name} failed and is left out of round {round}");
    next.note(Note::new(Some(last), "collaborate_left_out", text).arg("member", name))
}

fn round_over(at: &Situation<'_>, round: u32, cut_short: bool) -> Next {
    let spoke = |e: &&Execution| Outcome::of(e) == Outcome::Done;
    let mut in_round = at
        .executions
        .iter()
        .filter(|e| matches!(e.work, Work::Discuss { round: r } if r == round))
        .filter(spoke)
        .peekable();
    if in_round.peek().is_none() {
        let earlier = at.executions.iter().any(|e| spoke(&e));
        return if earlier { Next::plan(conclusion(at)) } else { Next::end(Status::Failed) };
    }
    let agreed = !cut_short && in_round.all(|e| e.concluded == Some(true));
    let room = at.executions.len() < CONTRIBUTIONS_MAX;
    if agreed || !room || round >= at.plan.max_rounds.max(1) {
        return Next::plan(conclusion(at));
    }
    Next::plan(contribution(round.saturating_add(1), 0))
}

const fn contribution(round: u32, member: u32) -> Planned {
    Planned {
        member,
        kind: MessageKind::Answer,
        step: Some(RunStep::Round(round)),
        work: Work::Discuss { round },
    }
}

fn conclusion(at: &Situation<'_>) -> Planned {
    Planned {
        member: at.plan.leader,
        kind: MessageKind::Conclusion,
        step: None,
        work: Work::Conclusion,
    }
}
