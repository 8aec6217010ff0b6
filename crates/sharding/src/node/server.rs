//! The one place that touches `ractor_cluster`: its server, its sessions, its remote actor.
//!
//! The server gets our streams, never a socket of its own; its listener is bound to loopback and
//! unused. Sessions are known by the label of their stream and the id of their actor. The only
//! remotable actor of a node is the Router's ingress, without a name; the peer's hello says its
//! number, and its shim is looked for among the children of the peer's session.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ractor::{
    Actor, ActorId, ActorRef, ActorStatus, SpawnErr,
    message::{BoxedDowncastErr, SerializedMessage},
};
use ractor_cluster::{
    BoxRead, BoxWrite, ClusterBidiStream, NodeEventSubscription, NodeServer, NodeServerMessage,
    NodeSessionMessage,
    node::{NodeConnectionMode, NodeServerSessionInformation},
};
use tokio::sync::watch;
use troupe_actor::stop_within;
use troupe_link::{Identity, LinkStream};
use troupe_wire::limits::BATCH_BYTES_MAX;

/// Largest message of the session: a batch and what is said about it.
const FRAME_BYTES_MAX: u64 = BATCH_BYTES_MAX as u64 + 4 * 1024;
/// The only kind of message between ingresses.
const BATCH: &str = "batch";
/// Time for a session or the server to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// The message of the one remotable actor: a batch, as the `wire` crate writes it. The form is
/// ours alone; a peer that says anything else is not understood.
pub(crate) struct RouterMsg(pub(crate) Vec<u8>);

impl ractor::Message for RouterMsg {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        let variant = BATCH.to_owned();
        Ok(SerializedMessage::Cast { variant, args: self.0, metadata: None })
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        match message {
            SerializedMessage::Cast { variant, args, .. } if variant == BATCH => Ok(Self(args)),
            _ => Err(BoxedDowncastErr),
        }
    }
}

/// Where a session is.
#[derive(Clone)]
enum Stage {
    Opening,
    Open(ActorRef<NodeSessionMessage>),
    Ready(ActorRef<NodeSessionMessage>),
    Gone,
}

type Stages = Arc<Mutex<HashMap<String, watch::Sender<Stage>>>>;

fn lock(stages: &Stages) -> MutexGuard<'_, HashMap<String, watch::Sender<Stage>>> {
    stages.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes note of what becomes of sessions. Their label is the address they are told with.
struct Events(Stages);

impl Events {
    /// Only the session's own actor moves its stage: a label may outlive a session.
    fn note(&self, info: &NodeServerSessionInformation, next: Stage) {
        let stages = lock(&self.0);
        let Some(stage) = stages.get(&info.peer_addr) else { return };
        let mine = |actor: &ActorRef<NodeSessionMessage>| actor.get_id() == info.actor.get_id();
        stage.send_if_modified(|now| {
            let follows = match now {
                Stage::Opening => true,
                Stage::Open(actor) | Stage::Ready(actor) => mine(actor),
                Stage::Gone => false,
            };
            if follows {
                *now = next;
            }
            follows
        });
    }
}

impl NodeEventSubscription for Events {
    fn node_session_opened(&self, info: NodeServerSessionInformation) {
        self.note(&info, Stage::Open(info.actor.clone()));
    }

    fn node_session_disconnected(&self, info: NodeServerSessionInformation) {
        self.note(&info, Stage::Gone);
    }

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}

    fn node_session_ready(&self, info: NodeServerSessionInformation) {
        self.note(&info, Stage::Ready(info.actor.clone()));
    }
}

/// A stream of ours, as the server wants it.
struct Pipe {
    label: String,
    read: BoxRead,
    write: BoxWrite,
}

