//! `admin ..`: for those who run a node or a cluster.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

/// `admin ..`
#[derive(Clone, Debug, Subcommand)]
pub enum AdminVerb {
    /// Lists nodes: lease, incarnation, build, load
    #[command(after_help = "Examples:
  troupe admin nodes
  troupe admin nodes --watch
  troupe admin nodes -o json")]
    Nodes(WatchArgs),
    /// Lists shards by owner, or one by one
    #[command(after_help = "Examples:
  troupe admin shards                    how many each node owns, and what is not at rest
  troupe admin shards --all --owner node-2
  troupe admin shards --watch")]
    Shards(ShardsArgs),
    /// Shows the live supervision tree of a node; begins anew or unloads one entity
    #[command(after_help = "Examples:
  troupe admin actors
  troupe admin actors --node node-2 --entities
  troupe admin actors --restart tsk_01jf...
  troupe admin actors --passivate task/01jf...")]
    Actors(ActorsArgs),
    /// Shows the queues of a node: by kind, and the deepest
    #[command(after_help = "Examples:
  troupe admin queues
  troupe admin queues --node node-2 -o json")]
    Queues(NodeArgs),
    /// Lists containers of Tasks, those that wait for one, and the pools
    #[command(after_help = "Examples:
  troupe admin containers
  troupe admin containers -o json")]
    Containers,
    /// Lists messages that were given up; shows, retries or discards one
    #[command(after_help = "Examples:
  troupe admin dead-letters
  troupe admin dead-letters show 0190...
  troupe admin dead-letters retry 0190...
  troupe admin dead-letters discard 0190... --reason \"sent by a client of last year\"")]
    DeadLetters {
        /// What to do with one [default: list all]
        #[command(subcommand)]
        verb: Option<LetterVerb>,
    },
    /// Checks what can be checked; ends with 1 if something is wrong
    #[command(after_help = "Examples:
  troupe admin doctor
  troupe admin doctor --strict           ends with 1 also if somebody should look (WARN)
  troupe admin doctor -o name            the names of checks that did not go well")]
    Doctor {
        /// Warnings count as wrong
        #[arg(long)]
        strict: bool,
    },
    /// Says why a Task of anybody waits or what it does, and where it lives
    #[command(after_help = "Example:
  troupe admin why tsk_01jf...")]
    Why {
        /// Id of the Task
        task: String,
    },
    /// Hands over all shards of a node and waits until it has none
    #[command(after_help = "Examples:
  troupe admin drain node-2
  troupe admin drain node-2 --no-wait")]
    Drain {
        /// Name of the node
        node: String,
        /// Begin it and return at once
        #[arg(long)]
        no_wait: bool,
        /// Give up waiting after so many seconds (the drain goes on)
        #[arg(long, value_name = "SECONDS", default_value_t = 180)]
        timeout: u64,
    },
    /// Hands one shard to another node; says whether that began, and with --wait how it ended
    #[command(after_help = "Examples:
  troupe admin move 77 node-3
  troupe admin move 77 node-3 --wait

Ends with 0 if it began or the node owns the shard already, with --wait once the node owns it;
with 1 if it stayed where it was or is not there in time, with 5 if it was refused.")]
    Move {
        /// Number of the shard
        shard: u16,
        /// Name of the node that is to own it
        node: String,
        /// Wait until the node owns it
        #[arg(long)]
        wait: bool,
        /// Give up waiting after so many seconds (the move goes on); steps may take 45 s to end
        #[arg(long, value_name = "SECONDS", default_value_t = 90)]
        timeout: u64,
    },
    /// Has shards move by themselves or not, on all nodes and until decided anew; or at once
    #[command(after_help = "Examples:
  troupe admin rebalance pause           before work on several nodes
  troupe admin rebalance resume
  troupe admin nodes                     says who paused it, and when")]
    Rebalance {
        /// What to do
        #[arg(value_enum)]
        action: RebalanceArg,
    },
    /// Copies everything to a file while the cluster works; tells what is in such a file
    #[command(after_help = "Examples:
  troupe admin backup troupe-monday.backup
  troupe admin backup - | zstd > troupe-monday.backup.zst
  troupe admin backup --verify troupe-monday.backup

The file appears under its name once it is whole and on disk. Secrets in it are sealed as they
are in the store: keep a copy of the keys directory too, and not beside it.
`troupe restore` and `troupe node restore` read it.")]
    Backup(BackupArgs),
    /// Lists what administrators did, the newest first
    Audit {
        /// How many, at most 200
        #[arg(short = 'n', long, default_value_t = 50)]
        limit: u32,
    },
}

/// Whether to stay and show what changes.
#[derive(Clone, Copy, Debug, Args)]
pub struct WatchArgs {
    /// Stay and print again when something changed
    #[arg(short, long)]
    pub watch: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub every: u64,
}

impl WatchArgs {
    /// Time between two looks.
    #[must_use]
    pub const fn every(&self) -> Duration {
        Duration::from_secs(self.every)
    }
}

/// Of `admin shards`.
#[derive(Clone, Debug, Args)]
pub struct ShardsArgs {
    /// One line per shard
    #[arg(short, long)]
    pub all: bool,
    /// Only those of this node
    #[arg(long, value_name = "NODE")]
    pub owner: Option<String>,
    /// Whether to stay.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// Of `admin backup`.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// The file; `-` is standard output, which nobody verifies for you
    pub file: PathBuf,
    /// Make none: read this one to its end and tell what is in it
    #[arg(long, conflicts_with = "force")]
    pub verify: bool,
    /// Replace a file of this name
    #[arg(long)]
    pub force: bool,
}

/// Which node.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The node [default: the one that answers]
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
}

/// Of `admin actors`.
#[derive(Clone, Debug, Args)]
pub struct ActorsArgs {
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Entities too, below their shards
    #[arg(short, long)]
    pub entities: bool,
    /// Begin this entity anew: KIND/ID, or the id of a Task
    #[arg(long, value_name = "ENTITY", conflicts_with = "passivate")]
    pub restart: Option<String>,
    /// Unload this entity if it is idle
    #[arg(long, value_name = "ENTITY")]
    pub passivate: Option<String>,
}

/// `admin dead-letters ..`
#[derive(Clone, Debug, Subcommand)]
pub enum LetterVerb {
    /// Lists them, oldest first
    Ls,
    /// Shows one; what persons wrote is left out
    Show {
        /// Its id
        id: String,
    },
    /// Gives one to its entity again
    Retry {
        /// Its id
        id: String,
    },
    /// Throws one away
    Discard {
        /// Its id
        id: String,
        /// Why; it goes into the audit log
        #[arg(short, long)]
        reason: String,
    },
}

/// What to do about shards that are not where placement would have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RebalanceArg {
    /// Nothing moves by itself (orphaned shards are still claimed)
    Pause,
    /// Shards move by themselves again
    Resume,
    /// Move now what would move after a while
    Now,
}

impl RebalanceArg {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Now => "now",
        }
    }
}
