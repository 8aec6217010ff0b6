//! One suite per trait, run by the tests of every implementation.
//!
//! Each suite takes a [`Subject`] and panics where a contract is broken. `journal_model` is
//! the property test: random operations, crashes included, against a simple model.

mod backup;
mod directory;
mod journal;
pub mod journal_model;
mod ownership;
mod rows;
mod tags;
mod wake;

use async_trait::async_trait;
use bytes::Bytes;
use troupe_types::{EntityId, EntityKind, FrameSeq, Seq, ShardId, Uuid};

pub use self::{
    backup::{backup, contents, take, whole},
    directory::directory,
    journal::journal,
    ownership::{Cluster, ownership},
    rows::{blobs, dead_letters, projections},
    wake::wake,
};
use crate::{Entry, Opened, Stores};

/// A store under test.
#[async_trait]
pub trait Subject: Send {
    /// The store as it stands.
    fn stores(&self) -> Stores;

    /// Ends the process that holds the store, as hard as this subject can, and starts another
    /// one over the same data.
    async fn restart(&mut self);
}

/// A fresh entity.
pub(crate) fn entity(kind: EntityKind) -> EntityId {
    EntityId { kind, id: Uuid::new_v4() }
}

/// Fresh Tasks, `count` in each of these shards.
pub(crate) fn entities_of_shards(shards: &[ShardId], count: usize) -> Vec<EntityId> {
    let of = |shard: ShardId| {
        let fresh = std::iter::repeat_with(|| entity(EntityKind::Task));
        fresh.filter(move |id| id.shard() == shard).take(count)
    };
    shards.iter().flat_map(|shard| of(*shard)).collect()
}

/// `count` entries from `first` on, each with `frames` frames, the first of which is `frame`.
pub(crate) fn entries(first: u64, count: u64, frame: u64, frames: u32) -> Vec<Entry> {
    let entry = |n: u64| Entry {
        seq: Seq(first + n),
        first_frame: FrameSeq(frame + n * u64::from(frames)),
        frames,
        body: Bytes::from(format!("entry {} of {count}", first + n)),
    };
    (0..count).map(entry).collect()
}

/// What an activation sees: its snapshot's end, and its tail.
pub(crate) fn seen(opened: &Opened) -> (u64, Vec<Entry>) {
    (opened.snapshot.as_ref().map_or(0, |s| s.upto.0), opened.tail.clone())
}
