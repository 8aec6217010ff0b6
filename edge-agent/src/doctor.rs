//! `doctor`: what is wrong, and the way out.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::time::timeout;
use troupe_edge::{EdgeStatus, RunsStatus, identity::IdentityStore, tools};
use troupe_link::{
    LinkOptions,
    device::{Dialler, EdgeDialler},
};
use troupe_types::SystemClock;

use crate::{Global, config::Home, control, show::say};

/// How long the way to the cluster is tried.
const DIAL_MAX: Duration = Duration::from_secs(6);
/// Less free disk than this is a fault.
const DISK_MIN: u64 = 1024 * 1024 * 1024;
/// The carrier that is not the first choice, and what is said of it.
const WEBSOCKET: &str = "websocket";
const NO_UDP: &str = " (nothing answers over UDP; let it through to that port, it is faster)";
/// Clocks that differ more make certificates fail.
const CLOCK_MAX_MS: i64 = 10 * 60 * 1_000;

struct Report {
    lines: Vec<String>,
    findings: Vec<Value>,
    faults: usize,
}

impl Report {
    fn note(&mut self, what: &str, ok: bool, text: impl Into<String>) {
        let text = text.into();
        self.lines.push(format!("{} {what:8} {text}", if ok { "ok   " } else { "FAULT" }));
        self.findings.push(json!({"what": what, "ok": ok, "text": text}));
        self.faults += usize::from(!ok);
    }
}

