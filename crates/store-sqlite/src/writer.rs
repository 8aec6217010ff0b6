//! The one writer: a thread, a bounded queue, group commit.
//!
//! While one commit waits for its fsync the next ones queue up; then everything that waits is
//! one transaction. So a lone write waits for nobody, and a thousand share one fsync.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use troupe_store::cause;
use troupe_types::Epoch;

use crate::{
    checkpoint::Nudge,
    database,
    error::{Failure, Nature, nature},
    metrics,
    options::SqliteOptions,
    recent::{Recent, Tx},
};

/// Bytes that wait or are being written: 64 MiB, counted in units of 4 KiB, at least one each.
const QUEUE_UNITS: usize = 16 * 1024;
const UNIT_BYTES: usize = 4 * 1024;
/// Writes in one transaction.
const BATCH_WRITES_MAX: usize = 2_048;
/// Units in one transaction (8 MiB), unless a single write has more.
const BATCH_UNITS_MAX: usize = 2 * 1024;
/// Units written after which the checkpointer is told.
const CHECKPOINT_UNITS: usize = 1024;
const SLOT_WAIT_MAX: Duration = Duration::from_secs(10);
/// After this a caller is told that the outcome is unknown; the disk stands still.
pub(crate) const COMMIT_WAIT_MAX: Duration = Duration::from_secs(30);
/// While the database could not be opened again, how often it is tried.
const REOPEN_EVERY: Duration = Duration::from_millis(500);

/// One write of a transaction that it shares with others.
pub(crate) trait Job: Send {
    /// Does it. May be called again, after a rollback.
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// The transaction is committed, or not.
    fn done(self: Box<Self>, outcome: Result<(), Failure>);
}

struct Queued {
    job: Box<dyn Job>,
    slot: OwnedSemaphorePermit,
}

enum Msg {
    Write(Queued),
    Stop { clean: bool },
}

/// What the writer has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Transactions committed, each with one fsync.
    pub commits: u64,
    /// Writes in them.
    pub writes: u64,
}

/// What all threads of a store share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// A commit failed and the database is not open again: nobody knows what is in it.
    pub(crate) unsettled: AtomicBool,
    /// Raised when readers must open their connections anew.
    pub(crate) generation: AtomicU64,
    commits: AtomicU64,
    writes: AtomicU64,
}

impl Shared {
    pub(crate) fn stats(&self) -> WriterStats {
        WriterStats {
            commits: self.commits.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }
}

/// The way to the writer thread.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: SyncSender<Msg>,
    slots: Arc<Semaphore>,
}

/// A place in the queue.
pub(crate) struct Slot<'a> {
    writer: &'a Writer,
    permit: OwnedSemaphorePermit,
}

impl Slot<'_> {
    /// Hands the job over, at once and in order. If the writer is gone the job is told so.
    pub(crate) fn send(self, job: Box<dyn Job>) {
        // Each message has a unit at least, so the channel has room for all that have a slot.
        let msg = Msg::Write(Queued { job, slot: self.permit });
        if let Err(refused) = self.writer.queue.try_send(msg) {
            let (std::sync::mpsc::TrySendError::Full(msg)
            | std::sync::mpsc::TrySendError::Disconnected(msg)) = refused;
            if let Msg::Write(Queued { job, slot }) = msg {
                drop(slot);
                job.done(Err(Failure::closed()));
            }
        }
    }
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(
        db: Connection,
        epoch: Epoch,
        path: PathBuf,
        options: SqliteOptions,
        recent: Recent,
        shared: Arc<Shared>,
        checkpointer: Nudge,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, inbox) = sync_channel(QUEUE_UNITS + 8);
        let (db, written) = (Some(db), 0);
        let thread =
            WriterThread { db, epoch, path, options, recent, shared, checkpointer, written, inbox };
        let handle = thread::Builder::new()
            .name("troupe-sqlite-writer".to_owned())
            .spawn(move || thread.serve())?;
        Ok((Self { queue, slots: Arc::new(Semaphore::new(QUEUE_UNITS)) }, handle))
    }

    /// Waits for room for a write of about `bytes` bytes.
    pub(crate) async fn slot(&self, bytes: usize) -> Result<Slot<'_>, Failure> {
        let units = (bytes / UNIT_BYTES + 1).min(QUEUE_UNITS);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.slots).acquire_many_owned(units);
        match timeout(SLOT_WAIT_MAX, permit).await {
            Ok(Ok(permit)) => Ok(Slot { writer: self, permit }),
            Ok(Err(_)) => Err(Failure::closed()),
            Err(_) => Err(Failure::Refused(cause("the writer's queue is full"))),
        }
    }

    /// Runs `write` in a shared transaction. It may run more than once, after rollbacks.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        mut write: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.write_tx(bytes, move |tx: &mut Tx<'_>| write(tx.db)).await
    }

    /// The same, for what changes journals.
    pub(crate) async fn write_tx<T: Send + 'static>(
        &self,
        bytes: usize,
        write: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let slot = self.slot(bytes).await?;
        let (reply, answer) = oneshot::channel();
        slot.send(Box::new(Closure { write, value: None, reply }));
        match timeout(COMMIT_WAIT_MAX, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Failure::Unknown(cause("the writer ended"))),
            Err(_) => Err(Failure::Unknown(cause("the commit takes too long"))),
        }
    }

    /// Lets the thread finish what is queued and end.
    pub(crate) fn stop(&self, clean: bool) {
        self.slots.close();
        // The channel has spare places beyond all slots; a writer that is gone needs no word.
        let _ = self.queue.try_send(Msg::Stop { clean });
    }
}

