//! The journal's three calls and the reads of the archive.

mod read;

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, params};
use tokio::{sync::oneshot, time::timeout};
use troupe_store::{
    AppendError, Entry, InFlight, InvalidAppend, JournalStore, OpenError, Opened, ReadError,
    SNAPSHOT_STATE_BYTES_MAX, WakeChange, cause, journal::check_append,
};
use troupe_types::{EntityId, Epoch, FrameSeq, Seq};

use self::read::View;
use crate::{
    SqliteStore, checksum,
    error::{Failure, ReadFailure, append_error, entity_read_error, sort_read},
    recent::Tx,
    wake,
    writer::{COMMIT_WAIT_MAX, Job},
};

/// SQLite's integers are signed; sequence numbers never come near the difference.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn uint(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// An append on its way through the writer.
struct AppendJob {
    /// `None` once it is settled.
    append: Option<InFlight>,
    entries: Vec<Entry>,
    wake: Vec<WakeChange>,
    refused: Option<AppendError>,
    reply: oneshot::Sender<Result<(), AppendError>>,
}

impl Job for AppendJob {
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        let Some(append) = &self.append else { return Ok(()) };
        let at = append.activation();
        self.refused = at.check().err();
        if self.refused.is_some() {
            return Ok(());
        }
        for entry in &self.entries {
            tx.insert(at.entity(), entry)?;
        }
        for change in &self.wake {
            wake::apply(tx.db, at.entity(), at.fence(), change)?;
        }
        Ok(())
    }

    fn done(mut self: Box<Self>, outcome: Result<(), Failure>) {
        let Some(append) = self.append.take() else { return };
        let outcome = match (outcome, self.refused.take()) {
            (Err(failure), _) => Err(append_error(failure, append.activation())),
            (Ok(()), Some(refused)) => Err(refused),
            (Ok(()), None) => Ok(()),
        };
        match &outcome {
            Ok(()) => {
                let wrote = self.wake.iter().any(|c| matches!(c, WakeChange::Insert { .. }));
                append.committed(wrote);
            }
            Err(e) => append.failed(e),
        }
        // An error means that the caller has left.
        let _ = self.reply.send(outcome);
    }
}

#[async_trait]
impl JournalStore for SqliteStore {
    async fn open(&self, entity: EntityId, epoch: Epoch) -> Result<Opened, OpenError> {
        if epoch != self.inner.epoch {
            return Err(OpenError::Fenced { entity, asked: epoch });
        }
        let fence = self.inner.next_fence();
        let activation = self.inner.activations.begin(entity, epoch, fence)?;
        activation.quiet().await?;
        if self.inner.shared.unsettled.load(Ordering::SeqCst) {
            let source = cause("a commit failed and the database is not open again");
            return Err(OpenError::Unavailable { source });
        }
        let read = self.read_view(entity, |view| {
            let snapshot = view.snapshot()?;
            let from = snapshot.as_ref().map_or(Seq::ZERO, |snapshot| snapshot.upto).next();
            Ok((snapshot, view.range(from, Seq(u64::MAX), usize::MAX, |_| true)?))
        });
        let (snapshot, tail) = read.await.map_err(|failure| match sort_read(failure) {
            Ok(part) => OpenError::Corrupt { entity, part },
            Err(source) => OpenError::Unavailable { source },
        })?;
        let above = snapshot.as_ref().map_or(Seq::ZERO, |snapshot| snapshot.upto);
        let head = tail.last().map_or(above, |entry| entry.seq);
        activation.start(head);
        Ok(Opened { fence, head, snapshot, tail, activation })
    }

