//! `troupe node`: one node of a cluster, and the keys that its nodes share.
//!
//! Two processes: a launcher that starts the node again after a crash and ends its lease if it
//! cannot, and the node itself.

mod init;
mod launcher;
mod member;
mod name;
mod reset;
mod restore;
mod retire;
mod worker;

pub(crate) use self::member::Member;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use troupe_store_scylla::{Credentials, Replication, ScyllaOptions};
use troupe_types::{NodeRole, Uuid};

use crate::{
    config::Config,
    process::{default_data_dir, exit_code},
    reset::Whose,
};

/// The name of the cluster, beside the keys that are made for it.
const CLUSTER_FILE: &str = "cluster";
/// The certificate of the node CA.
const CA_CERT_FILE: &str = "node-ca.crt";
/// The node's certificate.
const CERT_FILE: &str = "node.crt";
/// Its key.
const KEY_FILE: &str = "node.key";

/// How the process of a node ends when its lease was taken away: start it again.
const LEASE_LOST: u8 = 75;

/// Arguments of `troupe node`; they win over file and environment.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  troupe node init --cluster prod --out ./keys --nodes node-1,node-2,node-3
  troupe node --name node-1 --keys ./keys/node-1 --cql db-1:9042 --redis redis://cache/ \\
      --http 127.0.0.1:8080 --link 10.0.0.1:8444
  troupe node --config /etc/troupe/node.toml --setup-link

SIGTERM hands the node's shards over to the others and then ends it (at most 2 minutes).
Configuration comes from built-in defaults, then --config, then variables TROUPE__SECTION__KEY
(TROUPE__NODE__NAME, TROUPE__CQL__CONTACT_POINTS), then the command line."
)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    verb: Option<NodeVerb>,
    #[command(flatten)]
    run: RunArgs,
}

/// What a node is told.
#[derive(Clone, Debug, Args)]
struct RunArgs {
    /// The node's name, as in its certificate
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The directory that `troupe node init` made for it
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Where HTTP listens [default: 127.0.0.1:8080]; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Certificate of HTTPS, PEM, with its chain; goes with --tls-key
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Where the node listens for its peers, UDP [default: 127.0.0.1:8444]
    #[arg(long, value_name = "ADDRESS")]
    link: Option<SocketAddr>,
    /// Where its peers reach it [default: as --link]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where devices come in, UDP and TCP [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS")]
    edge: Option<SocketAddr>,
    /// Where devices reach the nodes, all of them: machines that join keep these
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    edge_addresses: Option<Vec<String>>,
    /// Servers of the CQL database to begin with
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    cql: Option<Vec<String>>,
    /// Where its tables are [default: troupe]
    #[arg(long, value_name = "NAME")]
    keyspace: Option<String>,
    /// Copies of everything, when the keyspace is made [default: 3]
    #[arg(long, value_name = "N")]
    replication: Option<u32>,
    /// Redis, for what nodes tell each other and may forget
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// What the node hosts [default: gateway,entities,edge,knowledge]
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    roles: Option<Vec<String>>,
    /// Where the node keeps what it can make again
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Written once the node serves: {"http", "link", "edge", "node", "pid", "launcher", "setup_token"}
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Prints a one-time link to set the first administrator's password; earlier links end
    #[arg(long)]
    setup_link: bool,
    /// Without the process that starts the node again after a crash
    #[arg(long)]
    no_launcher: bool,
    /// The launcher's name for this start
    #[arg(long, hide = true, value_name = "BOOT")]
    launched: Option<Uuid>,
    /// The launcher's starts since one's lease was taken away
    #[arg(long, hide = true, value_name = "BOOT")]
    after: Vec<Uuid>,
}

impl RunArgs {
    /// The same as words of a command line.
    fn as_words(&self) -> Vec<std::ffi::OsString> {
        let list = |words: &Option<Vec<String>>| words.as_ref().map(|words| words.join(",").into());
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.clone().into_os_string());
        let text = |text: Option<String>| text.map(Into::into);
        let pairs: [(&str, Option<std::ffi::OsString>); 17] = [
            ("--name", text(self.name.clone())),
            ("--keys", path(&self.keys)),
            ("--http", text(self.http.map(|at| at.to_string()))),
            ("--tls-cert", path(&self.tls_cert)),
            ("--tls-key", path(&self.tls_key)),
            ("--link", text(self.link.map(|at| at.to_string()))),
            ("--advertise", text(self.advertise.clone())),
            ("--edge", text(self.edge.map(|at| at.to_string()))),
            ("--edge-addresses", list(&self.edge_addresses)),
            ("--cql", list(&self.cql)),
            ("--keyspace", text(self.keyspace.clone())),
            ("--replication", text(self.replication.map(|n| n.to_string()))),
            ("--redis", text(self.redis.clone())),
            ("--roles", list(&self.roles)),
            ("--data-dir", path(&self.data_dir)),
            ("--config", path(&self.config)),
            ("--ready-file", path(&self.ready_file)),
        ];
        let told = pairs.into_iter().filter_map(|(name, value)| Some([name.into(), value?]));
        let mut words: Vec<_> = told.flatten().collect();
        if self.setup_link {
            words.push("--setup-link".into());
        }
        words
    }
}

