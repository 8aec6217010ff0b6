//! coordinate: the leader splits the work, members work side by side, the leader merges.

use troupe_types::{MessageKind, RunStep, Status};

use super::{Next, Note, Outcome, Planned, Situation};
use crate::task::{
    execution::{Execution, Work},
    leader::{LeaderDecision, WORK_ITEMS_MAX},
};

/// What the one item of a fall-back says.
const WHOLE: &str = "Do all of what is asked for.";

pub(super) fn next(at: &Situation<'_>) -> Next {
    let leader = at.plan.leader;
    if let Some(merge) = at.executions.iter().rev().find(|e| e.work == Work::Merge) {
        return Next::as_last(merge);
    }
    let Some(split) = at.executions.iter().rev().find(|e| e.work == Work::Split) else {
        let (kind, work) = (MessageKind::Plan, Work::Split);
        return Next::plan(Planned { member: leader, kind, step: None, work });
    };
    let items: Vec<&Execution> =
        at.executions.iter().filter(|e| matches!(e.work, Work::Item { .. })).collect();
    match Outcome::of(split) {
        Outcome::UnderWay => return Next::wait(),
        Outcome::Broken => return Next::end(Status::Failed),
        Outcome::Done if items.is_empty() => return shared_out(at, split),
        Outcome::Done => {}
    }
    if items.iter().any(|e| Outcome::of(e) == Outcome::UnderWay) {
        return Next::wait();
    }
    if items.iter().all(|e| Outcome::of(e) == Outcome::Broken) {
        return Next::end(Status::Failed);
    }
    let (kind, work) = (MessageKind::Merge, Work::Merge);
    Next::plan(Planned { member: leader, kind, step: None, work })
}

fn shared_out(at: &Situation<'_>, split: &Execution) -> Next {
    if let Some(LeaderDecision::SplitWork { items }) = &split.decision {
        let plan: Vec<Planned> = (0u32..)
            .zip(items.iter().take(WORK_ITEMS_MAX))
            .filter_map(|(at_item, item)| {
                let member = at.plan.find_member(&item.member)?;
                Some(planned(at_item, member, item.instructions.clone()))
            })
            .collect();
        if !plan.is_empty() {
            return Next { plan, ..Next::default() };
        }
    }
    let first = u32::from(at.plan.leader == 0);
    let name = at.plan.name_of(first);
    let text = format!("the leader's plan could not be used; {name} does all of it");
    Next::plan(planned(0, first, WHOLE.to_owned()))
        .note(Note::new(Some(split), "coordinate_one_member", text).arg("member", name))
}

fn planned(item: u32, member: u32, instructions: String) -> Planned {
    Planned {
        member,
        kind: MessageKind::Answer,
        step: Some(RunStep::Item(item)),
        work: Work::Item { item, instructions },
    }
}
