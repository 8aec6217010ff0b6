//! A cancel in the middle of a tool of a real agent: nothing of it runs on, and the machine has its
//! slot again.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use troupe_testkit::{Answer, Rule, try_until};

use super::kit::{Begun, is_free, model, runtimes};
use crate::node::PATIENCE;

/// Begins another program that leaves its parent, and waits in both: for a number of seconds that
/// nobody else waits for, of this test binary's process.
struct Hangs(String);

impl Hangs {
    fn new(runtime: u32) -> Self {
        Self(format!("98{runtime}.{}", std::process::id()))
    }

    fn command(&self) -> String {
        format!("(setsid sleep {0}1 &); sleep {0}2; true", self.0)
    }

    /// Those of its programs that run. A tool may be in a PID namespace, where it does not know
    /// how others call it; so they are found by what they are told.
    fn running(&self) -> usize {
        let wanted = [1, 2].map(|n| format!("sleep\0{}{n}\0", self.0).into_bytes());
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
            .filter(|line| wanted.contains(line))
            .count()
    }
}

async fn cancelled_in_a_tool(shell: &str, hangs: &Hangs, call: Answer) -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let rules = vec![Rule::any().human("the job").then(call).then(Answer::text("never"))];
    let fake = model(rules).await?;
    let begun = Begun::new(&runtimes, shell, &fake).await?;
    let Begun { node, who, machine, device, task, .. } = &begun;

    let hang = try_until(PATIENCE, async || hangs.running() == 2);
    ensure!(hang.await, "the tool does not run: {}\n{}", hangs.running(), machine.log());
    node.post(&format!("/api/v1/tasks/{task}/cancel"), Some(who), &json!({})).await?;
    node.settled(who, task, "CANCELLED").await?;
    let gone = try_until(PATIENCE, async || hangs.running() == 0);
    ensure!(gone.await, "{} of its programs run on", hangs.running());
    is_free(node, who, device).await.context("its slot")
}

#[tokio::test]
async fn a_cancel_in_a_tool_of_claude_code_leaves_no_process() -> Result<()> {
    let hangs = Hangs::new(1);
    let call = Answer::tool("Bash", json!({"command": hangs.command(), "description": "d"}));
    cancelled_in_a_tool("ClaudeCode", &hangs, call).await
}

#[tokio::test]
async fn a_cancel_in_a_tool_of_codex_leaves_no_process() -> Result<()> {
    let hangs = Hangs::new(2);
    let call = Answer::tool("exec_command", json!({"cmd": hangs.command()}));
    cancelled_in_a_tool("Codex", &hangs, call).await
}

#[tokio::test]
async fn a_cancel_in_a_tool_of_agno_leaves_no_process() -> Result<()> {
    let hangs = Hangs::new(3);
    let call = Answer::tool("run_command", json!({"command": hangs.command()}));
    cancelled_in_a_tool("Agno", &hangs, call).await
}
