//! What the fake model answers: a script maps a request to an [`Answer`].

use std::{fmt, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::watch;

use super::directive;

/// The wire format of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI chat completions.
    OpenAi,
    /// OpenAI Responses.
    Responses,
}

/// A tool on offer.
#[derive(Clone, Debug)]
pub struct ToolOffer {
    /// Its name.
    pub name: String,
    /// The schema of its arguments.
    pub schema: Value,
}

/// A tool result in the request.
#[derive(Clone, Debug)]
pub struct ToolOutcome {
    /// The id of the call.
    pub id: String,
    /// The result as text.
    pub content: String,
    /// Said to be a failure (Anthropic only).
    pub is_error: bool,
}

/// A request, taken apart.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its wire format.
    pub wire: Wire,
    /// From 1, over all requests of the server.
    pub number: u64,
    /// How often this very conversation was sent before.
    pub repeat: u64,
    /// The model that was asked for.
    pub model: String,
    /// The system prompt.
    pub system: String,
    /// The last human text, without what runtimes add to it.
    pub human: String,
    /// Assistant messages since then.
    pub step: usize,
    /// Tools on offer.
    pub tools: Vec<ToolOffer>,
    /// Tool results since the last human text.
    pub results: Vec<ToolOutcome>,
    /// The whole body.
    pub body: Value,
}

impl Turn {
    /// Whether a tool is on offer.
    #[must_use]
    pub fn offers(&self, tool: &str) -> bool {
        self.tools.iter().any(|offer| offer.name == tool)
    }
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Thinking; signed on the Anthropic wire, `reasoning_content` on the other.
    Thinking(String),
    /// Thinking that is hidden (Anthropic only).
    RedactedThinking(String),
    /// Text. `{request}` becomes the request's number, `{repeat}` the repeat.
    Text(String),
    /// A tool call; left out unless the request offers the tool.
    Tool {
        /// Its name.
        name: String,
        /// Its arguments; a string is sent as it is, well formed or not.
        args: Value,
    },
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// An error answer instead of a stream.
    Status {
        /// HTTP status.
        status: u16,
        /// `error.type`, and `error.code` on the OpenAI wire.
        kind: String,
        /// `error.message`.
        message: String,
        /// The `retry-after` header.
        retry_after: Option<String>,
    },
    /// The connection is cut after so many events.
    Cut {
        /// Events before it.
        after: usize,
    },
    /// A piece of broken JSON after so many events.
    Malformed {
        /// Events before it.
        after: usize,
    },
    /// An error event after so many events; then the stream ends.
    Error {
        /// Events before it.
        after: usize,
        /// `error.type`.
        kind: String,
    },
    /// Nothing more after so many events, and no end.
    Hang {
        /// Events before it.
        after: usize,
    },
    /// Not even an answer's head.
    HangBeforeHead,
    /// So many bytes of text follow.
    Huge {
        /// About how many.
        bytes: usize,
    },
    /// One event of so many bytes.
    HugeEvent {
        /// About how many.
        bytes: usize,
    },
    /// A web page instead of a stream, with status 200.
    WebPage,
}

impl Fault {
    /// 429 with an optional `retry-after` in seconds.
    #[must_use]
    pub fn rate_limit(retry_after: Option<&str>) -> Self {
        Self::status(429, "rate_limit_error", "Rate limit reached", retry_after)
    }

    /// 529, as Anthropic says that it is overloaded.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::status(529, "overloaded_error", "Overloaded", None)
    }

    /// 500.
    #[must_use]
    pub fn server_error() -> Self {
        Self::status(500, "api_error", "Internal server error", None)
    }

    /// 429 that waiting does not help.
    #[must_use]
    pub fn quota() -> Self {
        Self::status(429, "insufficient_quota", "You exceeded your current quota", None)
    }

    /// 400: the prompt is too long.
    #[must_use]
    pub fn context_length() -> Self {
        let message = "prompt is too long: 210000 tokens > 200000 maximum";
        Self::status(400, "context_length_exceeded", message, None)
    }

    /// Any error answer.
    #[must_use]
    pub fn status(status: u16, kind: &str, message: &str, retry_after: Option<&str>) -> Self {
        Self::Status {
            status,
            kind: kind.to_owned(),
            message: message.to_owned(),
            retry_after: retry_after.map(str::to_owned),
        }
    }
}

