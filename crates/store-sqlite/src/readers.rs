//! Readers: a few threads, each with a read-only connection.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use troupe_store::cause;

use crate::{
    database::{Role, connect},
    error::ReadFailure,
    options::SqliteOptions,
    writer::Shared,
};

/// Reads that wait or run.
const READS_MAX: usize = 256;
const READ_WAIT_MAX: Duration = Duration::from_secs(20);

type Read = Box<dyn FnOnce(Result<&Connection, ReadFailure>) + Send>;

enum Msg {
    Read(Read, OwnedSemaphorePermit),
    Stop,
}

/// The way to the reader threads.
#[derive(Debug)]
pub(crate) struct Readers {
    queue: SyncSender<Msg>,
    slots: Arc<Semaphore>,
    threads: usize,
}

impl Readers {
    pub(crate) fn start(
        path: &std::path::Path,
        options: &SqliteOptions,
        shared: &Arc<Shared>,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let threads = options.readers.get();
        let (queue, inbox) = sync_channel(READS_MAX + threads);
        let inbox = Arc::new(Mutex::new(inbox));
        let mut handles = Vec::new();
        for n in 0..threads {
            let reader = ReaderThread {
                path: path.to_owned(),
                options: options.clone(),
                shared: Arc::clone(shared),
                inbox: Arc::clone(&inbox),
            };
            let name = format!("troupe-sqlite-read-{n}");
            handles.push(thread::Builder::new().name(name).spawn(move || reader.serve())?);
        }
        let slots = Arc::new(Semaphore::new(READS_MAX));
        Ok((Self { queue, slots, threads }, handles))
    }

    /// Runs `read` on a connection, inside one read transaction.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, ReadFailure> + Send + 'static,
    ) -> Result<T, ReadFailure> {
        self.read_alone(move |db| in_transaction(db, read)).await
    }

    /// Runs `read` on a connection; transactions are its own affair.
    pub(crate) async fn read_alone<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, ReadFailure> + Send + 'static,
    ) -> Result<T, ReadFailure> {
        let answer = async {
            let closed = || ReadFailure::Refused(cause("the store is closed"));
            let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| closed())?;
            let (reply, answer) = oneshot::channel();
            let job: Read = Box::new(move |db| {
                let outcome = db.and_then(read);
                // An error means that the caller has left.
                let _ = reply.send(outcome);
            });
            match self.queue.try_send(Msg::Read(job, slot)) {
                Ok(()) => answer.await.map_err(|_| closed())?,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(closed()),
            }
        };
        let late = |_| Err(ReadFailure::Refused(cause("the read takes too long")));
        timeout(READ_WAIT_MAX, answer).await.unwrap_or_else(late)
    }

    /// Lets the threads finish what is queued and end.
    pub(crate) fn stop(&self) {
        self.slots.close();
        for _ in 0..self.threads {
            // There are spare places beyond all slots; threads that are gone need no word.
            let _ = self.queue.try_send(Msg::Stop);
        }
    }
}

/// All statements of one read see the same state.
fn in_transaction<T>(
    db: &Connection,
    read: impl FnOnce(&Connection) -> Result<T, ReadFailure>,
) -> Result<T, ReadFailure> {
    db.prepare_cached("BEGIN")?.execute([])?;
    let outcome = read(db);
    db.prepare_cached("COMMIT")?.execute([])?;
    outcome
}

struct ReaderThread {
    path: PathBuf,
    options: SqliteOptions,
    shared: Arc<Shared>,
    inbox: Arc<Mutex<Receiver<Msg>>>,
}

impl ReaderThread {
    fn serve(self) {
        let mut open: Option<(u64, Connection)> = None;
        while let Some(Msg::Read(read, _slot)) = self.next() {
            let generation = self.shared.generation.load(Ordering::SeqCst);
            if open.as_ref().is_some_and(|(of, db)| *of != generation || !db.is_autocommit()) {
                open = None;
            }
            if open.is_none() {
                match connect(&self.path, Role::Reader, &self.options) {
                    Ok(db) => open = Some((generation, db)),
                    Err(error) => {
                        read(Err(error.into()));
                        continue;
                    }
                }
            }
            if let Some((_, db)) = &open {
                read(Ok(db));
            }
        }
    }

    fn next(&self) -> Option<Msg> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}
