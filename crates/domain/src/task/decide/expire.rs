//! Approvals and questions that nobody answered in time.

use troupe_types::{BlockPatch, BlockStatus, BlockUpdatedFrame, FrameBody};

use crate::task::{
    command::{Ack, Context, Decision},
    draft::Draft,
    entry::TaskEvent,
    state::TaskState,
};

/// Settles all that is due: told to people at once, and on its way to the runtime until that
/// confirms it, as an answer is. An answer that is on its way is not overtaken.
pub(super) fn expire(state: &TaskState, ctx: &mut Context<'_>) -> Decision {
    let now = ctx.now;
    let due = state.open_asks().filter(|(.., asked)| asked.is_due(now));
    let due: Vec<_> = due.map(|(e, id, _)| (e.id, e.attempt, e.message, id.to_owned())).collect();
    let mut d = Draft::new(state, ctx);
    for (execution, attempt, message, block_id) in due {
        let input = d.id();
        let expired = block_id.clone();
        d.event(TaskEvent::AskExpired { execution, attempt, block_id: expired, input });
        let patch = BlockPatch {
            status: Some(BlockStatus::Running),
            tool_output: Some("expired".to_owned()),
            ..BlockPatch::default()
        };
        d.frame(FrameBody::BlockUpdated(BlockUpdatedFrame {
            message,
            attempt,
            block_id,
            patch,
            late: false,
        }));
    }
    d.finish(Ack::Ok)
}
