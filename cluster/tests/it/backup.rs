//! A backup of a node at work, and what a new node makes of it.

pub(crate) mod cql;
mod killed;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use troupe_store::{DirectoryTable, RowWrite};
use troupe_store_sqlite::{SqliteOptions, SqliteStore};
use troupe_testkit::{Answer, FakeModel, Gate, Script, wait_until};
use troupe_types::Uuid;

use crate::{
    cli::{Terminal, at, node},
    node::{Home, Node, NodeOptions, PATIENCE, Person, Rest, troupe},
    scene::{self, team, words},
};

/// Everything that lies at the node's place but the store: what an operator copies by hand.
pub(crate) fn copy_keys(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// Names in a directory, the locks of what runs there left out.
fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}

/// The text of the last answer.
async fn answer(node: &Rest, who: &Person, task: &str) -> Result<String> {
    let (_, turns) = node.turns(who, task).await?;
    let rows = turns.iter().flat_map(|turn| turn["messages"].as_array().into_iter().flatten());
    let last = rows.rev().find(|row| row["kind"] == "answer");
    Ok(last.and_then(|row| row["content"].as_str()).unwrap_or_default().to_owned())
}

/// Answers at once, but for what is asked slowly.
async fn model(gate: &Gate) -> Result<FakeModel> {
    let gate = gate.clone();
    let script = Script::new(move |turn| {
        let answer = Answer::text(words(20)).chunked(10);
        if turn.human.contains("slowly") { answer.held_by(&gate, 6) } else { answer }
    });
    Ok(FakeModel::start(script).await?)
}

/// One Task that is over, one at a gate, one in the middle of its answer.
struct Work {
    done: String,
    gated: String,
    slow: String,
    turns: (u64, Vec<Value>),
    log: Value,
}

impl Work {
    async fn begin(node: &Rest, who: &Person) -> Result<Self> {
        let done = node.run(who, "alone", "Be brief.").await?;
        node.settled(who, &done, "COMPLETED").await?;
        let gated = node.run(who, "line", "Two steps, please.").await?;
        node.settled(who, &gated, "PENDING_CONFIRMATION").await?;
        let slow = node.run(who, "alone", "Take it slowly.").await?;
        wait_until(PATIENCE, async || {
            answer(node, who, &slow).await.is_ok_and(|text| !text.is_empty())
        })
        .await;
        let turns = node.turns(who, &done).await?;
        let log = node.task(who, &done).await?["log"].clone();
        Ok(Self { done, gated, slow, turns, log })
    }

    /// What was over is as it was, the rest goes on.
    async fn goes_on(&self, node: &Rest, who: &Person, gate: &Gate) -> Result<()> {
        assert_eq!(node.turns(who, &self.done).await?, self.turns);
        node.assert_fold(who, &self.done).await?;
        let log = node.task(who, &self.done).await?["log"].clone();
        assert!(log.is_string() && log != self.log, "clients start over: {log} {}", self.log);
        node.settled(who, &self.gated, "PENDING_CONFIRMATION").await?;
        node.confirm(who, &self.gated, Uuid::new_v4()).await?;
        node.settled(who, &self.gated, "COMPLETED").await?;
        node.assert_fold(who, &self.gated).await?;
        gate.open();
        node.settled(who, &self.slow, "COMPLETED").await?;
        let fold = node.assert_fold(who, &self.slow).await?;
        let row = fold.rows().last().context("no answer")?;
        assert_eq!(scene::whole_answers(&row.text()), Ok(1), "attempts are never mixed");
        let attempts: Vec<u64> = row.attempts().into_iter().map(|(attempt, _)| attempt).collect();
        assert_eq!(attempts, [1, 2], "it went on as the next one");
        Ok(())
    }
}

