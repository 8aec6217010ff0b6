//! `ractor_cluster` with nothing around it, behind a stream of bare quinn: one remotable actor
//! that takes casts, and one that hands each message on to the entity that it names. Nothing is
//! answered, known again, sent again, bounded or activated.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ractor::{
    Actor, ActorProcessingErr, ActorRef,
    message::{BoxedDowncastErr, SerializedMessage},
};
use ractor_cluster::{
    BoxRead, BoxWrite, ClusterBidiStream, NodeEventSubscription, NodeServer, NodeServerMessage,
    NodeSessionMessage,
    node::{NodeConnectionMode, NodeServerSessionInformation},
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use troupe_actor::settle;
use troupe_types::Uuid;

use super::{ENTITIES, MESSAGE_BYTES, WINDOW, entity_id, quic::Pair};

/// How long the session may take.
const READY: Duration = Duration::from_secs(10);

/// Some messages of [`MESSAGE_BYTES`].
struct Words(Vec<u8>);

const WORDS: &str = "words";

impl ractor::Message for Words {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        let variant = WORDS.to_owned();
        Ok(SerializedMessage::Cast { variant, args: self.0, metadata: None })
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        match message {
            SerializedMessage::Cast { args, .. } => Ok(Self(args)),
            _ => Err(BoxedDowncastErr),
        }
    }
}

/// Gives the window back: the one actor, and each entity.
struct Sink;

impl Actor for Sink {
    type Msg = Words;
    type State = Arc<Semaphore>;
    type Arguments = Arc<Semaphore>;

    async fn pre_start(
        &self,
        _: ActorRef<Words>,
        window: Arc<Semaphore>,
    ) -> Result<Arc<Semaphore>, ActorProcessingErr> {
        Ok(window)
    }

    async fn handle(
        &self,
        _: ActorRef<Words>,
        Words(bytes): Words,
        window: &mut Arc<Semaphore>,
    ) -> Result<(), ActorProcessingErr> {
        window.add_permits(bytes.len() / MESSAGE_BYTES);
        Ok(())
    }
}

/// Hands on what it is told; a message begins with the id of its entity.
struct Routing;

impl Actor for Routing {
    type Msg = Words;
    type State = HashMap<Uuid, ActorRef<Words>>;
    type Arguments = Arc<Semaphore>;

    async fn pre_start(
        &self,
        _: ActorRef<Words>,
        window: Arc<Semaphore>,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut entities = HashMap::new();
        for n in 0..ENTITIES {
            let (entity, _) = Actor::spawn(None, Sink, Arc::clone(&window)).await?;
            entities.insert(entity_id(n), entity);
        }
        Ok(entities)
    }

    async fn handle(
        &self,
        _: ActorRef<Words>,
        Words(bytes): Words,
        entities: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        for word in bytes.chunks(MESSAGE_BYTES) {
            let id = Uuid::from_slice(&word[..16])?;
            let entity = entities.get(&id).ok_or("nobody has this id")?;
            entity.cast(Words(word.to_vec()))?;
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Words>,
        entities: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        entities.values().for_each(|entity| entity.stop(None));
        Ok(())
    }
}

/// The session, once it is ready.
struct Ready(watch::Sender<Option<ActorRef<NodeSessionMessage>>>);

impl NodeEventSubscription for Ready {
    fn node_session_opened(&self, _: NodeServerSessionInformation) {}

    fn node_session_disconnected(&self, _: NodeServerSessionInformation) {}

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}

    fn node_session_ready(&self, info: NodeServerSessionInformation) {
        self.0.send_replace(Some(info.actor));
    }
}

struct Pipe(quinn::SendStream, quinn::RecvStream);

impl ClusterBidiStream for Pipe {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        (Box::new(self.1), Box::new(self.0))
    }

    fn peer_label(&self) -> Option<String> {
        Some("bare".to_owned())
    }
}

/// A remotable actor, and the way to it from another server.
struct Remote {
    there: ActorRef<Words>,
    shim: ActorRef<Words>,
}

/// The two actors, and the servers between.
pub(super) struct Bare {
    servers: [ActorRef<NodeServerMessage>; 2],
    sink: Remote,
    router: Remote,
    window: Arc<Semaphore>,
}

async fn server(name: &str) -> Result<ActorRef<NodeServerMessage>> {
    let isolated = Some(NodeConnectionMode::Isolated);
    let word = "bare".to_owned();
    let server = NodeServer::new(0, word, name.to_owned(), name.to_owned(), None, isolated)
        .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Ok(Actor::spawn(None, server, ()).await?.0)
}

impl Bare {
    pub(super) async fn connect(pair: &Pair) -> Result<Self> {
        let window = Arc::new(Semaphore::new(WINDOW as usize));
        let (sink, _) = Actor::spawn(None, Sink, Arc::clone(&window)).await?;
        let (router, _) = Actor::spawn(None, Routing, Arc::clone(&window)).await?;
        let servers = [server("bare-near").await?, server("bare-far").await?];
        let (tell, mut ready) = watch::channel(None);
        let subscription = Box::new(Ready(tell));
        let subscribe = NodeServerMessage::SubscribeToEvents { id: "bare".into(), subscription };
        servers[0].send_message(subscribe)?;
        let streams = pair.open().await?;
        for (n, (send, recv)) in streams.into_iter().enumerate() {
            let stream = Box::new(Pipe(send, recv));
            let is_server = n == 1;
            servers[n]
                .send_message(NodeServerMessage::ConnectionOpenedExternal { stream, is_server })?;
        }
        let session =
            timeout(READY, ready.wait_for(Option::is_some)).await.context("no session")?;
        let session = session?.clone().context("a session")?;
        let (sink, router) = (remote(&session, sink).await?, remote(&session, router).await?);
        Ok(Self { servers, sink, router, window })
    }

    /// So many messages to one actor, `batch` to a cast; how long until all were handled.
    pub(super) async fn casts(&self, count: u32, batch: u32) -> Result<Duration> {
        self.send(&self.sink, count, batch).await
    }

    /// The same, handed on to all entities in turn.
    pub(super) async fn routed(&self, count: u32, batch: u32) -> Result<Duration> {
        self.send(&self.router, count, batch).await
    }

    async fn send(&self, to: &Remote, count: u32, batch: u32) -> Result<Duration> {
        let begun = Instant::now();
        let mut sent = 0;
        while sent < count {
            let some = (count - sent).min(batch);
            self.window.acquire_many(some).await?.forget();
            let mut bytes = vec![7; some as usize * MESSAGE_BYTES];
            for (word, n) in bytes.chunks_mut(MESSAGE_BYTES).zip(sent..) {
                word[..16].copy_from_slice(entity_id(n).as_bytes());
            }
            to.shim.cast(Words(bytes))?;
            sent += some;
        }
        let _all = self.window.acquire_many(WINDOW).await?;
        Ok(begun.elapsed())
    }

    pub(super) fn stop(&self) {
        self.sink.there.stop(None);
        self.router.there.stop(None);
        self.servers.iter().for_each(|server| server.stop(None));
    }
}

/// How the session names an actor of the far end.
async fn remote(session: &ActorRef<NodeSessionMessage>, there: ActorRef<Words>) -> Result<Remote> {
    let far = there.get_id().pid();
    let find = || {
        let is_it =
            |child: &ractor::ActorCell| !child.get_id().is_local() && child.get_id().pid() == far;
        session.get_children().into_iter().find(is_it)
    };
    ensure!(settle(READY, || find().is_some()).await, "the actor is not known at the far end");
    let shim = ActorRef::from(find().context("the far actor")?);
    Ok(Remote { there, shim })
}
