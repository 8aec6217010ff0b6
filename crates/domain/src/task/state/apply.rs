//! Events folded into the state. Total: what does not fit is ignored.

use std::{collections::BTreeMap, sync::Arc};

use troupe_types::{
    Attempt, ErrorType, ExecutionId, FrameBody, FrameSeq, MessageId, MessageKind, Ordinal, Role,
    RunStep, Status, Timestamp, TurnId, Uuid,
};

use super::{MessageRow, Run, TaskState, TurnRow, UsedKey};
use crate::task::{
    command::Answer,
    entry::{AttemptEnd, StepRecord, TaskEntry, TaskEvent},
    execution::{AttemptState, DeviceRun, Execution, NamedBlock, OpenCall},
    leader::LeaderDecision,
    plan::CollaborationModel,
};

/// Grants of a Task; what is beyond is asked for each time.
const GRANTS_MAX: usize = 200;

impl TaskState {
    /// Folds one entry: the only way a state changes. Never fails and never panics.
    pub fn apply(&mut self, entry: &TaskEntry) {
        for event in &entry.events {
            self.apply_event(event, entry.at);
        }
        for frame in &entry.frames {
            self.apply_frame(frame);
        }
        self.updated_at = entry.at;
        self.seal(entry);
    }

    /// A finished step keeps everything up to the last frame of its entry. A start keeps what
    /// its own frame says.
    fn seal(&mut self, entry: &TaskEntry) {
        let head = self.head();
        for event in &entry.events {
            let TaskEvent::StepFinished { execution, attempt, .. } = event else { continue };
            let Some(e) = self.open_mut(*execution, *attempt) else { continue };
            let starts = entry
                .frames
                .iter()
                .any(|f| matches!(&f.body, FrameBody::Started(s) if s.message == e.message));
            if !starts {
                e.kept = head;
                e.kept_offset = e.offset;
            }
        }
    }

    pub(in crate::task) fn apply_event(&mut self, event: &TaskEvent, at: Timestamp) {
        match event {
            TaskEvent::Created { task, owner, owner_name, log, title, labels, team } => {
                self.id = Some(*task);
                self.owner = Some(*owner);
                self.owner_name.clone_from(owner_name);
                self.log = Some(*log);
                self.title.clone_from(title);
                self.labels.clone_from(labels);
                self.team = Some(team.clone());
                self.created_at = at;
            }
            TaskEvent::KeyUsed { key, body, ack } => {
                let used = UsedKey { body: body.clone(), ack: ack.clone() };
                Arc::make_mut(&mut self.keys).entry(*key).or_insert(used);
            }
            TaskEvent::TeamResolved { plan } => {
                self.plans.insert(plan.hash.clone(), Arc::clone(plan));
            }
            TaskEvent::TurnPlanned { turn, message, plan, stage } => {
                self.turn_planned(*turn, *message, plan, *stage);
            }
            TaskEvent::MessagePlanned { message, ordinal, turn, role, kind, step } => {
                self.message_planned(*message, *ordinal, *turn, *role, *kind, *step);
            }
            TaskEvent::MessageQueued { message, plan } => {
                self.queued_plans.insert(*message, plan.clone());
            }
            TaskEvent::TurnEnded { turn, status } => self.turn_ended(*turn, *status, at),
            TaskEvent::TurnResumed { turn, plan } => self.turn_resumed(*turn, plan.as_deref()),
            TaskEvent::StageChanged { stage } => self.stage = *stage,
            TaskEvent::Edited { removed } => self.edited(removed),
            TaskEvent::Updated { title, labels } => {
                if let Some(title) = title {
                    self.title.clone_from(title);
                }
                if let Some(labels) = labels {
                    self.labels.clone_from(labels);
                }
            }
            TaskEvent::Deleted => {
                self.deleted = true;
                self.status = Status::Delete;
                self.queue = Arc::default();
                self.queued_plans = BTreeMap::new();
            }
            _ => self.apply_run_event(event),
        }
    }

