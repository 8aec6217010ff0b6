//! The supervisor of a device: link, outbox, executors.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster_derive::RactorMessage;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use troupe_actor::{ChildEnd, child_end};
use troupe_executor::StaleWorkspace;
use troupe_link::Redial;
use troupe_wire::device::{AttemptKey, Capabilities, DeviceFrame, Input};

use super::{begin::Pending, ends::Unwritten, inputs::Held};
use crate::{
    execution::{ExecutorMsg, Packages, Seats},
    link::{FromLink, LinkActor, LinkArgs, LinkMsg},
    options::EdgeOptions,
    outbox::{Outbox, OutboxError},
};

/// What an agent is asked. Local only.
#[derive(Debug, RactorMessage)]
pub(super) enum AgentMsg {
    FromLink {
        what: FromLink,
        done: oneshot::Sender<()>,
    },
    Status {
        reply: oneshot::Sender<(u16, bool)>,
    },
    Drain {
        on: bool,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
    Relink,
    /// An input that waited for room on the disk is written, or will not be.
    Noted {
        input: Input,
        noted: Result<(), OutboxError>,
    },
    /// Workspaces that nobody uses are looked for.
    Clean,
    /// These were found.
    Stale(Vec<StaleWorkspace>),
}

pub(super) struct AgentArgs {
    pub(super) options: EdgeOptions,
    pub(super) outbox: Outbox,
    pub(super) link: LinkArgs,
    pub(super) from_agent: Arc<Mutex<mpsc::Receiver<DeviceFrame>>>,
    pub(super) out: mpsc::Sender<DeviceFrame>,
    pub(super) capabilities: watch::Sender<Capabilities>,
}

pub(super) struct AgentActor;

pub(super) struct Running {
    pub(super) actor: ActorRef<ExecutorMsg>,
    /// Delete all of it once it is over.
    pub(super) forget: bool,
}

impl Running {
    /// Stops it. One that is ending already tells its end all the same.
    pub(super) fn stop(&self, cancel: bool) {
        let _ = self.actor.send_message(ExecutorMsg::Stop { cancel });
    }
}

pub(super) struct AgentState {
    pub(super) args: AgentArgs,
    link: Option<ActorRef<LinkMsg>>,
    relink: Redial,
    pub(super) running: BTreeMap<AttemptKey, Running>,
    pub(super) by_actor: BTreeMap<ActorId, AttemptKey>,
    /// Attempts of an earlier life of the agent that wait for their secrets.
    pub(super) wanting: BTreeSet<AttemptKey>,
    /// Attempts on the disk that are still to begin.
    pub(super) pending: BTreeMap<AttemptKey, Pending>,
    /// The cluster of this link says when an attempt begins.
    pub(super) begins: bool,
    /// Ends that are not on the disk.
    pub(super) unwritten: BTreeMap<AttemptKey, Unwritten>,
    /// Inputs that are not on the disk.
    pub(super) held: BTreeMap<AttemptKey, Held>,
    pub(super) seats: Seats,
    pub(super) packages: Packages,
    pub(super) draining: bool,
    pub(super) shutdown: Option<oneshot::Sender<()>>,
    pub(super) going_down: bool,
}

pub(super) type Done = Result<(), ActorProcessingErr>;

impl Actor for AgentActor {
    type Msg = AgentMsg;
    type State = AgentState;
    type Arguments = AgentArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<AgentMsg>,
        args: AgentArgs,
    ) -> Result<AgentState, ActorProcessingErr> {
        let mut state = AgentState::new(args);
        state.go_on(&myself).await?;
        state.link_up(&myself).await?;
        state.look_for_stale(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<AgentMsg>,
        msg: AgentMsg,
        state: &mut AgentState,
    ) -> Done {
        match msg {
            AgentMsg::FromLink { what, done } => {
                state.heard(&myself, what).await?;
                // The feeder goes on; it may be gone.
                let _ = done.send(());
            }
            AgentMsg::Status { reply } => {
                let _ = reply.send((state.slots_used(), state.draining));
            }
            AgentMsg::Drain { on } => state.drain(on),
            AgentMsg::Relink => state.link_up(&myself).await?,
            AgentMsg::Noted { input, noted } => state.noted(input, noted).await,
            AgentMsg::Clean => state.look_for_stale(&myself),
            AgentMsg::Stale(found) => state.clean(found).await?,
            AgentMsg::Shutdown { reply } => {
                state.draining = true;
                state.going_down = true;
                state.running.values().for_each(|run| run.stop(false));
                state.shutdown = Some(reply);
                state.maybe_down();
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<AgentMsg>,
        event: SupervisionEvent,
        state: &mut AgentState,
    ) -> Done {
        let (id, crash) = match child_end(event) {
            Some(ChildEnd::Stopped { id, reason }) => {
                (id, (reason.as_deref() == Some("paused")).then(|| "paused".to_owned()))
            }
            Some(ChildEnd::Crashed { id, error }) => (id, Some(error.to_string())),
            None => return Ok(()),
        };
        if state.link.as_ref().is_some_and(|link| link.get_id() == id) {
            state.link = None;
            tracing::error!(error = crash, "the link crashed; it is started again");
            myself.send_after(state.relink.failed(), || AgentMsg::Relink);
            return Ok(());
        }
        if let Some(key) = state.by_actor.remove(&id) {
            state.executor_gone(&myself, key, crash).await?;
        }
        Ok(())
    }
}

impl AgentState {
    pub(super) fn new(args: AgentArgs) -> Self {
        let relink = Redial::new(&args.options.link);
        let packages = Packages::new(args.out.clone(), args.link.status.subscribe());
        Self {
            args,
            link: None,
            relink,
            running: BTreeMap::new(),
            by_actor: BTreeMap::new(),
            wanting: BTreeSet::new(),
            pending: BTreeMap::new(),
            begins: false,
            unwritten: BTreeMap::new(),
            held: BTreeMap::new(),
            seats: Seats::default(),
            packages,
            draining: false,
            shutdown: None,
            going_down: false,
        }
    }

    async fn link_up(&mut self, me: &ActorRef<AgentMsg>) -> Done {
        let args = (self.args.link.clone(), Arc::clone(&self.args.from_agent));
        let (link, _) = Actor::spawn_linked(None, LinkActor, args, me.get_cell()).await?;
        self.link = Some(link);
        Ok(())
    }

    pub(super) fn slots_used(&self) -> u16 {
        let used = self.running.len() + self.wanting.len() + self.pending.len();
        u16::try_from(used).unwrap_or(u16::MAX)
    }

    pub(super) fn linked_again(&mut self) {
        self.relink.held();
    }

    pub(super) fn maybe_down(&mut self) {
        if self.running.is_empty()
            && let Some(reply) = self.shutdown.take()
        {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(());
        }
    }

    pub(super) fn drain(&mut self, on: bool) {
        self.draining = on;
        self.args.capabilities.send_if_modified(|capabilities| {
            let changed = capabilities.draining != on;
            capabilities.draining = on;
            changed
        });
    }
}
