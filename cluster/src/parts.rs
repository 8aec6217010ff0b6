//! What a node is made of, wired together: stores, entities, services, gateway.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use troupe_actor::{ActorTree, TaskHandle, spawn_task};
use troupe_chat::{ChatServices, ToolRegistry, tools::CurrentTime};
use troupe_entities::{
    DeviceFactory, NamespaceFactory, ProviderFactory, TaskFactory, TaskOptions, TeamFactory,
    models::SealedSecrets,
};
use troupe_gateway::{Gateway, GatewayOptions, GatewayState};
use troupe_llm::{Egress, EgressPolicy, Llm, LlmOptions, Sealer};
use troupe_services::{
    Auth, AuthOptions, GitTokens, LiveDevices, Operations, OperationsParts,
    admin::{ClusterOperator, LocalOperator, LocalParts, NodeControl, Operator},
    auth::{self, Keys},
    resources::LiveResources,
    tasks::LiveTasks,
};
use troupe_sharding::{HostOptions, HostParts, Placement, RegisteredKind, Router, ShardHost};
use troupe_soft_state::SoftState;
use troupe_store::{
    Stores,
    backup::{Restored, check_start},
};
use troupe_telemetry::MetricsHandle;
use troupe_types::{Clock, Epoch, NodeRole, Roles, SystemClock, Uuid};

use crate::{
    config::Config,
    containers,
    edge::{self, Edge, EdgeSetup},
    node::Member,
    soft_state,
};

/// The name of a node that is alone.
const ONLY_NODE: &str = "local";

/// A node, wired and running, but not yet listening.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) host: Arc<ShardHost>,
    pub(crate) router: Router,
    pub(crate) tree: ActorTree,
    pub(crate) gateway: Gateway,
    pub(crate) auth: Arc<Auth>,
    /// `None`: the node has not the role.
    pub(crate) edge: Option<Arc<Edge>>,
    /// `None`: it runs no containers.
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) containers: Option<TaskHandle<()>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The node by itself, as operators see it.
    pub(crate) own: Arc<LocalOperator>,
}

/// What a node seals and signs with.
#[derive(Debug)]
pub(crate) struct Secrets {
    sealer: Sealer,
    keys: Keys,
}

impl Secrets {
    /// A node alone makes what is missing.
    pub(crate) fn load_or_create(dir: &Path) -> Result<Self> {
        let sealer = Sealer::load_or_create(dir).context("sealing keys")?;
        let keys = Keys::load_or_create(dir).context("access-token keys")?;
        Ok(Self { sealer, keys })
    }

    /// Nodes of a cluster share theirs, so they are made once and brought to each.
    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let sealer = Sealer::load(dir).context("sealing keys")?;
        let keys = Keys::load(dir).context("access-token keys")?;
        Ok(Self { sealer, keys })
    }

    /// By what they are known; it tells nothing of them.
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        let sealing = self.sealer.key_ids().into_iter().map(|id| format!("sealing {id}"));
        sealing.chain(self.keys.kids().map(|id| format!("access-token {id}"))).collect()
    }
}

/// What a node is made from.
#[derive(Debug)]
pub(crate) struct Wiring<'a> {
    pub(crate) config: &'a Config,
    pub(crate) stores: Stores,
    pub(crate) listen: SocketAddr,
    /// Names by which people may call it.
    pub(crate) names: Vec<String>,
    pub(crate) metrics: MetricsHandle,
    pub(crate) secrets: Secrets,
    pub(crate) placement: Arc<dyn Placement>,
    pub(crate) edge: Option<EdgeSetup>,
    /// What it is in its cluster; `None`: it is alone.
    pub(crate) member: Option<Arc<Member>>,
}

/// Nobody works on a store that is half restored. Tells what a whole one was restored from.
pub(crate) async fn whole(stores: &Stores) -> Result<Option<Restored>> {
    Ok(check_start(stores.directory.as_ref()).await?)
}

