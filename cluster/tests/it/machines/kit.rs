//! A machine of its own: a home directory, a search path, the agent's process.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use troupe_testkit::{Answer, FakeModel, try_until};
use troupe_types::Uuid;

use crate::node::{Home, Node, NodeOptions, PATIENCE, Person, Rest};

/// The key that the fake model wants; no file of a machine may have it.
pub(super) const KEY: &str = "sk-fake-0123456789abcdef";

/// Where the agent programs are installed; `None`: the test is skipped.
pub(crate) fn runtimes() -> Option<PathBuf> {
    let dir = std::env::var_os("TROUPE_TEST_RUNTIMES").map(PathBuf::from);
    if dir.is_none() {
        assert!(std::env::var_os("CI").is_none(), "TROUPE_TEST_RUNTIMES is not set, and it is CI");
        println!("skipped: `cargo xtask test` installs the runtimes and sets TROUPE_TEST_RUNTIMES");
    }
    dir
}

/// A node that is no device itself.
pub(super) async fn node(home: &Home) -> Result<Node> {
    Node::start_with(home, &options()).await
}

pub(crate) fn options() -> NodeOptions {
    NodeOptions::default().env("TROUPE__DEVICE__ENABLED", false)
}

/// A Team of one with this shell; its model is the fake one.
pub(super) fn team(shell: &str, base_url: &str) -> String {
    format!(
        "kind: Shell\nmetadata: {{name: sh}}\nspec: {{shellType: {shell}}}\n---\n\
         kind: Model\nmetadata: {{name: fake}}\nspec:\n  modelConfig:\n    env: {{model: claude, \
         model_id: fake-model, api_key: {KEY}, base_url: \"{base_url}\"}}\n---\n\
         kind: Ghost\nmetadata: {{name: dev}}\nspec: {{systemPrompt: You are dev.}}\n---\n\
         kind: Bot\nmetadata: {{name: dev}}\nspec:\n  ghostRef: {{name: dev}}\n  \
         shellRef: {{name: sh}}\n  modelRef: {{name: fake}}\n---\n\
         kind: Team\nmetadata: {{name: devs}}\nspec:\n  collaborationModel: solo\n  members:\n  \
         - {{botRef: {{name: dev}}}}\n"
    )
}

/// A machine with the agent on it.
pub(crate) struct Machine {
    home: TempDir,
    path: OsString,
    /// What goes before the command lines of its agent.
    prefix: Vec<String>,
    agent: Option<Child>,
}

impl Machine {
    /// With the runtimes on its search path, if there are any.
    pub(crate) fn new(runtimes: Option<&Path>) -> Result<Self> {
        let mut dirs: Vec<PathBuf> = runtimes.map_or_else(Vec::new, |dir| {
            let programs = ["claude-code/node_modules/.bin", "codex/node_modules/.bin", "agno/bin"];
            programs.map(|program| dir.join(program)).into()
        });
        dirs.extend(std::env::split_paths(&std::env::var_os("PATH").context("no PATH")?));
        let path = std::env::join_paths(dirs)?;
        Ok(Self { home: TempDir::new()?, path, prefix: Vec::new(), agent: None })
    }

