//! Checksums of entries and snapshots: CRC-32 over the body and everything it stands under, so
//! that a body in the wrong place is noticed too.

use crc32fast::Hasher;
use troupe_store::Entry;
use troupe_types::{EntityId, Seq};

fn hasher(entity: EntityId, seq: Seq) -> Hasher {
    let mut hasher = Hasher::new();
    let mut head = [0; 25];
    head[0] = entity.kind.code();
    head[1..17].copy_from_slice(entity.id.as_bytes());
    head[17..].copy_from_slice(&seq.0.to_le_bytes());
    hasher.update(&head);
    hasher
}

/// As the signed number that CQL has.
fn signed(hasher: Hasher) -> i32 {
    i32::from_ne_bytes(hasher.finalize().to_ne_bytes())
}

pub(crate) fn of_entry(entity: EntityId, entry: &Entry) -> i32 {
    let mut hasher = hasher(entity, entry.seq);
    let mut frames = [0; 12];
    frames[..8].copy_from_slice(&entry.first_frame.0.to_le_bytes());
    frames[8..].copy_from_slice(&entry.frames.to_le_bytes());
    hasher.update(&frames);
    hasher.update(&entry.body);
    signed(hasher)
}

pub(crate) fn of_snapshot(entity: EntityId, upto: Seq, state: &[u8]) -> i32 {
    let mut hasher = hasher(entity, upto);
    hasher.update(state);
    signed(hasher)
}
