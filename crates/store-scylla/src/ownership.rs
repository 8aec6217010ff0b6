//! Leases and shards: conditional updates, settled by a SERIAL read when their answer is lost.

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use troupe_store::{Cause, NewLease, Ownership, OwnershipError, ReadError, cause};
use troupe_types::{
    Epoch, Incarnation, LeaseRow, NodeName, NodeState, Roles, SHARDS_GENERAL, SHARDS_KNOWLEDGE,
    ShardId, ShardRow, Uuid,
};

use crate::{
    ScyllaStore,
    barrier::Held,
    cql::{Lwt, from_tiny, int, tiny, uint},
    error::{Failed, unread},
};

const LEASES: &str = "the leases of nodes";
const SHARDS: &str = "the owners of shards";
/// How often one change is sent.
const TRIES: usize = 3;
/// Shards of one statement when all of them are read.
const SHARDS_OF_ONE: u16 = 64;
/// Statements that are under way when everything is read.
const READS_AT_ONCE: usize = 8;

type FoundLease = (String, Uuid, i64, i64, String, String, String, i8, i32);
type FoundShard = (i32, String, i64, i64);

fn to_lease(found: FoundLease) -> Result<LeaseRow, Failed> {
    let (node, boot_id, inc, seq, state, addr, build, roles, weight) = found;
    let odd = || Failed::Odd(cause("a lease has an unknown state"));
    Ok(LeaseRow {
        node: NodeName::from(node.as_str()),
        boot_id,
        inc: Incarnation(uint(inc)),
        seq: uint(seq),
        state: NodeState::from_name(&state).ok_or_else(odd)?,
        addr,
        build,
        roles: Roles::from_bits(from_tiny(roles)),
        weight: u32::try_from(weight).unwrap_or(1),
    })
}

fn to_shard((shard, owner, owner_inc, epoch): FoundShard) -> ShardRow {
    ShardRow {
        shard: ShardId(u16::try_from(shard).unwrap_or(u16::MAX)),
        owner: NodeName::from(owner.as_str()),
        owner_inc: Incarnation(uint(owner_inc)),
        epoch: Epoch(uint(epoch)),
    }
}

impl From<Failed> for OwnershipError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(source) => Self::Unavailable { source },
            Failed::Unknown(source) | Failed::Odd(source) => Self::OutcomeUnknown { source },
        }
    }
}

/// A read that was to settle a change did not.
fn unsettled(failed: Failed) -> OwnershipError {
    OwnershipError::OutcomeUnknown { source: failed.cause() }
}

/// What the row says about a change that was sent.
enum Settled {
    Done,
    /// Nothing has happened yet; it may still.
    Same,
    Refused,
}

impl ScyllaStore {
    /// Sends a change until it is known what became of it. The same change again is harmless:
    /// it finds the row as it left it, and `settle` recognises that.
    async fn change<T, S, R>(
        &self,
        new: T,
        send: impl Fn() -> S,
        settle: impl Fn() -> R,
    ) -> Result<T, OwnershipError>
    where
        S: Future<Output = Result<Lwt, Failed>>,
        R: Future<Output = Result<Settled, Failed>>,
    {
        let mut source: Cause = cause("nobody knows what became of the change");
        for _ in 0..TRIES {
            match send().await? {
                Lwt::Applied => return Ok(new),
                Lwt::Refused(_) => {}
                Lwt::Unknown(why) => source = why,
            }
            match settle().await.map_err(unsettled)? {
                Settled::Done => return Ok(new),
                Settled::Refused => return Err(OwnershipError::Refused),
                Settled::Same => {}
            }
        }
        Err(OwnershipError::OutcomeUnknown { source })
    }

    async fn lease_row(&self, node: &NodeName) -> Result<Option<LeaseRow>, Failed> {
        let key = (self.cluster(), node.as_str());
        let found = self.cql().row::<FoundLease>(&self.statements().lease, key).await?;
        found.map(to_lease).transpose()
    }

    async fn shard_row(&self, shard: ShardId) -> Result<Option<ShardRow>, Failed> {
        let key = (self.cluster(), i32::from(shard.0));
        let found = self.cql().row::<FoundShard>(&self.statements().shard, key).await?;
        Ok(found.map(to_shard))
    }