#[derive(Debug, Subcommand)]
enum NodeVerb {
    /// Makes the node CA, a certificate for each node, and the keys that all of them share
    Init(init::InitArgs),
    /// Fills the empty database of a cluster from a backup, while none of its nodes runs
    #[command(after_help = "Examples:
  troupe node restore troupe-monday.backup --config /etc/troupe/node.toml
  troupe node restore troupe-monday.backup --name node-1 --keys ./keys/node-1 --cql db-1:9042

It takes what `troupe node` takes and needs one node's keys for the name of the cluster. The file
is verified first. A restore that was interrupted is run again with the same file; until then
no node starts.")]
    Restore(Box<RestoreNodeArgs>),
    /// Sets the password of a user in the database of a cluster, for who lost theirs
    #[command(after_help = "Examples:
  troupe node reset-password admin --config /etc/troupe/node.toml
  echo \"$PASSWORD\" | troupe node reset-password ada --password-stdin --name node-1 \\
      --keys ./keys/node-1 --cql db-1:9042

It takes what `troupe node` takes and needs one node's keys for the name of the cluster. Nodes may
run. All sessions of the user end within seconds; API keys stay, `troupe key` takes them away.")]
    ResetPassword(Box<ResetNodeArgs>),
    /// Ends the lease of a node whose process is gone, so that others take over at once
    #[command(hide = true)]
    Retire(Box<RetireArgs>),
}

#[derive(Debug, Args)]
struct RestoreNodeArgs {
    /// What `troupe admin backup` made
    file: PathBuf,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct ResetNodeArgs {
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct RetireArgs {
    /// The start whose lease it is
    #[arg(long)]
    boot: Uuid,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the verb; the error is the exit code, its message is printed.
pub(crate) async fn run(args: NodeArgs) -> Result<(), ExitCode> {
    let outcome = match args.verb {
        Some(NodeVerb::Init(args)) => init::run(&args).map(|()| 0),
        Some(NodeVerb::Retire(args)) => retire::run(&args.run, args.boot).await.map(|()| 0),
        Some(NodeVerb::Restore(args)) => restore::run(&args.run, &args.file).await.map(|()| 0),
        Some(NodeVerb::ResetPassword(args)) => reset::run(&args.run, &args.whose).await.map(|()| 0),
        None if args.run.no_launcher || args.run.launched.is_some() => {
            Box::pin(worker::run(args.run)).await
        }
        // Faults of the configuration are told before anything is started.
        None => match configure(&args.run) {
            Ok(_) => launcher::run(&args.run).await,
            Err(error) => Err(error),
        },
    };
    match outcome {
        Ok(0) => Ok(()),
        Ok(code) => Err(ExitCode::from(code)),
        Err(error) => {
            tell(&error);
            Err(exit_code(&error))
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a failed command")]
fn tell(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

fn configure(args: &RunArgs) -> Result<Config> {
    let mut config = Config::load(args.config.as_deref())
        .map_err(|faults| anyhow::anyhow!("configuration: {faults}"))?;
    let told = args.clone();
    let node = &mut config.node;
    set(&mut node.name, told.name);
    set(&mut node.keys, told.keys);
    set(&mut node.link, told.link);
    set(&mut node.roles, told.roles);
    node.advertise = told.advertise.or(node.advertise.take());
    set(&mut config.http, told.http);
    config.tls.set(told.tls_cert, told.tls_key);
    config.edge.required |= told.edge.is_some();
    set(&mut config.edge.listen, told.edge);
    set(&mut config.edge.addresses, told.edge_addresses);
    set(&mut config.data_dir, told.data_dir);
    set(&mut config.cql.contact_points, told.cql);
    set(&mut config.cql.keyspace, told.keyspace);
    set(&mut config.cql.replication, told.replication);
    if let Some(url) = told.redis {
        config.redis.url = Some(url.into());
    }
    if config.data_dir.as_os_str().is_empty()
        && let Some(dir) = default_data_dir()
    {
        config.data_dir = dir.join("nodes").join(&config.node.name);
    }
    if let Err(faults) = config.validate_node() {
        bail!("configuration:\n  {}", faults.join("\n  "));
    }
    if args.setup_link && !config.roles().has(NodeRole::Gateway) {
        bail!("--setup-link: a node without the role `gateway` serves no page; ask another one");
    }
    Ok(config)
}

fn set<T>(place: &mut T, told: Option<T>) {
    if let Some(told) = told {
        *place = told;
    }
}

/// The name of the cluster that the node's keys were made for.
fn cluster_name(config: &Config) -> Result<String> {
    let file = config.node.keys.join(CLUSTER_FILE);
    let name = std::fs::read_to_string(&file)
        .with_context(|| format!("{}; `troupe node init` makes it", file.display()))?;
    Ok(name.trim().to_owned())
}

fn store_options(config: &Config, cluster: &str) -> Result<ScyllaOptions> {
    let cql = &config.cql;
    let mut options = ScyllaOptions::new(&cql.contact_points, cql.keyspace.clone());
    cluster.clone_into(&mut options.cluster);
    options.datacenter.clone_from(&cql.datacenter);
    options.create_keyspace = match (&cql.datacenter, cql.replication) {
        (_, 0) => None,
        (Some(name), copies) => Some(Replication::Datacenters(vec![(name.clone(), copies)])),
        (None, copies) => Some(Replication::Simple(copies)),
    };
    if let (Some(user), Some(file)) = (&cql.user, &cql.password_file) {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cql.password-file {}", file.display()))?;
        let password = text.trim_end_matches(['\r', '\n']).to_owned();
        options.credentials = Some(Credentials { user: user.clone(), password });
    }
    if let Some(file) = &cql.ca_file {
        let pem = std::fs::read(file).with_context(|| format!("cql.ca-file {}", file.display()))?;
        options.encrypt_with_ca(&pem).context("cql.ca-file")?;
    }
    let parsed = cql.addresses.iter().filter_map(|(told, at)| Some((told.parse().ok()?, *at)));
    options.addresses = parsed.collect();
    options.validate().context("cql")?;
    Ok(options)
}
