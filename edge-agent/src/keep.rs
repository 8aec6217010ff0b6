//! An agent that is started again when it is killed: for containers, where nothing else does it.
//!
//! What it had is on its disk: it goes on with it, and ends what the one before it left running.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use troupe_telemetry::LogOptions;

use crate::{Global, Output, coded, config::Home};

/// Pause before the next one, times how often there was one.
const PAUSE: Duration = Duration::from_millis(500);

/// Works in a process of its own; one that is killed is followed by another, `restarts` times.
pub(crate) async fn run(home: &Home, global: &Global, restarts: u32) -> Result<()> {
    let log = LogOptions { filter: global.log.clone(), ..LogOptions::default() };
    troupe_telemetry::init(&log).context("set up the log")?;
    let program = std::env::current_exe().context("where this program lies")?;
    for killed in 1.. {
        let mut agent = Command::new(&program);
        agent.arg("run").arg("--dir").arg(&home.dir).arg("--policy").arg(&home.policy);
        agent.arg("--log").arg(&global.log);
        if global.output == Output::Json {
            agent.args(["--output", "json"]);
        }
        let status = ended(agent).await?;
        let Some(signal) = status.signal() else {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return match code {
                0 => Ok(()),
                code => Err(coded(code, "the agent ended; it said why")),
            };
        };
        if killed > restarts {
            return Err(coded(
                1,
                format!("the agent was ended {killed} times, now by signal {signal}"),
            ));
        }
        tracing::warn!(signal, killed, "the agent was ended from outside: another one goes on");
        sleep(PAUSE * killed).await;
    }
    Ok(())
}

/// Waits for a process; what this one is told to do, it is told as well.
async fn ended(mut agent: Command) -> Result<ExitStatus> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut child = agent.spawn().context("start the agent")?;
    let pid = Pid::from_child(&child);
    let mut waiting = tokio::task::spawn_blocking(move || child.wait());
    loop {
        let told = tokio::select! {
            status = &mut waiting => return status.context("wait for the agent")?.context("its end"),
            _ = term.recv() => Signal::TERM,
            _ = int.recv() => Signal::INT,
        };
        // One that is gone is told nothing.
        let _ = kill_process(pid, told);
    }
}
