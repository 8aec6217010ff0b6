//! Ends the lease of a node whose process is gone.

use anyhow::{Context as _, Result};
use troupe_store::Ownership as _;
use troupe_store_scylla::ScyllaStore;
use troupe_types::{NodeName, NodeState, Uuid};

use super::{RunArgs, cluster_name, configure, store_options};

/// Ends the lease that the start `boot` holds, if it still does; whoever came after it under the
/// same name is left alone.
pub(super) async fn run(args: &RunArgs, boot: Uuid) -> Result<()> {
    let config = configure(args)?;
    let options = store_options(&config, &cluster_name(&config)?)?;
    let store = ScyllaStore::connect(&options).await.context("the store")?;
    let name = NodeName::from(config.node.name.as_str());
    let Some(lease) = store.lease(&name).await.context("the lease")? else { return Ok(()) };
    if lease.boot_id == boot && lease.state != NodeState::Dead {
        store.kill(&lease).await.context("the lease was not ended")?;
    }
    Ok(())
}