    /// Its agent's processes begin with another command line, which ends in theirs.
    pub(super) fn within(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|&word| word.to_owned()).collect();
        self
    }

    pub(super) fn command(&self) -> Command {
        // Beside the node's own program: cargo builds all programs of the workspace there.
        let edge = Path::new(env!("CARGO_BIN_EXE_troupe")).with_file_name("troupe-edge");
        let mut words = self.prefix.iter().map(OsString::from).chain([edge.into_os_string()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command.env_clear().env("PATH", &self.path).env("HOME", self.home.path());
        command.kill_on_drop(true).stdin(Stdio::null());
        command
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.home.path().join(".local/state/troupe-edge")
    }

    /// Writes a file below its home.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().context("no parent")?)?;
        Ok(fs::write(path, text)?)
    }

    /// Lets commands run: `/bin/sh` as `sh`.
    pub(super) fn allow_sh(&self) -> Result<()> {
        self.write(".local/state/troupe-edge/edge.toml", "[commands]\nsh = \"/bin/sh\"\n")?;
        let roots = self.home.path().join("src").display().to_string();
        let policy = format!(
            "runtimes = [\"ClaudeCode\", \"Codex\", \"Agno\", \"Command\"]\ncommands = [\"sh\"]\n\
             workspace-roots = [\"{roots}\"]\n"
        );
        self.write(".config/troupe-edge/policy.toml", &policy)
    }

    /// A git repository below its home with one file in it; its path.
    pub(super) async fn repository(&self, name: &str, file: &str, text: &str) -> Result<String> {
        self.write(&format!("{name}/{file}"), text)?;
        let path = self.home.path().join(name);
        for args in [
            &["init", "-q", "-b", "main"][..],
            &["add", "."],
            &["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "first"],
        ] {
            let mut git = Command::new("git");
            git.current_dir(&path).args(args).env("HOME", self.home.path());
            ensure!(git.status().await?.success(), "git {args:?}");
        }
        Ok(path.to_str().context("no text")?.to_owned())
    }

    /// Joins and works; returns once the cluster sees it.
    pub(crate) async fn join(&mut self, node: &Rest, who: &Person) -> Result<Value> {
        self.join_at(node, who, &json!({})).await
    }

    /// The same with an invitation of its own.
    pub(crate) async fn join_at(
        &mut self,
        node: &Rest,
        who: &Person,
        invitation: &Value,
    ) -> Result<Value> {
        self.join_with(node, who, invitation, &[]).await
    }

    /// The same with further words of the command line.
    pub(super) async fn join_with(
        &mut self,
        node: &Rest,
        who: &Person,
        invitation: &Value,
        more: &[&str],
    ) -> Result<Value> {
        let invited = invite(node, who, invitation).await?;
        let line = invited["url"].as_str().context("no line")?;
        self.start(&[&["join", line], more].concat())?;
        let id = invited["id"].as_str().context("no id")?;
        let path = format!("/api/v1/devices/invitations/{id}");
        let mut device = Value::Null;
        let here = try_until(PATIENCE, async || {
            device = node.get(&path, who).await.unwrap_or_default()["device"].clone();
            device["status"] == "online"
        });
        ensure!(here.await, "it did not join: {device}\n{}", self.log());
        Ok(device)
    }

    /// Works again.
    pub(super) fn run(&mut self) -> Result<()> {
        self.start(&["run"])
    }

    fn start(&mut self, args: &[&str]) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut command = self.command();
        command.args(["--log", "info,troupe_edge=debug"]).args(args);
        command.stdout(log.try_clone()?).stderr(log);
        self.agent = Some(command.spawn().context("troupe-edge: is it built?")?);
        Ok(())
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("edge.log")
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// kill -9, and waits until the process is gone.
    pub(super) async fn kill(&mut self) -> Result<()> {
        let mut agent = self.agent.take().context("it does not run")?;
        agent.start_kill()?;
        agent.wait().await?;
        Ok(())
    }

    /// The processes that the agent's process began and that are there.
    pub(super) fn children(&self) -> Result<Vec<String>> {
        let pid = self.agent.as_ref().and_then(Child::id).context("it does not run")?;
        let mut children = Vec::new();
        // A child belongs to the thread that began it.
        for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let listed = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            children.extend(listed.split_whitespace().map(str::to_owned));
        }
        Ok(children)
    }

    /// SIGTERM to the agent's process.
    pub(super) async fn ask_to_stop(&self) -> Result<()> {
        let pid = self.agent.as_ref().and_then(Child::id).context("it does not run")?;
        let told = Command::new("kill").arg(pid.to_string()).status().await?;
        ensure!(told.success(), "it was not there");
        Ok(())
    }

    /// Waits for the end of the agent; its exit code.
    pub(super) async fn ended(&mut self) -> Result<Option<i32>> {
        let mut agent = self.agent.take().context("it does not run")?;
        let status = tokio::time::timeout(PATIENCE, agent.wait()).await;
        Ok(status.context("it does not end")??.code())
    }

    /// What a short command says: exit code, standard output, standard error.
    pub(super) async fn say(&self, args: &[&str]) -> Result<(Option<i32>, String, String)> {
        let output = self.command().args(args).output();
        let output = tokio::time::timeout(PATIENCE, output).await.context("it does not end")??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }

    /// Makes a file beside a file of its only Task.
    pub(super) fn put_beside(&self, beside: &str, name: &str) -> Result<()> {
        let file = find(&self.dir().join("workspaces"), beside).context("no such file")?;
        Ok(fs::write(file.with_file_name(name), "")?)
    }

    /// A file of this name in the workspace of its only Task.
    pub(super) fn worked(&self, name: &str) -> Option<String> {
        self.bytes(name).and_then(|bytes| String::from_utf8(bytes).ok())
    }

    /// The bytes of such a file.
    pub(super) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        find(&self.dir().join("workspaces"), name).and_then(|file| fs::read(file).ok())
    }

    /// Files below its home that have this text in them.
    pub(super) fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let (mut found, mut dirs) = (Vec::new(), vec![self.home.path().to_owned()]);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                    Ok(kind) if kind.is_file() => {
                        let bytes = fs::read(entry.path()).unwrap_or_default();
                        if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                            found.push(entry.path());
                        }
                    }
                    _ => {}
                }
            }
        }
        found
    }
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|file| file == name) {
            return Some(path);
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(found) = find(&path, name)
        {
            return Some(found);
        }
    }
    None
}

