//! Dead letters: show, give again, throw away.

use std::time::Duration;

use serde_json::Value;
use troupe_api::{
    Problem,
    admin::{DeadLetterView, RetriedLetter},
    task::Page,
};
use troupe_sharding::AskError;
use troupe_store::DeadLetter;
use troupe_types::Uuid;

use super::{Operations, admin, fate_problem, in_time, store_problem};
use crate::caller::Caller;

const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the entity's answer to a letter that it gets again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
/// Letters that a list counts beyond its page.
const COUNTED_MAX: usize = 1_000;
const REASON_CHARS_MAX: usize = 500;
/// How deep the form of a message is shown.
const DEPTH_MAX: usize = 12;

/// Fields that say what sort of message it is, and nothing that somebody wrote.
const TAGS: [&str; 6] = ["ask", "command", "kind", "type", "op", "role"];

fn view(letter: &DeadLetter, whole: bool) -> DeadLetterView {
    let message = serde_json::from_slice::<Value>(&letter.message).ok();
    DeadLetterView {
        id: letter.id.to_string(),
        entity: letter.entity.to_string(),
        shard: letter.entity.shard().0,
        at: letter.at,
        strikes: letter.strikes,
        error: letter.error.clone(),
        bytes: u64::try_from(letter.message.len()).unwrap_or(u64::MAX),
        what: what(letter, message.as_ref()),
        message: message.filter(|_| whole).map(|value| redacted(None, value, DEPTH_MAX)),
    }
}

fn what(letter: &DeadLetter, message: Option<&Value>) -> String {
    if letter.message.is_empty() {
        return "wake-up".to_owned();
    }
    let Some(message) = message else { return "unknown form".to_owned() };
    let word = |value: &Value, tag: &str| Some(value.get(tag)?.as_str()?.to_owned());
    let ask = word(message, "ask");
    let command = message.get("command").and_then(|command| word(command, "command"));
    match (ask, command) {
        (Some(ask), Some(command)) => format!("{ask}: {command}"),
        (Some(ask), None) => ask,
        _ => "message".to_owned(),
    }
}

/// Texts become their lengths, but for tags and ids: an operator sees what sort of message it
/// is, not what a person wrote.
fn redacted(field: Option<&str>, value: Value, depth: usize) -> Value {
    match value {
        Value::String(text) => {
            let is_tag = field.is_some_and(|name| TAGS.contains(&name)) && text.len() <= 40;
            let is_id = text.len() == 30 && text.parse::<troupe_types::EntityId>().is_ok()
                || text.len() == 36 && text.parse::<Uuid>().is_ok()
                || is_typed_id(&text);
            if is_tag || is_id {
                return Value::String(text);
            }
            Value::String(format!("<{} characters>", text.chars().count()))
        }
        Value::Array(_) | Value::Object(_) if depth == 0 => Value::String("<more>".to_owned()),
        Value::Array(items) => {
            items.into_iter().take(50).map(|item| redacted(field, item, depth - 1)).collect()
        }
        Value::Object(fields) => fields
            .into_iter()
            .take(100)
            .map(|(name, value)| {
                let value = redacted(Some(&name), value, depth - 1);
                (name, value)
            })
            .collect(),
        other => other,
    }
}

/// `abc_` and 26 characters: an id of ours.
fn is_typed_id(text: &str) -> bool {
    text.split_once('_').is_some_and(|(prefix, id)| {
        prefix.len() == 3
            && prefix.bytes().all(|b| b.is_ascii_lowercase())
            && id.len() == 26
            && id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    })
}

fn not_there() -> Problem {
    Problem::not_found("dead letter")
}

impl Operations {
    /// Letters, oldest first. `total` counts up to 1,000.
    ///
    /// # Errors
    /// 403; 422 for a cursor of nothing; 503 if the store does not answer.
    pub async fn dead_letters(
        &self,
        caller: &Caller,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<DeadLetterView>, Problem> {
        admin(caller, "list_dead_letters")?;
        let after = cursor.map(str::parse).transpose();
        let after: Option<Uuid> =
            after.map_err(|_| Problem::invalid("cursor", "Give the `next` of a page."))?;
        let letters = &self.parts.stores.dead_letters;
        let list = letters.list(after, limit.max(COUNTED_MAX) + 1);
        let mut found = in_time(STORE_TIMEOUT, list).await.map_err(store_problem)?;
        let total = found.len() as u64;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|letter| letter.id.to_string());
        Ok(Page { total, items: found.iter().map(|letter| view(letter, false)).collect(), next })
    }

