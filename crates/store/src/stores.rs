//! All stores of a node, chosen in the binary and injected.

use std::sync::Arc;

use troupe_types::Epoch;

use crate::{Blobs, DeadLetters, Directory, Inventory, JournalStore, Projections, WakeStore};

/// What a node keeps its durable things in.
#[derive(Clone, Debug)]
pub struct Stores {
    /// One log per entity.
    pub journal: Arc<dyn JournalStore>,
    /// Whom to look at again, and when.
    pub wake: Arc<dyn WakeStore>,
    /// Users, keys, sessions, settings.
    pub directory: Arc<dyn Directory>,
    /// Lists.
    pub projections: Arc<dyn Projections>,
    /// Large bytes.
    pub blobs: Arc<dyn Blobs>,
    /// Messages given up.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// What there is of all this, for copies of it.
    pub inventory: Arc<dyn Inventory>,
    /// The epoch of every shard in an embedded store, raised at each start of the process. In
    /// a cluster a shard's epoch comes from its claim, and this is zero.
    pub boot_epoch: Epoch,
}
