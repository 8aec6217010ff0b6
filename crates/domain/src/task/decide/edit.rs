//! A person replaces an earlier message and all that follows it, in one entry.

use troupe_types::{MessageId, MessageKind};

use super::{check, key, send};
use crate::task::{
    command::{Context, Decision, Refusal, SendMessage},
    draft::Draft,
    entry::TaskEvent,
    state::TaskState,
};

/// Most rows that one edit removes.
pub const EDIT_ROWS_MAX: usize = 1_000;

pub(super) fn edit(
    state: &TaskState,
    message: MessageId,
    new: SendMessage,
    ctx: &mut Context<'_>,
) -> Result<Decision, Refusal> {
    let row = state.message(message).ok_or(Refusal::MessageNotFound)?;
    if row.kind != MessageKind::User {
        return Err(state.wrong("only a person's own message can be edited"));
    }
    if state.is_active() {
        return Err(state.wrong("a message cannot be edited while the team works; stop it first"));
    }
    if !state.queue.is_empty() {
        return Err(state.wrong("messages wait; take them out of the queue first"));
    }
    check::message(&new.content)?;
    check::plan(&new.plan)?;
    let removed: Vec<MessageId> =
        state.messages.iter().filter(|m| m.ordinal >= row.ordinal).map(|m| m.message).collect();
    if removed.len() > EDIT_ROWS_MAX {
        let wanted = format!("an edit removes at most {EDIT_ROWS_MAX} messages");
        return check::invalid("message", wanted);
    }
    let stage = state.turn(row.turn).map_or(0, |t| t.stage_before);
    let ordinal = row.ordinal;
    let body = key::edit_body(message, &new);
    let mut d = Draft::new(state, ctx);
    let moved = (stage != state.stage).then_some(stage);
    let shown = state.stage_frame().map(|_| stage);
    d.edited(ordinal, removed, shown);
    if let Some(stage) = moved {
        d.event(TaskEvent::StageChanged { stage });
    }
    let id = MessageId::from_uuid(d.id());
    let ack = send::start(&mut d, id, new.key, body, &new);
    d.finish_bounded(ack, "message")
}
