//! The node under load: its address, a user, and a Team whose model waits for nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use troupe_types::Uuid;

use crate::{http::Http, stats};

/// A node of a cluster that begins says 503 until its shards have owners.
const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(200);
/// Of the benchmark's administrator, on a node that lives as long as one benchmark.
const PASSWORD: &str = "benchmark-password";
/// The Team that all Tasks use.
pub(crate) const TEAM: &str = "default/bench";
const TEAM_YAML: &str = "\
kind: Model
metadata: {name: bench}
spec:
  modelConfig: {env: {model: demo, model_id: demo-fast}, context_window: 10000000}
---
kind: Ghost
metadata: {name: bench}
spec: {systemPrompt: Answer.}
---
kind: Bot
metadata: {name: bench}
spec:
  ghostRef: {name: bench}
  shellRef: {name: Chat}
  modelRef: {name: bench}
---
kind: Team
metadata: {name: bench}
spec:
  collaborationModel: solo
  maxConcurrentTasks: 1000
  members: [{botRef: {name: bench}}]
";

/// Where the node is.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// `http://127.0.0.1:PORT`; again for each node of a cluster
    #[arg(long, required = true)]
    url: Vec<String>,
    /// One-time token of a node that has no administrator yet
    #[arg(long)]
    setup_token: Option<String>,
    /// Its process, for processor time and memory; in the order of the addresses
    #[arg(long, required = true)]
    pid: Vec<u32>,
}

/// A node that we may use.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// `host:port`.
    pub(crate) authority: String,
    pub(crate) token: String,
    pub(crate) pid: u32,
}

impl NodeArgs {
    /// The first one. Makes the administrator, or logs in, and applies the Team.
    pub(crate) async fn connect(&self) -> Result<Node> {
        let (url, pid) = (self.url.first(), self.pid.first());
        let (url, pid) = url.zip(pid).context("an address and a process")?;
        let node = log_in(url, *pid, self.setup_token.as_deref()).await?;
        node.apply_team().await?;
        Ok(node)
    }

    /// All of them.
    pub(crate) async fn connect_all(&self) -> Result<Vec<Node>> {
        ensure!(self.url.len() == self.pid.len(), "a process for each address");
        let mut nodes = vec![self.connect().await?];
        for (url, pid) in self.url.iter().zip(&self.pid).skip(1) {
            nodes.push(log_in(url, *pid, None).await?);
        }
        Ok(nodes)
    }
}

async fn log_in(url: &str, pid: u32, setup_token: Option<&str>) -> Result<Node> {
    let authority = url.strip_prefix("http://").context("the url begins with http://")?;
    let authority = authority.trim_end_matches('/').to_owned();
    let mut http = Http::connect(&authority, "").await?;
    let (path, body) = match setup_token {
        Some(token) => ("setup", json!({"token": token, "password": PASSWORD})),
        None => ("auth/login", json!({"user_name": "admin", "password": PASSWORD})),
    };
    let path = format!("/api/v1/{path}");
    let answer = post(&mut http, &path, &body).await.context("log in")?;
    let token = answer["access_token"].as_str().context("an access token")?.to_owned();
    Ok(Node { authority, token, pid })
}

impl Node {
    async fn apply_team(&self) -> Result<()> {
        let (mut http, begun) = (self.http().await?, Instant::now());
        loop {
            let body = Some(("application/yaml", TEAM_YAML.as_bytes()));
            let answer = http.call("POST", "/api/v1/namespaces/default/apply", body).await?;
            if answer.status != 503 || begun.elapsed() > PATIENCE {
                answer.ok().context("apply the team")?;
                return Ok(());
            }
            sleep(AGAIN).await;
        }
    }

    /// A connection of its own.
    pub(crate) async fn http(&self) -> Result<Http> {
        Http::connect(&self.authority, &self.token).await
    }

    /// Processor time that the node has used so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        stats::cpu_time(self.pid)
    }

    /// A Task that has answered once; its id.
    pub(crate) async fn task(&self, http: &mut Http) -> Result<String> {
        let body = json!({"team_id": TEAM, "message": "[[demo chunks=1 pace=0 think=0]] hello",
            "client_message_id": Uuid::new_v4()});
        let ack = post(http, "/api/v1/tasks", &body).await.context("make a task")?;
        Ok(ack["task_id"].as_str().context("the ack names the task")?.to_owned())
    }

    /// That many of them, all at rest.
    pub(crate) async fn tasks(&self, count: usize) -> Result<Vec<String>> {
        let mut http = self.http().await?;
        let mut tasks = Vec::with_capacity(count);
        for _ in 0..count {
            tasks.push(self.task(&mut http).await?);
        }
        for task in &tasks {
            self.rests(&mut http, task).await?;
        }
        Ok(tasks)
    }

    async fn rests(&self, http: &mut Http, task: &str) -> Result<()> {
        let path = format!("/api/v1/tasks/{task}");
        for _ in 0..3_000 {
            let body = http.call("GET", &path, None).await?.ok().context("read a task")?;
            let task: Value = serde_json::from_slice(&body).context("a task is json")?;
            match task["status"].as_str() {
                Some("COMPLETED") => return Ok(()),
                Some("PENDING" | "RUNNING") => {}
                other => anyhow::bail!("a task of the preparation is {other:?}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("a task of the preparation does not come to an end")
    }

    /// The value of a metric, summed over its labels.
    pub(crate) async fn metric(&self, http: &mut Http, name: &str) -> Result<f64> {
        let text = http.call("GET", "/metrics", None).await?.ok().context("read metrics")?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let is_it =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let values = text.lines().filter(is_it);
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

pub(crate) async fn post(http: &mut Http, path: &str, body: &Value) -> Result<Value> {
    let text = body.to_string();
    let answer = http.call("POST", path, Some(("application/json", text.as_bytes()))).await?;
    let body = answer.ok()?;
    ensure!(!body.is_empty(), "an empty answer");
    serde_json::from_slice(&body).context("an answer in json")
}
