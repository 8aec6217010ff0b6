//! A shard host over a store, and what tests ask of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use troupe_actor::ActorTree;
use troupe_chat::{ChatServices, NoSecrets, ToolRegistry};
use troupe_domain::task::{
    Ack, CollaborationModel, Command, ContextPassing, CreateTask, MemberPlan, ModelPlan,
    SendMessage, TeamPlan,
};
use troupe_entities::{
    DeviceFactory, NamespaceFactory, ProviderFactory, TaskAddress, TaskFactory, TaskOptions,
    TeamFactory, models::SealedSecrets, task::Silent,
};
use troupe_llm::{Egress, EgressPolicy, Llm, LlmOptions, Sealer, SecretKey};
use troupe_sharding::{
    DrainOutcome, HostOptions, HostParts, OneNode, RegisteredKind, Router, ShardHost,
};
use troupe_store::{MemoryStore, Stores};
use troupe_testkit::wait_until;
use troupe_types::{
    Clock, EntityKind, FrameSeq, SHARDS_GENERAL, Sender, ShardId, Status, SystemClock, TaskId,
    UserId, Uuid,
};

/// Generous: debug builds on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Host {
    pub(crate) router: Router,
    host: ShardHost,
}

impl Host {
    pub(crate) async fn start(stores: &Stores) -> Self {
        Self::start_with(stores, TaskOptions::default()).await
    }

    pub(crate) async fn start_with(stores: &Stores, options: TaskOptions) -> Self {
        Self::start_as(stores, options, HostOptions::default()).await
    }

    /// With everything that happens now and then happening often.
    pub(crate) async fn start_busy(stores: &Stores, options: TaskOptions) -> Self {
        let host = HostOptions {
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(50),
            sweep_every: Duration::from_millis(100),
            wake_read_every: Duration::from_secs(1),
            ..HostOptions::default()
        };
        Self::start_as(stores, options, host).await
    }

    async fn start_as(stores: &Stores, options: TaskOptions, host: HostOptions) -> Self {
        // What went wrong inside is shown by a test that fails.
        let log = tracing_subscriber::fmt().with_test_writer();
        let _ = log.with_max_level(tracing::Level::WARN).try_init();
        let clock: Arc<dyn Clock> = SystemClock::shared();
        let egress = Egress::new(EgressPolicy { allow: vec![], allow_loopback: true });
        let llm = Llm::new(egress.clone(), LlmOptions::default(), Arc::clone(&clock));
        let sealer = Arc::new(Sealer::in_memory(&[SecretKey::new([1; 32])]));
        let models = Arc::new(ProviderFactory::new(llm, Arc::clone(&sealer), true));
        let chat = ChatServices::new(
            models,
            ToolRegistry::new(),
            Arc::new(NoSecrets),
            egress,
            Arc::clone(&clock),
        );
        let router = Router::new();
        let kinds = vec![
            RegisteredKind::new(TaskFactory::new(Arc::new(chat), Arc::new(Silent), options)),
            RegisteredKind::new(TeamFactory),
            RegisteredKind::new(NamespaceFactory),
            RegisteredKind::new(DeviceFactory::new(Arc::new(SealedSecrets::new(sealer)), PATIENCE)),
        ];
        let parts = HostParts {
            options: host,
            stores: stores.clone(),
            clock: Arc::clone(&clock),
            placement: Arc::new(OneNode(stores.boot_epoch)),
            router: router.clone(),
            tree: ActorTree::new(Arc::clone(&clock)),
        };
        let (host, _) = ShardHost::start(parts, kinds).await.expect("the host starts");
        Self { router, host }
    }

    pub(crate) async fn drain(self) -> DrainOutcome {
        self.host.drain(Duration::from_secs(5)).await
    }

    /// Tasks in memory.
    pub(crate) fn live_tasks(&self) -> usize {
        self.host.entities(10_000).iter().filter(|e| e.entity.kind == EntityKind::Task).count()
    }

    pub(crate) fn task(&self, id: TaskId) -> TaskAddress {
        TaskAddress::new(self.router.clone(), id)
    }