/// Wires a node over its stores.
pub(crate) async fn assemble(wiring: Wiring<'_>) -> Result<Node> {
    let Wiring { config, stores, listen, names, metrics, secrets, placement, edge, member } =
        wiring;
    let restored = whole(&stores).await?;
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let Secrets { sealer, keys } = secrets;
    let sealer = Arc::new(sealer);
    let options = AuthOptions::default();
    let directory = Arc::clone(&stores.directory);
    let cluster = auth::cluster_of(Arc::clone(&directory), options.store_timeout);
    let cluster = cluster.await.context("cluster")?;
    let soft = soft_state::start(&config.redis, cluster, &clock)?;
    let key_ids = keys.kids().chain(sealer.key_ids()).map(str::to_owned).collect();
    let auth = Auth::open(directory, Arc::clone(&soft), Arc::clone(&clock), keys, options);
    let auth = auth.await.context("users")?;
    spawn_task("auth-poll", Arc::clone(&auth).run());

    let router = Router::new();
    let chat = chat_services(config, listen, &sealer, &clock)?;
    let tree = ActorTree::new(Arc::clone(&clock));
    let parts = HostParts {
        options: HostOptions::default(),
        stores: stores.clone(),
        clock: Arc::clone(&clock),
        placement,
        router: router.clone(),
        tree: tree.clone(),
    };
    let opener = SealedSecrets::new(Arc::clone(&sealer));
    let host = start_host(config, parts, chat, (opener, restored), &soft).await?;
    let (devices, edge, containers) =
        open_devices(config, &stores, &router, &clock, (edge, cluster))?;

    let keys_dir = match &member {
        None => config.data_dir.join("keys"),
        Some(_) => config.node.keys.clone(),
    };
    let serves_people = member.as_ref().is_none_or(|member| member.roles.has(NodeRole::Gateway));
    let (own, operator) = operator(&host, listen, key_ids, member, &clock, stores.boot_epoch);
    let operations = Operations::new(OperationsParts {
        operator,
        stores: stores.clone(),
        router: router.clone(),
        soft: Arc::clone(&soft),
        clock: Arc::clone(&clock),
        data_dir: Some(config.data_dir.clone()),
        keys_dir: Some(keys_dir),
    });

    let (directory, keys) = (Arc::clone(&stores.directory), Arc::clone(&sealer));
    let git_tokens = GitTokens::new(directory, keys, Arc::clone(&clock));
    let resources = Arc::new(LiveResources::new(router.clone(), sealer, Arc::clone(&stores.blobs)));
    let projections = Arc::clone(&stores.projections);
    let (plans, now) = (Arc::clone(&resources) as _, Arc::clone(&clock));
    let tasks = LiveTasks::new(router.clone(), projections, plans, now);
    let tasks = Arc::new(tasks.with_statuses(Arc::clone(&soft) as _));
    let gateway = Gateway::new(GatewayState {
        tasks,
        devices,
        resources,
        operations: Arc::new(operations),
        git_tokens: Arc::new(git_tokens),
        auth: Arc::clone(&auth),
        soft,
        assets: Arc::new(crate::assets::Embedded),
        clock: Arc::clone(&clock),
        metrics: Some(metrics),
        options: GatewayOptions { serves_people, ..gateway_options(config, listen, names)? },
    });
    let host = Arc::new(host);
    Ok(Node { host, router, tree, gateway, auth, edge, containers, clock, own })
}

/// This node as operators see it by itself, and as part of its cluster.
fn operator(
    host: &ShardHost,
    listen: SocketAddr,
    key_ids: Vec<String>,
    member: Option<Arc<Member>>,
    clock: &Arc<dyn Clock>,
    boot: Epoch,
) -> (Arc<LocalOperator>, Arc<dyn Operator>) {
    let own = Arc::new(LocalOperator::new(LocalParts {
        name: member.as_ref().map_or(ONLY_NODE, |member| &member.name).to_owned(),
        incarnation: boot.0,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        roles: member.as_ref().map_or(Roles::ALL, |member| member.roles),
        weight: member.as_ref().map_or(100, |member| member.weight),
        http: Some(listen.to_string()),
        link: member.as_ref().and_then(|member| member.advertise.clone()),
        key_ids,
        host: host.watch(),
        control: member.clone().map(|member| member as Arc<dyn NodeControl>),
        clock: Arc::clone(clock),
    }));
    let Some(member) = member else { return (Arc::clone(&own), own) };
    let cluster = ClusterOperator::new(Arc::clone(&own), Arc::clone(&member) as _, member as _);
    (own, Arc::new(cluster))
}

/// The use cases of devices and, on a node that has the role, where they come in.
/// Use cases, door, pool.
type OpenedDevices = (Arc<LiveDevices>, Option<Arc<Edge>>, Option<TaskHandle<()>>);

