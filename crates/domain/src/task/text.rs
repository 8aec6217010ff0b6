//! Measures and cuts of text.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Unicode code points.
pub(crate) fn code_points(text: &str) -> u64 {
    u64::try_from(text.chars().count()).unwrap_or(u64::MAX)
}

/// SHA-256 of UTF-8 text, lower-case hex.
pub(crate) fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The first characters on one line; white space in a row becomes one space.
pub(crate) fn one_line(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    let mut room = chars_max;
    for word in text.split_whitespace() {
        let gap = usize::from(!out.is_empty());
        if room <= gap {
            break;
        }
        if gap == 1 {
            out.push(' ');
            room -= 1;
        }
        let taken: String = word.chars().take(room).collect();
        room -= taken.chars().count();
        out.push_str(&taken);
    }
    out
}

/// [`one_line`] with an ellipsis if anything was left out.
pub(crate) fn title(text: &str, chars_max: usize) -> String {
    let mut line = one_line(text, chars_max);
    if one_line(text, chars_max.saturating_add(1)).chars().count() > chars_max {
        line.truncate(line.trim_end().len());
        line.push('…');
    }
    line
}

/// Bytes of a text inside a JSON string.
pub(crate) fn json_len(text: &str) -> usize {
    text.chars().map(json_cost).sum()
}

fn json_cost(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if u32::from(c) < 0x20 => 6,
        c => c.len_utf8(),
    }
}

/// The longest beginning that takes at most this many bytes inside a JSON string.
pub(crate) fn json_prefix(text: &str, bytes_max: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += json_cost(c);
        if used > bytes_max {
            return &text[..at];
        }
    }
    text
}

/// Cuts a text in place to at most this many bytes, at a character.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let mut at = bytes_max;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.truncate(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_characters() {
        assert_eq!(one_line("  a\n b  ", 80), "a b");
        assert_eq!(one_line("äöü öäü", 5), "äöü ö");
        assert_eq!(one_line("abc def", 4), "abc");
        assert_eq!(title("abc def", 7), "abc def");
        assert_eq!(title("abc def", 4), "abc…");
        let mut text = "ää".to_owned();
        cut(&mut text, 3);
        assert_eq!(text, "ä");
    }

    #[test]
    fn json_lengths_are_those_of_the_encoder() {
        for text in ["", "plain", "\"\\\n\r\t\u{8}\u{c}\u{1}\u{1f}", "漢字🙂\u{7f}"] {
            let encoded = serde_json::to_string(text).expect("text encodes");
            assert_eq!(json_len(text), encoded.len() - 2, "{text:?}");
        }
        assert_eq!(json_prefix("a\nb", 3), "a\n");
        assert_eq!(json_prefix("a\nb", 2), "a");
    }
}
