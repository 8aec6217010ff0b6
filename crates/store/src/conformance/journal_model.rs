//! Random operations on a journal, crashes and superseded activations included, against the
//! simplest model there is: a list of entries that must be there, and of those that may be.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::{task::JoinSet, task::yield_now, time::timeout};
use troupe_types::{EntityId, EntityKind, FrameSeq, Seq};

use super::{Subject, entity};
use crate::{AppendError, Entry, OpenError, Opened, Stores};

/// One step.
#[derive(Clone, Debug)]
pub enum Op {
    /// Up to four appends at once, each of these numbers of entries.
    Append(Vec<u8>),
    /// The same, but the caller is gone after so many polls.
    AppendAndLeave(Vec<u8>, u8),
    /// A snapshot so many entries below the head.
    Snapshot(u8),
    /// Another activation in the same process; the old one stays around.
    Reopen,
    /// The process is killed and another one starts; the old activation stays around.
    Restart,
    /// The oldest activation that is still around tries to append.
    Zombie,
    /// The archive is read from a random place.
    ReadArchive(u8),
}

/// Up to `len` operations, each on one of two entities.
pub fn ops(len: usize) -> impl Strategy<Value = Vec<(bool, Op)>> {
    let sizes = || prop::collection::vec(1..4u8, 1..=4);
    let op = prop_oneof![
        8 => sizes().prop_map(Op::Append),
        4 => (sizes(), 0..12u8).prop_map(|(sizes, polls)| Op::AppendAndLeave(sizes, polls)),
        3 => (0..6u8).prop_map(Op::Snapshot),
        3 => Just(Op::Reopen),
        1 => Just(Op::Restart),
        2 => Just(Op::Zombie),
        2 => any::<u8>().prop_map(Op::ReadArchive),
    ];
    prop::collection::vec((any::<bool>(), op), 1..=len)
}

/// What must and what may be in one journal.
struct Model {
    id: EntityId,
    /// Acked, or seen by an `open`: there for good.
    log: Vec<Entry>,
    /// Of unknown outcome: append by append, in order, directly after `log`.
    doubt: Vec<Vec<Entry>>,
    at: Option<Arc<Opened>>,
    /// Superseded activations, the store each of them was opened in, and the entry that it
    /// would append next.
    zombies: Vec<(Arc<Opened>, Stores, Seq)>,
    /// What superseded activations appended while the journal had no rows. They found none when
    /// they were opened, so nothing of theirs is fenced before somebody's first append: one of
    /// these may be that first append, though it was refused.
    late: Vec<Entry>,
    /// A first append was left or failed: what it sent may still arrive.
    first_is_open: bool,
    /// Where `at` was opened.
    stores: Option<Stores>,
    /// Makes every body different, so that a wrong entry is noticed.
    nonce: u64,
}

/// Runs the operations and panics where a guarantee is broken.
pub async fn run(subject: &mut dyn Subject, ops: &[(bool, Op)]) {
    let mut models = [Model::new(EntityKind::Task), Model::new(EntityKind::Namespace)];
    for (which, op) in ops {
        if matches!(op, Op::Restart) {
            for model in &mut models {
                model.supersede();
            }
            subject.restart().await;
            continue;
        }
        models[usize::from(*which)].step(&subject.stores(), op).await;
    }
    subject.restart().await;
    for model in &mut models {
        model.reopen(&subject.stores()).await;
        let (stores, from) = (subject.stores(), 0);
        model.read_archive(&stores, from).await;
    }
}

/// The fold of a journal: what the model's snapshots hold.
fn fold(entries: &[Entry]) -> Bytes {
    let mut state = Vec::new();
    for entry in entries {
        state.extend_from_slice(&entry.body);
    }
    state.into()
}

impl Model {
    fn new(kind: EntityKind) -> Self {
        let (log, doubt, zombies, late) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (at, stores, first_is_open) = (None, None, false);
        Self { id: entity(kind), log, doubt, at, zombies, late, first_is_open, stores, nonce: 0 }
    }

