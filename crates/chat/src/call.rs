//! One model call: its stream is told as it comes, its answer is returned whole.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span, debug_span, field::Empty};
use troupe_domain::task::RunEvent;
use troupe_llm::{
    Completion, ErrorSummary, ErrorType, ModelError, ModelEvent, ModelStream, Part, Provider,
    Request,
};
use troupe_telemetry::trace;
use troupe_types::{BlockKind, BlockPatch, BlockStatus, StatusFrame, Timestamp, UsageFrame, Wait};

use crate::{
    caps, metrics,
    progress::Progress,
    tools::ToolSet,
    voice::{Stop, Voice},
};

/// A tool call that is being told.
struct Told {
    id: String,
    pending: bool,
}

/// The calls of one answer, by their place in it.
struct Calls<'a> {
    progress: &'a Progress,
    tools: &'a ToolSet,
    told: BTreeMap<usize, Told>,
}

/// Calls the model. The calls in the answer have ids that are unique in the execution.
pub(crate) async fn call_model(
    voice: &mut Voice<'_>,
    progress: &Progress,
    tools: &ToolSet,
    provider: &dyn Provider,
    request: Request,
) -> Result<Completion, Stop> {
    let mut watch = Watch::new(provider);
    let span = watch.span.clone();
    let called = call(voice, progress, tools, (provider, request), &mut watch);
    let called = Box::pin(called.instrument(span)).await;
    watch.ended(&called);
    called
}

/// Asks the model something of the run's own: nobody hears the answer, but waits are told.
pub(crate) async fn ask_model(
    voice: &Voice<'_>,
    provider: &dyn Provider,
    request: Request,
) -> Result<Completion, Stop> {
    let mut watch = Watch::new(provider);
    let span = watch.span.clone();
    let asked = Box::pin(ask(voice, provider, request, &mut watch).instrument(span)).await;
    watch.ended(&asked);
    asked
}

async fn ask(
    voice: &Voice<'_>,
    provider: &dyn Provider,
    request: Request,
    watch: &mut Watch,
) -> Result<Completion, Stop> {
    let mut stream = provider.stream(request, voice.cancel().child_token());
    let mut waits_until = None;
    loop {
        let event = next(voice, &mut stream, waits_until.take()).await?;
        watch.saw(&event);
        match event {
            ModelEvent::Retrying { after, attempt, error } => {
                waits_until = Some(Instant::now() + after);
                tell_retry(voice, after, attempt, &error).await?;
            }
            ModelEvent::Completed(completion) => return Ok(*completion),
            _ => {}
        }
    }
}

async fn call(
    voice: &mut Voice<'_>,
    progress: &Progress,
    tools: &ToolSet,
    (provider, request): (&dyn Provider, Request),
    watch: &mut Watch,
) -> Result<Completion, Stop> {
    let mut stream = provider.stream(request, voice.cancel().child_token());
    let mut calls = Calls { progress, tools, told: BTreeMap::new() };
    voice.begin_step();
    let mut waits_until = None;
    loop {
        let event = next(voice, &mut stream, waits_until.take()).await?;
        watch.saw(&event);
        match event {
            ModelEvent::Text(piece) => voice.text(&piece).await?,
            ModelEvent::Thinking(piece) => voice.thinking(&piece).await?,
            ModelEvent::Retrying { after, attempt, error } => {
                waits_until = Some(Instant::now() + after);
                tell_retry(voice, after, attempt, &error).await?;
            }
            ModelEvent::ToolCallStart { id, name, index } => {
                calls.start(voice, index, &id, &name).await?;
            }
            ModelEvent::ToolCallEnd { index, id, name, args } => {
                calls.end(voice, index, &id, &name, &args).await?;
            }
            ModelEvent::Completed(mut completion) => {
                calls.rename(voice, &mut completion).await?;
                return Ok(*completion);
            }
            ModelEvent::ThinkingSignature(_)
            | ModelEvent::ToolCallArgs { .. }
            | ModelEvent::Usage(_)
            | ModelEvent::Stop { .. } => {}
        }
    }
}

