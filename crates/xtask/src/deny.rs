//! Bans, licences and sources of the dependencies, by cargo-deny and `.deny.toml`.
//!
//! Advisories are left out: their database is not in any package registry.

use anyhow::Result;

use crate::{
    run::{run, step},
    tools,
    workspace::Workspace,
};

pub(crate) fn deny(ws: &Workspace) -> Result<()> {
    let program = tools::cargo_tool(ws, "cargo-deny")?;
    step("cargo deny check bans licenses sources");
    run(ws.command(program).args(["deny", "check", "bans", "licenses", "sources"]))
}
