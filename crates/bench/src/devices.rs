//! Simulated devices: real agents and links in this process, with a runtime that only talks.
//!
//! Enrolment, then all of them idle, then many executions at once. What the node commits is
//! counted by the Tasks' own answers.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, interval},
};
use troupe_edge::{EdgeAgent, EdgeOptions, Policy};
use troupe_executor::{Containment, Machine};
use troupe_link::{
    Carrier, LinkOptions,
    device::{DeviceIdentity, Dialler, EdgeDialler, EnrolFacts, Invitation, enrol},
};
use troupe_types::{DeviceId, SystemClock, Uuid};

use self::talker::Talker;
use crate::{
    http::Http,
    node::{Node, post},
    stats::{self, Times, cores, grouped, note, row},
};

mod talker;

/// Devices that one person may have.
const EACH: usize = 100;
/// Enrolments under way at once.
const AT_ONCE: usize = 16;
/// Between two that begin: a node takes 200 a second at most, from all addresses.
const PACE: Duration = Duration::from_millis(6);
/// How long idle devices are watched.
const WATCH: Duration = Duration::from_secs(20);
/// How long anything may take until it is given up.
const PATIENCE: Duration = Duration::from_secs(300);
const PASSWORD: &str = "benchmark-password";
const TEAM: &str = "\
kind: Shell
metadata: {name: talk}
spec: {shellType: Command}
---
kind: Ghost
metadata: {name: talk}
spec: {systemPrompt: none}
---
kind: Bot
metadata: {name: talk}
spec:
  ghostRef: {name: talk}
  shellRef: {name: talk}
---
kind: Team
metadata: {name: talk}
spec:
  collaborationModel: solo
  maxConcurrentTasks: 1000
  members: [{botRef: {name: talk}}]
";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Devices
    #[arg(long, default_value_t = 1_000)]
    devices: usize,
    /// Executions at once
    #[arg(long, default_value_t = 200)]
    running: usize,
    /// Pieces of text per second and execution
    #[arg(long, default_value_t = 20)]
    pace: u64,
    /// How long they talk, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// A build of `troupe-edge`, to see how large it is
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// Somebody with devices.
struct Owner {
    http: Http,
    devices: Vec<(DeviceIdentity, DeviceId, Vec<String>)>,
}

pub(crate) async fn run(node: &Node, args: &Args) -> Result<()> {
    if let Some(program) = &args.agent {
        idle_agent(node, program).await?;
    }
    let before = stats::resident(node.pid)?;
    let mut owners = owners(node, args.devices).await?;
    enrol_all(node, &mut owners, args.devices).await?;
    let dir = tempfile::tempdir().context("a directory for devices")?;
    let agents = connect(node, &mut owners, dir.path().into(), before).await?;
    talk(node, &mut owners, args).await?;
    note("ending the agents");
    let mut ending = JoinSet::new();
    for agent in agents {
        ending.spawn(async move { agent.stop().await });
    }
    while ending.join_next().await.is_some() {}
    Ok(())
}

async fn invite(http: &mut Http, name: &str) -> Result<String> {
    let body = json!({"name": name});
    let invited = post(http, "/api/v1/devices/invitations", &body).await.context("invite")?;
    Ok(invited["url"].as_str().context("a line")?.to_owned())
}

