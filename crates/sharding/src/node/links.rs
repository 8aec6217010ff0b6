//! The life of links: dialled or welcomed, one at a time for each peer, until they end.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::ActorRef;
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use troupe_actor::spawn_task;
use troupe_link::{Connection, Link, LinkStream, Network, Purpose, Redial, dial};
use troupe_wire::Hello;

use super::{
    peer::{Peer, Up},
    questions::BulkHandler,
    seat::Seat,
    server::{RouterMsg, Server, Session},
    shared::{Linked, NodeShared, Signal},
};
use crate::placement::NodeName;

/// A link that holds for so long starts the back-off over.
const HELD: Duration = Duration::from_secs(5);
/// Credit that is owed waits so long for a batch to travel with.
const COMPANY_WAIT: Duration = Duration::from_millis(2);

/// A link that has its peer's seat.
struct Held {
    peer: Hello,
    mine: Hello,
    dialled: bool,
    connection: Arc<dyn Connection>,
}

/// A connection with the generation of its link.
type Connected = (u64, Arc<dyn Connection>);

/// The links of a node.
pub(crate) struct Links {
    pub(crate) node: Arc<NodeShared>,
    pub(crate) network: Arc<dyn Network>,
    server: AsyncMutex<Server>,
    pub(crate) stop: CancellationToken,
    seats: Mutex<HashMap<NodeName, Arc<AsyncMutex<Seat>>>>,
    dialling: Mutex<HashMap<NodeName, (SocketAddr, CancellationToken)>>,
    /// The peers that there are.
    wanted: Mutex<Vec<NodeName>>,
    generation: AtomicU64,
    /// The connections that are up.
    connections: Mutex<HashMap<NodeName, Connected>>,
    /// Who takes the peers' bulk streams.
    bulk: OnceLock<Arc<dyn BulkHandler>>,
}

impl Links {
    pub(crate) fn new(
        node: Arc<NodeShared>,
        network: Arc<dyn Network>,
        server: Server,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let generation = AtomicU64::new(1);
        let (seats, dialling) = (Mutex::default(), Mutex::default());
        let server = AsyncMutex::new(server);
        let (connections, wanted, bulk) = (Mutex::default(), Mutex::default(), OnceLock::new());
        Arc::new(Self {
            node,
            network,
            server,
            stop,
            seats,
            dialling,
            wanted,
            generation,
            connections,
            bulk,
        })
    }

