//! I10: who may not see a Task is told that there is none, whichever node is asked, whatever
//! happens meanwhile.

use super::{Invariant, Violation};
use crate::history::{Record, What};

/// A node that cannot answer says so (5xx, 429, 0 for no answer at all); anything but 404 besides
/// tells too much. `needed`: nobody who never asked has proved anything.
pub(crate) fn check<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    needed: usize,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut told = 0;
    for record in records {
        let What::Peeked { node, task, how, status } = &record.what else { continue };
        match status {
            404 => told += 1,
            0 | 429 | 500.. => {}
            other => {
                let what = format!("{node} answered a stranger's {how} of {task} with {other}");
                found.push(Violation::new(Invariant::I10, what));
            }
        }
    }
    if told < needed {
        let what = format!("only {told} of at least {needed} strangers were told anything");
        found.push(Violation::new(Invariant::I10, what));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peeked(status: u16) -> Record {
        let (node, task) = ("n1".to_owned(), "tsk_a".to_owned());
        Record { at: 0, what: What::Peeked { node, task, how: "get", status } }
    }

    #[test]
    fn whoever_is_shown_something_is_found() {
        assert_eq!(check(&[peeked(404), peeked(503), peeked(0)], 1), []);
        assert_eq!(check(&[peeked(404), peeked(200)], 1).len(), 1);
        assert_eq!(check(&[peeked(404), peeked(403)], 1).len(), 1, "403 says that it exists");
        assert_eq!(check(&[peeked(503)], 1).len(), 1, "nobody was told anything");
    }
}
