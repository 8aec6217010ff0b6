//! `troupe node restore`: fills the empty database of a cluster from a backup.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use troupe_store::{NewLease, Ownership as _, backup::may_load};
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
    refuse_live_nodes(&store, &name).await?;
    // First: on a store in use the lease would be taken from the node that works.
    may_load(&store.stores(), backup.head().id).await?;
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

/// A lease of this node's own name is of a restore that was interrupted; who still had it is
/// fenced.
async fn refuse_live_nodes(store: &ScyllaStore, own: &NodeName) -> Result<()> {
    let leases = store.leases().await.context("the leases of nodes")?;
    let live = |lease: &&LeaseRow| lease.state != NodeState::Dead && lease.node != *own;
    let live: Vec<String> = leases.iter().filter(live).map(|l| l.node.0.to_string()).collect();
    if !live.is_empty() {
        bail!(
            "nodes have a lease: {}. A restore wants an empty database and no node; stop them, or \
             take another keyspace",
            live.join(", ")
        );
    }
    Ok(())
}
