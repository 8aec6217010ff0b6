//! Real Socket.IO clients of others, from npm and PyPI, through a whole conversation: login, send,
//! stream, cancel, retry, edit, and `chat:resume` from random seqs; and from within an attempt that
//! a killed node left behind.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result};
use tokio::process::Command;
use troupe_testkit::wait_until;

use crate::{
    fold::Event,
    node::{Home, Node, NodeOptions, PASSWORD, PATIENCE},
};

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/gateway/tests/clients");

/// Makes the demo model talk for ten seconds.
const LONG: &str = "Say a lot. [[demo chunks=200 size=9 pace=20 think=3]]";
/// What the attempt says before the node is killed.
const CHUNKS_MIN: usize = 8;

/// The program that runs a client, if it was prepared.
fn prepared(variable: &str, needs: Option<&str>) -> Option<PathBuf> {
    let program = std::env::var_os(variable);
    let missing = needs.filter(|file| !Path::new(CLIENTS).join(file).exists());
    if program.is_none() || missing.is_some() {
        println!("skipped: `cargo xtask test --suite clients` prepares {variable} and packages");
        return None;
    }
    program.map(PathBuf::from)
}

/// Some of what is resumed lies in the archive.
fn options(words_a_second: u32) -> NodeOptions {
    NodeOptions::default()
        .env("TROUPE__TASKS__SNAPSHOT_ENTRIES", 20)
        .env("TROUPE__MODELS__DEMO_PACE", words_a_second)
}

async fn converse(program: &Path, script: &str) -> Result<()> {
    let home = Home::new()?;
    let node = Node::start_with(&home, &options(60)).await?;
    node.setup().await?;
    run(program, script, &node, None).await
}

/// The node is killed in the middle of an answer, and another attempt follows when it is back.
async fn resume_what_was_cut(program: &Path, script: &str) -> Result<()> {
    let home = Home::new()?;
    let options = options(60);
    let node = Node::start_with(&home, &options).await?;
    let who = node.setup().await?;
    let task = node.run(&who, "assistant", LONG).await?;
    let count = async |node: &Node, event: &str, attempt: u64| {
        let frames = node.frames(&who, &task, 0).await.unwrap_or_default();
        let of = |frame: &&Event| frame.name == event && frame.data["attempt"] == attempt;
        frames.iter().filter(of).count()
    };
    wait_until(PATIENCE, async || count(&node, "chat:chunk", 1).await >= CHUNKS_MIN).await;
    node.kill().await?;
    let node = Node::start_with(&home, &options).await?;
    wait_until(PATIENCE, async || count(&node, "chat:start", 2).await == 1).await;
    run(program, script, &node, Some(&task)).await?;
    // The witness agrees that it was what it was to be.
    node.settled(&who, &task, "COMPLETED").await?;
    let fold = node.assert_fold(&who, &task).await?;
    let attempts = fold.rows()[1].attempts();
    let attempts: Vec<(u64, &str)> = attempts.iter().map(|(n, s)| (*n, s.as_str())).collect();
    assert_eq!(attempts, [(1, "FAILED"), (2, "COMPLETED")]);
    Ok(())
}

async fn run(program: &Path, script: &str, node: &Node, interrupt: Option<&str>) -> Result<()> {
    let client = Command::new(program)
        .arg(script)
        .current_dir(CLIENTS)
        .env("TROUPE_URL", &node.url)
        .env("TROUPE_USER", "admin")
        .env("TROUPE_PASSWORD", PASSWORD)
        .envs(interrupt.map(|task| ("TROUPE_INTERRUPT", task)))
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .output();
    let told = tokio::time::timeout(3 * PATIENCE, client).await.context("it does not end")??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&told.stdout), text(&told.stderr));
    println!("{out}{err}");
    assert!(told.status.success(), "{script}: {}\n{out}\n{err}", told.status);
    assert!(out.trim_end().ends_with("ok"), "{script} did nothing: {out}");
    Ok(())
}

const NPM: (&str, Option<&str>, &str) = ("TROUPE_NODE", Some("node_modules"), "client.mjs");
const PYPI: (&str, Option<&str>, &str) = ("TROUPE_PYTHON", None, "client.py");

#[tokio::test]
async fn socket_io_client_from_npm_sees_what_the_node_tells() -> Result<()> {
    let (variable, needs, script) = NPM;
    let Some(program) = prepared(variable, needs) else { return Ok(()) };
    converse(&program, script).await
}

#[tokio::test]
async fn socket_io_client_from_npm_resumes_within_a_lost_attempt() -> Result<()> {
    let (variable, needs, script) = NPM;
    let Some(program) = prepared(variable, needs) else { return Ok(()) };
    resume_what_was_cut(&program, script).await
}

#[tokio::test]
async fn python_socketio_from_pypi_sees_what_the_node_tells() -> Result<()> {
    let (variable, needs, script) = PYPI;
    let Some(program) = prepared(variable, needs) else { return Ok(()) };
    converse(&program, script).await
}

#[tokio::test]
async fn python_socketio_from_pypi_resumes_within_a_lost_attempt() -> Result<()> {
    let (variable, needs, script) = PYPI;
    let Some(program) = prepared(variable, needs) else { return Ok(()) };
    resume_what_was_cut(&program, script).await
}
