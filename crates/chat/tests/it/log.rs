//! A sink that keeps what it takes, and can be gone.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use troupe_chat::{Gone, RunSink};
use troupe_domain::task::{Output, RunEvent, StepRecord};
use troupe_llm::Part;
use troupe_types::{BlockPatch, BlockStatus, StatusFrame, UsageFrame};

use crate::world::lock;

/// What a sink took.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Event(RunEvent),
    Step(StepRecord, Option<UsageFrame>),
}

/// Keeps what it takes; after `room` of them it is gone.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) said: Mutex<Vec<Said>>,
    room: usize,
    /// The run is asked to leave.
    pub(crate) leaving: CancellationToken,
    /// It is, as soon as it says a word.
    pub(crate) leaves_at_a_word: AtomicBool,
}

impl Log {
    pub(crate) fn new(room: usize) -> Arc<Self> {
        Arc::new(Self {
            said: Mutex::default(),
            room,
            leaving: CancellationToken::new(),
            leaves_at_a_word: AtomicBool::new(false),
        })
    }

    fn take(&self, said: Said) -> Result<(), Gone> {
        let mut all = lock(&self.said);
        if all.len() >= self.room {
            return Err(Gone);
        }
        all.push(said);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.said).len()
    }

    pub(crate) fn events(&self) -> Vec<RunEvent> {
        let said = lock(&self.said).clone();
        said.into_iter()
            .filter_map(|said| match said {
                Said::Event(event) => Some(event),
                Said::Step(..) => None,
            })
            .collect()
    }

    pub(crate) fn steps(&self) -> Vec<StepRecord> {
        let said = lock(&self.said).clone();
        said.into_iter()
            .filter_map(|said| match said {
                Said::Step(record, _) => Some(record),
                Said::Event(_) => None,
            })
            .collect()
    }

    /// All text so far; `finished`: only up to the last step.
    pub(crate) fn text(&self, finished: bool) -> String {
        let (mut text, mut kept) = (String::new(), 0);
        for said in lock(&self.said).iter() {
            match said {
                Said::Event(RunEvent::Output { pieces }) => {
                    for piece in pieces {
                        if let Output::Text(piece) = piece {
                            text.push_str(piece);
                        }
                    }
                }
                Said::Step(..) => kept = text.len(),
                Said::Event(_) => {}
            }
        }
        if finished {
            text.truncate(kept);
        }
        text
    }

    pub(crate) fn done(&self) -> Option<RunEvent> {
        self.events().into_iter().find(|event| matches!(event, RunEvent::Done { .. }))
    }

    pub(crate) fn failed(&self) -> Option<(String, String)> {
        self.events().into_iter().find_map(|event| match event {
            RunEvent::Failed { error, text } => {
                Some((json!(error).as_str().unwrap_or_default().to_owned(), text))
            }
            _ => None,
        })
    }

    pub(crate) fn statuses(&self, phase: &str) -> Vec<StatusFrame> {
        self.events()
            .into_iter()
            .filter_map(|event| match event {
                RunEvent::Status(status) if status.phase == phase => Some(status),
                _ => None,
            })
            .collect()
    }

    /// What changed of a block, in order.
    pub(crate) fn patches(&self, name: &str) -> Vec<BlockPatch> {
        self.events()
            .into_iter()
            .filter_map(|event| match event {
                RunEvent::BlockChanged { name: n, patch } if n == name => Some(patch),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn block_states(&self, name: &str) -> Vec<BlockStatus> {
        self.patches(name).into_iter().filter_map(|patch| patch.status).collect()
    }

    /// The recorded result of a call: text, whether it is an error, whether it is unknown.
    pub(crate) fn result(&self, id: &str) -> Option<(String, bool, bool)> {
        self.steps().into_iter().find_map(|step| match step {
            StepRecord::Tool { tool_use_id, result, .. } if tool_use_id == id => {
                match serde_json::from_value(result) {
                    Ok(Part::ToolResult { content, is_error, unknown, .. }) => {
                        Some((content, is_error, unknown))
                    }
                    _ => None,
                }
            }
            _ => None,
        })
    }
}

#[async_trait]
impl RunSink for Log {
    async fn event(&self, event: RunEvent) -> Result<(), Gone> {
        tokio::task::yield_now().await;
        let speaks = matches!(event, RunEvent::Output { .. });
        if speaks && self.leaves_at_a_word.load(Ordering::SeqCst) {
            self.leaving.cancel();
        }
        self.take(Said::Event(event))
    }

    async fn step(&self, record: StepRecord, usage: Option<UsageFrame>) -> Result<(), Gone> {
        tokio::task::yield_now().await;
        self.take(Said::Step(record, usage))?;
        if self.leaving.is_cancelled() { Err(Gone) } else { Ok(()) }
    }

    async fn leaving(&self) {
        self.leaving.cancelled().await;
    }
}
