//! The agent: what a device is while it runs.

mod actor;
mod assign;
mod begin;
mod clean;
mod ends;
mod inputs;
mod work;

use std::{io, sync::Arc, time::Duration};

use ractor::{Actor, ActorRef};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use troupe_actor::{TaskHandle, spawn_task};
use troupe_link::device::Dialler;
use troupe_types::{Timestamp, Uuid};
use troupe_wire::device::{Capabilities, ExecutionReport, ExecutionState};

use self::actor::{AgentActor, AgentArgs, AgentMsg};
use crate::{
    link::{FromLink, IN_MAX, LinkArgs, OUT_MAX, PAST_FILE},
    network::NetworkWatch,
    options::EdgeOptions,
    outbox::Outbox,
    status::{EdgeStatus, ExecutionStatus, LinkStatus, RunsStatus},
    tools::capabilities,
};

/// How long an agent may take to answer or to end, besides what its executions take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Why an agent did not start, or ended.
#[derive(Debug, Error)]
pub enum AgentError {
    /// Options that are out of bounds.
    #[error("the options are out of bounds: {}", .0.join("; "))]
    Options(Vec<String>),
    /// The outbox could not be opened.
    #[error("the outbox could not be opened")]
    Outbox(#[source] io::Error),
    /// An actor did not start.
    #[error("the agent did not start: {0}")]
    Start(String),
    /// It is gone.
    #[error("the agent is gone")]
    Gone,
}

/// A running agent. Dropping it stops it at once, as a crash would; [`stop`](Self::stop) is
/// the polite way.
#[derive(Debug)]
pub struct EdgeAgent {
    actor: ActorRef<AgentMsg>,
    outbox: Outbox,
    link: watch::Receiver<LinkStatus>,
    capabilities: watch::Receiver<Capabilities>,
    options: EdgeOptions,
    ended: watch::Receiver<bool>,
    #[expect(dead_code, reason = "held for their drop")]
    tasks: [TaskHandle; 2],
    #[expect(dead_code, reason = "held for its drop")]
    network: NetworkWatch,
}

impl EdgeAgent {
    /// Opens the outbox, goes on with what was left running, and dials.
    ///
    /// # Errors
    /// See [`AgentError`]; nothing runs then.
    pub async fn start(
        options: EdgeOptions,
        dialler: Arc<dyn Dialler>,
    ) -> Result<Self, AgentError> {
        let faults = options.faults();
        if !faults.is_empty() {
            return Err(AgentError::Options(faults));
        }
        let executions = options.dir.join("executions");
        let opened = Outbox::open(executions, options.outbox_bytes_max).await;
        let opened = opened.map_err(AgentError::Outbox)?;
        let network = NetworkWatch::start();
        let (tell, capable) = watch::channel(capabilities(&options).await);
        let (status, link) = watch::channel(LinkStatus::default());
        let (out, from_agent) = mpsc::channel(OUT_MAX);
        let (to_agent, mut from_link) = mpsc::channel::<FromLink>(IN_MAX);
        let args = LinkArgs {
            device: options.device,
            boot: Uuid::new_v4(),
            build: options.build.clone(),
            dialler,
            options: options.link.clone(),
            outbox: opened.outbox.clone(),
            capabilities: capable.clone(),
            network: network.changes(),
            to_agent,
            status,
            identity: options.identity.clone(),
            past: options.dir.join(PAST_FILE),
            clock: Arc::clone(&options.clock),
        };
        let (over, ended) = watch::channel(false);
        let args = AgentArgs {
            options: options.clone(),
            outbox: opened.outbox.clone(),
            link: args,
            from_agent: Arc::new(tokio::sync::Mutex::new(from_agent)),
            out,
            capabilities: tell,
        };
        let (actor, join) = Actor::spawn(None, AgentActor, args)
            .await
            .map_err(|error| AgentError::Start(error.to_string()))?;
        // The actor's own mailbox has no bound, so frames wait here until it took the last one.
        let to = actor.clone();
        let feed = spawn_task("agent feed", async move {
            while let Some(what) = from_link.recv().await {
                let (done, taken) = oneshot::channel();
                if to.send_message(AgentMsg::FromLink { what, done }).is_err() {
                    return;
                }
                // Dropped unanswered if handling it failed, which ends the agent.
                let _ = taken.await;
            }
        });
        let (writer, me) = (opened.writer, actor.clone());
        let watch_end = spawn_task("agent end", async move {
            tokio::select! {
                _ = join => {}
                _ = writer => {
                    tracing::error!("the outbox ended: the agent ends with it");
                    me.kill();
                }
            }
            over.send_replace(true);
        });
        let tasks = [feed.abort_on_drop(), watch_end.abort_on_drop()];
        let (outbox, capabilities) = (opened.outbox, capable);
        Ok(Self { actor, outbox, link, capabilities, options, ended, tasks, network })
    }

