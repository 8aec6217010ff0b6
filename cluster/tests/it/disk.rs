//! A data directory that is full, read-only, or somebody else's.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use troupe_testkit::{FakeModel, try_until};
use troupe_types::Uuid;

use crate::{
    node::{Answer, Home, Node, NodeOptions, PATIENCE, Person},
    scene::{self, Pace, team},
};

/// Small enough to be filled, large enough for a node.
const SIZE: &str = "size=16m";

/// What is left when it is "full": some messages still fit.
const ROOM: u64 = 1_500_000;

/// A file system of its own, gone with the test.
#[derive(Debug)]
struct Mount {
    at: PathBuf,
}

impl Mount {
    /// `None`, with the reason printed, where mounting is not permitted.
    fn new(home: &Home) -> Result<Option<Self>> {
        let at = home.path().join("small");
        fs::create_dir(&at)?;
        let told =
            Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "troupe"]).arg(&at).output();
        match told {
            Ok(output) if output.status.success() => Ok(Some(Self { at })),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                println!("skipped: a small file system cannot be mounted here: {why}");
                Ok(None)
            }
            Err(error) => {
                println!("skipped: there is no mount: {error}");
                Ok(None)
            }
        }
    }

    fn read_only(&self) -> Result<()> {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.at).status()?;
        ensure!(status.success(), "remounting read-only failed");
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// Takes all room that is left but so many bytes.
fn fill(dir: &Path, name: &str, but: u64) -> Result<PathBuf> {
    let path = dir.join(name);
    let mut file = fs::File::create(&path)?;
    for size in [1 << 20, 1 << 12, 1] {
        let piece = vec![b'x'; size];
        while file.write_all(&piece).is_ok() {}
    }
    let taken = file.metadata()?.len();
    file.set_len(taken.saturating_sub(but))?;
    Ok(path)
}

fn data(mount: &Mount) -> NodeOptions {
    NodeOptions { data: Some(mount.at.join("data")), ..NodeOptions::default() }
}

async fn send(node: &Node, who: &Person, key: Uuid, message: &str) -> Result<Answer> {
    let body = json!({"team_id": "alone", "message": message, "client_message_id": key});
    node.call("POST", "/api/v1/tasks", Some(who), Some(&body)).await
}

/// Sends until there is no room for a further one; acks by key, and the refusal.
async fn until_full(node: &Node, who: &Person) -> Result<(Vec<(Uuid, Value)>, (Uuid, Answer))> {
    let long = "Remember this. ".repeat(3_000);
    let mut acked = Vec::new();
    for _ in 0..500 {
        let key = Uuid::new_v4();
        let mut answer = send(node, who, key, &long).await?;
        if answer.body["code"] == "outcome_unknown" {
            // As it says: repeated with the same key.
            answer = send(node, who, key, &long).await?;
        }
        if answer.status >= 300 {
            return Ok((acked, (key, answer)));
        }
        acked.push((key, answer.body));
    }
    anyhow::bail!("500 long messages were acked on a full disk")
}