struct Closure<T, F> {
    write: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send> Job for Closure<T, F> {
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.value = Some((self.write)(tx)?);
        Ok(())
    }

    fn done(self: Box<Self>, outcome: Result<(), Failure>) {
        let Self { value, reply, .. } = *self;
        let lost = || Failure::Refused(cause("the write never ran"));
        // An error means that the caller has left.
        let _ = reply.send(outcome.and_then(|()| value.ok_or_else(lost)));
    }
}

struct WriterThread {
    db: Option<Connection>,
    epoch: Epoch,
    path: PathBuf,
    options: SqliteOptions,
    recent: Recent,
    shared: Arc<Shared>,
    checkpointer: Nudge,
    /// Units written since the checkpointer was last told.
    written: usize,
    inbox: Receiver<Msg>,
}

/// Why a transaction failed, and whether its jobs may be tried one by one.
struct Broken {
    failure: Failure,
    one_by_one: bool,
}

impl WriterThread {
    fn serve(mut self) {
        loop {
            let mut batch = Vec::new();
            let mut stop = None;
            match self.next() {
                Some(msg) => self.fill(msg, &mut batch, &mut stop),
                None if self.db.is_some() => stop = Some(false),
                None => self.reopen(),
            }
            if !batch.is_empty() {
                self.commit(batch);
            }
            if let Some(clean) = stop {
                return self.end(clean);
            }
        }
    }