    /// Whether all peers that there are, are linked.
    pub(crate) fn is_linked(&self) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.iter().all(|name| self.node.peer(name).is_some_and(|peer| peer.up().is_some()))
    }

    pub(crate) fn take_bulk(&self, handler: Arc<dyn BulkHandler>) {
        let first = self.bulk.set(handler).is_ok();
        debug_assert!(first, "bulk streams have one taker");
    }

    /// Whom to dial. Of two nodes the one whose name comes first dials, so that there is one
    /// link between them.
    pub(crate) fn set_peers(self: &Arc<Self>, peers: &HashMap<NodeName, SocketAddr>) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) =
            peers.keys().cloned().collect();
        let mut dialling = self.dialling.lock().unwrap_or_else(PoisonError::into_inner);
        dialling.retain(|name, (at, stop)| {
            let keep = peers.get(name) == Some(at);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for (name, at) in peers {
            self.node.peer_or_new(name);
            if name.0 <= self.node.name.0 || dialling.contains_key(name) {
                continue;
            }
            let stop = self.stop.child_token();
            dialling.insert(name.clone(), (*at, stop.clone()));
            let (links, name, at) = (Arc::clone(self), name.clone(), *at);
            drop(spawn_task("dial", async move {
                stop.run_until_cancelled(links.keep_dialling(&name, at)).await;
            }));
        }
    }

    async fn keep_dialling(self: &Arc<Self>, name: &NodeName, at: SocketAddr) {
        let options = &self.node.options.link;
        let mut redial = Redial::new(options);
        let mut watch = self.node.peer_or_new(name).watch();
        loop {
            let begun = Instant::now();
            match dial(&*self.network, &self.node.me, &name.0, at, options).await {
                Ok(link) => {
                    let boot = link.peer.boot;
                    self.seat(link).await;
                    // If another boot has the seat, it may be this one's before long: its lease
                    // may not have been seen yet.
                    let _ = watch.wait_for(|up| up.is_none_or(|up| up.boot != boot)).await;
                    if begun.elapsed() >= HELD {
                        redial.held();
                    }
                }
                Err(error) => tracing::debug!(peer = %name, %error, "not dialled"),
            }
            tokio::time::sleep(redial.failed()).await;
        }
    }

    /// Gives a new link the peer's seat. An older link ends first; that of an older boot, which
    /// comes late, is turned away ([`Seat::may_have`]).
    pub(crate) async fn seat(self: &Arc<Self>, link: Link) {
        let name = NodeName(link.peer.node.as_str().into());
        let seat = {
            let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(seats.entry(name.clone()).or_default())
        };
        let mut seat = seat.lock().await;
        let peer = self.node.peer_or_new(&name);
        let leased = self.node.observer.leased_boot(&name);
        let may_have = seat.may_have(link.peer.boot, leased, peer.up().map(|up| up.boot));
        if !may_have || self.stop.is_cancelled() {
            tracing::info!(peer = %name, boot = %link.peer.boot, "link turned away");
            link.connection.close("superseded");
            return;
        }
        if let Some(stop) = seat.stop.take() {
            stop.cancel();
        }
        if let Some(running) = seat.running.take() {
            // Its last steps have deadlines of their own.
            let _ = running.await;
        }
        seat.give(link.peer.boot, leased);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let up = Up { generation, boot: link.peer.boot };
        // From here on asks are queued, and what the peer says is understood: its session may be
        // ready before ours is.
        peer.link_up(up, &self.node.options);
        let stop = self.stop.child_token();
        let linked = Linked { peer: Arc::clone(&peer), generation, stop: stop.clone() };
        self.node.add_token(link.mine.token, linked);
        seat.stop = Some(stop.clone());
        let links = Arc::clone(self);
        let Link { peer: hello, mine, dialled, connection, control, .. } = link;
        let held = Held { peer: hello, mine, dialled, connection };
        seat.running = Some(spawn_task("link", async move {
            links.run(&held, &peer, generation, &stop).await;
            // Nothing is said on it, but its end would be the peer's end of file.
            drop(control);
        }));
    }

    async fn run(&self, link: &Held, peer: &Arc<Peer>, generation: u64, stop: &CancellationToken) {
        let deadline = self.node.options.link.ready_deadline;
        let session = tokio::select! {
            () = stop.cancelled() => None,
            session = timeout(deadline, self.open(link, generation)) => session.ok().flatten(),
        };
        let name = &peer.name;
        if let Some(session) = session {
            self.node.metrics.links_opened.increment(1);
            tracing::info!(peer = %name, boot = %link.peer.boot, dialled = link.dialled, "link up");
            self.note_connection(name, generation, &link.connection);
            self.node.observer.up(&link.peer);
            let why = tokio::select! {
                () = stop.cancelled() => "stopped".to_owned(),
                why = link.connection.closed() => why,
                () = session.gone() => "the session ended".to_owned(),
                why = self.bulk(link, name) => why,
                () = self.pump(link, peer, &session) => "the session takes nothing".to_owned(),
            };
            tracing::info!(peer = %name, why, "link down");
            self.end(link, peer, generation);
            session.stop().await;
            self.node.metrics.links_closed.increment(1);
            self.node.observer.down(name);
        } else {
            tracing::warn!(peer = %name, "no session over the link in time");
            self.end(link, peer, generation);
        }
    }

    fn note_connection(&self, name: &NodeName, generation: u64, is: &Arc<dyn Connection>) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.insert(name.clone(), (generation, Arc::clone(is)));
    }

    pub(crate) fn connection(&self, name: &NodeName) -> Option<Arc<dyn Connection>> {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.get(name).map(|(_, connection)| Arc::clone(connection))
    }

    fn end(&self, link: &Held, peer: &Peer, generation: u64) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.get(&peer.name).is_some_and(|(of, _)| *of == generation) {
            connections.remove(&peer.name);
        }
        drop(connections);
        self.node.remove_token(link.mine.token);
        link.connection.close("the link ends");
        for unsent in peer.link_down(generation) {
            self.node.signal(unsent, &peer.name, Signal::Unsent);
        }
        self.node.streams.link_down(&peer.name, generation);
    }

    async fn open(&self, link: &Held, generation: u64) -> Option<Session> {
        let stream = if link.dialled {
            link.connection.open(Purpose::Router).await
        } else {
            link.connection.accept().await
        };
        let stream = stream.ok().filter(|stream: &LinkStream| stream.purpose == Purpose::Router)?;
        let label = format!("{}-{generation}", link.peer.node);
        let server = self.server().await?;
        server.open(label, stream, !link.dialled, link.peer.ingress).await
    }

    /// The server; a new one if it went down.
    async fn server(&self) -> Option<Server> {
        let mut server = self.server.lock().await;
        if server.is_gone() && !self.stop.is_cancelled() {
            tracing::error!("the server of the node link went down and is started again");
            *server = Server::start(&self.node.me).await.ok()?;
        }
        Some(server.clone())
    }

    /// Ends all links, and the server after them.
    pub(crate) async fn end_all(&self) {
        self.stop.cancel();
        self.network.close();
        self.server.lock().await.stop().await;
    }

    /// The same without waiting.
    pub(crate) fn kill_all(&self) {
        self.stop.cancel();
        self.network.close();
        if let Ok(server) = self.server.try_lock() {
            server.kill();
        }
    }

    /// Takes the peer's further streams.
    async fn bulk(&self, link: &Held, name: &NodeName) -> String {
        loop {
            match link.connection.accept().await {
                Ok(stream) if stream.purpose == Purpose::Bulk => match self.bulk.get() {
                    Some(handler) => handler.stream(name, stream),
                    None => self.node.observer.bulk(name, stream),
                },
                Ok(stream) => tracing::warn!(peer = %name, ?stream, "a stream out of place"),
                // A question that was given up, or something newer: the link has no part in it.
                Err(error) if error.is_of_stream() => {
                    tracing::debug!(peer = %name, %error, "a stream that came to nothing");
                    // However many come, the others of this link have their turn.
                    tokio::task::yield_now().await;
                }
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Sends what is in the outbox: at once when the link is idle, in company under load.
    /// Ends when the session takes nothing any more.
    async fn pump(&self, link: &Held, peer: &Peer, session: &Session) {
        let Some(shim) = session.shim(link.peer.ingress) else { return };
        let token = link.peer.token;
        loop {
            let mut wait_for_company = true;
            loop {
                let (ready, owes) = {
                    let outbox = peer.lock();
                    (outbox.is_ready() || outbox.owes_much(), outbox.owes())
                };
                if ready {
                    if !self.send(peer, &shim, token) {
                        return;
                    }
                    // Whoever else has something to say does so now.
                    tokio::task::yield_now().await;
                } else if owes && wait_for_company {
                    wait_for_company = timeout(COMPANY_WAIT, peer.work.notified()).await.is_ok();
                } else if owes {
                    if !self.send(peer, &shim, token) {
                        return;
                    }
                    break;
                } else {
                    break;
                }
            }
            peer.work.notified().await;
        }
    }

    fn send(&self, peer: &Peer, shim: &ActorRef<RouterMsg>, token: u64) -> bool {
        let Some(batch) = peer.lock().batch(token, true) else { return true };
        let items = u64::try_from(batch.len()).unwrap_or(0);
        let bytes = batch.finish();
        self.node.metrics.batches.increment(1);
        self.node.metrics.items.increment(items);
        self.node.metrics.bytes.increment(u64::try_from(bytes.len()).unwrap_or(0));
        peer.made_room();
        // The writer bounds a batch, so it is never larger than what the peer's session takes.
        shim.send_message(RouterMsg(Vec::from(bytes))).is_ok()
    }
}
