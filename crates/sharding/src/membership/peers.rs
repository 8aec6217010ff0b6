//! Where the peers are: names in leases become addresses that the link dials.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::lookup_host,
    sync::watch,
    time::{sleep, timeout},
};

use crate::{node::NodeLink, placement::NodeName};

/// A name may mean another address after a while.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Time for one name.
const LOOK_UP_MAX: Duration = Duration::from_secs(3);

/// The addresses of the peers as their leases tell them, `host:port`.
pub(super) type Addresses = Vec<(NodeName, String)>;

/// Has the link dial whoever has a lease.
pub(super) struct Dialling {
    link: Arc<NodeLink>,
    addresses: watch::Sender<Addresses>,
}

impl Dialling {
    pub(super) fn new(link: Arc<NodeLink>) -> Self {
        Self { link, addresses: watch::Sender::new(Vec::new()) }
    }

    pub(super) fn addresses(&self) -> watch::Sender<Addresses> {
        self.addresses.clone()
    }

    pub(super) async fn run(self) {
        let mut told = self.addresses.subscribe();
        loop {
            let wanted = told.borrow_and_update().clone();
            let mut found = HashMap::new();
            for (node, addr) in wanted {
                match look_up(&addr).await {
                    Some(at) => drop(found.insert(node, at)),
                    None => tracing::warn!(peer = %node, addr, "the peer's address is unknown"),
                }
            }
            self.link.set_peers(&found);
            tokio::select! {
                // This end is held here, so the channel never closes.
                _ = told.changed() => {}
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }
}

async fn look_up(addr: &str) -> Option<SocketAddr> {
    if let Ok(at) = addr.parse() {
        return Some(at);
    }
    timeout(LOOK_UP_MAX, lookup_host(addr)).await.ok()?.ok()?.next()
}
