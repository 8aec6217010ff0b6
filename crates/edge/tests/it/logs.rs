//! The log of an attempt: torn, damaged, full, trimmed.

use std::{fs, path::Path};

use bytes::Bytes;
use proptest::prelude::*;
use troupe_domain::task::RunEvent;
use troupe_edge::outbox::{Accepted, Ended, ExecutionLog, LogError, Record, StoredInput};
use troupe_executor::Grant;
use troupe_types::{Block, BlockKind, BlockPatch, BlockStatus, OutSeq, TaskId, Timestamp, Uuid};

fn accepted() -> Record {
    Record::Accepted(Accepted {
        task: TaskId::new(Timestamp::from_millis(1_795_000_000_000)),
        team: "a/b".to_owned(),
        user: "ada".to_owned(),
        spec: "{}".to_owned(),
        secrets: false,
        waits: false,
    })
}

fn body(n: u64, len: usize) -> Bytes {
    let mut text = format!("\"{n}:");
    while text.len() < len {
        text.push('x');
    }
    text.push('"');
    Bytes::from(text)
}

fn filled(dir: &Path, outputs: u64) -> ExecutionLog {
    let mut log = ExecutionLog::create(dir, &accepted()).unwrap();
    log.append(&Record::Session("s-1".to_owned())).unwrap();
    for n in 1..=outputs {
        assert_eq!(log.append_output(body(n, 40)).unwrap(), OutSeq(n));
    }
    let input = StoredInput { id: Uuid::from_u128(7), cancel: false, always: None };
    log.append(&Record::Input(input)).unwrap();
    log.sync().unwrap();
    log
}

/// Every output from `from` on is what was written.
fn check(log: &mut ExecutionLog, from: u64) -> u64 {
    let mut next = OutSeq(from);
    loop {
        let read = log.read(next, 300).unwrap();
        if read.is_empty() {
            return next.0 - 1;
        }
        for (seq, found) in read {
            assert_eq!(seq, next);
            assert_eq!(found, body(seq.0, 40), "{seq}");
            next = next.next();
        }
    }
}

#[test]
fn a_log_cut_at_any_byte_is_a_shorter_log() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    drop(filled(&source, 12));
    let whole = fs::read(source.join("00000001.log")).unwrap();
    for cut in 0..=whole.len() {
        let copy = dir.path().join(format!("cut-{cut}"));
        fs::create_dir(&copy).unwrap();
        fs::write(copy.join("00000001.log"), &whole[..cut]).unwrap();
        let Some(mut log) = ExecutionLog::open(&copy).unwrap() else {
            assert!(cut < 200, "nothing left of {cut} bytes");
            continue;
        };
        let last = check(&mut log, 1);
        assert_eq!(log.fold().last, OutSeq(last));
        // It goes on without a gap.
        assert_eq!(log.append_output(body(last + 1, 40)).unwrap(), OutSeq(last + 1));
        log.sync().unwrap();
        drop(log);
        let mut log = ExecutionLog::open(&copy).unwrap().unwrap();
        assert_eq!(check(&mut log, 1), last + 1);
    }
}

#[test]
fn a_log_damaged_at_any_byte_never_says_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    drop(filled(&source, 6));
    let whole = fs::read(source.join("00000001.log")).unwrap();
    let (mut refused, mut shorter) = (0, 0);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let copy = dir.path().join(format!("bad-{at}"));
        fs::create_dir(&copy).unwrap();
        fs::write(copy.join("00000001.log"), &bytes).unwrap();
        match ExecutionLog::open(&copy) {
            Err(LogError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
            // Only the very last record can pass for torn.
            Ok(log) => {
                let mut log = log.unwrap();
                assert_eq!(check(&mut log, 1), 6, "byte {at}");
                assert!(log.fold().inputs.is_empty(), "byte {at}");
                shorter += 1;
            }
        }
    }
    assert!(refused > 400 && shorter > 0 && shorter < 80, "{refused} {shorter}");
}

