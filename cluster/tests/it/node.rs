//! A real node: the built binary on a free port with its own data directory.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use troupe_testkit::try_until;

/// Generous: a debug build on a busy two-core machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The password of every person in these tests; a node of its own for each test.
pub(crate) const PASSWORD: &str = "correct-horse-battery";
/// Lines of a node's log that a failing test shows.
const LOG_LINES_SHOWN: usize = 200;

/// The place of one node and what it needs besides: `data`, `node.log`, `ready.json`.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
}

impl Home {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { dir: tempfile::Builder::new().prefix("troupe-it-").tempdir()? })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// What all nodes of this place wrote so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path().join("node.log")).unwrap_or_default()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Seen only if the test fails.
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
        println!("---- end of the node's log ----\n{}", lines[from..].join("\n"));
    }
}

/// How to start it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeOptions {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Instead of the home's own.
    pub(crate) data: Option<PathBuf>,
}

impl NodeOptions {
    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }
}

/// The built program with nothing of this process's environment but what it needs to run.
///
/// `TROUPE_BIN` names another build of it.
pub(crate) fn troupe() -> Command {
    let built = || env!("CARGO_BIN_EXE_troupe").into();
    let mut command = Command::new(std::env::var_os("TROUPE_BIN").unwrap_or_else(built));
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    for name in ["PATH", "LD_LIBRARY_PATH", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) setup_token: Option<String>,
    child: Child,
    rest: Rest,
}

impl Deref for Node {
    type Target = Rest;

    fn deref(&self) -> &Rest {
        &self.rest
    }
}

/// How a node ended that was not to come up.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Node {
    pub(crate) async fn start(home: &Home) -> Result<Self> {
        Self::start_with(home, &NodeOptions::default()).await
    }

    pub(crate) async fn start_with(home: &Home, options: &NodeOptions) -> Result<Self> {
        match Self::attempt(home, options).await? {
            Ok(node) => Ok(node),
            Err(refused) => bail!("the node did not come up: {refused:?}"),
        }
    }

    /// Starts it, or tells how it ended instead.
    pub(crate) async fn attempt(
        home: &Home,
        options: &NodeOptions,
    ) -> Result<Result<Self, Refused>> {
        let ready = home.path().join("ready.json");
        let log = home.path().join("node.log");
        let _ = fs::remove_file(&ready);
        let file = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let before = usize::try_from(file.metadata()?.len())?;
        let mut child = troupe()
            .args(["up", "--http", "127.0.0.1:0", "--data-dir"])
            .arg(options.data.clone().unwrap_or_else(|| home.data()))
            .arg("--ready-file")
            .arg(&ready)
            .args(&options.args)
            .env("HOME", home.path())
            .envs(options.env.iter().cloned())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("the node could not be started")?;
        let mut told: Option<Value> = None;
        let mut ended = None;
        try_until(PATIENCE, async || {
            told = fs::read(&ready).ok().and_then(|b| serde_json::from_slice(&b).ok());
            ended = child.try_wait().ok().flatten();
            told.is_some() || ended.is_some()
        })
        .await;
        if let Some(status) = ended {
            let text = home.log().get(before..).unwrap_or_default().to_owned();
            return Ok(Err(Refused { code: status.code(), text }));
        }
        let told = told.with_context(|| format!("not ready in time:\n{}", home.log()))?;
        assert_eq!(told["pid"].as_u64(), child.id().map(u64::from), "the ready file names it");
        let url = told["http"].as_str().context("no url")?.to_owned();
        let rest = Rest { url, http: reqwest::Client::builder().no_proxy().build()? };
        let setup_token = told["setup_token"].as_str().map(str::to_owned);
        Ok(Ok(Self { setup_token, child, rest }))
    }

    pub(crate) fn rest(&self) -> Rest {
        self.rest.clone()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// kill -9, and waits until the process is gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }

    /// SIGTERM.
    pub(crate) async fn ask_to_stop(&self) -> Result<()> {
        let pid = self.child.id().context("already gone")?;
        Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await?;
        Ok(())
    }

    /// Waits for its end; the exit code.
    pub(crate) async fn ended(mut self) -> Result<Option<i32>> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        Ok(status.context("it does not end")??.code())
    }

    /// SIGTERM; returns the exit code.
    pub(crate) async fn terminate(self) -> Result<Option<i32>> {
        self.ask_to_stop().await?;
        self.ended().await
    }

    /// Makes the administrator.
    pub(crate) async fn setup(&self) -> Result<Person> {
        let token = self.setup_token.as_deref().context("this node is set up already")?;
        let body = json!({"token": token, "password": PASSWORD});
        Person::of(&self.post("/api/v1/setup", None, &body).await?)
    }

    /// Healthy, ready, and an ordinary chat works.
    pub(crate) async fn assert_well(&self, who: &Person) -> Result<()> {
        for path in ["/health", "/ready"] {
            let answer = self.call("GET", path, None, None).await?;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        }
        let body = json!({"team_id": "assistant", "message": "Are you well?",
            "force_override_bot_model": "demo"});
        let ack = self.post("/api/v1/tasks", Some(who), &body).await?;
        let task = ack["task_id"].as_str().context("no task")?;
        self.settled(who, task, "COMPLETED").await
    }
}

