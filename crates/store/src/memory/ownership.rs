//! Leases and shards: what conditional updates of a real store do, unknown outcomes included.

use async_trait::async_trait;
use troupe_types::{Epoch, Incarnation, LeaseRow, NodeName, NodeState, ShardId, ShardRow};

use super::{MemoryStore, World};
use crate::{Cause, NewLease, Ownership, OwnershipError, ReadError, cause};

fn no_quorum() -> Cause {
    cause("no quorum of replicas")
}

fn unread() -> ReadError {
    ReadError::Unavailable { source: no_quorum() }
}

/// One conditional update: `change` says what becomes of the row, or that it is refused.
fn cas<R>(
    world: &mut World,
    change: impl FnOnce(&mut World) -> Result<R, OwnershipError>,
) -> Result<R, OwnershipError> {
    if !world.dice.has_quorum() {
        return Err(OwnershipError::Unavailable { source: no_quorum() });
    }
    let lost = OwnershipError::OutcomeUnknown { source: cause("the answer got lost") };
    let unknown = world.dice.chance(world.dice.faults.unknown);
    if unknown && world.dice.chance(0.5) {
        return Err(lost); // It never arrived.
    }
    let outcome = change(world);
    if unknown { Err(lost) } else { outcome }
}

impl MemoryStore {
    fn grant(
        &self,
        shard: ShardId,
        from: Option<&ShardRow>,
        (owner, owner_inc): (&NodeName, Incarnation),
    ) -> Result<ShardRow, OwnershipError> {
        let epoch = from.map_or(Epoch::ZERO, |row| row.epoch).next();
        let new = ShardRow { shard, owner: owner.clone(), owner_inc, epoch };
        cas(&mut self.world(), |world| {
            let now = world.shards.get(&shard);
            if now == Some(&new) {
                return Ok(new);
            }
            if now != from {
                return Err(OwnershipError::Refused);
            }
            world.shards.insert(shard, new.clone());
            world.grants.push(new.clone());
            Ok(new)
        })
    }
}

#[async_trait]
impl Ownership for MemoryStore {
    async fn join(&self, new: &NewLease) -> Result<LeaseRow, OwnershipError> {
        if self.holds_another(new.boot_id) {
            return Err(OwnershipError::Refused);
        }
        let row = cas(&mut self.world(), |world| {
            let now = world.leases.get(&new.node);
            if let Some(now) = now.filter(|now| now.boot_id == new.boot_id) {
                return if now.state == NodeState::Dead {
                    Err(OwnershipError::Refused)
                } else {
                    Ok(now.clone())
                };
            }
            let row = new.row(now.map_or(Incarnation::ZERO, |now| now.inc).next());
            world.leases.insert(new.node.clone(), row.clone());
            Ok(row)
        })?;
        self.hold(&row);
        Ok(row)
    }

    async fn renew(&self, lease: &LeaseRow, state: NodeState) -> Result<LeaseRow, OwnershipError> {
        let new = LeaseRow { seq: lease.seq + 1, state, ..lease.clone() };
        cas(&mut self.world(), |world| {
            let now = world.leases.get_mut(&lease.node).ok_or(OwnershipError::Refused)?;
            if *now == new {
                return Ok(new);
            }
            if (now.inc, now.seq) != (lease.inc, lease.seq) || now.state == NodeState::Dead {
                return Err(OwnershipError::Refused);
            }
            *now = new.clone();
            Ok(new)
        })
    }

    async fn kill(&self, seen: &LeaseRow) -> Result<(), OwnershipError> {
        cas(&mut self.world(), |world| {
            let now = world.leases.get_mut(&seen.node).ok_or(OwnershipError::Refused)?;
            if (now.inc, now.seq) != (seen.inc, seen.seq) {
                return Err(OwnershipError::Refused);
            }
            now.state = NodeState::Dead;
            Ok(())
        })
    }

    async fn lease(&self, node: &NodeName) -> Result<Option<LeaseRow>, ReadError> {
        let world = self.world();
        world.dice.has_quorum().then(|| world.leases.get(node).cloned()).ok_or_else(unread)
    }

    async fn leases(&self) -> Result<Vec<LeaseRow>, ReadError> {
        let world = self.world();
        let all = || world.leases.values().cloned().collect();
        world.dice.has_quorum().then(all).ok_or_else(unread)
    }

    async fn claim(
        &self,
        shard: ShardId,
        from: Option<&ShardRow>,
        to: (&NodeName, Incarnation),
    ) -> Result<ShardRow, OwnershipError> {
        self.grant(shard, from, to)
    }

    async fn hand_over(
        &self,
        from: &ShardRow,
        to: (&NodeName, Incarnation),
    ) -> Result<ShardRow, OwnershipError> {
        self.floors.release(from.shard, from.epoch);
        self.grant(from.shard, Some(from), to)
    }

    async fn bump(&self, from: &ShardRow) -> Result<ShardRow, OwnershipError> {
        self.grant(from.shard, Some(from), (&from.owner, from.owner_inc))
    }

    async fn shard(&self, shard: ShardId) -> Result<Option<ShardRow>, ReadError> {
        let world = self.world();
        world.dice.has_quorum().then(|| world.shards.get(&shard).cloned()).ok_or_else(unread)
    }

    async fn shards(&self) -> Result<Vec<ShardRow>, ReadError> {
        let world = self.world();
        let all = || world.shards.values().cloned().collect();
        world.dice.has_quorum().then(all).ok_or_else(unread)
    }

    async fn grants(&self, shard: ShardId) -> Result<Vec<ShardRow>, ReadError> {
        let world = self.world();
        let of = || world.grants.iter().filter(|row| row.shard == shard).cloned().collect();
        world.dice.has_quorum().then(of).ok_or_else(unread)
    }
}
