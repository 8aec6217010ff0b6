//! I9: what an attempt ended as it stays; nothing of it comes afterwards but what is marked late.

use std::collections::BTreeMap;

use troupe_testkit::client::fold::Event;

use super::{Invariant, Logs, Violation};

const ENDS: [&str; 3] = ["chat:done", "chat:error", "chat:cancelled"];
/// What may follow an end: a result that was on its way settles its block, usage is counted.
const MAY_FOLLOW: [&str; 3] = ["chat:usage", "chat:block_updated", "chat:status_updated"];

pub(crate) fn check(logs: &Logs) -> Vec<Violation> {
    logs.iter().flat_map(|(task, log)| task_ends(task, &log.frames)).collect()
}

fn task_ends(task: &str, frames: &[Event]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut ended: BTreeMap<(&str, u64), &Event> = BTreeMap::new();
    for event in frames {
        let Some(id) = event.data["subtask_id"].as_str() else { continue };
        let Some(attempt) = event.data["attempt"].as_u64() else { continue };
        let is_end = ENDS.contains(&event.name.as_str());
        if let Some(end) = ended.get(&(id, attempt)) {
            let may = event.data["late"] == true || MAY_FOLLOW.contains(&event.name.as_str());
            if is_end || !may {
                let what = format!(
                    "{task}: attempt {attempt} of {id} ended with {} ({}), then came {} ({})",
                    end.name, end.seq, event.name, event.seq
                );
                found.push(Violation::new(Invariant::I9, what));
            }
        } else if is_end {
            ended.insert((id, attempt), event);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::TaskLog, *};

    fn verdict(events: &[(&str, u64, Value)]) -> usize {
        let event = |(seq, (name, attempt, more)): (u64, &(&str, u64, Value))| {
            let mut data = more.clone();
            data["seq"] = seq.into();
            data["attempt"] = (*attempt).into();
            data["subtask_id"] = "msg_a".into();
            Event::new(name, data).unwrap()
        };
        let frames = (1..).zip(events).map(event).collect();
        let log = TaskLog { frames, queued: Vec::new() };
        check(&Logs::from([("tsk_a".to_owned(), log)])).len()
    }

    #[test]
    fn attempts_that_follow_one_another_are_well() {
        let lost = json!({"type": "lost", "continues": true});
        assert_eq!(
            verdict(&[
                ("chat:start", 1, json!({})),
                ("chat:error", 1, lost),
                ("chat:start", 2, json!({})),
                ("chat:chunk", 1, json!({"late": true})),
                ("chat:done", 2, json!({})),
                ("chat:usage", 2, json!({})),
            ]),
            0
        );
    }

    #[test]
    fn life_after_an_end_is_found() {
        for (after, more) in [
            ("chat:chunk", json!({})),
            ("chat:start", json!({})),
            ("chat:done", json!({})),
            ("chat:error", json!({"late": true})),
        ] {
            let events = [("chat:start", 1, json!({})), ("chat:cancelled", 1, json!({}))];
            let mut events = events.to_vec();
            events.push((after, 1, more));
            assert_eq!(verdict(&events), 1, "{after}");
        }
    }
}
