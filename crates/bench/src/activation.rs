//! Activation and passivation of real Tasks: each has a journal with one answered message.
//!
//! Two processes: one makes the Tasks, another one activates them from the disk, so that the
//! memory that it needs is not what the making left behind.

use std::{
    collections::BTreeMap, env, num::NonZeroU32, path::PathBuf, process::Command, sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use troupe_actor::ActorTree;
use troupe_chat::{ChatServices, NoSecrets, ToolRegistry};
use troupe_domain::task::{
    CollaborationModel, Command as TaskCommand, ContextPassing, CreateTask, MemberPlan, ModelPlan,
    SendMessage, TeamPlan,
};
use troupe_entities::{
    ProviderFactory, TaskAddress, TaskFactory, TaskOptions, TeamFactory, task::Silent,
};
use troupe_llm::{Egress, EgressPolicy, Llm, LlmOptions, Sealer, SecretKey};
use troupe_sharding::{HostOptions, HostParts, OneNode, RegisteredKind, Router, ShardHost};
use troupe_store_sqlite::{SqliteOptions, SqliteStore};
use troupe_types::{Clock, Sender, Status, SystemClock, TaskId, UserId, Uuid};

use crate::stats::{self, Times, grouped, note, row};

/// Askers at once.
const ASKERS: usize = 64;
const IDLE_FOR: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the store lies
    #[arg(long)]
    dir: PathBuf,
    /// How many Tasks
    #[arg(long, default_value_t = 20_000)]
    tasks: usize,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    std::fs::create_dir_all(&args.dir).context("make the directory")?;
    let dir = tempfile::tempdir_in(&args.dir).context("make a directory")?;
    let program = env::current_exe().context("this program")?;
    let mut fill = Command::new(program);
    fill.arg("activation-fill").arg("--dir").arg(dir.path());
    fill.args(["--tasks", &args.tasks.to_string()]);
    let filled = tokio::task::spawn_blocking(move || fill.status()).await?;
    ensure!(filled.context("make the tasks")?.success(), "the tasks could not be made");

    let host = Host::start(dir.path().join("store"), IDLE_FOR).await?;
    // Everything that is made once is there before memory is looked at.
    host.view(0).await?;
    let pid = std::process::id();
    let (before, start) = (stats::resident(pid)?, Instant::now());
    note("activating");
    let mut times = host.view_all(args.tasks).await?;
    let took = start.elapsed();
    let live = host.live();
    let each = (stats::resident(pid)? - before) / live.max(1) as f64;
    let rate = grouped(args.tasks as f64 / took.as_secs_f64());
    let tasks = grouped(args.tasks as f64);
    let summary = times.summary();
    row(&format!("activation of {tasks} tasks"), format!("{rate}/s, {summary}"));
    let what = format!("memory of each of {} that were live at once", grouped(live as f64));
    row(&what, format!("{} bytes", grouped(each)));
    let start = Instant::now();
    while host.live() > 0 {
        ensure!(start.elapsed() < PATIENCE, "{} tasks are still there", host.live());
        sleep(Duration::from_millis(100)).await;
    }
    let took = start.elapsed().as_secs_f64();
    let kept = (stats::resident(pid)? - before) / (1024.0 * 1024.0);
    row(
        "passivation of all",
        format!(
            "{took:.1} s ({} s of it idle time); {kept:.0} MiB stay with the allocator",
            IDLE_FOR.as_secs()
        ),
    );
    Ok(())
}

/// Makes the Tasks, a message and its answer each.
pub(crate) async fn fill(args: &Args) -> Result<()> {
    note(&format!("making {} tasks", args.tasks));
    let host = Arc::new(Host::start(args.dir.join("store"), Duration::from_secs(1)).await?);
    let start = Instant::now();
    let plan = plan();
    each(args.tasks, {
        let host = Arc::clone(&host);
        move |n| {
            let (host, plan) = (Arc::clone(&host), Arc::clone(&plan));
            async move { host.make(n, plan).await }
        }
    })
    .await?;
    let rate = grouped(args.tasks as f64 / start.elapsed().as_secs_f64());
    row("tasks made, a message and its answer each", format!("{rate}/s"));
    host.host.drain(Duration::from_secs(10)).await;
    host.store.close();
    Ok(())
}

struct Host {
    store: SqliteStore,
    host: ShardHost,
    router: Router,
}

