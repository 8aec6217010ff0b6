//! Journal records: what lies on a disk may be anything.

use troupe_domain::{
    device::{DeviceEvent, DeviceState},
    namespace::{NamespaceEntry, NamespaceState},
    task::{History, TaskEntry, TaskState, Transcript},
};
use troupe_records::{decode, encode, never_upgrades};

/// Version of all records so far.
pub(crate) const VERSION: u8 = 1;

/// Lines are records: a snapshot or none, then entries. Whatever decodes is folded, and the
/// fold is asked everything that a reader asks. A record itself holds no line break.
///
/// # Panics
/// If a fold panics, or if a folded state cannot be written and read again.
pub fn run(bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    task(&lines);
    namespace(&lines);
    device(&lines);
}

fn device(lines: &[&[u8]]) {
    let snapshot = lines.iter().find_map(|line| decode(VERSION, line, never_upgrades).ok());
    let mut events = lines
        .iter()
        .filter_map(|line| decode::<DeviceEvent>(VERSION, line, never_upgrades).ok())
        .peekable();
    if snapshot.is_none() && events.peek().is_none() {
        return;
    }
    let mut state: DeviceState = snapshot.unwrap_or_default();
    events.for_each(|event| state.apply(&event));
    let record = encode(VERSION, &state).expect("a state has a JSON form");
    let again: DeviceState =
        decode(VERSION, &record, never_upgrades).expect("a written state reads again");
    assert_eq!(again, state, "a snapshot changed the state");
}

fn task(lines: &[&[u8]]) {
    let snapshot = lines.iter().find_map(|line| decode(VERSION, line, never_upgrades).ok());
    let entries: Vec<TaskEntry> =
        lines.iter().filter_map(|line| decode(VERSION, line, never_upgrades).ok()).collect();
    if snapshot.is_none() && entries.is_empty() {
        return;
    }
    let mut state: TaskState = snapshot.unwrap_or_default();
    let (mut transcript, mut history) = (Transcript::new(), History::new());
    for entry in &entries {
        state.apply(entry);
        history.fold(entry);
        entry.frames.iter().for_each(|frame| transcript.fold(frame));
        read(&state, &transcript, &history);
    }
    read(&state, &transcript, &history);
    let record = encode(VERSION, &state).expect("a state has a JSON form");
    let again: TaskState =
        decode(VERSION, &record, never_upgrades).expect("a written state reads again");
    assert_eq!(again, state, "a snapshot changed the state");
}

/// Everything that a reader asks a Task.
fn read(state: &TaskState, transcript: &Transcript, history: &History) {
    let _view = (state.view(), state.outline(), state.stage_frame(), state.wait().cloned());
    let _work = (state.queued_attempts(), state.live_attempts(), state.wants_slot());
    let _words = state.describe_executions();
    let _rows = (transcript.turns(), transcript.streaming());
    if let Some(plan) = state.plan() {
        for execution in &state.executions {
            let _prompt = history.conversation(plan, execution.id);
        }
    }
}

fn namespace(lines: &[&[u8]]) {
    let snapshot = lines.iter().find_map(|line| decode(VERSION, line, never_upgrades).ok());
    let mut entries = lines
        .iter()
        .filter_map(|line| decode::<NamespaceEntry>(VERSION, line, never_upgrades).ok())
        .peekable();
    if snapshot.is_none() && entries.peek().is_none() {
        return;
    }
    let mut state: NamespaceState = snapshot.unwrap_or_default();
    entries.for_each(|entry| state.apply(&entry));
    for key in state.items.keys() {
        let _users = state.users_of(key);
    }
    let record = encode(VERSION, &state).expect("a state has a JSON form");
    let again: NamespaceState =
        decode(VERSION, &record, never_upgrades).expect("a written state reads again");
    assert_eq!(again.items.len(), state.items.len(), "a snapshot changed the state");
}
