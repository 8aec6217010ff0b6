//! Measures of text in tokens and bytes, and cuts that keep head and tail.

use troupe_llm::{Message, Part};

/// Largest tool result that people are shown, in bytes.
pub const SHOWN_BYTES_MAX: usize = 64 * 1024;
/// Part of a capped text that is its beginning, in percent; the rest is its end.
const HEAD_PERCENT: u64 = 60;
/// What a message, and each of its parts, costs besides its text, in tokens.
const OVERHEAD_TOKENS: u64 = 4;

/// What one character weighs, in quarters of a token: four Latin letters are a token, and so
/// is each Chinese sign or emoji. Never less than its bytes, but for characters of three.
const fn weight(c: char) -> u64 {
    match c {
        '\0'..='\u{7f}' => 1,
        '\u{80}'..='\u{7ff}' => 2,
        _ => 4,
    }
}

fn quarters(text: &str) -> u64 {
    text.chars().map(weight).sum()
}

/// An estimate of how many tokens a text is.
#[must_use]
pub fn tokens(text: &str) -> u64 {
    quarters(text).div_ceil(4)
}

/// An estimate of how many tokens a message is.
#[must_use]
pub fn message_tokens(message: &Message) -> u64 {
    let part = |part: &Part| {
        OVERHEAD_TOKENS
            + match part {
                Part::Text { text } | Part::Thinking { text, .. } => tokens(text),
                Part::RedactedThinking { data } => tokens(data),
                Part::ToolCall { name, args, .. } => tokens(name) + tokens(&args.to_string()),
                Part::ToolResult { content, .. } => tokens(content),
            }
    };
    OVERHEAD_TOKENS + message.parts.iter().map(part).sum::<u64>()
}

/// The text in at most about so many tokens: 60 % from its beginning, 40 % from its end, and a
/// note between them that says how much is missing.
#[must_use]
pub fn cap_tokens(text: &str, tokens_max: u64) -> String {
    let room = tokens_max.saturating_mul(4);
    if quarters(text) <= room {
        return text.to_owned();
    }
    cut(text, room, weight)
}

/// The same by bytes (UTF-8).
#[must_use]
pub fn cap_bytes(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let note_room = 80;
    let room = u64::try_from(bytes_max.saturating_sub(note_room)).unwrap_or(u64::MAX);
    cut(text, room, |c| u64::try_from(c.len_utf8()).unwrap_or(4))
}

fn cut(text: &str, room: u64, cost: impl Fn(char) -> u64) -> String {
    let head_room = room / 100 * HEAD_PERCENT + room % 100 * HEAD_PERCENT / 100;
    let tail_room = room - head_room;
    let mut used = 0;
    let fits = |used: &mut u64, c: char, room: u64| {
        *used += cost(c);
        *used <= room
    };
    let head = text
        .char_indices()
        .find(|(_, c)| !fits(&mut used, *c, head_room))
        .map_or(text.len(), |(at, _)| at);
    used = 0;
    let tail = text
        .char_indices()
        .rev()
        .find(|(_, c)| !fits(&mut used, *c, tail_room))
        .map_or(0, |(at, c)| at + c.len_utf8())
        .max(head);
    let missing = text[head..tail].chars().count();
    format!("{}\n\n[... {missing} characters left out ...]\n\n{}", &text[..head], &text[tail..])
}

/// The text without control characters that neither people nor models can read.
#[must_use]
pub fn readable(text: &str) -> String {
    let bad = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(bad) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' => out.push('\n'),
            c if bad(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Pieces of at most so many bytes, cut at characters.
pub(crate) fn pieces(text: &str, bytes_max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, left) = rest.split_at(rest.floor_char_boundary(bytes_max.max(4)));
        rest = left;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn latin_and_chinese_are_weighed_apart() {
        assert_eq!(tokens("abcdefgh"), 2);
        assert_eq!(tokens("你好"), 2);
        assert_eq!(tokens("ab你"), 2);
        assert_eq!(tokens(""), 0);
    }

    #[test]
    fn head_and_tail_stay() {
        let text: String = ('a'..='z').cycle().take(100_000).collect();
        let capped = cap_tokens(&text, 15_000);
        assert!(capped.starts_with(&text[..36_000]) && capped.ends_with(&text[76_000..]));
        assert!(capped.contains("[... 40000 characters left out ...]"), "{}", capped.len());
        assert_eq!(cap_tokens("short", 2), "short");
        assert_eq!(cap_bytes("short", 5), "short");
    }

    #[test]
    fn unreadable_signs_go() {
        assert_eq!(readable("a\r\nb\rc\u{1b}[1m\0\td"), "a\nb\nc\u{fffd}[1m\u{fffd}\td");
    }

    proptest! {
        #[test]
        fn caps_hold(text in "\\PC{0,400}", max in 1_usize..300) {
            let capped = cap_bytes(&text, max + 80);
            prop_assert!(capped.len() <= max + 80);
            prop_assert!(tokens(&cap_tokens(&text, 10)) <= 10 + 14);
            prop_assert_eq!(pieces(&text, max).collect::<String>(), text.clone());
            prop_assert!(pieces(&text, max).all(|p| !p.is_empty() && p.len() <= max.max(4)));
        }
    }
}
