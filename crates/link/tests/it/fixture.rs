//! Nodes with certificates of one CA, and a door in front of each.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use troupe_link::{
    Identity, Link, LinkError, LinkOptions, Network, NodeCa, NodeCert, QuicNetwork, accept_links,
    dial,
};
use troupe_types::{SystemClock, Timestamp, Uuid};

/// Long enough for anything that is to happen.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn now() -> Timestamp {
    SystemClock::shared().now()
}

pub(crate) fn ca() -> NodeCa {
    NodeCa::create("test", now()).unwrap()
}

pub(crate) fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn identity(node: &str) -> Identity {
    Identity {
        cluster: "test".to_owned(),
        node: node.to_owned(),
        boot: Uuid::new_v4(),
        build: "test".to_owned(),
        roles: vec!["entities".to_owned()],
        ingress: 7,
    }
}

pub(crate) fn network(ca_pem: &str, cert: &NodeCert, options: LinkOptions) -> Arc<QuicNetwork> {
    Arc::new(QuicNetwork::bind(anywhere(), ca_pem, cert, options).unwrap().unwrap())
}

/// A node that welcomes links.
pub(crate) struct Door {
    pub(crate) me: Arc<Identity>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) options: LinkOptions,
    pub(crate) links: mpsc::Receiver<Link>,
    #[expect(dead_code, reason = "held for its drop")]
    accepting: JoinSet<()>,
}

impl Door {
    pub(crate) fn open(me: Identity, network: Arc<dyn Network>, options: LinkOptions) -> Self {
        let (to, links) = mpsc::channel(16);
        let me = Arc::new(me);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept_links(Arc::clone(&network), Arc::clone(&me), options.clone(), to));
        Self { me, network, options, links, accepting }
    }

    pub(crate) fn of(ca: &NodeCa, node: &str) -> Self {
        Self::with(ca, node, LinkOptions::default())
    }

    pub(crate) fn with(ca: &NodeCa, node: &str, options: LinkOptions) -> Self {
        let cert = ca.issue(node, now()).unwrap();
        let network = network(ca.cert_pem(), &cert, options.clone());
        Self::open(identity(node), network, options)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.network.local_addr().unwrap()
    }

    pub(crate) async fn dial(&self, to: &Self) -> Result<Link, LinkError> {
        self.dial_at(&to.me.node, to.addr()).await
    }

    pub(crate) async fn dial_at(&self, node: &str, at: SocketAddr) -> Result<Link, LinkError> {
        timeout(LONG, dial(&*self.network, &self.me, node, at, &self.options)).await.unwrap()
    }

    pub(crate) async fn next(&mut self) -> Link {
        timeout(LONG, self.links.recv()).await.unwrap().unwrap()
    }

    /// That nobody was welcomed so far.
    pub(crate) fn nobody(&mut self) {
        assert!(self.links.try_recv().is_err(), "somebody was welcomed");
    }
}
