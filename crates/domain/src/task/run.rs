//! The run of a Team in a Task: what is planned next, or how the turn ends.
//!
//! A pure sub-machine. Each model looks at the plan and at the executions of the turn and
//! says what follows ([`next`]); nothing else is remembered, so a restart between any two
//! steps changes nothing.
//!
//! | Model | Rows after the person's |
//! |---|---|
//! | solo | one answer |
//! | pipeline | per stage a hand-off (but for the first), then the stage's answer; a gate ends the turn |
//! | route | the leader's choice, then the chosen member's answer |
//! | coordinate | the leader's plan, one answer per item side by side, the leader's merge |
//! | coordinate that [runs as one](TeamPlan::runs_as_one) | one answer, of the leader |
//! | collaborate | per round one answer of each member in order, then the leader's conclusion |

mod collaborate;
mod coordinate;
pub(super) mod handoff;
mod pipeline;
mod route;
mod solo;

use std::sync::Arc;

use serde_json::{Map, Value};
use troupe_types::{
    MessageId, MessageKind, QueuedMessage, Role, RunStep, Sender, Status, TurnId, Wait,
};

use super::{
    decide::person_row,
    draft::{Draft, Row},
    entry::TaskEvent,
    execution::{AttemptState, Execution, Work},
    plan::{CollaborationModel, TeamPlan},
};

/// What a model looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    /// The Team.
    pub(super) plan: &'a TeamPlan,
    /// Executions of this turn in the order they were planned.
    pub(super) executions: &'a [Execution],
    /// Where a pipeline stands.
    pub(super) stage: u32,
    /// The request that a pipeline works on.
    pub(super) original: &'a str,
    /// The answer that just ended, if one did.
    pub(super) answer: &'a str,
}

/// What follows. Nothing at all: the run waits for executions that are under way.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// Fall-backs to show.
    pub(super) notes: Vec<Note>,
    /// The pipeline moves here, with this hand-off.
    pub(super) stage: Option<(u32, String)>,
    /// Rows to plan.
    pub(super) plan: Vec<Planned>,
    /// The turn ends.
    pub(super) end: Option<Status>,
}

/// A row to plan.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) member: u32,
    pub(super) kind: MessageKind,
    pub(super) step: Option<RunStep>,
    pub(super) work: Work,
}

/// A fall-back: a stable code, and a sentence.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) message: Option<MessageId>,
    pub(super) code: &'static str,
    pub(super) args: Map<String, Value>,
    pub(super) text: String,
}

/// How far an execution is, as a run sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    UnderWay,
    Done,
    /// Failed, lost for good, or stopped.
    Broken,
}

impl Outcome {
    pub(super) const fn of(e: &Execution) -> Self {
        match e.state {
            AttemptState::Done => Self::Done,
            AttemptState::Failed | AttemptState::Cancelled | AttemptState::Lost => Self::Broken,
            _ => Self::UnderWay,
        }
    }
}

impl Next {
    pub(super) fn wait() -> Self {
        Self::default()
    }

    pub(super) fn end(status: Status) -> Self {
        Self { end: Some(status), ..Self::default() }
    }

    pub(super) fn plan(planned: Planned) -> Self {
        Self { plan: vec![planned], ..Self::default() }
    }

    /// The turn ends as its last execution does.
    pub(super) fn as_last(e: &Execution) -> Self {
        match Outcome::of(e) {
            Outcome::UnderWay => Self::wait(),
            Outcome::Done => Self::end(Status::Completed),
            Outcome::Broken => Self::end(Status::Failed),
        }
    }

    pub(super) fn note(mut self, note: Note) -> Self {
        self.notes.push(note);
        self
    }
}

impl Planned {
    pub(super) const fn answer(member: u32) -> Self {
        Self { member, kind: MessageKind::Answer, step: None, work: Work::Answer }
    }
}

impl Note {
    pub(super) fn new(about: Option<&Execution>, code: &'static str, text: String) -> Self {
        Self { message: about.map(|e| e.message), code, args: Map::new(), text }
    }

    pub(super) fn arg(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.args.insert(name.to_owned(), value.into());
        self
    }
}

