//! The one who writes: takes what waits, writes it, syncs once, tells.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use troupe_types::OutSeq;
use troupe_wire::device::AttemptKey;

use super::{
    Ended, Entries, Entry, ExecutionLog, Fold, Logs, OutboxError, Record,
    fault::{is_damage, passes},
    lock,
    open::{attempt_dir, mark_ended},
};

/// Commands of one group.
const GROUP_MAX: usize = 256;
/// How long to wait when the disk is full.
const FULL_WAIT: Duration = Duration::from_millis(500);

type Reply<T> = oneshot::Sender<Result<T, OutboxError>>;

/// What is wanted of the writer.
#[derive(Debug)]
pub(super) enum Command {
    Create {
        key: AttemptKey,
        record: Box<Record>,
        reply: Reply<()>,
    },
    /// `waits`: until there is room on the disk, if it is full.
    Note {
        key: AttemptKey,
        record: Box<Record>,
        waits: bool,
        reply: Reply<()>,
    },
    /// Answered once what came before it is on the disk.
    Settle {
        key: AttemptKey,
        reply: Reply<()>,
    },
    Output {
        key: AttemptKey,
        body: Bytes,
        room: OwnedSemaphorePermit,
    },
    Ack {
        key: AttemptKey,
        upto: OutSeq,
    },
    Read {
        key: AttemptKey,
        from: OutSeq,
        bytes_max: usize,
        reply: Reply<Vec<(OutSeq, Bytes)>>,
    },
    Fold {
        key: AttemptKey,
        reply: Reply<Fold>,
    },
    MarkEnded {
        key: AttemptKey,
        how: Ended,
        reply: Reply<()>,
    },
    Remove {
        key: AttemptKey,
        reply: Reply<()>,
    },
}

/// What the writer shares with handles.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) entries: Entries,
    pub(super) room: Arc<Semaphore>,
    pub(super) changes: watch::Sender<u64>,
}

/// The writer.
#[derive(Debug)]
pub(super) struct Writer {
    dir: PathBuf,
    logs: Logs,
    shared: Shared,
    /// Logs that a write or a sync failed for: nothing more is promised of them.
    broken: BTreeSet<AttemptKey>,
    /// Notes and outputs for which the disk had no room, in their order, and who waits for them.
    /// They wait, and whoever
    /// wants to write more to the same log does too; nothing else does.
    aside: BTreeMap<AttemptKey, VecDeque<Command>>,
    /// When they are tried again.
    again_at: Instant,
}

/// Answers that go out after the sync.
#[derive(Debug, Default)]
struct Told {
    notes: Vec<(AttemptKey, Reply<()>)>,
    touched: BTreeSet<AttemptKey>,
    came_or_went: bool,
}

impl Writer {
    pub(super) fn new(dir: PathBuf, logs: Logs, shared: Shared) -> Self {
        let (broken, aside, again_at) = (BTreeSet::new(), BTreeMap::new(), Instant::now());
        Self { dir, logs, shared, broken, aside, again_at }
    }

    /// Runs until every handle is dropped.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        loop {
            tokio::select! {
                biased;
                // First: what waits for room holds up nothing else.
                came = queue.recv_many(&mut group, GROUP_MAX) => {
                    if came == 0 {
                        return;
                    }
                }
                () = sleep_until(self.again_at), if !self.aside.is_empty() => {}
            }
            let (mut me, mut commands) = (self, group);
            let worked = tokio::task::spawn_blocking(move || {
                me.group(&mut commands);
                (me, commands)
            });
            // A panic in there ends the writer, and the agent with it.
            match worked.await {
                Ok(back) => (self, group) = back,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
    }

    /// Works through commands from the front.
    fn group(&mut self, commands: &mut Vec<Command>) {
        let mut told = Told::default();
        let again = !self.aside.is_empty() && self.again_at <= Instant::now();
        if again {
            for (key, waiting) in std::mem::take(&mut self.aside) {
                told.touched.insert(key);
                waiting.into_iter().for_each(|command| self.command(command, &mut told));
            }
        }
        commands.drain(..).for_each(|command| self.command(command, &mut told));
        self.finish(told);
        if again {
            // From here on: all of this may take longer than the pause.
            self.again_at = Instant::now() + FULL_WAIT;
        }
    }

