//! The one order of crates, and who may name which outside library.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Finding, Tree};
use crate::{
    run::text,
    workspace::{Workspace, in_ci},
};

/// A crate may depend only on crates of an earlier line. Crates of one line stand side by
/// side. Some are planned: their place is kept.
const ORDER: &[&[&str]] = &[
    &["types"],
    &["telemetry"],
    &["api"],
    &["resources"],
    &["domain"],
    &["placement"],
    &["wire"],
    &["records"],
    &["packages"],
    &["store"],
    &["store-sqlite"],
    &["store-scylla"],
    &["soft-state"],
    &["link"],
    &["llm"],
    &["inference"],
    &["actor"],
    &["sharding"],
    &["executor"],
    &["edge"],
    &["chat"],
    &["knowledge"],
    &["entities"],
    &["services"],
    &["containers"],
    &["gateway"],
    &["console"],
    &["cli"],
    &["cluster", "edge-agent"],
    &["bench", "chaos-tests", "fuzz", "testkit", "xtask"],
];
/// Nothing but tests may depend on these, and they may name what they like.
const DEV: &[&str] = &["bench", "chaos-tests", "fuzz", "testkit", "xtask"];
const BINARIES: &[&str] = &["cluster", "edge-agent"];

/// Which of our crates may name an outside library.
#[derive(Debug)]
enum May {
    Only(&'static [&'static str]),
    /// This crate and all that stand below it in the order.
    From(&'static str),
    Except(&'static [&'static str]),
}

const NAMING: &[(&str, May, &str)] = &[
    ("ractor", May::From("actor"), "pure crates and adapters know no actors"),
    ("ractor_cluster_derive", May::From("actor"), "pure crates and adapters know no actors"),
    ("ractor_cluster", May::Only(&["sharding"]), "only the Router is remotable"),
    ("quinn", May::Only(&["link"]), "all QUIC is in one crate"),
    (
        "rustls",
        May::Only(&["link", "gateway", "store-scylla", "soft-state", "cluster", "edge-agent"]),
        "TLS is set up where sockets are, the provider is chosen in the binaries",
    ),
    ("bollard", May::Only(&["containers"]), "one crate knows the Docker engine"),
    ("rusqlite", May::Only(&["store-sqlite"]), "one crate per database"),
    ("scylla", May::Only(&["store-scylla"]), "one crate per database"),
    ("redis", May::Only(&["soft-state"]), "soft state only"),
    ("clap", May::Only(&["cli", "cluster", "edge-agent"]), "command lines belong to programs"),
    ("anyhow", May::Only(BINARIES), "libraries have typed errors"),
    ("uuid", May::Only(&["types"]), "ids are types of `types`"),
    ("tokio", May::Except(&["types", "domain", "placement"]), "these crates are pure"),
];

/// What must not even be pulled in by somebody else: (crate, library).
const ABSENT: &[(&str, &str)] = &[
    ("types", "tokio"),
    ("domain", "tokio"),
    ("placement", "tokio"),
    ("edge-agent", "axum"),
    ("edge-agent", "ractor_cluster"),
    ("edge-agent", "redis"),
    ("edge-agent", "scylla"),
];

