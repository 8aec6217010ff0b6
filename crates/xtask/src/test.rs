//! `cargo xtask test`: four suites on real parts, one table at the end.
//!
//! Suites find what this program prepared through the environment: `TROUPE_BIN`,
//! `TROUPE_NODE`, `TROUPE_PYTHON`, `TROUPE_CHROMIUM`, the agent programs (`TROUPE_TEST_RUNTIMES`),
//! and for the Rust suite `TROUPE_OTEL_COLLECTOR`, `TROUPE_TEST_CQL`, `TROUPE_TEST_REDIS`,
//! `TROUPE_TEST_DOCKER` (a Docker engine) with `TROUPE_TEST_IMAGE`.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{
    console,
    counts::Counts,
    image,
    run::{Outcome, run, step, took, watch},
    runtimes,
    services::ForTests,
    tools::{self, Node},
    workspace::{Workspace, in_ci},
};

/// A project of its own with `package.json` and `requirements.txt`, both pinned.
const CLIENTS: &str = "crates/gateway/tests/clients";
/// Tests at once, at least: those with whole nodes wait more than they work (nextest.toml).
const THREADS_MIN: usize = 3;
const RUST_LIMIT: Duration = Duration::from_secs(45 * 60);
const SUITE_LIMIT: Duration = Duration::from_secs(20 * 60);
/// Longest time for tests in their long form.
const LONG_LIMIT: Duration = Duration::from_secs(12 * 3600);
/// What makes tests long, unless the caller's environment says otherwise.
const LONG: [(&str, &str); 7] = [
    ("TROUPE_EDGE_CUTS", "100000"),
    ("TROUPE_KILL_ROUNDS", "200"),
    ("TROUPE_MODEL_SEEDS", "20000"),
    ("TROUPE_POWER_ROUNDS", "20"),
    ("TROUPE_TEST_AWAY_SECONDS", "600"),
    ("TROUPE_TEST_CUTS", "500"),
    ("TROUPE_TEST_NODE_LOST", "300"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// All Rust tests and doctests
    Rust,
    /// The console's unit tests
    Console,
    /// Socket.IO clients from npm and PyPI against a real node
    Clients,
    /// The console in Chromium against a real node
    Browser,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "rust",
            Self::Console => "console",
            Self::Clients => "clients",
            Self::Browser => "browser",
        })
    }
}

impl Suite {
    /// The directory whose `package.json` makes the suite; Rust is always here.
    fn dir(self) -> Option<&'static str> {
        match self {
            Self::Rust => None,
            Self::Console | Self::Browser => Some(console::WEB),
            Self::Clients => Some(CLIENTS),
        }
    }

    fn is_here(self, ws: &Workspace) -> bool {
        self.dir().is_none_or(|dir| ws.root.join(dir).join("package.json").is_file())
    }
}

/// How one suite ended.
#[derive(Debug)]
struct SuiteReport {
    suite: Suite,
    /// Why it failed, or `None`.
    trouble: Option<String>,
    counts: Counts,
    time: Duration,
}

/// How all chosen suites ended.
#[derive(Debug)]
pub(crate) struct Report {
    suites: Vec<SuiteReport>,
}

impl Report {
    pub(crate) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for suite in &self.suites {
            sum.add(suite.counts);
            // A suite can fail without a failed test: it did not build, or ran none.
            sum.failed += u64::from(suite.trouble.is_some() && suite.counts.failed == 0);
        }
        sum
    }

    pub(crate) fn verdict(&self) -> Result<()> {
        let failed: Vec<String> = self
            .suites
            .iter()
            .filter(|suite| suite.trouble.is_some())
            .map(|suite| suite.suite.to_string())
            .collect();
        if failed.is_empty() { Ok(()) } else { bail!("tests failed: {}", failed.join(", ")) }
    }

    fn print(&self) {
        println!("\n{:<9} {:>7} {:>7} {:>8} {:>8}", "suite", "passed", "failed", "skipped", "time");
        for SuiteReport { suite, trouble, counts, time } in &self.suites {
            let Counts { passed, failed, skipped } = counts;
            let note = trouble.as_deref().unwrap_or_default();
            println!("{suite:<9} {passed:>7} {failed:>7} {skipped:>8} {:>8}  {note}", took(*time));
        }
    }
}

