//! Child processes: shown, bounded in time, never given our standard input.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, SyncSender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::counts::Counts;

/// How often a running child is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Lines of child output on their way to the terminal; a full queue stalls the child.
const LINES_MAX: usize = 1024;

/// One line about what happens next.
pub(crate) fn step(line: &str) {
    println!("==> {line}");
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs to the end with its output on our terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = shown(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("run `{name}`"))?;
    if !status.success() {
        bail!("`{name}` failed ({status})");
    }
    Ok(())
}

/// Runs to the end in silence; its output is shown only if it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    text(command).map(drop)
}

/// Runs to the end and returns its standard output, trimmed.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let name = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run `{name}`"))?;
    if !output.status.success() {
        print!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        bail!("`{name}` failed ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// How a watched child ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) success: bool,
    pub(crate) timed_out: bool,
    pub(crate) counts: Counts,
}

/// Runs to the end or to `limit`, shows each line and counts what test runners report.
///
/// At the limit the child and all its descendants are killed.
pub(crate) fn watch(command: &mut Command, limit: Duration) -> Result<Outcome> {
    let name = shown(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("run `{name}`"))?;
    let (lines, shown_lines) = mpsc::sync_channel::<String>(LINES_MAX);
    let out = child.stdout.take().context("standard output is piped")?;
    let err = child.stderr.take().context("standard error is piped")?;
    forward(out, lines.clone());
    forward(err, lines);
    let printer = thread::spawn(move || {
        let mut counts = Counts::default();
        for line in shown_lines {
            counts.read_line(&line);
            let mut stdout = io::stdout().lock();
            // A closed terminal must not stop the run.
            let _unread = writeln!(stdout, "{line}");
        }
        counts
    });
    let (success, timed_out) = wait(&mut child, limit)?;
    let counts = printer.join().map_err(|_| anyhow::anyhow!("the printer of `{name}` died"))?;
    Ok(Outcome { success, timed_out, counts })
}

fn forward(from: impl Read + Send + 'static, to: SyncSender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if to.send(line).is_err() {
                break;
            }
        }
    });
}

/// Returns (succeeded, ran out of time).
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<(bool, bool)> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("wait for a child")? {
            return Ok((status.success(), false));
        }
        if start.elapsed() > limit {
            kill_tree(child.id());
            child.wait().context("wait for a killed child")?;
            return Ok((false, true));
        }
        thread::sleep(POLL);
    }
}

/// Kills a process and everything it started, so that no pipe stays open.
pub(crate) fn kill_tree(pid: u32) {
    let mut doomed = vec![pid];
    let parents = parents();
    let mut next = 0;
    while let Some(&parent) = doomed.get(next) {
        doomed.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    let pids: Vec<String> = doomed.iter().map(u32::to_string).collect();
    // The shell's own kill: a minimal machine has no program of that name.
    let mut kill = Command::new("sh");
    kill.arg("-c").arg(format!("kill -KILL {}", pids.join(" "))).stderr(Stdio::null());
    // Some may have ended by themselves meanwhile: that is what we want.
    let _already_gone = kill.status();
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // "pid (name) state ppid ...": the name may hold blanks and brackets.
            let after = stat.rsplit_once(')')?.1;
            Some((pid, after.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect()
}

/// "1m05s", "4.2s".
pub(crate) fn took(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 60 {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1}s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_child_is_watched_and_counted() {
        let outcome =
            watch(&mut shell("echo '3 passed, 1 failed' >&2; exit 1"), Duration::from_secs(20))
                .unwrap();
        assert!(!outcome.success && !outcome.timed_out);
        assert_eq!((outcome.counts.passed, outcome.counts.failed), (3, 1));
    }

    #[test]
    fn a_hanging_tree_is_killed_at_its_limit() {
        let start = Instant::now();
        let hanging = "(while :; do read x </dev/zero; done) & wait";
        let outcome = watch(&mut shell(hanging), Duration::from_millis(300)).unwrap();
        assert!(outcome.timed_out && !outcome.success);
        assert!(start.elapsed() < Duration::from_secs(20), "the grandchild held the pipe");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(took(Duration::from_millis(4_210)), "4.2s");
        assert_eq!(took(Duration::from_secs(65)), "1m05s");
    }
}
