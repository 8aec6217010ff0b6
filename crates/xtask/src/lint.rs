//! Format, clippy, the console's checks, and the API documentation.

use anyhow::Result;

use crate::{
    console,
    run::{run, step},
    tools,
    workspace::Workspace,
};

/// Scripts of the console's `package.json` that check without changing anything.
const CONSOLE_CHECKS: [&str; 2] = ["typecheck", "lint"];

pub(crate) fn lint(ws: &Workspace) -> Result<()> {
    step("cargo fmt --check");
    run(ws.cargo().args(["fmt", "--all", "--check"]))?;
    step("cargo clippy");
    run(ws
        .cargo()
        .args(["clippy", "--quiet", "--workspace", "--all-targets"])
        .args(["--", "-D", "warnings"]))?;
    if console::is_here(ws) {
        let node = tools::node(ws)?;
        tools::npm_ci(ws, &node, console::WEB)?;
        for check in CONSOLE_CHECKS {
            step(&format!("npm run {check} (console)"));
            let mut npm = node.npm(&ws.root.join(console::WEB));
            run(npm.args(["run", "--silent", "--if-present", check]))?;
        }
    }
    Ok(())
}

pub(crate) fn docs(ws: &Workspace) -> Result<()> {
    step("cargo doc");
    let mut doc = ws.cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
    run(&mut doc)?;
    step(&format!("see {}", ws.target.join("doc/troupe/index.html").display()));
    Ok(())
}
