//! An entry under construction: facts and frames are folded into a copy as they are added, so
//! that later parts of one decision lean on the earlier ones.

use troupe_types::{
    EditedFrame, ExecutionId, Frame, FrameBody, MessageFrame, MessageId, MessageKind, Ordinal,
    QueueFrame, QueuedMessage, Role, RunStep, Sender, StageFrame, Status, StatusFrame, TaskFrame,
    TurnId, Uuid, Wait, limits::ENTRY_BYTES_MAX,
};

use super::{
    command::{Ack, Context, Decision, Refusal},
    entry::{TaskEntry, TaskEvent},
    execution::Work,
    plan::TeamPlan,
    state::{TaskState, no_stages},
};

/// An entry that is being decided.
pub(super) struct Draft<'a, 'c> {
    /// The state with everything so far folded in.
    pub(super) state: TaskState,
    ctx: &'a mut Context<'c>,
    entry: TaskEntry,
    shown_status: Option<Status>,
    shown_stage: Option<StageFrame>,
}

/// A row of the transcript to be planned.
pub(super) struct Row {
    pub(super) message: MessageId,
    pub(super) turn: TurnId,
    pub(super) role: Role,
    pub(super) kind: MessageKind,
    pub(super) sender: Sender,
    pub(super) content: String,
    pub(super) step: Option<RunStep>,
    pub(super) key: Option<Uuid>,
}

impl<'a, 'c> Draft<'a, 'c> {
    pub(super) fn new(state: &TaskState, ctx: &'a mut Context<'c>) -> Self {
        let entry = TaskEntry { at: ctx.now, events: Vec::new(), frames: Vec::new() };
        Self {
            shown_status: state.id.map(|_| state.status),
            shown_stage: state.stage_frame(),
            state: state.clone(),
            ctx,
            entry,
        }
    }

    pub(super) fn id(&mut self) -> Uuid {
        (self.ctx.ids)()
    }

    pub(super) fn event(&mut self, event: TaskEvent) {
        self.state.apply_event(&event, self.ctx.now);
        self.entry.events.push(event);
    }

    pub(super) fn frame(&mut self, body: FrameBody) {
        let frame = Frame { seq: self.state.next_frame, at: self.ctx.now, body };
        self.state.apply_frame(&frame);
        self.entry.frames.push(frame);
    }

    /// Records a resolved Team, unless it is known.
    pub(super) fn resolve(&mut self, plan: &std::sync::Arc<TeamPlan>) {
        if !self.state.plans.contains_key(&plan.hash) {
            self.event(TaskEvent::TeamResolved { plan: std::sync::Arc::clone(plan) });
        }
    }

    /// A new row with its frame; takes the next ordinal.
    pub(super) fn row(&mut self, row: Row) -> Ordinal {
        let ordinal = self.state.next_ordinal;
        let Row { message, turn, role, kind, sender, content, step, key } = row;
        self.event(TaskEvent::MessagePlanned { message, ordinal, turn, role, kind, step });
        let status = if role == Role::User { Status::Completed } else { Status::Pending };
        self.frame(FrameBody::Message(MessageFrame {
            message,
            ordinal,
            turn,
            role,
            kind,
            sender,
            content,
            step,
            status,
            client_message_id: key,
        }));
        ordinal
    }

    /// A member's row and the execution that fills it.
    pub(super) fn execution(
        &mut self,
        turn: TurnId,
        member: u32,
        kind: MessageKind,
        step: Option<RunStep>,
        work: Work,
    ) {
        let message = MessageId::from_uuid(self.id());
        let execution = ExecutionId::from_uuid(self.id());
        let name = self.state.plan().map_or("", |p| p.name_of(member)).to_owned();
        self.row(Row {
            message,
            turn,
            role: Role::Assistant,
            kind,
            sender: Sender::Member { member, name },
            content: String::new(),
            step,
            key: None,
        });
        self.event(TaskEvent::ExecutionPlanned { execution, message, member, work });
    }

    /// Something to show about a row.
    pub(super) fn status(
        &mut self,
        message: Option<MessageId>,
        phase: &str,
        wait: Option<Wait>,
        text: Option<String>,
    ) {
        let phase = phase.to_owned();
        self.frame(FrameBody::Status(StatusFrame {
            message,
            phase,
            wait,
            text,
            ..StatusFrame::default()
        }));
    }

    pub(super) fn set_queue(&mut self, queue: Vec<QueuedMessage>) {
        self.frame(FrameBody::Queue(QueueFrame { queue }));
    }

    pub(super) fn edited(&mut self, ordinal: Ordinal, removed: Vec<MessageId>, stage: Option<u32>) {
        self.event(TaskEvent::Edited { removed: removed.clone() });
        self.frame(FrameBody::Edited(EditedFrame { ordinal, removed, stage }));
    }

    /// Tells title and labels.
    pub(super) fn tell_task(&mut self, frame: TaskFrame) {
        self.frame(FrameBody::Task(frame));
    }

    /// Tells the status of the Task and the position of its pipeline, if they changed.
    pub(super) fn sync(&mut self) {
        let status = self.state.status;
        if self.shown_status != Some(status) {
            self.shown_status = Some(status);
            let status = Some(status);
            self.frame(FrameBody::Task(TaskFrame { status, ..TaskFrame::default() }));
        }
        let stage = self.state.stage_frame();
        if self.shown_stage != stage {
            self.shown_stage.clone_from(&stage);
            self.frame(FrameBody::Stage(stage.unwrap_or_else(no_stages)));
        }
    }

    /// The decision. An entry without anything is none.
    pub(super) fn finish(mut self, ack: Ack) -> Decision {
        self.sync();
        let empty = self.entry.events.is_empty() && self.entry.frames.is_empty();
        Decision { entry: (!empty).then_some(self.entry), ack }
    }

    /// [`Draft::finish`] for what a person asked: too large an entry is refused.
    pub(super) fn finish_bounded(self, ack: Ack, field: &str) -> Result<Decision, Refusal> {
        let decision = self.finish(ack);
        let bytes = decision.entry.as_ref().and_then(|e| serde_json::to_vec(e).ok());
        if bytes.is_some_and(|b| b.len() > ENTRY_BYTES_MAX) {
            return Err(Refusal::Invalid {
                field: field.to_owned(),
                message: format!("this would take more than {ENTRY_BYTES_MAX} bytes in one piece"),
            });
        }
        Ok(decision)
    }
}
