//! `troupe node init`: the node CA, certificates, and the keys that all nodes share.
//!
//! ```text
//! OUT/ca/         node-ca.crt node-ca.key cluster   the CA: keep it off the nodes
//! OUT/shared/     access-token.*.p8 sealing-*.key device-ca.*   as every node has them
//! OUT/<node>/     node-ca.crt node.crt node.key cluster, and copies of the shared keys
//! ```
#![expect(clippy::print_stdout, reason = "says what was made")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use troupe_link::{NodeCa, check_node_name};
use troupe_llm::Sealer;
use troupe_services::auth::Keys;
use troupe_types::{Clock as _, NodeRole, SystemClock};

use super::{CA_CERT_FILE, CERT_FILE, CLUSTER_FILE, KEY_FILE};
use crate::{
    edge::{DEVICE_CA_KEY_FILE, load_or_create_ca},
    process::{make_private, write_private},
};

const CA_KEY_FILE: &str = "node-ca.key";
const CLUSTER_BYTES_MAX: usize = 48;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  troupe node init --cluster prod --out ./keys --nodes node-1,node-2,node-3
  troupe node init --cluster prod --out ./keys --nodes node-4     one more node, later
  troupe node init --cluster prod --out ./keys --nodes web-1 --roles gateway

Bring OUT/<node> to that node and nothing else; keep OUT/ca and OUT/shared where no node is. A node
without the role `edge` gets no key of the device CA.
What exists is kept. A lost node key means a new CA: delete OUT/ca and start over.")]
pub(super) struct InitArgs {
    /// The cluster's name; nodes of other clusters are refused
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// Where to put everything
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Names of nodes: lower-case letters, digits, hyphens
    #[arg(long, value_name = "NAMES", value_delimiter = ',', required = true)]
    nodes: Vec<String>,
    /// What these nodes will host; without `edge` they get no key of the device CA
    #[arg(
        long,
        value_name = "ROLES",
        value_delimiter = ',',
        default_value = "gateway,entities,edge,knowledge"
    )]
    roles: Vec<NodeRole>,
}

pub(super) fn run(args: &InitArgs) -> Result<()> {
    let InitArgs { cluster, out, nodes, roles } = args;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if cluster.is_empty() || cluster.len() > CLUSTER_BYTES_MAX || !cluster.chars().all(word) {
        bail!("--cluster: letters, digits, `-` and `_`, at most {CLUSTER_BYTES_MAX} of them");
    }
    for node in nodes {
        check_node_name(node).with_context(|| format!("--nodes: `{node}`"))?;
        if ["ca", "shared"].contains(&node.as_str()) {
            bail!("--nodes: `{node}` is the name of a directory here; take another one");
        }
    }
    let ca = authority(out, cluster)?;
    let shared = out.join("shared");
    make_dir(&shared)?;
    Sealer::load_or_create(&shared).context("sealing keys")?;
    Keys::load_or_create(&shared).context("access-token keys")?;
    load_or_create_ca(&shared, cluster, SystemClock::new().now())?;
    for node in nodes {
        let dir = out.join(node);
        if dir.join(CERT_FILE).exists() {
            println!("{node}: kept as it is");
            continue;
        }
        make_dir(&dir)?;
        let cert = ca.issue(node, SystemClock::new().now()).context("a certificate")?;
        copy_keys(&shared, &dir, roles)?;
        write(&dir.join(CA_CERT_FILE), ca.cert_pem())?;
        write(&dir.join(CLUSTER_FILE), cluster)?;
        write(&dir.join(KEY_FILE), &cert.key_pem)?;
        // Last: without it the node is not done.
        write(&dir.join(CERT_FILE), &cert.cert_pem)?;
        println!("{node}: {}", dir.display());
    }
    println!("Keep {} off the nodes.", out.join("ca").display());
    Ok(())
}

/// The CA of the cluster, made if there is none.
fn authority(out: &Path, cluster: &str) -> Result<NodeCa> {
    let dir = out.join("ca");
    let named = dir.join(CLUSTER_FILE);
    if dir.join(CA_KEY_FILE).exists() {
        let read = |file: &str| {
            let path = dir.join(file);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let of = read(CLUSTER_FILE)?;
        if of.trim() != cluster {
            bail!("{} was made for the cluster `{}`, not `{cluster}`", dir.display(), of.trim());
        }
        return NodeCa::from_pem(cluster, &read(CA_CERT_FILE)?, &read(CA_KEY_FILE)?)
            .context("the node CA");
    }
    make_dir(&dir)?;
    let ca = NodeCa::create(cluster, SystemClock::new().now()).context("the node CA")?;
    write(&named, cluster)?;
    write(&dir.join(CA_CERT_FILE), ca.cert_pem())?;
    write(&dir.join(CA_KEY_FILE), ca.key_pem())?;
    Ok(ca)
}

fn make_dir(dir: &Path) -> Result<()> {
    make_private(dir).with_context(|| dir.display().to_string())
}

fn write(path: &Path, text: &str) -> Result<()> {
    write_private(path, text.as_bytes()).with_context(|| path.display().to_string())
}

fn copy_keys(from: &Path, to: &Path, roles: &[NodeRole]) -> Result<()> {
    for file in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let file = file?;
        if file.file_name() == DEVICE_CA_KEY_FILE && !roles.contains(&NodeRole::Edge) {
            continue;
        }
        let path = to.join(file.file_name());
        fs::copy(file.path(), &path).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        // Before the certificate, which says that the node is done.
        fs::File::open(&path)?.sync_all()?;
    }
    Ok(())
}