    fn apply_run_event(&mut self, event: &TaskEvent) {
        match event {
            TaskEvent::ExecutionPlanned { execution, message, member, work } => {
                if self.execution(*execution).is_some() {
                    return;
                }
                let Some(row) = self.message(*message) else { return };
                let (ordinal, kind, step) = (row.ordinal, row.kind, row.step);
                let (id, member, work) = (*execution, *member, work.clone());
                let planned = Execution::planned(id, *message, ordinal, kind, step, member, work);
                self.executions.push(planned);
            }
            TaskEvent::AttemptQueued { execution, attempt, keep, lost_in_a_row } => {
                self.attempt_queued((*execution, *attempt), *keep, *lost_in_a_row);
            }
            TaskEvent::WaitChanged { execution, wait } => {
                if let Some(e) = self.execution_mut(*execution)
                    && e.state == AttemptState::Queued
                {
                    e.wait.clone_from(wait);
                }
            }
            TaskEvent::AttemptStarted { execution, attempt } => self.started(*execution, *attempt),
            TaskEvent::DeviceAssigned { execution, attempt, device, token, restored } => {
                if let Some(e) = self.open_mut(*execution, *attempt) {
                    e.device = Some(DeviceRun::new(*device, token, *restored));
                }
            }
            TaskEvent::BlockAnswered { execution, attempt, block_id, input, answer } => {
                let open = self.open_mut(*execution, *attempt);
                let asked = open.and_then(|e| e.asks.get_mut(block_id));
                let grant = asked.and_then(|asked| {
                    asked.answer = Some((*input, answer.clone()));
                    asked.always.clone().filter(|_| *answer == Answer::AllowAlways)
                });
                self.grant(grant);
            }
            TaskEvent::AskExpired { execution, attempt, block_id, input } => {
                self.ask_expired(*execution, *attempt, block_id, *input);
            }
            TaskEvent::StepFinished { execution, attempt, record } => {
                if let Some(e) = self.open_mut(*execution, *attempt) {
                    step_finished(e, record);
                }
            }
            TaskEvent::BlockNamed { execution, attempt, name, block_id } => {
                if let Some(e) = self.open_mut(*execution, *attempt) {
                    let block = NamedBlock { block_id: block_id.clone(), is_final: false };
                    e.names.insert(name.clone(), block);
                }
            }
            TaskEvent::OutputMarked { execution, attempt, out_seq } => {
                if let Some(e) = self.execution_mut(*execution)
                    && let Some(mut track) = e.track(*attempt)
                {
                    track.out_seq = track.out_seq.max(*out_seq);
                    e.set_track(*attempt, track);
                }
            }
            TaskEvent::AttemptEnded { execution, attempt, end } => {
                self.attempt_ended(*execution, *attempt, end);
            }
            _ => {}
        }
    }

    fn attempt_queued(&mut self, (id, attempt): (ExecutionId, Attempt), keep: bool, lost: u32) {
        let Some(e) = self.execution_mut(id) else { return };
        let next = e.attempt.0.checked_add(1).map(Attempt);
        if !e.state.is_terminal() || next != Some(attempt) {
            return;
        }
        e.queue_next(keep, lost);
        let message = e.message;
        // Nobody asked for it: nothing has ended for people.
        let goes_on = keep || lost > 0;
        self.set_message(message, if goes_on { Status::Running } else { Status::Pending });
    }

    fn ask_expired(&mut self, id: ExecutionId, attempt: Attempt, block_id: &str, input: Uuid) {
        if let Some(e) = self.open_mut(id, attempt) {
            e.ask_expired(block_id, input);
        }
    }

    /// Allowed in this Task from now on.
    fn grant(&mut self, grant: Option<serde_json::Value>) {
        if let Some(grant) = grant.filter(|grant| !self.grants.contains(grant))
            && self.grants.len() < GRANTS_MAX
        {
            self.grants.push(grant);
        }
    }

    fn turn_planned(&mut self, turn: TurnId, message: MessageId, plan: &str, stage: u32) {
        let gated = self.status == Status::PendingConfirmation && !self.turns.is_empty();
        let run = Run {
            turn,
            message,
            plan: plan.to_owned(),
            ended: None,
            started: false,
            begins: stage == 0 && !gated,
        };
        self.executions.clear();
        self.run = Some(run);
        let pipeline = self.plan().is_some_and(|p| p.model == CollaborationModel::Pipeline);
        if !pipeline {
            self.original = Arc::from("");
        }
        let queued = &self.queued_plans;
        self.plans.retain(|hash, _| hash == plan || queued.values().any(|q| q == hash));
        Arc::make_mut(&mut self.turns).push(TurnRow {
            turn,
            message,
            ordinal: Ordinal::ZERO,
            first_frame: FrameSeq::ZERO,
            author: String::new(),
            excerpt: String::new(),
            status: Status::Pending,
            stage_before: stage,
        });
        self.set_status(Status::Pending);
    }

    fn message_planned(
        &mut self,
        message: MessageId,
        ordinal: Ordinal,
        turn: TurnId,
        role: Role,
        kind: MessageKind,
        step: Option<RunStep>,
    ) {
        let status = if role == Role::User { Status::Completed } else { Status::Pending };
        let first_frame = FrameSeq::ZERO;
        Arc::make_mut(&mut self.messages).push(MessageRow {
            message,
            ordinal,
            turn,
            role,
            kind,
            step,
            status,
            first_frame,
        });
        self.next_ordinal = self.next_ordinal.max(Ordinal(ordinal.0.saturating_add(1)));
    }