/// Holds answers back until it is opened.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Lets through all that wait, and all that come.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn pass(&self) {
        // The sender lives in `self`: the wait ends only when the gate opens.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// What the model answers to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) pieces: Vec<Piece>,
    pub(super) chunk_chars: usize,
    pub(super) gap: Duration,
    pub(super) first: Duration,
    pub(super) stop: Option<String>,
    pub(super) fault: Option<Fault>,
    pub(super) fault_repeats: u64,
    pub(super) any_tool: bool,
    pub(super) gate: Option<Gate>,
    pub(super) gate_after: usize,
}

impl Answer {
    /// An answer of these parts.
    #[must_use]
    pub const fn new(pieces: Vec<Piece>) -> Self {
        Self {
            pieces,
            chunk_chars: 8,
            gap: Duration::ZERO,
            first: Duration::ZERO,
            stop: None,
            fault: None,
            fault_repeats: u64::MAX,
            any_tool: false,
            gate: None,
            gate_after: 0,
        }
    }

    /// Plain text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(vec![Piece::Text(text.into())])
    }

    /// One tool call.
    #[must_use]
    pub fn tool(name: &str, args: Value) -> Self {
        Self::new(vec![Piece::Tool { name: name.to_owned(), args }])
    }

    /// Nothing but a fault.
    #[must_use]
    pub fn fault(fault: Fault) -> Self {
        Self::text("This text belongs to a fault.").failing(fault)
    }

    /// Adds a part.
    #[must_use]
    pub fn and(mut self, piece: Piece) -> Self {
        self.pieces.push(piece);
        self
    }

    /// Thinks before all else.
    #[must_use]
    pub fn thinking(mut self, text: impl Into<String>) -> Self {
        self.pieces.insert(0, Piece::Thinking(text.into()));
        self
    }

    /// Goes wrong.
    #[must_use]
    pub fn failing(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Goes wrong only the first `times` times that this conversation is sent.
    #[must_use]
    pub const fn only_first(mut self, times: u64) -> Self {
        self.fault_repeats = times;
        self
    }

    /// Characters of each piece of text, thinking and arguments (8).
    #[must_use]
    pub const fn chunked(mut self, chars: usize) -> Self {
        self.chunk_chars = chars;
        self
    }

    /// Waits before each event but the first.
    #[must_use]
    pub const fn slow(mut self, gap: Duration) -> Self {
        self.gap = gap;
        self
    }

    /// Waits before the head of the answer.
    #[must_use]
    pub const fn late(mut self, first: Duration) -> Self {
        self.first = first;
        self
    }

    /// Waits at the gate after `after` events (0: before the head).
    #[must_use]
    pub fn held_by(mut self, gate: &Gate, after: usize) -> Self {
        self.gate = Some(gate.clone());
        self.gate_after = after;
        self
    }

    /// Stops for this reason, in the wire's own words.
    #[must_use]
    pub fn stopping(mut self, reason: &str) -> Self {
        self.stop = Some(reason.to_owned());
        self
    }

    /// Calls tools that are not on offer, too.
    #[must_use]
    pub const fn with_any_tool(mut self) -> Self {
        self.any_tool = true;
        self
    }

    /// Leaves out what the request does not allow and fills in its numbers.
    pub(super) fn prepared(mut self, turn: &Turn) -> Self {
        if turn.repeat >= self.fault_repeats {
            self.fault = None;
        }
        let any = self.any_tool;
        self.pieces.retain(|piece| match piece {
            Piece::Tool { name, .. } => any || turn.offers(name),
            Piece::RedactedThinking(_) => turn.wire == Wire::Anthropic,
            Piece::Thinking(_) | Piece::Text(_) => true,
        });
        for piece in &mut self.pieces {
            if let Piece::Text(text) | Piece::Thinking(text) = piece {
                *text = text
                    .replace("{request}", &turn.number.to_string())
                    .replace("{repeat}", &turn.repeat.to_string());
            }
        }
        if self.pieces.is_empty() {
            self.pieces.push(Piece::Text("Done.".to_owned()));
        }
        self
    }
}

