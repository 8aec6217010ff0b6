//! I5: what each viewer assembled is the log: no gap, no double, the same content for all.

use std::collections::BTreeMap;

use super::{Invariant, Logs, Violation};
use crate::history::{Record, What, digest};

/// Where a viewer is.
#[derive(Debug, Default)]
struct Seen {
    last: u64,
    open: bool,
}

/// `expected` says of which Tasks every viewer must have reached the head.
pub(crate) fn check<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    logs: &Logs,
    expected: impl Fn(&str) -> bool,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut bad = |what: String| found.push(Violation::new(Invariant::I5, what));
    let digests: BTreeMap<&str, Vec<u64>> = logs
        .iter()
        .map(|(task, log)| {
            let digests = log.frames.iter().map(|event| digest(&event.name, &event.data));
            (task.as_str(), digests.collect())
        })
        .collect();
    for (task, log) in logs {
        for (expected, event) in (1..).zip(&log.frames) {
            if event.seq != expected {
                bad(format!("{task}: frame {} stands where {expected} belongs", event.seq));
                break;
            }
        }
    }
    // Of Tasks whose log was not read: what others were shown.
    let mut shown: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let mut viewers: BTreeMap<(&str, &str), Seen> = BTreeMap::new();
    for record in records {
        match &record.what {
            What::Opened { viewer, task, after, .. } => {
                let seen = viewers.entry((viewer, task)).or_default();
                if *after != seen.last {
                    bad(format!("{viewer} of {task} took up after {after}, not {}", seen.last));
                }
                seen.open = true;
            }
            What::Jumped { viewer, task, to } => {
                viewers.entry((viewer, task)).or_default().last = *to;
            }
            What::Closed { viewer, task, .. } => {
                viewers.entry((viewer, task)).or_default().open = false;
            }
            What::Shown { viewer, task, seq, digest } => {
                let seen = viewers.entry((viewer, task)).or_default();
                if !seen.open || *seq != seen.last + 1 {
                    bad(format!("{viewer} of {task} was shown {seq} after {}", seen.last));
                }
                seen.last = *seq;
                let kept = usize::try_from(seq - 1).ok();
                let kept = kept.and_then(|at| digests.get(task.as_str())?.get(at).copied());
                let kept = kept.unwrap_or(*shown.entry((task, *seq)).or_insert(*digest));
                if kept != *digest {
                    bad(format!("{viewer} of {task} was shown another frame {seq}"));
                }
            }
            _ => {}
        }
    }
    for ((viewer, task), seen) in viewers {
        let Some(log) = logs.get(task) else { continue };
        if seen.last > log.head() {
            bad(format!("{viewer} of {task} saw {}, the log ends at {}", seen.last, log.head()));
        }
        if expected(task) && seen.last < log.head() {
            bad(format!("{viewer} of {task} stopped at {} of {}", seen.last, log.head()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use troupe_testkit::client::fold::Event;

    use super::{super::TaskLog, *};

    fn data(seq: u64, content: &str) -> Value {
        json!({"seq": seq, "content": content})
    }

    fn logs(count: u64) -> Logs {
        let event = |seq| Event::new("chat:chunk", data(seq, "x")).unwrap();
        let frames = (1..=count).map(event).collect();
        Logs::from([("tsk_a".to_owned(), TaskLog { frames, queued: Vec::new() })])
    }

    fn record(what: What) -> Record {
        Record { at: 0, what }
    }

    fn opened(after: u64) -> Record {
        let (viewer, node, task) = ("v".to_owned(), "n1".to_owned(), "tsk_a".to_owned());
        record(What::Opened { viewer, node, task, after })
    }

    fn shown(seq: u64, content: &str) -> Record {
        shown_to("v", seq, content)
    }

    fn shown_to(viewer: &str, seq: u64, content: &str) -> Record {
        let digest = digest("chat:chunk", &data(seq, content));
        record(What::Shown { viewer: viewer.to_owned(), task: "tsk_a".to_owned(), seq, digest })
    }

    fn closed() -> Record {
        let (viewer, task) = ("v".to_owned(), "tsk_a".to_owned());
        record(What::Closed { viewer, task, why: "cut".to_owned() })
    }

    fn verdict(history: &[Record], logs: &Logs) -> usize {
        check(history, logs, |_| true).len()
    }

    #[test]
    fn a_stream_that_is_cut_and_taken_up_is_well() {
        let history = [opened(0), shown(1, "x"), closed(), opened(1), shown(2, "x"), shown(3, "x")];
        assert_eq!(verdict(&history, &logs(3)), 0);
        let jump = record(What::Jumped { viewer: "v".to_owned(), task: "tsk_a".to_owned(), to: 2 });
        assert_eq!(verdict(&[jump, opened(2), shown(3, "x")], &logs(3)), 0);
    }

    #[test]
    fn gaps_doubles_and_strangers_are_found() {
        let log = logs(3);
        let gap = [opened(0), shown(1, "x"), shown(3, "x")];
        assert_eq!(verdict(&gap, &log), 1);
        let double = [opened(0), shown(1, "x"), shown(1, "x"), shown(2, "x"), shown(3, "x")];
        assert_eq!(verdict(&double, &log), 1);
        let other = [opened(0), shown(1, "x"), shown(2, "y"), shown(3, "x")];
        assert_eq!(verdict(&other, &log), 1);
        let beyond = [opened(0), shown(1, "x"), shown(2, "x"), shown(3, "x"), shown(4, "x")];
        assert_eq!(verdict(&beyond, &log), 1);
        let wrong_start = [opened(0), shown(1, "x"), closed(), opened(2), shown(3, "x")];
        assert!(verdict(&wrong_start, &log) > 0);
        let mut holed = logs(3);
        holed.get_mut("tsk_a").unwrap().frames.remove(1);
        assert!(verdict(&[], &holed) > 0, "the log itself");
    }

    #[test]
    fn a_viewer_that_stops_early_is_found_if_the_end_was_to_be_reached() {
        let history = [opened(0), shown(1, "x")];
        assert_eq!(verdict(&history, &logs(2)), 1);
        assert_eq!(check(&history, &logs(2), |_| false), []);
    }

    #[test]
    fn two_viewers_who_see_different_things_are_found_without_a_log() {
        let (viewer, node, task) = ("w".to_owned(), "n2".to_owned(), "tsk_a".to_owned());
        let also = record(What::Opened { viewer, node, task, after: 0 });
        let history = [opened(0), also, shown(1, "x"), shown_to("w", 1, "y")];
        assert_eq!(verdict(&history, &Logs::new()), 1);
    }
}
