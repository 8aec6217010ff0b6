//! Keys of persons' commands: the same key, the same answer.

use sha2::{Digest as _, Sha256};
use troupe_types::{MessageId, Sender, Uuid};

use crate::task::{
    command::{Ack, Answer, Command, Refusal, Repeated, SendMessage},
    state::TaskState,
    text::hex,
};

/// Bytes of the hash of a body that are kept.
const BODY_HASH_BYTES: usize = 16;

/// Key and hash of the body of a command that has a key. The plan is no part of the body: a
/// repeated send may meet a Team that changed meanwhile.
fn key_of(command: &Command) -> Option<(Uuid, String)> {
    match command {
        Command::Send(send) => Some((send.key, send_body(send))),
        Command::Edit { message, send } => Some((send.key, edit_body(*message, send))),
        Command::Confirm { key, message, .. } => Some((*key, confirm_body(message.as_deref()))),
        Command::Repeat { what, .. } => Some(match what {
            Repeated::Send { key, sender, content } => (*key, sent_body(sender, content)),
            Repeated::Edit { key, message, sender, content } => {
                (*key, edited_body(*message, sender, content))
            }
            Repeated::Confirm { key, message } => (*key, confirm_body(message.as_deref())),
        }),
        other => super::answer::key_and_body(other),
    }
}

pub(super) fn send_body(send: &SendMessage) -> String {
    sent_body(&send.sender, &send.content)
}

pub(super) fn edit_body(message: MessageId, send: &SendMessage) -> String {
    edited_body(message, &send.sender, &send.content)
}

fn sent_body(sender: &Sender, content: &str) -> String {
    body(&["send", &author(sender), content])
}

fn edited_body(message: MessageId, sender: &Sender, content: &str) -> String {
    body(&["edit", &message.to_string(), &author(sender), content])
}

pub(super) fn confirm_body(message: Option<&str>) -> String {
    let given = if message.is_some() { "with" } else { "without" };
    body(&["confirm", given, message.unwrap_or_default()])
}

pub(super) fn answer_body(block_id: &str, answer: &Answer) -> String {
    body(&["answer", block_id, &serde_json::to_string(answer).unwrap_or_default()])
}

/// The answer to a command whose key was used before.
pub(super) fn repeated(state: &TaskState, command: &Command) -> Result<Option<Ack>, Refusal> {
    let Some((key, body)) = key_of(command) else { return Ok(None) };
    if matches!(command, Command::Repeat { by, .. } if state.owner != Some(*by)) {
        return Err(Refusal::NotFound);
    }
    match state.keys.get(&key) {
        None => Ok(None),
        Some(used) if used.body == body => Ok(Some(used.ack.clone())),
        Some(_) => Err(Refusal::KeyReused),
    }
}

fn author(sender: &Sender) -> String {
    match sender {
        Sender::User { user_id, .. } => user_id.to_string(),
        Sender::Member { member, .. } => format!("member {member}"),
        Sender::Team => "team".to_owned(),
        Sender::System => "system".to_owned(),
    }
}

fn body(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize()[..BODY_HASH_BYTES])
}
