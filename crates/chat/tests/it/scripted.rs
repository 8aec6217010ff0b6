//! A model whose answers a test writes.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use troupe_chat::ModelFactory;
use troupe_domain::task::ModelPlan;
use troupe_llm::{
    Completion, ErrorSummary, ErrorType, Message, ModelError, ModelEvent, ModelStream, Part,
    Provider, Request, Role, StopReason, Usage,
};

use crate::world::lock;

/// One answer of the scripted model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) parts: Vec<Part>,
    pub(crate) stop: Option<StopReason>,
    /// Nothing more after its parts.
    pub(crate) hangs: bool,
    /// A try fails before it, and the next one follows after so many seconds.
    pub(crate) retries_after: Option<u64>,
}

pub(crate) fn say(text: &str) -> Answer {
    Answer { parts: vec![Part::Text { text: text.into() }], ..Answer::default() }
}

pub(crate) fn ask(name: &str, args: Value) -> Answer {
    Answer::default().and(name, args)
}

impl Answer {
    /// One more tool call. Its id depends on its place in the answer alone, as with providers
    /// that use theirs again.
    pub(crate) fn and(mut self, name: &str, args: Value) -> Self {
        let id = format!("call_{}", self.parts.len());
        self.parts.push(Part::ToolCall { id, name: name.into(), args });
        self
    }

    pub(crate) fn stopping(mut self, stop: StopReason) -> Self {
        self.stop = Some(stop);
        self
    }

    pub(crate) fn hanging(mut self) -> Self {
        self.hangs = true;
        self
    }

    pub(crate) fn retrying(mut self, after: u64) -> Self {
        self.retries_after = Some(after);
        self
    }

    fn events(&self) -> Vec<ModelEvent> {
        let mut events = Vec::new();
        let mut index = 0;
        for part in &self.parts {
            match part {
                Part::Text { text } => {
                    let words = text.split_inclusive(' ');
                    events.extend(words.map(|word| ModelEvent::Text(word.to_owned())));
                }
                Part::Thinking { text, .. } => events.push(ModelEvent::Thinking(text.clone())),
                Part::ToolCall { id, name, args } => {
                    let (id, name, args) = (id.clone(), name.clone(), args.clone());
                    let start =
                        ModelEvent::ToolCallStart { id: id.clone(), name: name.clone(), index };
                    events.extend([start, ModelEvent::ToolCallEnd { index, id, name, args }]);
                    index += 1;
                }
                _ => {}
            }
        }
        let usual = if index > 0 { StopReason::ToolUse } else { StopReason::EndTurn };
        let completion = Completion {
            message: Message { role: Role::Assistant, parts: self.parts.clone() },
            usage: Usage { input: 10, output: 5, cached_read: 2, ..Usage::default() },
            stop: self.stop.clone().unwrap_or(usual),
            model: "scripted".into(),
            response_id: None,
        };
        if !self.hangs {
            events.push(ModelEvent::Completed(Box::new(completion)));
        }
        events
    }
}

pub(crate) type Script = dyn Fn(&Request, usize) -> Result<Answer, ModelError> + Send + Sync;

/// A model whose answer depends on the request and on how many steps it holds already.
#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) script: Arc<Script>,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    /// Streams that were dropped before their end.
    pub(crate) dropped: Arc<AtomicUsize>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").finish_non_exhaustive()
    }
}

struct CountDrop(Arc<AtomicUsize>, bool);

impl Drop for CountDrop {
    fn drop(&mut self) {
        if self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Provider for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn model(&self) -> &str {
        "scripted"
    }

    fn stream(&self, request: Request, _: CancellationToken) -> ModelStream {
        let asked = request.messages.iter().rposition(|m| m.role == Role::User).map_or(0, |at| at);
        let steps = request.messages[asked..].iter().filter(|m| m.role == Role::Assistant).count();
        let answer = (self.script)(&request, steps);
        lock(&self.requests).push(request);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return ModelStream::new(stream::iter([Err(error)])),
        };
        let guard = CountDrop(Arc::clone(&self.dropped), answer.hangs);
        let tries = answer.retries_after.map(Duration::from_secs);
        let waits = stream::iter(tries).flat_map(|after| {
            let error = ErrorSummary { kind: ErrorType::RateLimit, text: "x".into(), status: None };
            let told = ModelEvent::Retrying { after, attempt: 2, error };
            // The wait is over before the answer begins, and is no event.
            let waited = tokio::time::timeout(after, std::future::pending::<()>());
            let waited = stream::once(waited).filter_map(|_| std::future::ready(None));
            stream::iter([Ok(told)]).chain(waited)
        });
        let events = waits.chain(stream::iter(answer.events().into_iter().map(Ok)));
        let rest = if answer.hangs { stream::pending().boxed() } else { stream::empty().boxed() };
        ModelStream::new(events.chain(rest).map(move |event| {
            let _ = &guard;
            event
        }))
    }
}

impl ModelFactory for Scripted {
    fn provider(&self, _: &ModelPlan) -> Result<Arc<dyn Provider>, ModelError> {
        Ok(Arc::new(self.clone()))
    }
}