    /// Does one command, or sets it aside if the disk has no room for it.
    fn command(&mut self, command: Command, told: &mut Told) {
        match command {
            Command::Create { key, record, reply } => self.create(key, &record, reply, told),
            Command::Note { key, record, waits, reply } => match self.append(key, &record) {
                Ok(()) => {
                    told.touched.insert(key);
                    told.notes.push((key, reply));
                }
                Err(OutboxError::Full) if waits => {
                    self.set_aside(key, Command::Note { key, record, waits, reply }, told);
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Settle { key, reply } => self.settle(key, reply, told),
            Command::Output { key, body, room } => self.output(key, body, room, told),
            Command::Ack { key, upto } => {
                if let Some(log) = self.logs.get_mut(&key) {
                    let (freed, done) = log.ack(upto);
                    self.shared.room.add_permits(usize::try_from(freed).unwrap_or(0));
                    if let Err(error) = done {
                        tracing::warn!(%error, "an acknowledgement was not noted");
                    }
                    told.touched.insert(key);
                }
            }
            Command::Read { key, from, bytes_max, reply } => {
                let read = self.logs.get_mut(&key).ok_or(OutboxError::Unknown);
                let read = read.and_then(|log| {
                    log.read(from, bytes_max).map_err(|error| match is_damage(&error) {
                        true => OutboxError::Damaged(error.to_string()),
                        false => OutboxError::Disk(error.to_string()),
                    })
                });
                drop(reply.send(read));
            }
            Command::Fold { key, reply } => {
                let fold = self.logs.get(&key).map(|log| log.fold().clone());
                drop(reply.send(fold.ok_or(OutboxError::Unknown)));
            }
            Command::MarkEnded { key, how, reply } => {
                let log = self.logs.get(&key).ok_or(OutboxError::Unknown);
                let marked = log.and_then(|_| {
                    mark_ended(&attempt_dir(&self.dir, key), how)
                        .map_err(|error| OutboxError::Disk(error.to_string()))
                });
                drop(reply.send(marked));
            }
            Command::Remove { key, reply } => {
                drop(reply.send(self.remove(key)));
                told.came_or_went = true;
            }
        }
    }

    fn create(&mut self, key: AttemptKey, record: &Record, reply: Reply<()>, told: &mut Told) {
        if self.logs.contains_key(&key) {
            told.notes.push((key, reply));
            return;
        }
        let dir = attempt_dir(&self.dir, key);
        match ExecutionLog::create(&dir, record) {
            Ok(log) => {
                self.logs.insert(key, log);
                told.touched.insert(key);
                told.notes.push((key, reply));
                told.came_or_went = true;
            }
            // A refusal can be told; the attempt goes elsewhere.
            Err(error) => {
                let _ = std::fs::remove_dir_all(&dir);
                drop(reply.send(Err(OutboxError::Disk(error.to_string()))));
            }
        }
    }

    fn settle(&mut self, key: AttemptKey, reply: Reply<()>, told: &mut Told) {
        if self.aside.contains_key(&key) {
            self.set_aside(key, Command::Settle { key, reply }, told);
        } else if self.logs.contains_key(&key) {
            told.touched.insert(key);
            told.notes.push((key, reply));
        } else {
            drop(reply.send(Err(OutboxError::Unknown)));
        }
    }

    fn output(
        &mut self,
        key: AttemptKey,
        body: Bytes,
        room: OwnedSemaphorePermit,
        told: &mut Told,
    ) {
        let Some(log) = self.logs.get(&key) else { return };
        let record = Record::Output(log.fold().last.next(), body.clone());
        match self.append(key, &record) {
            Ok(()) => {
                room.forget();
                told.touched.insert(key);
            }
            Err(OutboxError::Full) => {
                self.set_aside(key, Command::Output { key, body, room }, told);
            }
            Err(OutboxError::Disk(error)) => {
                tracing::error!(?key, %error, "an output was not written: the log is given up");
                self.give_up(key);
                told.touched.insert(key);
            }
            // Whoever writes to a log that was given up is told so.
            Err(_) => {}
        }
    }

    fn append(&mut self, key: AttemptKey, record: &Record) -> Result<(), OutboxError> {
        if self.broken.contains(&key) {
            return Err(OutboxError::Damaged("a write failed before".to_owned()));
        }
        let log = self.logs.get_mut(&key).ok_or(OutboxError::Unknown)?;
        if self.aside.contains_key(&key) {
            return Err(OutboxError::Full);
        }
        log.append(record).map_err(|error| {
            if passes(&error) {
                tracing::debug!(?key, %error, "a log cannot be written now");
                OutboxError::Full
            } else {
                OutboxError::Disk(error.to_string())
            }
        })
    }

    fn set_aside(&mut self, key: AttemptKey, command: Command, told: &mut Told) {
        if self.aside.is_empty() {
            self.again_at = Instant::now() + FULL_WAIT;
        }
        self.aside.entry(key).or_default().push_back(command);
        told.touched.insert(key);
    }

    /// Nothing more is written to a log.
    fn give_up(&mut self, key: AttemptKey) {
        // A refused write leaves what came before it as it was: that still counts.
        if self.logs.get_mut(&key).is_some_and(|log| log.sync().is_ok()) {
            self.tell(key);
        }
        self.broken.insert(key);
        self.drop_aside(key, &OutboxError::Damaged("a write failed".to_owned()));
    }

    fn drop_aside(&mut self, key: AttemptKey, error: &OutboxError) {
        for command in self.aside.remove(&key).into_iter().flatten() {
            if let Command::Note { reply, .. } | Command::Settle { reply, .. } = command {
                drop(reply.send(Err(error.clone())));
            }
        }
    }

    fn remove(&mut self, key: AttemptKey) -> Result<(), OutboxError> {
        self.broken.remove(&key);
        self.drop_aside(key, &OutboxError::Unknown);
        lock(&self.shared.entries).remove(&key);
        let log = self.logs.remove(&key).ok_or(OutboxError::Unknown)?;
        let waiting = usize::try_from(log.waiting_bytes()).unwrap_or(0);
        self.shared.room.add_permits(waiting);
        log.remove().map_err(|error| OutboxError::Disk(error.to_string()))
    }

    /// Syncs what was touched, each file once, then tells.
    fn finish(&mut self, told: Told) {
        for key in &told.touched {
            let Some(log) = self.logs.get_mut(key) else { continue };
            if !self.broken.contains(key)
                && let Err(error) = log.sync()
            {
                tracing::error!(?key, %error, "a log could not be synced: it is given up");
                self.give_up(*key);
            }
            self.tell(*key);
        }
        for (key, reply) in told.notes {
            let broken = self.broken.contains(&key);
            let lost = || Err(OutboxError::Damaged("a sync failed".to_owned()));
            drop(reply.send(if broken { lost() } else { Ok(()) }));
        }
        if told.came_or_went {
            self.shared.changes.send_modify(|n| *n += 1);
        }
    }

    /// Tells how far a log is. Of one that was given up nothing more counts as written.
    fn tell(&self, key: AttemptKey) {
        let Some(log) = self.logs.get(&key) else { return };
        let mut entries = lock(&self.shared.entries);
        if self.broken.contains(&key) {
            if let Some(entry) = entries.get_mut(&key) {
                entry.gave_up();
            }
            return;
        }
        let entry = entries.entry(key).or_insert_with(|| Entry::of(log));
        if entry.is_now(log.fold(), self.aside.contains_key(&key)) {
            tracing::warn!(?key, "the disk is full: what an execution writes waits");
        }
    }
}
