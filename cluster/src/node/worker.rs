//! The node itself: joins, serves, hands over, leaves.
#![expect(clippy::print_stdout, reason = "says where the node is")]

use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::Map;
use tokio_util::sync::CancellationToken;
use troupe_actor::{settle, spawn_task};
use troupe_link::{LinkOptions, NodeCert, QuicNetwork};
use troupe_services::{
    admin::{OwnAnswers, follow_rebalance},
    auth::{self, AuthOptions},
};
use troupe_sharding::{
    ClusterView, Ended, Membership, MembershipParts, NodeIdentity, NodeLink, NodeOptions,
    NodeParts, Questions, membership,
};
use troupe_store::{
    Stores,
    backup::{StartError, check_start},
};
use troupe_store_scylla::ScyllaStore;
use troupe_types::{NodeName, NodeRole, Roles, SystemClock, Uuid};

use super::{
    CA_CERT_FILE, CERT_FILE, KEY_FILE, LEASE_LOST, Member, RunArgs, cluster_name, configure, name,
    store_options,
};
use crate::{
    config::Config,
    edge::{DEVICE_CA_KEY_FILE, EdgeSetup, load_ca},
    parts::{Node, Secrets, Wiring, assemble, whole},
    process::{REQUESTS_END_IN, listen, observe, print_setup_link, stop_signal, write_ready_file},
};

/// A node that joins is called ready after this at the latest.
const READY_WAIT_MAX: Duration = Duration::from_secs(30);
/// Between two looks whether this node alone is without the store.
const CUT_OFF_LOOK: Duration = Duration::from_secs(1);
/// Leaving takes at most two minutes; this is the end of all patience.
const LEAVE_MAX: Duration = Duration::from_secs(150);
/// Between two looks for the mark of a restore, if the store does not answer.
const MARK_AGAIN: Duration = Duration::from_secs(1);

fn make_data_dir(config: &Config) -> Result<()> {
    let mut data_dir = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(data_dir.recursive(true), 0o700)
        .create(&config.data_dir)
        .with_context(|| format!("data-dir: {}", config.data_dir.display()))
}

/// Runs until SIGTERM or SIGINT, or until the lease is taken away; answers the exit code.
pub(super) async fn run(args: RunArgs) -> Result<u8> {
    if args.launched.is_some() {
        // A launcher that is killed takes its node with it; in order, so that nothing is cut.
        set_parent_process_death_signal(Some(Signal::TERM)).context("the launcher")?;
    }
    let config = configure(&args)?;
    let (metrics, traces) = observe(&config, &config.node.name)?;
    let boot = args.launched.unwrap_or_else(Uuid::new_v4);
    let cluster = cluster_name(&config)?;
    make_data_dir(&config)?;
    let view = ClusterView::new(SystemClock::shared());
    let Some((store, secrets)) = enter(&args, &config, &cluster, &view).await? else {
        return Ok(0);
    };
    let network = bind_link(&config)?;
    let door = listen(&config).await?;
    let edge = open_edge(&config, &cluster)?;
    let edge_at = edge.as_ref().and_then(EdgeSetup::local_addr);
    let member = Arc::new(member(&config));
    let wiring = Wiring {
        config: &config,
        stores: store.stores(),
        listen: door.at,
        names: door.names.clone(),
        metrics,
        secrets,
        placement: Arc::clone(&view) as _,
        edge,
        member: Some(Arc::clone(&member)),
    };
    let node = assemble(wiring).await?;
    let link = Arc::new(start_link(&config, &cluster, boot, network, &node, &view).await?);
    let link_at = link.local_addr().context("the node link")?;
    link.take_bulk(Arc::new(Questions::new(Arc::new(OwnAnswers(Arc::clone(&node.own))))));
    let membership = Arc::new(join(&config, boot, link_at, &store, &view, &node, &link)?);
    member.joined(Arc::clone(&membership), Arc::clone(&link));
    let follow = follow_rebalance(store.stores().directory, Arc::clone(&member) as _);
    let _following = spawn_task("rebalance setting", follow).abort_on_drop();
    let stop = CancellationToken::new();
    let url = door.url();
    let serving = spawn_task("http", door.serve(&node.gateway, stop.clone()));
    let told = Told { args: &args, config: &config, url, link: link_at, edge: edge_at };
    let ended = tokio::select! {
        ended = membership.ended() => ended,
        stopped = live(&store, &node, &membership, &link, told) => {
            // With an error, too: its lease would stand in the way of others, of a restore first.
            let left = leave(&node, &membership).await;
            stopped?;
            left
        }
    };
    if ended == Ended::Left {
        // Told by an administrator to leave, it still has its sockets.
        node.gateway.close().await;
    }
    stop.cancel();
    if ended == Ended::Left && tokio::time::timeout(REQUESTS_END_IN, serving).await.is_err() {
        tracing::warn!("requests were still under way");
    }
    link.stop().await;
    if let Some(file) = &args.ready_file {
        let _ = fs::remove_file(file);
    }
    traces.finish().await;
    if ended == Ended::Lost {
        tracing::error!("the lease was taken away: this process ends, a new one may follow");
        return Ok(LEASE_LOST);
    }
    tracing::info!("left the cluster");
    Ok(0)
}

