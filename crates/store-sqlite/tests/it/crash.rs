//! kill -9 of a real process: what it acked is there. Also with a file layer that forgets what
//! was not synced, as a power failure does, and with syncs that fail.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    num::NonZeroUsize,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::task::JoinSet;
use troupe_store::{Entry, JournalStore, Opened};
use troupe_store_sqlite::{SqliteOptions, SqliteStore, Synchronous, forgetful};
use troupe_types::{EntityId, EntityKind, FrameSeq, Seq, Uuid, limits::APPENDS_IN_FLIGHT_MAX};

const ENTITIES: u64 = 12;
/// Rounds on the system's files, and on files whose syncs fail.
const KILLS: u64 = 10;
/// Rounds on files that forget what was not synced.
const POWER_FAILURES: u64 = 20;

/// What the killed process writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    /// The system's files: a killed process leaves its writes to the kernel.
    Kernel,
    /// Files that forget what was not synced.
    Forgetful,
    /// The same, and now and then a sync fails.
    Failing,
    /// Files that forget, and a store that never syncs.
    NeverSynced,
}

impl Disk {
    const ALL: [Self; 4] = [Self::Kernel, Self::Forgetful, Self::Failing, Self::NeverSynced];

    fn options(self) -> SqliteOptions {
        let file_layer = (self != Self::Kernel).then(|| forgetful::NAME.to_owned());
        let off = self == Self::NeverSynced;
        let synchronous = if off { Synchronous::Off } else { Synchronous::Full };
        SqliteOptions { file_layer, synchronous, ..options() }
    }
}

/// Entries move on early, so that kills come between all kinds of transactions.
fn options() -> SqliteOptions {
    SqliteOptions { recent_rows_max: NonZeroUsize::new(300).unwrap(), ..SqliteOptions::default() }
}

fn id(n: u64) -> EntityId {
    // Two of three keep an archive.
    let kind = if n % 3 == 2 { EntityKind::Namespace } else { EntityKind::Task };
    EntityId { kind, id: Uuid::from_u128(u128::from(n)) }
}

/// What entry `seq` of entity `n` says, in whatever round it is written.
fn entry(n: u64, seq: u64) -> Entry {
    let body = format!("{n}:{seq}:").repeat(1 + (seq % 40) as usize);
    Entry { seq: Seq(seq), first_frame: FrameSeq(seq), frames: 1, body: Bytes::from(body) }
}

/// The fold: the last entry it covers.
fn state(n: u64, upto: u64) -> Bytes {
    Bytes::from(format!("state of {n} at {upto}"))
}

/// Opens a journal and checks all of it: live, archived, the snapshot. Returns its head.
async fn check(store: &SqliteStore, n: u64) -> Opened {
    let opened = loop {
        match store.open(id(n), store.epoch()).await {
            Ok(opened) => break opened,
            // After a failed sync, until the database could be opened anew.
            Err(e) if e.is_transient() => tokio::task::yield_now().await,
            Err(e) => panic!("{n}: {e:?}"),
        }
    };
    let upto = opened.snapshot.as_ref().map_or(0, |snapshot| snapshot.upto.0);
    if let Some(snapshot) = &opened.snapshot {
        assert_eq!(snapshot.state, state(n, upto));
    }
    let tail: Vec<_> = (upto + 1..=opened.head.0).map(|seq| entry(n, seq)).collect();
    assert_eq!(opened.tail, tail, "live entries of {n}");
    if id(n).kind.archives() {
        let all: Vec<_> = (1..=upto).map(|seq| entry(n, seq)).collect();
        let read = store.read_archive(id(n), FrameSeq(1), usize::MAX).await.unwrap();
        assert_eq!(read, all, "archived entries of {n}");
    }
    opened
}

/// Appends to one entity for ever, four at a time, with a snapshot now and then; says what
/// was acked. Returns when an append fails.
async fn write(store: &SqliteStore, n: u64, acks: &AtomicU64) {
    let at = Arc::new(check(store, n).await);
    // What was read counts as acked: it must not vanish any more.
    ack(n, at.head.0);
    let mut calls = JoinSet::new();
    let mut next = at.head.0 + 1;
    loop {
        while calls.len() < APPENDS_IN_FLIGHT_MAX {
            let (store, at) = (store.clone(), Arc::clone(&at));
            let new: Vec<_> = (next..=next + next % 3).map(|seq| entry(n, seq)).collect();
            let (first, last) = (next, new[new.len() - 1].seq.0);
            next = last + 1;
            calls.spawn(
                async move { store.append(&at, Seq(first), new, vec![]).await.map(|()| last) },
            );
        }
        let last = match calls.join_next().await.unwrap().unwrap() {
            Ok(last) => last,
            Err(e) if e.is_transient() => return,
            Err(e) => panic!("{e:?}"),
        };
        ack(n, last);
        acks.fetch_add(1, Ordering::SeqCst);
        if last % 20 == 0 {
            match store.snapshot(&at, Seq(last), state(n, last)).await {
                Err(e) if !e.is_transient() => panic!("{e:?}"),
                Ok(()) | Err(_) => {}
            }
        }
    }
}

