//! `troupe node restore`: fills the empty database of a cluster from a backup.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use troupe_store::{
    NewLease, Ownership as _, OwnershipError,
    backup::{begin, may_load},
};
use troupe_store_scylla::ScyllaStore;
use troupe_types::{LeaseRow, NodeName, NodeState, Uuid};

use super::{RunArgs, cluster_name, configure, store_options};
use crate::restore::{load, verified};

/// Works under the lease of the node whose configuration it has, so its writes are fenced like
/// any node's, and ends it.
pub(super) async fn run(args: &RunArgs, file: &Path) -> Result<()> {
    let config = configure(args)?;
    let options = store_options(&config, &cluster_name(&config)?)?;
    let backup = verified(file)?;
    let store = ScyllaStore::connect(&options).await;
    let store = store
        .map_err(|error| anyhow::anyhow!("the store: {}", troupe_telemetry::error_chain(&error)))?;
    let name = NodeName::from(config.node.name.as_str());
    let id = backup.head().id;
    // First: on a store in use the lease would be taken from the node that works.
    may_load(&store.stores(), id).await?;
    refuse_live_nodes(&store, &name).await?;
    begin(&store.stores(), id).await?;
    // Once more: a node that found no mark just before has its lease by now, or looks at the mark
    // again when it has it.
    refuse_live_nodes(&store, &name).await?;
    end_restores(&store).await?;
    let new = NewLease {
        node: name,
        boot_id: Uuid::new_v4(),
        addr: String::new(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        roles: config.roles(),
        weight: config.node.weight,
    };
    let lease = store.join(&new).await.context("the lease")?;
    let done = load(&store.stores(), backup).await;
    // Without this the first nodes would wait until the lease looks dead.
    if let Err(error) = store.kill(&lease).await {
        tracing::warn!(%error, "the lease of the restore was not ended");
    }
    done
}

/// Nobody reaches a restore: that tells its lease from that of a node.
fn is_restore(lease: &LeaseRow) -> bool {
    lease.addr.is_empty()
}

/// A node of this one's own name is fenced when its lease is taken.
async fn refuse_live_nodes(store: &ScyllaStore, own: &NodeName) -> Result<()> {
    let leases = live(store).await?;
    let others = leases.iter().filter(|lease| !is_restore(lease) && lease.node != *own);
    let others: Vec<String> = others.map(|lease| lease.node.0.to_string()).collect();
    if !others.is_empty() {
        bail!(
            "nodes have a lease: {}. A restore wants an empty database and no node; stop them, or \
             take another keyspace",
            others.join(", ")
        );
    }
    Ok(())
}

/// Ends the leases of restores that were interrupted, under whatever name: the mark says that it
/// was this backup. One that still runs is fenced.
async fn end_restores(store: &ScyllaStore) -> Result<()> {
    for lease in live(store).await?.iter().filter(|lease| is_restore(lease)) {
        match store.kill(lease).await {
            // Somebody else has ended it.
            Ok(()) | Err(OwnershipError::Refused) => {}
            Err(error) => return Err(error).context("the lease of an earlier restore"),
        }
    }
    Ok(())
}

async fn live(store: &ScyllaStore) -> Result<Vec<LeaseRow>> {
    let mut leases = store.leases().await.context("the leases of nodes")?;
    leases.retain(|lease| lease.state != NodeState::Dead);
    Ok(leases)
}
