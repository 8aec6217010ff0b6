//! The checkpointer: moves the WAL to the database beside the writer.
//!
//! Left to itself the writer would do this inside of a commit, and a thousand pages would make
//! everybody wait. With most pages moved already, little is left for it to do.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rusqlite::Connection;

use crate::{
    database::{Role, connect},
    options::SqliteOptions,
    writer::Shared,
};

/// Tells the checkpointer that there is something to do. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Nudge(SyncSender<()>);

impl Nudge {
    /// Once is enough: a second one before the first is heard changes nothing.
    pub(crate) fn send(&self) {
        let _ = self.0.try_send(());
    }
}

pub(crate) fn start(
    path: PathBuf,
    options: SqliteOptions,
    shared: Arc<Shared>,
) -> std::io::Result<(Nudge, JoinHandle<()>)> {
    let (nudge, inbox) = sync_channel(1);
    let thread = thread::Builder::new()
        .name("troupe-sqlite-checkpoint".to_owned())
        .spawn(move || serve(&path, &options, &shared, &inbox))?;
    Ok((Nudge(nudge), thread))
}

fn serve(path: &std::path::Path, options: &SqliteOptions, shared: &Shared, inbox: &Receiver<()>) {
    let mut open: Option<(u64, Connection)> = None;
    while inbox.recv().is_ok() {
        let generation = shared.generation.load(Ordering::SeqCst);
        if open.as_ref().is_some_and(|(of, _)| *of != generation) {
            open = None;
        }
        if shared.unsettled.load(Ordering::SeqCst) {
            continue;
        }
        if open.is_none() {
            match connect(path, Role::Checkpointer, options) {
                Ok(db) => open = Some((generation, db)),
                Err(error) => tracing::warn!(%error, "checkpointer could not open the database"),
            }
        }
        let Some((_, db)) = &open else { continue };
        let checkpoint = db.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)");
        // Nothing is lost by a failure: the WAL keeps all, and the next one begins again.
        if let Err(error) = checkpoint.and_then(|mut run| run.query_row([], |_| Ok(()))) {
            tracing::warn!(%error, "checkpoint failed");
            open = None;
        }
    }
}