    async fn step(&mut self, stores: &Stores, op: &Op) {
        let at = match &self.at {
            Some(at) => Arc::clone(at),
            None => self.reopen(stores).await,
        };
        match op {
            Op::Append(sizes) => self.append(stores, &at, sizes, None).await,
            Op::AppendAndLeave(sizes, polls) => self.append(stores, &at, sizes, Some(*polls)).await,
            Op::Snapshot(below) => self.snapshot(stores, &at, *below).await,
            Op::Reopen => _ = self.reopen(stores).await,
            Op::Zombie => self.zombie().await,
            Op::ReadArchive(from) => self.read_archive(stores, *from).await,
            Op::Restart => unreachable!("handled by the caller"),
        }
    }

    fn supersede(&mut self) {
        let next = Seq(self.log.len() as u64 + 1);
        if let (Some(at), Some(stores)) = (self.at.take(), self.stores.take()) {
            self.zombies.push((at, stores, next));
        }
    }

    fn new_entries(&mut self, first: u64, count: u8, frame: u64) -> Vec<Entry> {
        let mut frame = FrameSeq(frame);
        let mut entries = Vec::new();
        for n in 0..u64::from(count) {
            self.nonce += 1;
            let frames = u32::try_from(self.nonce % 3).unwrap();
            let body = Bytes::from(format!("[{} {}]", first + n, self.nonce));
            let entry = Entry { seq: Seq(first + n), first_frame: frame, frames, body };
            frame = entry.next_frame();
            entries.push(entry);
        }
        entries
    }

    fn next_frame(&self) -> u64 {
        self.log.last().map_or(1, |entry| entry.next_frame().0)
    }

    /// Opens until it succeeds, and compares what is there with what must and may be.
    async fn reopen(&mut self, stores: &Stores) -> Arc<Opened> {
        self.supersede();
        let mut tries = 0;
        let opened = loop {
            tries += 1;
            match stores.journal.open(self.id, stores.boot_epoch).await {
                Ok(opened) => break opened,
                Err(OpenError::Unavailable { .. }) if tries < 200 => yield_now().await,
                Err(e) => panic!("open after {tries} tries: {e:?}"),
            }
        };
        let upto = opened.snapshot.as_ref().map_or(0, |s| usize::try_from(s.upto.0).unwrap());
        let tail: Vec<Entry> = opened.tail.clone();
        assert_eq!(opened.head.0, (upto + tail.len()) as u64, "head is the end of the tail");
        assert!(upto <= self.log.len(), "a snapshot covers only what is settled");
        assert!(upto + tail.len() >= self.log.len(), "acked entries are missing: {tail:?}");
        let (known, new) = tail.split_at(self.log.len() - upto);
        assert_eq!(known, &self.log[upto..], "settled entries never change");
        let doubt = std::mem::take(&mut self.doubt);
        let is_late = self.log.is_empty() && new.len() == 1 && self.late.contains(&new[0]);
        let mut rest = if is_late { &[] } else { new };
        for append in doubt {
            if rest.is_empty() {
                break;
            }
            assert!(rest.len() >= append.len(), "part of an append: {rest:?} of {append:?}");
            let (this, others) = rest.split_at(append.len());
            assert_eq!(this, append, "only what was appended, in order");
            rest = others;
        }
        assert!(rest.is_empty(), "nobody appended {rest:?}");
        self.log.extend(new.iter().cloned());
        if let Some(snapshot) = &opened.snapshot {
            assert_eq!(snapshot.state, fold(&self.log[..upto]), "the snapshot is the fold");
        }
        let opened = Arc::new(opened);
        self.at = Some(Arc::clone(&opened));
        self.stores = Some(stores.clone());
        opened
    }