/// Retries the last message of a Task.
pub(super) async fn retry(node: &Rest, who: &Person, task: &str) -> Result<()> {
    let (_, turns) = node.turns(who, task).await?;
    let failed = turns.last().and_then(|turn| turn["messages"].as_array()?.last().cloned());
    let subtask = failed.context("no message")?["subtask_id"].clone();
    let body = json!({"subtask_id": subtask, "client_message_id": troupe_types::Uuid::new_v4()});
    node.post(&format!("/api/v1/tasks/{task}/retry"), Some(who), &body).await?;
    Ok(())
}

pub(super) async fn invite(node: &Rest, who: &Person, body: &Value) -> Result<Value> {
    node.post("/api/v1/devices/invitations", Some(who), body).await
}

/// A fake model that wants the key.
pub(super) async fn model(rules: Vec<troupe_testkit::Rule>) -> Result<FakeModel> {
    let fake = FakeModel::start(troupe_testkit::Script::rules(rules)).await?;
    fake.require_key(KEY);
    Ok(fake)
}

/// Claude Code's call that asks its person for one of two colours.
pub(super) fn which_colour() -> Answer {
    let question = json!({"questions": [{"question": "Which colour?", "header": "Colour",
        "options": [{"label": "Red", "description": "r"}, {"label": "Blue", "description": "b"}],
        "multiSelect": false}]});
    Answer::tool("AskUserQuestion", question)
}

/// An agent on a machine that does "the job", and may do the first thing that it asks for.
pub(super) struct Begun {
    pub(super) node: Node,
    pub(super) who: Person,
    pub(super) machine: Machine,
    pub(super) device: Value,
    pub(super) task: String,
    /// Goes last.
    _home: Home,
}

impl Begun {
    pub(super) async fn new(runtimes: &Path, shell: &str, fake: &FakeModel) -> Result<Self> {
        let home = Home::new()?;
        let node = node(&home).await?;
        let who = node.setup().await?;
        let url = if shell == "ClaudeCode" { fake.url() } else { fake.openai_url() };
        node.apply(&who, &team(shell, &url)).await?;
        let mut machine = Machine::new(Some(runtimes))?;
        let device = machine.join(&node, &who).await?;
        let task = node.run(&who, "devs", "the job").await?;
        let block = asked(&node, &who, &task).await?;
        ensure!(answer(&node, &who, &task, &block, json!({"answer": "allow"})).await? == 204);
        Ok(Self { node, who, machine, device, task, _home: home })
    }
}