    fn turn_ended(&mut self, turn: TurnId, status: Status, at: Timestamp) {
        let Some(run) = self.run.as_mut().filter(|run| run.turn == turn) else { return };
        run.ended = Some(status);
        self.set_status(status);
        if status == Status::Completed {
            self.completed_at = Some(at);
        }
    }

    fn turn_resumed(&mut self, turn: TurnId, plan: Option<&str>) {
        let Some(run) = self.run.as_mut().filter(|run| run.turn == turn) else { return };
        run.ended = None;
        run.started = false;
        if let Some(plan) = plan {
            plan.clone_into(&mut run.plan);
        }
        self.set_status(Status::Pending);
    }

    fn edited(&mut self, removed: &[MessageId]) {
        let gone: std::collections::BTreeSet<_> = removed.iter().collect();
        Arc::make_mut(&mut self.messages).retain(|m| !gone.contains(&m.message));
        Arc::make_mut(&mut self.turns).retain(|t| !gone.contains(&t.message));
        if self.run.as_ref().is_some_and(|run| gone.contains(&run.message)) {
            self.run = None;
            self.executions.clear();
            self.status = self.turns.last().map_or(Status::Pending, |t| t.status);
        }
    }

    fn started(&mut self, execution: ExecutionId, attempt: Attempt) {
        let Some(e) = self.open_mut(execution, attempt) else { return };
        e.state = AttemptState::Running;
        e.wait = None;
        let message = e.message;
        self.set_message(message, Status::Running);
        if let Some(run) = &mut self.run {
            run.started = true;
        }
        self.set_status(Status::Running);
    }

    fn attempt_ended(&mut self, execution: ExecutionId, attempt: Attempt, end: &AttemptEnd) {
        let Some(e) = self.open_mut(execution, attempt) else { return };
        let status = match end {
            AttemptEnd::Done { decision } => {
                e.state = AttemptState::Done;
                e.concluded =
                    Some(matches!(decision, Some(LeaderDecision::Conclude { done: true, .. })));
                e.decision.clone_from(decision);
                Status::Completed
            }
            AttemptEnd::Failed { error } => {
                e.state = AttemptState::Failed;
                e.error = Some(*error);
                Status::Failed
            }
            AttemptEnd::Cancelled => {
                e.state = AttemptState::Cancelled;
                Status::Cancelled
            }
            AttemptEnd::Lost => {
                e.state = AttemptState::Lost;
                e.error = Some(ErrorType::Lost);
                Status::Failed
            }
        };
        e.wait = None;
        let message = e.message;
        self.set_message(message, status);
    }

    fn set_status(&mut self, status: Status) {
        self.status = status;
        let turn = self.run.as_ref().map(|run| run.turn);
        if self.turns.last().is_some_and(|t| Some(t.turn) == turn && t.status != status)
            && let Some(row) = Arc::make_mut(&mut self.turns).last_mut()
        {
            row.status = status;
        }
    }

    fn set_message(&mut self, message: MessageId, status: Status) {
        if let Some(at) = self.messages.iter().rposition(|m| m.message == message)
            && self.messages[at].status != status
        {
            Arc::make_mut(&mut self.messages)[at].status = status;
        }
    }

    pub(super) fn execution_mut(&mut self, id: ExecutionId) -> Option<&mut Execution> {
        self.executions.iter_mut().find(|e| e.id == id)
    }

    fn open_mut(&mut self, id: ExecutionId, attempt: Attempt) -> Option<&mut Execution> {
        self.execution_mut(id).filter(|e| e.is_open(attempt))
    }
}

fn step_finished(e: &mut Execution, record: &StepRecord) {
    e.goes_on(e.attempt);
    e.steps = e.steps.saturating_add(1);
    e.tail = None;
    e.names.retain(|_, block| !block.is_final);
    match record {
        StepRecord::Model { calls, .. } => {
            e.lost_in_a_row = 0;
            let known = |calls: &[OpenCall], id: &str| calls.iter().any(|c| c.tool_use_id == id);
            for call in calls {
                if !known(&e.open_calls, &call.tool_use_id) {
                    e.open_calls.push(call.clone());
                }
            }
        }
        StepRecord::Tool { tool_use_id, unknown, .. } => {
            if !unknown {
                e.lost_in_a_row = 0;
            }
            e.open_calls.retain(|c| c.tool_use_id != *tool_use_id);
        }
    }
}
