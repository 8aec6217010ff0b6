//! The `demo` model: scripted, local, no key. It says that it is a demo.
//!
//! Its text depends on the prompt and the attempt alone, and differs between attempts. It
//! streams in small pieces, thinks first, calls a tool when one is on offer and the prompt asks
//! for it, leads a team when it is offered a leader's tools, plans when the system prompt makes
//! it a planner, and answers Chinese in Chinese.
//!
//! Models: any id paces its pieces; `demo-fast` waits for nothing and does not think.
//!
//! A prompt may steer it with `[[demo key=value ...]]` ([`Directive`] lists the keys):
//! `[[demo chunks=500 size=12 pace=0 think=0]]`, `[[demo tool=add args={"a":1,"b":2}]]`,
//! `[[demo fail=rate_limit fail_attempts=1]]`.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    assemble::Assembler,
    error::{ErrorType, ModelError, TimeoutPhase},
    message::{Message, Part, Request, Usage},
    provider::{ModelEvent, ModelStream, Provider, Source, stream_of},
    retry::{Jitter, RetryPolicy, Retrying},
};

mod directive;
mod plan;
mod text;

pub use directive::Directive;

use plan::Beat;

/// Longest answer, in bytes, whatever a directive asks for.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The scripted model.
#[derive(Clone, Debug)]
pub struct DemoProvider {
    model: String,
    pace: u32,
    retry: RetryPolicy,
}

impl DemoProvider {
    /// A demo model; `pace` is in pieces per second, 0 waits for nothing. `demo-fast` never
    /// waits.
    #[must_use]
    pub fn new(model: &str, pace: u32) -> Self {
        let pace = if model == "demo-fast" { 0 } else { pace };
        Self { model: model.to_owned(), pace, retry: RetryPolicy::default() }
    }

    /// The same with another way of repeating calls that were told to fail.
    #[must_use]
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }
}

impl Provider for DemoProvider {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn stream(&self, request: Request, cancel: CancellationToken) -> ModelStream {
        let (model, pace) = (self.model.clone(), self.pace);
        let mut tries = 0;
        let start = move || {
            tries += 1;
            DemoCall::new(&model, pace, &request, tries)
        };
        stream_of(Retrying::new(self.retry, Jitter::new(Some(0)), start), cancel)
    }
}

/// One try.
struct DemoCall {
    beats: VecDeque<Beat>,
    answer: Assembler,
    /// Time between two pieces.
    gap: Duration,
    due: Option<Instant>,
    told: u32,
    fail_after: Option<u32>,
    fail: Option<ErrorType>,
    retry_after: Option<Duration>,
    hang: bool,
}

impl DemoCall {
    fn new(model: &str, pace: u32, request: &Request, tries: u32) -> Self {
        let prompt = plan::Prompt::of(request);
        let directive = &prompt.directive;
        let pace = directive.pace.unwrap_or(pace);
        let gap = if pace == 0 { Duration::ZERO } else { Duration::from_secs(1) / pace };
        let fails = directive.fail.is_some()
            && request.attempt.max(1) <= directive.fail_attempts
            && tries <= directive.fail_tries;
        let mut answer = Assembler::new(model, ANSWER_BYTES_MAX);
        answer.usage = Usage { input: tokens(&request.messages), ..Usage::default() };
        Self {
            gap,
            due: None,
            told: 0,
            fail_after: fails.then_some(directive.fail_after),
            fail: directive.fail,
            retry_after: directive.retry_after,
            hang: directive.hang,
            beats: plan::beats(&prompt, request, model != "demo-fast"),
            answer,
        }
    }

    /// Keeps the pace; without one, lets others run now and then.
    async fn wait(&mut self) {
        if self.gap.is_zero() {
            if self.told.is_multiple_of(64) {
                tokio::task::yield_now().await;
            }
            return;
        }
        let due = self.due.map_or_else(Instant::now, |due| due + self.gap);
        tokio::time::sleep_until(due).await;
        self.due = Some(due);
    }

    fn failure(&self) -> ModelError {
        let kind = self.fail.unwrap_or(ErrorType::GenericError);
        match kind {
            ErrorType::NetworkError => ModelError::Cut,
            ErrorType::TimeoutError => {
                let after = Duration::from_secs(60);
                ModelError::Timeout { phase: TimeoutPhase::Idle, after }
            }
            ErrorType::ModelProtocolError => {
                ModelError::Protocol { detail: "the demo model was told to fail".into() }
            }
            _ => ModelError::Provider {
                kind,
                text: format!("The demo model was told to fail: {kind}."),
                status: None,
                retry_after: self.retry_after,
                request_id: None,
                transient: matches!(
                    kind,
                    ErrorType::RateLimit | ErrorType::ModelUnavailable | ErrorType::ProviderError
                ),
            },
        }
    }

    fn take(&mut self, beat: Beat) -> Result<(), ModelError> {
        self.answer.usage.output += 1;
        match beat {
            Beat::Think(piece) => {
                self.answer.usage.reasoning += 1;
                self.answer.thinking(0, &piece)
            }
            Beat::Sign(signature) => self.answer.signature(0, &signature),
            Beat::Say(piece) => self.answer.text(1, &piece),
            Beat::Run { left, size, at } => {
                let piece = text::filler(at, size);
                if left > 1 {
                    self.beats.push_front(Beat::Run { left: left - 1, size, at: at + 1 });
                }
                self.answer.text(1, &piece)
            }
            Beat::Call { block, id, name } => self.answer.tool_start(block, &id, &name),
            Beat::Args { block, piece } => self.answer.tool_args(block, &piece),
            Beat::EndCall { block } => {
                self.answer.end(block);
                Ok(())
            }
        }
    }
}

impl Source for DemoCall {
    async fn next(&mut self) -> Result<ModelEvent, ModelError> {
        loop {
            if let Some(event) = self.answer.pop() {
                return Ok(event);
            }
            if self.fail_after == Some(self.told) {
                return Err(self.failure());
            }
            match self.beats.pop_front() {
                Some(beat) => {
                    self.wait().await;
                    self.take(beat)?;
                    self.told += 1;
                }
                None if self.hang => std::future::pending::<()>().await,
                None if self.fail_after.is_some() => return Err(self.failure()),
                None => {
                    if self.answer.has_tools() {
                        self.answer.stop = Some(crate::message::StopReason::ToolUse);
                    }
                    self.answer.tell_usage();
                    self.answer.complete();
                }
            }
        }
    }
}

/// About as many tokens as a provider would count.
fn tokens(messages: &[Message]) -> u64 {
    let bytes = |part: &Part| match part {
        Part::Text { text } | Part::Thinking { text, .. } => text.len(),
        Part::ToolResult { content, .. } => content.len(),
        Part::ToolCall { .. } | Part::RedactedThinking { .. } => 32,
    };
    let bytes: usize = messages.iter().flat_map(|message| &message.parts).map(bytes).sum();
    u64::try_from(bytes / 4).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