/// A line of a list script: which requests, and an answer per step.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    human: Option<String>,
    system: Option<String>,
    tool: Option<String>,
    steps: Vec<Answer>,
}

impl Rule {
    /// A rule for every request.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Only if the last human text contains this.
    #[must_use]
    pub fn human(mut self, part: &str) -> Self {
        self.human = Some(part.to_owned());
        self
    }

    /// Only if the system prompt contains this.
    #[must_use]
    pub fn system(mut self, part: &str) -> Self {
        self.system = Some(part.to_owned());
        self
    }

    /// Only if this tool is on offer.
    #[must_use]
    pub fn offered(mut self, tool: &str) -> Self {
        self.tool = Some(tool.to_owned());
        self
    }

    /// The answer of the next step; the last one also answers all later steps.
    #[must_use]
    pub fn then(mut self, answer: Answer) -> Self {
        self.steps.push(answer);
        self
    }

    fn fits(&self, turn: &Turn) -> bool {
        let within = |part: &Option<String>, text: &str| {
            part.as_deref().is_none_or(|part| text.contains(part))
        };
        within(&self.human, &turn.human)
            && within(&self.system, &turn.system)
            && self.tool.as_deref().is_none_or(|tool| turn.offers(tool))
            && !self.steps.is_empty()
    }
}

type Answers = dyn Fn(&Turn) -> Answer + Send + Sync;

/// Maps requests to answers; cheap to clone.
#[derive(Clone)]
pub struct Script(Arc<Answers>);

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    /// A script in code.
    pub fn new(answers: impl Fn(&Turn) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(answers))
    }

    /// The same answer always.
    #[must_use]
    pub fn always(answer: Answer) -> Self {
        Self::new(move |_| answer.clone())
    }

    /// The first rule that fits answers; none: the default script does.
    #[must_use]
    pub fn rules(rules: Vec<Rule>) -> Self {
        Self::new(move |turn| {
            let Some(rule) = rules.iter().find(|rule| rule.fits(turn)) else {
                return directive::default_answer(turn);
            };
            let step = turn.step.min(rule.steps.len().saturating_sub(1));
            rule.steps.get(step).cloned().unwrap_or_else(|| Answer::text("Done."))
        })
    }

    /// Answers every request sensibly: says the request's number and what was asked, leads
    /// teams, and does what `[[fake key=value ...]]` in the human text says:
    ///
    /// - `chunks=N size=N`: N pieces of filler of that many characters; `ms=N`: a wait before
    ///   each; `first=N`: a wait in milliseconds before the head; `think=words_of_a_thought`.
    /// - `tool=NAME calls=N rounds=N args={..}` (`args` last): calls a tool in the first N steps.
    /// - `fail=429|529|500|401|quota|context|KIND`, `retry_after=S`; `cut=N`, `malformed=N`,
    ///   `error=N`, `hang=N` (events before it), `hang=head`, `huge=BYTES`; `tries=N`: only the
    ///   first N times that this conversation is sent.
    #[must_use]
    pub fn standard() -> Self {
        Self::new(directive::default_answer)
    }

    /// What it says to a request.
    #[must_use]
    pub fn answer(&self, turn: &Turn) -> Answer {
        (self.0)(turn).prepared(turn)
    }
}
