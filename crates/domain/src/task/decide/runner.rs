//! What the runner of an attempt says.

mod ended;
mod output;

use troupe_types::{
    Attempt, Block, BlockCreatedFrame, BlockKind, BlockPatch, BlockUpdatedFrame, ExecutionId,
    FrameBody, MessageId, OutSeq, StatusFrame, UsageFrame,
};

use crate::task::{
    command::{Ack, Context, Decision, Output, RunEvent},
    draft::Draft,
    entry::{StepRecord, TaskEvent},
    execution::{Execution, LATE_FRAMES_MAX, NAMED_BLOCKS_MAX, OpenCall},
    state::{EXPIRES_AT, TaskState, asks},
};

/// Who speaks.
#[derive(Clone, Copy)]
pub(super) struct Said {
    pub(super) execution: ExecutionId,
    pub(super) attempt: Attempt,
    pub(super) out_seq: OutSeq,
}

impl Said {
    fn mark(self) -> Option<TaskEvent> {
        let Self { execution, attempt, out_seq } = self;
        (out_seq > OutSeq::ZERO).then_some(TaskEvent::OutputMarked { execution, attempt, out_seq })
    }
}

pub(super) fn run(
    state: &TaskState,
    said: Said,
    event: RunEvent,
    ctx: &mut Context<'_>,
) -> Decision {
    let Some(e) = state.execution(said.execution) else { return super::nothing() };
    let Some(track) = e.track(said.attempt) else { return super::nothing() };
    if said.out_seq > OutSeq::ZERO && said.out_seq <= track.out_seq {
        return super::nothing();
    }
    let late = !e.is_live(said.attempt);
    let over = said.attempt < e.attempt || e.state.is_terminal();
    if late && (!over || e.late >= LATE_FRAMES_MAX) {
        return super::nothing();
    }
    match event {
        RunEvent::Output { pieces } => output::output(state, e, said, pieces, late, ctx),
        RunEvent::Block { block, name } => match block.kind {
            BlockKind::Text { content } => {
                output::output(state, e, said, vec![Output::Text(content)], late, ctx)
            }
            BlockKind::Thinking { content } => {
                output::output(state, e, said, vec![Output::Thinking(content)], late, ctx)
            }
            _ => block_created(state, e, said, block, name, late, ctx),
        },
        RunEvent::BlockChanged { name, patch } => {
            block_changed(state, e, said, &name, patch, late, ctx)
        }
        _ if late => super::nothing(),
        RunEvent::Step { record, usage } => step(state, e, said, record, usage, ctx),
        RunEvent::Status(status) => shown(state, e.message, said, status, ctx),
        RunEvent::Done { answer, stop_reason, decision } => {
            ended::done(state, e, said, &answer, stop_reason, decision, ctx)
        }
        RunEvent::Failed { error, text } => ended::failed(state, e, said, error, text, ctx),
    }
}

/// `{ordinal of the message}.{attempt}.{n}`.
fn block_id(e: &Execution, attempt: Attempt, n: u32) -> String {
    format!("{}.{attempt}.{n}", e.ordinal)
}

fn block_created(
    state: &TaskState,
    e: &Execution,
    said: Said,
    mut block: Block,
    name: String,
    late: bool,
    ctx: &mut Context<'_>,
) -> Decision {
    let Some(track) = e.track(said.attempt) else { return super::nothing() };
    if !late && e.names.len() >= NAMED_BLOCKS_MAX && !e.names.contains_key(&name) {
        return super::nothing();
    }
    let id = block_id(e, said.attempt, track.next_block);
    block.id.clone_from(&id);
    give_time(&mut block, ctx);
    let (execution, attempt, message) = (said.execution, said.attempt, e.message);
    let mut d = Draft::new(state, ctx);
    if !late {
        d.event(TaskEvent::BlockNamed { execution, attempt, name, block_id: id });
    }
    d.frame(FrameBody::BlockCreated(BlockCreatedFrame { message, attempt, block, late }));
    finish(d, said)
}

/// A person has so long for what is asked. The runner has no say in it.
fn give_time(block: &mut Block, ctx: &Context<'_>) {
    let BlockKind::Other(fields) = &mut block.kind else { return };
    if asks(fields).is_none() {
        return;
    }
    fields.remove(EXPIRES_AT);
    if let Some(time) = ctx.asks_expire_after {
        fields.insert(EXPIRES_AT.to_owned(), ctx.now.plus(time).to_string().into());
    }
}

fn block_changed(
    state: &TaskState,
    e: &Execution,
    said: Said,
    name: &str,
    mut patch: BlockPatch,
    late: bool,
    ctx: &mut Context<'_>,
) -> Decision {
    if late {
        // What ended with its attempt stays ended.
        patch.status = patch.status.filter(|status| status.is_final());
    }
    if said.attempt != e.attempt || patch == BlockPatch::default() {
        return super::nothing();
    }
    let Some(block) = e.names.get(name) else { return super::nothing() };
    let (message, attempt, block_id) = (e.message, said.attempt, block.block_id.clone());
    let mut d = Draft::new(state, ctx);
    d.frame(FrameBody::BlockUpdated(BlockUpdatedFrame { message, attempt, block_id, patch, late }));
    finish(d, said)
}

fn step(
    state: &TaskState,
    e: &Execution,
    said: Said,
    record: StepRecord,
    usage: Option<UsageFrame>,
    ctx: &mut Context<'_>,
) -> Decision {
    let record = match record {
        StepRecord::Model { message, calls } => {
            StepRecord::Model { message, calls: calls.into_iter().map(|c| own_id(e, c)).collect() }
        }
        tool @ StepRecord::Tool { .. } => tool,
    };
    let Said { execution, attempt, .. } = said;
    let message = Some(e.message);
    let mut d = Draft::new(state, ctx);
    d.event(TaskEvent::StepFinished { execution, attempt, record });
    if let Some(usage) = usage {
        d.frame(FrameBody::Usage(UsageFrame { message, ..usage }));
    }
    finish(d, said)
}

/// A call names its block as the runner does; here it gets the Task's id (none: no block).
fn own_id(e: &Execution, call: OpenCall) -> OpenCall {
    let block = e.names.get(&call.block_id).or_else(|| e.names.get(&call.tool_use_id));
    let block_id = block.map_or_else(String::new, |b| b.block_id.clone());
    OpenCall { block_id, ..call }
}

fn shown(
    state: &TaskState,
    message: MessageId,
    said: Said,
    status: StatusFrame,
    ctx: &mut Context<'_>,
) -> Decision {
    let mut d = Draft::new(state, ctx);
    d.frame(FrameBody::Status(StatusFrame { message: Some(message), ..status }));
    finish(d, said)
}

fn finish(mut d: Draft<'_, '_>, said: Said) -> Decision {
    if let Some(mark) = said.mark() {
        d.event(mark);
    }
    d.finish(Ack::Ok)
}