fn member(config: &Config) -> Member {
    let node = &config.node;
    Member::new(node.name.clone(), config.roles(), node.weight, node.advertise.clone())
}

/// The door for devices, if the node has the role; keys without a device CA are of an older
/// `troupe node init`.
fn open_edge(config: &Config, cluster: &str) -> Result<Option<EdgeSetup>> {
    if !config.roles().has(NodeRole::Edge) {
        return Ok(None);
    }
    if !config.node.keys.join(DEVICE_CA_KEY_FILE).exists() {
        tracing::warn!("no device CA among the keys: `troupe node init` makes it, no devices join");
        return Ok(None);
    }
    let ca = load_ca(&config.node.keys, cluster)?;
    let clock = SystemClock::new();
    EdgeSetup::bind(config, ca, cluster, &config.node.name, &clock).map(Some)
}

/// The store, once this node may work on it: with the keys of the others, and alone of its name.
/// `None`: it was told to stop meanwhile.
async fn enter(
    args: &RunArgs,
    config: &Config,
    cluster: &str,
    view: &Arc<ClusterView>,
) -> Result<Option<(ScyllaStore, Secrets)>> {
    let store = connect(config, cluster, view).await?;
    let secrets = Secrets::load(&config.node.keys)?;
    agree(&store.stores(), &secrets.ids()).await?;
    if !args.after.is_empty() {
        let name = NodeName::from(config.node.name.as_str());
        tokio::select! {
            stopped = stop_signal() => return stopped.map(|()| None),
            () = name::free(&store, &name, &args.after) => {}
        }
    }
    Ok(Some((store, secrets)))
}

async fn connect(config: &Config, cluster: &str, view: &Arc<ClusterView>) -> Result<ScyllaStore> {
    let options = store_options(config, cluster)?;
    let lease = Arc::clone(view);
    let store = ScyllaStore::connect_with(&options, move || lease.is_valid()).await;
    store.map_err(|error| anyhow::anyhow!("the store: {}", troupe_telemetry::error_chain(&error)))
}

/// A node that cannot read what the others write must not begin.
async fn agree(stores: &Stores, mine: &BTreeSet<String>) -> Result<()> {
    // Before anything is written: a restore wants an empty store, or its own half of one.
    whole(stores).await?;
    let directory = Arc::clone(&stores.directory);
    let timeout = AuthOptions::default().store_timeout;
    match auth::agree_on_keys(directory, timeout, mine).await.context("keys of the cluster")? {
        Ok(()) => Ok(()),
        Err(missing) => bail!(
            "node.keys: the cluster uses keys that this node lacks ({}); copy them from another \
             node, or from where `troupe node init` was run",
            missing.join(", ")
        ),
    }
}

fn bind_link(config: &Config) -> Result<QuicNetwork> {
    let keys = &config.node.keys;
    let read = |file: &str| {
        let path = keys.join(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    check_mode(&keys.join(KEY_FILE))?;
    let cert = NodeCert {
        node: config.node.name.clone(),
        cert_pem: read(CERT_FILE)?,
        key_pem: read(KEY_FILE)?.into(),
    };
    let ca = read(CA_CERT_FILE)?;
    let bound = QuicNetwork::bind(config.node.link, &ca, &cert, LinkOptions::default());
    bound.context("the node's certificate")?.with_context(|| {
        format!("cannot listen on {} (UDP); take another port with --link", config.node.link)
    })
}

fn check_mode(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).with_context(|| path.display().to_string())?.permissions();
    if mode.mode() & 0o077 != 0 {
        bail!("{} may be read by others: chmod 600 it", path.display());
    }
    Ok(())
}

async fn start_link(
    config: &Config,
    cluster: &str,
    boot: Uuid,
    network: QuicNetwork,
    node: &Node,
    view: &Arc<ClusterView>,
) -> Result<NodeLink> {
    let roles = config.roles();
    let names = NodeRole::ALL.into_iter().filter(|role| roles.has(*role));
    let parts = NodeParts {
        identity: NodeIdentity {
            cluster: cluster.to_owned(),
            node: config.node.name.clone(),
            boot,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            roles: names.map(|role| role.name().to_owned()).collect(),
        },
        options: NodeOptions::default(),
        network: Arc::new(network),
        router: node.router.clone(),
        clock: SystemClock::shared(),
        observer: Arc::clone(view) as _,
        tree: node.tree.clone(),
    };
    NodeLink::start(parts).await.context("the node link")
}

fn join(
    config: &Config,
    boot: Uuid,
    link_at: SocketAddr,
    store: &ScyllaStore,
    view: &Arc<ClusterView>,
    node: &Node,
    link: &Arc<NodeLink>,
) -> Result<Membership> {
    let roles: Roles = config.roles();
    let parts = MembershipParts {
        identity: membership::Identity {
            node: NodeName::from(config.node.name.as_str()),
            addr: config.node.advertise.clone().unwrap_or_else(|| link_at.to_string()),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            roles,
            weight: config.node.weight,
        },
        boot,
        timings: membership::Timings::default(),
        ownership: Arc::new(store.clone()),
        floors: store.floors().clone(),
        view: Arc::clone(view),
        host: Arc::clone(&node.host),
        link: Arc::clone(link),
    };
    Membership::start(parts).context("membership")
}

/// What is told once the node serves.
struct Told<'a> {
    args: &'a RunArgs,
    config: &'a Config,
    url: String,
    link: SocketAddr,
    edge: Option<SocketAddr>,
}

