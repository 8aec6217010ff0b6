//! Fuzz targets: every `crates/fuzz/fuzz_targets/<name>.rs`, with libFuzzer.
//!
//! Built by the pinned compiler with the coverage passes switched on, so that neither a
//! nightly toolchain nor a cargo plugin is needed. No sanitizer: our code is safe Rust, what
//! is looked for are panics, overflows, hangs and memory without bound.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    run::{run, step, text, wait},
    tools,
    workspace::Workspace,
};

const TARGETS: &str = "crates/fuzz/fuzz_targets";
/// Counters at every edge and traced comparisons: what libFuzzer steers by.
const COVERAGE: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Longest input, in bytes.
const INPUT_BYTES_MAX: u32 = 32 * 1024;
/// An input that takes longer is a finding.
const INPUT_SECONDS_MAX: u32 = 5;
const MEMORY_MIB_MAX: u32 = 2048;
/// For reading the corpus and for the last input, beyond the time that was asked for.
const GRACE: Duration = Duration::from_secs(60);

/// Runs the targets side by side, `seconds` each. A finding is kept and fails the run.
pub(crate) fn fuzz(ws: &Workspace, only: Option<&str>, seconds: u32) -> Result<()> {
    let all = targets(&ws.root)?;
    let chosen: Vec<&String> =
        all.iter().filter(|name| only.is_none_or(|only| only == name.as_str())).collect();
    if chosen.is_empty() {
        bail!("no such fuzz target; there are: {}", all.join(", "));
    }
    let bin = build(ws, &chosen)?;
    let dir = ws.target.join("fuzz-runs");
    // Without counters: a program like any other.
    run(ws
        .cargo()
        .args(["run", "--quiet", "--package", "troupe-fuzz", "--bin", "fuzz-seeds", "--"])
        .arg(&dir))?;
    let mut running = Vec::new();
    for name in chosen {
        step(&format!("fuzzing {name} for {seconds} s"));
        let dir = dir.join(name);
        let child = start(ws, &bin.join(format!("fuzz-{name}")), &dir, seconds)?;
        running.push((name, dir, child));
    }
    let mut failed = Vec::new();
    for (name, dir, mut child) in running {
        let limit = Duration::from_secs(seconds.into()) + GRACE;
        let (ok, late) = wait(&mut child, limit)?;
        let log = fs::read_to_string(dir.join("log")).context("read the log of a target")?;
        if ok {
            println!("{name}: {}", summary(&log));
            continue;
        }
        let tail: Vec<&str> = log.lines().rev().take(40).collect();
        tail.iter().rev().for_each(|line| println!("{line}"));
        let why = if late { "it hung" } else { "it failed" };
        println!("{name}: {why}; the input and the whole log are in {}", dir.display());
        println!("  again: {} INPUT", bin.join(format!("fuzz-{name}")).display());
        failed.push(name.as_str());
    }
    if !failed.is_empty() {
        bail!("fuzzing found something: {}", failed.join(", "));
    }
    Ok(())
}

/// Builds the targets; returns the directory of the programs.
fn build(ws: &Workspace, names: &[&String]) -> Result<PathBuf> {
    tools::ensure_c_compiler()?;
    let rustc = text(ws.command("rustc").arg("-vV"))?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc names its host")?;
    step("building the fuzz targets");
    // With `--target`, build scripts and macros stay without counters.
    let args = ["build", "--quiet", "--package", "troupe-fuzz", "--features", "libfuzzer"];
    let mut cargo = ws.cargo();
    cargo.args(args).args(["--profile", "fuzz", "--target", host]);
    cargo.args(names.iter().flat_map(|name| ["--bin".to_owned(), format!("fuzz-{name}")]));
    run(cargo.env("RUSTFLAGS", COVERAGE).env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    Ok(ws.target.join(host).join("fuzz"))
}

/// One target with a corpus that grows from run to run below the build directory.
fn start(ws: &Workspace, program: &Path, dir: &Path, seconds: u32) -> Result<Child> {
    let corpus = dir.join("corpus");
    fs::create_dir_all(&corpus).context("make the corpus")?;
    let log = File::create(dir.join("log")).context("make the log")?;
    let mut target = ws.command(program);
    target.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={INPUT_BYTES_MAX}"));
    target.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    target.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    target.arg(format!("-dict={}", dir.join("words").display()));
    target.arg(format!("-artifact_prefix={}/found-", dir.display()));
    target.arg("-print_final_stats=1").arg(&corpus).arg(dir.join("seeds"));
    let err = log.try_clone().context("share the log")?;
    target.stdin(Stdio::null()).stdout(log).stderr(err);
    target.spawn().with_context(|| format!("start {}", program.display()))
}

/// What libFuzzer says at the end, in a line.
fn summary(log: &str) -> String {
    let stat = |key: &str| {
        log.lines().find_map(|line| line.strip_prefix(key)).map_or("?", str::trim).to_owned()
    };
    let runs = stat("stat::number_of_executed_units:");
    let new = stat("stat::new_units_added:");
    let memory = stat("stat::peak_rss_mb:");
    format!("{runs} inputs, {new} of them new paths, at most {memory} MiB, nothing found")
}

fn targets(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join(TARGETS)).with_context(|| format!("list {TARGETS}"))? {
        let path = entry.with_context(|| format!("list {TARGETS}"))?.path();
        if path.extension().is_some_and(|ext| ext == "rs")
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_target_are_read() {
        let log = "#5 DONE\nstat::number_of_executed_units: 50231\n\
            stat::new_units_added:          12\nstat::peak_rss_mb:              68\n";
        let want = "50231 inputs, 12 of them new paths, at most 68 MiB, nothing found";
        assert_eq!(summary(log), want);
        assert!(summary("").starts_with("? inputs"));
    }
}