/// The verb: runs, prints, and fails if anything failed.
pub(crate) fn verb(ws: &Workspace, filter: Option<&str>, suites: &[Suite]) -> Result<()> {
    let report = run_all(ws, filter, suites)?;
    println!("{}", report.counts().closing_line());
    report.verdict()
}

/// The long form of some Rust tests; they say what they do while they run.
pub(crate) fn long(ws: &Workspace, filter: &str) -> Result<()> {
    let mut kit = Kit::prepare(ws, &[Suite::Rust])?;
    let services = kit.add_services(ws, &[Suite::Rust])?;
    let nextest = tools::cargo_tool(ws, "cargo-nextest")?;
    let mut test = ws.command(nextest);
    test.args(["nextest", "run", "--workspace", "--profile", "long", "--hide-progress-bar"]);
    for (name, value) in LONG {
        let value = std::env::var_os(name).unwrap_or_else(|| value.into());
        step(&format!("{name}={}", value.display()));
        test.env(name, value);
    }
    let outcome = watch(kit.with_env(test.arg(filter)), LONG_LIMIT)?;
    drop(services);
    println!("{}", outcome.counts.closing_line());
    match trouble(&outcome, None) {
        Some(trouble) => bail!("the long form of `{filter}` {trouble}"),
        None => Ok(()),
    }
}

/// Runs the chosen suites, all of them if none is chosen. A filter means Rust alone.
pub(crate) fn run_all(ws: &Workspace, filter: Option<&str>, chosen: &[Suite]) -> Result<Report> {
    let all = Suite::value_variants();
    let chosen = match (chosen.is_empty(), filter) {
        (false, Some(_)) if chosen != [Suite::Rust] => bail!("a filter goes with Rust tests only"),
        (false, _) => chosen,
        (true, Some(_)) => &[Suite::Rust],
        (true, None) => all,
    };
    let mut kit = Kit::prepare(ws, chosen)?;
    // They end with this function, however it ends.
    let _services = kit.add_services(ws, chosen)?;
    let mut suites = Vec::new();
    for &suite in chosen {
        if !suite.is_here(ws) {
            step(&format!("{suite}: not in this tree"));
            continue;
        }
        println!("\n===== test: {suite} =====");
        let start = Instant::now();
        let (counts, trouble) = match kit.run(ws, suite, filter) {
            Ok(outcome) => (outcome.counts, trouble(&outcome, filter)),
            Err(error) => (Counts::default(), Some(format!("{error:#}"))),
        };
        suites.push(SuiteReport { suite, trouble, counts, time: start.elapsed() });
    }
    let report = Report { suites };
    report.print();
    Ok(report)
}

fn trouble(outcome: &Outcome, filter: Option<&str>) -> Option<String> {
    match outcome {
        Outcome { timed_out: true, .. } => Some("ran out of time".to_owned()),
        Outcome { success: false, .. } => Some("failed".to_owned()),
        Outcome { counts, .. } if counts.passed == 0 && filter.is_none() => {
            Some("ran no test".to_owned())
        }
        _ => None,
    }
}

/// Accepts what snapshots changed to. Golden files of records are not accepted by anything:
/// a new form is a new version with a file of its own.
pub(crate) fn bless(ws: &Workspace, filter: Option<&str>) -> Result<()> {
    let mut test = ws.cargo();
    test.args(["test", "--workspace", "--no-fail-fast"]).args(filter);
    test.env("INSTA_UPDATE", "always").env("INSTA_FORCE_PASS", "1");
    run(&mut test)?;
    step("accepted; now read `git diff` as a reviewer would");
    run(ws.command("git").args(["--no-pager", "diff", "--stat"]))
}