/// A client of the REST surface.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    pub(crate) url: String,
    http: reqwest::Client,
}

/// Any answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// JSON; null if it is none.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// An error as the API promises it: problem+json with a code and a sentence.
    #[track_caller]
    pub(crate) fn assert_problem(&self, statuses: &[u16]) {
        let told =
            || format!("{} {}", self.status, self.text.chars().take(400).collect::<String>());
        assert!(statuses.contains(&self.status), "wanted {statuses:?}: {}", told());
        assert!(self.content_type.starts_with("application/problem+json"), "{}", told());
        assert_eq!(self.body["status"], self.status, "{}", told());
        assert!(self.body["code"].as_str().is_some_and(|c| !c.is_empty()), "{}", told());
        assert!(self.body["detail"].as_str().is_some_and(|d| d.len() > 5), "{}", told());
    }
}

impl Rest {
    pub(crate) async fn login(&self, name: &str) -> Result<Person> {
        let body = json!({"user_name": name, "password": PASSWORD});
        Person::of(&self.post("/api/v1/auth/login", None, &body).await?)
    }

    /// A further user, logged in.
    pub(crate) async fn user(&self, admin: &Person, name: &str) -> Result<Person> {
        let body = json!({"user_name": name, "password": PASSWORD});
        self.post("/api/v1/users", Some(admin), &body).await?;
        self.login(name).await
    }

    /// The same person by an API key, which outlives any access token.
    pub(crate) async fn with_key(&self, who: &Person) -> Result<Person> {
        let answer = self.post("/api/v1/api-keys", Some(who), &json!({"name": "tests"})).await?;
        let token = answer["key"].as_str().context("no key")?.to_owned();
        Ok(Person { token, ..who.clone() })
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        who: Option<&Person>,
        body: &Value,
    ) -> Result<Value> {
        let answer = self.call("POST", path, who, Some(body)).await?;
        if !(200..300).contains(&answer.status) {
            bail!("POST {path}: {} {}", answer.status, answer.text);
        }
        Ok(answer.body)
    }

    pub(crate) async fn get(&self, path: &str, who: &Person) -> Result<Value> {
        let answer = self.call("GET", path, Some(who), None).await?;
        if !(200..300).contains(&answer.status) {
            bail!("GET {path}: {} {}", answer.status, answer.text);
        }
        Ok(answer.body)
    }

    /// Any call with a JSON body or none.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        who: Option<&Person>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.raw(method, path, who, body).await
    }

    /// Any call with any body.
    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        who: Option<&Person>,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(who) = who {
            request = request.bearer_auth(&who.token);
        }
        if let Some((kind, bytes)) = body {
            request = request.header("content-type", kind).body(bytes);
        }
        let response = request.timeout(PATIENCE).send().await?;
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type").and_then(|v| v.to_str().ok());
        let content_type = kind.unwrap_or_default().to_owned();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, content_type, body, text })
    }

    /// Applies YAML to the personal namespace.
    pub(crate) async fn apply(&self, who: &Person, yaml: &str) -> Result<Value> {
        let path = "/api/v1/namespaces/default/apply";
        let body = Some(("application/yaml", yaml.as_bytes().to_vec()));
        let answer = self.raw("POST", path, Some(who), body).await?;
        if answer.status != 200 || answer.body["success"] != true {
            bail!("apply: {} {}", answer.status, answer.text);
        }
        Ok(answer.body)
    }
}

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) token: String,
    pub(crate) refresh: String,
    pub(crate) name: String,
}

impl Person {
    pub(crate) fn of(answer: &Value) -> Result<Self> {
        let text = |v: &Value| v.as_str().map(str::to_owned).context("a field is missing");
        Ok(Self {
            token: text(&answer["access_token"])?,
            refresh: text(&answer["refresh_token"])?,
            name: text(&answer["user"]["user_name"])?,
        })
    }
}
