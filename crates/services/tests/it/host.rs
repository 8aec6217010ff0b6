//! A shard host with the use cases of one node over it.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use troupe_actor::ActorTree;
use troupe_api::{auth::UserRole, chat::ChatSend, resource::ApplyAnswer};
use troupe_chat::{ChatServices, ToolRegistry};
use troupe_domain::task::TeamPlan;
use troupe_entities::{
    NamespaceFactory, ProviderFactory, TaskFactory, TaskOptions, TeamFactory,
    models::SealedSecrets, task::Silent,
};
use troupe_llm::{Egress, EgressPolicy, Llm, LlmOptions, Sealer, SecretKey};
use troupe_services::{
    ApplyOptions, Caller, Credential, LiveResources, LiveTasks, Operations, OperationsParts,
    Problem, Resources, Tasks,
    admin::{LocalOperator, LocalParts},
    tasks::TeamResolver,
};
use troupe_sharding::{HostOptions, HostParts, OneNode, RegisteredKind, Router, ShardHost};
use troupe_soft_state::InProcess;
use troupe_store::{DeadLetters, DirectoryTable, MemoryStore, RowWrite, Stores, TaskRow};
use troupe_testkit::wait_until;
use troupe_types::{Clock, Roles, Seq, SessionId, Status, SystemClock, TaskId, UserId, Uuid};

/// Generous: debug builds on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A host of these kinds that owns every shard, and the way to its entities.
pub(crate) async fn shard_host(
    stores: &Stores,
    clock: &Arc<dyn Clock>,
    router: &Router,
    kinds: Vec<RegisteredKind>,
) -> ShardHost {
    let parts = HostParts {
        options: HostOptions::default(),
        stores: stores.clone(),
        clock: Arc::clone(clock),
        placement: Arc::new(OneNode(stores.boot_epoch)),
        router: router.clone(),
        tree: ActorTree::new(Arc::clone(clock)),
    };
    ShardHost::start(parts, kinds).await.expect("the host starts").0
}

pub(crate) struct Node {
    pub(crate) resources: Arc<LiveResources>,
    pub(crate) tasks: LiveTasks,
    pub(crate) router: Router,
    pub(crate) sealer: Arc<Sealer>,
    stores: Stores,
    _host: ShardHost,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(TaskOptions::default()).await
    }

    pub(crate) async fn with(options: TaskOptions) -> Self {
        Self::over(&MemoryStore::new(), options).await
    }

    /// And its store, to take parts of it away.
    pub(crate) async fn over_a_store() -> (Self, MemoryStore) {
        let store = MemoryStore::new();
        (Self::over(&store, TaskOptions::default()).await, store)
    }

    async fn over(store: &MemoryStore, options: TaskOptions) -> Self {
        let stores = store.stores();
        let clock: Arc<dyn Clock> = SystemClock::shared();
        let sealer = Arc::new(Sealer::in_memory(&[SecretKey::new([7; 32])]));
        let egress = Egress::new(EgressPolicy::default());
        let models = factory(&egress, &sealer);
        let secrets = Arc::new(SealedSecrets::new(Arc::clone(&sealer)));
        let tools = ToolRegistry::new();
        let chat = ChatServices::new(Arc::new(models), tools, secrets, egress, Arc::clone(&clock));
        let router = Router::new();
        let kinds = vec![
            RegisteredKind::new(TaskFactory::new(Arc::new(chat), Arc::new(Silent), options)),
            RegisteredKind::new(TeamFactory),
            RegisteredKind::new(NamespaceFactory),
        ];
        let host = shard_host(&stores, &clock, &router, kinds).await;
        let resources = Arc::new(LiveResources::new(
            router.clone(),
            Arc::clone(&sealer),
            Arc::clone(&stores.blobs),
        ));
        let teams: Arc<dyn TeamResolver> = Arc::<LiveResources>::clone(&resources);
        let tasks = LiveTasks::new(router.clone(), Arc::clone(&stores.projections), teams, clock);
        Self { resources, tasks, router, sealer, stores, _host: host }
    }

    /// The use cases of administrators.
    pub(crate) fn operations(&self) -> Arc<Operations> {
        let clock: Arc<dyn Clock> = SystemClock::shared();
        let operator = LocalOperator::new(LocalParts {
            name: "local".to_owned(),
            incarnation: 1,
            build: "test".to_owned(),
            roles: Roles::ALL,
            weight: 100,
            http: None,
            link: None,
            key_ids: vec!["k".to_owned()],
            host: self._host.watch(),
            control: None,
            clock: Arc::clone(&clock),
        });
        Arc::new(Operations::new(OperationsParts {
            operator: Arc::new(operator),
            stores: self.stores.clone(),
            router: self.router.clone(),
            soft: InProcess::shared(Arc::clone(&clock)),
            clock,
            data_dir: None,
            keys_dir: None,
        }))
    }

    /// What it keeps its things in.
    pub(crate) const fn stores(&self) -> &Stores {
        &self.stores
    }

    pub(crate) fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::clone(&self.stores.dead_letters)
    }

    /// A row that calls a Task running which does not exist, and its owner's.
    pub(crate) async fn forge_running(&self, owner: &Caller, task: TaskId) {
        let key = owner.user.uuid().as_bytes().to_vec();
        let user = RowWrite::insert(DirectoryTable::User, key, "{}");
        self.stores.directory.compare_and_set(user).await.unwrap();
        let at = SystemClock::shared().now();
        let row = TaskRow {
            task,
            owner: owner.user,
            seq: Seq(1),
            created_at: at,
            updated_at: at,
            status: "RUNNING".to_owned(),
            title: "lost".to_owned(),
            team: "assistant".to_owned(),
            team_namespace: "default".to_owned(),
            archived: false,
            deleted: false,
            asks: 0,
            body: "{}".into(),
        };
        self.stores.projections.put_task(row).await.unwrap();
    }

    /// The use cases of another gateway: nothing is shared but the entities.
    pub(crate) fn another_gateway(&self) -> LiveResources {
        let (sealer, blobs) = (Arc::clone(&self.sealer), Arc::clone(&self.stores.blobs));
        LiveResources::new(self.router.clone(), sealer, blobs)
    }

    pub(crate) fn another_gateway_of_tasks(&self) -> LiveTasks {
        let teams = Arc::new(self.another_gateway());
        let projections = Arc::clone(&self.stores.projections);
        LiveTasks::new(self.router.clone(), projections, teams, SystemClock::shared())
    }

    pub(crate) async fn apply(&self, who: &Caller, text: &str) -> Result<ApplyAnswer, Problem> {
        self.resources.apply(who, text.as_bytes(), ApplyOptions::default()).await
    }

    pub(crate) async fn applied(&self, who: &Caller, text: &str) -> ApplyAnswer {
        self.apply(who, text).await.unwrap_or_else(|problem| panic!("{problem:#?}"))
    }

    pub(crate) async fn plan(&self, who: &Caller, team: &str) -> Result<Arc<TeamPlan>, Problem> {
        self.resources.resolve(who, team, None).await
    }

    pub(crate) async fn get(&self, who: &Caller, kind: &str, name: &str) -> Result<Value, Problem> {
        self.resources.get(who, "default", kind, name, None).await
    }

    /// A new Task; its answer begins `[[demo ..]]`.
    pub(crate) async fn task(&self, who: &Caller, message: &str) -> TaskId {
        self.tasks.send(who, send(None, message, None)).await.unwrap().task_id
    }

    pub(crate) async fn until(&self, who: &Caller, task: TaskId, wanted: impl Fn(Status) -> bool) {
        let reached =
            async || self.tasks.view(who, task).await.is_ok_and(|view| wanted(view.status));
        wait_until(PATIENCE, reached).await;
    }
}