    async fn send_join(&self, new: &NewLease, old: Option<&LeaseRow>) -> Result<Lwt, Failed> {
        let (cluster, node) = (self.cluster(), new.node.as_str());
        let (addr, build) = (new.addr.as_str(), new.build.as_str());
        let (roles, weight) =
            (tiny(new.roles.bits()), i32::try_from(new.weight).unwrap_or(i32::MAX));
        let statements = self.statements();
        let inc = int(old.map_or(Incarnation::ZERO, |old| old.inc).next().0);
        match old {
            None => {
                let values = (cluster, node, new.boot_id, inc, addr, build, roles, weight);
                self.cql().lwt(&statements.lease_insert, values).await
            }
            Some(old) => {
                let old = int(old.inc.0);
                let values = (new.boot_id, inc, addr, build, roles, weight, cluster, node, old);
                self.cql().lwt(&statements.lease_join, values).await
            }
        }
    }

    async fn grant(
        &self,
        shard: ShardId,
        from: Option<&ShardRow>,
        (owner, owner_inc): (&NodeName, Incarnation),
    ) -> Result<ShardRow, OwnershipError> {
        let epoch = from.map_or(Epoch::ZERO, |row| row.epoch).next();
        let new = ShardRow { shard, owner: owner.clone(), owner_inc, epoch };
        let (cluster, number, name) = (self.cluster(), i32::from(shard.0), owner.as_str());
        let (inc, epoch) = (int(owner_inc.0), int(epoch.0));
        let statements = self.statements();
        let send = || async {
            match from {
                None => {
                    let values = (cluster, number, name, inc, epoch);
                    self.cql().lwt(&statements.shard_insert, values).await
                }
                Some(from) => {
                    let (old, by) = (int(from.epoch.0), from.owner.as_str());
                    let values =
                        (name, inc, epoch, cluster, number, old, by, int(from.owner_inc.0));
                    self.cql().lwt(&statements.shard_grant, values).await
                }
            }
        };
        let settle = || async {
            let now = self.shard_row(shard).await?;
            Ok(match now {
                Some(now) if now == new => Settled::Done,
                now if now.as_ref() == from => Settled::Same,
                _ => Settled::Refused,
            })
        };
        let granted = self.change(new.clone(), send, settle).await?;
        // For audits only: the row itself is what counts.
        let logged = (cluster, number, epoch, name, inc);
        if let Err(failed) = self.cql().write(&statements.grant_insert, logged).await {
            tracing::warn!(%shard, ?failed, "a grant was not written down");
        }
        Ok(granted)
    }
}

#[async_trait]
impl Ownership for ScyllaStore {
    async fn join(&self, new: &NewLease) -> Result<LeaseRow, OwnershipError> {
        let taken = self.inner.barrier.held().is_some_and(|held| held.boot_id != new.boot_id);
        if taken || self.inner.barrier.is_over() {
            return Err(OwnershipError::Refused);
        }
        self.inner.barrier.ask(new.boot_id);
        let node = (self.cluster(), new.node.as_str());
        self.cql().write(&self.statements().node_insert, node).await?;
        let old = self.lease_row(&new.node).await?;
        let row = match &old {
            Some(mine) if mine.boot_id == new.boot_id && mine.state == NodeState::Dead => {
                return Err(OwnershipError::Refused);
            }
            Some(mine) if mine.boot_id == new.boot_id => mine.clone(),
            _ => {
                let inc = |row: &Option<LeaseRow>| row.as_ref().map(|row| row.inc);
                let row = new.row(inc(&old).unwrap_or_default().next());
                let send = || self.send_join(new, old.as_ref());
                let settle = || async {
                    let now = self.lease_row(&new.node).await?;
                    Ok(match &now {
                        Some(now) if *now == row => Settled::Done,
                        _ if inc(&now) == inc(&old) => Settled::Same,
                        _ => Settled::Refused,
                    })
                };
                self.change(row.clone(), send, settle).await?
            }
        };
        let held = self.inner.barrier.hold(Held::from(&row));
        if held { Ok(row) } else { Err(OwnershipError::Refused) }
    }

    async fn renew(&self, lease: &LeaseRow, state: NodeState) -> Result<LeaseRow, OwnershipError> {
        let new = LeaseRow { seq: lease.seq + 1, state, ..lease.clone() };
        let (cluster, node) = (self.cluster(), lease.node.as_str());
        let (inc, seq) = (int(lease.inc.0), int(lease.seq));
        let send = || async {
            let state = state.name();
            let values = (int(new.seq), state, cluster, node, inc, lease.boot_id, seq);
            self.cql().lwt(&self.statements().lease_renew, values).await
        };
        let settle = || async {
            let now = self.lease_row(&lease.node).await?;
            Ok(match now {
                Some(now) if now == new => Settled::Done,
                Some(now)
                    if (now.inc, now.seq, now.boot_id) == (lease.inc, lease.seq, lease.boot_id)
                        && now.state != NodeState::Dead =>
                {
                    Settled::Same
                }
                _ => Settled::Refused,
            })
        };
        let renewed = self.change(new.clone(), send, settle).await?;
        self.inner.barrier.seen(&renewed);
        Ok(renewed)
    }