/// Serves until it is told to stop, or finds that it may not.
async fn live(
    store: &ScyllaStore,
    node: &Node,
    membership: &Membership,
    link: &NodeLink,
    told: Told<'_>,
) -> Result<()> {
    let mut stop = Box::pin(stop_signal());
    tokio::select! {
        stopped = &mut stop => return stopped,
        found = still_whole(store, membership) => found?,
    }
    tokio::select! {
        stopped = &mut stop => return stopped,
        () = until_ready(membership, link) => {}
    }
    node.gateway.set_ready();
    announce(node, &told).await?;
    let look = async {
        loop {
            tokio::time::sleep(CUT_OFF_LOOK).await;
            node.gateway.set_cut_off(membership.view().is_cut_off());
        }
    };
    tokio::select! {
        stopped = stop => stopped,
        () = look => Ok(()),
    }
}

/// A restore marks the store, then looks at leases; a node has its lease, then looks at the mark.
/// So of two that begin at the same time one sees the other.
async fn still_whole(store: &ScyllaStore, membership: &Membership) -> Result<()> {
    lease_holds(membership).await;
    loop {
        match check_start(store).await {
            Err(StartError::Store(error)) => {
                tracing::warn!(%error, "whether a restore has begun is not known");
                tokio::time::sleep(MARK_AGAIN).await;
            }
            found => return Ok(found.map(drop)?),
        }
    }
}

/// Without a lease nothing can be done at all.
async fn lease_holds(membership: &Membership) {
    while !settle(READY_WAIT_MAX, || membership.view().is_valid()).await {}
}

/// Ready: the lease holds, every Shard has an owner, and all that have a lease are linked.
async fn until_ready(membership: &Membership, link: &NodeLink) {
    let view = membership.view();
    let ready = || view.is_valid() && view.unowned() == 0 && link.is_linked();
    if settle(READY_WAIT_MAX, ready).await {
        return;
    }
    let (unowned, linked) = (view.unowned(), link.is_linked());
    tracing::warn!(unowned, linked, valid = view.is_valid(), "serving before all is well");
    lease_holds(membership).await;
}

async fn announce(node: &Node, told: &Told<'_>) -> Result<()> {
    let Told { args, config, url, link, edge } = told;
    let name = &config.node.name;
    println!("Troupe node {name} is up: {url}");
    let token = if args.setup_link {
        node.auth.prepare_setup().await.context("setup token")?
    } else {
        None
    };
    if let Some(token) = &token {
        print_setup_link(url, token);
    }
    if let Some(file) = &args.ready_file {
        let launcher = args.launched.and(rustix::process::getppid());
        let mut more = Map::new();
        more.insert("node".to_owned(), name.as_str().into());
        more.insert("link".to_owned(), link.to_string().into());
        more.insert("edge".to_owned(), edge.map(|at| at.to_string()).into());
        let launcher = launcher.map(|pid| pid.as_raw_nonzero().get());
        more.insert("launcher".to_owned(), launcher.into());
        write_ready_file(file, url, token.as_ref(), more)?;
    }
    Ok(())
}

/// Clients go to other nodes first, then the Shards.
async fn leave(node: &Node, membership: &Membership) -> Ended {
    tracing::info!("stopping: clients go elsewhere, shards are handed over");
    node.gateway.close().await;
    if let Some(edge) = &node.edge {
        // Devices dial another node.
        edge.close();
    }
    if membership.leave().await.is_err() {
        return Ended::Lost;
    }
    match tokio::time::timeout(LEAVE_MAX, membership.ended()).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::error!("leaving took too long");
            Ended::Left
        }
    }
}
