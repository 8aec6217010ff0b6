//! `policy`.

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use crate::{Global, config::Home, show::say};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Reads the file as the agent would, and says what it allows
    Check,
}

pub(crate) fn policy(home: &Home, global: &Global, _: &PolicyVerb) -> Result<()> {
    let (policy, there) = home.read_policy()?;
    let list = |items: &[String]| match items {
        [] => "none".to_owned(),
        items => items.join(", "),
    };
    let roots: Vec<String> =
        policy.workspace_roots.iter().map(|root| root.display().to_string()).collect();
    let missing: Vec<&String> = roots.iter().filter(|root| !home.dir.join(root).is_dir()).collect();
    let file = if there { "" } else { " (no such file: these are the defaults)" };
    let mut text = format!(
        "policy   {}{file}\nteams    {}\nusers    {}\nruntimes {}\nroots    {}\nclones   {}\n\
         commands {}\nenv      {}\nwithout asking: {:?} at most; \"always allow\": {}; MCP programs: {}; a fence \
         by itself: {}",
        home.policy.display(),
        list(&policy.teams),
        list(&policy.users),
        list(&policy.runtimes),
        list(&roots),
        list(&policy.clone_hosts),
        list(&policy.commands),
        list(&policy.env),
        policy.permissions_max,
        policy.grants,
        policy.mcp_programs,
        policy.fenced,
    );
    for root in &missing {
        text += &format!("\nwarning: {root} is no directory, so it allows nothing");
    }
    let value = json!({
        "file": home.policy, "exists": there, "teams": policy.teams, "users": policy.users,
        "runtimes": policy.runtimes, "workspace_roots": roots,
        "clone_hosts": policy.clone_hosts, "commands": policy.commands, "env": policy.env,
        "permissions_max": format!("{:?}", policy.permissions_max), "grants": policy.grants,
        "mcp_programs": policy.mcp_programs, "fenced": policy.fenced, "missing_roots": missing,
    });
    say(global.output, &text, &value)
}
