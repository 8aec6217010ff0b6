//! The last line that an agent said, for lists. Only what is committed comes here, so a list
//! never shows what can be lost.

use std::time::Duration;

use troupe_domain::task::TaskEntry;
use troupe_types::{FrameBody, MessageId, MonoTime};

/// Longest line that is kept, in bytes; lists show 200 characters.
const BYTES_MAX: usize = 800;
/// While text streams, a list is told this often at most.
const APART: Duration = Duration::from_secs(2);

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct LastLine {
    of: Option<MessageId>,
    /// The line that grows.
    growing: String,
    /// The one before it, shown until the growing one says something.
    before: String,
    told: Option<MonoTime>,
}

impl LastLine {
    /// An entry was committed. Whether it said something.
    pub(super) fn committed(&mut self, entry: &TaskEntry) -> bool {
        let mut spoke = false;
        for frame in &entry.frames {
            match &frame.body {
                FrameBody::Text(text) if !text.late => {
                    self.say(text.message, &text.content);
                    spoke = true;
                }
                // What was said is taken back.
                FrameBody::Edited(_) => *self = Self { told: self.told, ..Self::default() },
                _ => {}
            }
        }
        spoke
    }

    fn say(&mut self, message: MessageId, text: &str) {
        if self.of.replace(message) != Some(message) {
            self.end_line();
        }
        let mut lines = text.split('\n');
        self.grow(lines.next().unwrap_or_default());
        for line in lines {
            self.end_line();
            self.grow(line);
        }
    }

    fn end_line(&mut self) {
        let ended = std::mem::take(&mut self.growing);
        if says_something(&ended) {
            self.before = ended;
        }
    }

    fn grow(&mut self, text: &str) {
        let room = BYTES_MAX.saturating_sub(self.growing.len());
        if room < char::MAX.len_utf8() {
            // Where a character did not fit before, a shorter one would follow upon a gap.
            return;
        }
        self.growing.push_str(&text[..text.floor_char_boundary(room)]);
    }

    /// `None`: nothing was said since the snapshot that this activation began with.
    pub(super) fn shown(&self) -> Option<&str> {
        let said = [&self.growing, &self.before].into_iter().find(|line| says_something(line));
        said.map(|line| line.trim())
    }

    /// Whether a list that shows it is to be told.
    pub(super) fn is_due(&mut self, now: MonoTime) -> bool {
        let due = self.told.is_none_or(|told| now.since(told) >= APART);
        if due {
            self.told = Some(now);
        }
        due
    }
}

/// Neither blank nor a fence of code.
fn says_something(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("```") && !line.starts_with("~~~")
}

#[cfg(test)]
mod tests {
    use troupe_types::Uuid;

    use super::*;

    fn after(pieces: &[(u128, &str)]) -> Option<String> {
        let mut last = LastLine::default();
        for (message, text) in pieces {
            last.say(MessageId::from_uuid(Uuid::from_u128(*message)), text);
        }
        last.shown().map(str::to_owned)
    }

    #[test]
    fn it_is_the_last_line_that_says_something_however_text_is_cut() {
        let text = "First.\n\n```rust\nfn main() {}\n```\n\n  ";
        for cut in 0..=text.len() {
            let (head, tail) = text.split_at(cut);
            assert_eq!(after(&[(1, head), (1, tail)]).as_deref(), Some("fn main() {}"), "{cut}");
        }
        assert_eq!(after(&[(1, "a\nb"), (1, "c")]).as_deref(), Some("bc"));
        assert_eq!(after(&[(1, " \n```\n")]), None);
        assert_eq!(after(&[]), None);
    }

    #[test]
    fn another_message_begins_another_line() {
        assert_eq!(after(&[(1, "one"), (2, "two")]).as_deref(), Some("two"));
        assert_eq!(after(&[(1, "one"), (2, "\n")]).as_deref(), Some("one"));
    }

    #[test]
    fn a_line_without_end_is_kept_in_part() {
        let kept = after(&[(1, &"字".repeat(5_000)), (1, "more")]).unwrap();
        assert_eq!(kept, "字".repeat(266));
    }

    #[test]
    fn lists_are_told_now_and_then() {
        let mut last = LastLine::default();
        let at = |millis| MonoTime::ZERO.plus(Duration::from_millis(millis));
        let told: Vec<bool> =
            [0, 1_999, 2_000, 2_001, 4_000].map(|now| last.is_due(at(now))).into();
        assert_eq!(told, [true, false, true, false, true]);
    }
}