/// Makes models for a node that listens beyond loopback.
pub(crate) fn factory(egress: &Egress, sealer: &Arc<Sealer>) -> ProviderFactory {
    let options = LlmOptions { demo_pace: 0, ..LlmOptions::default() };
    let llm = Llm::new(egress.clone(), options, SystemClock::shared());
    ProviderFactory::new(llm, Arc::clone(sealer), false)
}

pub(crate) fn is_over(status: Status) -> bool {
    !status.is_active()
}

pub(crate) fn send(task: Option<TaskId>, message: &str, key: Option<u128>) -> ChatSend {
    ChatSend {
        task_id: task,
        team_id: task.is_none().then(|| "assistant".to_owned()),
        message: message.to_owned(),
        client_message_id: key.map(Uuid::from_u128),
        ..ChatSend::default()
    }
}

fn caller(name: &str, role: UserRole) -> Caller {
    Caller {
        user: UserId::derived(&[name]),
        name: name.to_owned(),
        role,
        credential: Credential::Session(SessionId::derived(&[name])),
        expires_at: None,
    }
}

pub(crate) fn admin() -> Caller {
    caller("admin", UserRole::Admin)
}

pub(crate) fn ann() -> Caller {
    caller("ann", UserRole::User)
}

pub(crate) fn bob() -> Caller {
    caller("bob", UserRole::User)
}

/// A Ghost, a Bot and a solo Team of one name; `bot` is added to the Bot's spec.
pub(crate) fn team(name: &str, bot: &str) -> String {
    format!(
        "{{kind: Ghost, metadata: {{name: {name}}}, spec: {{systemPrompt: You are {name}.}}}}\n---\n\
         {{kind: Bot, metadata: {{name: {name}}}, spec: {{ghostRef: {{name: {name}}}, \
         shellRef: {{name: Chat}}{bot}}}}}\n---\n\
         {{kind: Team, metadata: {{name: {name}}}, spec: {{collaborationModel: solo, \
         members: [{{botRef: {{name: {name}}}}}]}}}}\n"
    )
}

/// An OpenAI-compatible Model with a key.
pub(crate) fn model(namespace: &str, name: &str, base_url: &str, key: &str) -> String {
    format!(
        "{{kind: Model, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{modelConfig: \
         {{env: {{model: openai, model_id: m, base_url: '{base_url}', api_key: '{key}', \
         custom_headers: {{X-Api-Key: 'header-{key}', X-Team: core}}}}}}}}}}\n"
    )
}
