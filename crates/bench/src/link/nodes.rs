//! Two nodes' links and Routers: the first asks, the second owns every entity.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};
use troupe_actor::{ActorTree, settle};
use troupe_link::{LinkOptions, NodeCa, QuicNetwork};
use troupe_sharding::{
    AskError, Crash, Entity, EntityContext, EntityFactory, FrameSink, HostOptions, HostParts,
    NoObserver, NodeIdentity, NodeLink, NodeName, NodeOptions, NodeParts, Owner, Placement,
    RegisteredKind, Reply, Router, ShardHost,
};
use troupe_store::MemoryStore;
use troupe_types::{EntityId, EntityKind, Epoch, ShardId, SystemClock, Uuid};

use super::{ENTITIES, MESSAGE_BYTES, WINDOW, entity_id};
use crate::stats::Times;

const PATIENCE: Duration = Duration::from_secs(60);
/// A tell that found the limit of tells comes again after this.
const AGAIN: Duration = Duration::from_micros(100);
const NEAR: &str = "node-1";
const FAR: &str = "node-2";
const ASK: &[u8] = &[b'a'; MESSAGE_BYTES];
const TELL: &[u8] = &[b't'; MESSAGE_BYTES];

/// `node-2` owns everything.
#[derive(Debug)]
struct Second {
    is_here: bool,
}

impl Placement for Second {
    fn owner(&self, _: ShardId) -> Owner {
        let there = || Owner::There(NodeName(FAR.into()), Epoch(1));
        if self.is_here { Owner::Here(Epoch(1)) } else { there() }
    }
}

/// Answers with what it was asked, and counts what it was told.
struct Echo(Arc<Semaphore>);

#[derive(Debug)]
struct EchoFactory(Arc<Semaphore>);

#[async_trait]
impl EntityFactory for EchoFactory {
    type Entity = Echo;

    fn kind(&self) -> EntityKind {
        EntityKind::Task
    }

    fn idle_for(&self) -> Duration {
        Duration::from_secs(3_600)
    }

    async fn activate(&self, _: EntityContext<()>) -> Result<Echo, Crash> {
        Ok(Echo(Arc::clone(&self.0)))
    }
}

#[async_trait]
impl Entity for Echo {
    type Internal = ();

    async fn ask(&mut self, body: Bytes, reply: Reply) -> Result<(), Crash> {
        if body == TELL {
            self.0.add_permits(1);
            reply.ok(Bytes::new());
        } else {
            reply.ok(body);
        }
        Ok(())
    }

    async fn subscribe(&mut self, _: Bytes, _: FrameSink, _: Reply) -> Result<(), Crash> {
        Ok(())
    }

    async fn internal(&mut self, (): ()) -> Result<(), Crash> {
        Ok(())
    }

    async fn wake(&mut self) -> Result<(), Crash> {
        Ok(())
    }

    fn is_idle(&self) -> bool {
        true
    }

    async fn drain(&mut self) -> Result<(), Crash> {
        Ok(())
    }

    async fn close(&mut self) {}
}

struct Node {
    router: Router,
    link: NodeLink,
    _host: ShardHost,
}

async fn node(ca: &NodeCa, name: &str, told: &Arc<Semaphore>) -> Result<Node> {
    let clock = SystemClock::shared();
    let plenty = NonZeroU32::new(1_000_000).context("a million is not zero")?;
    let tree = ActorTree::new(Arc::clone(&clock));
    let parts = HostParts {
        options: HostOptions {
            activations_per_second: plenty,
            activations_burst: plenty,
            ..HostOptions::default()
        },
        placement: Arc::new(Second { is_here: name == FAR }),
        stores: MemoryStore::new().stores(),
        clock: Arc::clone(&clock),
        router: Router::new(),
        tree: tree.clone(),
    };
    let kinds = vec![RegisteredKind::new(EchoFactory(Arc::clone(told)))];
    let (host, router) = ShardHost::start(parts, kinds).await?;
    let identity = NodeIdentity {
        cluster: "bench".to_owned(),
        node: name.to_owned(),
        boot: Uuid::new_v4(),
        build: String::new(),
        roles: Vec::new(),
    };
    let (cert, at) = (ca.issue(name, clock.now())?, "127.0.0.1:0".parse()?);
    let network = QuicNetwork::bind(at, ca.cert_pem(), &cert, LinkOptions::default())??;
    let parts = NodeParts {
        identity,
        options: NodeOptions::default(),
        network: Arc::new(network),
        router: router.clone(),
        clock,
        observer: Arc::new(NoObserver),
        tree,
    };
    Ok(Node { router, link: NodeLink::start(parts).await?, _host: host })
}

/// Spread over all Shards.
fn entity(n: u32) -> EntityId {
    EntityId { kind: EntityKind::Task, id: entity_id(n) }
}

/// Both, linked, with every entity awake.
pub(super) struct Nodes {
    near: Node,
    far: Node,
    window: Arc<Semaphore>,
}

impl Nodes {
    pub(super) async fn start(ca: &NodeCa) -> Result<Self> {
        let window = Arc::new(Semaphore::new(WINDOW as usize));
        let (near, far) = (node(ca, NEAR, &window).await?, node(ca, FAR, &window).await?);
        near.link.set_peers(&HashMap::from([(NodeName(FAR.into()), far.link.local_addr()?)]));
        let linked = || near.link.peers().iter().any(|peer| peer.boot.is_some());
        ensure!(settle(PATIENCE, linked).await, "the nodes do not come together");
        let nodes = Self { near, far, window };
        nodes.asks(64, ENTITIES).await.context("wake the entities")?;
        Ok(nodes)
    }

    /// So many asks by so many callers, each of them one after the other.
    pub(super) async fn asks(&self, callers: u32, count: u32) -> Result<(Duration, Times)> {
        let begun = Instant::now();
        let mut asking = JoinSet::new();
        for caller in 0..callers {
            let router = self.near.router.clone();
            asking.spawn(async move {
                let mut times = Times::default();
                for n in (caller..count).step_by(callers as usize) {
                    let asked = Instant::now();
                    router
                        .ask(entity(n), Bytes::from_static(ASK), PATIENCE)
                        .await
                        .context("ask")?;
                    times.push(asked.elapsed());
                }
                anyhow::Ok(times)
            });
        }
        let mut all = Times::default();
        while let Some(times) = asking.join_next().await {
            all.append(times.context("a caller died")??);
        }
        Ok((begun.elapsed(), all))
    }

    /// So many tells; how long until all were handled.
    pub(super) async fn tells(&self, count: u32) -> Result<Duration> {
        let begun = Instant::now();
        for n in 0..count {
            self.window.acquire().await?.forget();
            loop {
                match self.near.router.tell(entity(n), Bytes::from_static(TELL), PATIENCE) {
                    Ok(()) => break,
                    // Handled, but the answers are still under way.
                    Err(AskError::Overloaded) => sleep(AGAIN).await,
                    Err(fate) => return Err(fate).context("tell"),
                }
            }
        }
        let _all = self.window.acquire_many(WINDOW).await?;
        Ok(begun.elapsed())
    }

    pub(super) async fn stop(&self) {
        self.near.link.stop().await;
        self.far.link.stop().await;
    }
}