    async fn kill(&self, seen: &LeaseRow) -> Result<(), OwnershipError> {
        let (cluster, node) = (self.cluster(), seen.node.as_str());
        let (inc, seq) = (int(seen.inc.0), int(seen.seq));
        let send = || async {
            self.cql().lwt(&self.statements().lease_kill, (cluster, node, inc, seq)).await
        };
        let settle = || async {
            let now = self.lease_row(&seen.node).await?;
            let now = now.filter(|now| (now.inc, now.seq) == (seen.inc, seen.seq));
            Ok(match now.map(|now| now.state) {
                Some(NodeState::Dead) => Settled::Done,
                Some(_) => Settled::Same,
                None => Settled::Refused,
            })
        };
        self.change((), send, settle).await
    }

    async fn lease(&self, node: &NodeName) -> Result<Option<LeaseRow>, ReadError> {
        let row = self.lease_row(node).await.map_err(unread(LEASES))?;
        if let Some(row) = &row {
            self.inner.barrier.seen(row);
        }
        Ok(row)
    }

    async fn leases(&self) -> Result<Vec<LeaseRow>, ReadError> {
        let read = async {
            let (cluster, statements) = (self.cluster(), self.statements());
            let nodes: Vec<(String,)> = self.cql().rows(&statements.nodes, (cluster,)).await?;
            let read = |(node,): (String,)| async move {
                let key = (cluster, node.as_str());
                self.cql().row::<FoundLease>(&statements.lease_hint, key).await
            };
            let rows = stream::iter(nodes).map(read).buffered(READS_AT_ONCE);
            let rows: Vec<Option<FoundLease>> = rows.try_collect().await?;
            rows.into_iter().flatten().map(to_lease).collect::<Result<Vec<_>, Failed>>()
        };
        read.await.map_err(unread(LEASES))
    }

    async fn claim(
        &self,
        shard: ShardId,
        from: Option<&ShardRow>,
        to: (&NodeName, Incarnation),
    ) -> Result<ShardRow, OwnershipError> {
        self.grant(shard, from, to).await
    }

    async fn hand_over(
        &self,
        from: &ShardRow,
        to: (&NodeName, Incarnation),
    ) -> Result<ShardRow, OwnershipError> {
        self.inner.floors.release(from.shard, from.epoch);
        self.grant(from.shard, Some(from), to).await
    }

    async fn bump(&self, from: &ShardRow) -> Result<ShardRow, OwnershipError> {
        self.grant(from.shard, Some(from), (&from.owner, from.owner_inc)).await
    }

    async fn shard(&self, shard: ShardId) -> Result<Option<ShardRow>, ReadError> {
        self.shard_row(shard).await.map_err(unread(SHARDS))
    }

    async fn shards(&self) -> Result<Vec<ShardRow>, ReadError> {
        let all = (0..SHARDS_GENERAL + SHARDS_KNOWLEDGE).step_by(usize::from(SHARDS_OF_ONE));
        let read = |first: u16| async move {
            let numbers: Vec<i32> = (first..first + SHARDS_OF_ONE).map(i32::from).collect();
            let values = (self.cluster(), numbers);
            self.cql().rows::<FoundShard>(&self.statements().shards, values).await
        };
        let rows = stream::iter(all).map(read).buffered(READS_AT_ONCE);
        let rows: Vec<Vec<FoundShard>> = rows.try_collect().await.map_err(unread(SHARDS))?;
        let mut rows: Vec<ShardRow> = rows.into_iter().flatten().map(to_shard).collect();
        rows.sort_by_key(|row| row.shard);
        Ok(rows)
    }

    async fn grants(&self, shard: ShardId) -> Result<Vec<ShardRow>, ReadError> {
        let key = (self.cluster(), i32::from(shard.0));
        let rows: Vec<FoundShard> =
            self.cql().rows(&self.statements().grants, key).await.map_err(unread(SHARDS))?;
        Ok(rows.into_iter().map(to_shard).collect())
    }
}