fn ack(n: u64, last: u64) {
    // One write, so that lines of several tasks and the end do not mix.
    std::io::stdout().write_all(format!("\nack {n} {last}\n").as_bytes()).unwrap();
}

/// Lets a sync fail now and then, now of the WAL, now of the database.
async fn fail_syncs(dir: &Path, acks: &AtomicU64) {
    for round in 1u64.. {
        while acks.load(Ordering::SeqCst) < round * 60 {
            tokio::task::yield_now().await;
        }
        let file = if round.is_multiple_of(3) { "troupe.db" } else { "troupe.db-wal" };
        forgetful::fail_syncs(&dir.join(file), 1);
    }
}

/// The process that is killed: the parent writes the data directory and the kind of disk to
/// its standard input.
#[test]
#[ignore = "started by the other tests of this file"]
fn child() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let Some((disk, dir)) = line.trim().split_once(' ') else {
        return; // Run by hand: there is nobody to write for.
    };
    let disk = Disk::ALL[disk.parse::<usize>().unwrap()];
    forgetful::register();
    let dir = Path::new(dir).to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    runtime.block_on(async move {
        let store = SqliteStore::open(&dir, &disk.options()).unwrap();
        let acks = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for n in 0..ENTITIES {
            let (store, acks) = (store.clone(), Arc::clone(&acks));
            tasks.spawn(async move {
                loop {
                    write(&store, n, &acks).await;
                    assert_eq!(disk, Disk::Failing, "only there appends fail");
                }
            });
        }
        if disk == Disk::Failing {
            tasks.spawn(async move { fail_syncs(&dir, &acks).await });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
}

fn start_child(disk: Disk, dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{} {}", disk as usize, dir.display()).unwrap();
    child
}

/// Reads acks, kills the process after so many, and reads what it had still said.
fn acks_until_killed(mut child: Child, kill_after: u64) -> HashMap<u64, u64> {
    let mut acked = HashMap::new();
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let mut words = line.split_whitespace();
        if words.next() != Some("ack") {
            continue;
        }
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(n), Some(last)) = (number(), number()) else { continue };
        let highest = acked.entry(n).or_insert(0);
        *highest = last.max(*highest);
        seen += 1;
        if seen == kill_after {
            child.kill().unwrap();
        }
    }
    let ended = child.wait().unwrap();
    assert!(!ended.success(), "it was killed: {ended}");
    assert!(seen >= kill_after, "it acked {seen} before it ended by itself");
    acked
}

/// Kills processes on one directory, and finds everything that they acked.
fn kill_often(disk: Disk, rounds: u64) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut heads = HashMap::new();
    for round in 0..rounds {
        let child = start_child(disk, dir.path());
        let acked = acks_until_killed(child, 50 + round * round * 13 % 700);
        let store = SqliteStore::open(dir.path(), &options()).unwrap();
        for n in 0..ENTITIES {
            let head = runtime.block_on(check(&store, n)).head.0;
            let last = acked.get(&n).copied().unwrap_or(0);
            assert!(head >= last, "round {round}: {n} acked {last}, but ends at {head}");
            assert!(head >= heads.insert(n, head).unwrap_or(0), "round {round}: {n} went back");
        }
        store.abandon();
    }
}

#[test]
fn what_was_acked_survives_kill_9() {
    kill_often(Disk::Kernel, KILLS);
}

#[test]
fn what_was_acked_survives_a_power_failure() {
    kill_often(Disk::Forgetful, POWER_FAILURES);
}

#[test]
fn what_was_acked_or_read_survives_failing_syncs_and_a_power_failure() {
    kill_often(Disk::Failing, KILLS);
}

/// The layer does forget: of a store that never syncs acked entries are missing.
#[test]
fn what_was_acked_without_syncs_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let acked = acks_until_killed(start_child(Disk::NeverSynced, dir.path()), 200);
    let Ok(store) = SqliteStore::open(dir.path(), &options()) else { return };
    let kept = |(n, last): (&u64, &u64)| {
        let opened = runtime.block_on(store.open(id(*n), store.epoch()));
        opened.is_ok_and(|opened| opened.head >= Seq(*last))
    };
    assert!(!acked.iter().all(kept), "nothing was synced, and nothing is missing");
    store.abandon();
}
