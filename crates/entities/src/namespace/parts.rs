//! An apply that is larger than a message comes in parts, and is decided when all are there.
//!
//! Parts are kept in memory alone: an activation that lost them refuses the next one, and
//! nothing happened.

use std::collections::VecDeque;

use troupe_types::Uuid;

use super::address::NamespaceAsk;

/// Bytes of a part. As text within a text it has twice as many at most.
const PART_BYTES: usize = 120 * 1024;
/// Largest apply in parts.
const APPLY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Applies whose parts are kept at once.
const KEPT_MAX: usize = 4;

/// The messages that bring this text.
pub(super) fn of(text: &str) -> impl Iterator<Item = NamespaceAsk> {
    let of = Uuid::new_v4();
    let mut rest = text;
    (0..).map_while(move |part| {
        if rest.is_empty() {
            return None;
        }
        let (head, tail) = rest.split_at(rest.floor_char_boundary(PART_BYTES));
        rest = tail;
        Some(NamespaceAsk::ApplyPart { of, part, is_last: tail.is_empty(), text: head.into() })
    })
}

/// What came of applies so far.
#[derive(Debug, Default)]
pub(super) struct Parts(VecDeque<Kept>);

#[derive(Debug)]
struct Kept {
    of: Uuid,
    next: usize,
    text: String,
}

/// What becomes of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// More are to come.
    Held,
    /// All are there.
    Whole(String),
    /// One before it is missing.
    Torn,
    /// It is too much.
    TooLarge,
}

impl Parts {
    pub(super) fn put(&mut self, of: Uuid, part: usize, is_last: bool, text: &str) -> Put {
        let at = self.0.iter().position(|kept| kept.of == of);
        let mut kept = match at.and_then(|at| self.0.remove(at)) {
            None if part == 0 => Kept { of, next: 0, text: String::new() },
            Some(kept) if kept.next == part => kept,
            _ => return Put::Torn,
        };
        if kept.text.len() + text.len() > APPLY_BYTES_MAX {
            return Put::TooLarge;
        }
        kept.text.push_str(text);
        if is_last {
            return Put::Whole(kept.text);
        }
        kept.next += 1;
        self.0.push_back(kept);
        if self.0.len() > KEPT_MAX {
            self.0.pop_front();
        }
        Put::Held
    }
}

#[cfg(test)]
mod tests {
    use troupe_types::limits::ENTRY_BYTES_MAX;

    use super::*;

    fn put(parts: &mut Parts, ask: &NamespaceAsk) -> Put {
        let NamespaceAsk::ApplyPart { of, part, is_last, text } = ask else { panic!("{ask:?}") };
        parts.put(*of, *part, *is_last, text)
    }

    #[test]
    fn parts_are_messages_and_make_the_whole() {
        let text = "\"\\团".repeat(100_000);
        let asks: Vec<NamespaceAsk> = of(&text).collect();
        for ask in &asks {
            assert!(serde_json::to_vec(ask).unwrap().len() <= ENTRY_BYTES_MAX);
        }
        let (last, before) = asks.split_last().unwrap();
        let mut parts = Parts::default();
        assert!(before.iter().all(|ask| put(&mut parts, ask) == Put::Held));
        assert_eq!(put(&mut parts, last), Put::Whole(text));
        assert!(parts.0.is_empty());
        assert_eq!(put(&mut parts, last), Put::Torn, "it is not there twice");
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_torn_apply_is_told() {
        let text = "x".repeat(PART_BYTES * 3);
        let applies: Vec<Vec<NamespaceAsk>> = (0..=KEPT_MAX).map(|_| of(&text).collect()).collect();
        let mut parts = Parts::default();
        for asks in &applies {
            assert_eq!(put(&mut parts, &asks[0]), Put::Held);
        }
        assert_eq!(put(&mut parts, &applies[0][1]), Put::Torn, "the oldest made room");
        assert_eq!(put(&mut parts, &applies[1][2]), Put::Torn, "one is missing");
        assert_eq!(put(&mut parts, &applies[1][1]), Put::Torn, "and it is given up");
        assert_eq!(put(&mut parts, &applies[2][1]), Put::Held);
        let endless: Vec<NamespaceAsk> = of(&"x".repeat(APPLY_BYTES_MAX + 1)).collect();
        let (last, before) = endless.split_last().unwrap();
        assert!(before.iter().all(|ask| put(&mut parts, ask) == Put::Held));
        assert_eq!(put(&mut parts, last), Put::TooLarge);
    }
}
