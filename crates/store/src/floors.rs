//! The shards that a process has given away, so that it never goes on under an old epoch.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use troupe_types::{Epoch, ShardId};

/// The lowest epoch under which each shard may still be written. At most one entry per shard.
///
/// A lease proves that a node is alive, not that a shard is still its own: after a planned
/// hand-over both are true, and only this tells the old activations to stop.
#[derive(Clone, Debug, Default)]
pub struct Floors {
    released: Arc<Mutex<HashMap<ShardId, Epoch>>>,
}

impl Floors {
    /// From here on everything of the shard under `upto` or an older epoch is refused.
    pub fn release(&self, shard: ShardId, upto: Epoch) {
        let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = released.entry(shard).or_default();
        *floor = upto.max(*floor);
    }

    /// Whether the shard may be written under this epoch, as far as this process knows.
    #[must_use]
    pub fn admits(&self, shard: ShardId, epoch: Epoch) -> bool {
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        released.get(&shard).is_none_or(|upto| epoch > *upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_epoch_never_comes_back() {
        let floors = Floors::default();
        assert!(floors.admits(ShardId(1), Epoch::ZERO));
        floors.release(ShardId(1), Epoch(4));
        floors.release(ShardId(1), Epoch(2));
        assert!(!floors.admits(ShardId(1), Epoch(4)));
        assert!(floors.admits(ShardId(1), Epoch(5)));
        assert!(floors.admits(ShardId(2), Epoch(1)));
    }
}