    /// Several appends at once. `polls`: how often before the caller leaves.
    async fn append(&mut self, stores: &Stores, at: &Arc<Opened>, sizes: &[u8], polls: Option<u8>) {
        let mut calls = JoinSet::new();
        let mut appends = Vec::new();
        let (mut first, mut frame) = (self.log.len() as u64 + 1, self.next_frame());
        for (n, size) in sizes.iter().enumerate() {
            let new = self.new_entries(first, *size, frame);
            frame = new[new.len() - 1].next_frame().0;
            let (journal, at, call) = (Arc::clone(&stores.journal), Arc::clone(at), new.clone());
            let seq = Seq(first);
            calls.spawn(async move { (n, journal.append(&at, seq, call, Vec::new()).await) });
            first += u64::from(*size);
            appends.push(new);
        }
        let mut outcomes: Vec<Option<Result<(), AppendError>>> = vec![None; sizes.len()];
        let all = async {
            while let Some(done) = calls.join_next().await {
                let (n, outcome) = done.expect("an append does not panic");
                outcomes[n] = Some(outcome);
            }
        };
        match polls {
            None => timeout(Duration::from_secs(30), all).await.expect("appends answer"),
            Some(polls) => {
                let leave = async {
                    for _ in 0..polls {
                        yield_now().await;
                    }
                };
                tokio::select! { biased; () = leave => (), () = all => () }
            }
        }
        drop(calls);
        self.settle(appends, outcomes);
    }

    fn settle(&mut self, appends: Vec<Vec<Entry>>, outcomes: Vec<Option<Result<(), AppendError>>>) {
        let acked = outcomes.iter().filter(|o| matches!(o, Some(Ok(())))).count();
        for (n, (append, outcome)) in appends.into_iter().zip(&outcomes).enumerate() {
            match outcome {
                Some(Ok(())) => {
                    assert!(n < acked, "an append was acked before the one in front of it");
                    self.log.extend(append);
                }
                Some(Err(AppendError::Full | AppendError::Unavailable { .. })) => {
                    // Nothing of this one was written, nor of those behind it.
                    self.at = None;
                    return;
                }
                Some(Err(AppendError::OutcomeUnknown { .. })) | None => {
                    self.first_is_open |= self.log.is_empty();
                    self.doubt.push(append);
                    self.at = None;
                }
                // A late first append has come in between; the next activation reads it.
                Some(Err(AppendError::Fenced { .. }))
                    if self.log.is_empty() && (self.first_is_open || !self.late.is_empty()) =>
                {
                    self.at = None;
                    return;
                }
                Some(Err(e)) => panic!("the newest activation got {e:?}"),
            }
        }
    }

    async fn snapshot(&mut self, stores: &Stores, at: &Opened, below: u8) {
        let upto = self.log.len().saturating_sub(usize::from(below));
        let state = fold(&self.log[..upto]);
        match stores.journal.snapshot(at, Seq(upto as u64), state).await {
            Ok(()) => {}
            Err(e) if e.is_transient() => {}
            Err(e) => panic!("snapshot of the newest activation: {e:?}"),
        }
    }

    async fn zombie(&mut self) {
        if self.zombies.is_empty() {
            return;
        }
        let (zombie, stores, seq) = self.zombies.remove(0);
        let body = Bytes::from_static(b"of a zombie");
        let entry = Entry { seq, first_frame: FrameSeq(self.next_frame()), frames: 1, body };
        if self.log.is_empty() {
            self.late.push(entry.clone());
        }
        let outcome = stores.journal.append(&zombie, seq, vec![entry], Vec::new()).await;
        assert!(outcome.is_err(), "a superseded activation appended");
    }

    async fn read_archive(&mut self, stores: &Stores, from: u8) {
        let from = u64::from(from) % (self.log.len() as u64 + 2);
        let got = match stores.journal.read_archive_entries(self.id, Seq(from), 200).await {
            Ok(got) => got,
            Err(e) if e.is_transient() => return,
            Err(e) => panic!("{e:?}"),
        };
        assert!(self.id.kind.archives() || got.is_empty());
        for entry in &got {
            let place = usize::try_from(entry.seq.0).unwrap() - 1;
            assert_eq!(entry, &self.log[place], "the archive agrees with the log");
        }
        let numbers: Vec<_> = got.iter().map(|entry| entry.seq.0).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no gap, no double");
    }
}