impl ClusterBidiStream for Pipe {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        (self.read, self.write)
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

/// The server of this node.
#[derive(Clone)]
pub(crate) struct Server {
    actor: ActorRef<NodeServerMessage>,
    stages: Stages,
}

impl Server {
    /// Starts it under a name that no other boot has.
    pub(crate) async fn start(me: &Identity) -> Result<Self, SpawnErr> {
        let name = format!("{}-{}", me.node, me.boot.simple());
        let server = NodeServer::new(
            0,
            // Who may be here is decided by certificates; this word keeps nobody out.
            me.cluster.clone(),
            name.clone(),
            name,
            None,
            Some(NodeConnectionMode::Isolated),
        )
        .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .with_max_inbound_frame_size(FRAME_BYTES_MAX);
        let (actor, _) = Actor::spawn(None, server, ()).await?;
        let stages = Stages::default();
        let subscription = Box::new(Events(Arc::clone(&stages)));
        let subscribe =
            NodeServerMessage::SubscribeToEvents { id: "router".to_owned(), subscription };
        actor.send_message(subscribe).map_err(|_| SpawnErr::ActorAlreadyStarted)?;
        Ok(Self { actor, stages })
    }

    /// Gives it a stream; answers the session once it is ready. Put a deadline around it.
    /// `None`: there will be no session.
    pub(crate) async fn open(
        &self,
        label: String,
        stream: LinkStream,
        is_server: bool,
        ingress: u64,
    ) -> Option<Session> {
        let (stage, mut seen) = watch::channel(Stage::Opening);
        lock(&self.stages).insert(label.clone(), stage);
        // From here on whatever ends early also ends the session.
        let mut session =
            Session { server: self.clone(), label: label.clone(), seen: seen.clone() };
        let pipe = Pipe { label, read: stream.read, write: stream.write };
        let open =
            NodeServerMessage::ConnectionOpenedExternal { stream: Box::new(pipe), is_server };
        self.actor.send_message(open).ok()?;
        loop {
            seen.changed().await.ok()?;
            match &*seen.borrow_and_update() {
                Stage::Ready(_) => break,
                Stage::Gone => return None,
                Stage::Opening | Stage::Open(_) => {}
            }
        }
        session.seen.mark_unchanged();
        session.shim(ingress).is_some().then_some(session)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.actor.get_status() >= ActorStatus::Stopping
    }

    /// Ends the server and all sessions.
    pub(crate) async fn stop(&self) {
        stop_within(&self.actor, STOP_DEADLINE).await;
    }

    /// Ends it without waiting.
    pub(crate) fn kill(&self) {
        self.actor.kill();
    }
}

/// A session with a peer. Dropped, it is told to stop.
pub(crate) struct Session {
    server: Server,
    label: String,
    seen: watch::Receiver<Stage>,
}

impl Session {
    fn actor(&self) -> Option<ActorRef<NodeSessionMessage>> {
        match &*self.seen.borrow() {
            Stage::Open(actor) | Stage::Ready(actor) => Some(actor.clone()),
            Stage::Opening | Stage::Gone => None,
        }
    }

    /// The peer's ingress. It never leaves this module's users in the egress: whoever stops it
    /// ends the whole session.
    pub(crate) fn shim(&self, ingress: u64) -> Option<ActorRef<RouterMsg>> {
        let is_it = |id: ActorId| !id.is_local() && id.pid() == ingress;
        let children = self.actor()?.get_children();
        children.into_iter().find(|child| is_it(child.get_id())).map(ActorRef::from)
    }

    /// Resolves when the session is gone.
    pub(crate) async fn gone(&self) {
        let mut seen = self.seen.clone();
        let _ = seen.wait_for(|stage| matches!(stage, Stage::Gone)).await;
    }

    /// Ends it and waits until it is out of the way, so that the next one of the same peer has
    /// no rival.
    pub(crate) async fn stop(self) {
        if let Some(actor) = self.actor() {
            stop_within(&actor, STOP_DEADLINE).await;
        }
        let _ = tokio::time::timeout(STOP_DEADLINE, self.gone()).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(actor) = self.actor() {
            actor.stop(Some("link closed".to_owned()));
        }
        lock(&self.server.stages).remove(&self.label);
    }
}
