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
    signal::unix::{self, SignalKind, signal},
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
    let mut told = Told::listen()?;
    for killed in 1.. {
        let mut agent = Command::new(&program);
        agent.arg("run").arg("--dir").arg(&home.dir).arg("--policy").arg(&home.policy);
        agent.arg("--log").arg(&global.log);
        if global.output == Output::Json {
            agent.args(["--output", "json"]);
        }
        let (status, is_stopped) = ended(agent, &mut told).await?;
        let Some(signal) = status.signal().filter(|_| !is_stopped) else {
            return match status.code().and_then(|code| u8::try_from(code).ok()) {
                Some(0) => Ok(()),
                Some(code) => Err(coded(code, "the agent ended; it said why")),
                // It was to end, and had not begun to listen.
                None => Ok(()),
            };
        };
        if killed > restarts {
            let text = format!("the agent was ended {killed} times, now by signal {signal}");
            return Err(coded(1, text));
        }
        tracing::warn!(signal, killed, "a signal ended the agent: another one goes on");
        tokio::select! {
            () = sleep(PAUSE * killed) => {}
            _ = told.next() => return Ok(()),
        }
    }
    Ok(())
}

/// What this process is told to do.
struct Told {
    term: unix::Signal,
    int: unix::Signal,
}

impl Told {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("listen to signals");
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::TERM,
            _ = self.int.recv() => Signal::INT,
        }
    }
}

/// Waits for an agent, and passes on what this process is told; whether it was told anything.
async fn ended(mut agent: Command, told: &mut Told) -> Result<(ExitStatus, bool)> {
    let mut child = agent.spawn().context("start the agent")?;
    let pid = Pid::from_child(&child);
    let mut waiting = tokio::task::spawn_blocking(move || child.wait());
    let mut is_stopped = false;
    loop {
        tokio::select! {
            status = &mut waiting => {
                let status = status.context("wait for the agent")?.context("its end")?;
                return Ok((status, is_stopped));
            }
            signal = told.next() => {
                is_stopped = true;
                // One that is gone is told nothing.
                let _ = kill_process(pid, signal);
            }
        }
    }
}