/// The real program, joined and idle.
async fn idle_agent(node: &Node, program: &Path) -> Result<()> {
    let mut http = node.http().await?;
    let line = invite(&mut http, "agent").await?;
    let dir = tempfile::tempdir().context("a directory for the agent")?;
    let mut command = tokio::process::Command::new(program);
    command.args(["join", &line]).env("HOME", dir.path()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let agent = command.spawn().context("start troupe-edge")?;
    let pid = agent.id().context("it runs")?;
    tokio::time::sleep(WATCH).await;
    let page = http.call("GET", "/api/v1/devices", None).await?.ok()?;
    let page: Value = serde_json::from_slice(&page).context("devices in json")?;
    let is_there = |device: &Value| device["name"] == "agent" && device["status"] == "online";
    let there = page["items"].as_array().is_some_and(|items| items.iter().any(is_there));
    ensure!(there, "the agent is not online");
    let mib = |bytes: f64| format!("{:.1} MiB", bytes / 1024.0 / 1024.0);
    row("`troupe-edge`, joined and idle: resident memory", mib(stats::resident(pid)?));
    let size = std::fs::metadata(program).context("the program")?.len();
    row("`troupe-edge`, the program", mib(size as f64));
    Ok(())
}

async fn owners(node: &Node, devices: usize) -> Result<Vec<Owner>> {
    let mut admin = node.http().await?;
    let mut owners = Vec::new();
    for n in 0..devices.div_ceil(EACH) {
        let body = json!({"user_name": format!("owner{n}"), "password": PASSWORD});
        post(&mut admin, "/api/v1/users", &body).await.context("make a user")?;
        let mut http = Http::connect(&node.authority, "").await?;
        let answer = post(&mut http, "/api/v1/auth/login", &body).await.context("log in")?;
        let token = answer["access_token"].as_str().context("an access token")?;
        let mut http = Http::connect(&node.authority, token).await?;
        let path = "/api/v1/namespaces/default/apply";
        http.call("POST", path, Some(("application/yaml", TEAM.as_bytes()))).await?.ok()?;
        owners.push(Owner { http, devices: Vec::new() });
    }
    Ok(owners)
}

async fn enrol_all(node: &Node, owners: &mut [Owner], devices: usize) -> Result<()> {
    let mut lines = Vec::with_capacity(devices);
    let begun = Instant::now();
    for n in 0..devices {
        let owner = owners.get_mut(n / EACH).context("an owner")?;
        let url = invite(&mut owner.http, &format!("device-{n}")).await?;
        lines.push((n / EACH, url.parse::<Invitation>().context("an invitation")?));
    }
    row("invitations over REST, one after the other", per_second(devices, begun.elapsed()));
    let facts = Arc::new(EnrolFacts {
        host: "bench".into(),
        os: "linux".into(),
        arch: "x86_64".into(),
        build: "bench".into(),
    });
    let (gate, mut joining) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    let (begun, cpu) = (Instant::now(), node.cpu()?);
    let mut pace = interval(PACE);
    for (owner, invitation) in lines {
        pace.tick().await;
        let (gate, facts) = (Arc::clone(&gate), Arc::clone(&facts));
        joining.spawn(async move {
            let _turn = gate.acquire_owned().await?;
            let one = Instant::now();
            let (identity, grant) = enrol(&invitation, &facts).await?;
            let addresses = vec![invitation.address()];
            anyhow::Ok((owner, (identity, grant.device, addresses), one.elapsed()))
        });
    }
    let mut times = Times::default();
    while let Some(joined) = joining.join_next().await {
        let (owner, device, time) = joined.context("an enrolment died")?.context("enrol")?;
        times.push(time);
        owners.get_mut(owner).context("an owner")?.devices.push(device);
    }
    let took = begun.elapsed();
    let node_cpu = cores(node.cpu()? - cpu, took);
    let figure = format!("{}, {}; node {node_cpu}", per_second(devices, took), times.summary());
    row(&format!("enrolments, {AT_ONCE} at once, certificates and rows included"), figure);
    Ok(())
}

async fn connect(
    node: &Node,
    owners: &mut [Owner],
    dir: PathBuf,
    before: f64,
) -> Result<Vec<EdgeAgent>> {
    let machine = Machine {
        containment: Containment::without_cgroups("bench"),
        path: "/usr/bin:/bin".into(),
        login_home: None,
        fenced: false,
        clock: SystemClock::shared(),
    };
    let begun = Instant::now();
    let mut agents = Vec::new();
    for owner in &*owners {
        for (identity, device, addresses) in &owner.devices {
            let mut options =
                EdgeOptions::new(*device, dir.join(device.to_string()), machine.clone());
            options.engines = vec![Arc::new(Talker)];
            options.policy = Policy {
                runtimes: vec!["Command".into()],
                commands: vec!["talk".into()],
                ..Policy::default()
            };
            let link = LinkOptions::default();
            let dialler = EdgeDialler::new(addresses.clone(), identity, link)?;
            let dialler = dialler.only(Carrier::Quic);
            let dialler: Arc<dyn Dialler> = Arc::new(dialler);
            agents.push(EdgeAgent::start(options, dialler).await?);
        }
    }
    for owner in &mut *owners {
        until_online(owner).await?;
    }
    let count = agents.len();
    let took = format!("{:.1} s", begun.elapsed().as_secs_f64());
    row(&format!("{count} devices: until all are online"), took);
    let (cpu, idle) = (node.cpu()?, Instant::now());
    tokio::time::sleep(WATCH).await;
    let each = (stats::resident(node.pid)? - before) / count as f64 / 1024.0;
    let figure = format!("{each:.1} KiB each, node {}", cores(node.cpu()? - cpu, idle.elapsed()));
    row(&format!("{count} idle devices: the node's memory and processor"), figure);
    Ok(agents)
}

async fn until_online(owner: &mut Owner) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let page = owner.http.call("GET", "/api/v1/devices", None).await?.ok()?;
        let page: Value = serde_json::from_slice(&page).context("devices in json")?;
        let items = page["items"].as_array().context("a list")?;
        let online = items.iter().filter(|device| device["status"] == "online").count();
        if online == owner.devices.len() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    anyhow::bail!("not all devices came online")
}

