//! A tool that nobody is asked about any more: it runs once it is on the disk that it was called.

use std::{fs, io::Write as _, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use troupe_testkit::{Answer, Gate, Piece, Rule, try_until};

use super::kit::{Machine, answer, asked, is_free, last_answer, model, node, runtimes, team};
use crate::node::{Home, PATIENCE};

/// How long a tool must not run for.
const HELD: Duration = Duration::from_secs(2);

/// A small file system of its own where a machine keeps its outbox.
struct Disk {
    at: PathBuf,
}

impl Disk {
    /// `None`, with the reason printed, where mounting is not permitted. In CI it is.
    fn below(machine: &Machine) -> Result<Option<Self>> {
        let at = machine.dir().join("executions");
        fs::create_dir_all(&at)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m,mode=700", "troupe"]).arg(&at);
        let told = mount.output()?;
        if told.status.success() {
            return Ok(Some(Self { at }));
        }
        ensure!(std::env::var_os("CI").is_none(), "no small file system, and it is CI: {told:?}");
        println!("skipped: a small file system cannot be mounted here: {told:?}");
        Ok(None)
    }

    /// Takes all room that is left.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.at.join("filler");
        let mut file = fs::File::create(&path)?;
        for size in [1 << 16, 1 << 12, 1] {
            let piece = vec![b'x'; size];
            while file.write_all(&piece).is_ok() {}
        }
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// The second call of a tool that is allowed for the whole Task comes while the disk has no room
/// for its word.
async fn granted(shell: &str, openai: bool, call: Piece) -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let mut machine = Machine::new(Some(&runtimes))?;
    let Some(disk) = Disk::below(&machine)? else { return Ok(()) };
    let gate = Gate::closed();
    // Longer than what is left in the last page of the log, in few pieces: what the runtime asks
    // is read though nothing can be written.
    let again = Answer::text("Once more. ".repeat(1_000)).and(call.clone());
    let again = again.chunked(1_000).held_by(&gate, 0);
    let first = Answer::text("Now. ").and(call);
    let done = Answer::text("All done.");
    let fake = model(vec![Rule::any().human("the job").then(first).then(again).then(done)]).await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let url = if openai { fake.openai_url() } else { fake.url() };
    node.apply(&who, &team(shell, &url)).await?;
    let device = machine.join(&node, &who).await?;
    let task = node.run(&who, "devs", "the job").await?;
    let block = asked(&node, &who, &task).await?;
    assert_eq!(answer(&node, &who, &task, &block, json!({"answer": "allow_always"})).await?, 204);
    let asks = try_until(PATIENCE, async || fake.request_count() >= 2);
    ensure!(asks.await, "the model was not asked again: {}", machine.log());
    assert_eq!(machine.worked("x.txt").as_deref(), Some("x\n"));
    let filler = disk.fill()?;
    gate.open();
    let full = try_until(PATIENCE, async || machine.log().contains("the disk is full"));
    ensure!(full.await, "it fills nothing: {}", machine.log());
    let ran = async || machine.worked("x.txt").is_some_and(|text| text != "x\n");
    ensure!(!try_until(HELD, ran).await, "it ran, and nobody could hear that");
    fs::remove_file(filler).context("no filler")?;
    node.settled(&who, &task, "COMPLETED").await?;
    assert_eq!(machine.worked("x.txt").as_deref(), Some("x\nx\n"));
    assert!(last_answer(&node, &who, &task).await?.ends_with("All done."));
    node.assert_fold(&who, &task).await?;
    is_free(&node, &who, &device).await
}

#[tokio::test]
async fn claude_code_waits_until_it_is_kept_that_a_tool_was_called() -> Result<()> {
    let args = json!({"command": "echo x >> x.txt", "description": "d"});
    granted("ClaudeCode", false, Piece::Tool { name: "Bash".into(), args }).await
}

#[tokio::test]
async fn codex_waits_until_it_is_kept_that_a_tool_was_called() -> Result<()> {
    let args = json!({"cmd": "echo x >> x.txt"});
    granted("Codex", true, Piece::Tool { name: "exec_command".into(), args }).await
}
