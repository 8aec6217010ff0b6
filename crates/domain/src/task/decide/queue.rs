//! What waits behind the running turn.

use troupe_types::{QueuedMessage, limits::QUEUED_MESSAGES_MAX};

use super::check;
use crate::task::{
    command::{Ack, Context, Decision, QueueEdit, Refusal},
    draft::Draft,
    run,
    state::TaskState,
};

/// The queue, encoded, takes at most this many bytes: it is told whole at each change.
pub const QUEUE_BYTES_MAX: usize = 110 * 1024;

pub(super) fn check(queue: &[QueuedMessage]) -> Result<(), Refusal> {
    if queue.len() > QUEUED_MESSAGES_MAX {
        let wanted = format!("at most {QUEUED_MESSAGES_MAX} messages can wait");
        return check::invalid("queue", wanted);
    }
    let bytes = serde_json::to_vec(queue).map_or(usize::MAX, |b| b.len());
    if bytes > QUEUE_BYTES_MAX {
        return check::invalid("queue", "the messages that wait are too long together");
    }
    Ok(())
}

pub(super) fn change(
    state: &TaskState,
    change: QueueEdit,
    ctx: &mut Context<'_>,
) -> Result<Decision, Refusal> {
    let mut queue = state.queue.to_vec();
    match change {
        QueueEdit::Remove { message } => {
            let at = queue.iter().position(|q| q.message == message);
            queue.remove(at.ok_or(Refusal::MessageNotFound)?);
        }
        QueueEdit::Replace { message, content } => {
            check::message(&content)?;
            let one = queue.iter_mut().find(|q| q.message == message);
            one.ok_or(Refusal::MessageNotFound)?.content = content;
            check(&queue)?;
        }
        QueueEdit::Reorder { order } => {
            let mut sorted = Vec::with_capacity(queue.len());
            for id in &order {
                let Some(at) = queue.iter().position(|q| q.message == *id) else { break };
                sorted.push(queue.remove(at));
            }
            if !queue.is_empty() || sorted.len() != order.len() {
                return check::invalid("order", "the order must name each queued message once");
            }
            queue = sorted;
        }
        QueueEdit::Resume => return resume(state, ctx),
    }
    if queue == *state.queue {
        return Ok(super::nothing());
    }
    let mut d = Draft::new(state, ctx);
    d.set_queue(queue);
    Ok(d.finish(Ack::Ok))
}

fn resume(state: &TaskState, ctx: &mut Context<'_>) -> Result<Decision, Refusal> {
    if state.is_active() {
        return Err(state.wrong("the queue moves on when the running turn is done"));
    }
    if state.queue.is_empty() {
        return Err(state.wrong("no message waits"));
    }
    let mut d = Draft::new(state, ctx);
    run::start_next(&mut d);
    Ok(d.finish(Ack::Ok))
}
