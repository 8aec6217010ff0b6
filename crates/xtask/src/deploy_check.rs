//! `cargo xtask deploy-check`: what lies in `deploy/` as its own programs judge it. Which program
//! judges what, and what is not judged here, stands in `docs/deploy.md`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    run::{quiet, step},
    tools::{apt, python_tools, which},
    workspace::Workspace,
};

const OBSERVABILITY: &str = "deploy/observability";
/// The program that units start, which is not installed where they are checked.
const PROGRAMS: [&str; 2] = ["/usr/bin/troupe-edge", "/usr/bin/troupe"];
const STAND_IN: &str = "/bin/true";
/// Oldest and newest Kubernetes that the manifests are checked for.
const KUBERNETES: [&str; 2] = ["1.30", "1.37"];

/// What is checked, and how.
type NamedCheck = (&'static str, fn(&Workspace) -> Result<()>);

/// Runs every check; all that fail are told.
pub(crate) fn deploy_check(ws: &Workspace) -> Result<()> {
    let checks: [NamedCheck; 5] = [
        ("names of metrics", metric_names),
        ("alert rules", rules),
        ("systemd units", units),
        ("Dockerfile and compose file", containers),
        ("Kubernetes manifests", manifests),
    ];
    let mut failed = Vec::new();
    for (what, check) in checks {
        match check(ws) {
            Ok(()) => step(&format!("{what}: ok")),
            Err(error) => {
                println!("{what}: {error:#}");
                failed.push(what);
            }
        }
    }
    ensure!(failed.is_empty(), "deploy/ has faults: {}", failed.join(", "));
    Ok(())
}

/// Dashboards, rules and the autoscaler ask for nothing that no node tells.
fn metric_names(ws: &Workspace) -> Result<()> {
    let mut told = BTreeSet::new();
    for root in ["crates", "cluster"] {
        for file in ws.files(root)?.iter().filter(|file| file.ends_with(".rs")) {
            told.extend(words(&fs::read_to_string(ws.root.join(file))?, "\"troupe_", '"'));
        }
    }
    let mut unknown = BTreeSet::new();
    for file in ws.files("deploy")? {
        let text = fs::read_to_string(ws.root.join(&file))?;
        for name in words(&text, "troupe_", ' ') {
            let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
            if !told.contains(&name) && !base.is_some_and(|base| told.contains(base)) {
                unknown.insert(format!("{name} ({file})"));
            }
        }
    }
    let unknown: Vec<String> = unknown.into_iter().collect();
    ensure!(unknown.is_empty(), "no node tells: {}", unknown.join(", "));
    Ok(())
}

/// Names that begin with `start` and, unless `end` is a blank, are closed by it.
fn words(text: &str, start: &str, end: char) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(start) {
        let name = &text[at + start.len() - "troupe_".len()..];
        let len = name.find(|c| !is_part(c)).unwrap_or(name.len());
        let is_closed = end == ' ' || name[len..].starts_with(end);
        // A prefix of names, as in a comment or a path, is none.
        if is_closed && !name[..len].ends_with('_') {
            found.insert(name[..len].to_owned());
        }
    }
    found
}

fn rules(ws: &Workspace) -> Result<()> {
    if which("promtool").is_none() {
        apt(&["prometheus"])?;
    }
    let dir = ws.root.join(OBSERVABILITY);
    let promtool = |words: &[&str]| quiet(Command::new("promtool").current_dir(&dir).args(words));
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"])?;
    promtool(&["check", "rules", "rules.yml"])?;
    promtool(&["test", "rules", "rules_test.yml"])?;
    // What the dashboard asks is judged as rules are.
    let dashboard = fs::read(dir.join("grafana-dashboard.json")).context("the dashboard")?;
    let asked = expressions(&serde_json::from_slice(&dashboard).context("the dashboard")?);
    ensure!(asked.len() > 10, "the dashboard asks for nothing");
    let as_rules: Vec<Value> = asked
        .iter()
        .enumerate()
        .map(|(number, asked)| {
            let expr = asked.replace("$__rate_interval", "5m").replace("$node", ".*");
            serde_json::json!({ "record": format!("dashboard:q{number}"), "expr": expr })
        })
        .collect();
    let rules = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": as_rules }] });
    let file = scratch(ws)?.join("dashboard-rules.yml");
    fs::write(&file, rules.to_string())?;
    promtool(&["check", "rules", &file.to_string_lossy()])
}