fn open_devices(
    config: &Config,
    stores: &Stores,
    router: &Router,
    clock: &Arc<dyn Clock>,
    (setup, cluster): (Option<EdgeSetup>, Uuid),
) -> Result<OpenedDevices> {
    let directory = &stores.directory;
    let point = match &setup {
        Some(setup) => setup.point(),
        None => edge::point_elsewhere(config)?,
    };
    let authority =
        edge::authority(config, Arc::clone(directory), router.clone(), Arc::clone(clock));
    let devices = Arc::new(LiveDevices::new(
        Arc::clone(directory),
        router.clone(),
        Arc::clone(clock),
        Arc::clone(&authority),
        point,
    ));
    let Some(setup) = setup else {
        if config.containers.engine.is_some() {
            tracing::warn!("containers.engine: without the role `edge` this node runs none");
        }
        return Ok((devices, None, None));
    };
    let node = setup.node.clone();
    let (asked, blobs) = (Arc::clone(&authority), Arc::clone(&stores.blobs));
    let opened = Edge::open(setup, asked, router.clone(), Arc::clone(clock), blobs);
    let edge = Arc::new(opened?);
    let containers = containers::start(containers::Parts {
        section: config.containers.clone(),
        cluster: cluster.to_string(),
        node,
        directory: Arc::clone(directory),
        authority,
        clock: Arc::clone(clock),
        edge: Arc::clone(&edge),
    });
    Ok((devices, Some(edge), containers))
}

fn chat_services(
    config: &Config,
    listen: SocketAddr,
    sealer: &Arc<Sealer>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ChatServices>> {
    let allow = config
        .egress
        .allow
        .iter()
        .map(|rule| rule.parse().with_context(|| format!("egress.allow: `{rule}`")))
        .collect::<Result<Vec<_>>>()?;
    // While the node can be reached from this machine only, its users may reach it too.
    let loopback = listen.ip().is_loopback();
    let egress = Egress::new(EgressPolicy { allow, allow_loopback: loopback });
    let llm_options = LlmOptions {
        demo_pace: config.models.demo_pace,
        send_trace: config.traces.send_to_models,
        ..LlmOptions::default()
    };
    let llm = Llm::new(egress.clone(), llm_options, Arc::clone(clock));
    let models = ProviderFactory::new(llm, Arc::clone(sealer), loopback);
    Ok(Arc::new(ChatServices::new(
        Arc::new(models),
        ToolRegistry::new().with(CurrentTime::new(Arc::clone(clock))),
        Arc::new(SealedSecrets::new(Arc::clone(sealer))),
        egress,
        Arc::clone(clock),
    )))
}

async fn start_host(
    config: &Config,
    parts: HostParts,
    chat: Arc<ChatServices>,
    (secrets, restored): (SealedSecrets, Option<Restored>),
    soft: &Arc<dyn SoftState>,
) -> Result<ShardHost> {
    if let Some(Restored { backup, at, .. }) = &restored {
        tracing::info!(%backup, %at, "the store was restored from a backup");
    }
    let task_options = TaskOptions {
        snapshot_entries: config.tasks.snapshot_entries,
        idle_for: Duration::from_secs(config.tasks.idle_seconds),
        asks_expire_after: (config.tasks.asks_expire_seconds > 0)
            .then(|| Duration::from_secs(config.tasks.asks_expire_seconds)),
        restored: restored.map(|restored| restored.restore),
        ..TaskOptions::default()
    };
    let lease = Duration::from_secs(config.tasks.device_lease_seconds);
    let kinds = vec![
        RegisteredKind::new(TaskFactory::new(
            chat,
            Arc::new(soft_state::ToOthers::start(Arc::clone(soft))),
            task_options,
        )),
        RegisteredKind::new(TeamFactory),
        RegisteredKind::new(NamespaceFactory),
        RegisteredKind::new(DeviceFactory::new(Arc::new(secrets), lease)),
    ];
    let (host, _) = ShardHost::start(parts, kinds).await.context("entities")?;
    Ok(host)
}

fn gateway_options(
    config: &Config,
    listen: SocketAddr,
    names: Vec<String>,
) -> Result<GatewayOptions> {
    let scrape_token = match &config.scrape_token_file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("scrape-token-file {}", file.display()))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    Ok(GatewayOptions {
        public_hosts: names,
        listen: vec![listen.ip()],
        https: config.tls.is_https(),
        proxied: config.tls.proxy,
        scrape_token,
        demo: true,
        ..GatewayOptions::default()
    })
}
