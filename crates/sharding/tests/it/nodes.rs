//! Several nodes in one process: each with its host, its Router and its QUIC socket on loopback;
//! one store and one map of owners for all.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use troupe_actor::{ActorTree, settle};
use troupe_link::{LinkOptions, MemoryHub, Network, NodeCa, QuicNetwork, UdpRelay};
use troupe_sharding::{
    AskError, HostParts, NodeIdentity, NodeLink, NodeName, NodeObserver, NodeOptions, NodeParts,
    Owner, PeerInfo, Placement, RegisteredKind, Router, ShardHost,
};
use troupe_store::{MemoryStore, Stores};
use troupe_types::{Clock, EntityId, EntityKind, Epoch, ShardId, SystemClock, Uuid};

use crate::counter::{CounterFactory, LONG, World, entity, quick, text};

/// Who owns what, for all nodes; a node may believe something else.
#[derive(Debug)]
pub(crate) struct Owners {
    truth: RwLock<HashMap<ShardId, (NodeName, Epoch)>>,
    default: NodeName,
}

impl Owners {
    fn of(&self, shard: ShardId) -> (NodeName, Epoch) {
        let truth = self.truth.read().unwrap();
        truth.get(&shard).cloned().unwrap_or_else(|| (self.default.clone(), Epoch(1)))
    }

    pub(crate) fn set(&self, of: EntityId, node: &str, epoch: u64) {
        self.truth.write().unwrap().insert(of.shard(), (name(node), Epoch(epoch)));
    }
}

/// What one node believes.
#[derive(Debug)]
pub(crate) struct View {
    me: NodeName,
    owners: Arc<Owners>,
    beliefs: RwLock<HashMap<ShardId, (NodeName, Epoch)>>,
}

impl View {
    pub(crate) fn believe(&self, of: EntityId, node: &str, epoch: u64) {
        self.beliefs.write().unwrap().insert(of.shard(), (name(node), Epoch(epoch)));
    }
}

impl Placement for View {
    fn owner(&self, shard: ShardId) -> Owner {
        let belief = self.beliefs.read().unwrap().get(&shard).cloned();
        let (node, epoch) = belief.unwrap_or_else(|| self.owners.of(shard));
        if node == self.me { Owner::Here(epoch) } else { Owner::There(node, epoch) }
    }
}

pub(crate) fn name(node: &str) -> NodeName {
    NodeName(node.into())
}

/// Counts what it hears; can be made to hang in the ingress, as a frozen process would.
#[derive(Debug, Default)]
pub(crate) struct Ear {
    pub(crate) beats: AtomicUsize,
    pub(crate) ups: Mutex<Vec<Uuid>>,
    pub(crate) downs: AtomicUsize,
    pub(crate) handoffs: Mutex<Vec<troupe_wire::Handoff>>,
    /// What the leases say of peers.
    pub(crate) leases: Mutex<HashMap<NodeName, Uuid>>,
    frozen: Mutex<bool>,
    thaw: Condvar,
    pub(crate) is_frozen: AtomicBool,
}

impl Ear {
    pub(crate) fn freeze(&self, frozen: bool) {
        *self.frozen.lock().unwrap() = frozen;
        self.thaw.notify_all();
    }
}

impl NodeObserver for Ear {
    fn leased_boot(&self, node: &NodeName) -> Option<Uuid> {
        self.leases.lock().unwrap().get(node).copied()
    }

    fn up(&self, peer: &troupe_wire::Hello) {
        self.ups.lock().unwrap().push(peer.boot);
    }

    fn down(&self, _: &NodeName) {
        self.downs.fetch_add(1, Ordering::SeqCst);
    }

    fn heard(&self, _: &NodeName, _: troupe_wire::Heartbeat) {
        self.beats.fetch_add(1, Ordering::SeqCst);
        let mut frozen = self.frozen.lock().unwrap();
        while *frozen {
            self.is_frozen.store(true, Ordering::SeqCst);
            frozen = self.thaw.wait_timeout(frozen, LONG).unwrap().0;
        }
        self.is_frozen.store(false, Ordering::SeqCst);
    }

    fn handoff(&self, _: &NodeName, handoff: troupe_wire::Handoff) {
        self.handoffs.lock().unwrap().push(handoff);
    }
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) boot: Uuid,
    pub(crate) host: ShardHost,
    pub(crate) router: Router,
    pub(crate) link: NodeLink,
    pub(crate) world: Arc<World>,
    pub(crate) view: Arc<View>,
    pub(crate) ear: Arc<Ear>,
}

/// Nodes of one cluster.
pub(crate) struct Cluster {
    ca: NodeCa,
    clock: Arc<dyn Clock>,
    stores: Stores,
    pub(crate) owners: Arc<Owners>,
    pub(crate) options: NodeOptions,
    /// Relays by (dialler, dialled).
    relays: Mutex<HashMap<(String, String), UdpRelay>>,
    /// Links in memory, in place of sockets.
    pub(crate) hub: Option<MemoryHub>,
}

/// Short times, so that a cut is seen soon.
pub(crate) fn brisk() -> NodeOptions {
    NodeOptions {
        link: LinkOptions {
            keep_alive: Duration::from_millis(250),
            idle: Duration::from_millis(1_500),
            redial_min: Duration::from_millis(20),
            redial_max: Duration::from_millis(200),
            ..LinkOptions::default()
        },
        heartbeat: Duration::from_millis(50),
        // Nobody goes around a cut, unless a test wants it.
        relay_after: Duration::from_secs(600),
        ..NodeOptions::default()
    }
}

