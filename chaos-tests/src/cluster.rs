//! The cluster under test: three nodes in their places, a store, Redis, the proxies between,
//! a model and its tools.

mod setup;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use futures::future::join_all;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use troupe_testkit::{FakeModel, McpServer};

use crate::{
    check::{
        converge::{self, Leases},
        epochs::Grant,
        fence::Look,
    },
    history::{History, What},
    load::Roster,
    node::{Node, Which},
    place::Network,
    print,
    proxy::{
        tcp::{Mode, TcpProxy},
        udp::{UdpProxy, Weather},
    },
    service::{Recipe, Service},
    witness::Witness,
};

/// Nodes of the cluster.
pub(crate) const NODES: usize = 3;
/// Shards of all kinds.
pub(crate) const SHARDS: usize = 1_280;
/// Without a new owner of any shard for so long, nothing moves by itself: a node gives away what
/// should be another's after 10 s.
const QUIET: Duration = Duration::from_secs(12);
/// Within this a node says what became of Redis.
pub(crate) const SOFT_STATE: Duration = Duration::from_secs(15);
pub(crate) const CLUSTER: &str = "chaos";
pub(crate) const KEYSPACE: &str = "troupe_chaos";

/// What a run was told.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) troupe: PathBuf,
    /// What nodes are started with first, if it is not the same.
    pub(crate) before: Option<PathBuf>,
    /// Logs, data, history.
    pub(crate) dir: PathBuf,
    pub(crate) recipes: Vec<Recipe>,
    pub(crate) seed: u64,
    pub(crate) people: u64,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) network: Network,
    pub(crate) nodes: Vec<Node>,
    pub(crate) store: Service,
    pub(crate) redis: Service,
    pub(crate) cql: Vec<TcpProxy>,
    pub(crate) redis_links: Vec<TcpProxy>,
    /// The way of the harness itself to the store.
    past_faults: TcpProxy,
    pub(crate) links: BTreeMap<(usize, usize), UdpProxy>,
    pub(crate) model: FakeModel,
    pub(crate) tools: McpServer,
    pub(crate) roster: Roster,
    pub(crate) history: Arc<History>,
    witness: Option<Witness>,
    /// Rows of `shard` at one time after the other.
    pub(crate) looks: Vec<Vec<Grant>>,
    pub(crate) journals: Look,
}

impl Cluster {
    /// The reader of the store; it connects again after the store was away.
    pub(crate) async fn witness(&mut self) -> Result<&Witness> {
        if self.witness.is_none() {
            self.witness = Some(Witness::connect(self.past_faults.addr, KEYSPACE).await?);
        }
        self.witness.as_ref().context("no witness")
    }

    /// Looks at the shards, and keeps the look.
    pub(crate) async fn look(&mut self) -> Result<Vec<Grant>> {
        let shards = self.witness().await?.shards().await?;
        self.looks.push(shards.clone());
        Ok(shards)
    }

    /// Puts the loss and every cut away, lets all proxies pass.
    pub(crate) async fn heal(&mut self) -> Result<()> {
        self.network.heal().await?;
        self.cql.iter().chain(&self.redis_links).for_each(|proxy| proxy.set(Mode::Pass));
        self.links.values().for_each(|link| link.set(Weather::default()));
        for node in &mut self.nodes {
            node.signal(Which::Both, Signal::CONT)?;
        }
        Ok(())
    }

