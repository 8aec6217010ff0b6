//! Real Socket.IO clients of others, from npm and PyPI, through a whole conversation: login, send,
//! stream, cancel, retry, edit, and `chat:resume` from random seqs.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::node::{Home, Node, NodeOptions, PASSWORD, PATIENCE};

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/gateway/tests/clients");

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

async fn converse(program: PathBuf, script: &str) -> Result<()> {
    let home = Home::new()?;
    // Some of what is resumed lies in the archive.
    let options = NodeOptions::default()
        .env("TROUPE__TASKS__SNAPSHOT_ENTRIES", 20)
        .env("TROUPE__MODELS__DEMO_PACE", 60);
    let node = Node::start_with(&home, &options).await?;
    node.setup().await?;
    let client = Command::new(program)
        .arg(script)
        .current_dir(CLIENTS)
        .env("TROUPE_URL", &node.url)
        .env("TROUPE_USER", "admin")
        .env("TROUPE_PASSWORD", PASSWORD)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .output();
    let told = tokio::time::timeout(3 * PATIENCE, client).await.context("it does not end")??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&told.stdout), text(&told.stderr));
    println!("{out}{err}");
    assert!(told.status.success(), "{script}: {}\n{out}\n{err}", told.status);
    Ok(())
}

#[tokio::test]
async fn socket_io_client_from_npm_sees_what_the_node_tells() -> Result<()> {
    match prepared("TROUPE_NODE", Some("node_modules")) {
        Some(node) => converse(node, "client.mjs").await,
        None => Ok(()),
    }
}

#[tokio::test]
async fn python_socketio_from_pypi_sees_what_the_node_tells() -> Result<()> {
    match prepared("TROUPE_PYTHON", None) {
        Some(python) => converse(python, "client.py").await,
        None => Ok(()),
    }
}
