//! The last line that an agent said, for lists. Only what is committed comes here, so a list
//! never shows what can be lost.

use std::time::Duration;

use troupe_domain::task::TaskEntry;
use troupe_types::{FrameBody, MessageId, MonoTime};

/// Longest line that is shown, in characters.
const CHARS_MAX: usize = 200;
/// Longest line that is kept, in bytes: room for as many characters of any length.
const BYTES_MAX: usize = 4 * CHARS_MAX;
/// While text streams, a list is told this often at most.
const APART: Duration = Duration::from_secs(2);

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct LastLine {
    /// Something was said, or taken back, since this activation began to listen.
    heard: bool,
    /// Whose line it is while that attempt runs: members that speak at once do not cut each
    /// other's lines to pieces.
    speaker: Option<MessageId>,
    /// The block of text that grows.
    block: String,
    /// The line that grows.
    growing: String,
    /// The one before it, shown until the growing one says something.
    before: String,
    told: Option<MonoTime>,
}

impl LastLine {
    /// An entry was committed. Whether the line changed.
    pub(super) fn committed(&mut self, entry: &TaskEntry) -> bool {
        let mut changed = false;
        for frame in &entry.frames {
            match &frame.body {
                FrameBody::Text(text) if !text.late => {
                    changed |= self.say(text.message, &text.block_id, &text.content);
                }
                // What the attempt before it had not finished is not part of the answer.
                FrameBody::Started(started) if self.speaker == Some(started.message) => {
                    self.growing.clear();
                    if started.offset == 0 {
                        self.before.clear();
                    }
                    changed = true;
                }
                FrameBody::Done(done) => self.is_over(done.message),
                FrameBody::Cancelled(cancelled) => self.is_over(cancelled.message),
                FrameBody::Error(error) if !error.continues => self.is_over(error.message),
                // What was said is taken back.
                FrameBody::Edited(_) => {
                    *self = Self { heard: true, told: self.told, ..Self::default() };
                    changed = true;
                }
                _ => {}
            }
        }
        changed
    }

    /// Somebody else may speak.
    fn is_over(&mut self, message: MessageId) {
        self.speaker.take_if(|speaker| *speaker == message);
    }

    fn say(&mut self, message: MessageId, block: &str, text: &str) -> bool {
        if *self.speaker.get_or_insert(message) != message {
            return false;
        }
        self.heard = true;
        if self.block != block {
            self.end_line();
            block.clone_into(&mut self.block);
        }
        let mut lines = text.split('\n');
        self.grow(lines.next().unwrap_or_default());
        for line in lines {
            self.end_line();
            self.grow(line);
        }
        true
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

    /// Whether [`shown`](Self::shown) says how it is; if not, what was shown before still holds.
    pub(super) const fn is_known(&self) -> bool {
        self.heard
    }

    pub(super) fn shown(&self) -> Option<&str> {
        let said = [&self.growing, &self.before].into_iter().find(|line| says_something(line));
        let line = said?.trim();
        let end = line.char_indices().nth(CHARS_MAX).map_or(line.len(), |(at, _)| at);
        Some(&line[..end])
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
    use serde_json::{Value, json};
    use troupe_types::{Frame, Timestamp, Uuid};

    use super::*;

    fn message(n: u128) -> MessageId {
        MessageId::from_uuid(Uuid::from_u128(n))
    }

    fn say(last: &mut LastLine, of: u128, block: &str, text: &str) {
        last.say(message(of), block, text);
    }

    fn after(pieces: &[&str]) -> Option<String> {
        let mut last = LastLine::default();
        pieces.iter().for_each(|text| say(&mut last, 1, "1.1.1", text));
        last.shown().map(str::to_owned)
    }

    /// A frame of the row `of`.
    fn frame(kind: &str, of: u128, more: &Value) -> Frame {
        let mut body = json!({
            "frame": kind, "subtask_id": message(of), "message_id": 2, "attempt": 1, "removed": [],
            "keeps": 0, "offset": 0, "bot_name": "b", "shell_type": "Chat", "error": "e",
            "where": {"kind": "cluster"}, "type": "lost", "sha256": "",
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = serde_json::from_value(body).unwrap();
        Frame { seq: troupe_types::FrameSeq(1), at: Timestamp::default(), body }
    }

    fn commit(last: &mut LastLine, kind: &str, of: u128, more: &Value) -> bool {
        let frames = vec![frame(kind, of, more)];
        last.committed(&TaskEntry { at: Timestamp::default(), events: Vec::new(), frames })
    }

    #[test]
    fn it_is_the_last_line_that_says_something_however_text_is_cut() {
        let text = "First.\n\n```rust\nfn main() {}\n```\n\n  ";
        for cut in 0..=text.len() {
            let (head, tail) = text.split_at(cut);
            assert_eq!(after(&[head, tail]).as_deref(), Some("fn main() {}"), "{cut}");
        }
        assert_eq!(after(&["a\nb", "c"]).as_deref(), Some("bc"));
        assert_eq!(after(&[" \n```\n"]), None);
        assert_eq!(after(&[]), None);
    }

    #[test]
    fn another_block_begins_another_line() {
        let mut last = LastLine::default();
        say(&mut last, 1, "2.1.1", "Let me check.");
        say(&mut last, 1, "2.1.3", "");
        assert_eq!(last.shown(), Some("Let me check."));
        say(&mut last, 1, "2.1.3", "It is noon.");
        assert_eq!(last.shown(), Some("It is noon."));
    }

    #[test]
    fn who_speaks_is_not_interrupted_until_it_is_over() {
        for end in ["done", "cancelled", "error"] {
            let mut last = LastLine::default();
            say(&mut last, 1, "2.1.1", "One is ");
            say(&mut last, 2, "3.1.1", "Two is ");
            say(&mut last, 1, "2.1.1", "done.");
            assert_eq!(last.shown(), Some("One is done."));
            commit(&mut last, end, 1, &json!({}));
            say(&mut last, 2, "3.1.1", "two.");
            assert_eq!(last.shown(), Some("two."), "{end}");
        }
    }

    #[test]
    fn what_an_attempt_did_not_finish_goes_with_it() {
        for (offset, kept) in [(0, None), (6, Some("Kept."))] {
            let mut last = LastLine::default();
            say(&mut last, 1, "2.1.1", "Kept.\nI look aro");
            commit(&mut last, "error", 1, &json!({"continues": true}));
            assert!(commit(&mut last, "started", 1, &json!({"attempt": 2, "offset": offset})));
            assert_eq!(last.shown(), kept);
            say(&mut last, 1, "2.2.1", "I look around.");
            assert_eq!(last.shown(), Some("I look around."));
        }
    }

    #[test]
    fn an_edit_takes_it_back_for_good() {
        let mut last = LastLine::default();
        assert!(!last.is_known(), "an activation that heard nothing yet");
        say(&mut last, 1, "2.1.1", "A secret.");
        assert!(last.is_known());
        commit(&mut last, "edited", 1, &json!({}));
        assert!(last.is_known());
        assert_eq!(last.shown(), None);
        say(&mut last, 3, "4.1.1", "Something else.");
        assert_eq!(last.shown(), Some("Something else."));
    }

    #[test]
    fn a_line_without_end_is_kept_in_part() {
        assert_eq!(after(&[&"字".repeat(5_000), "more"]).unwrap(), "字".repeat(200));
        assert_eq!(after(&[&"🙂".repeat(5_000), "more"]).unwrap(), "🙂".repeat(200));
        assert_eq!(after(&[&"a".repeat(5_000), "more"]).unwrap(), "a".repeat(200));
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