#[test]
fn acknowledged_segments_go_and_what_they_said_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = ExecutionLog::create(&path, &accepted()).unwrap();
    log.append(&Record::Session("s-1".to_owned())).unwrap();
    for n in 1..=5_000 {
        log.append_output(body(n, 1_000)).unwrap();
        if n % 100 == 0 {
            let (freed, done) = log.ack(OutSeq(n - 50));
            done.unwrap();
            assert!(freed > 0);
            log.sync().unwrap();
        }
    }
    let files = || fs::read_dir(&path).unwrap().count();
    assert!(files() <= 3, "{}", files());
    assert!(log.waiting_bytes() < 60 * 1_100, "{}", log.waiting_bytes());
    drop(log);
    let mut log = ExecutionLog::open(&path).unwrap().unwrap();
    assert_eq!((log.fold().last, log.fold().acked), (OutSeq(5_000), OutSeq(4_950)));
    assert_eq!(log.fold().session.as_deref(), Some("s-1"));
    assert_eq!(log.read(OutSeq(1), 10).unwrap()[0].0, OutSeq(4_951));
    log.ack(OutSeq(5_000)).1.unwrap();
    log.append(&Record::Ended(Ended::Finished, String::new())).unwrap();
    log.sync().unwrap();
    assert_eq!(files(), 1);
    drop(log);
    let log = ExecutionLog::open(&path).unwrap().unwrap();
    assert_eq!(log.fold().ended, Some((Ended::Finished, String::new())));
    log.remove().unwrap();
    assert!(!path.exists());
}

/// How many segments there ever were.
fn newest(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let number = |name: std::ffi::OsString| name.to_str().unwrap()[..8].parse().unwrap();
    names.map(number).max().unwrap()
}

/// A long job goes into every segment, so a new one must be worth it.
#[test]
fn a_long_checkpoint_is_written_seldom() {
    for (spec, outputs) in [(400 * 1024, 300), (1_200 * 1024, 300)] {
        let dir = tempfile::tempdir().unwrap();
        let Record::Accepted(mut job) = accepted() else { unreachable!() };
        job.spec = "x".repeat(spec);
        let mut log = ExecutionLog::create(dir.path(), &Record::Accepted(job)).unwrap();
        for n in 1..=outputs {
            log.append_output(body(n, 2_000)).unwrap();
            log.ack(OutSeq(n)).1.unwrap();
        }
        log.sync().unwrap();
        assert!(newest(dir.path()) <= 4, "{spec}: {} segments", newest(dir.path()));
        drop(log);
        let log = ExecutionLog::open(dir.path()).unwrap().unwrap();
        assert_eq!((log.fold().last, log.fold().acked), (OutSeq(outputs), OutSeq(outputs)));
    }
}

