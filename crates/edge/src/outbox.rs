//! The outbox: what a device must not lose, on its disk.
//!
//! Each attempt has a directory with a log in segments. One writer takes what all attempts
//! want written, writes it, and syncs each file once: a group. Only what is synced is told to
//! anybody. The bytes of outputs that wait to be acknowledged have a bound over all attempts;
//! who wants to append beyond it waits, and so does who wants to append to a log for which the
//! disk has no room. A log that could not be written is given up, and who writes to it is told.

mod fault;
mod fold;
mod log;
mod open;
mod record;
mod writer;

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use troupe_actor::{TaskHandle, spawn_task};
use troupe_types::{OutSeq, TaskId};
use troupe_wire::device::{AttemptKey, ExecutionReport, ExecutionState};

pub use self::{
    fold::{Accepted, Fold, Said, StoredInput},
    log::{ExecutionLog, LogError},
    record::{Ended, Record},
};
use self::{
    open::open_logs,
    writer::{Command, Writer},
};
use crate::identity::{private_dir, sync_dir};

/// Commands that wait for the writer.
const QUEUE: usize = 256;

/// Why something is not in the outbox.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OutboxError {
    /// The attempt is not (any more) here.
    #[error("the attempt is not on this device")]
    Unknown,
    /// The attempt's log cannot be trusted.
    #[error("the log of the attempt is damaged: {0}")]
    Damaged(String),
    /// The disk refused; nothing was promised.
    #[error("the disk refused: {0}")]
    Disk(String),
    /// The disk has no room, or the machine lacks something just now; nothing was promised.
    #[error("the disk is full")]
    Full,
    /// The writer is gone.
    #[error("the outbox is closed")]
    Closed,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The last output that is on the disk.
    pub durable: OutSeq,
    /// The last output that was acknowledged.
    pub acked: OutSeq,
    /// Nothing of it runs any more.
    pub ended: bool,
    /// The disk has no room for what it wants to write.
    pub full: bool,
    /// Its log was given up: nothing more is written.
    pub broken: bool,
}

impl Marks {
    fn of(fold: &Fold) -> Self {
        let ended = fold.ended.is_some();
        Self { durable: fold.last, acked: fold.acked, ended, ..Self::default() }
    }
}

#[derive(Debug)]
pub(crate) struct Entry {
    marks: watch::Sender<Marks>,
    task: TaskId,
    team: String,
    state: ExecutionState,
}

type Entries = Arc<Mutex<HashMap<AttemptKey, Entry>>>;

fn lock(entries: &Entries) -> MutexGuard<'_, HashMap<AttemptKey, Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle to the outbox; cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbox {
    commands: mpsc::Sender<Command>,
    entries: Entries,
    room: Arc<Semaphore>,
    bytes_max: u64,
    /// Rises when an attempt comes or goes.
    changes: watch::Sender<u64>,
}

/// An outbox that was opened, with its writer.
#[derive(Debug)]
pub struct Opened {
    /// The outbox.
    pub outbox: Outbox,
    /// The writer; its end is the end of the outbox.
    pub writer: TaskHandle,
    /// Attempts whose logs cannot be trusted, and why. Their files were put aside.
    pub damaged: Vec<(String, String)>,
}

impl Outbox {
    /// Opens what is in a directory; torn ends are cut off, damaged logs are put aside.
    ///
    /// # Errors
    /// The directory cannot be read or made.
    pub async fn open(dir: PathBuf, bytes_max: u64) -> io::Result<Opened> {
        let opened = tokio::task::spawn_blocking(move || {
            private_dir(&dir)?;
            sync_dir(dir.parent().unwrap_or(&dir))?;
            let found = open_logs(&dir)?;
            Ok::<_, io::Error>((dir, found))
        });
        let (dir, (logs, damaged)) = opened.await.map_err(io::Error::other)??;
        let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let room = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        let mut entries = HashMap::new();
        for (key, log) in &logs {
            // What waits since before may be more than is allowed now; then all of it is taken.
            let used = usize::try_from(log.waiting_bytes()).unwrap_or(usize::MAX);
            room.forget_permits(used);
            entries.insert(*key, Entry::of(log));
        }
        let entries: Entries = Arc::new(Mutex::new(entries));
        let (commands, queue) = mpsc::channel(QUEUE);
        let changes = watch::Sender::new(0);
        let outbox = Self { commands, entries, room, bytes_max, changes };
        let writer = Writer::new(dir, logs, outbox.clone_for_writer());
        let writer = spawn_task("outbox writer", writer.run(queue));
        Ok(Opened { outbox, writer, damaged })
    }

