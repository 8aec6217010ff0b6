//! route: the leader picks the member that answers.

use troupe_types::{MessageKind, Status};

use super::{Next, Note, Outcome, Planned, Situation};
use crate::task::{
    execution::{Execution, Work},
    leader::LeaderDecision,
};

pub(super) fn next(at: &Situation<'_>) -> Next {
    let find = |work: &Work| at.executions.iter().rev().find(|e| e.work == *work);
    if let Some(answer) = find(&Work::Answer) {
        return Next::as_last(answer);
    }
    let Some(choice) = find(&Work::Choose) else {
        let member = at.plan.leader;
        let (kind, work) = (MessageKind::Routing, Work::Choose);
        return Next::plan(Planned { member, kind, step: None, work });
    };
    match Outcome::of(choice) {
        Outcome::UnderWay => Next::wait(),
        Outcome::Broken => Next::end(Status::Failed),
        Outcome::Done => chosen(at, choice),
    }
}

fn chosen(at: &Situation<'_>, choice: &Execution) -> Next {
    if let Some(LeaderDecision::ChooseMember { member, .. }) = &choice.decision
        && let Some(index) = at.plan.find_member(member)
    {
        return Next::plan(Planned::answer(index));
    }
    let leader = at.plan.name_of(at.plan.leader);
    let text = format!("the leader chose no member of the team; {leader} answers");
    Next::plan(Planned::answer(at.plan.leader))
        .note(Note::new(Some(choice), "route_leader_answers", text).arg("member", leader))
}
