//! `troupe node reset-password`: for whoever holds the keys of a cluster and reaches its database.

use anyhow::Result;
use troupe_store_scylla::ScyllaStore;

use super::{RunArgs, cluster_name, configure, store_options};
use crate::{
    parts::whole,
    reset::{Whose, reset},
};

/// Nodes may run: they hear of it as of any revocation.
pub(super) async fn run(args: &RunArgs, whose: &Whose) -> Result<()> {
    let config = configure(args)?;
    let mut options = store_options(&config, &cluster_name(&config)?)?;
    // Nobody has a password in a keyspace that is not there.
    options.create_keyspace = None;
    let store = ScyllaStore::connect(&options).await;
    let store = store
        .map_err(|error| anyhow::anyhow!("the store: {}", troupe_telemetry::error_chain(&error)))?;
    let stores = store.stores();
    whole(&stores).await?;
    reset(stores.directory, whose).await
}
