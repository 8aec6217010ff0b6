//! Asks per second from one node to the entities of another, beside bare QUIC round trips, all
//! in one process over loopback.
//!
//! `cargo run --release -p troupe-sharding --example nodes`

use std::{
    collections::HashMap,
    error::Error,
    io::{Write, stdout},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
};
use troupe_actor::{ActorTree, settle};
use troupe_link::{LinkOptions, Network, NodeCa, Purpose, QuicNetwork};
use troupe_sharding::{
    HostOptions, HostParts, NoObserver, NodeIdentity, NodeLink, NodeName, NodeOptions, NodeParts,
    Owner, Placement, RegisteredKind, Router, ShardHost,
};
use troupe_store::MemoryStore;
use troupe_types::{Epoch, ShardId, SystemClock, Uuid};

#[path = "parts/echo.rs"]
mod echo;
use echo::{ENTITIES, EchoFactory, TIMEOUT, run};

const ASKS: u128 = 200_000;
const ROUND_TRIPS: u32 = 20_000;

/// `node-2` owns everything.
#[derive(Debug)]
struct Second(bool);

impl Placement for Second {
    fn owner(&self, _: ShardId) -> Owner {
        if self.0 {
            Owner::Here(Epoch(1))
        } else {
            Owner::There(NodeName("node-2".into()), Epoch(1))
        }
    }
}

struct Node {
    router: Router,
    link: NodeLink,
    _host: ShardHost,
}

fn network(ca: &NodeCa, node: &str) -> Result<Arc<QuicNetwork>, Box<dyn Error>> {
    let cert = ca.issue(node, SystemClock::shared().now())?;
    let at = "127.0.0.1:0".parse()?;
    Ok(Arc::new(QuicNetwork::bind(at, ca.cert_pem(), &cert, LinkOptions::default())??))
}

async fn node(ca: &NodeCa, name: &str) -> Result<Node, Box<dyn Error>> {
    let clock = SystemClock::shared();
    let plenty = NonZeroU32::new(1_000_000).unwrap_or(NonZeroU32::MIN);
    let tree = ActorTree::new(Arc::clone(&clock));
    let parts = HostParts {
        options: HostOptions {
            activations_per_second: plenty,
            activations_burst: plenty,
            ..HostOptions::default()
        },
        placement: Arc::new(Second(name == "node-2")),
        stores: MemoryStore::new().stores(),
        clock: Arc::clone(&clock),
        router: Router::new(),
        tree: tree.clone(),
    };
    let (host, router) = ShardHost::start(parts, vec![RegisteredKind::new(EchoFactory)]).await?;
    let identity = NodeIdentity {
        cluster: "bench".to_owned(),
        node: name.to_owned(),
        boot: Uuid::new_v4(),
        build: String::new(),
        roles: Vec::new(),
    };
    let parts = NodeParts {
        identity,
        options: NodeOptions::default(),
        network: network(ca, name)?,
        router: router.clone(),
        clock,
        observer: Arc::new(NoObserver),
        tree,
    };
    let link = NodeLink::start(parts).await?;
    Ok(Node { router, link, _host: host })
}

/// Round trips of 64 bytes over one stream; answers the median.
async fn bare(ca: &NodeCa) -> Result<Duration, Box<dyn Error>> {
    let (near, far) = (network(ca, "node-3")?, network(ca, "node-4")?);
    let to = far.local_addr()?;
    let mut echoing = JoinSet::new();
    echoing.spawn(async move {
        let connection = far.arriving(0).await.expect("somebody comes").await.expect("a peer");
        let mut stream = connection.accept().await.expect("a stream");
        let mut word = [0; 64];
        while stream.read.read_exact(&mut word).await.is_ok() {
            stream.write.write_all(&word).await.expect("the peer is there");
        }
    });
    let connection = near.dial("node-4", to).await?;
    let mut stream = connection.open(Purpose::Router).await?;
    let mut times = Vec::new();
    let mut word = [7; 64];
    for _ in 0..ROUND_TRIPS {
        let begun = Instant::now();
        stream.write.write_all(&word).await?;
        stream.read.read_exact(&mut word).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut out = stdout();
    let ca = NodeCa::create("bench", SystemClock::shared().now())?;
    writeln!(out, "bare QUIC round trip, 64 bytes: p50 {:?}", bare(&ca).await?)?;
    let (a, b) = (node(&ca, "node-1").await?, node(&ca, "node-2").await?);
    let peers = HashMap::from([(NodeName("node-2".into()), b.link.local_addr()?)]);
    a.link.set_peers(&peers);
    settle(TIMEOUT, || a.link.peers().iter().any(|peer| peer.boot.is_some())).await;
    run(&a.router, 64, ENTITIES).await;
    for callers in [1, 8, 64, 1_024] {
        let asks = if callers == 1 { ASKS / 10 } else { ASKS };
        let (rate, all) = run(&a.router, callers, asks).await;
        let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize];
        let (p50, p99) = (at(0.5), at(0.99));
        writeln!(out, "{callers:>5} callers: {rate:.0} asks/s, p50 {p50:?}, p99 {p99:?}")?;
    }
    a.link.stop().await;
    b.link.stop().await;
    Ok(())
}