    /// The next message; `None` if there are no more, or while the database is not open, now
    /// and then.
    fn next(&self) -> Option<Msg> {
        if self.db.is_some() {
            return self.inbox.recv().ok();
        }
        match self.inbox.recv_timeout(REOPEN_EVERY) {
            Ok(msg) => Some(msg),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Msg::Stop { clean: false }),
        }
    }

    /// Takes everything that waits, up to the size of one transaction.
    fn fill(&self, first: Msg, batch: &mut Vec<Queued>, stop: &mut Option<bool>) {
        let (mut next, mut units) = (Some(first), 0);
        while let Some(msg) = next {
            match msg {
                Msg::Stop { clean } => return *stop = Some(clean),
                Msg::Write(queued) => {
                    units += queued.slot.num_permits();
                    batch.push(queued);
                }
            }
            let room = batch.len() < BATCH_WRITES_MAX && units < BATCH_UNITS_MAX;
            next = if room { self.inbox.try_recv().ok() } else { None };
        }
    }

    fn commit(&mut self, mut batch: Vec<Queued>) {
        match self.transact(&mut batch) {
            Ok(()) => {
                let writes = batch.len() as u64;
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                self.shared.writes.fetch_add(writes, Ordering::Relaxed);
                ::metrics::counter!(metrics::COMMITS).increment(1);
                ::metrics::counter!(metrics::WRITES).increment(writes);
                for queued in batch {
                    self.written += queued.slot.num_permits();
                    queued.job.done(Ok(()));
                }
                if self.written >= CHECKPOINT_UNITS {
                    self.written = 0;
                    self.checkpointer.send();
                }
            }
            Err(broken) if broken.one_by_one && batch.len() > 1 => {
                for queued in batch {
                    self.commit(vec![queued]);
                }
            }
            Err(Broken { failure, .. }) => {
                ::metrics::counter!(metrics::FAILURES).increment(1);
                tracing::warn!(writes = batch.len(), ?failure, "transaction failed");
                for queued in batch {
                    queued.job.done(Err(failure.clone()));
                }
            }
        }
    }

    /// One transaction. When it returns an error nothing of it is in effect, except after
    /// `Unknown`; then the database has been opened anew, or is marked as unsettled.
    fn transact(&mut self, batch: &mut [Queued]) -> Result<(), Broken> {
        if self.db.is_none() {
            self.reopen();
        }
        let refused = || Failure::Refused(cause("the database could not be opened again"));
        let db =
            self.db.as_ref().ok_or_else(|| Broken { failure: refused(), one_by_one: false })?;
        match attempt(db, &self.recent, self.epoch, batch) {
            Ok(()) => Ok(()),
            Err(Attempt::Usurped) => {
                self.roll_back();
                Err(Broken { failure: Failure::Usurped, one_by_one: false })
            }
            Err(Attempt::Before(error)) => {
                let kind = nature(&error);
                if kind == Nature::Connection {
                    self.reopen();
                } else {
                    self.roll_back();
                }
                let failure = if kind == Nature::Full {
                    Failure::Full
                } else {
                    Failure::Refused(cause(error))
                };
                Err(Broken { failure, one_by_one: kind == Nature::Statement })
            }
            Err(Attempt::AtCommit(error)) if nature(&error) == Nature::Full => {
                // The frame that makes it count is the last one, and it found no room.
                self.roll_back();
                Err(Broken { failure: Failure::Full, one_by_one: false })
            }
            Err(Attempt::AtCommit(error)) if nature(&error) == Nature::Busy => {
                self.roll_back();
                Err(Broken { failure: Failure::Refused(cause(error)), one_by_one: false })
            }
            Err(Attempt::AtCommit(error)) => {
                self.shared.unsettled.store(true, Ordering::SeqCst);
                self.reopen();
                Err(Broken { failure: Failure::Unknown(cause(error)), one_by_one: false })
            }
        }
    }

    fn roll_back(&mut self) {
        let Some(db) = &self.db else { return };
        if !db.is_autocommit() && db.execute_batch("ROLLBACK").is_err() {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        // Out with the old one first: its file handles and what it believes to be on the disk.
        self.db = None;
        self.shared.unsettled.store(true, Ordering::SeqCst);
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        let opened = database::reopen(&self.path, &self.options);
        match opened.and_then(|db| self.recent.load(&db).map(|()| db)) {
            Ok(db) => {
                self.db = Some(db);
                self.shared.unsettled.store(false, Ordering::SeqCst);
                ::metrics::counter!(metrics::REOPENED).increment(1);
                tracing::warn!("database opened anew");
            }
            Err(error) => tracing::error!(%error, "database could not be opened anew"),
        }
    }

    fn end(self, clean: bool) {
        let Some(db) = self.db else { return };
        if clean && let Err(error) = database::finish(&db) {
            tracing::warn!(%error, "the end could not be marked as a clean one");
        }
    }
}

enum Attempt {
    Usurped,
    Before(rusqlite::Error),
    AtCommit(rusqlite::Error),
}

fn attempt(
    db: &Connection,
    recent: &Recent,
    epoch: Epoch,
    batch: &mut [Queued],
) -> Result<(), Attempt> {
    let execute = |sql: &str| db.prepare_cached(sql)?.execute([]);
    let read_epoch = || {
        let mut read = db.prepare_cached("SELECT value FROM meta WHERE key = 'epoch'")?;
        read.query_row([], |row| row.get::<_, i64>(0)).optional()
    };
    execute("BEGIN IMMEDIATE").map_err(Attempt::Before)?;
    let found = read_epoch().map_err(Attempt::Before)?;
    if found.and_then(|found| u64::try_from(found).ok()) != Some(epoch.0) {
        return Err(Attempt::Usurped);
    }
    let mut tx = Tx::new(db, recent);
    for queued in batch {
        queued.job.run(&mut tx).map_err(Attempt::Before)?;
    }
    tx.finish().map_err(Attempt::Before)?;
    execute("COMMIT").map_err(Attempt::AtCommit)?;
    tx.committed();
    Ok(())
}