fn free(dir: &Path) -> Option<u64> {
    let there = dir.ancestors().find(|dir| dir.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

pub(crate) async fn doctor(home: &Home, global: &Global) -> Result<()> {
    let mut report = Report { lines: Vec::new(), findings: Vec::new(), faults: 0 };
    match home.read_policy() {
        Ok((_, true)) => report.note("policy", true, home.policy.display().to_string()),
        Ok((_, false)) => report.note("policy", true, "no file: the defaults count"),
        Err(error) => report.note("policy", false, format!("{error:#}")),
    }
    if let Err(error) = home.settings() {
        report.note("settings", false, format!("{error:#}"));
    }
    match free(&home.dir) {
        Some(bytes) => {
            let text = format!("{} MiB free in {}", bytes / (1024 * 1024), home.dir.display());
            report.note("disk", bytes >= DISK_MIN, text);
        }
        None => report.note("disk", false, format!("{} cannot be looked at", home.dir.display())),
    }
    let running = control::ask(home).await.ok();
    match home.facts() {
        Err(error) => report.note("device", false, error.to_string()),
        Ok(facts) => {
            let text = format!("{} ({}) of {}", facts.name, facts.device, facts.cluster);
            report.note("device", true, text);
            certificate(home, &mut report);
            match &running {
                Some(status) => from_agent(status, &mut report),
                None => path(home, facts.addresses, &mut report).await,
            }
            if let Ok(options) = home.options_to_look(facts.device) {
                let found = tools::find_tools(&options.engines).await;
                let runs = ["claude", "codex", "agno"];
                let any = found.iter().any(|tool| runs.contains(&tool.name.as_str()));
                let text = tools::tools_line(&found);
                let way_out = if any { "" } else { "; install claude or codex to run agents" };
                report.note("tools", any, format!("{text}{way_out}"));
            }
            runs(running.as_deref().and_then(|status| status.runs.as_ref()), &mut report);
        }
    }
    let value = json!({"faults": report.faults, "findings": report.findings});
    say(global.output, &report.lines.join("\n"), &value)?;
    if report.faults > 0 {
        bail!("{} faults", report.faults);
    }
    Ok(())
}

/// As the agent says: this process is in another group, with other rights. Work goes on without
/// bounds, so that is no fault.
fn runs(runs: Option<&RunsStatus>, report: &mut Report) {
    let Some(runs) = runs else {
        return report.note("runs", true, "how they are held is seen when the agent runs");
    };
    report.note("runs", true, runs.held_by.as_str());
    let bounds = match &runs.no_bounds {
        None => "processes and memory of a run have bounds".to_owned(),
        Some(why) => format!(
            "off: a run may take all processes and memory ({why}); run the agent as a service of \
             its own with Delegate=yes (troupe-edge service install)"
        ),
    };
    report.note("bounds", true, bounds);
}

fn certificate(home: &Home, report: &mut Report) {
    let valid = home.identity().load().map_err(|error| error.to_string());
    let valid = valid.and_then(|identity| identity.valid().map_err(|error| error.to_string()));
    let now = SystemClock::shared().now();
    match valid {
        Ok((from, until)) if from <= now && now < until => {
            let days = until.since(now).as_secs() / 86_400;
            report.note("cert", true, format!("good for {days} days, until {until}"));
        }
        Ok((from, until)) => {
            let text = format!(
                "good from {from} until {until}, and it is {now}: set the clock, or join anew"
            );
            report.note("cert", false, text);
        }
        Err(error) => report.note("cert", false, error),
    }
}

fn from_agent(status: &EdgeStatus, report: &mut Report) {
    let link = &status.link;
    let up = link.state == "connected";
    let carrier = link.carrier.as_deref().unwrap_or("none");
    let rtt = link.rtt_ms.map(|rtt| format!(", {rtt:.1} ms")).unwrap_or_default();
    let trouble = link.trouble.as_deref().map(|t| format!(": {t}")).unwrap_or_default();
    let slow = if carrier == WEBSOCKET { NO_UDP } else { "" };
    let text = format!("the agent is {} over {carrier}{rtt}{slow}{trouble}", link.state);
    report.note("path", up, text);
    if let Some(ahead) = link.clock_ahead_ms {
        let text = format!("the cluster's clock is {ahead} ms ahead of this one");
        report.note("clock", ahead.abs() < CLOCK_MAX_MS, text);
    }
}

/// Without an agent: whether a connection can be made. No session: it would look like one.
async fn path(home: &Home, addresses: Vec<String>, report: &mut Report) {
    let to = addresses.join(", ");
    let dialler = home.identity().load().map_err(|error| error.to_string());
    let dialler = dialler.and_then(|identity| {
        let options = LinkOptions::default();
        EdgeDialler::new(addresses, &identity, options).map_err(|error| error.to_string())
    });
    let dialler = match dialler {
        Ok(dialler) => dialler,
        Err(error) => return report.note("path", false, error),
    };
    match timeout(DIAL_MAX, dialler.dial()).await {
        Ok(Ok(connection)) => {
            let carrier = connection.carrier().as_str();
            let rtt =
                connection.rtt().map(|rtt| format!(", {:.1} ms", rtt.as_secs_f64() * 1_000.0));
            let rtt = rtt.unwrap_or_default();
            let slow = if carrier == WEBSOCKET { NO_UDP } else { "" };
            let text = format!("{carrier} to {to} works{rtt}{slow}; no agent runs");
            report.note("path", true, text);
            connection.close("doctor");
        }
        Ok(Err(error)) => {
            report.note("path", false, format!("{to}: {}", troupe_telemetry::error_chain(&error)));
        }
        Err(_) => {
            let text = format!("{to}: no answer; are UDP or TCP let through to that port?");
            report.note("path", false, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_agent() {
        let said = |no_bounds: Option<&str>| {
            let mut report = Report { lines: Vec::new(), findings: Vec::new(), faults: 0 };
            let (held_by, no_bounds) =
                ("cgroups (v2 kill)".to_owned(), no_bounds.map(str::to_owned));
            runs(Some(&RunsStatus { held_by, no_bounds }), &mut report);
            assert_eq!(report.faults, 0);
            report.lines.join("\n")
        };
        assert!(said(None).contains("have bounds"), "{}", said(None));
        let off = said(Some("no right"));
        assert!(off.contains("off:") && off.contains("(no right)"), "{off}");
    }
}