    async fn append(
        &self,
        at: &Opened,
        first: Seq,
        entries: Vec<Entry>,
        wake: Vec<WakeChange>,
    ) -> Result<(), AppendError> {
        check_append(first, &entries, &wake).map_err(AppendError::Invalid)?;
        self.check_epoch(at)?;
        let bytes = entries.iter().map(|entry| entry.body.len() + 64).sum();
        let last = entries.last().map_or(Seq(first.0.saturating_sub(1)), |entry| entry.seq);
        let turn = at.activation.turn(first).await?;
        let slot = match self.inner.writer.slot(bytes).await {
            Ok(slot) => slot,
            Err(failure) => return Err(turn.refused(append_error(failure, &at.activation))),
        };
        let (reply, answer) = oneshot::channel();
        turn.send(last, |append| {
            let append = Some(append);
            slot.send(Box::new(AppendJob { append, entries, wake, refused: None, reply }));
        });
        match timeout(COMMIT_WAIT_MAX, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(AppendError::OutcomeUnknown { source: cause("the writer ended") }),
            Err(_) => {
                let source = cause("the commit takes too long");
                Err(AppendError::OutcomeUnknown { source })
            }
        }
    }

    async fn snapshot(&self, at: &Opened, upto: Seq, state: Bytes) -> Result<(), AppendError> {
        if state.len() > SNAPSHOT_STATE_BYTES_MAX {
            return Err(AppendError::Invalid(InvalidAppend::SnapshotTooLarge(state.len())));
        }
        self.check_epoch(at)?;
        at.activation.check()?;
        if upto > at.activation.committed() {
            return Err(AppendError::Invalid(InvalidAppend::NotCommitted { upto }));
        }
        if upto == Seq::ZERO {
            return Ok(());
        }
        let entity = at.entity();
        let (guard, bytes) = (at.activation.clone(), state.len());
        let crc = checksum::of_snapshot(entity, upto, &state);
        let write = move |tx: &mut Tx<'_>| {
            // Once more, where no newer activation can have read meanwhile.
            match guard.check() {
                Ok(()) => write_snapshot(tx, entity, upto, crc, &state).map(Ok),
                Err(e) => Ok(Err(e)),
            }
        };
        match self.inner.writer.write_tx(bytes, write).await {
            Ok(outcome) => outcome,
            Err(failure) => Err(append_error(failure, &at.activation)),
        }
    }

    async fn read_archive(
        &self,
        entity: EntityId,
        from: FrameSeq,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let read = self.read_view(entity, move |view| {
            let upto = view.archived_upto()?;
            match view.first_with_frame(upto, from)? {
                Some(seq) => view.range(seq, upto, bytes_max, |entry| entry.frames > 0),
                None => Ok(Vec::new()),
            }
        });
        read.await.map_err(entity_read_error(entity))
    }

    async fn read_archive_entries(
        &self,
        entity: EntityId,
        from: Seq,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let read = self.read_view(entity, move |view| {
            view.range(from.max(Seq(1)), view.archived_upto()?, bytes_max, |_| true)
        });
        read.await.map_err(entity_read_error(entity))
    }
}

impl SqliteStore {
    /// A handle of another boot is of another process, whatever its registry says.
    pub(crate) fn check_epoch(&self, at: &Opened) -> Result<(), AppendError> {
        if at.activation.epoch() == self.inner.epoch {
            return Ok(());
        }
        Err(AppendError::Fenced { entity: at.entity(), fence: at.fence })
    }

    pub(crate) async fn read_view<T: Send + 'static>(
        &self,
        entity: EntityId,
        read: impl Fn(&View<'_>) -> Result<T, ReadFailure> + Send + 'static,
    ) -> Result<T, ReadFailure> {
        let recent = self.inner.recent.clone();
        let read = move |db: &Connection| {
            recent.read(db, entity, |db, recent| read(&View { db, recent, entity }))
        };
        self.inner.readers.read_alone(read).await
    }
}

pub(crate) fn write_snapshot(
    tx: &mut Tx<'_>,
    entity: EntityId,
    upto: Seq,
    crc: u32,
    state: &[u8],
) -> rusqlite::Result<()> {
    let mut write = tx.db.prepare_cached(
        "INSERT INTO snapshot (kind, entity, upto, crc, state) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (kind, entity) DO UPDATE
         SET upto = excluded.upto, crc = excluded.crc, state = excluded.state
         WHERE excluded.upto > snapshot.upto",
    )?;
    let (kind, id) = (entity.kind.code(), entity.id.as_bytes());
    let changed = write.execute(params![kind, id, int(upto.0), crc, state])?;
    if changed > 0 && !entity.kind.archives() {
        tx.trim(entity, upto)?;
    }
    Ok(())
}
