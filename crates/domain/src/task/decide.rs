//! What a command leads to: an entry to append, or a refusal that changes nothing.
//!
//! A person's command under a known key answers as it did then, whatever became of the Task.
//! What a runner says about an attempt that is over is kept only as late output, or dropped.

mod answer;
mod cancel;
mod check;
mod confirm;
mod edit;
mod expire;
mod key;
mod lost;
mod queue;
mod retry;
mod runner;
mod send;
mod start;
mod update;

pub use check::{LABELS_MAX, TITLE_CHARS_MAX};
pub use edit::EDIT_ROWS_MAX;
pub use queue::QUEUE_BYTES_MAX;
pub(in crate::task) use send::person_row;

use super::{
    command::{Ack, Command, Context, Decision, Refusal},
    execution::DeviceRun,
    state::TaskState,
};

/// Decides on a command; folds nothing and writes nothing.
///
/// # Errors
/// A refusal: nothing is to be written.
pub fn decide(
    state: &TaskState,
    command: Command,
    ctx: &mut Context<'_>,
) -> Result<Decision, Refusal> {
    if let Some(ack) = key::repeated(state, &command)? {
        return Ok(Decision { entry: None, ack });
    }
    if !state.exists() {
        return match command {
            Command::Send(send) if state.id.is_none() && send.create.is_some() => {
                send::send(state, send, ctx)
            }
            _ => Err(Refusal::NotFound),
        };
    }
    match command {
        Command::Send(send) => send::send(state, send, ctx),
        Command::Confirm { key, message, original, previous } => {
            confirm::confirm(state, key, message, &original, &previous, ctx)
        }
        Command::Retry { message, plan } => retry::retry(state, message, plan, ctx),
        Command::Edit { message, send } => edit::edit(state, message, send, ctx),
        Command::Cancel => cancel::cancel(state, ctx),
        Command::Queue(change) => queue::change(state, change, ctx),
        Command::Update { title, labels } => update::update(state, title, labels, ctx),
        Command::Delete => Ok(cancel::delete(state, ctx)),
        Command::Repeat { .. } => Err(Refusal::NotFound),
        Command::Waiting { execution, attempt, wait } => {
            Ok(start::waiting(state, execution, attempt, wait, ctx))
        }
        Command::Start { execution, attempt, place } => {
            Ok(start::start(state, execution, attempt, place, ctx))
        }
        Command::Run { execution, attempt, out_seq, event } => {
            let said = runner::Said { execution, attempt, out_seq };
            Ok(runner::run(state, said, event, ctx))
        }
        Command::StartOnDevice { execution, attempt, device, place, token, restored } => {
            let (of, token) = ((execution, attempt), token.hash());
            Ok(start::start_on_device(state, of, DeviceRun { device, token, restored }, place, ctx))
        }
        Command::Answer { key, block_id, answer } => {
            answer::answer(state, key, &block_id, answer, ctx)
        }
        Command::ExpireAsks => Ok(expire::expire(state, ctx)),
        Command::DeviceLost { execution, attempt, error, text, anew } => {
            Ok(lost::device_lost(state, (execution, attempt), (error, text), anew, ctx))
        }
        Command::Lost { execution, attempt, retry_at, planned } => {
            Ok(lost::lost(state, execution, attempt, retry_at, planned, ctx))
        }
    }
}

/// Nothing is written: the command is about something that is over.
const fn nothing() -> Decision {
    Decision { entry: None, ack: Ack::Ok }
}