    /// Waits until the Task's status passes the test.
    pub(crate) async fn until(&self, id: TaskId, wanted: impl Fn(Status) -> bool) -> Status {
        let address = self.task(id);
        wait_until(PATIENCE, async || address.view().await.is_ok_and(|v| wanted(v.status))).await;
        address.view().await.expect("it was there a moment ago").status
    }
}

pub(crate) fn stores() -> (MemoryStore, Stores) {
    let store = MemoryStore::new();
    let stores = store.stores();
    (store, stores)
}

pub(crate) fn ada() -> UserId {
    UserId::derived(&["ada"])
}

pub(crate) fn member(name: &str) -> MemberPlan {
    MemberPlan {
        name: name.into(),
        shell_type: "Chat".into(),
        system_prompt: format!("You are {name}."),
        prompt: String::new(),
        require_confirmation: false,
        context_passing: ContextPassing::OriginalAndPrevious,
        on: None,
        base_image: None,
        model: Some(ModelPlan {
            name: "demo".into(),
            provider: "demo".into(),
            model_id: "demo-fast".into(),
            base_url: None,
            headers: BTreeMap::new(),
            sealed_key: None,
            bearer: false,
            small_model: None,
            context_window: 128_000,
            max_output_tokens: None,
            thinking: None,
            trusted: true,
        }),
        mcp_servers: BTreeMap::new(),
        skills: vec![],
        skill_texts: Vec::new(),
    }
}

pub(crate) fn team(model: CollaborationModel, members: Vec<MemberPlan>) -> Arc<TeamPlan> {
    let mut plan = TeamPlan {
        hash: String::new(),
        name: "team".into(),
        namespace: "default".into(),
        display_name: "Team".into(),
        model,
        max_rounds: 2,
        max_concurrent_tasks: 10,
        members,
        leader: 0,
        deep_thinking: false,
    };
    plan.hash = plan.content_hash();
    Arc::new(plan)
}

pub(crate) fn solo() -> Arc<TeamPlan> {
    team(CollaborationModel::Solo, vec![member("helper")])
}

/// A first message, with its own key.
pub(crate) fn first(plan: &Arc<TeamPlan>, key: u128, text: &str) -> (TaskId, Command) {
    let task = TaskId::derived(&["task", &key.to_string()]);
    let create = CreateTask {
        task,
        owner: ada(),
        owner_name: "ada".into(),
        title: String::new(),
        labels: BTreeMap::new(),
    };
    (task, message(plan, key, text, Some(create)))
}

pub(crate) fn message(
    plan: &Arc<TeamPlan>,
    key: u128,
    text: &str,
    create: Option<CreateTask>,
) -> Command {
    Command::Send(SendMessage {
        key: Uuid::from_u128(key),
        sender: Sender::User { user_id: ada(), user_name: "ada".into() },
        content: text.into(),
        plan: Arc::clone(plan),
        model: None,
        create,
    })
}

pub(crate) fn is_over(status: Status) -> bool {
    !status.is_active()
}

/// All frames of a Task, checked for gaps.
pub(crate) async fn all_frames(address: &TaskAddress) -> Vec<troupe_types::Frame> {
    let mut frames: Vec<troupe_types::Frame> = Vec::new();
    loop {
        let after = frames.last().map_or(FrameSeq::ZERO, |f| f.seq);
        let page = address.raw_frames(after, 500).await.expect("frames are readable");
        if page.is_empty() {
            break;
        }
        frames.extend(page);
    }
    for (n, frame) in (1..).zip(&frames) {
        assert_eq!(frame.seq, FrameSeq(n), "frames have no gap");
    }
    frames
}

pub(crate) async fn sent(address: &TaskAddress, command: Command) -> troupe_domain::task::SendAck {
    match address.command(command).await.expect("the message is taken") {
        Ack::Sent(ack) => ack,
        other => panic!("not an answer to a message: {other:?}"),
    }
}

/// Rows of the wake index.
pub(crate) async fn wake_rows(stores: &Stores) -> usize {
    let shards: Vec<ShardId> = (0..SHARDS_GENERAL).map(ShardId).collect();
    let far = SystemClock::shared().now().plus(Duration::from_secs(3_600));
    stores.wake.due(&shards, far, None, 10_000).await.expect("the index is readable").len()
}
