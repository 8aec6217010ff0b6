//! The store as a whole.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use tokio::sync::Semaphore;
use troupe_store::{Activations, Stores, cause};
use troupe_types::{Epoch, Fence};

use crate::{
    checkpoint, database,
    error::SqliteOpenError,
    home::{DATABASE, Home},
    options::SqliteOptions,
    readers::Readers,
    recent::Recent,
    writer::{Shared, Writer, WriterStats},
};

/// Bits of a fence that count activations within one boot.
const FENCE_BITS: u32 = 40;
/// Blobs being written or read at once; each may hold 64 MiB.
const BLOBS_AT_ONCE: usize = 4;

/// The embedded store. Cloning gives the same one.
#[derive(Clone)]
pub struct SqliteStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) home: Arc<Home>,
    pub(crate) epoch: Epoch,
    pub(crate) writer: Writer,
    pub(crate) readers: Readers,
    pub(crate) shared: Arc<Shared>,
    pub(crate) recent: Recent,
    pub(crate) activations: Activations,
    pub(crate) blob_slots: Semaphore,
    fences: AtomicU64,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("dir", &self.inner.home.dir)
            .field("epoch", &self.inner.epoch)
            .finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Whether a directory holds such a store, of whatever version.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        dir.join(DATABASE).is_file()
    }

    /// Takes the data directory, makes it if it is missing, and raises the boot epoch. Blocks
    /// for some fsyncs, and for a check of a small database if its last process did not end
    /// well.
    ///
    /// # Errors
    /// See [`SqliteOpenError`]; nothing was changed but perhaps empty files made.
    pub fn open(dir: &Path, options: &SqliteOptions) -> Result<Self, SqliteOpenError> {
        let home = Arc::new(Home::take(dir)?);
        let (db, epoch) = database::start(&home, options)?;
        let failed =
            |e: std::io::Error| SqliteOpenError::Failed { dir: dir.to_owned(), source: cause(e) };
        let recent = Recent::new(options.recent_rows_max.get());
        recent.load(&db).map_err(|e| database::sort(&home, e))?;
        let shared = Arc::new(Shared::default());
        let path = home.database();
        let (readers, mut threads) = Readers::start(&path, options, &shared).map_err(failed)?;
        let (nudge, thread) = checkpoint::start(path.clone(), options.clone(), Arc::clone(&shared))
            .map_err(failed)?;
        threads.push(thread);
        let (writer, thread) = Writer::start(
            db,
            epoch,
            path,
            options.clone(),
            recent.clone(),
            Arc::clone(&shared),
            nudge,
        )
        .map_err(failed)?;
        threads.push(thread);
        let inner = Inner {
            home,
            epoch,
            writer,
            readers,
            shared,
            recent,
            activations: Activations::new(),
            blob_slots: Semaphore::new(BLOBS_AT_ONCE),
            fences: AtomicU64::new(1),
            threads: Mutex::new(threads),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The epoch that this process opens journals with; rises with each start.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// All traits of this store.
    #[must_use]
    pub fn stores(&self) -> Stores {
        let this = Arc::new(self.clone());
        Stores {
            journal: this.clone(),
            wake: this.clone(),
            directory: this.clone(),
            projections: this.clone(),
            blobs: this.clone(),
            dead_letters: this.clone(),
            inventory: this,
            boot_epoch: self.inner.epoch,
        }
    }

    /// What the writer has done since the start.
    #[must_use]
    pub fn stats(&self) -> WriterStats {
        self.inner.shared.stats()
    }

    /// Commits what is queued, marks the end as a clean one and gives the directory back.
    /// Every later call is refused. Blocks for some fsyncs.
    pub fn close(&self) {
        self.inner.stop(true);
    }

    /// Ends like a process that is killed: what is queued may be committed, the end is not
    /// marked as clean, and the directory is free. For tests.
    pub fn abandon(&self) {
        self.inner.stop(false);
    }
}

impl Inner {
    /// The fence of the next activation: rises over boots and within them, without a write.
    pub(crate) fn next_fence(&self) -> Fence {
        let n = self.fences.fetch_add(1, Ordering::Relaxed);
        Fence((self.epoch.0 << FENCE_BITS) | n)
    }

    fn stop(&self, clean: bool) {
        self.blob_slots.close();
        self.readers.stop();
        self.writer.stop(clean);
        let threads = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store had panicked");
            }
        }
        self.home.release();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop(false);
    }
}
