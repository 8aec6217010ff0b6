//! What CI runs. Every stage runs even if an earlier one failed: one run tells all.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    chaos, counts::Counts, deny, deploy_check, fuzz, lint, run::took, test, tidy,
    workspace::Workspace,
};

/// Seconds for each fuzz target; they run side by side.
const FUZZ_SECONDS: u32 = 60;

pub(crate) fn ci(ws: &Workspace) -> Result<()> {
    let mut stages = Stages::default();
    stages.run("tidy", || tidy::tidy(ws));
    stages.run("deny", || deny::deny(ws));
    stages.run("deploy", || deploy_check::deploy_check(ws));
    stages.run("lint", || lint::lint(ws));
    stages.run("fuzz", || fuzz::fuzz(ws, None, FUZZ_SECONDS));
    let mut counts = Counts::default();
    stages.run("test", || {
        let report = test::run_all(ws, None, &[])?;
        counts = report.counts();
        report.verdict()
    });
    stages.run("chaos", || chaos::for_ci(ws));
    let failed = stages.close();
    // A stage that is not a test run counts as one failure, so that the line is honest.
    counts.failed += failed.iter().filter(|name| **name != "test").count() as u64;
    if failed.contains(&"test") && counts.failed == 0 {
        counts.failed = 1;
    }
    println!("{}", counts.closing_line());
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Stages {
    done: Vec<(&'static str, bool, Duration)>,
}

impl Stages {
    fn run(&mut self, name: &'static str, stage: impl FnOnce() -> Result<()>) {
        println!("\n===== {name} =====");
        let start = Instant::now();
        let outcome = stage();
        if let Err(error) = &outcome {
            println!("{name} failed: {error:#}");
        }
        self.done.push((name, outcome.is_ok(), start.elapsed()));
    }

    /// Prints the table and returns the stages that failed.
    fn close(self) -> Vec<&'static str> {
        println!("\n===== stages =====");
        for (name, ok, time) in &self.done {
            println!("{name:<8} {:<7} {}", if *ok { "ok" } else { "FAILED" }, took(*time));
        }
        let total = self.done.iter().map(|(.., time)| *time).sum();
        println!("{:<8} {:<7} {}", "total", "", took(total));
        self.done.iter().filter(|(_, ok, _)| !ok).map(|(name, ..)| *name).collect()
    }
}
