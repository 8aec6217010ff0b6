//! How the cluster comes to be.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use tokio::time::Instant;
use troupe_testkit::{FakeModel, McpServer};

use super::{CLUSTER, Cluster, KEYSPACE, NODES, Plan, SOFT_STATE, SoftState, at, recipe, text};
use crate::{
    history::History,
    load::{self, Roster},
    node::{Node, NodePlan},
    place::{
        HTTP_PORT, LINK_PORT, Network, face_address, hub, namespace, node_address, proxy_port, run,
    },
    print,
    proxy::{
        tcp::{Protocol, TcpProxy},
        udp::UdpProxy,
    },
    service::Service,
};

/// Where the proxies of the services listen: one per node, so that one node can be cut off.
const CQL_PORT: u16 = 9_142;
const REDIS_PORT: u16 = 6_379;

impl Cluster {
    /// Makes the places, starts services and nodes, waits until all is owned.
    pub(crate) async fn start(plan: &Plan, history: Arc<History>) -> Result<Self> {
        let began = Instant::now();
        let network = Network::make(NODES).await?;
        let mut store = Service::new(recipe(plan, "cassandra")?, &plan.dir)?;
        let mut redis = Service::new(recipe(plan, "redis")?, &plan.dir)?;
        tokio::try_join!(store.start(), redis.start())?;
        print(&format!("store and Redis answer after {:.1} s", began.elapsed().as_secs_f64()));
        let (mut cql, mut redis_links, mut links) = (Vec::new(), Vec::new(), BTreeMap::new());
        for n in 0..NODES {
            let port = u16::try_from(n)?;
            let seed = plan.seed.wrapping_add(u64::from(port));
            let (cql_at, redis_at) = (at(hub(), CQL_PORT + port), at(hub(), REDIS_PORT + port));
            cql.push(TcpProxy::start(cql_at, store.address(), Protocol::Cql, seed).await?);
            let link = TcpProxy::start(redis_at, redis.address(), Protocol::Bytes, seed).await?;
            redis_links.push(link);
            for to in (0..NODES).filter(|to| *to != n) {
                let listen = at(hub(), proxy_port(n, to));
                let target = at(node_address(to), LINK_PORT);
                let link = UdpProxy::start(listen, face_address(n), target, seed).await?;
                links.insert((n, to), link);
            }
        }
        // Drivers are told that the store is at the bridge's address; ours too.
        let port = CQL_PORT + u16::try_from(NODES)?;
        let past_faults = at(hub(), port);
        let past_faults =
            TcpProxy::start(past_faults, store.address(), Protocol::Cql, plan.seed).await?;
        let model = FakeModel::start_at(at(hub(), 0), load::script()).await?;
        let tools = McpServer::start_at(at(hub(), 0)).await?;
        let keys = plan.dir.join("keys");
        init(plan, &keys).await?;
        let nodes = (0..NODES).map(|n| Node::new(node_plan(plan, &keys, n))).collect();
        let roster = Roster::default();
        let mut cluster = Self {
            network,
            nodes,
            store,
            redis,
            cql,
            redis_links,
            past_faults,
            links,
            model,
            tools,
            roster,
            history,
            witness: None,
            looks: Vec::new(),
            journals: BTreeMap::new(),
        };
        cluster.start_nodes().await?;
        Ok(cluster)
    }

    async fn start_nodes(&mut self) -> Result<()> {
        // One after the other: the first makes the tables and the setup token.
        let [first, others @ ..] = self.nodes.as_mut_slice() else { return Ok(()) };
        let began = Instant::now();
        first.start().await?;
        print(&format!("the first node is ready after {:.1} s", began.elapsed().as_secs_f64()));
        others.iter_mut().try_for_each(Node::spawn)?;
        try_join_all(others.iter_mut().map(Node::wait_ready)).await?;
        print(&format!("all nodes are ready after {:.1} s", began.elapsed().as_secs_f64()));
        self.tell_roster();
        self.converged(Duration::from_secs(60)).await.context("the new cluster")?;
        // A fault of Redis proves nothing about nodes that do not use it.
        let shared = self.soft_state_is(SoftState::Shared, SOFT_STATE).await;
        shared.context("not all nodes say that they share soft state by Redis")?;
        Ok(())
    }
}

pub(crate) fn node_name(n: usize) -> String {
    format!("n{}", n + 1)
}

/// The node CA, certificates and keys.
async fn init(plan: &Plan, keys: &Path) -> Result<()> {
    let names: Vec<String> = (0..NODES).map(node_name).collect();
    let (out, names) = (text(keys), names.join(","));
    let args = ["node", "init", "--cluster", CLUSTER, "--out", &out, "--nodes", &names];
    run(&text(&plan.troupe), &args).await.map(drop).context("make the keys of the nodes")
}

fn node_plan(plan: &Plan, keys: &Path, n: usize) -> NodePlan {
    let name = node_name(n);
    let dir = plan.dir.join(&name);
    let port = u16::try_from(n).unwrap_or(0);
    let prefix = ["ip", "netns", "exec", &namespace(n)].map(str::to_owned).to_vec();
    let address = node_address(n);
    let args = [
        ("--name", name.clone()),
        ("--keys", text(&keys.join(&name))),
        ("--http", at(address, HTTP_PORT).to_string()),
        ("--link", at(address, LINK_PORT).to_string()),
        ("--cql", at(hub(), CQL_PORT + port).to_string()),
        ("--keyspace", KEYSPACE.to_owned()),
        ("--replication", "1".to_owned()),
        ("--redis", format!("redis://{}/", at(hub(), REDIS_PORT + port))),
        ("--data-dir", text(&dir.join("data"))),
    ];
    let args = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    // The first one tells how to make the administrator.
    let link = (n == 0).then(|| "--setup-link".to_owned());
    let env = [
        // The model and the tools of these tests.
        ("TROUPE__EGRESS__ALLOW", format!("[\"{}/32\"]", hub())),
        // So that a Task of a few turns has snapshots.
        ("TROUPE__TASKS__SNAPSHOT_ENTRIES", "30".to_owned()),
        ("TROUPE__TASKS__IDLE_SECONDS", "60".to_owned()),
        ("RUST_BACKTRACE", "1".to_owned()),
    ];
    NodePlan {
        name,
        namespace: namespace(n),
        prefix,
        troupe: plan.before.clone().unwrap_or_else(|| plan.troupe.clone()),
        args: std::iter::once("node".to_owned()).chain(args).chain(link).collect(),
        env: env.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        dir,
    }
}
