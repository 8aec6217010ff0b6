//! `troupe-bench`: loads a node from another process, and measures its parts by themselves.
//!
//! Invariants: rows (`what TAB figure`) go to standard output, everything else to standard
//! error; a figure comes with the load under which it was taken. A run that lost a frame or
//! got a refusal fails instead of printing.
//!
//! Absences: it starts no node; `cargo xtask bench` does, and makes the table.

mod activation;
mod appends;
mod apply;
mod bare;
mod chunks;
mod cluster;
mod connections;
mod cql;
mod devices;
mod engine_io;
mod first;
mod http;
mod link;
mod node;
mod read;
mod stats;
mod stream;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

use crate::node::NodeArgs;

/// As in the node: docs/adr/0024.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Load generator and micro-benchmarks of Troupe.
#[derive(Debug, Parser)]
#[command(name = "troupe-bench")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// REST reads at a fixed rate
    Read {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        args: read::Args,
    },
    /// Applies of a few documents
    Apply {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        args: apply::Args,
    },
    /// From `chat:send` to the first chunk
    FirstChunk {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        args: first::Args,
    },
    /// Chunks per second to viewers, and Tasks that stream at once
    Chunks {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        args: chunks::Args,
    },
    /// Idle Socket.IO connections and emits, beside bare socketioxide
    Sockets {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        args: connections::Args,
    },
    /// Devices: enrolment, many that idle, many executions at once
    Devices {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        args: devices::Args,
    },
    /// Appends with fsync, beside bare SQLite
    Appends(appends::Args),
    /// Activations and passivations of Tasks
    Activation(activation::Args),
    /// Links between nodes and of a device, beside bare `ractor_cluster` and bare quinn
    Link(link::Args),
    /// Appends over CQL beside conditional inserts of the same entries
    Cql(cql::Args),
    /// Tasks for `cluster-idle`
    #[command(hide = true)]
    ClusterFill {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        args: cluster::IdleArgs,
    },
    /// Memory of Tasks that were made before
    ClusterIdle {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        args: cluster::IdleArgs,
    },
    /// Hand-offs of shards from one node to others
    ClusterMoves {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        args: cluster::MovesArgs,
    },
    /// Drops a keyspace
    #[command(hide = true)]
    ClusterForget(cql::ForgetArgs),
    /// A bare socketioxide server; prints its address
    #[command(hide = true)]
    Bare,
    /// Makes the Tasks that `activation` then activates
    #[command(hide = true)]
    ActivationFill(activation::Args),
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    // A load generator shares the machine with its node: one thread switches less. What is
    // measured by itself runs as it does in a node.
    let is_alone = matches!(
        verb,
        Verb::Appends(_)
            | Verb::Activation(_)
            | Verb::ActivationFill(_)
            | Verb::Link(_)
            | Verb::Cql(_)
            | Verb::Bare
    );
    let mut runtime = if is_alone {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            stats::note(&format!("error: no runtime can be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(verb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stats::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Devices { node, args } => Box::pin(devices::run(&node.connect().await?, &args)).await,
        Verb::Read { node, args } => Box::pin(read::run(&node.connect().await?, &args)).await,
        Verb::Apply { node, args } => Box::pin(apply::run(&node.connect().await?, &args)).await,
        Verb::FirstChunk { node, args } => {
            Box::pin(first::run(&node.connect().await?, &args)).await
        }
        Verb::Chunks { node, args } => {
            Box::pin(chunks::run(&node.connect_all().await?, &args)).await
        }
        Verb::Sockets { node, args } => {
            Box::pin(connections::run(&node.connect().await?, &args)).await
        }
        Verb::Appends(args) => Box::pin(appends::run(&args)).await,
        Verb::Activation(args) => Box::pin(activation::run(&args)).await,
        Verb::ActivationFill(args) => Box::pin(activation::fill(&args)).await,
        Verb::Link(args) => Box::pin(link::run(&args)).await,
        Verb::Cql(args) => Box::pin(cql::run(&args)).await,
        Verb::ClusterFill { node, args } => {
            Box::pin(cluster::fill(&node.connect().await?, &args)).await
        }
        Verb::ClusterIdle { node, args } => {
            Box::pin(cluster::idle(&node.connect().await?, &args)).await
        }
        Verb::ClusterMoves { node, args } => {
            Box::pin(cluster::moves(&node.connect().await?, &args)).await
        }
        Verb::ClusterForget(args) => cql::forget(&args).await,
        Verb::Bare => bare::serve().await,
    }
}