/// A segment goes before the mark that allows it is written, and then the machine stops.
#[test]
fn a_segment_that_is_gone_counts_as_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecutionLog::create(dir.path(), &accepted()).unwrap();
    for n in 1..=3_000 {
        log.append_output(body(n, 1_000)).unwrap();
    }
    log.sync().unwrap();
    drop(log);
    let names = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut left: Vec<_> = names().collect();
    left.sort();
    assert_eq!(left.len(), 3);
    let mut acked = 0;
    for gone in &left[..2] {
        fs::remove_file(gone).unwrap();
        let mut log = ExecutionLog::open(dir.path()).unwrap().unwrap();
        assert_eq!(log.fold().last, OutSeq(3_000));
        assert!(log.fold().acked.0 > acked + 500, "{}", log.fold().acked);
        acked = log.fold().acked.0;
        for seq in [acked + 1, 3_000] {
            assert_eq!(log.read(OutSeq(seq), 1).unwrap()[0], (OutSeq(seq), body(seq, 1_000)));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Ack(u64),
    Reopen,
    Tear(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1_usize..40).prop_map(Step::Append),
        3 => (0_u64..60).prop_map(Step::Ack),
        1 => Just(Step::Reopen),
        1 => (1_usize..2_000).prop_map(Step::Tear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens between syncs: what was synced and not acknowledged is there, in order.
    #[test]
    fn what_was_synced_is_kept(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = ExecutionLog::create(&path, &accepted()).unwrap();
        log.sync().unwrap();
        let (mut synced, mut acked) = (0_u64, 0_u64);
        for step in steps {
            match step {
                Step::Append(n) => {
                    for _ in 0..n {
                        let next = log.fold().last.0 + 1;
                        log.append_output(body(next, 4_000)).unwrap();
                    }
                    log.sync().unwrap();
                    synced = log.fold().last.0;
                }
                Step::Ack(n) => {
                    acked = (acked + n).min(synced);
                    log.ack(OutSeq(acked)).1.unwrap();
                    log.sync().unwrap();
                }
                Step::Reopen => {
                    drop(log);
                    log = ExecutionLog::open(&path).unwrap().unwrap();
                }
                // Written, not synced, and then the power went.
                Step::Tear(len) => {
                    drop(log);
                    let mut names: Vec<_> =
                        fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).collect();
                    names.sort();
                    let last = names.pop().unwrap();
                    let mut bytes = fs::read(&last).unwrap();
                    bytes.extend((0..len).map(|n| u8::try_from(n % 251).unwrap()));
                    fs::write(&last, bytes).unwrap();
                    log = ExecutionLog::open(&path).unwrap().unwrap();
                }
            }
            prop_assert_eq!(log.fold().last, OutSeq(synced));
            prop_assert_eq!(log.fold().acked, OutSeq(acked));
            if acked < synced {
                let read = log.read(OutSeq(acked + 1), 1).unwrap();
                prop_assert_eq!(&read[0], &(OutSeq(acked + 1), body(acked + 1, 4_000)));
                let read = log.read(OutSeq(synced), 1).unwrap();
                prop_assert_eq!(&read[0], &(OutSeq(synced), body(synced, 4_000)));
            }
        }
    }
}

/// What a runtime says when it asks.
fn asks(name: &str, command: &str) -> Bytes {
    let kind = serde_json::json!({"type": "approval",
        "always": {"tool": "Bash", "command": command}});
    let serde_json::Value::Object(kind) = kind else { unreachable!() };
    let block = Block {
        id: String::new(),
        status: BlockStatus::Pending,
        kind: BlockKind::Other(kind),
        timestamp: 0,
        parent_tool_use_id: None,
    };
    event(&RunEvent::Block { block, name: name.to_owned() })
}

fn event(event: &RunEvent) -> Bytes {
    Bytes::from(serde_json::to_vec(event).unwrap())
}

/// A person said "always": it holds for the runtime that goes on with the attempt, too.
#[test]
fn what_was_allowed_for_good_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecutionLog::create(dir.path(), &accepted()).unwrap();
    let answer = |id: u128, name: &str| {
        let always = Some(name.to_owned());
        Record::Input(StoredInput { id: Uuid::from_u128(id), cancel: false, always })
    };
    log.append_output(asks("a", "make")).unwrap();
    log.append_output(asks("b", &"x".repeat(4_000))).unwrap();
    log.append_output(asks("c", "rm x")).unwrap();
    let done = BlockPatch { status: Some(BlockStatus::Done), ..BlockPatch::default() };
    let done = RunEvent::BlockChanged { name: "c".to_owned(), patch: done };
    log.append_output(event(&done)).unwrap();
    for (id, name) in [(1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "unknown")] {
        log.append(&answer(id, name)).unwrap();
    }
    log.sync().unwrap();
    drop(log);
    let log = ExecutionLog::open(dir.path()).unwrap().unwrap();
    let grant = Grant { tool: "Bash".to_owned(), command: Some("make".to_owned()) };
    assert_eq!(log.fold().grants, [grant], "too long, over, or never asked: the others");
}
