//! What a backup is made of, and its bytes. Numbers are big-endian, texts and bytes carry their
//! length, and the golden file pins all of it.

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use troupe_types::{EntityId, EntityKind, FrameSeq, Seq, TaskId, Timestamp, UserId, Uuid};

use crate::{DeadLetter, DirectoryRow, DirectoryTable, Entry, Snapshot, TaskRow, WakeKind};

/// Kinds of records; the numbers lie in files and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// What the backup is.
    Head = 1,
    /// A journal begins.
    Entity = 2,
    /// An entry of the entity before it.
    Entry = 3,
    /// Its snapshot.
    Snapshot = 4,
    /// A wake row of it.
    Wake = 5,
    /// Its row in a list.
    Task = 6,
    /// A row of the directory.
    Row = 7,
    /// A blob.
    Blob = 8,
    /// A dead letter.
    DeadLetter = 9,
    /// The end, with counts and a checksum of everything before it.
    End = 255,
}

impl Kind {
    /// All but the end, in the order of their numbers.
    pub const COUNTED: [Self; 9] = [
        Self::Head,
        Self::Entity,
        Self::Entry,
        Self::Snapshot,
        Self::Wake,
        Self::Task,
        Self::Row,
        Self::Blob,
        Self::DeadLetter,
    ];

    /// The number in files.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        let known = Self::COUNTED.into_iter().chain([Self::End]);
        known.into_iter().find(|kind| kind.code() == code)
    }
}

/// What a backup says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its name; a restore that was interrupted goes on with this backup only.
    pub id: Uuid,
    /// When it was begun, by the node's clock.
    pub at: Timestamp,
    /// The program that made it.
    pub build: String,
    /// The node that made it.
    pub node: String,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Comes first, once.
    Head(Head),
    /// The journal of this entity begins; its snapshot will cover entries up to `upto`.
    Entity {
        /// Whose journal.
        entity: EntityId,
        /// The end of its snapshot, zero if there will be none.
        upto: Seq,
    },
    /// The next entry. Those of a kind without an archive begin behind the snapshot.
    Entry(Entry),
    /// Comes behind the last entry that it covers, if those are here.
    Snapshot(Snapshot),
    /// When and why to look at the entity.
    Wake(Timestamp, WakeKind),
    /// The Task in its owner's list.
    Task(TaskRow),
    /// A row of the directory. Its version starts again at 1 when it is restored.
    Row(DirectoryRow),
    /// The bytes; their name follows from them.
    Blob(Bytes),
    /// A message given up.
    DeadLetter(DeadLetter),
}

/// The payload does not read as its kind: a damaged or a newer file.
#[derive(Debug)]
pub(super) struct Unreadable;

impl From<TryGetError> for Unreadable {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

impl Record {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Head(_) => Kind::Head,
            Self::Entity { .. } => Kind::Entity,
            Self::Entry(_) => Kind::Entry,
            Self::Snapshot(_) => Kind::Snapshot,
            Self::Wake(..) => Kind::Wake,
            Self::Task(_) => Kind::Task,
            Self::Row(_) => Kind::Row,
            Self::Blob(_) => Kind::Blob,
            Self::DeadLetter(_) => Kind::DeadLetter,
        }
    }

    pub(super) fn encode(&self) -> BytesMut {
        let mut out = BytesMut::new();
        match self {
            Self::Head(head) => {
                put_uuid(&mut out, head.id);
                out.put_i64(head.at.as_millis());
                put_bytes(&mut out, head.build.as_bytes());
                put_bytes(&mut out, head.node.as_bytes());
            }
            Self::Entity { entity, upto } => {
                put_entity(&mut out, *entity);
                out.put_u64(upto.0);
            }
            Self::Entry(entry) => {
                out.put_u64(entry.seq.0);
                out.put_u64(entry.first_frame.0);
                out.put_u32(entry.frames);
                put_bytes(&mut out, &entry.body);
            }
            Self::Snapshot(snapshot) => {
                out.put_u64(snapshot.upto.0);
                put_bytes(&mut out, &snapshot.state);
            }
            Self::Wake(due, kind) => {
                out.put_i64(due.as_millis());
                out.put_u8(kind.code());
            }
            Self::Task(row) => put_task(&mut out, row),
            Self::Row(row) => {
                out.put_u8(row.table.code());
                put_bytes(&mut out, &row.key);
                out.put_u8(u8::from(row.owner.is_some()));
                put_uuid(&mut out, row.owner.unwrap_or_default());
                put_bytes(&mut out, &row.body);
            }
            Self::Blob(bytes) => out.put_slice(bytes),
            Self::DeadLetter(letter) => {
                put_uuid(&mut out, letter.id);
                put_entity(&mut out, letter.entity);
                put_bytes(&mut out, &letter.message);
                put_bytes(&mut out, letter.error.as_bytes());
                out.put_u32(letter.strikes);
                out.put_i64(letter.at.as_millis());
            }
        }
        out
    }

    /// Every byte must belong to a field, so that nothing is dropped unseen.
    pub(super) fn decode(kind: Kind, mut from: Bytes) -> Result<Self, Unreadable> {
        let from = &mut from;
        let record = match kind {
            Kind::Head => Self::Head(Head {
                id: uuid(from)?,
                at: time(from)?,
                build: text(from)?,
                node: text(from)?,
            }),
            Kind::Entity => Self::Entity { entity: entity(from)?, upto: seq(from)? },
            Kind::Entry => Self::Entry(Entry {
                seq: seq(from)?,
                first_frame: FrameSeq(from.try_get_u64()?),
                frames: from.try_get_u32()?,
                body: bytes(from)?,
            }),
            Kind::Snapshot => Self::Snapshot(Snapshot { upto: seq(from)?, state: bytes(from)? }),
            Kind::Wake => {
                let due = time(from)?;
                Self::Wake(due, WakeKind::from_code(from.try_get_u8()?).ok_or(Unreadable)?)
            }
            Kind::Task => Self::Task(task(from)?),
            Kind::Row => {
                let table = DirectoryTable::from_code(from.try_get_u8()?).ok_or(Unreadable)?;
                let key = bytes(from)?;
                let owned = flag(from)?;
                let owner = Some(uuid(from)?).filter(|_| owned);
                Self::Row(DirectoryRow { table, key, owner, version: 1, body: bytes(from)? })
            }
            Kind::Blob => Self::Blob(std::mem::take(from)),
            Kind::DeadLetter => Self::DeadLetter(DeadLetter {
                id: uuid(from)?,
                entity: entity(from)?,
                message: bytes(from)?,
                error: text(from)?,
                strikes: from.try_get_u32()?,
                at: time(from)?,
            }),
            Kind::End => return Err(Unreadable),
        };
        if from.is_empty() { Ok(record) } else { Err(Unreadable) }
    }
}

