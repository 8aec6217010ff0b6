//! A runtime that says as many pieces as it is told, at a pace: `talk PACE PIECES`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use troupe_edge::{Engine, RunControl, StartedRun};
use troupe_executor::{
    CommandError, Exit, Found, Launch, ProbeError, RunCommand, RuntimeEvent, RuntimeKind,
    StartError, TurnEnd,
};

/// One piece of text.
const PIECE: &str = "eight words are enough for one such piece\n";

/// Characters of so many pieces.
pub(super) fn length(pieces: u64) -> usize {
    PIECE.chars().count() * usize::try_from(pieces).unwrap_or(usize::MAX)
}

#[derive(Debug)]
pub(super) struct Talker;

#[derive(Debug)]
struct Control(Mutex<JoinSet<()>>);

#[async_trait]
impl RunControl for Control {
    async fn tell(&self, _: RunCommand) -> Result<(), CommandError> {
        Err(CommandError::NotOpen)
    }

    async fn stop(&self) {
        self.0.lock().await.shutdown().await;
    }
}

#[async_trait]
impl Engine for Talker {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Command
    }

    async fn probe(&self) -> Result<Found, ProbeError> {
        let (kind, version) = (RuntimeKind::Command, "1".to_owned());
        Ok(Found { kind, program: "/bin/talk".into(), version, note: None })
    }

    async fn start(&self, launch: Launch) -> Result<StartedRun, StartError> {
        let args = launch.job.command.map(|command| command.args).unwrap_or_default();
        let mut numbers = args.iter().filter_map(|arg| arg.parse::<u64>().ok());
        let (pace, pieces) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
        let (tell, events) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_secs(1) / pace.max(1) as u32);
            let _ = tell.send(RuntimeEvent::TurnStarted).await;
            for _ in 0..pieces {
                beat.tick().await;
                let text = RuntimeEvent::Text { text: PIECE.to_owned(), parent: None };
                if tell.send(text).await.is_err() {
                    return;
                }
            }
            let end = TurnEnd::Completed { stop: Some("exit 0".to_owned()) };
            let _ = tell.send(RuntimeEvent::TurnEnded(end)).await;
            let _ = tell.send(RuntimeEvent::Exited(Exit::default())).await;
        });
        let control = Arc::new(Control(Mutex::new(tasks)));
        Ok(StartedRun { control, events: Box::new(events) })
    }
}