async fn talk(node: &Node, owners: &mut [Owner], args: &Args) -> Result<()> {
    let pieces = args.pace * args.seconds;
    let message = format!("talk {} {pieces}", args.pace);
    let (begun, cpu) = (Instant::now(), node.cpu()?);
    let mut tasks = Vec::new();
    let people = owners.len();
    for n in 0..args.running {
        let owner = n % people;
        let body = json!({"team_id": "default/talk", "message": message,
            "client_message_id": Uuid::new_v4()});
        let http = &mut owners.get_mut(owner).context("an owner")?.http;
        let ack = post(http, "/api/v1/tasks", &body).await.context("begin a task")?;
        tasks.push((owner, ack["task_id"].as_str().context("a task")?.to_owned()));
    }
    let mut frames = 0_u64;
    let mut highest: f64 = 0.0;
    for (owner, task) in &tasks {
        let http = &mut owners.get_mut(*owner).context("an owner")?.http;
        let (length, head) = ended(http, task, begun, &mut highest, node).await?;
        ensure!(length == talker::length(pieces), "{task} has {length} characters");
        frames += head;
    }
    let took = begun.elapsed();
    let rate = grouped((pieces * args.running as u64) as f64 / took.as_secs_f64());
    let what =
        format!("{} executions at {} pieces/s for {} s", args.running, args.pace, args.seconds);
    let figure = format!(
        "all text arrived in {:.1} s, {rate} pieces/s in {} frames; node {}, at most {:.0} MiB",
        took.as_secs_f64(),
        grouped(frames as f64),
        cores(node.cpu()? - cpu, took),
        highest / 1024.0 / 1024.0,
    );
    row(&what, figure);
    Ok(())
}

/// Characters of the answer and the Task's last frame, once it is over.
async fn ended(
    http: &mut Http,
    task: &str,
    begun: Instant,
    highest: &mut f64,
    node: &Node,
) -> Result<(usize, u64)> {
    loop {
        ensure!(begun.elapsed() < PATIENCE, "{task} does not end");
        *highest = highest.max(stats::resident(node.pid)?);
        let view = http.call("GET", &format!("/api/v1/tasks/{task}"), None).await?.ok()?;
        let view: Value = serde_json::from_slice(&view).context("a task in json")?;
        match view["status"].as_str() {
            Some("COMPLETED") => break,
            Some("PENDING" | "RUNNING") => tokio::time::sleep(Duration::from_millis(50)).await,
            other => anyhow::bail!("{task} is {other:?}: {view}"),
        }
    }
    let turns = http.call("GET", &format!("/api/v1/tasks/{task}/turns"), None).await?.ok()?;
    let turns: Value = serde_json::from_slice(&turns).context("turns in json")?;
    let message = turns["turns"][0]["messages"].as_array().and_then(|messages| messages.last());
    let answer = message.and_then(|message| message["content"].as_str()).context("an answer")?;
    let head = turns["head"].as_u64().unwrap_or_default();
    Ok((answer.chars().count(), head))
}

fn per_second(count: usize, took: Duration) -> String {
    format!("{}/s", grouped(count as f64 / took.as_secs_f64()))
}