/// Every `expr` of a dashboard's targets.
fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.filter_map(|target| target["expr"].as_str().map(str::to_owned)).collect()
}

/// Units are judged as they are, but for the program, which this machine lacks.
fn units(ws: &Workspace) -> Result<()> {
    if which("systemd-analyze").is_none() {
        apt(&["systemd"])?;
    }
    let dir = scratch(ws)?.join("units");
    fs::create_dir_all(&dir)?;
    let mut files = Vec::new();
    for file in ws.files("deploy/systemd")?.iter().filter(|file| file.ends_with(".service")) {
        let mut text = fs::read_to_string(ws.root.join(file))?;
        for program in PROGRAMS {
            text =
                text.replace(&format!("ExecStart={program} "), &format!("ExecStart={STAND_IN} "));
        }
        ensure!(text.contains(STAND_IN), "{file}: starts none of {}", PROGRAMS.join(", "));
        let name = Path::new(file).file_name().context("a unit has a name")?;
        fs::write(dir.join(name), text)?;
        files.push(dir.join(name));
    }
    ensure!(files.len() >= 3, "units are missing");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).args(&files);
    let told = verify.output().context("systemd-analyze")?;
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    // It answers 0 to unknown settings, and tells them all the same.
    let ours = text.lines().filter(|line| line.contains("troupe")).collect::<Vec<_>>().join("\n");
    ensure!(told.status.success() && ours.is_empty(), "{text}");
    Ok(())
}

fn python(ws: &Workspace) -> Result<PathBuf> {
    Ok(python_tools(ws, "deploy", &ws.root.join("crates/xtask/tools/deploy.txt"))?.join("bin"))
}

fn containers(ws: &Workspace) -> Result<()> {
    let bin = python(ws)?;
    quiet(ws.command(bin.join("hadolint")).arg("deploy/docker/Dockerfile"))?;
    let mut schema = ws.command(bin.join("check-jsonschema"));
    schema.args(["--builtin-schema", "vendor.compose-spec", "deploy/docker/compose.yaml"]);
    quiet(&mut schema)?;
    let mut compose = ws.command("docker");
    if compose.args(["compose", "version"]).output().is_ok_and(|told| told.status.success()) {
        let file = "deploy/docker/compose.yaml";
        return quiet(ws.command("docker").args(["compose", "-f", file, "config", "--quiet"]));
    }
    step("there is no `docker compose` here: the file was compared with the published schema only");
    Ok(())
}

fn manifests(ws: &Workspace) -> Result<()> {
    let validate = python(ws)?.join("kubernetes-validate");
    let kustomization = "kustomization.yaml";
    let list = fs::read_to_string(ws.root.join("deploy/kubernetes").join(kustomization))?;
    let mut files = ws.files("deploy/kubernetes")?;
    files.retain(|file| file.ends_with(".yaml") && !file.ends_with(kustomization));
    for file in &files {
        let name = file.rsplit('/').next().unwrap_or_default();
        if !list.contains(&format!("- {name}\n")) {
            bail!("{kustomization} does not name {name}");
        }
    }
    ensure!(files.len() == list.matches("  - ").count(), "{kustomization} names what is not there");
    for version in KUBERNETES {
        let mut command = ws.command(&validate);
        quiet(command.args(["--strict", "--quiet", "-k", version]).args(&files))?;
    }
    Ok(())
}

fn scratch(ws: &Workspace) -> Result<PathBuf> {
    let dir = ws.target.join("deploy-check");
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_prefixes_are_not() {
        let source = "counter!(\"troupe_a_total\"); // troupe_b\n\"troupe_c_\", \"troupe_d-x\"";
        assert_eq!(words(source, "\"troupe_", '"'), ["troupe_a_total".to_owned()].into());
        let query = "sum(rate(troupe_a_total{x=\"y\"}[5m])) / troupe_e_bucket";
        let wanted = ["troupe_a_total", "troupe_e_bucket"].map(str::to_owned);
        assert_eq!(words(query, "troupe_", ' '), wanted.into());
    }

    #[test]
    fn what_a_dashboard_asks_is_found() {
        let dashboard = serde_json::json!({ "panels": [
            { "type": "row" }, { "targets": [{ "expr": "up" }, { "expr": "down" }] },
        ] });
        assert_eq!(expressions(&dashboard), ["up", "down"]);
    }
}
