//! The trait that all providers implement, and the stream of one call.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    error::{ErrorSummary, ModelError},
    message::{Completion, Request, StopReason, Usage},
};

/// What a call tells while it runs. Pieces of text and arguments are never empty.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelEvent {
    /// A try failed before anything was seen; the next one starts after `after`.
    Retrying {
        /// How long until then.
        after: Duration,
        /// The try that starts then, from 2.
        attempt: u32,
        /// Why the last one failed.
        error: ErrorSummary,
    },
    /// A piece of the answer.
    Text(String),
    /// A piece of thinking.
    Thinking(String),
    /// The proof of the thinking before it, or a piece of it. Not for people.
    ThinkingSignature(String),
    /// A tool call begins.
    ToolCallStart {
        /// The provider's id of the call.
        id: String,
        /// The tool's name.
        name: String,
        /// Its place among the calls of this answer, from 0.
        index: usize,
    },
    /// A piece of the arguments' JSON.
    ToolCallArgs {
        /// Which call.
        index: usize,
        /// The piece.
        delta: String,
    },
    /// A tool call is complete.
    ToolCallEnd {
        /// Which call.
        index: usize,
        /// The provider's id of the call.
        id: String,
        /// The tool's name.
        name: String,
        /// All arguments; see [`crate::Part::ToolCall`].
        args: Value,
    },
    /// Tokens so far; a later one replaces it.
    Usage(Usage),
    /// The model stopped.
    Stop {
        /// Why.
        reason: StopReason,
    },
    /// The whole answer. The last event of every call that did not fail.
    Completed(Box<Completion>),
}

/// A model of some provider, ready to be called.
pub trait Provider: fmt::Debug + Send + Sync + 'static {
    /// The provider's name: `claude`, `openai`, `demo`.
    fn name(&self) -> &'static str;

    /// The provider's id of the model.
    fn model(&self) -> &str;

    /// Calls the model. Nothing happens until the stream is polled.
    ///
    /// The stream ends with [`ModelEvent::Completed`] or with one error; tries that fail before
    /// anything was seen are repeated within it. Once `cancel` is cancelled the connection is
    /// closed and the stream ends with [`ModelError::Cancelled`]; dropping the stream closes it
    /// likewise.
    fn stream(&self, request: Request, cancel: CancellationToken) -> ModelStream;
}

/// The running call. Does nothing unless polled.
pub struct ModelStream {
    inner: Pin<Box<dyn Stream<Item = Result<ModelEvent, ModelError>> + Send>>,
    ended: bool,
}

impl ModelStream {
    /// Wraps a stream; nothing is taken from it after its first error or `Completed`.
    pub fn new(
        stream: impl Stream<Item = Result<ModelEvent, ModelError>> + Send + 'static,
    ) -> Self {
        Self { inner: Box::pin(stream), ended: false }
    }

    /// The next event; `None` after the last one. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<ModelEvent, ModelError>> {
        StreamExt::next(self).await
    }

    /// Reads to the end and returns the whole answer.
    ///
    /// # Errors
    /// The error that ended the call.
    pub async fn completion(mut self) -> Result<Completion, ModelError> {
        while let Some(event) = self.next().await {
            if let ModelEvent::Completed(completion) = event? {
                return Ok(*completion);
            }
        }
        Err(ModelError::Cut)
    }
}

impl Stream for ModelStream {
    type Item = Result<ModelEvent, ModelError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.inner.as_mut().poll_next(cx);
        if matches!(&polled, Poll::Ready(None | Some(Err(_) | Ok(ModelEvent::Completed(_))))) {
            self.ended = true;
            // What is left of the call (its connection) goes at once, not when the caller drops.
            self.inner = Box::pin(futures::stream::empty());
        }
        polled
    }
}

impl fmt::Debug for ModelStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelStream").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// One call as a loop that yields events: what an adapter writes instead of a `Stream`.
pub(crate) trait Source: Send + 'static {
    /// The next event. Not called again after an error or `Completed`.
    fn next(&mut self) -> impl Future<Output = Result<ModelEvent, ModelError>> + Send;
}

/// Makes a stream of a source; a cancelled token ends it at once.
pub(crate) fn stream_of<S: Source>(source: S, cancel: CancellationToken) -> ModelStream {
    ModelStream::new(futures::stream::unfold((source, cancel), |(mut source, cancel)| async move {
        let next = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(ModelError::Cancelled),
            next = source.next() => next,
        };
        Some((next, (source, cancel)))
    }))
}