/// The part of `cargo metadata` that we look at.
#[derive(Debug, Deserialize)]
pub(super) struct Graph {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Dependency {
    fn is_for_tests(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

impl Graph {
    pub(super) fn read(ws: &Workspace) -> Result<Self> {
        let rustc = text(ws.command("rustc").arg("-vV"))?;
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc names its host")?;
        let mut cargo = ws.cargo();
        cargo.args(["metadata", "--format-version", "1", "--quiet", "--filter-platform", host]);
        if in_ci() {
            // There, a lock file that lags behind the manifests is an error.
            cargo.arg("--locked");
        }
        serde_json::from_str(&text(&mut cargo)?).context("read cargo metadata")
    }

    /// Our own packages with the directory that names them in the order.
    fn members(&self) -> impl Iterator<Item = (&Package, &str)> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
            .map(|package| (package, directory(&package.manifest_path)))
    }

    /// Names of all packages that end up in a build of `id`, tests left out.
    fn reach(&self, id: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let node = self.resolve.nodes.iter().find(|node| node.id == id);
            for edge in node.map_or(&[][..], |node| &node.deps) {
                let is_normal = edge.dep_kinds.iter().any(|kind| kind.kind.is_none());
                if is_normal && seen.insert(&edge.pkg) {
                    open.push(&edge.pkg);
                }
            }
        }
        let names = self.packages.iter().filter(|package| seen.contains(package.id.as_str()));
        names.map(|package| package.name.as_str()).collect()
    }
}

/// The directory that a manifest lies in.
fn directory(manifest: &str) -> &str {
    let dir = Path::new(manifest).parent().and_then(Path::file_name);
    dir.and_then(|name| name.to_str()).unwrap_or_default()
}

fn rank(dir: &str) -> Option<usize> {
    ORDER.iter().position(|line| line.contains(&dir))
}

pub(super) fn check(tree: &Tree, graph: &Graph, findings: &mut Vec<Finding>) {
    for (package, dir) in graph.members() {
        let place = format!("{dir}/Cargo.toml");
        if package.name != format!("troupe-{dir}") {
            let what = format!("package `{}` should be called `troupe-{dir}`", package.name);
            findings.push(Finding::error(&place, what));
        }
        let Some(own_rank) = rank(dir) else {
            let what = "not in the order of crates: add it to tidy's list, with a decision record";
            findings.push(Finding::error(&place, what));
            continue;
        };
        if DEV.contains(&dir) {
            continue;
        }
        for dependency in &package.dependencies {
            let what = match &dependency.path {
                Some(path) => own_edge(dir, own_rank, path, dependency.is_for_tests()),
                None if dependency.is_for_tests() => None,
                None => outside_edge(dir, own_rank, &dependency.name),
            };
            findings.extend(what.map(|what| Finding::error(&place, what)));
        }
        for (_, library) in ABSENT.iter().filter(|(of, _)| *of == dir) {
            if graph.reach(&package.id).contains(library) {
                let what = format!("pulls in `{library}`; see cargo tree -p {} -i", package.name);
                findings.push(Finding::error(&place, what));
            }
        }
        check_described(tree, dir, findings);
    }
}

/// An edge between two of our crates.
fn own_edge(dir: &str, own_rank: usize, path: &str, for_tests: bool) -> Option<String> {
    let to = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if DEV.contains(&to) {
        return (!for_tests).then(|| format!("`{to}` is for tests only"));
    }
    // A crate may name itself in its tests, to switch a feature on.
    let is_above = rank(to).is_some_and(|rank| rank < own_rank) || (for_tests && to == dir);
    (!is_above).then(|| format!("depends on `{to}`, which does not stand above it"))
}

/// An edge to somebody else's crate.
fn outside_edge(dir: &str, own_rank: usize, library: &str) -> Option<String> {
    let (_, may, why) = NAMING.iter().find(|(name, ..)| *name == library)?;
    let allowed = match may {
        May::Only(dirs) => dirs.contains(&dir),
        May::From(first) => rank(first).is_some_and(|first| own_rank >= first),
        May::Except(dirs) => !dirs.contains(&dir),
    };
    (!allowed).then(|| format!("may not name `{library}`: {why}"))
}

/// Every crate has its paragraph in the architecture page.
fn check_described(tree: &Tree, dir: &str, findings: &mut Vec<Finding>) {
    const PAGE: &str = "docs/ARCHITECTURE.md";
    let page = tree.text(PAGE).ok().flatten().unwrap_or_default();
    let names = [format!("`crates/{dir}`"), format!("`{dir}/`")];
    if !names.iter().any(|name| page.contains(name)) {
        findings.push(Finding::error(PAGE, format!("says nothing about `{dir}`")));
    }
}

#[cfg(test)]
impl Graph {
    /// Lets path dependencies stand in for libraries of a registry.
    pub(super) fn forget_paths_of(&mut self, names: &[&str]) {
        for dependency in self.packages.iter_mut().flat_map(|package| &mut package.dependencies) {
            if names.contains(&dependency.name.as_str()) {
                dependency.path = None;
            }
        }
    }
}
