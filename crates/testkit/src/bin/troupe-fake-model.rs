//! The fake model server as a process of its own, for browser tests and benchmarks.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::Context;
use clap::Parser;
use troupe_testkit::{Answer, FakeModel, McpServer, Script};

/// Serves a scripted fake model (Anthropic Messages and OpenAI chat completions) on 127.0.0.1.
#[derive(Debug, Parser)]
struct Args {
    /// Port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Gets `{"url", "anthropic", "openai", "mcp", "pid"}` as JSON once the server serves.
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// What it answers: `default` (does what `[[fake ...]]` in the prompt says) or `text:TEXT`.
    #[arg(long, default_value = "default")]
    script: String,
    /// Serves test tools over MCP on a port of its own, too.
    #[arg(long)]
    mcp: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let script = match args.script.split_once(':') {
        None if args.script == "default" => Script::standard(),
        Some(("text", text)) => Script::always(Answer::text(text)),
        _ => anyhow::bail!("no script {}: use default or text:TEXT", args.script),
    };
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let fake = FakeModel::start_at(addr, script).await.context("cannot listen")?;
    let mcp = match args.mcp {
        true => Some(McpServer::start().await.context("cannot listen for mcp")?),
        false => None,
    };
    let ready = serde_json::json!({
        "url": fake.url(), "anthropic": fake.url(), "openai": fake.openai_url(),
        "mcp": mcp.as_ref().map(McpServer::url), "pid": std::process::id(),
    });
    if let Some(path) = &args.ready_file {
        // Whole or not at all: readers wait for the file to appear.
        let part = path.with_extension("part");
        std::fs::write(&part, ready.to_string()).context("cannot write the ready file")?;
        std::fs::rename(&part, path).context("cannot write the ready file")?;
    }
    writeln!(std::io::stdout(), "{ready}")?;
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = term.recv() => {}
        done = tokio::signal::ctrl_c() => done?,
    }
    Ok(())
}