    async fn letter(&self, id: Uuid) -> Result<DeadLetter, Problem> {
        let get = self.parts.stores.dead_letters.get(id);
        in_time(STORE_TIMEOUT, get).await.map_err(store_problem)?.ok_or_else(not_there)
    }

    async fn forget(&self, id: Uuid) -> Result<(), Problem> {
        let remove = self.parts.stores.dead_letters.remove(id);
        in_time(STORE_TIMEOUT, remove).await.map_err(store_problem)
    }

    /// One letter with the form of its message.
    ///
    /// # Errors
    /// 403, 404; 503 if the store does not answer.
    pub async fn dead_letter(&self, caller: &Caller, id: Uuid) -> Result<DeadLetterView, Problem> {
        admin(caller, "read_dead_letter")?;
        Ok(view(&self.letter(id).await?, true))
    }

    /// Gives a letter to its entity again.
    ///
    /// # Errors
    /// 403, 404; 429 and 503 if the entity was not reached or its answer did not come: the
    /// letter stays.
    pub async fn retry_dead_letter(
        &self,
        caller: &Caller,
        id: Uuid,
    ) -> Result<RetriedLetter, Problem> {
        admin(caller, "retry_dead_letter")?;
        let retried = self.give_again(id).await;
        self.audited(caller, "retry_dead_letter", &id.to_string(), "", retried).await
    }

    async fn give_again(&self, id: Uuid) -> Result<RetriedLetter, Problem> {
        let letter = self.letter(id).await?;
        let (outcome, detail) = if letter.message.is_empty() {
            self.operator().wake_entity(letter.entity).await?;
            (
                "handled",
                "The entity is woken; if it crashes again, a new letter says so.".to_owned(),
            )
        } else {
            let ask = self.parts.router.ask(letter.entity, letter.message, RETRY_TIMEOUT).await;
            match ask {
                Ok(_) => ("handled", "The entity took it and answered.".to_owned()),
                Err(AskError::Failed(failed)) if failed.code == "poisoned" => {
                    ("given_up", "Its handler crashed again; it lies there as a new letter.".into())
                }
                Err(AskError::Failed(failed)) => {
                    ("refused", format!("The entity said no ({}): {}", failed.code, failed.message))
                }
                Err(fate) => return Err(fate_problem(&fate)),
            }
        };
        self.forget(id).await?;
        Ok(RetriedLetter { id: id.to_string(), outcome: outcome.to_owned(), detail })
    }

    /// Throws a letter away.
    ///
    /// # Errors
    /// 403, 404; 422 without a reason; 503 if the store does not answer.
    pub async fn discard_dead_letter(
        &self,
        caller: &Caller,
        id: Uuid,
        reason: &str,
    ) -> Result<(), Problem> {
        admin(caller, "discard_dead_letter")?;
        let reason = reason.trim();
        if !(1..=REASON_CHARS_MAX).contains(&reason.chars().count()) {
            let message = "Say why in 1 to 500 characters: it goes into the audit log.";
            return Err(Problem::invalid("reason", message));
        }
        let letter = self.letter(id).await?;
        let detail = format!("{}: {reason}", letter.entity);
        let done = self.forget(id).await;
        self.audited(caller, "discard_dead_letter", &id.to_string(), &detail, done).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_person_wrote_is_not_shown() {
        let message = json!({
            "ask": "command", "command": { "command": "send", "message": "my secret plan",
            "key": "0190a000-0000-7000-8000-000000000001", "turns": [1, true, null],
            "task": "tsk_00000000000000000000000001", "kind": "a text that is far too long for a tag"
                .repeat(2) }
        });
        let shown = redacted(None, message, DEPTH_MAX);
        assert_eq!(shown["ask"], "command");
        assert_eq!(shown["command"]["command"], "send");
        assert_eq!(shown["command"]["message"], "<14 characters>");
        assert_eq!(shown["command"]["task"], "tsk_00000000000000000000000001");
        assert_eq!(shown["command"]["key"], "0190a000-0000-7000-8000-000000000001");
        assert_eq!(shown["command"]["turns"], json!([1, true, null]));
        assert!(!shown.to_string().contains("secret") && !shown.to_string().contains("far too"));
    }
}