fn put_task(out: &mut BytesMut, row: &TaskRow) {
    put_uuid(out, row.task.uuid());
    put_uuid(out, row.owner.uuid());
    out.put_u64(row.seq.0);
    out.put_i64(row.created_at.as_millis());
    out.put_i64(row.updated_at.as_millis());
    for text in [&row.status, &row.title, &row.team, &row.team_namespace] {
        put_bytes(out, text.as_bytes());
    }
    out.put_u8(u8::from(row.archived));
    out.put_u8(u8::from(row.deleted));
    out.put_u32(row.asks);
    put_bytes(out, &row.body);
}

fn task(from: &mut Bytes) -> Result<TaskRow, Unreadable> {
    Ok(TaskRow {
        task: TaskId::from_uuid(uuid(from)?),
        owner: UserId::from_uuid(uuid(from)?),
        seq: seq(from)?,
        created_at: time(from)?,
        updated_at: time(from)?,
        status: text(from)?,
        title: text(from)?,
        team: text(from)?,
        team_namespace: text(from)?,
        archived: flag(from)?,
        deleted: flag(from)?,
        asks: from.try_get_u32()?,
        body: bytes(from)?,
    })
}

fn put_uuid(out: &mut BytesMut, id: Uuid) {
    out.put_slice(id.as_bytes());
}

fn put_entity(out: &mut BytesMut, entity: EntityId) {
    out.put_u8(entity.kind.code());
    put_uuid(out, entity.id);
}

/// Nothing here is longer than a record, which is far below the largest `u32`.
fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

fn uuid(from: &mut Bytes) -> Result<Uuid, Unreadable> {
    Ok(Uuid::from_u128(from.try_get_u128()?))
}

fn entity(from: &mut Bytes) -> Result<EntityId, Unreadable> {
    let kind = EntityKind::from_code(from.try_get_u8()?).ok_or(Unreadable)?;
    Ok(EntityId { kind, id: uuid(from)? })
}

fn seq(from: &mut Bytes) -> Result<Seq, Unreadable> {
    Ok(Seq(from.try_get_u64()?))
}

fn time(from: &mut Bytes) -> Result<Timestamp, Unreadable> {
    Ok(Timestamp::from_millis(from.try_get_i64()?))
}

fn flag(from: &mut Bytes) -> Result<bool, Unreadable> {
    match from.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Unreadable),
    }
}

fn bytes(from: &mut Bytes) -> Result<Bytes, Unreadable> {
    let length = from.try_get_u32()? as usize;
    if length > from.len() {
        return Err(Unreadable);
    }
    Ok(from.split_to(length))
}

fn text(from: &mut Bytes) -> Result<String, Unreadable> {
    String::from_utf8(bytes(from)?.into()).map_err(|_| Unreadable)
}
