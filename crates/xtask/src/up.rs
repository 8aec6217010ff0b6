//! `cargo xtask up`: from a fresh clone to a running node.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::{
    console,
    run::{run, step},
    tools,
    workspace::Workspace,
};

pub(crate) fn up(ws: &Workspace, args: &[String]) -> Result<()> {
    tools::ensure_c_compiler()?;
    if console::is_here(ws)
        && let Err(error) = tools::node(ws).and_then(|node| console::build(ws, &node))
    {
        step(&format!("going on without the console: {error:#}"));
        step("mend that (Node.js 22 with npm is enough) and run `cargo xtask up` again to have it");
    }
    step("building troupe (the first time takes some minutes)");
    run(ws.cargo().args(["build", "--quiet", "--package", "troupe-cluster", "--bin", "troupe"]))?;
    let binary = ws.binary("debug");
    step(&format!("{} up {}", binary.display(), args.join(" ")));
    // The node takes this process over, so that Ctrl-C and signals reach it directly.
    let error = ws.command(&binary).arg("up").args(args).exec();
    Err(error).with_context(|| format!("start {}", binary.display()))
}
