//! A look at `/proc`. Where there is none, nothing is found.

use std::fs;

/// What is known of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// Clock ticks since the machine started.
    pub(super) started: u64,
    /// No zombie.
    pub(crate) alive: bool,
}

/// All processes that can be seen.
pub(crate) fn all() -> Vec<Process> {
    let Ok(dir) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = dir.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// When a process started.
pub(super) fn started(pid: i32) -> Option<u64> {
    Some(parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.started)
}

/// The process that it was started by, or was given to.
pub(super) fn parent(pid: i32) -> Option<i32> {
    Some(parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.parent)
}

/// The name in parentheses may hold anything, parentheses and spaces too.
fn parse(stat: &str) -> Option<Process> {
    let pid = stat.split_once(' ')?.0.parse().ok()?;
    let rest = &stat[stat.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
    Some(Process {
        pid,
        alive: !matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// The value of a variable that the process was started with.
pub(crate) fn marker(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_no_trouble() {
        let stat = "42 (a) b) S 1 42 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1";
        let process = parse(stat).unwrap();
        assert_eq!((process.pid, process.parent, process.group, process.session), (42, 1, 42, 40));
        assert_eq!((process.started, process.alive), (777, true));
        assert_eq!(parse(""), None);
        assert_eq!(parse("1 (x)"), None);
    }

    #[test]
    fn this_process_is_found() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(all().iter().any(|process| process.pid == me && process.alive));
    }
}
