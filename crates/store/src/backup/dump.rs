//! Reading a store that is at work, one thing at a time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::{sync::mpsc::Sender, time::timeout};
use troupe_types::{EntityId, Seq};

use super::{
    file::{Encoder, Totals},
    mark,
    record::{Head, Record},
};
use crate::{CorruptPart, DirectoryTable, Peeked, ReadError, Stores};

/// Names that are read at once. Things themselves are read one by one.
const PAGE: usize = 500;
/// Dead letters of a page; each may have half a MiB.
const LETTERS_PAGE: usize = 8;
/// Bytes of archived entries that are read at once.
const ARCHIVE_BYTES: usize = 1024 * 1024;
/// Bytes that are gathered before they are handed on.
const CHUNK_BYTES: usize = 256 * 1024;
/// How long nobody may take what was read.
const STALL_MAX: Duration = Duration::from_secs(120);
/// A read that a busy store did not answer is made again, after a pause that grows.
const READ_TRIES: u32 = 5;
const READ_PAUSE: Duration = Duration::from_millis(200);

/// Why a backup has no end. What was handed on until then is of no use.
#[derive(Debug, Error)]
pub enum DumpError {
    /// The store did not answer, or something in it is damaged.
    #[error("the store could not be read")]
    Store(#[from] ReadError),
    /// Nobody takes what is read any more.
    #[error("nobody takes the backup any more")]
    Stalled,
}

/// Reads everything in `stores` and hands it on in pieces, the end last.
///
/// Holds a few MiB, or a few times the largest blob or snapshot; a slow taker slows it.
///
/// # Errors
/// See [`DumpError`]. Whoever took the pieces sees no end.
pub async fn dump(stores: &Stores, head: Head, to: &Sender<Bytes>) -> Result<Totals, DumpError> {
    let mut dump = Dump { stores, to, encoder: Encoder::default(), pending: BytesMut::new() };
    dump.encoder.begin(&mut dump.pending);
    dump.put(&Record::Head(head)).await?;
    dump.entities().await?;
    for code in 0..=u8::MAX {
        if let Some(table) = DirectoryTable::from_code(code) {
            dump.table(table).await?;
        }
    }
    dump.blobs().await?;
    dump.dead_letters().await?;
    let Dump { encoder, mut pending, .. } = dump;
    let totals = encoder.end(&mut pending);
    hand_on(to, pending.freeze()).await?;
    Ok(totals)
}

async fn hand_on(to: &Sender<Bytes>, bytes: Bytes) -> Result<(), DumpError> {
    match timeout(STALL_MAX, to.send(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(DumpError::Stalled),
    }
}

struct Dump<'a> {
    stores: &'a Stores,
    to: &'a Sender<Bytes>,
    encoder: Encoder,
    pending: BytesMut,
}

impl Dump<'_> {
    async fn put(&mut self, record: &Record) -> Result<(), DumpError> {
        self.encoder.record(record, &mut self.pending);
        // A large blob goes in many pieces, so that few of them wait.
        while self.pending.len() >= CHUNK_BYTES {
            let bytes = self.pending.split_to(CHUNK_BYTES).freeze();
            hand_on(self.to, bytes).await?;
        }
        Ok(())
    }

    async fn entities(&mut self) -> Result<(), DumpError> {
        let mut after = None;
        loop {
            let inventory = &self.stores.inventory;
            let page = patiently(|| inventory.entities(after, PAGE)).await?;
            let Some(last) = page.last().copied() else { return Ok(()) };
            after = Some(last);
            for entity in page {
                let inventory = &self.stores.inventory;
                if let Some(peeked) = patiently(|| inventory.peek(entity)).await? {
                    self.entity(entity, peeked).await?;
                }
            }
        }
    }

    async fn entity(&mut self, entity: EntityId, peeked: Peeked) -> Result<(), DumpError> {
        let upto = peeked.archived_upto();
        self.put(&Record::Entity { entity, upto }).await?;
        if entity.kind.archives() {
            self.archive(entity, upto).await?;
        }
        if let Some(snapshot) = peeked.snapshot {
            self.put(&Record::Snapshot(snapshot)).await?;
        }
        for entry in peeked.tail {
            self.put(&Record::Entry(entry)).await?;
        }
        for (due, kind) in peeked.wake {
            self.put(&Record::Wake(due, kind)).await?;
        }
        if let Some(row) = peeked.task {
            self.put(&Record::Task(row)).await?;
        }
        Ok(())
    }

    /// The archived entries that the snapshot covers; there may be newer ones by now.
    async fn archive(&mut self, entity: EntityId, upto: Seq) -> Result<(), DumpError> {
        let mut next = Seq(1);
        while next <= upto {
            let journal = &self.stores.journal;
            let read = || journal.read_archive_entries(entity, next, ARCHIVE_BYTES);
            let missing = next;
            for entry in patiently(read).await? {
                if entry.seq != next || next > upto {
                    break;
                }
                next = next.next();
                self.put(&Record::Entry(entry)).await?;
            }
            if next == missing {
                let part = CorruptPart::Entry(missing);
                return Err(ReadError::Corrupt { entity, part }.into());
            }
        }
        Ok(())
    }

    async fn table(&mut self, table: DirectoryTable) -> Result<(), DumpError> {
        let mut after: Option<Bytes> = None;
        loop {
            let directory = &self.stores.directory;
            let read = || directory.list(table, None, after.as_deref(), PAGE);
            let page = patiently(read).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for row in page {
                // Where this store came from is no part of it.
                if (row.table, row.key.as_ref()) != (DirectoryTable::Setting, mark::KEY) {
                    self.put(&Record::Row(row)).await?;
                }
            }
        }
    }

    async fn blobs(&mut self) -> Result<(), DumpError> {
        let mut after = None;
        loop {
            let inventory = &self.stores.inventory;
            let page = patiently(|| inventory.blobs(after, PAGE)).await?;
            let Some(last) = page.last().copied() else { return Ok(()) };
            after = Some(last);
            for hash in page {
                let blobs = &self.stores.blobs;
                if let Some(bytes) = patiently(|| blobs.get(hash)).await? {
                    self.put(&Record::Blob(bytes)).await?;
                }
            }
        }
    }

    async fn dead_letters(&mut self) -> Result<(), DumpError> {
        let mut after = None;
        loop {
            let letters = &self.stores.dead_letters;
            let page = patiently(|| letters.list(after, LETTERS_PAGE)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id);
            for letter in page {
                self.put(&Record::DeadLetter(letter)).await?;
            }
        }
    }
}

/// Reads change nothing, so one that failed for the moment is made again.
async fn patiently<T, F>(mut read: impl FnMut() -> F) -> Result<T, ReadError>
where
    F: Future<Output = Result<T, ReadError>>,
{
    let mut tries = 1;
    loop {
        match read().await {
            Err(e) if e.is_transient() && tries < READ_TRIES => {
                tokio::time::sleep(READ_PAUSE * tries).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}
