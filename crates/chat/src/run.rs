//! The loop: model call, tools, model call, until there is an answer.

mod sum_up;
mod tool_steps;

use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span};
use troupe_domain::task::{Conversation, MemberPlan, RunEvent, TeamPlan, ThinkingPlan, Work};
use troupe_llm::{
    Effort, Message, Provider, RETRY_AFTER_MAX, Request, StopReason, Thinking, ToolChoice, ToolDef,
};
use troupe_types::{Attempt, ErrorType, ExecutionId, StatusFrame, TaskId, Timestamp};

use crate::{
    call::{RATE_LIMIT, call_model, retrying, usage},
    caps,
    decision::{LeaderTool, in_words},
    options::ChatOptions,
    progress::{Next, Progress},
    prompt::{self, Compaction, Summary, Window},
    record,
    services::ChatServices,
    sink::RunSink,
    tools::{LoadSkill, Tool, ToolSet, mcp},
    voice::{Stop, Voice},
};

/// One attempt of one message.
#[derive(Clone, Debug)]
pub struct ChatRun {
    /// The Task.
    pub task: TaskId,
    /// The execution; part of idempotency keys.
    pub execution: ExecutionId,
    /// The attempt.
    pub attempt: Attempt,
    /// The Team as its turn uses it.
    pub plan: Arc<TeamPlan>,
    /// Index of the member that answers.
    pub member: u32,
    /// What it is asked for.
    pub work: Work,
    /// What was said before, and what this message finished already.
    pub conversation: Conversation,
    /// What an attempt before this one was told by the model's provider: not to ask it earlier.
    /// The run waits until then, [`RETRY_AFTER_MAX`] at most.
    pub not_before: Option<Timestamp>,
    /// Why, as that attempt said it. `None`: it did not.
    pub wait_code: Option<String>,
    /// Bounds.
    pub options: ChatOptions,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// `Done` was said.
    Done,
    /// `Failed` was said.
    Failed,
    /// It was cancelled; nothing was said.
    Cancelled,
    /// The sink took nothing more.
    Gone,
}

/// Runs one attempt to its end. What happens is told to `sink`; the last event is `Done` or
/// `Failed`, unless `cancel` was cancelled or the sink is gone: then it ends without a word,
/// the model's connection is closed and tools are dropped. Returns at most 3 s after that.
pub async fn run(
    run: ChatRun,
    services: &ChatServices,
    sink: &dyn RunSink,
    cancel: CancellationToken,
) -> RunEnd {
    let span = info_span!("chat run", task = %run.task, execution = %run.execution,
        attempt = run.attempt.0);
    Box::pin(run_to_end(run, services, sink, cancel)).instrument(span).await
}

async fn run_to_end(
    mut run: ChatRun,
    services: &ChatServices,
    sink: &dyn RunSink,
    cancel: CancellationToken,
) -> RunEnd {
    let kept = std::mem::take(&mut run.conversation.kept_text);
    let voice = Voice::new(sink, services.clock.as_ref(), &cancel, kept);
    let progress = Progress::new(Arc::clone(&run.plan), &run.work);
    let mut runner = Runner {
        run: &run,
        services,
        voice,
        progress,
        summary: None,
        sum_ups_left: sum_up::TRIES_MAX,
        compaction: None,
    };
    let mut servers = mcp::Connected::default();
    let ended = match runner.drive(&mut servers).await {
        Ok(()) => RunEnd::Done,
        Err(Stop::Gone) => RunEnd::Gone,
        Err(Stop::Cancelled) => RunEnd::Cancelled,
        Err(Stop::Failed { error, text }) => {
            match runner.voice.event(RunEvent::Failed { error, text }).await {
                Ok(()) => RunEnd::Failed,
                Err(Stop::Cancelled) => RunEnd::Cancelled,
                Err(_) => RunEnd::Gone,
            }
        }
    };
    servers.close().await;
    debug!(?ended, "chat run ended");
    ended
}

struct Runner<'a> {
    run: &'a ChatRun,
    services: &'a ChatServices,
    voice: Voice<'a>,
    progress: Progress,
    /// What stands for the oldest part of the history, where that does not fit.
    summary: Option<Summary>,
    /// How often the model may still be asked for one.
    sum_ups_left: u32,
    /// What people were last told of a cut.
    compaction: Option<Compaction>,
}

/// What every model call of a run shares.
struct Calling {
    provider: Arc<dyn Provider>,
    tools: ToolSet,
    definitions: Vec<ToolDef>,
    system: String,
    history: Vec<Message>,
    window: Window,
    /// Tokens of system prompt and tools.
    fixed: u64,
    max_output_tokens: Option<u32>,
    thinking: Thinking,
}