/// What the suites need besides cargo.
#[derive(Debug)]
struct Kit {
    node: Option<Node>,
    env: Vec<(&'static str, PathBuf)>,
}

impl Kit {
    /// Installs and builds; a tool that cannot be had fails the suites that need it.
    fn prepare(ws: &Workspace, chosen: &[Suite]) -> Result<Self> {
        tools::ensure_c_compiler()?;
        let wants = |suite: Suite| chosen.contains(&suite) && suite.is_here(ws);
        let against_a_node = wants(Suite::Clients) || wants(Suite::Browser);
        let mut kit = Self { node: None, env: Vec::new() };
        if against_a_node || wants(Suite::Console) {
            kit.node = told("Node.js", tools::node(ws));
        }
        if let Some(node) = &kit.node {
            kit.env.push(("TROUPE_NODE", node.program.clone()));
            if wants(Suite::Browser) {
                told("the console", console::build(ws, node));
            }
        }
        if wants(Suite::Rust)
            && let Some(collector) = told("the collector", tools::otel_collector(ws))
        {
            kit.env.push(("TROUPE_OTEL_COLLECTOR", collector));
        }
        if wants(Suite::Browser)
            && let Some(browser) = told("Chromium", tools::chromium())
        {
            kit.env.push(("TROUPE_CHROMIUM", browser));
        }
        if wants(Suite::Clients) {
            let requirements = ws.root.join(CLIENTS).join("requirements.txt");
            let made = tools::python_tools(ws, "clients", &requirements);
            if let Some(venv) = told("the Python client", made) {
                kit.env.push(("TROUPE_PYTHON", venv.join("bin/python")));
            }
        }
        if against_a_node {
            step("building troupe");
            let mut build = ws.cargo();
            // With the Rust suite to come, build what it needs: the same features, one time.
            build.args(["build", "--quiet", "--workspace", "--bins"]);
            if wants(Suite::Rust) {
                build.arg("--tests");
            }
            if told("troupe", run(&mut build)).is_some() {
                kit.env.push(("TROUPE_BIN", ws.binary("debug")));
            }
        }
        Ok(kit)
    }

    /// Starts the servers that the suites need; they end when what is returned is dropped.
    fn add_services<'a>(
        &mut self,
        ws: &'a Workspace,
        chosen: &[Suite],
    ) -> Result<Option<ForTests<'a>>> {
        let services = chosen.contains(&Suite::Rust).then(|| ForTests::start(ws)).transpose()?;
        for (variable, address) in services.iter().flat_map(|services| &services.env) {
            self.env.push((variable, PathBuf::from(address)));
        }
        if chosen.contains(&Suite::Rust)
            && let Err(error) = tools::for_faults()
        {
            if in_ci() {
                return Err(error.context("what faults are made with is needed in CI"));
            }
            step(&format!("tests of some faults are left out: {error:#}"));
        }
        if [Suite::Rust, Suite::Browser].iter().any(|suite| chosen.contains(suite)) {
            self.env.extend(runtimes::for_tests(ws)?);
        }
        if let Some(engine) = services.as_ref().and_then(ForTests::docker) {
            match image::base(ws, &engine) {
                Ok(base) => self.env.push((image::VARIABLE, PathBuf::from(base))),
                Err(error) if in_ci() => return Err(error.context("the image is needed in CI")),
                Err(error) => step(&format!("containers are left out: {error:#}")),
            }
        }
        Ok(services)
    }

    fn run(&self, ws: &Workspace, suite: Suite, filter: Option<&str>) -> Result<Outcome> {
        let script = match suite {
            Suite::Rust => return self.rust(ws, filter),
            Suite::Console => "test",
            Suite::Clients => return self.clients(ws),
            Suite::Browser => {
                self.require(&["TROUPE_BIN", "TROUPE_CHROMIUM"])?;
                "e2e"
            }
        };
        let dir = suite.dir().context("a suite of npm has a directory")?;
        let node = self.node.as_ref().context("there is no Node.js")?;
        tools::npm_ci(ws, node, dir)?;
        self.npm(node, &ws.root.join(dir), script)
    }

    /// The clients are driven by tests of the node.
    fn clients(&self, ws: &Workspace) -> Result<Outcome> {
        self.require(&["TROUPE_NODE", "TROUPE_PYTHON"])?;
        let node = self.node.as_ref().context("there is no Node.js")?;
        tools::npm_ci(ws, node, CLIENTS)?;
        let mut test = ws.cargo();
        // Of the whole workspace: another selection has other features, and all is built again.
        test.args(["test", "--workspace", "--test", "it", "--", "clients::"]);
        watch(self.with_env(&mut test), SUITE_LIMIT)
    }

    fn npm(&self, node: &Node, dir: &Path, script: &str) -> Result<Outcome> {
        let mut npm = node.npm(dir);
        watch(self.with_env(npm.args(["run", script])), SUITE_LIMIT)
    }

    /// nextest if it can be had (a test of its own process, hung tests are ended), else
    /// cargo's own runner; doctests with the latter, if there are any: their libraries are built
    /// with other features, which takes minutes.
    fn rust(&self, ws: &Workspace, filter: Option<&str>) -> Result<Outcome> {
        let mut main = match told("nextest", tools::cargo_tool(ws, "cargo-nextest")) {
            Some(nextest) => {
                let mut command = ws.command(nextest);
                command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
                command.args(["--no-tests", "pass", "--hide-progress-bar"]);
                command.args(["--test-threads", &test_threads().to_string()]);
                command
            }
            None => {
                let mut command = ws.cargo();
                command.args(["test", "--workspace", "--all-targets", "--no-fail-fast"]);
                command
            }
        };
        let mut outcome = watch(self.with_env(main.args(filter)), RUST_LIMIT)?;
        if !has_doctests(ws)? {
            return Ok(outcome);
        }
        let mut doc = ws.cargo();
        doc.args(["test", "--quiet", "--workspace", "--doc", "--no-fail-fast"]).args(filter);
        let doc = watch(self.with_env(&mut doc), RUST_LIMIT)?;
        outcome.success &= doc.success;
        outcome.timed_out |= doc.timed_out;
        outcome.counts.add(doc.counts);
        Ok(outcome)
    }

    fn require(&self, names: &[&str]) -> Result<()> {
        for name in names {
            if !self.env.iter().any(|(known, _)| known == name) {
                bail!("{name} could not be prepared, see above");
            }
        }
        Ok(())
    }

    fn with_env<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.env.iter().map(|(name, value)| (name, value)))
    }
}