    /// Starts what does not run.
    pub(crate) async fn raise(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            if !node.comes_back().await {
                node.kill().await?;
                node.start().await?;
            }
        }
        self.tell_roster();
        Ok(())
    }

    /// Tells clients where nodes are.
    pub(crate) fn tell_roster(&self) {
        let url = |node: &Node| {
            let rest = node.rest(Duration::from_secs(5)).ok()?;
            Some((node.name().to_owned(), rest.url))
        };
        self.roster.set(self.nodes.iter().filter_map(url).collect());
    }

    /// Notes the memory of every node.
    pub(crate) fn weigh(&self) {
        for node in &self.nodes {
            if let Some(kib) = node.memory() {
                let (name, pid) = (node.name().to_owned(), node.worker());
                self.history.add(What::Memory { node: name, pid, kib });
            }
        }
    }

    /// Weighs every second and looks at the shards every second time. The store may be away.
    pub(crate) async fn watch_until(&mut self, until: Instant) {
        let mut looks = true;
        while Instant::now() < until {
            self.weigh();
            looks = !looks;
            if !looks {
                let looked = tokio::time::timeout(Duration::from_secs(2), self.look()).await;
                if !matches!(looked, Ok(Ok(_))) {
                    self.witness = None;
                }
            }
            sleep((Instant::now() + Duration::from_secs(1)).min(until) - Instant::now()).await;
        }
    }

    /// The same for a while.
    pub(crate) async fn watch(&mut self, time: Duration) {
        self.watch_until(Instant::now() + time).await;
    }

    /// Waits until every shard has a live owner; how long that took, and the leases and shards
    /// then. An error says what is missing after `limit`.
    pub(crate) async fn converged(&mut self, limit: Duration) -> Result<Converged> {
        let began = Instant::now();
        let mut before: Option<(Instant, Leases)> = None;
        let mut missing = "the store does not answer".to_owned();
        while began.elapsed() < limit {
            self.weigh();
            let read = async {
                let shards = self.look().await?;
                anyhow::Ok((shards, self.witness().await?.leases().await?))
            };
            let Ok(Ok((shards, leases))) =
                tokio::time::timeout(Duration::from_secs(10), read).await
            else {
                self.witness = None;
                sleep(Duration::from_millis(500)).await;
                continue;
            };
            if let Some((at, earlier)) = &before {
                let unowned = converge::unowned(earlier, &leases, &shards);
                if unowned.is_empty() && shards.len() >= SHARDS {
                    let earlier = earlier.clone();
                    return Ok(Converged { took: began.elapsed(), earlier, leases, shards });
                }
                missing = format!(
                    "{} shards are claimed, {} have no live owner: {:?}",
                    shards.len(),
                    unowned.len(),
                    unowned.first()
                );
                // A renewal takes place every 2.5 s: the earlier look must be older than that.
                if at.elapsed() > Duration::from_secs(6) {
                    before = Some((Instant::now(), leases));
                }
            } else {
                before = Some((Instant::now(), leases));
            }
            sleep(Duration::from_millis(500)).await;
        }
        bail!("not after {limit:?}: {missing}")
    }

    /// Waits until every node owns a fair part; whether it does.
    pub(crate) async fn balanced(&mut self, limit: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < limit {
            self.weigh();
            if let Ok(Ok(shards)) = tokio::time::timeout(Duration::from_secs(5), self.look()).await
            {
                let owned = |node: &Node| shards.iter().filter(|g| g.owner == node.name()).count();
                if self.nodes.iter().all(|node| owned(node) >= SHARDS / NODES / 2) {
                    return true;
                }
            } else {
                self.witness = None;
            }
            sleep(Duration::from_millis(500)).await;
        }
        false
    }

    /// Waits until nothing moves any more by itself.
    pub(crate) async fn at_rest(&mut self, limit: Duration) -> bool {
        let began = Instant::now();
        let (mut grants, mut since) = (None, Instant::now());
        while began.elapsed() < limit {
            self.weigh();
            let look = tokio::time::timeout(Duration::from_secs(5), self.look()).await;
            let now = look.ok().and_then(Result::ok).map(|mut grants| {
                grants.sort_unstable();
                grants
            });
            if now.is_none() {
                self.witness = None;
            }
            if now.is_none() || now != grants {
                (grants, since) = (now, Instant::now());
            }
            if since.elapsed() >= QUIET {
                return true;
            }
            sleep(Duration::from_millis(500)).await;
        }
        false
    }

    /// Waits until every node says so of its soft state; how long that took. `None`: not within
    /// `limit`.
    pub(crate) async fn soft_state_is(
        &self,
        wanted: SoftState,
        limit: Duration,
    ) -> Option<Duration> {
        let began = Instant::now();
        let all = troupe_testkit::try_until(limit, async || {
            let states = join_all(self.nodes.iter().map(soft_state)).await;
            states.iter().all(|state| *state == Some(wanted))
        });
        all.await.then(|| began.elapsed())
    }

    /// Ends nodes and services, takes the places away; processes that were left.
    pub(crate) async fn end(mut self) -> Result<Vec<String>> {
        // All at once, as somebody does who ends the whole cluster.
        let ended = join_all(self.nodes.iter_mut().map(Node::terminate)).await;
        for error in ended.into_iter().filter_map(Result::err) {
            print(&format!("at the end: {error:#}"));
        }
        let left = self.network.processes().await;
        for node in &mut self.nodes {
            node.kill().await?;
        }
        self.redis.kill().await?;
        self.store.kill().await?;
        self.network.remove().await;
        Ok(left)
    }
}

/// What a node says of what it shares through Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SoftState {
    Shared,
    Degraded,
}

async fn soft_state(node: &Node) -> Option<SoftState> {
    let rest = node.rest(Duration::from_secs(2)).ok()?;
    let health = rest.call("GET", "/health", None, None).await.ok()?;
    if health.status != 200 {
        return None;
    }
    let message = health.body["message"].as_str().unwrap_or_default();
    let degraded = message.starts_with("soft state is degraded");
    Some(if degraded { SoftState::Degraded } else { SoftState::Shared })
}

/// A cluster in which every shard has a live owner.
#[derive(Debug)]
pub(crate) struct Converged {
    pub(crate) took: Duration,
    pub(crate) earlier: Leases,
    pub(crate) leases: Leases,
    pub(crate) shards: Vec<Grant>,
}

fn at(host: std::net::Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::from((host, port))
}

fn recipe(plan: &Plan, name: &str) -> Result<Recipe> {
    let found = plan.recipes.iter().find(|recipe| recipe.name.starts_with(name));
    found.cloned().with_context(|| format!("no recipe for {name}: start by `cargo xtask chaos`"))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
