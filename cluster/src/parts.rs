//! What a node is made of, wired together: stores, entities, services, gateway.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use troupe_actor::{ActorTree, spawn_task};
use troupe_chat::{ChatServices, ToolRegistry, tools::CurrentTime};
use troupe_entities::{
    NamespaceFactory, ProviderFactory, TaskFactory, TaskOptions, TeamFactory, models::SealedSecrets,
};
use troupe_gateway::{Gateway, GatewayOptions, GatewayState};
use troupe_llm::{Egress, EgressPolicy, Llm, LlmOptions, Sealer};
use troupe_services::{
    Auth, AuthOptions,
    auth::{self, Keys},
    resources::LiveResources,
    tasks::LiveTasks,
};
use troupe_sharding::{HostOptions, HostParts, OneNode, RegisteredKind, Router, ShardHost};
use troupe_soft_state::SoftState;
use troupe_store::Stores;
use troupe_telemetry::MetricsHandle;
use troupe_types::{Clock, SystemClock};

use crate::{config::Config, soft_state};

/// A node, wired and running, but not yet listening.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) host: ShardHost,
    pub(crate) gateway: Gateway,
    pub(crate) auth: Arc<Auth>,
}

/// Wires a node over its stores.
pub(crate) async fn assemble(
    config: &Config,
    stores: Stores,
    listen: SocketAddr,
    metrics: Option<MetricsHandle>,
) -> Result<Node> {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let keys_dir = config.data_dir.join("keys");
    let sealer = Arc::new(Sealer::load_or_create(&keys_dir).context("sealing keys")?);
    let keys = Keys::load_or_create(&keys_dir).context("access-token keys")?;
    let options = AuthOptions::default();
    let directory = Arc::clone(&stores.directory);
    let cluster = auth::cluster_of(Arc::clone(&directory), options.store_timeout);
    let soft = soft_state::start(&config.redis, cluster.await.context("cluster")?, &clock)?;
    let auth = Auth::open(directory, Arc::clone(&soft), Arc::clone(&clock), keys, options);
    let auth = auth.await.context("users")?;
    spawn_task("auth-poll", Arc::clone(&auth).run());

    let router = Router::new();
    let chat = chat_services(config, listen, &sealer, &clock)?;
    let host = start_host(config, &stores, &clock, &router, chat, &soft).await?;

    let resources = Arc::new(LiveResources::new(router.clone(), sealer));
    let projections = Arc::clone(&stores.projections);
    let tasks = Arc::new(
        LiveTasks::new(router, projections, Arc::clone(&resources) as _, Arc::clone(&clock))
            .with_statuses(Arc::clone(&soft) as _),
    );
    let gateway = Gateway::new(GatewayState {
        tasks,
        resources,
        auth: Arc::clone(&auth),
        soft,
        assets: Arc::new(crate::assets::Embedded),
        clock,
        metrics,
        options: gateway_options(config, listen)?,
    });
    Ok(Node { host, gateway, auth })
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
    let llm_options = LlmOptions { demo_pace: config.models.demo_pace, ..LlmOptions::default() };
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
    stores: &Stores,
    clock: &Arc<dyn Clock>,
    router: &Router,
    chat: Arc<ChatServices>,
    soft: &Arc<dyn SoftState>,
) -> Result<ShardHost> {
    let task_options = TaskOptions {
        snapshot_entries: config.tasks.snapshot_entries,
        idle_for: Duration::from_secs(config.tasks.idle_seconds),
        ..TaskOptions::default()
    };
    let kinds = vec![
        RegisteredKind::new(TaskFactory::new(
            chat,
            Arc::new(soft_state::ToOthers::start(Arc::clone(soft))),
            task_options,
        )),
        RegisteredKind::new(TeamFactory),
        RegisteredKind::new(NamespaceFactory),
    ];
    let parts = HostParts {
        options: HostOptions::default(),
        stores: stores.clone(),
        clock: Arc::clone(clock),
        placement: Arc::new(OneNode(stores.boot_epoch)),
        router: router.clone(),
        tree: ActorTree::new(Arc::clone(clock)),
    };
    let (host, _) = ShardHost::start(parts, kinds).await.context("entities")?;
    Ok(host)
}

fn gateway_options(config: &Config, listen: SocketAddr) -> Result<GatewayOptions> {
    let scrape_token = match &config.scrape_token_file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("scrape-token-file {}", file.display()))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    Ok(GatewayOptions {
        public_hosts: config.public_hosts.clone(),
        listen: vec![listen.ip()],
        scrape_token,
        demo: true,
        ..GatewayOptions::default()
    })
}