/// Applies until there is no room: the log of the database has some of its own left at first.
async fn no_room_for_resources(node: &Node, who: &Person) -> Result<Answer> {
    let path = "/api/v1/namespaces/default/apply";
    for n in 0..500 {
        let prompt = "Remember this. ".repeat(3_000);
        let yaml =
            format!("kind: Ghost\nmetadata: {{name: g{n}}}\nspec: {{systemPrompt: {prompt}}}");
        let body = Some(("application/yaml", yaml.into_bytes()));
        let answer = node.raw("POST", path, Some(who), body).await?;
        if answer.status >= 300 {
            return Ok(answer);
        }
    }
    anyhow::bail!("500 resources were applied on a full disk")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_the_service_comes_back() -> Result<()> {
    let home = Home::new()?;
    let Some(mount) = Mount::new(&home)? else { return Ok(()) };
    let pace = Pace { words: 4, gap: std::time::Duration::ZERO };
    let fake = FakeModel::start(scene::load_script(pace)).await?;
    let node = Node::start_with(&home, &data(&mount)).await?;
    let who = node.setup().await?;
    let yaml = format!("{}{}", scene::cast(&fake, None), team("alone", "solo", &["ann"]));
    node.apply(&who, &yaml).await?;
    let key = Uuid::new_v4();
    let first = send(&node, &who, key, "Before it was full.").await?;
    let task = first.body["task_id"].as_str().context("no task")?.to_owned();
    node.settled(&who, &task, "COMPLETED").await?;

    let filler = fill(&mount.at, "most", ROOM)?;
    let (acked, (refused_key, refused)) = until_full(&node, &who).await?;
    refused.assert_problem(&[503, 507]);
    assert!(!acked.is_empty(), "none was acked: nothing could be lost");
    println!("{} were acked on a full disk; then {}", acked.len(), refused.text);
    let words = refused.text.to_lowercase();
    let says_so = ["room", "space", "full"].iter().any(|word| words.contains(word));
    assert!(says_so, "the refusal says why: {}", refused.text);
    // Resources are refused in the same words, once not even they fit.
    let rest = fill(&mount.at, "rest", 0)?;
    let refused = no_room_for_resources(&node, &who).await?;
    refused.assert_problem(&[503, 507]);
    assert!(refused.text.contains("full"), "{}", refused.text);

    // Reads go on.
    node.assert_fold(&who, &task).await?;
    node.get("/api/v1/tasks?limit=10", &who).await?;
    node.get("/api/v1/teams", &who).await?;
    assert_eq!(node.call("GET", "/health", None, None).await?.status, 200);

    // There is room again: the refused message is taken under its own key.
    fs::remove_file(&filler)?;
    fs::remove_file(&rest)?;
    let mut resumed = None;
    try_until(PATIENCE, async || {
        let long = "Remember this. ".repeat(3_000);
        let answer = send(&node, &who, refused_key, &long).await.ok();
        resumed = answer.filter(|answer| answer.status < 300);
        resumed.is_some()
    })
    .await;
    let resumed = resumed.context("the service does not resume")?;
    for (key, ack) in acked.iter().chain([&(refused_key, resumed.body)]) {
        let task = ack["task_id"].as_str().context("no task")?;
        node.rests(&who, task).await?;
        let fold = node.assert_fold(&who, task).await?;
        let mine = fold.rows().iter().filter(|row| row.key == Some(key.to_string()));
        assert_eq!(mine.count(), 1, "an acked message is there once");
    }
    node.assert_well(&who).await?;
    node.kill().await?;
    // Nothing of it was in memory alone.
    let node = Node::start_with(&home, &data(&mount)).await?;
    for (_, ack) in &acked {
        let task = ack["task_id"].as_str().context("no task")?;
        node.assert_fold(&who, task).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_start_without_room_says_so() -> Result<()> {
    let home = Home::new()?;
    let Some(mount) = Mount::new(&home)? else { return Ok(()) };
    fill(&mount.at, "all", 0)?;
    let refused = Node::attempt(&home, &data(&mount)).await?;
    let refused = refused.err().context("it came up without any room")?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.text.contains("no room left"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_read_only_data_directory_is_refused_in_words() -> Result<()> {
    let home = Home::new()?;
    let Some(mount) = Mount::new(&home)? else { return Ok(()) };
    // One that was in use, and one that is not there yet.
    let node = Node::start_with(&home, &data(&mount)).await?;
    assert_eq!(node.terminate().await?, Some(0));
    mount.read_only()?;
    for dir in ["data", "fresh"] {
        let options = NodeOptions { data: Some(mount.at.join(dir)), ..NodeOptions::default() };
        let refused = Node::attempt(&home, &options).await?;
        let refused = refused.err().context("it came up on a read-only directory")?;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.text.contains("cannot be written"), "{refused:?}");
        assert!(refused.text.contains(dir), "the directory is named: {refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_directory() -> Result<()> {
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let pid = node.pid().context("it is gone")?;
    let second = Home::new()?;
    let options = NodeOptions { data: Some(home.data()), ..NodeOptions::default() };
    let refused = Node::attempt(&second, &options).await?;
    let refused = refused.err().context("two processes on one data directory")?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.text.contains(&format!("process {pid}")), "{refused:?}");
    let who = node.setup().await?;
    node.assert_well(&who).await?;
    node.kill().await?;
    // A crash leaves no lock behind.
    let node = Node::start_with(&second, &options).await?;
    node.assert_well(&who).await
}

#[tokio::test]
async fn a_wrong_configuration_is_told_whole() -> Result<()> {
    let home = Home::new()?;
    let options = NodeOptions::default()
        .env("TROUPE__TASKS__SNAPSHOT_ENTRIES", 0)
        .env("TROUPE__SHUTDOWN__DRAIN_SECONDS", 10_000);
    let refused = Node::attempt(&home, &options).await?.err().context("it came up")?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for name in ["snapshot-entries", "drain-seconds"] {
        assert!(refused.text.contains(name), "{refused:?}");
    }
    let unknown = NodeOptions::default().env("TROUPE__TASKS__SNAPSHOTS", 5);
    let refused = Node::attempt(&home, &unknown).await?.err().context("it came up")?;
    assert!(refused.text.contains("snapshots"), "{refused:?}");
    Ok(())
}