fn test_threads() -> usize {
    std::thread::available_parallelism().map_or(THREADS_MIN, |n| n.get().max(THREADS_MIN))
}

fn has_doctests(ws: &Workspace) -> Result<bool> {
    for file in ws.files(".")?.iter().filter(|file| file.ends_with(".rs")) {
        let source = fs::read_to_string(ws.root.join(file)).with_context(|| file.clone())?;
        if is_with_doctest(&source) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a doc comment holds a block of code that is not marked as something else.
fn is_with_doctest(source: &str) -> bool {
    let mut in_block = false;
    for line in source.lines().map(str::trim_start) {
        let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        let Some(fence) = doc.and_then(|doc| doc.trim().strip_prefix("```")) else { continue };
        in_block = !in_block;
        if in_block && !["text", "toml", "sh", "json", "yaml"].contains(&fence) {
            return true;
        }
    }
    false
}

/// Says what could not be had and goes on; the suites that need it fail by themselves.
fn told<T>(what: &str, made: Result<T>) -> Option<T> {
    made.inspect_err(|error| step(&format!("{what} could not be prepared: {error:#}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doctest_is_a_block_of_code_and_no_drawing() {
        let drawing = "//! Frames.\n//!\n//! ```text\n//! a -> b\n//! ```\nfn f() {}\n";
        assert!(!is_with_doctest(drawing));
        for fence in ["```", "```rust", "```no_run"] {
            let code = format!("{drawing}\n    /// {fence}\n    /// f();\n    /// ```\n");
            assert!(is_with_doctest(&code), "{fence}");
        }
    }

    fn outcome(success: bool, passed: u64) -> Outcome {
        Outcome { success, timed_out: false, counts: Counts { passed, ..Counts::default() } }
    }

    #[test]
    fn a_run_without_tests_is_trouble() {
        assert_eq!(trouble(&outcome(true, 0), None).as_deref(), Some("ran no test"));
        assert_eq!(trouble(&outcome(true, 0), Some("journal")), None);
        assert_eq!(trouble(&outcome(true, 3), None), None);
        assert_eq!(trouble(&outcome(false, 3), None).as_deref(), Some("failed"));
    }

    #[test]
    fn a_suite_that_did_not_build_counts_as_a_failure() {
        let broken = SuiteReport {
            suite: Suite::Rust,
            trouble: Some("failed".to_owned()),
            counts: Counts::default(),
            time: Duration::ZERO,
        };
        let report = Report { suites: vec![broken] };
        assert_eq!(report.counts().closing_line(), "0 passed, 1 failed");
        assert!(report.verdict().is_err());
    }
}
