//! I4: what was acknowledged is in the log exactly once, and a key has one answer.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Invariant, Logs, Violation};
use crate::history::{Record, What};

/// Verbs whose key stands in a row of the transcript.
const MAKES_ROW: [&str; 2] = ["create", "say"];

/// Checks all keys whose Tasks' logs were read; `logs` without a Task that was acked is fine if
/// `absent` says that it was not read on purpose.
pub(crate) fn check<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    logs: &Logs,
    is_read: impl Fn(&str) -> bool,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut bad = |what: String| found.push(Violation::new(Invariant::I4, what));
    let mut rows: BTreeMap<&str, Vec<(&str, u64, &Value)>> = BTreeMap::new();
    for (task, log) in logs {
        for event in log.frames.iter().filter(|event| event.name == "chat:message") {
            if let Some(key) = event.data["client_message_id"].as_str() {
                let row = (task.as_str(), event.seq, &event.data["subtask_id"]);
                rows.entry(key).or_default().push(row);
            }
        }
    }
    let (mut verbs, mut acks) = (BTreeMap::new(), BTreeMap::new());
    for record in records {
        match &record.what {
            What::Sent { key, verb, .. } => {
                verbs.insert(key.as_str(), *verb);
            }
            What::Acked { key, task, body, .. } => {
                let (first, _) = *acks.entry(key.as_str()).or_insert((body, task.as_str()));
                if first != body {
                    bad(format!("{key} was answered with {first}, then with {body}"));
                }
            }
            What::Refused { key, status, code, .. } if acks.contains_key(key.as_str()) => {
                bad(format!("{key} was acknowledged, then refused: {status} {code}"));
            }
            _ => {}
        }
    }
    let makes_row: BTreeSet<&str> =
        verbs.iter().filter(|(_, verb)| MAKES_ROW.contains(verb)).map(|(key, _)| *key).collect();
    for key in makes_row {
        let there = rows.get(key).map(Vec::as_slice).unwrap_or_default();
        let Some((body, task)) = acks.get(key).copied() else {
            if there.len() > 1 {
                bad(format!("{key} was sent once and is there as {there:?}"));
            }
            continue;
        };
        if !is_read(task) {
            continue;
        }
        let Some(log) = logs.get(task) else {
            bad(format!("{task} of {key} is not there"));
            continue;
        };
        let queued = log.queued.iter().filter(|queued| *queued == key).count();
        if there.len() + queued != 1 || there.iter().any(|(of, ..)| *of != task) {
            bad(format!("{key} of {task} is there as {there:?} and {queued} times in the queue"));
        } else if let Some((_, seq, id)) = there.first()
            && !body["subtask_id"].is_null()
            && body["subtask_id"] != **id
        {
            bad(format!("{key} of {task} was acknowledged as {body}, frame {seq} says {id}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_testkit::client::fold::Event;

    use super::{super::TaskLog, *};

    fn sent(key: &str) -> Record {
        let (key, node) = (key.to_owned(), "n1".to_owned());
        Record { at: 0, what: What::Sent { key, node, verb: "say", task: None } }
    }

    fn acked(key: &str, id: &str) -> Record {
        let body = json!({"task_id": "tsk_a", "subtask_id": id});
        let (key, node, task) = (key.to_owned(), "n1".to_owned(), "tsk_a".to_owned());
        Record { at: 1, what: What::Acked { key, node, task, body } }
    }

    fn logs(rows: &[(&str, &str)], queued: &[&str]) -> Logs {
        let event = |(seq, (key, id)): (u64, &(&str, &str))| {
            let data = json!({"seq": seq, "client_message_id": key, "subtask_id": id});
            Event::new("chat:message", data).unwrap()
        };
        let frames = (1..).zip(rows).map(event).collect();
        let queued = queued.iter().map(|key| (*key).to_owned()).collect();
        Logs::from([("tsk_a".to_owned(), TaskLog { frames, queued })])
    }

    fn verdict(records: &[Record], logs: &Logs) -> usize {
        check(records, logs, |_| true).len()
    }

    #[test]
    fn a_message_that_is_there_once_is_well() {
        let history = [sent("k1"), acked("k1", "msg_1"), sent("k1"), acked("k1", "msg_1")];
        assert_eq!(verdict(&history, &logs(&[("k1", "msg_1")], &[])), 0);
        assert_eq!(verdict(&history, &logs(&[], &["k1"])), 0);
        assert_eq!(verdict(&[sent("k1")], &logs(&[], &[])), 0, "nobody promised it");
        assert_eq!(verdict(&[sent("k1")], &logs(&[("k1", "msg_1")], &[])), 0);
    }

    #[test]
    fn lost_and_doubled_messages_are_found() {
        let history = [sent("k1"), acked("k1", "msg_1")];
        assert_eq!(verdict(&history, &logs(&[], &[])), 1, "lost");
        assert_eq!(verdict(&history, &Logs::new()), 1, "the whole Task is lost");
        let twice = logs(&[("k1", "msg_1"), ("k1", "msg_2")], &[]);
        assert_eq!(verdict(&history, &twice), 1, "there twice");
        assert_eq!(verdict(&[sent("k1")], &twice), 1, "never acknowledged, there twice");
        let both = logs(&[("k1", "msg_1")], &["k1"]);
        assert_eq!(verdict(&history, &both), 1, "in the queue as well");
        assert_eq!(verdict(&history, &logs(&[("k1", "msg_9")], &[])), 1, "another row");
    }

    #[test]
    fn an_answer_that_changes_is_found() {
        let log = logs(&[("k1", "msg_1")], &[]);
        let history = [sent("k1"), acked("k1", "msg_1"), acked("k1", "msg_2")];
        assert_eq!(verdict(&history, &log), 1);
        let (key, node) = ("k1".to_owned(), "n2".to_owned());
        let refused = What::Refused { key, node, status: 404, code: "not_found".to_owned() };
        let history = [sent("k1"), acked("k1", "msg_1"), Record { at: 2, what: refused }];
        assert_eq!(verdict(&history, &log), 1);
    }
}
