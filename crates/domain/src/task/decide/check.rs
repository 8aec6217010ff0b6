//! Bounds of what persons give.

use std::collections::BTreeMap;

use troupe_types::limits::{MESSAGE_BYTES_MAX, NAME_CHARS_MAX};

use crate::task::{command::Refusal, plan::TeamPlan, text::json_len};

/// Longest title, in characters.
pub const TITLE_CHARS_MAX: usize = 256;
/// Most labels of a Task.
pub const LABELS_MAX: usize = 64;
/// Longest value of a label, in characters.
const LABEL_VALUE_CHARS_MAX: usize = 1_000;
/// A message takes at most this many bytes once it is encoded (control characters take six).
const MESSAGE_ENCODED_MAX: usize = 100 * 1024;

pub(super) fn invalid<T>(field: &str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid { field: field.to_owned(), message: message.into() })
}

/// A person's text: not blank, not too long.
pub(super) fn message(text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return invalid("message", "the message is empty");
    }
    if text.len() > MESSAGE_BYTES_MAX {
        return invalid("message", format!("the message is longer than {MESSAGE_BYTES_MAX} bytes"));
    }
    if text.len() > MESSAGE_ENCODED_MAX / 6 && json_len(text) > MESSAGE_ENCODED_MAX {
        return invalid("message", "the message has too many characters that need escaping");
    }
    Ok(())
}

/// A Team that can run at all.
pub(super) fn plan(plan: &TeamPlan) -> Result<(), Refusal> {
    if plan.members.is_empty() {
        return invalid("team", "the team has no members");
    }
    if plan.leader >= plan.size() {
        return invalid("team", "the team's leader is none of its members");
    }
    Ok(())
}

pub(super) fn title(title: &str) -> Result<(), Refusal> {
    if title.trim().is_empty() || title.chars().count() > TITLE_CHARS_MAX {
        return invalid("title", format!("the title must have 1 to {TITLE_CHARS_MAX} characters"));
    }
    Ok(())
}

pub(super) fn labels(labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if labels.len() > LABELS_MAX {
        return invalid("labels", format!("there are more than {LABELS_MAX} labels"));
    }
    for (name, value) in labels {
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            let wanted = format!("a label's name must have 1 to {NAME_CHARS_MAX} characters");
            return invalid("labels", wanted);
        }
        if value.chars().count() > LABEL_VALUE_CHARS_MAX {
            let wanted = format!("a label's value has at most {LABEL_VALUE_CHARS_MAX} characters");
            return invalid("labels", wanted);
        }
    }
    Ok(())
}
