//! The link between nodes: one Router reaches the entities of another.
//!
//! ```text
//! Router ── ask ──> asks ─┬─> peer (outbox, credit) ──> session of ractor_cluster ──> QUIC
//!        ── tell ─> tells ┘
//! entity <── post ── ingress (the one remotable actor) <── session <── QUIC
//!        ── answer ─> asked ──> peer ──> ...
//! ```
//! Rules that hold here:
//! - One remotable actor per node, never named, never handed out; only `server` knows
//!   `ractor_cluster` (its listener unused, `Isolated`, a server name per boot).
//! - Nothing is sent above the limits of the `wire` crate, or beyond the peer's credit.
//! - Everything that waits for a peer has a deadline and a bound; a frozen peer stalls what is
//!   meant for it and nothing else.
//! - One link per pair of nodes: the name that comes first dials; a new link ends the older one
//!   before it begins, and an older boot is turned away. Which one is older, leases tell.

mod asked;
pub(crate) mod asks;
mod dedupe;
mod ingress;
mod ledger;
mod links;
mod metrics;
pub mod observer;
pub mod options;
mod peer;
pub mod questions;
mod seat;
mod server;
pub(crate) mod shared;
mod streams;
mod tells;

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use ractor::{Actor, ActorRef};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use troupe_actor::{ActorEntry, ActorTree, TaskHandle, spawn_task, stop_within};
use troupe_link::{
    Identity, Link, LinkStream, NameError, Network, Purpose, accept_links, check_node_name,
};
use troupe_types::{Clock, Uuid};
use troupe_wire::{BatchWriter, Handoff, Item};

use self::{
    ingress::Ingress,
    links::Links,
    observer::NodeObserver,
    options::NodeOptions,
    server::{RouterMsg, Server},
    shared::NodeShared,
};
use crate::{placement::NodeName, router::Router};

/// Links that were welcomed and wait to be seated.
const WELCOMED_MAX: usize = 64;
/// Time for the ingress to stop.
const STOP_DEADLINE: std::time::Duration = std::time::Duration::from_secs(2);

/// Why a node's link did not start.
#[derive(Debug, Error)]
pub enum NodeStartError {
    /// No node can have this name.
    #[error("no node can have this name")]
    Name(#[source] NameError),
    /// The router has a link already.
    #[error("the router has a node link already")]
    RouterTaken,
    /// An actor did not start.
    #[error("an actor of the node link did not start")]
    Actor(#[source] ractor::SpawnErr),
}

/// Who a node is to its peers.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// The cluster; nodes of others are refused.
    pub cluster: String,
    /// The node's name, as in its certificate.
    pub node: String,
    /// New with every start of the process.
    pub boot: Uuid,
    /// What is built in.
    pub build: String,
    /// Its roles by name.
    pub roles: Vec<String>,
}

/// What a node's link works with.
#[derive(Debug)]
pub struct NodeParts {
    /// Who this node is.
    pub identity: NodeIdentity,
    /// Limits and times.
    pub options: NodeOptions,
    /// Where links are made.
    pub network: Arc<dyn Network>,
    /// Whose asks go over the links, and to whose entities peers come.
    pub router: Router,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who hears of peers.
    pub observer: Arc<dyn NodeObserver>,
    /// Where its actors are listed.
    pub tree: ActorTree,
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its name.
    pub node: NodeName,
    /// Its boot, if the link with it is up.
    pub boot: Option<Uuid>,
    /// Asks of this node that wait for its answers.
    pub asks: usize,
    /// Its asks that are handled here.
    pub handled: usize,
    /// Items that wait to be sent to it.
    pub queued: usize,
    /// Bytes of those items.
    pub queued_bytes: usize,
}

/// The links of this node. Dropped without [`stop`](Self::stop) it ends at once, as a crash of
/// the process would.
pub struct NodeLink {
    links: Arc<Links>,
    ingress: ActorRef<RouterMsg>,
    tasks: Vec<TaskHandle>,
    #[expect(dead_code, reason = "listed as long as it is held")]
    entry: Arc<ActorEntry>,
}

impl fmt::Debug for NodeLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeLink").field("node", &self.links.node.name).finish_non_exhaustive()
    }
}

