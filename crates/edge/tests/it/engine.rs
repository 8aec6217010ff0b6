//! A runtime that does what its prompt says.
//!
//! Prompt: words, each a step: `say:N` (N texts), `big:N` (N texts of 8 KiB), `ask` (an
//! approval, waits), `wait` (waits for a steer), `talk` (a text every 5 ms, for ever), `crash`,
//! `forever`. Then it ends well.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};
use troupe_edge::{Engine, RunControl, StartedRun};
use troupe_executor::{
    ApprovalRequest, Closing, CommandError, Decision, Exit, Found, Launch, ProbeError, RunCommand,
    RuntimeEvent, RuntimeKind, SessionId, SessionInfo, StartError, TurnEnd,
};

/// The session that is resumed, the prompt, the names of secrets.
type Launched = (Option<String>, String, Vec<String>);

#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) launches: Mutex<Vec<Launched>>,
    pub(crate) running: Arc<AtomicUsize>,
    pub(crate) said: Arc<AtomicUsize>,
    /// It has no sessions.
    pub(crate) forgets: AtomicBool,
}

#[derive(Debug)]
struct Control {
    commands: mpsc::Sender<RunCommand>,
    stop: Arc<Notify>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

#[async_trait]
impl RunControl for Control {
    async fn tell(&self, command: RunCommand) -> Result<(), CommandError> {
        self.commands.try_send(command).map_err(|_| CommandError::Ended)
    }

    async fn stop(&self) {
        self.stop.notify_one();
        while self.tasks.lock().await.join_next().await.is_some() {}
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn play(
    script: String,
    events: mpsc::Sender<RuntimeEvent>,
    mut commands: mpsc::Receiver<RunCommand>,
    said: Arc<AtomicUsize>,
) -> Option<()> {
    let text = |text: String| RuntimeEvent::Text { text, parent: None };
    for word in script.split_whitespace() {
        let (verb, n) = word.split_once(':').unwrap_or((word, "1"));
        let n: usize = n.parse().unwrap_or(1);
        match verb {
            "say" | "big" => {
                for i in 0..n {
                    let mut words = format!("{i} ");
                    if verb == "big" {
                        words.push_str(&"x".repeat(8 * 1024 - words.len()));
                    }
                    events.send(text(words)).await.ok()?;
                    said.fetch_add(1, Ordering::SeqCst);
                }
            }
            "ask" => {
                let request = ApprovalRequest {
                    id: "ask-1".to_owned(),
                    tool: "Bash".to_owned(),
                    title: "rm -rf build".to_owned(),
                    input: serde_json::json!({"command": "rm -rf build"}),
                    tool_call: None,
                    reason: None,
                    always: None,
                };
                events.send(RuntimeEvent::Approval(request)).await.ok()?;
                let how = match commands.recv().await? {
                    RunCommand::Approve { decision: Decision::Allow { .. }, .. } => {
                        Closing::Allowed
                    }
                    _ => Closing::Denied,
                };
                events.send(RuntimeEvent::Closed { id: "ask-1".to_owned(), how }).await.ok()?;
            }
            "wait" => {
                commands.recv().await?;
            }
            // Never pauses for long enough to be taken for silent.
            "talk" => {
                let mut beat = tokio::time::interval(std::time::Duration::from_millis(5));
                loop {
                    beat.tick().await;
                    events.send(text("on ".to_owned())).await.ok()?;
                }
            }
            "forever" => std::future::pending::<()>().await,
            "crash" => return None,
            _ => {}
        }
    }
    let end = TurnEnd::Completed { stop: Some("end_turn".to_owned()) };
    events.send(RuntimeEvent::TurnEnded(end)).await.ok()
}

#[async_trait]
impl Engine for Script {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::ClaudeCode
    }

    fn resumes(&self) -> bool {
        !self.forgets.load(Ordering::SeqCst)
    }

    async fn probe(&self) -> Result<Found, ProbeError> {
        let (kind, version) = (RuntimeKind::ClaudeCode, "2.1.330".to_owned());
        Ok(Found { kind, program: "/bin/claude".into(), version, note: None })
    }

    async fn start(&self, launch: Launch) -> Result<StartedRun, StartError> {
        let names = launch.secrets.iter().map(|(name, _)| name.to_owned()).collect();
        let session = launch.job.session.clone().map(|session| session.0);
        let prompt = launch.job.prompt.text.clone();
        self.launches.lock().unwrap().push((session.clone(), prompt.clone(), names));
        self.running.fetch_add(1, Ordering::SeqCst);
        let (tell, events) = mpsc::channel(16);
        let (commands, told) = mpsc::channel(16);
        let stop = Arc::new(Notify::new());
        let (counted, said) = (Counted(Arc::clone(&self.running)), Arc::clone(&self.said));
        let stopped = Arc::clone(&stop);
        let (mut tasks, forgets) = (JoinSet::new(), !self.resumes());
        tasks.spawn(async move {
            let info = SessionInfo {
                session: SessionId("session-1".to_owned()),
                version: None,
                model: None,
                resumed: session.is_some(),
            };
            if !forgets {
                let _ = tell.send(RuntimeEvent::Session(info)).await;
            }
            // What goes on in a session has little left to do.
            let script = if session.is_some() { "say:3".to_owned() } else { prompt };
            tokio::select! {
                _ = play(script, tell.clone(), told, said) => {}
                () = stopped.notified() => {}
            }
            drop(counted);
            let _ = tell.try_send(RuntimeEvent::Exited(Exit::default()));
        });
        let tasks = tokio::sync::Mutex::new(tasks);
        let control = Arc::new(Control { commands, stop, tasks });
        Ok(StartedRun { control, events: Box::new(events) })
    }
}
