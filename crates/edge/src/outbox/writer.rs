//! The one who writes: takes what waits, writes it, syncs once, tells.

use std::{collections::BTreeSet, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use troupe_types::OutSeq;
use troupe_wire::device::{AttemptKey, ExecutionState};

use super::{
    Entries, Entry, ExecutionLog, Fold, Logs, Marks, OutboxError, Record, attempt_dir, lock,
};

/// Commands of one group.
const GROUP_MAX: usize = 256;
/// How long to wait when the disk is full.
const FULL_WAIT: Duration = Duration::from_millis(500);

type Reply<T> = oneshot::Sender<Result<T, OutboxError>>;

/// What is wanted of the writer.
#[derive(Debug)]
pub(super) enum Command {
    Create { key: AttemptKey, record: Box<Record>, reply: Reply<()> },
    Note { key: AttemptKey, record: Box<Record>, reply: Reply<()> },
    Output { key: AttemptKey, body: Bytes, room: OwnedSemaphorePermit },
    Ack { key: AttemptKey, upto: OutSeq },
    Read { key: AttemptKey, from: OutSeq, bytes_max: usize, reply: Reply<Vec<(OutSeq, Bytes)>> },
    Fold { key: AttemptKey, reply: Reply<Fold> },
    Remove { key: AttemptKey, reply: Reply<()> },
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
    /// Logs that a sync failed for: nothing more is promised of them.
    broken: BTreeSet<AttemptKey>,
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
        Self { dir, logs, shared, broken: BTreeSet::new() }
    }

    /// Runs until every handle is dropped.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while queue.recv_many(&mut group, GROUP_MAX).await > 0 {
            while !group.is_empty() {
                let (mut me, mut commands) = (self, group);
                let worked = tokio::task::spawn_blocking(move || {
                    let full = me.group(&mut commands);
                    (me, commands, full)
                });
                let full;
                // A panic in there ends the writer, and the agent with it.
                match worked.await {
                    Ok(back) => (self, group, full) = back,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
                if full {
                    // Nothing is dropped: what is left waits, and whoever wants more does too.
                    tracing::warn!("the disk is full: the outbox waits");
                    tokio::time::sleep(FULL_WAIT).await;
                }
            }
        }
    }

    /// Works through commands from the front; those that are left did not happen. Whether the
    /// disk is full.
    fn group(&mut self, commands: &mut Vec<Command>) -> bool {
        let mut told = Told::default();
        let mut rest = std::mem::take(commands).into_iter();
        let mut full = false;
        for command in rest.by_ref() {
            if let Some(back) = self.command(command, &mut told) {
                commands.push(back);
                full = true;
                break;
            }
        }
        commands.extend(rest);
        self.finish(told);
        full
    }

    /// Does one command. `Some`: the disk is full, try it again.
    fn command(&mut self, command: Command, told: &mut Told) -> Option<Command> {
        match command {
            Command::Create { key, record, reply } => self.create(key, &record, reply, told),
            Command::Note { key, record, reply } => match self.append(key, &record) {
                Ok(()) => {
                    told.touched.insert(key);
                    told.notes.push((key, reply));
                }
                Err(Failed::Full) => return Some(Command::Note { key, record, reply }),
                Err(Failed::With(error)) => drop(reply.send(Err(error))),
            },
            Command::Output { key, body, room } => {
                let log = self.logs.get(&key)?;
                let record = Record::Output(log.fold().last.next(), body.clone());
                match self.append(key, &record) {
                    Ok(()) => {
                        room.forget();
                        told.touched.insert(key);
                    }
                    Err(Failed::Full) => return Some(Command::Output { key, body, room }),
                    Err(Failed::With(error)) => {
                        tracing::error!(?key, %error, "an output was not written");
                        self.broken.insert(key);
                    }
                }
            }
            Command::Ack { key, upto } => {
                if let Some(log) = self.logs.get_mut(&key) {
                    let (freed, done) = log.ack(upto);
                    self.shared.room.add_permits(usize::try_from(freed).unwrap_or(0));
                    if let Err(error) = done {
                        tracing::warn!(%error, "an acknowledged segment stays for now");
                    }
                    told.touched.insert(key);
                }
            }
            Command::Read { key, from, bytes_max, reply } => {
                let read = self.logs.get_mut(&key).ok_or(OutboxError::Unknown);
                let read = read.and_then(|log| {
                    log.read(from, bytes_max).map_err(|e| OutboxError::Damaged(e.to_string()))
                });
                drop(reply.send(read));
            }
            Command::Fold { key, reply } => {
                let fold = self.logs.get(&key).map(|log| log.fold().clone());
                drop(reply.send(fold.ok_or(OutboxError::Unknown)));
            }
            Command::Remove { key, reply } => {
                drop(reply.send(self.remove(key)));
                told.came_or_went = true;
            }
        }
        None
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

    fn append(&mut self, key: AttemptKey, record: &Record) -> Result<(), Failed> {
        if self.broken.contains(&key) {
            let text = "a write failed before".to_owned();
            return Err(Failed::With(OutboxError::Damaged(text)));
        }
        let log = self.logs.get_mut(&key).ok_or(Failed::With(OutboxError::Unknown))?;
        log.append(record).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failed::Full,
            _ => Failed::With(OutboxError::Disk(error.to_string())),
        })
    }

    fn remove(&mut self, key: AttemptKey) -> Result<(), OutboxError> {
        self.broken.remove(&key);
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
            if let Err(error) = log.sync() {
                tracing::error!(?key, %error, "a log could not be synced: it is given up");
                self.broken.insert(*key);
                continue;
            }
            let mut entries = lock(&self.shared.entries);
            let entry = entries.entry(*key).or_insert_with(|| Entry::of(log));
            let now = Marks::of(log.fold());
            entry.marks.send_if_modified(|marks| {
                let changed = *marks != now;
                *marks = now;
                changed
            });
            if now.ended {
                entry.state = ExecutionState::Ended;
            }
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
}

enum Failed {
    Full,
    With(OutboxError),
}
