//! A person answers an approval or a question.

use troupe_types::{BlockPatch, BlockStatus, BlockUpdatedFrame, FrameBody, Timestamp, Uuid};

use crate::task::{
    command::{Ack, Answer, Command, Context, Decision, Refusal},
    draft::Draft,
    entry::TaskEvent,
    state::TaskState,
};

/// Largest answer, in bytes of its JSON.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

pub(super) fn answer(
    state: &TaskState,
    key: Uuid,
    block_id: &str,
    answer: Answer,
    ctx: &mut Context<'_>,
) -> Result<Decision, Refusal> {
    let gone = || {
        let expired = state.executions.iter().find_map(|e| e.expired.get(block_id));
        match expired {
            Some(at) => state.wrong(too_late(*at)),
            None => state.wrong("nobody waits for this answer any more: it ended or was withdrawn"),
        }
    };
    let e = state.executions.iter().find(|e| e.asks.contains_key(block_id)).ok_or_else(gone)?;
    let asked = e.asks.get(block_id).filter(|_| e.is_live(e.attempt)).ok_or_else(gone)?;
    if asked.answer.is_some() {
        return Err(state.wrong("this was answered already"));
    }
    // Also if nobody has written it down yet: what is shown as the end is the end.
    if let Some(at) = asked.expires_at.filter(|_| !asked.is_open() || asked.is_due(ctx.now)) {
        return Err(state.wrong(too_late(at)));
    }
    if asked.question != matches!(answer, Answer::Reply { .. }) {
        let expected = if asked.question { "a reply" } else { "allow, allow_always or deny" };
        let message = format!("this asks for {expected}");
        return Err(Refusal::Invalid { field: "answer".to_owned(), message });
    }
    if answer == Answer::AllowAlways && asked.always.is_none() {
        let message = "\"always\" is not on offer for this: allow it, or deny it".to_owned();
        return Err(Refusal::Invalid { field: "answer".to_owned(), message });
    }
    let bytes = serde_json::to_vec(&answer).map_or(usize::MAX, |json| json.len());
    if bytes > ANSWER_BYTES_MAX {
        let message = format!("an answer has at most {ANSWER_BYTES_MAX} bytes");
        return Err(Refusal::Invalid { field: "answer".to_owned(), message });
    }
    let body = super::key::answer_body(block_id, &answer);
    let (execution, attempt, message) = (e.id, e.attempt, e.message);
    let patch = BlockPatch {
        status: Some(BlockStatus::Running),
        tool_output: Some(word(&answer).to_owned()),
        ..BlockPatch::default()
    };
    let block_id = block_id.to_owned();
    let mut d = Draft::new(state, ctx);
    d.event(TaskEvent::KeyUsed { key, body, ack: Ack::Ok });
    d.event(TaskEvent::BlockAnswered {
        execution,
        attempt,
        block_id: block_id.clone(),
        input: key,
        answer,
    });
    let late = false;
    d.frame(FrameBody::BlockUpdated(BlockUpdatedFrame { message, attempt, block_id, patch, late }));
    Ok(d.finish(Ack::Ok))
}

fn too_late(at: Timestamp) -> String {
    format!("this expired at {at}: nobody answered in time")
}

const fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::Allow => "allowed",
        Answer::AllowAlways => "allowed_always",
        Answer::Deny { .. } => "denied",
        Answer::Reply { .. } => "answered",
    }
}

/// What is known of a command by its key alone.
pub(super) fn key_and_body(command: &Command) -> Option<(Uuid, String)> {
    match command {
        Command::Answer { key, block_id, answer } => {
            Some((*key, super::key::answer_body(block_id, answer)))
        }
        _ => None,
    }
}
