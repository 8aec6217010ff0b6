//! `cargo xtask runtimes`: the agent programs that tests drive, at pinned versions, below
//! `target/runtimes`. They are installed at test time through npm and PyPI, never kept in the
//! repository: one of them is not free software.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use crate::{
    run::{quiet, step, text},
    tools::{self, Node},
    workspace::{Workspace, hash_files, in_ci, is_stamped},
};

/// The environment variable that tells tests where they are.
pub(crate) const VARIABLE: &str = "TROUPE_TEST_RUNTIMES";
const AGNO: &str = "crates/xtask/tools/agno.txt";

/// A program from npm: its directory, package, version.
const FROM_NPM: [(&str, &str, &str, &str); 2] = [
    ("claude-code", "@anthropic-ai/claude-code", "2.1.330", "claude"),
    ("codex", "@openai/codex", "0.169.0", "codex"),
];

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Verb {
    /// Installs what is missing: Claude Code and Codex from npm, Agno from PyPI (about 1 GB)
    Install,
    /// Says what is installed
    Status,
}

pub(crate) fn verb(ws: &Workspace, verb: Verb) -> Result<()> {
    match verb {
        Verb::Install => {
            let dir = install(ws)?;
            status(&dir, &tools::node(ws)?);
            println!("{VARIABLE}={}", dir.display());
        }
        Verb::Status => status(&home(ws), &tools::node(ws)?),
    }
    Ok(())
}

/// For the Rust suite: installs them, or says why not. In CI they must be there. Answers the
/// environment that tests need: where they are, and a search path with the Node.js that one wants.
pub(crate) fn for_tests(ws: &Workspace) -> Result<Vec<(&'static str, PathBuf)>> {
    match install(ws) {
        Ok(dir) => Ok(vec![(VARIABLE, dir), ("PATH", PathBuf::from(tools::node(ws)?.path()))]),
        Err(error) if in_ci() => Err(error.context("the agent runtimes are needed in CI")),
        Err(error) => {
            step(&format!("the agent runtimes are left out: {error:#}"));
            Ok(Vec::new())
        }
    }
}

fn home(ws: &Workspace) -> PathBuf {
    ws.target.join("runtimes")
}

/// Installs what is missing; answers where everything is.
pub(crate) fn install(ws: &Workspace) -> Result<PathBuf> {
    let dir = home(ws);
    let node = tools::node(ws).context("npm is needed for Claude Code and Codex")?;
    for (name, package, version, program) in FROM_NPM {
        from_npm(&node, &dir.join(name), package, version, program)?;
    }
    let wanted = hash_files(&ws.root, &[AGNO.to_owned()], "agno")?;
    let venv = dir.join("agno");
    if !is_stamped(&venv.join("stamp"), &wanted) {
        step("installing agno from PyPI into target/runtimes/agno");
        tools::venv(&venv, &ws.root.join(AGNO))?;
        fs::write(venv.join("stamp"), wanted).context("write the stamp of agno")?;
    }
    Ok(dir)
}

fn from_npm(node: &Node, dir: &Path, package: &str, version: &str, program: &str) -> Result<()> {
    let stamp = dir.join("stamp");
    let wanted = format!("{package}@{version}");
    if is_stamped(&stamp, &wanted) {
        return Ok(());
    }
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    step(&format!("installing {wanted} from npm into {}", dir.display()));
    let mut npm = node.npm(dir);
    npm.args(["install", "--no-audit", "--no-fund", "--save-exact", "--prefix"]).arg(dir);
    quiet(npm.arg(&wanted))?;
    let said = version_of(&dir.join("node_modules/.bin").join(program), node)?;
    // npm takes an older version where the machine's Node.js is too old, and only warns.
    ensure!(said.contains(version), "{wanted} was wanted, npm installed {said}");
    fs::write(&stamp, wanted).context("write the stamp")
}

/// Codex's program is a script of Node.js.
fn version_of(program: &Path, node: &Node) -> Result<String> {
    text(Command::new(program).arg("--version").env("PATH", node.path()))
}

fn status(dir: &Path, node: &Node) {
    for (name, _, _, program) in FROM_NPM {
        let program = dir.join(name).join("node_modules/.bin").join(program);
        let said = version_of(&program, node);
        println!("{name:<12} {}", said.unwrap_or_else(|_| "not installed".to_owned()));
    }
    let version = "import importlib.metadata as m; print(m.version('agno'))";
    let said = text(Command::new(dir.join("agno/bin/python")).args(["-c", version]));
    println!("{:<12} {}", "agno", said.unwrap_or_else(|_| "not installed".to_owned()));
}
