//! The same over a real CQL server: from one keyspace to another.

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use troupe_testkit::{Gate, try_until};

use super::{Work, back_up, model};
use crate::{
    cli::Terminal,
    machines::members::{fresh_keyspace, servers},
    node::{Home, PASSWORD, PATIENCE, Person, Rest, troupe},
    scene::{self, team},
};

/// A cluster of one node.
pub(crate) struct One<'a> {
    pub(crate) name: &'static str,
    pub(crate) home: &'a Home,
    pub(crate) servers: (String, String),
    pub(crate) keyspace: String,
}

/// The keys of these nodes, below `keys`.
pub(crate) async fn init(home: &Home, nodes: &str) -> Result<()> {
    let mut init = troupe();
    init.args(["node", "init", "--cluster", "one", "--nodes", nodes, "--out", "keys"]);
    init.current_dir(home.path()).stdout(Stdio::null());
    ensure!(init.status().await?.success(), "no keys");
    Ok(())
}

impl One<'_> {
    /// What `troupe node` and `troupe node restore` both take.
    pub(crate) fn words(&self) -> Vec<String> {
        let keys = format!("keys/{}", self.name);
        let words = ["--name", self.name, "--keys", &keys, "--cql", &self.servers.0];
        let more = ["--keyspace", &self.keyspace, "--replication", "1", "--data-dir", self.name];
        words.into_iter().chain(more).map(str::to_owned).collect()
    }

    /// `troupe node restore` of a file.
    pub(super) fn restore(&self, file: &str) -> Vec<String> {
        let verb = ["node", "restore", file].map(str::to_owned);
        verb.into_iter().chain(self.words()).collect()
    }

    fn ready_file(&self) -> PathBuf {
        self.home.path().join("n0.ready")
    }

    pub(crate) async fn start(&self) -> Result<(Child, Value)> {
        let _ = fs::remove_file(self.ready_file());
        let log = self.home.path().join("node.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = troupe();
        command.arg("node").args(self.words()).args(["--redis", &self.servers.1]);
        command.args(["--http", "127.0.0.1:0", "--link", "127.0.0.1:0", "--edge", "127.0.0.1:0"]);
        command.args(["--no-launcher", "--setup-link", "--ready-file"]).arg(self.ready_file());
        command.current_dir(self.home.path()).env("HOME", self.home.path());
        let mut child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut told = Value::Null;
        let ready = try_until(2 * PATIENCE, async || {
            let text = fs::read(self.ready_file()).ok();
            told = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
            !told.is_null() || child.try_wait().is_ok_and(|ended| ended.is_some())
        });
        ensure!(ready.await && !told.is_null(), "it is not ready:\n{}", self.home.log());
        Ok((child, told))
    }
}

pub(crate) async fn stop(mut child: Child) -> Result<()> {
    let pid = child.id().context("it is gone")?.to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await?;
    tokio::time::timeout(2 * PATIENCE, child.wait()).await.context("it does not end")??;
    Ok(())
}

pub(crate) fn rest(told: &Value) -> Result<Rest> {
    Rest::new(told["http"].as_str().context("no url")?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_restored_into_an_empty_keyspace() -> Result<()> {
    let Some(servers) = servers() else { return Ok(()) };
    let gate = Gate::closed();
    let fake = model(&gate).await?;
    let home = Home::new()?;
    init(&home, "n0").await?;
    let first = One { name: "n0", home: &home, servers, keyspace: fresh_keyspace() };
    let (child, told) = first.start().await?;
    let token = told["setup_token"].as_str().context("no setup token")?;
    let node = rest(&told)?;
    let body = json!({"token": token, "password": PASSWORD});
    let admin = Person::of(&node.post("/api/v1/setup", None, &body).await?)?;
    let who = node.with_key(&admin).await?;
    let teams = [team("alone", "solo", &["ann"]), team("line", "pipeline", &["ann!", "oskar"])];
    node.apply(&who, &(scene::cast(&fake, None) + &teams.concat())).await?;
    let work = Work::begin(&node, &who).await?;
    let me = Terminal { home: &home, url: node.url.clone() };
    me.login().await?;
    let made = back_up(&me, "all.backup").await?;
    assert_eq!(made["tasks"], 3, "{made}");

    // A store in use is told from its contents, and its node goes on.
    let words = first.restore("all.backup");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert!(me.say(&words).await?.fails(5).contains("not empty"));
    let late = node.run(&who, "alone", "Be brief, and late.").await?;
    node.settled(&who, &late, "COMPLETED").await?;
    stop(child).await?;

    let second = One { keyspace: fresh_keyspace(), servers: first.servers.clone(), ..first };
    let words = second.restore("all.backup");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert!(me.say(&words).await?.ok().contains("restored"));
    let (child, told) = second.start().await?;
    assert_eq!(told["setup_token"], Value::Null, "there is an administrator");
    let node = rest(&told)?;
    node.login("admin").await?;
    work.goes_on(&node, &who, &gate).await?;
    assert!(node.status(&who, &late).await.is_err());
    stop(child).await
}