impl Runner<'_> {
    async fn drive(&mut self, servers: &mut mcp::Connected) -> Result<(), Stop> {
        self.resume().await?;
        if self.progress.next() == Next::Finish {
            return self.finish().await;
        }
        self.hold().await?;
        let calling = self.prepare(servers).await?;
        loop {
            match self.progress.next() {
                Next::Model => self.model_step(&calling).await?,
                Next::Tools => self.tool_steps(&calling.tools).await?,
                Next::Finish => return self.finish().await,
            }
        }
    }

    /// Folds what is finished. A call that nobody closed may have run: it is closed as unknown.
    async fn resume(&mut self) -> Result<(), Stop> {
        for record in &self.run.conversation.resume {
            self.progress.apply(record);
        }
        for call in self.progress.open_calls() {
            if self.progress.judged(&call).is_none() {
                let record = record::of_tool(&call.id, &record::unknown_result(&call.id));
                self.progress.apply(&record);
                self.voice.step(record, None).await?;
            }
        }
        Ok(())
    }

    /// Waits as long as an attempt before this one would have waited before it asks again.
    async fn hold(&self) -> Result<(), Stop> {
        let Some(at) = self.run.not_before else { return Ok(()) };
        let now = self.services.clock.now();
        let wait = at.since(now).min(RETRY_AFTER_MAX);
        if wait.is_zero() {
            return Ok(());
        }
        let code = self.run.wait_code.as_deref().unwrap_or(RATE_LIMIT);
        let text = match code {
            RATE_LIMIT => "The model's provider asked to wait.",
            _ => "The model failed, and is asked again then.",
        };
        let status = retrying(code, now.plus(wait), text.to_owned());
        self.voice.event(RunEvent::Status(status)).await?;
        self.voice.wait(wait).await
    }

    async fn prepare(&mut self, servers: &mut mcp::Connected) -> Result<Calling, Stop> {
        let ChatRun { plan, member, work, options, .. } = self.run;
        let unknown = || Stop::failed(ErrorType::InvalidParameter, "the team has no such member");
        let own = plan.member(*member).ok_or_else(unknown)?;
        let no_model = || {
            let text = format!("`{}` has no model: give its Bot one, or choose one", own.name);
            Stop::failed(ErrorType::InvalidParameter, text)
        };
        let model = own.model.as_ref().ok_or_else(no_model)?;
        let provider = self.services.models.provider(model)?;
        let tools = self.tools(own, options, servers).await?;
        let mut definitions = tools.definitions();
        definitions.extend(self.progress.lead().map(|lead| lead.definition(plan)));
        let decides = self.progress.lead().is_some_and(LeaderTool::is_required);
        let system = [prompt::system(plan, *member, work), prompt::section(own, !decides)];
        let system = system.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        let system = system.join("\n\n");
        let fixed = caps::tokens(&system) + caps::tokens(&json!(definitions).to_string());
        let history = prompt::history(plan, *member, work, &self.run.conversation.items);
        self.summary = Summary::find(&history, &self.run.conversation);
        // Who only decides needs no more than the last words, and is to be quick.
        if decides {
            self.sum_ups_left = 0;
        }
        Ok(Calling {
            provider,
            tools,
            definitions,
            history,
            system,
            window: Window::of(model),
            fixed,
            max_output_tokens: model.max_output_tokens.and_then(|max| u32::try_from(max).ok()),
            thinking: thinking(plan.thinking_of(model)),
        })
    }

    /// The tools of this run; a leader that only decides has none but its own.
    async fn tools(
        &self,
        member: &MemberPlan,
        options: &ChatOptions,
        servers: &mut mcp::Connected,
    ) -> Result<ToolSet, Stop> {
        let lead = self.progress.lead();
        if lead.is_some_and(|lead| lead.is_required()) {
            return Ok(ToolSet::default());
        }
        *servers = tokio::select! {
            biased;
            () = self.voice.cancel().cancelled() => return Err(Stop::Cancelled),
            connected = mcp::connect(self.services, member, options) => connected,
        };
        for warning in std::mem::take(&mut servers.warnings) {
            self.voice.warn(warning).await?;
        }
        let skills = LoadSkill::of(member).map(|tool| Arc::new(tool) as Arc<dyn Tool>);
        let offered = skills.into_iter().chain(std::mem::take(&mut servers.tools)).collect();
        let room = options.tools_max.saturating_sub(usize::from(lead.is_some()));
        let reserved = lead.map(|lead| lead.name());
        let (set, left_out) = ToolSet::assemble(&self.services.tools, offered, reserved, room);
        if left_out > 0 {
            let text = format!("{left_out} tools are left out: a model takes {room} at most");
            self.voice.warn(text).await?;
        }
        Ok(set)
    }

    async fn model_step(&mut self, calling: &Calling) -> Result<(), Stop> {
        let rounds_max = self.run.options.tool_rounds_max;
        let last = self.progress.rounds() >= rounds_max;
        let request = self.request(calling, last).await?;
        let provider = calling.provider.as_ref();
        let (voice, progress) = (&mut self.voice, &self.progress);
        let mut answer = call_model(voice, progress, &calling.tools, provider, request).await?;
        if last && answer.tool_calls().next().is_some() {
            let text = format!(
                "after {rounds_max} model calls with tools the model still asks for tools \
                 instead of answering"
            );
            return Err(Stop::failed(ErrorType::GenericError, text));
        }
        record::fit(&mut answer).map_err(|bytes| {
            let text = format!("the model asked for a tool with {bytes} bytes of arguments");
            Stop::failed(ErrorType::PayloadTooLarge, text)
        })?;
        let record = record::of_model(&answer);
        self.progress.apply(&record);
        self.voice.step(record, Some(usage(&answer))).await
    }

    async fn request(&mut self, calling: &Calling, last: bool) -> Result<Request, Stop> {
        let mut own = self.progress.messages().to_vec();
        if last {
            let text = "[task] You have used all your tool calls. Answer now, with what you know.";
            own.push(Message::user(text));
        }
        let told = self.told(calling, &own).await?;
        let (fixed, window) = (calling.fixed, calling.window);
        let fitted = prompt::fit(&told.messages, told.summary, &own, fixed, window);
        if let Some(cut) = fitted.compaction {
            self.tell_cut(cut, calling).await?;
        }
        let tool_choice = match self.progress.lead().filter(|lead| lead.is_required()) {
            _ if last => ToolChoice::None,
            Some(lead) => ToolChoice::Tool(lead.name().to_owned()),
            None => ToolChoice::Auto,
        };
        Ok(Request {
            system: Some(calling.system.clone()).filter(|system| !system.is_empty()),
            messages: fitted.messages,
            tools: calling.definitions.clone(),
            tool_choice,
            max_output_tokens: calling.max_output_tokens,
            thinking: calling.thinking,
            attempt: self.run.attempt.0,
            ..Request::default()
        })
    }

    /// Says what was cut of the prompt, once for each thing that is cut.
    async fn tell_cut(&mut self, cut: Compaction, calling: &Calling) -> Result<(), Stop> {
        let what = |c: Compaction| (c.dropped_messages, c.shortened_results, c.shortened_texts);
        if self.compaction.map(what) == Some(what(cut)) {
            return Ok(());
        }
        self.compaction = Some(cut);
        let text = format!(
            "The conversation is too long for the model: {} messages left out, {} tool results \
             and {} texts shortened.",
            cut.dropped_messages, cut.shortened_results, cut.shortened_texts
        );
        let status = StatusFrame {
            phase: "compacting".to_owned(),
            text: Some(text),
            context_metrics: Some(json!({
                "tokens": cut.tokens_after, "tokens_max": calling.window.trigger,
            })),
            compaction: Some(json!(cut)),
            ..StatusFrame::default()
        };
        self.voice.event(RunEvent::Status(status)).await
    }

    async fn finish(&mut self) -> Result<(), Stop> {
        let decision = self.progress.decision();
        let stop = self.progress.stop().clone();
        if self.voice.answer().trim().is_empty() {
            if let Some(decision) = &decision {
                self.voice.begin_step();
                self.voice.text(&in_words(decision)).await?;
            } else if self.progress.lead().is_none_or(|lead| !lead.is_required()) {
                nothing_said(&stop)?;
            }
        }
        let stop_reason = match serde_json::to_value(&stop) {
            Ok(serde_json::Value::String(word)) => Some(word),
            _ => match stop {
                StopReason::Other(word) => Some(word),
                _ => None,
            },
        };
        let answer = self.voice.answer().to_owned();
        self.voice.event(RunEvent::Done { answer, stop_reason, decision }).await
    }
}

const fn thinking(plan: Option<ThinkingPlan>) -> Thinking {
    match plan {
        None => Thinking::Default,
        Some(ThinkingPlan::Low) => Thinking::Effort(Effort::Low),
        Some(ThinkingPlan::Medium) => Thinking::Effort(Effort::Medium),
        Some(ThinkingPlan::High) => Thinking::Effort(Effort::High),
        Some(ThinkingPlan::Tokens(most)) => Thinking::Budget(most),
    }
}

/// An answer without a word is one only if the model meant it so.
fn nothing_said(stop: &StopReason) -> Result<(), Stop> {
    let (error, text) = match stop {
        StopReason::Refusal => (ErrorType::ContentFilter, "the model refused to answer"),
        StopReason::MaxTokens => (
            ErrorType::InvalidParameter,
            "the model reached its output limit before it wrote an answer",
        ),
        StopReason::ContextWindow => (
            ErrorType::ContextLengthExceeded,
            "the model's context was full before it wrote an answer",
        ),
        _ => return Ok(()),
    };
    Err(Stop::failed(error, text))
}