impl NodeLink {
    /// Starts to welcome links. Nobody is dialled before [`set_peers`](Self::set_peers).
    ///
    /// # Errors
    /// See [`NodeStartError`]; nothing was started.
    pub async fn start(parts: NodeParts) -> Result<Self, NodeStartError> {
        let NodeParts { identity, options, network, router, clock, observer, tree } = parts;
        check_node_name(&identity.node).map_err(NodeStartError::Name)?;
        if router.has_node() {
            return Err(NodeStartError::RouterTaken);
        }
        metrics::describe();
        let entry = tree.add("node link", None);
        let place = Arc::new(OnceLock::new());
        let (ingress, _) =
            Actor::spawn(None, Ingress, Arc::clone(&place)).await.map_err(NodeStartError::Actor)?;
        let NodeIdentity { cluster, node, boot, build, roles } = identity;
        let me = Identity { cluster, node, boot, build, roles, ingress: ingress.get_id().pid() };
        let server = match Server::start(&me).await {
            Ok(server) => server,
            Err(error) => {
                ingress.kill();
                return Err(NodeStartError::Actor(error));
            }
        };
        let shared = Arc::new(NodeShared::new(me, options, router.clone(), clock, observer));
        place.get_or_init(|| Arc::clone(&shared));
        let stop = CancellationToken::new();
        let links = Links::new(Arc::clone(&shared), network, server, stop);
        router.attach_node(shared);
        let tasks = Self::tasks(&links);
        Ok(Self { links, ingress, tasks, entry })
    }

    fn tasks(links: &Arc<Links>) -> Vec<TaskHandle> {
        let (to, mut welcomed) = mpsc::channel::<Link>(WELCOMED_MAX);
        let me = Arc::clone(&links.node.me);
        let options = links.node.options.link.clone();
        let accepting = accept_links(Arc::clone(&links.network), me, options, to);
        let seating = {
            let links = Arc::clone(links);
            async move {
                while let Some(link) = welcomed.recv().await {
                    let links = Arc::clone(&links);
                    // One peer's older link may take a while to end; the others do not wait.
                    drop(spawn_task("seat a link", async move { links.seat(link).await }));
                }
            }
        };
        let beating = {
            let links = Arc::clone(links);
            async move {
                loop {
                    tokio::time::sleep(links.node.options.heartbeat).await;
                    let beat = Item::Heartbeat(links.node.observer.heartbeat());
                    let Ok(bytes) = BatchWriter::encode_item(&beat) else { continue };
                    for peer in links.node.peers() {
                        peer.beat(bytes.clone());
                    }
                }
            }
        };
        vec![
            spawn_task("accept links", accepting),
            spawn_task("seat links", seating),
            spawn_task("heartbeat", beating),
        ]
    }

    /// Where peers reach this node.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.links.network.local_addr()
    }

    /// All other nodes and where they are. Those whose names come after this node's are dialled,
    /// again and again; the others dial. Nodes that are left out are not dialled any more; their
    /// links stay until they end.
    pub fn set_peers(&self, peers: &HashMap<NodeName, SocketAddr>) {
        self.links.set_peers(peers);
    }

    /// The peers that were ever heard of, by name.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        let mut list: Vec<_> = self.links.node.peers().iter().map(|peer| peer.info()).collect();
        list.sort_by(|a, b| a.node.0.cmp(&b.node.0));
        list
    }

    /// Whether there is a link with every node of [`set_peers`](Self::set_peers).
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.links.is_linked()
    }

    /// Opens a stream for large data to a peer: what goes over it delays no message. `None`:
    /// there is no link, or it ended.
    pub async fn open_bulk(&self, to: &NodeName) -> Option<LinkStream> {
        let connection = self.links.connection(to)?;
        connection.open(Purpose::Bulk).await.ok()
    }

    /// Sends a word of a hand-off, in its order with the envelopes to that peer. `false`: there
    /// is no link, or no room.
    #[must_use]
    pub fn send_handoff(&self, to: &NodeName, handoff: Handoff) -> bool {
        let node = &self.links.node;
        node.peer(to).is_some_and(|peer| node.tell(&peer, &Item::Handoff(handoff)).is_ok())
    }

    /// Ends all links in order. Asks that wait get their fates.
    pub async fn stop(&self) {
        self.links.node.router.detach_node();
        for task in &self.tasks {
            task.abort();
        }
        self.links.end_all().await;
        stop_within(&self.ingress, STOP_DEADLINE).await;
    }
}

impl Drop for NodeLink {
    fn drop(&mut self) {
        self.links.node.router.detach_node();
        for task in &self.tasks {
            task.abort();
        }
        self.links.kill_all();
        self.ingress.kill();
    }
}
