//! A Redis that belongs to one test, and nodes over it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinSet;
use troupe_soft_state::{RedisOptions, RedisSoftState, SoftState};
use troupe_types::{SystemClock, Uuid};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The server that all tests share, if it was prepared.
pub(crate) fn shared() -> Option<String> {
    let url = std::env::var_os("TROUPE_TEST_REDIS").and_then(|url| url.into_string().ok());
    if url.is_none() {
        println!("skipped: `cargo xtask test` starts a redis and sets TROUPE_TEST_REDIS");
    }
    url
}

/// A server of its own, without a port: it listens on a socket in its directory.
#[derive(Debug)]
pub(crate) struct Server {
    dir: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Not yet started; `None` on a machine that was not prepared.
    pub(crate) fn new(arguments: &[&str]) -> Option<Self> {
        shared()?;
        let dir = tempfile::tempdir().unwrap();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Some(Self { dir, arguments, child: None })
    }

    pub(crate) fn started(arguments: &[&str]) -> Option<Self> {
        let mut server = Self::new(arguments)?;
        server.start();
        Some(server)
    }

    pub(crate) fn start(&mut self) {
        let _gone = std::fs::remove_file(self.socket());
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--unixsocket"]).arg(self.socket());
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(self.dir());
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(command.spawn().expect("Debian's redis-server is installed"));
    }

    /// Starts with further arguments.
    pub(crate) fn serve_also(&mut self, arguments: Vec<String>) {
        self.arguments.extend(arguments);
        self.start();
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn socket(&self) -> PathBuf {
        self.dir().join("socket")
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id();
        let told = Command::new("sh").arg("-c").arg(format!("kill -{signal} {pid}")).status();
        assert!(told.unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks it directly; waits until it answers.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        ask(&self.url(), words).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks a server directly; waits until it answers.
pub(crate) async fn ask<T: redis::FromRedisValue>(url: &str, words: &[&str]) -> T {
    let client = redis::Client::open(url).unwrap();
    let answer = async || {
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await.ok()
    };
    troupe_soft_state::conformance::eventually("a server answers", answer).await
}

/// A running node; its driver ends with it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) state: Arc<dyn SoftState>,
    _driver: JoinSet<()>,
}

impl Node {
    pub(crate) fn start(options: RedisOptions) -> Self {
        let (state, driver) = RedisSoftState::new(options, SystemClock::shared()).unwrap();
        let mut jobs = JoinSet::new();
        jobs.spawn(driver.run());
        Self { state: Arc::new(state), _driver: jobs }
    }

    /// Waits for what the node says of itself; answers why, if it is degraded.
    pub(crate) async fn until(&self, degraded: bool) -> Option<String> {
        let mut health = self.state.health();
        let reached = health.wait_for(|health| health.is_degraded() == degraded);
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        let health = reached.expect("the state is reached").expect("the node lives");
        health.reason().map(str::to_owned)
    }
}

pub(crate) fn options(url: &str, cluster: Uuid) -> RedisOptions {
    RedisOptions::new(url.to_owned(), cluster.to_string(), Uuid::new_v4().to_string())
}

/// Two nodes of a fresh cluster.
pub(crate) fn two(url: &str) -> [Node; 2] {
    let cluster = Uuid::new_v4();
    [Node::start(options(url, cluster)), Node::start(options(url, cluster))]
}
