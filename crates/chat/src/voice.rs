//! What a run says, and the answer that grows with it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use troupe_domain::task::{Output, RunEvent, StepRecord};
use troupe_llm::ModelError;
use troupe_types::{
    Block, BlockKind, BlockPatch, BlockStatus, Clock, ErrorType, StatusFrame, UsageFrame,
    limits::TEXT_BUFFER_BYTES_MAX,
};

use crate::sink::{Gone, RunSink};

/// Why a run ends before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nobody listens any more.
    Gone,
    /// It was cancelled.
    Cancelled,
    /// It failed; people are told.
    Failed { error: ErrorType, text: String },
}

impl Stop {
    pub(crate) fn failed(error: ErrorType, text: impl Into<String>) -> Self {
        Self::Failed { error, text: text.into() }
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<ModelError> for Stop {
    fn from(error: ModelError) -> Self {
        if error.is_cancelled() {
            return Self::Cancelled;
        }
        // Both crates name the errors of the same contract.
        let kind = serde_json::to_value(error.kind()).and_then(serde_json::from_value);
        Self::Failed { error: kind.unwrap_or(ErrorType::GenericError), text: error.text() }
    }
}

/// A sink that hears of a cancel at once, and the text that went through it.
pub(crate) struct Voice<'a> {
    sink: &'a dyn RunSink,
    clock: &'a dyn Clock,
    cancel: &'a CancellationToken,
    answer: String,
    /// The next text is the first of its step.
    fresh: bool,
}

impl<'a> Voice<'a> {
    /// `kept` is the text of steps that were finished before.
    pub(crate) fn new(
        sink: &'a dyn RunSink,
        clock: &'a dyn Clock,
        cancel: &'a CancellationToken,
        kept: String,
    ) -> Self {
        Self { sink, clock, cancel, answer: kept, fresh: true }
    }

    /// The kept text and every text since.
    pub(crate) fn answer(&self) -> &str {
        &self.answer
    }

    /// A cancel is heard.
    pub(crate) const fn cancel(&self) -> &'a CancellationToken {
        self.cancel
    }

    /// Time of day.
    pub(crate) fn clock(&self) -> &'a dyn Clock {
        self.clock
    }

    /// The text of one step does not run into that of the next.
    pub(crate) fn begin_step(&mut self) {
        self.fresh = true;
    }

    /// The run is asked to leave.
    pub(crate) async fn leaving(&self) {
        self.sink.leaving().await;
    }

    /// Waits, and does nothing else: leaves as soon as it is asked to.
    pub(crate) async fn wait(&self, wait: Duration) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Stop::Cancelled),
            () = self.sink.leaving() => Err(Stop::Gone),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    pub(crate) async fn event(&self, event: RunEvent) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Stop::Cancelled),
            taken = self.sink.event(event) => Ok(taken?),
        }
    }

    /// Returns when the step is committed.
    pub(crate) async fn step(
        &self,
        record: StepRecord,
        usage: Option<UsageFrame>,
    ) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Stop::Cancelled),
            committed = self.sink.step(record, usage) => Ok(committed?),
        }
    }

    /// A piece of the answer.
    pub(crate) async fn text(&mut self, piece: &str) -> Result<(), Stop> {
        if piece.is_empty() {
            return Ok(());
        }
        let gap = match () {
            () if !std::mem::take(&mut self.fresh) || self.answer.is_empty() => "",
            () if self.answer.ends_with("\n\n") => "",
            () if self.answer.ends_with('\n') => "\n",
            () => "\n\n",
        };
        self.answer.push_str(gap);
        self.answer.push_str(piece);
        if gap.is_empty() {
            return self.output(piece, Output::Text).await;
        }
        self.output(&format!("{gap}{piece}"), Output::Text).await
    }

    /// A piece of thinking.
    pub(crate) async fn thinking(&self, piece: &str) -> Result<(), Stop> {
        self.output(piece, Output::Thinking).await
    }

    async fn output(&self, piece: &str, sort: fn(String) -> Output) -> Result<(), Stop> {
        for piece in crate::caps::pieces(piece, TEXT_BUFFER_BYTES_MAX) {
            let pieces = vec![sort(piece.to_owned())];
            self.event(RunEvent::Output { pieces }).await?;
        }
        Ok(())
    }

    /// A tool call appears. Its name for updates is the provider's id of the call.
    pub(crate) async fn block(&self, kind: BlockKind, name: &str) -> Result<(), Stop> {
        let block = Block {
            id: String::new(),
            kind,
            status: BlockStatus::GeneratingArguments,
            timestamp: self.clock.now().as_millis(),
            parent_tool_use_id: None,
        };
        self.event(RunEvent::Block { block, name: name.to_owned() }).await
    }

    pub(crate) async fn patch(&self, name: &str, patch: BlockPatch) -> Result<(), Stop> {
        self.event(RunEvent::BlockChanged { name: name.to_owned(), patch }).await
    }

    pub(crate) async fn warn(&self, text: impl Into<String>) -> Result<(), Stop> {
        let (phase, text) = ("warning".to_owned(), Some(text.into()));
        self.event(RunEvent::Status(StatusFrame { phase, text, ..StatusFrame::default() })).await
    }
}
