//! The console's web assets: built by npm, only when their sources changed.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    run::{quiet, step},
    tools::{Node, npm_ci},
    workspace::{Workspace, hash_files, is_stamped},
};

/// Where the console's source lies.
pub(crate) const WEB: &str = "crates/console/web";
/// Not part of the built assets.
const NOT_BUILT: [&str; 2] = ["crates/console/web/e2e/", "crates/console/web/README.md"];

pub(crate) fn is_here(ws: &Workspace) -> bool {
    ws.root.join(WEB).join("package.json").is_file()
}

/// Brings `dist/` up to date with the sources.
pub(crate) fn build(ws: &Workspace, node: &Node) -> Result<()> {
    let mut files = ws.files(WEB)?;
    files.retain(|file| !NOT_BUILT.iter().any(|other| file.starts_with(other)));
    let wanted = hash_files(&ws.root, &files, &node.version)?;
    let stamp = ws.tools().join("console.stamp");
    let web = ws.root.join(WEB);
    if is_stamped(&stamp, &wanted) && web.join("dist/index.html").is_file() {
        return Ok(());
    }
    npm_ci(ws, node, WEB)?;
    step("building the console");
    quiet(node.npm(&web).args(["run", "build"]))?;
    fs::create_dir_all(ws.tools()).context("make the tools directory")?;
    fs::write(&stamp, wanted).context("write the stamp of the console")
}