async fn back_up(me: &Terminal<'_>, name: &str) -> Result<Value> {
    let told = me.say(&["admin", "backup", name, "-o", "json"]).await?.ok();
    Ok(serde_json::from_str(&told)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_node_goes_on_where_the_backup_was_made() -> Result<()> {
    let gate = Gate::closed();
    let fake = model(&gate).await?;
    let home = Home::new()?;
    let (first, admin) = node(&home).await?;
    let who = first.with_key(&admin).await?;
    let teams = [team("alone", "solo", &["ann"]), team("line", "pipeline", &["ann!", "oskar"])];
    first.apply(&who, &(scene::cast(&fake, None) + &teams.concat())).await?;
    let work = Work::begin(&first, &who).await?;
    let me = at(&home, &first);
    me.login().await?;
    let told = back_up(&me, "all.backup").await?;
    assert!(told["entries"].as_u64() > Some(10) && told["tasks"] == 3, "{told}");
    let file = home.path().join("all.backup");
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    assert!(!names(home.path()).iter().any(|name| name.ends_with(".part")));
    let text = me.say(&["admin", "backup", "--verify", "all.backup"]).await?.ok();
    assert!(text.contains("whole, format 1") && text.contains("3 tasks"), "{text}");
    me.say(&["admin", "backup", "all.backup"]).await?.fails(2);
    let audit = me.say(&["admin", "audit"]).await?.ok();
    assert!(audit.contains("begin_backup"), "{audit}");
    // What comes later is not in it.
    let late = first.run(&who, "alone", "Be brief, and late.").await?;
    first.settled(&who, &late, "COMPLETED").await?;
    first.kill().await?;

    let full = me.say(&["restore", "all.backup", "--data-dir", "data"]).await?.fails(5);
    assert!(full.contains("not empty") && full.contains("users"), "{full}");
    let second = home.path().join("second");
    let restore = ["restore", "all.backup", "--data-dir", "second"];
    assert!(me.say(&restore).await?.fails(1).contains("keys is missing"));
    assert_eq!(names(&second), Vec::<String>::new(), "nothing is made");
    copy_keys(&home.data().join("keys"), &second.join("keys"))?;
    let told = me.say(&restore).await?.ok();
    assert!(told.contains("restored") && told.contains("troupe up"), "{told}");
    let options = NodeOptions { data: Some(second), ..NodeOptions::default() };
    let node = Node::start_with(&home, &options).await?;
    assert_eq!(node.setup_token, None, "there is an administrator");
    let again = at(&home, &node);
    again.login().await?;
    work.goes_on(&node, &who, &gate).await?;
    assert!(node.status(&who, &late).await.is_err());
    let ids = again.listed(&[]).await?;
    assert_eq!(ids.lines().count(), 3, "{ids}");
    let third = back_up(&again, "third.backup").await?;
    assert_ne!(third["id"], told_id(&me, "all.backup").await?);
    assert_eq!(node.terminate().await?, Some(0));
    Ok(())
}

async fn told_id(me: &Terminal<'_>, file: &str) -> Result<Value> {
    let told = me.say(&["admin", "backup", "--verify", file, "-o", "json"]).await?.ok();
    Ok(serde_json::from_str::<Value>(&told)?["id"].clone())
}

#[tokio::test]
async fn a_damaged_backup_changes_nothing_and_half_a_store_is_refused() -> Result<()> {
    let home = Home::new()?;
    let (first, _) = node(&home).await?;
    let me = at(&home, &first);
    me.login().await?;
    back_up(&me, "whole.backup").await?;
    let piped = fs::File::create(home.path().join("piped.backup"))?;
    assert_eq!(pipe_to(&me, piped).await?, (Some(0), String::new()));
    me.say(&["admin", "backup", "--verify", "piped.backup"]).await?.ok();
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let (code, told) = pipe_to(&me, full).await?;
    assert!(code == Some(1) && told.contains("no room"), "{told}");
    let data = home.data();
    let busy = me.say(&["restore", "whole.backup", "--data-dir", "data"]).await?.fails(1);
    assert!(busy.contains("in use by process"), "{busy}");
    assert_eq!(first.terminate().await?, Some(0));

    let whole = fs::read(home.path().join("whole.backup"))?;
    fs::write(home.path().join("cut.backup"), &whole[..whole.len() - 7])?;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(home.path().join("flipped.backup"), flipped)?;
    for (file, why) in [("cut.backup", "cut off"), ("flipped.backup", "damaged")] {
        let restore = ["restore", file, "--data-dir", "second", "--new-keys"];
        assert!(me.say(&restore).await?.fails(1).contains(why), "{file}");
        assert!(me.say(&["admin", "backup", "--verify", file]).await?.fails(1).contains(why));
        assert!(!home.path().join("second").exists(), "{file}: nothing is made");
    }
    me.say(&["admin", "backup", "no/such/dir/x.backup"]).await?.fails(1);

    // What a restore leaves that was killed: its mark.
    let half = home.path().join("half");
    mark(half.clone()).await?;
    copy_keys(&data.join("keys"), &half.join("keys"))?;
    let options = NodeOptions { data: Some(half), ..NodeOptions::default() };
    let refused = Node::attempt(&home, &options).await?.err().context("it came up")?;
    assert_eq!(refused.code, Some(1));
    assert!(refused.text.contains("half restored"), "{refused:?}");
    let other = me.say(&["restore", "whole.backup", "--data-dir", "half"]).await?.fails(5);
    assert!(other.contains("another backup"), "{other}");
    Ok(())
}

/// `troupe admin backup -`; its exit code and what it says beside.
async fn pipe_to(me: &Terminal<'_>, to: fs::File) -> Result<(Option<i32>, String)> {
    let mut command = troupe();
    command.args(["admin", "backup", "-"]).env("HOME", me.home.path());
    command.env("TROUPE_CONTEXTS", me.home.path().join("contexts.toml"));
    let child = command.stdout(to).stderr(Stdio::piped()).spawn()?;
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.context("it does not end")??;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

async fn mark(dir: PathBuf) -> Result<()> {
    let store = SqliteStore::open(&dir, &SqliteOptions::default())?;
    let body = format!("half {}", Uuid::new_v4());
    let row = RowWrite::insert(DirectoryTable::Setting, "restore", body);
    store.stores().directory.compare_and_set(row).await?;
    tokio::task::spawn_blocking(move || store.close()).await?;
    Ok(())
}
