//! The seam to runtimes: what an executor drives. Real ones come from the executor crate.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::sync::mpsc;
use troupe_executor::{
    Agno, ClaudeCode, Codex, CommandError, Commands, Events, Found, Launch, Machine, ProbeError,
    RunCommand, RunHandle, Runtime, RuntimeEvent, RuntimeKind, StartError,
};

/// What a run says, in order.
#[async_trait]
pub trait RunEvents: Send {
    /// The next event; `None` after the run ended. Not reading pauses the run. Cancel safe.
    async fn next(&mut self) -> Option<RuntimeEvent>;
}

/// Speaks to a run.
#[async_trait]
pub trait RunControl: fmt::Debug + Send + Sync {
    /// Gives a command.
    ///
    /// # Errors
    /// It was not taken.
    async fn tell(&self, command: RunCommand) -> Result<(), CommandError>;

    /// Ends the run; returns when no process of it is left.
    async fn stop(&self);
}

/// A run under way.
pub struct StartedRun {
    /// Speaks to it.
    pub control: Arc<dyn RunControl>,
    /// Hears it.
    pub events: Box<dyn RunEvents>,
}

impl fmt::Debug for StartedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartedRun").field("control", &self.control).finish_non_exhaustive()
    }
}

/// A kind of runtime on this device.
#[async_trait]
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// Which.
    fn kind(&self) -> RuntimeKind;

    /// Looks for it.
    ///
    /// # Errors
    /// It is not here.
    async fn probe(&self) -> Result<Found, ProbeError>;

    /// Whether a later process can go on in the session of one that is gone.
    fn resumes(&self) -> bool {
        true
    }

    /// Starts a run.
    ///
    /// # Errors
    /// Nothing runs then.
    async fn start(&self, launch: Launch) -> Result<StartedRun, StartError>;
}

/// A runtime of the executor crate.
#[derive(Clone, Debug)]
pub struct RuntimeEngine(pub Arc<dyn Runtime>);

#[async_trait]
impl Engine for RuntimeEngine {
    fn kind(&self) -> RuntimeKind {
        self.0.kind()
    }

    fn resumes(&self) -> bool {
        self.0.abilities().resume
    }

    async fn probe(&self) -> Result<Found, ProbeError> {
        self.0.probe().await
    }

    async fn start(&self, launch: Launch) -> Result<StartedRun, StartError> {
        let started = self.0.start(launch).await?;
        Ok(StartedRun { control: Arc::new(started.handle), events: Box::new(started.events) })
    }
}

#[async_trait]
impl RunEvents for Events {
    async fn next(&mut self) -> Option<RuntimeEvent> {
        Events::next(self).await
    }
}

/// What a runtime in the same process says.
#[async_trait]
impl RunEvents for mpsc::Receiver<RuntimeEvent> {
    async fn next(&mut self) -> Option<RuntimeEvent> {
        self.recv().await
    }
}

#[async_trait]
impl RunControl for RunHandle {
    async fn tell(&self, command: RunCommand) -> Result<(), CommandError> {
        RunHandle::tell(self, command).await
    }

    async fn stop(&self) {
        RunHandle::stop(self).await;
    }
}

/// Every runtime that there is, as programs on the search path; `commands`: what
/// [`RuntimeKind::Command`] may run, absolute paths by name.
#[must_use]
pub fn all_engines(machine: &Machine, commands: BTreeMap<String, PathBuf>) -> Vec<Arc<dyn Engine>> {
    let m = || machine.clone();
    vec![
        Arc::new(RuntimeEngine(Arc::new(ClaudeCode::new(m(), None)))),
        Arc::new(RuntimeEngine(Arc::new(Codex::new(m(), None)))),
        Arc::new(RuntimeEngine(Arc::new(Agno::new(m(), None)))),
        Arc::new(RuntimeEngine(Arc::new(Commands::new(m(), commands)))),
    ]
}