/// The next event. A call that only waits for its next try is left as soon as the run is asked
/// to leave: nothing came of it yet.
async fn next(
    voice: &Voice<'_>,
    stream: &mut ModelStream,
    waits_until: Option<Instant>,
) -> Result<ModelEvent, Stop> {
    let left = async {
        match waits_until {
            Some(until) if timeout_at(until, voice.leaving()).await.is_ok() => {}
            // The try is under way: the run leaves at the end of its step.
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = voice.cancel().cancelled() => Err(Stop::Cancelled),
        () = left => Err(Stop::Gone),
        event = stream.next() => Ok(event.unwrap_or(Err(ModelError::Cut))?),
    }
}

async fn tell_retry(
    voice: &Voice<'_>,
    after: Duration,
    attempt: u32,
    error: &ErrorSummary,
) -> Result<(), Stop> {
    let code = match error.kind {
        ErrorType::RateLimit => RATE_LIMIT,
        _ => "model_retry",
    };
    let at = voice.clock().now().plus(after);
    let text = format!("{} (try {attempt} follows)", error.text);
    voice.event(RunEvent::Status(retrying(code, at, text))).await
}

/// The code of a wait that a provider asked for.
pub(crate) const RATE_LIMIT: &str = "rate_limit";

/// Says that the model is asked again, and when.
pub(crate) fn retrying(code: &str, at: Timestamp, text: String) -> StatusFrame {
    let args = [("retry_at".to_owned(), Value::String(at.to_string()))].into_iter().collect();
    StatusFrame {
        phase: "retrying".to_owned(),
        wait: Some(Wait { code: code.to_owned(), args }),
        retry_at: Some(at),
        text: Some(text),
        ..StatusFrame::default()
    }
}

/// Measures one call.
struct Watch {
    provider: &'static str,
    span: Span,
    began: Instant,
    first: Option<Duration>,
    retries: u64,
}

impl Watch {
    fn new(provider: &dyn Provider) -> Self {
        let (name, model) = (provider.name(), provider.model());
        let span = trace::child(|| {
            debug_span!(
                "model call",
                otel.kind = "client",
                otel.status_code = Empty,
                gen_ai.operation.name = "chat",
                gen_ai.provider.name = name,
                gen_ai.request.model = model,
                gen_ai.usage.input_tokens = Empty,
                gen_ai.usage.output_tokens = Empty,
                troupe.cached_tokens = Empty,
                troupe.first_token_ms = Empty,
                troupe.retries = Empty,
                outcome = Empty
            )
        });
        Self { provider: name, span, began: Instant::now(), first: None, retries: 0 }
    }

    fn saw(&mut self, event: &ModelEvent) {
        match event {
            ModelEvent::Retrying { .. } => {
                self.retries += 1;
                metrics::retried(self.provider);
            }
            ModelEvent::Text(_) | ModelEvent::Thinking(_) | ModelEvent::ToolCallStart { .. }
                if self.first.is_none() =>
            {
                let after = self.began.elapsed();
                self.first = Some(after);
                metrics::first_token(self.provider, after);
            }
            _ => {}
        }
    }

    fn ended(self, called: &Result<Completion, Stop>) {
        let outcome = match called {
            Ok(_) => "completed",
            Err(Stop::Failed { error, .. }) => error.as_str(),
            Err(Stop::Cancelled) => "cancelled",
            Err(Stop::Gone) => "gone",
        };
        metrics::model_called(self.provider, outcome, self.began.elapsed());
        if let Ok(Completion { usage, .. }) = called {
            metrics::used(self.provider, usage);
            trace::record(&self.span, "gen_ai.usage.input_tokens", usage.input);
            trace::record(&self.span, "gen_ai.usage.output_tokens", usage.output);
            trace::record(&self.span, "troupe.cached_tokens", usage.cached_read);
        }
        if let Some(first) = self.first {
            let millis = u64::try_from(first.as_millis()).unwrap_or(u64::MAX);
            trace::record(&self.span, "troupe.first_token_ms", millis);
        }
        trace::record(&self.span, "troupe.retries", self.retries);
        self.span.record("outcome", outcome);
        if matches!(called, Err(Stop::Failed { .. })) {
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

impl Calls<'_> {
    async fn start(
        &mut self,
        voice: &Voice<'_>,
        index: usize,
        id: &str,
        name: &str,
    ) -> Result<(), Stop> {
        if self.told.contains_key(&index) {
            return Ok(());
        }
        let taken: Vec<String> = self.told.values().map(|told| told.id.clone()).collect();
        let id = self.progress.fresh_id(id, &taken);
        let tool = self.tools.get(name);
        let kind = BlockKind::Tool {
            tool_use_id: id.clone(),
            tool_name: name.to_owned(),
            display_name: tool.and_then(|tool| tool.display_name()).map(str::to_owned),
            tool_input: Value::Null,
            tool_output: None,
            server_label: tool.and_then(|tool| tool.server_label()).map(str::to_owned),
        };
        voice.block(kind, &id).await?;
        self.told.insert(index, Told { id, pending: false });
        Ok(())
    }

    async fn end(
        &mut self,
        voice: &Voice<'_>,
        index: usize,
        id: &str,
        name: &str,
        args: &Value,
    ) -> Result<(), Stop> {
        self.start(voice, index, id, name).await?;
        let Some(told) = self.told.get_mut(&index).filter(|told| !told.pending) else {
            return Ok(());
        };
        told.pending = true;
        let patch = BlockPatch {
            status: Some(BlockStatus::Pending),
            tool_input: Some(shown_args(args)),
            ..BlockPatch::default()
        };
        voice.patch(&told.id, patch).await
    }

    /// Gives the calls of the answer the ids under which they were told, and tells those that
    /// the provider did not stream.
    async fn rename(&mut self, voice: &Voice<'_>, answer: &mut Completion) -> Result<(), Stop> {
        let indices: Vec<usize> = self.told.keys().copied().collect();
        let next = indices.last().map_or(0, |last| last + 1);
        let mut indices = indices.into_iter().chain(next..);
        for part in &mut answer.message.parts {
            let Part::ToolCall { id, name, args } = part else { continue };
            let index = indices.next().unwrap_or(usize::MAX);
            self.end(voice, index, id, name, args).await?;
            if let Some(told) = self.told.get(&index) {
                id.clone_from(&told.id);
            }
        }
        Ok(())
    }
}

/// Arguments as people see them: very long ones as the beginning and end of their text.
fn shown_args(args: &Value) -> Value {
    let text = args.to_string();
    if text.len() <= caps::SHOWN_BYTES_MAX {
        return args.clone();
    }
    Value::String(caps::cap_bytes(&text, caps::SHOWN_BYTES_MAX))
}

/// The tokens of a call, as people see them.
pub(crate) fn usage(completion: &Completion) -> UsageFrame {
    UsageFrame {
        message: None,
        model: completion.model.clone(),
        input_tokens: completion.usage.input,
        output_tokens: completion.usage.output,
        cached_tokens: completion.usage.cached_read,
        cost: None,
    }
}
