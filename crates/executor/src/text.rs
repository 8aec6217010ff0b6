//! Cuts texts and values to their bounds.

use serde_json::{Value, json};

use crate::event::TEXT_BYTES_MAX;

/// What a runtime is told of an approval or question that nobody answered in time.
pub(crate) const EXPIRED: &str = "No person answered in time, so this expired. Nobody refused it. \
     Go on without it if you can, or say what you need.";
/// What a runtime is told of one that was taken back.
pub(crate) const WITHDRAWN: &str = "This was withdrawn before anybody answered. Nobody refused it.";
/// Longest line for people, in characters.
const LINE_CHARS_MAX: usize = 200;

/// The largest beginning of at most `max` bytes that ends between characters.
pub(crate) fn head(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The text in pieces of at most [`TEXT_BYTES_MAX`]; nothing for an empty one.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let piece = head(rest, TEXT_BYTES_MAX);
        rest = &rest[piece.len()..];
        (!piece.is_empty()).then(|| piece.to_owned())
    })
}

/// Beginning and end of a long text, with a word between them.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let half = max.saturating_sub(64) / 2;
    let start = head(text, half);
    let mut from = text.len() - half;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    format!("{start}\n[.. {} bytes left out ..]\n{}", from - start.len(), &text[from..])
}

/// The first line, not too long.
pub(crate) fn line(text: &str) -> String {
    let first = text.trim().lines().next().unwrap_or_default();
    let more = first.chars().count() > LINE_CHARS_MAX || text.trim().lines().nth(1).is_some();
    let mut line: String = first.chars().take(LINE_CHARS_MAX).collect();
    if more {
        line.push('…');
    }
    line
}

/// A value whose JSON has at most `max` bytes: long texts in it are cut first, then all of it.
pub(crate) fn bounded(value: Value, max: usize) -> Value {
    if value.to_string().len() <= max {
        return value;
    }
    let cut = cut_texts(value, max / 8);
    let whole = cut.to_string();
    if whole.len() <= max { cut } else { json!({"truncated": head(&whole, max / 2)}) }
}

fn cut_texts(value: Value, max: usize) -> Value {
    match value {
        Value::String(text) => Value::String(cut(&text, max)),
        Value::Array(all) => all.into_iter().map(|value| cut_texts(value, max)).collect(),
        Value::Object(all) => {
            Value::Object(all.into_iter().map(|(k, value)| (k, cut_texts(value, max))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_lie_between_characters() {
        assert_eq!(head("aé", 2), "a");
        assert_eq!(pieces("").count(), 0);
        let long = "你".repeat(TEXT_BYTES_MAX);
        assert!(pieces(&long).all(|piece| piece.len() <= TEXT_BYTES_MAX));
        assert_eq!(pieces(&long).collect::<String>(), long);
        let short = cut(&long, 1_000);
        assert!(short.len() <= 1_000 && short.contains("bytes left out"), "{short}");
        assert_eq!(line("a\nb"), "a…");
    }

    #[test]
    fn big_values_keep_their_form() {
        let value = bounded(json!({"path": "a", "content": "x".repeat(100_000)}), 8_000);
        assert_eq!(value["path"], "a");
        assert!(value.to_string().len() <= 8_000);
        let value = bounded(json!(vec!["x"; 100_000]), 8_000);
        assert!(value.to_string().len() <= 8_000);
    }
}