/// The next thing that an agent asks its person: the block.
pub(crate) async fn asked(node: &Rest, who: &Person, task: &str) -> Result<Value> {
    let mut block = Value::Null;
    let asked = try_until(PATIENCE, async || {
        let Ok((_, turns)) = node.turns(who, task).await else { return false };
        block = open_ask(&json!(turns)).unwrap_or_default();
        !block.is_null()
    });
    if !asked.await {
        let turns = node.turns(who, task).await;
        bail!("{task} asks nothing: {turns:#?}");
    }
    Ok(block)
}

/// The same, if something is asked now.
pub(super) async fn asked_now(node: &Rest, who: &Person, task: &str) -> Result<Value> {
    let (_, turns) = node.turns(who, task).await?;
    open_ask(&json!(turns)).context("nothing is asked")
}

fn open_ask(value: &Value) -> Option<Value> {
    match value {
        Value::Array(items) => items.iter().find_map(open_ask),
        Value::Object(fields) => {
            let asks = matches!(value["type"].as_str(), Some("approval" | "question"));
            let open = value["status"] == "waiting" || value["status"] == "pending";
            if asks && open {
                return Some(value.clone());
            }
            fields.values().find_map(open_ask)
        }
        _ => None,
    }
}

/// Answers a block; the status that came back.
pub(super) async fn answer(
    node: &Rest,
    who: &Person,
    task: &str,
    block: &Value,
    answer: Value,
) -> Result<u16> {
    let mut body = answer;
    body["block_id"] = block["id"].clone();
    body["client_message_id"] = json!(Uuid::new_v4());
    let path = format!("/api/v1/tasks/{task}/answer");
    Ok(node.call("POST", &path, Some(who), Some(&body)).await?.status)
}

/// What became of a device: its view once it holds.
pub(super) async fn until(
    node: &Rest,
    who: &Person,
    device: &Value,
    mut holds: impl FnMut(&Value) -> bool,
) -> Result<Value> {
    let path = format!("/api/v1/devices/{}", device["id"].as_str().context("no id")?);
    let mut view = Value::Null;
    let held = try_until(PATIENCE, async || {
        view = node.get(&path, who).await.unwrap_or_default();
        holds(&view)
    });
    ensure!(held.await, "the device is {view}");
    Ok(view)
}

/// Waits until a device has no work.
pub(super) async fn is_free(node: &Rest, who: &Person, device: &Value) -> Result<()> {
    until(node, who, device, |view| view["slots_used"] == 0).await.map(|_| ())
}

/// A Team whose messages are command lines.
pub(super) const COMMANDS: &str = "kind: Shell\nmetadata: {name: sh}\nspec: {shellType: Command}\n\
    ---\nkind: Ghost\nmetadata: {name: sh}\nspec: {systemPrompt: none}\n---\nkind: Bot\n\
    metadata: {name: sh}\nspec:\n  ghostRef: {name: sh}\n  shellRef: {name: sh}\n---\nkind: Team\n\
    metadata: {name: sh}\nspec:\n  collaborationModel: solo\n  members:\n  - {botRef: {name: sh}}\n";

/// Numbers from 1, a line each, until a file `go` is there, then `end`; and what it wrote so far.
pub(super) const COUNT: &str = "sh -c 'n=0; while [ ! -e go ]; do n=$((n+1)); echo line-$n; \
    echo $n > n; sleep 0.02; done; echo end'";

/// The answer is every number from 1 once, in order, and the end.
pub(super) fn counted(answer: &str) -> Result<u64> {
    let mut lines = answer.lines();
    ensure!(lines.next_back() == Some("end"), "no end: {answer}");
    let mut last = 0;
    for line in lines {
        last += 1;
        ensure!(line == format!("line-{last}"), "{line} where line-{last} was due");
    }
    Ok(last)
}

/// The text of the last answer.
pub(super) async fn last_answer(node: &Rest, who: &Person, task: &str) -> Result<String> {
    let (_, turns) = node.turns(who, task).await?;
    let messages = turns.last().and_then(|turn| turn["messages"].as_array());
    let text = messages.and_then(|m| m.last()).and_then(|m| m["content"].as_str());
    Ok(text.context("no answer")?.to_owned())
}