    fn clone_for_writer(&self) -> writer::Shared {
        writer::Shared {
            entries: Arc::clone(&self.entries),
            room: Arc::clone(&self.room),
            changes: self.changes.clone(),
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, OutboxError>>) -> Command,
    ) -> Result<T, OutboxError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| OutboxError::Closed)?;
        answer.await.map_err(|_| OutboxError::Closed)?
    }

    /// Makes the log of an attempt. Resolves when the assignment is on the disk.
    ///
    /// # Errors
    /// The disk refused; the attempt is not here.
    pub async fn accept(&self, key: AttemptKey, accepted: Accepted) -> Result<(), OutboxError> {
        let record = Record::Accepted(accepted);
        self.ask(|reply| Command::Create { key, record: Box::new(record), reply }).await
    }

    /// Appends something that is not an output. Resolves when it is on the disk; waits as long as
    /// that is full.
    ///
    /// # Errors
    /// See [`OutboxError`].
    pub async fn note(&self, key: AttemptKey, record: Record) -> Result<(), OutboxError> {
        let (record, waits) = (Box::new(record), true);
        self.ask(|reply| Command::Note { key, record, waits, reply }).await
    }

    /// As [`note`](Self::note), but it does not wait for room on a disk that is full.
    ///
    /// # Errors
    /// [`OutboxError::Full`] then: it is not and will not be written.
    pub async fn note_now(&self, key: AttemptKey, record: Record) -> Result<(), OutboxError> {
        let (record, waits) = (Box::new(record), false);
        self.ask(|reply| Command::Note { key, record, waits, reply }).await
    }

    /// Resolves when all that was appended to a log before is on the disk; waits as long as that
    /// is full.
    ///
    /// # Errors
    /// See [`OutboxError`]: some of it is not and will not be there.
    pub async fn settle(&self, key: AttemptKey) -> Result<(), OutboxError> {
        self.ask(|reply| Command::Settle { key, reply }).await
    }

    /// Leaves word of how an attempt ended, for a log that has no room for it: the next start
    /// takes it for what the log says, unless that says it by itself.
    ///
    /// # Errors
    /// See [`OutboxError`].
    pub async fn mark_ended(&self, key: AttemptKey, how: Ended) -> Result<(), OutboxError> {
        self.ask(|reply| Command::MarkEnded { key, how, reply }).await
    }

    /// Appends an output; it gets the next number. Waits for room and for a place in the
    /// writer's queue, not for the disk unless that is full: [`marks`](Self::marks) tells when it
    /// is there.
    ///
    /// # Errors
    /// See [`OutboxError`].
    pub async fn push(&self, key: AttemptKey, body: Bytes) -> Result<(), OutboxError> {
        let mut marks = self.marks(key).ok_or(OutboxError::Unknown)?;
        let ready = marks.wait_for(|marks| marks.broken || !marks.full).await;
        if ready.map_err(|_| OutboxError::Unknown)?.broken {
            return Err(OutboxError::Damaged("a write failed before".to_owned()));
        }
        let size = u32::try_from(record::output_bytes(body.len())).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(size).await;
        let room = room.map_err(|_| OutboxError::Closed)?;
        let command = Command::Output { key, body, room };
        self.commands.send(command).await.map_err(|_| OutboxError::Closed)
    }

    /// Whether an output of this size would have to wait for room.
    #[must_use]
    pub fn is_full_for(&self, key: AttemptKey, body: usize) -> bool {
        self.is_disk_full(key) || self.room.available_permits() < record::output_bytes(body)
    }

    /// Whether the disk has no room for what an attempt wants to write.
    #[must_use]
    pub fn is_disk_full(&self, key: AttemptKey) -> bool {
        lock(&self.entries).get(&key).is_some_and(|entry| entry.marks.borrow().full)
    }

    /// Takes an acknowledgement. Whether it can be: one beyond what was ever written means that
    /// the log lost something.
    pub async fn ack(&self, key: AttemptKey, upto: OutSeq) -> bool {
        let Some(marks) = self.marks(key) else { return true };
        let marks = *marks.borrow();
        if upto > marks.durable {
            return false;
        }
        if upto > marks.acked {
            // A writer that is gone ends the agent.
            let _ = self.commands.send(Command::Ack { key, upto }).await;
        }
        true
    }

    /// Outputs from a number on, in order, at least one if there is one, about `bytes_max` in
    /// all. Ones that were acknowledged may be gone: the first number then is higher.
    ///
    /// # Errors
    /// See [`OutboxError`]; after [`OutboxError::Disk`] it may be read later.
    pub async fn read(
        &self,
        key: AttemptKey,
        from: OutSeq,
        bytes_max: usize,
    ) -> Result<Vec<(OutSeq, Bytes)>, OutboxError> {
        self.ask(|reply| Command::Read { key, from, bytes_max, reply }).await
    }

    /// Deletes all that is kept of an attempt. What the disk refuses to delete goes at the next
    /// start.
    ///
    /// # Errors
    /// See [`OutboxError`]; nothing is an error about an attempt that is not here.
    pub async fn remove(&self, key: AttemptKey) -> Result<(), OutboxError> {
        match self.ask(|reply| Command::Remove { key, reply }).await {
            Err(OutboxError::Unknown) => Ok(()),
            other => other,
        }
    }

    /// How far an attempt is; `None`: it is not here.
    #[must_use]
    pub fn marks(&self, key: AttemptKey) -> Option<watch::Receiver<Marks>> {
        lock(&self.entries).get(&key).map(|entry| entry.marks.subscribe())
    }

    /// What is known of an attempt.
    ///
    /// # Errors
    /// See [`OutboxError`].
    pub async fn fold(&self, key: AttemptKey) -> Result<Fold, OutboxError> {
        self.ask(|reply| Command::Fold { key, reply }).await
    }

    /// The Team that asked for an attempt.
    #[must_use]
    pub fn team(&self, key: AttemptKey) -> Option<String> {
        lock(&self.entries).get(&key).map(|entry| entry.team.clone())
    }

    /// Attempts that are here.
    #[must_use]
    pub fn attempts(&self) -> Vec<AttemptKey> {
        let mut keys: Vec<_> = lock(&self.entries).keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// Wakes when an attempt comes or goes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Says how an attempt is; for reports only.
    pub fn set_state(&self, key: AttemptKey, state: ExecutionState) {
        if let Some(entry) = lock(&self.entries).get_mut(&key) {
            entry.state = state;
        }
    }

    /// What a hello says about all attempts.
    #[must_use]
    pub fn reports(&self) -> Vec<ExecutionReport> {
        let entries = lock(&self.entries);
        let mut reports: Vec<_> = entries
            .iter()
            .map(|(key, entry)| {
                let marks = *entry.marks.borrow();
                let state = if marks.ended { ExecutionState::Ended } else { entry.state };
                ExecutionReport {
                    key: *key,
                    task: entry.task,
                    state,
                    last: marks.durable,
                    acked: marks.acked,
                }
            })
            .collect();
        reports.sort_unstable_by_key(|report| report.key);
        reports
    }

    /// Bytes of outputs that wait to be acknowledged, and the most of them.
    #[must_use]
    pub fn usage(&self) -> (u64, u64) {
        let free = u64::try_from(self.room.available_permits()).unwrap_or(u64::MAX);
        (self.bytes_max.saturating_sub(free), self.bytes_max)
    }
}

impl Entry {
    fn of(log: &ExecutionLog) -> Self {
        let Fold { accepted, .. } = log.fold();
        let (task, team) = (accepted.task, accepted.team.clone());
        let marks = watch::Sender::new(Marks::of(log.fold()));
        Self { marks, task, team, state: ExecutionState::Accepted }
    }

    /// Takes over how far its log is; whether the disk became too full for it.
    fn is_now(&mut self, fold: &Fold, full: bool) -> bool {
        let now = Marks { full, ..Marks::of(fold) };
        let before = *self.marks.borrow();
        if before != now {
            self.marks.send_replace(now);
        }
        if now.ended {
            self.state = ExecutionState::Ended;
        }
        full && !before.full
    }

    fn gave_up(&self) {
        self.marks.send_modify(|marks| (marks.broken, marks.full) = (true, false));
    }
}

type Logs = HashMap<AttemptKey, ExecutionLog>;
