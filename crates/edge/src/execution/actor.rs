//! The actor of one attempt.

use std::sync::Arc;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster_derive::RactorMessage;
use tokio::sync::{mpsc, oneshot};
use troupe_actor::{TaskHandle, spawn_task};
use troupe_executor::{Job, Secrets, Workspaces};
use troupe_types::Clock;
use troupe_wire::device::{AttemptKey, InputFate, InputKind};

use super::{
    input::Told,
    last::Seats,
    packages::Packages,
    run::{Outcome, Run},
    stop::Stop,
};
use crate::{
    engine::Engine,
    outbox::{Ended, Fold, Outbox},
};

/// Inputs that wait for a run.
const INPUTS_MAX: usize = 16;

/// What an executor is asked. Local only.
#[derive(Debug, RactorMessage)]
pub enum ExecutorMsg {
    /// An input that is on the disk.
    Input {
        /// What it is.
        kind: InputKind,
        /// The approval or question it is about.
        name: String,
        /// See [`InputKind`].
        body: Bytes,
        /// What became of it.
        reply: oneshot::Sender<(InputFate, String)>,
    },
    /// Stop for good; or until the agent is started again.
    Stop {
        /// For good.
        cancel: bool,
    },
    /// The run is over.
    Over,
}

/// What an executor is started with.
#[derive(Debug)]
pub struct ExecutorArgs {
    /// Which attempt.
    pub key: AttemptKey,
    /// The job, checked against the policy.
    pub job: Job,
    /// Whether the policy lets "always" count: else it is neither offered nor heard.
    pub always: bool,
    /// Its secrets.
    pub secrets: Secrets,
    /// What its log says so far.
    pub fold: Fold,
    /// What runs it.
    pub engine: Arc<dyn Engine>,
    /// Where its output goes.
    pub outbox: Outbox,
    /// Makes workspaces.
    pub workspaces: Workspaces,
    /// Shared by all executions.
    pub seats: Seats,
    /// Where packages of Skills come from.
    pub packages: Packages,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Runs one attempt and ends with it: by a stop whose reason says how.
#[derive(Debug)]
pub struct ExecutorActor;

/// State of an executor.
#[derive(Debug)]
pub struct ExecutorState {
    inputs: mpsc::Sender<Told>,
    stop: mpsc::Sender<Stop>,
    run: Option<TaskHandle<Outcome>>,
    me: AttemptKey,
}

impl Actor for ExecutorActor {
    type Msg = ExecutorMsg;
    type State = ExecutorState;
    type Arguments = ExecutorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ExecutorMsg>,
        args: ExecutorArgs,
    ) -> Result<ExecutorState, ActorProcessingErr> {
        let (inputs, told) = mpsc::channel(INPUTS_MAX);
        let (stop, stopped) = mpsc::channel(1);
        let me = args.key;
        let run = Run {
            key: args.key,
            job: args.job,
            always: args.always,
            secrets: args.secrets,
            fold: args.fold,
            engine: args.engine,
            outbox: args.outbox,
            workspaces: args.workspaces,
            seats: args.seats,
            packages: args.packages,
            clock: args.clock,
        };
        let run = spawn_task("execution", async move {
            // Said however the run ends, a panic included.
            let _over = Over(myself);
            run.run(told, stopped).await
        });
        Ok(ExecutorState { inputs, stop, run: Some(run.abort_on_drop()), me })
    }

    async fn handle(
        &self,
        myself: ActorRef<ExecutorMsg>,
        msg: ExecutorMsg,
        state: &mut ExecutorState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ExecutorMsg::Input { kind, name, body, reply } => {
                // A full queue answers at once; the cluster tries again.
                let _ = state.inputs.try_send(Told { kind, name, body, reply });
            }
            ExecutorMsg::Stop { cancel } => {
                let stop = if cancel { Stop::Cancel } else { Stop::Pause };
                let _ = state.stop.try_send(stop);
            }
            ExecutorMsg::Over => {
                let Some(run) = state.run.take() else { return Ok(()) };
                match run.await {
                    Ok(Outcome::Ended(how, _)) => {
                        tracing::info!(key = ?state.me, ?how, "an execution ended");
                        let cancelled = how == Ended::Cancelled;
                        myself.stop(Some(if cancelled { "cancelled" } else { "ended" }.to_owned()));
                    }
                    Ok(Outcome::Paused) => myself.stop(Some("paused".to_owned())),
                    Ok(Outcome::NoOutbox(text)) => return Err(text.into()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// Tells the actor when its task is over.
struct Over(ActorRef<ExecutorMsg>);

impl Drop for Over {
    fn drop(&mut self) {
        // An actor that is gone need not know.
        let _ = self.0.send_message(ExecutorMsg::Over);
    }
}
