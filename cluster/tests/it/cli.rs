//! The client verbs of the binary, as child processes against a node.

mod behind;
mod files;
mod models;
mod reset;
mod templates;
mod undelete;
mod watch;

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use tokio::io::AsyncWriteExt as _;
use troupe_testkit::{Answer, FakeModel, Fault, Gate, Script, try_until, wait_until};

use crate::{
    node::{Home, Node, PASSWORD, PATIENCE, Person, troupe},
    scene::{self, team},
};

/// A person at a terminal.
pub(crate) struct Terminal<'a> {
    pub(crate) home: &'a Home,
    pub(crate) url: String,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    err: String,
}

impl Told {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(!self.err.contains("panicked"), "{self:#?}");
        self.err
    }
}

impl Terminal<'_> {
    /// Ids of a list that has something in it: lists may trail what was committed.
    pub(crate) async fn listed(&self, more: &[&str]) -> Result<String> {
        let list = [&["ls", "-o", "name"], more].concat();
        let mut ids = String::new();
        let found = try_until(PATIENCE, async || {
            ids = self.say(&list).await.map_or_else(|_| String::new(), Told::ok);
            !ids.is_empty()
        });
        ensure!(found.await, "nothing is listed: {more:?}");
        Ok(ids)
    }

    pub(crate) async fn say(&self, args: &[&str]) -> Result<Told> {
        self.pipe(args, "").await
    }

    pub(crate) async fn pipe(&self, args: &[&str], input: &str) -> Result<Told> {
        let mut child = troupe()
            .args(args)
            .current_dir(self.home.path())
            .env("HOME", self.home.path())
            .env("TROUPE_CONTEXTS", self.contexts())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        let input = input.to_owned();
        let (written, output) = tokio::join!(
            async move { stdin.write_all(input.as_bytes()).await },
            tokio::time::timeout(PATIENCE, child.wait_with_output())
        );
        // A command that reads nothing may be gone before all is written.
        let _ = written;
        let output = output.with_context(|| format!("troupe {args:?} does not end"))??;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Told { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
    }

    fn contexts(&self) -> PathBuf {
        self.home.path().join("contexts.toml")
    }

    pub(crate) async fn login(&self) -> Result<()> {
        let args = ["login", &self.url, "--user", "admin", "--password-stdin"];
        self.pipe(&args, &format!("{PASSWORD}\n")).await?.ok();
        Ok(())
    }
}

pub(crate) async fn node(home: &Home) -> Result<(Node, Person)> {
    let node = Node::start(home).await?;
    let who = node.setup().await?;
    Ok((node, who))
}

pub(crate) fn at<'a>(home: &'a Home, node: &Node) -> Terminal<'a> {
    Terminal { home, url: node.url.clone() }
}

#[tokio::test]
async fn a_newcomer_gets_from_login_to_an_answer() -> Result<()> {
    let home = Home::new()?;
    let (node, _) = node(&home).await?;
    let me = at(&home, &node);
    let url = me.url.clone();
    me.say(&["ls", "--url", &url]).await?.fails(4);
    let wrong = ["login", &url, "--user", "admin", "--password-stdin"];
    me.pipe(&wrong, "wrong-password\n").await?.fails(4);
    me.login().await?;
    let teams = me.say(&["get", "teams", "-o", "name"]).await?.ok();
    for name in ["assistant", "translator", "plan-then-build", "dev-team", "command"] {
        assert!(teams.lines().any(|line| line.ends_with(name)), "{name} in {teams}");
    }
    let answer = me.say(&["run", "What can you do?", "--team", "assistant"]).await?.ok();
    assert!(answer.len() > 20, "{answer}");
    let ids = me.listed(&[]).await?;
    let id = ids.lines().next().context("no task is listed")?.to_owned();
    assert!(id.starts_with("tsk_"), "{ids}");
    let prefix = &id[..12];
    let why = me.say(&["why", prefix]).await?.ok();
    assert!(!why.trim().is_empty());
    let again = me.say(&["attach", &id]).await?.ok();
    assert!(again.contains(answer.trim().lines().last().unwrap_or("?")), "{again}");
    me.say(&["send", &id, "And what else?"]).await?.ok();
    let json = me.say(&["get", "team", "assistant", "-o", "json"]).await?.ok();
    let team: serde_json::Value = serde_json::from_str(&json)?;
    assert_eq!(team["metadata"]["name"], "assistant", "{json}");
    me.say(&["logout"]).await?.ok();
    me.say(&["ls"]).await?.fails(4);
    Ok(())
}