    /// How it is.
    ///
    /// # Errors
    /// [`AgentError::Gone`].
    pub async fn status(&self) -> Result<EdgeStatus, AgentError> {
        let (reply, answer) = oneshot::channel();
        self.actor.send_message(AgentMsg::Status { reply }).map_err(|_| AgentError::Gone)?;
        let answered = timeout(ANSWER_MAX, answer).await;
        let (slots_used, draining) = answered.ok().and_then(Result::ok).ok_or(AgentError::Gone)?;
        let (outbox_bytes, outbox_bytes_max) = self.outbox.usage();
        let containment = &self.options.machine.containment;
        let of = |report: ExecutionReport| ExecutionStatus {
            execution: report.key.execution,
            attempt: report.key.attempt,
            task: report.task,
            team: self.outbox.team(report.key).unwrap_or_default(),
            state: state_word(report.state).to_owned(),
            last: report.last.0,
            acked: report.acked.0,
        };
        Ok(EdgeStatus {
            device: self.options.device,
            link: self.link.borrow().clone(),
            executions: self.outbox.reports().into_iter().map(of).collect(),
            slots: self.options.slots,
            slots_used,
            draining,
            outbox_bytes,
            outbox_bytes_max,
            runs: Some(RunsStatus {
                held_by: containment.how(),
                no_bounds: containment.limits().err(),
            }),
            at: self.now(),
        })
    }

    fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// How the link is, and every change of it.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<LinkStatus> {
        self.link.clone()
    }

    /// What was found on this device.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities.borrow().clone()
    }

    /// Takes no new work, or takes it again.
    ///
    /// # Errors
    /// [`AgentError::Gone`].
    pub fn drain(&self, on: bool) -> Result<(), AgentError> {
        self.actor.send_message(AgentMsg::Drain { on }).map_err(|_| AgentError::Gone)
    }

    /// Stops every run so that the next start goes on with it, and ends.
    pub async fn stop(self) {
        let (reply, stopped) = oneshot::channel();
        if self.actor.send_message(AgentMsg::Shutdown { reply }).is_ok() {
            let _ = timeout(self.options.stop_max + ANSWER_MAX, stopped).await;
        }
        troupe_actor::stop_within(&self.actor.get_cell(), ANSWER_MAX).await;
    }

    /// Resolves when the agent is gone, by a fault or by [`stop`](Self::stop).
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // A sender that is gone means the same.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl Drop for EdgeAgent {
    fn drop(&mut self) {
        self.actor.stop(None);
    }
}

const fn state_word(state: ExecutionState) -> &'static str {
    match state {
        ExecutionState::Accepted => "accepted",
        ExecutionState::Running => "running",
        ExecutionState::Waiting => "waiting",
        ExecutionState::Paused => "paused",
        ExecutionState::Ended => "ended",
        ExecutionState::Other(_) => "unknown",
    }
}
