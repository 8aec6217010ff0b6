//! The launcher: starts the node, starts it again after a crash, and ends the lease of one that
//! does not come back.
//!
//! A node that comes back takes its name's lease anew, which ends the old one: that is the
//! quickest fail-over there is. Only if it goes down again soon is its lease ended by hand.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use troupe_types::Uuid;

use super::{LEASE_LOST, RunArgs};
use crate::process::stop_signal;

/// A node that lived for so long was well: it is started again at once.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// First pause before one is started again that was not.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Starts that the next one is told of.
const STARTS_KEPT: usize = 8;
/// Time to end a lease.
const RETIRE_MAX: Duration = Duration::from_secs(20);

/// Runs until the node has left; answers its exit code.
pub(super) async fn run(args: &RunArgs) -> Result<u8> {
    let mut stop = Box::pin(stop_signal());
    let mut pause = PAUSE_MIN;
    let mut first = true;
    let mut after = Vec::new();
    loop {
        let boot = Uuid::new_v4();
        let begun = Instant::now();
        let mut child = start(args, boot, &after)?;
        let ended = tokio::select! {
            ended = child.wait() => ended.context("the node's process")?,
            stopped = &mut stop => {
                stopped?;
                return leave(&mut child).await;
            }
        };
        let code = ended.code().and_then(|code| u8::try_from(code).ok());
        match code {
            Some(0) => return Ok(0),
            // It could not even begin: its own message says why.
            Some(1) if first && begun.elapsed() < WELL_AFTER => return Ok(1),
            _ => {}
        }
        first = false;
        // From then on: what ends while it waits for the name has not taken it.
        if code == Some(LEASE_LOST) || !after.is_empty() {
            after.push(boot);
            after.drain(..after.len().saturating_sub(STARTS_KEPT));
        }
        tell(&ended);
        let was_well = begun.elapsed() >= WELL_AFTER || code == Some(LEASE_LOST);
        if was_well {
            pause = PAUSE_MIN;
            continue;
        }
        retire(args, boot).await;
        tokio::select! {
            () = sleep(pause) => {}
            stopped = &mut stop => {
                stopped?;
                return Ok(0);
            }
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[expect(clippy::print_stderr, reason = "the launcher has no log of its own")]
fn tell(ended: &ExitStatus) {
    eprintln!("troupe node: the process ended ({ended}), it is started again");
}

fn command() -> Result<Command> {
    let program = std::env::current_exe().context("this program")?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// `after`: the starts since one lost its lease, maybe to another process of its name.
fn start(args: &RunArgs, boot: Uuid, after: &[Uuid]) -> Result<Child> {
    let mut command = command()?;
    command.arg("node").args(args.as_words()).arg("--launched").arg(boot.to_string());
    for after in after {
        command.arg("--after").arg(after.to_string());
    }
    command.spawn().context("the node does not start")
}

/// Passes the signal on, and waits for as long as the node takes.
async fn leave(child: &mut Child) -> Result<u8> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // One that has just ended needs no signal.
        let _ = kill_process(pid, Signal::TERM);
    }
    let ended = child.wait().await.context("the node's process")?;
    Ok(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Best effort: without it the others wait until the lease has expired.
async fn retire(args: &RunArgs, boot: Uuid) {
    let Ok(mut command) = command() else { return };
    command.arg("node").arg("retire").arg("--boot").arg(boot.to_string()).args(args.as_words());
    if let Ok(mut child) = command.spawn() {
        let _ = timeout(RETIRE_MAX, child.wait()).await;
    }
}