impl Host {
    async fn start(dir: PathBuf, idle_for: Duration) -> Result<Self> {
        let options = SqliteOptions::default();
        let store = SqliteStore::open(&dir, &options).context("open the store")?;
        let clock: Arc<dyn Clock> = SystemClock::shared();
        let egress = Egress::new(EgressPolicy { allow: vec![], allow_loopback: true });
        let llm = Llm::new(egress.clone(), LlmOptions::default(), Arc::clone(&clock));
        let sealer = Arc::new(Sealer::in_memory(&[SecretKey::new([1; 32])]));
        let models = Arc::new(ProviderFactory::new(llm, sealer, true));
        let (tools, secrets) = (ToolRegistry::new(), Arc::new(NoSecrets));
        let chat = ChatServices::new(models, tools, secrets, egress, Arc::clone(&clock));
        let options = TaskOptions { idle_for, ..TaskOptions::default() };
        let factory = TaskFactory::new(Arc::new(chat), Arc::new(Silent), options);
        let kinds = vec![RegisteredKind::new(factory), RegisteredKind::new(TeamFactory)];
        let plenty = NonZeroU32::new(1_000_000).context("a million is not zero")?;
        let stores = store.stores();
        let parts = HostParts {
            options: HostOptions {
                activations_per_second: plenty,
                activations_burst: plenty,
                activations_max: 200_000,
                sweep_every: Duration::from_secs(1),
                ..HostOptions::default()
            },
            placement: Arc::new(OneNode(stores.boot_epoch)),
            stores,
            clock: Arc::clone(&clock),
            router: Router::new(),
            tree: ActorTree::new(clock),
        };
        let (host, router) = ShardHost::start(parts, kinds).await.context("start entities")?;
        Ok(Self { store, host, router })
    }

    fn address(&self, n: usize) -> TaskAddress {
        TaskAddress::new(self.router.clone(), task_id(n))
    }

    async fn view(&self, n: usize) -> Result<()> {
        let view = self.address(n).view().await.context("read a task")?;
        ensure!(view.status == Status::Completed, "a task is {:?}", view.status);
        Ok(())
    }

    async fn view_all(&self, tasks: usize) -> Result<Times> {
        let router = self.router.clone();
        each(tasks, move |n| {
            let address = TaskAddress::new(router.clone(), task_id(n));
            async move { address.view().await.map(drop).context("read a task") }
        })
        .await
    }

    /// Sends the first message and waits for the end of its answer.
    async fn make(&self, n: usize, plan: Arc<TeamPlan>) -> Result<()> {
        let address = self.address(n);
        let owner = UserId::derived(&["bench"]);
        let create = CreateTask {
            task: task_id(n),
            owner,
            owner_name: "bench".into(),
            title: format!("Task {n}"),
            labels: BTreeMap::new(),
        };
        let message = SendMessage {
            key: Uuid::new_v4(),
            sender: Sender::User { user_id: owner, user_name: "bench".into() },
            content: "[[demo chunks=20 pace=0 think=0]] Tell me about actors.".into(),
            plan,
            model: None,
            create: Some(create),
        };
        address.command(TaskCommand::Send(message)).await.context("send a message")?;
        let start = Instant::now();
        loop {
            let status = address.view().await.context("read a task")?.status;
            if !status.is_active() {
                ensure!(status == Status::Completed, "a task is {status:?}");
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "a task does not end");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Live Tasks.
    fn live(&self) -> usize {
        let stats = self.host.stats();
        stats.kinds.values().map(|kind| kind.live).sum()
    }
}

/// Runs `act` for 0 to `count`, many at once; how long each took.
async fn each<F>(count: usize, act: impl Fn(usize) -> F + Clone + Send + 'static) -> Result<Times>
where
    F: Future<Output = Result<()>> + Send,
{
    let mut askers = JoinSet::new();
    for first in 0..ASKERS {
        let act = act.clone();
        askers.spawn(async move {
            let mut times = Times::default();
            for n in (first..count).step_by(ASKERS) {
                let begun = Instant::now();
                act(n).await?;
                times.push(begun.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Times::default();
    while let Some(asked) = askers.join_next().await {
        times.append(asked.context("an asker died")??);
    }
    Ok(times)
}

fn task_id(n: usize) -> TaskId {
    TaskId::derived(&["bench", &n.to_string()])
}

fn plan() -> Arc<TeamPlan> {
    let model = ModelPlan {
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
    };
    let member = MemberPlan {
        name: "bench".into(),
        shell_type: "Chat".into(),
        system_prompt: "Answer.".into(),
        prompt: String::new(),
        require_confirmation: false,
        context_passing: ContextPassing::OriginalAndPrevious,
        on: None,
        base_image: None,
        model: Some(model),
        mcp_servers: BTreeMap::new(),
        skills: vec![],
        skill_texts: Vec::new(),
    };
    let mut plan = TeamPlan {
        hash: String::new(),
        name: "bench".into(),
        namespace: "default".into(),
        display_name: "Bench".into(),
        model: CollaborationModel::Solo,
        max_rounds: 2,
        max_concurrent_tasks: 1_000,
        members: vec![member],
        leader: 0,
        deep_thinking: false,
    };
    plan.hash = plan.content_hash();
    Arc::new(plan)
}