impl Cluster {
    /// `default`: who owns everything that is not said otherwise.
    pub(crate) fn new(default: &str) -> Self {
        Self::with(default, brisk())
    }

    pub(crate) fn with(default: &str, options: NodeOptions) -> Self {
        let clock = SystemClock::shared();
        let owners = Owners { truth: RwLock::default(), default: name(default) };
        Self {
            ca: NodeCa::create("test", clock.now()).unwrap(),
            clock,
            stores: MemoryStore::new().stores(),
            owners: Arc::new(owners),
            options,
            relays: Mutex::default(),
            hub: None,
        }
    }

    fn network(&self, node: &str) -> Arc<dyn Network> {
        let options = self.options.link.clone();
        if let Some(hub) = &self.hub {
            return Arc::new(hub.network(node, options));
        }
        let cert = self.ca.issue(node, self.clock.now()).unwrap();
        let at: SocketAddr = "127.0.0.1:0".parse().unwrap();
        Arc::new(QuicNetwork::bind(at, self.ca.cert_pem(), &cert, options).unwrap().unwrap())
    }

    pub(crate) async fn node(&self, node: &str) -> Node {
        let world = Arc::new(World::default());
        let owners = Arc::clone(&self.owners);
        let view = Arc::new(View { me: name(node), owners, beliefs: RwLock::default() });
        let tree = ActorTree::new(Arc::clone(&self.clock));
        let parts = HostParts {
            options: quick(),
            stores: self.stores.clone(),
            clock: Arc::clone(&self.clock),
            placement: Arc::clone(&view) as Arc<dyn Placement>,
            router: Router::new(),
            tree: tree.clone(),
        };
        let factory = CounterFactory {
            world: Arc::clone(&world),
            kind: EntityKind::Task,
            idle_for: Duration::from_secs(120),
        };
        let (host, router) =
            ShardHost::start(parts, vec![RegisteredKind::new(factory)]).await.unwrap();
        let boot = Uuid::new_v4();
        let identity = NodeIdentity {
            cluster: "test".to_owned(),
            node: node.to_owned(),
            boot,
            build: "test".to_owned(),
            roles: vec!["entities".to_owned()],
        };
        let ear = Arc::new(Ear::default());
        let parts = NodeParts {
            identity,
            options: self.options.clone(),
            network: self.network(node),
            router: router.clone(),
            clock: Arc::clone(&self.clock),
            observer: Arc::clone(&ear) as Arc<dyn NodeObserver>,
            tree,
        };
        let link = NodeLink::start(parts).await.unwrap();
        Node { name: node.to_owned(), boot, host, router, link, world, view, ear }
    }

    /// Has all nodes dial each other through relays, and waits until all are linked.
    pub(crate) async fn join(&self, nodes: &[&Node]) {
        self.dial(nodes).await;
        for node in nodes {
            let others = nodes.len() - 1;
            node.until("all peers are linked", |node| node.linked() == others).await;
        }
    }

    pub(crate) async fn dial(&self, nodes: &[&Node]) {
        for node in nodes {
            let mut peers = HashMap::new();
            for peer in nodes.iter().filter(|peer| peer.name != node.name) {
                let key = (node.name.clone(), peer.name.clone());
                let at = peer.link.local_addr().unwrap();
                if self.hub.is_some() {
                    peers.insert(name(&peer.name), at);
                    continue;
                }
                let relay = UdpRelay::before(at).await.unwrap();
                peers.insert(name(&peer.name), relay.addr());
                self.relays.lock().unwrap().insert(key, relay);
            }
            node.link.set_peers(&peers);
        }
    }

    /// Cuts two nodes apart, or joins them.
    pub(crate) fn cut(&self, a: &str, b: &str, cut: bool) {
        for ((from, to), relay) in &*self.relays.lock().unwrap() {
            if (from == a && to == b) || (from == b && to == a) {
                relay.cut(cut);
            }
        }
    }

    /// Cuts everything to and from a node, as if its machine were gone.
    pub(crate) fn isolate(&self, node: &str, cut: bool) {
        for ((from, to), relay) in &*self.relays.lock().unwrap() {
            if from == node || to == node {
                relay.cut(cut);
            }
        }
    }
}

impl Node {
    pub(crate) fn peer(&self, node: &str) -> PeerInfo {
        self.link.peers().into_iter().find(|peer| *peer.node.0 == *node).unwrap()
    }

    pub(crate) fn linked(&self) -> usize {
        self.link.peers().iter().filter(|peer| peer.boot.is_some()).count()
    }

    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let came = settle(LONG, || holds(self)).await;
        assert!(came, "{}: not in time: {what}; {:?}", self.name, self.link.peers());
    }

    pub(crate) async fn ask(&self, to: EntityId, command: &str) -> Result<String, AskError> {
        self.ask_within(to, command, LONG).await
    }

    pub(crate) async fn ask_within(
        &self,
        to: EntityId,
        command: &str,
        time: Duration,
    ) -> Result<String, AskError> {
        let body = Bytes::from(command.to_owned());
        self.router.ask(to, body, time).await.map(|answer| text(&answer))
    }

    pub(crate) fn handled(&self, command: &str) -> usize {
        self.world.handled.lock().unwrap().iter().filter(|body| *body == command).count()
    }
}

/// Two nodes: `node-2` owns everything.
pub(crate) async fn pair() -> (Cluster, Node, Node) {
    let cluster = Cluster::new("node-2");
    let (a, b) = (cluster.node("node-1").await, cluster.node("node-2").await);
    cluster.join(&[&a, &b]).await;
    (cluster, a, b)
}

pub(crate) fn first() -> EntityId {
    entity(1)
}
