//! Runs what the placement asks of the store.

use troupe_placement::{Answer, StoreOp};
use troupe_store::{NewLease, Ownership, OwnershipError, ReadError};

/// What becomes of one operation. Never waits longer than the store does.
pub(super) async fn run(store: &dyn Ownership, op: &StoreOp) -> Answer {
    match op {
        StoreOp::ReadLease { node } => read(store.lease(node).await, Answer::Lease),
        StoreOp::ListLeases => read(store.leases().await, Answer::Leases),
        StoreOp::ReadShard { shard } => read(store.shard(*shard).await, Answer::Shard),
        StoreOp::ListShards => read(store.shards().await, Answer::Shards),
        StoreOp::Join { row, .. } => {
            let new = NewLease {
                node: row.node.clone(),
                boot_id: row.boot_id,
                addr: row.addr.clone(),
                build: row.build.clone(),
                roles: row.roles,
                weight: row.weight,
            };
            match store.join(&new).await {
                Ok(joined) if joined.inc == row.inc => Answer::Applied,
                // Under another incarnation than was expected: the next read finds it.
                Ok(_) => Answer::Refused,
                Err(error) => refused(&error),
            }
        }
        StoreOp::Renew { from, state } => changed(store.renew(from, *state).await),
        StoreOp::Kill { seen } => changed(store.kill(seen).await),
        StoreOp::Claim { expected, row } => {
            changed(store.claim(row.shard, expected.as_ref(), (&row.owner, row.owner_inc)).await)
        }
        StoreOp::Move { expected, row } => {
            changed(store.hand_over(expected, (&row.owner, row.owner_inc)).await)
        }
        StoreOp::Bump { expected, .. } => changed(store.bump(expected).await),
    }
}

fn read<T>(found: Result<T, ReadError>, answer: impl FnOnce(T) -> Answer) -> Answer {
    found.map_or_else(
        |error| {
            tracing::debug!(%error, "rows of ownership were not read");
            Answer::Failed
        },
        answer,
    )
}

fn changed<T>(outcome: Result<T, OwnershipError>) -> Answer {
    outcome.map_or_else(|error| refused(&error), |_| Answer::Applied)
}

fn refused(error: &OwnershipError) -> Answer {
    match error {
        OwnershipError::Refused => Answer::Refused,
        // Nothing was changed, or nobody knows: looked up before the next step either way.
        OwnershipError::OutcomeUnknown { .. } | OwnershipError::Unavailable { .. } => {
            tracing::debug!(%error, "a row of ownership was not changed for certain");
            Answer::Failed
        }
    }
}