/// What follows from where the run stands.
fn next(at: &Situation<'_>) -> Next {
    match at.plan.model {
        CollaborationModel::Solo => solo::next(at),
        CollaborationModel::Pipeline => pipeline::next(at),
        _ if at.plan.members.len() < 2 => solo::alone(at),
        // A turn that was begun in parts, by an older node, ends in parts.
        _ if at.plan.runs_as_one() && !at.executions.iter().any(is_part) => solo::next(at),
        CollaborationModel::Route => route::next(at),
        CollaborationModel::Coordinate => coordinate::next(at),
        CollaborationModel::Collaborate => collaborate::next(at),
    }
}

const fn is_part(e: &Execution) -> bool {
    matches!(e.work, Work::Split | Work::Item { .. } | Work::Merge)
}

/// Starts a turn with a person's message and plans its first rows.
pub(super) fn begin_turn(
    d: &mut Draft<'_, '_>,
    turn: TurnId,
    message: QueuedMessage,
    plan_hash: &str,
) {
    let stage = d.state.stage;
    let plan = plan_hash.to_owned();
    d.event(TaskEvent::TurnPlanned { turn, message: message.message, plan, stage });
    d.row(person_row(turn, message));
    let pipeline = d.state.plan().filter(|p| p.model == CollaborationModel::Pipeline);
    if let Some(last) = pipeline.map(|p| p.size().saturating_sub(1)).filter(|last| stage > *last) {
        d.event(TaskEvent::StageChanged { stage: last });
    }
    advance(d, "");
}

/// Starts the first message of the queue, which must not be empty.
pub(super) fn start_next(d: &mut Draft<'_, '_>) {
    let mut queue = d.state.queue.to_vec();
    if queue.is_empty() {
        return;
    }
    let first = queue.remove(0);
    let last_plan = || d.state.run.as_ref().map(|run| run.plan.clone()).unwrap_or_default();
    let plan = d.state.queued_plans.get(&first.message).cloned().unwrap_or_else(last_plan);
    let turn = TurnId::from_uuid(d.id());
    d.sync();
    d.set_queue(queue);
    begin_turn(d, turn, first, &plan);
}

/// Ends the turn; the queue moves on if it ended well.
pub(super) fn end_turn(d: &mut Draft<'_, '_>, status: Status) {
    let Some(turn) = d.state.run.as_ref().map(|run| run.turn) else { return };
    d.event(TaskEvent::TurnEnded { turn, status });
    if status == Status::Completed && !d.state.queue.is_empty() {
        start_next(d);
    }
}

/// Plans what follows after an execution ended (`answer`: what it said).
pub(super) fn advance(d: &mut Draft<'_, '_>, answer: &str) {
    let Some(run) = d.state.run.as_ref().filter(|run| run.ended.is_none()) else { return };
    let turn = run.turn;
    let Some(plan) = d.state.plan().cloned() else { return };
    let original = Arc::clone(&d.state.original);
    let next = next(&Situation {
        plan: &plan,
        executions: &d.state.executions,
        stage: d.state.stage,
        original: &original,
        answer,
    });
    for Note { message, code, args, text } in next.notes {
        let wait = Wait { code: code.to_owned(), args };
        d.status(message, "fallback", Some(wait), Some(text));
    }
    if let Some((stage, text)) = next.stage {
        enter_stage(d, stage, text);
    }
    for Planned { member, kind, step, work } in next.plan {
        d.execution(turn, member, kind, step, work);
    }
    if let Some(status) = next.end {
        end_turn(d, status);
    }
}

/// Moves a pipeline to a stage: its hand-off row (even if it says nothing), then its answer.
pub(super) fn enter_stage(d: &mut Draft<'_, '_>, stage: u32, handoff: String) {
    let Some(turn) = d.state.run.as_ref().map(|run| run.turn) else { return };
    d.event(TaskEvent::StageChanged { stage });
    let message = MessageId::from_uuid(d.id());
    d.row(Row {
        message,
        turn,
        role: Role::User,
        kind: MessageKind::Handoff,
        sender: Sender::Team,
        content: handoff,
        step: Some(RunStep::Stage(stage)),
        key: None,
    });
    let Planned { member, kind, step, work } = pipeline::answer_of(stage);
    d.execution(turn, member, kind, step, work);
}