#[tokio::test]
async fn every_end_has_its_exit_code() -> Result<()> {
    let gate = Gate::closed();
    let held = gate.clone();
    let script = Script::new(move |turn| {
        let answer = Answer::text("Quite so.");
        if turn.human.contains("fail") {
            return Answer::fault(Fault::context_length());
        }
        if turn.human.contains("hold") { answer.held_by(&held, 2) } else { answer }
    });
    let fake = FakeModel::start(script).await?;
    let home = Home::new()?;
    let (node, who) = node(&home).await?;
    let me = at(&home, &node);
    me.login().await?;
    let yaml = [
        scene::cast(&fake, None),
        team("alone", "solo", &["ann"]),
        team("line", "pipeline", &["ann!", "oskar"]),
    ];
    let file = home.path().join("teams.yaml");
    fs::write(&file, yaml.concat())?;
    let dry = me.say(&["apply", "-f", "teams.yaml", "--dry-run"]).await?.ok();
    assert!(dry.contains("alone"), "{dry}");
    me.say(&["get", "team", "alone"]).await?.fails(3);
    me.say(&["apply", "-f", "teams.yaml"]).await?.ok();
    me.say(&["get", "team", "alone"]).await?.ok();
    me.say(&["describe", "ghost", "ann"]).await?.ok();

    me.say(&["run", "hello", "--team", "alone"]).await?.ok();
    me.say(&["run", "please fail", "--team", "alone"]).await?.fails(10);
    me.say(&["run", "hello", "--team", "line"]).await?.fails(12);
    let ids = me.listed(&["--status", "pending_confirmation"]).await?;
    let waits = ids.lines().next().context("none waits")?.to_owned();
    me.say(&["confirm", &waits]).await?.ok();
    me.say(&["run", "hello", "--team", "line", "--yes"]).await?.ok();

    let detached = ["run", "hold on", "--team", "alone", "--detach", "-o", "name"];
    let id = me.say(&detached).await?.ok().trim().to_owned();
    wait_until(PATIENCE, async || {
        node.status(&who, &id).await.is_ok_and(|status| status == "RUNNING")
    })
    .await;
    let attach = ["attach", id.as_str()];
    let (attached, cancelled) = tokio::join!(me.say(&attach), async {
        wait_until(PATIENCE, async || fake.active() == 1).await;
        me.say(&["cancel", &id]).await
    });
    cancelled?.ok();
    attached?.fails(11);
    gate.open();
    me.say(&["retry", &id]).await?.ok();

    me.say(&["run", "hello", "--team", "no-such-team"]).await?.fails(3);
    me.say(&["why", "tsk_nonsense"]).await?.fails(3);
    me.say(&["get", "widgets"]).await?.fails(2);
    me.say(&["fly"]).await?.fails(2);
    me.say(&["ls", "--url", "http://127.0.0.1:1"]).await?.fails(6);
    fs::write(
        home.path().join("bad.yaml"),
        "kind: Team\nmetadata: {name: x}\nspec: {membrs: []}\n",
    )?;
    let told = me.say(&["apply", "-f", "bad.yaml"]).await?.fails(1);
    for part in ["bad.yaml:", "membrs", "members"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    me.say(&["delete", "bot", "ann"]).await?.fails(5);
    me.say(&["delete", "team", "alone", "line"]).await?.ok();
    me.say(&["delete", "bot", "ann"]).await?.ok();
    Ok(())
}

#[tokio::test]
async fn it_explains_itself() -> Result<()> {
    let home = Home::new()?;
    let (node, _) = node(&home).await?;
    let me = at(&home, &node);
    me.login().await?;
    let told = me.say(&["explain", "team.spec.members"]).await?.ok();
    for field in ["botRef", "requireConfirmation", "contextPassing"] {
        assert!(told.contains(field), "{field} in {told}");
    }
    let told = me.say(&["explain", "team.spec.membrs"]).await?.fails(2);
    assert!(told.contains("membrs"), "{told}");
    let completion = me.say(&["completion", "bash"]).await?.ok();
    assert!(completion.contains("troupe"));
    let help = me.say(&["--help"]).await?.ok();
    for verb in ["up", "login", "apply", "run", "attach", "why", "completion"] {
        assert!(help.contains(&format!("\n  {verb}")), "{verb} in {help}");
    }
    for code in ["\nExit codes of all verbs but", "\n  6   the node", "\n  12  it waits"] {
        assert!(help.contains(code), "{code} in {help}");
    }
    assert!(!me.say(&["run", "--help"]).await?.ok().contains("Exit codes"));
    assert!(me.say(&["--version"]).await?.ok().starts_with("troupe "));
    let stored = fs::read_to_string(me.contexts())?;
    assert!(stored.contains("admin") && !stored.contains(PASSWORD));
    let key = me.say(&["key", "add", "laptop"]).await?.ok();
    let key = key.split_whitespace().find(|word| word.starts_with("trp_")).context("no key")?;
    let url = me.url.clone();
    let nobody = Terminal { home: &Home::new()?, url: url.clone() };
    nobody.say(&["ls", "--url", &url, "--token", key]).await?.ok();
    nobody.say(&["ls", "--url", &url, "--token", "trp_wrong"]).await?.fails(4);
    let id = me.say(&["key", "ls", "-o", "name"]).await?.ok().trim().to_owned();
    me.say(&["key", "delete", "key_nonsense"]).await?.fails(3);
    me.say(&["key", "delete", "ke"]).await?.fails(2);
    let told = me.say(&["key", "delete", &id[..14]]).await?.ok();
    assert_eq!(told.trim_end(), format!("key/{id} deleted"));
    nobody.say(&["ls", "--url", &url, "--token", key]).await?.fails(4);
    Ok(())
}
