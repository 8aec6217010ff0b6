//! Makes a conversation fit the model: the middle of the history goes first, then the length
//! of old tool results, then the length of old texts. A summary of what was said stays, whole.
//! Pure, so every call of a run cuts alike.

use std::ops::Range;

use serde::Serialize;
use troupe_domain::task::ModelPlan;
use troupe_llm::{Message, Part, Role};

use crate::caps::{cap_tokens, message_tokens};

/// Window of a model that does not tell its own, in tokens.
const WINDOW_DEFAULT: u64 = 128_000;
/// Messages that stay at the beginning of a history, and at its end.
const KEEP_FIRST: usize = 2;
const KEEP_LAST: usize = 10;
/// What is left of a tool result in the emergency pass: 30 % of the usual cap, in tokens.
const RESULT_TOKENS_SHORT: u64 = 4_500;
/// What is left of a text, pass by pass, in tokens.
const TEXT_TOKENS_SHORT: [u64; 3] = [20_000, 5_000, 1_000];
/// Longest summary, in tokens.
const SUMMARY_TOKENS_MAX: u64 = 16_000;
const LEFT_OUT: &str = "[result left out: the conversation is too long]";

/// Tokens that a prompt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Above this the prompt is cut..
    pub trigger: u64,
    /// ..and then to this.
    pub target: u64,
}

impl Window {
    /// 90 % and 70 % of what is left of the window beside the answer. The answer's reserve is
    /// 10 % of the window, 16,000 to 48,000, but no more than the answer's own limit or half
    /// the window.
    #[must_use]
    pub fn of(model: &ModelPlan) -> Self {
        let window = match model.context_window {
            0 => WINDOW_DEFAULT,
            window => window,
        };
        let output = model.max_output_tokens.unwrap_or(u64::MAX);
        let reserve = (window / 10).clamp(16_000, 48_000).min(output).min(window / 2);
        let room = window - reserve;
        Self { trigger: room / 10 * 9, target: room / 10 * 7 }
    }

    /// What a summary may take: no more than an eighth of the window.
    #[must_use]
    pub fn summary_max(self) -> u64 {
        (self.target / 6).min(SUMMARY_TOKENS_MAX)
    }
}

/// What was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compaction {
    /// Estimated tokens of the whole prompt before.
    pub tokens_before: u64,
    /// And after.
    pub tokens_after: u64,
    /// Messages of the history that were left out.
    pub dropped_messages: usize,
    /// Tool results that were shortened or left out.
    pub shortened_results: usize,
    /// Texts that were shortened.
    pub shortened_texts: usize,
}

/// A conversation that fits, as far as it can be made to.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// What to send.
    pub messages: Vec<Message>,
    /// Estimated tokens of the whole prompt.
    pub tokens: u64,
    /// What was cut, if anything was.
    pub compaction: Option<Compaction>,
}

/// Puts a history and the run's own messages together. `fixed` is what the rest of the prompt
/// takes (system prompt, tools), in tokens. The last message of the history and the last of the
/// run's own are not shortened, unless nothing else helps; the summary among the history, if one
/// is, never is.
#[must_use]
pub fn fit(
    history: &[Message],
    summary: Option<usize>,
    own: &[Message],
    fixed: u64,
    window: Window,
) -> Fitted {
    let messages: Vec<Message> = history.iter().chain(own).cloned().collect();
    let costs: Vec<u64> = messages.iter().map(message_tokens).collect();
    let before = fixed + costs.iter().sum::<u64>();
    if before <= window.trigger {
        return Fitted { messages, tokens: before, compaction: None };
    }
    let mut cut = Cut { messages, costs, summary, tokens: before, done: Compaction::default() };
    let history = cut.drop_middle(history.len());
    if cut.tokens > window.trigger {
        cut.shorten(history, window.target);
    }
    let Cut { messages, tokens, done, .. } = cut;
    let compaction = Compaction { tokens_before: before, tokens_after: tokens, ..done };
    Fitted { messages, tokens, compaction: Some(compaction) }
}

/// Whether all this fits as it is.
#[must_use]
pub fn fits(history: &[Message], own: &[Message], fixed: u64, window: Window) -> bool {
    fixed + history.iter().chain(own).map(message_tokens).sum::<u64>() <= window.trigger
}

/// The messages of a history that go first where it is too long.
pub(super) fn middle(history: &[Message], summary: Option<usize>) -> Range<usize> {
    let calls = |m: &Message| m.parts.iter().any(|p| matches!(p, Part::ToolCall { .. }));
    let mut first = summary.map_or(KEEP_FIRST, |at| at + 1);
    if history.len() <= first.max(KEEP_FIRST) + KEEP_LAST {
        return 0..0;
    }
    // Calls and their results go together.
    while summary.is_none() && first > 0 && calls(&history[first - 1]) {
        first -= 1;
    }
    let mut last = history.len() - KEEP_LAST;
    while last < history.len() && history[last].role == Role::Tool {
        last += 1;
    }
    first..last
}

struct Cut {
    messages: Vec<Message>,
    /// Tokens of each message.
    costs: Vec<u64>,
    /// Which of them is a summary; it stands before all that goes.
    summary: Option<usize>,
    /// Tokens of the whole prompt.
    tokens: u64,
    done: Compaction,
}

impl Cut {
    /// Returns how many messages are left of the history.
    fn drop_middle(&mut self, history: usize) -> usize {
        let Range { start: first, end: last } = middle(&self.messages[..history], self.summary);
        if first == last {
            return history;
        }
        let note = Message::user(format!("[{} earlier messages left out]", last - first));
        let cost = message_tokens(&note);
        self.done.dropped_messages = last - first;
        self.messages.splice(first..last, [note]);
        let gone: u64 = self.costs.splice(first..last, [cost]).sum();
        self.tokens = self.tokens - gone + cost;
        history - (last - first) + 1
    }

    fn shorten(&mut self, history: usize, target: u64) {
        let end = self.messages.len().saturating_sub(1);
        for short in [Some(RESULT_TOKENS_SHORT), None] {
            for at in 0..end {
                if self.tokens <= target {
                    return;
                }
                self.done.shortened_results += shorten_results(&mut self.messages[at], short);
                self.weigh(at);
            }
        }
        let asked = history.saturating_sub(1);
        for tokens_max in TEXT_TOKENS_SHORT {
            let others = (0..=end).filter(|at| *at != asked && Some(*at) != self.summary);
            for at in others.collect::<Vec<_>>().into_iter().chain([asked]) {
                if self.tokens <= target {
                    return;
                }
                self.done.shortened_texts += shorten_texts(&mut self.messages[at], tokens_max);
                self.weigh(at);
            }
        }
    }

    /// A message has changed.
    fn weigh(&mut self, at: usize) {
        let cost = message_tokens(&self.messages[at]);
        self.tokens = self.tokens - self.costs[at] + cost;
        self.costs[at] = cost;
    }
}

/// Returns how many were shortened.
fn shorten_results(message: &mut Message, tokens_max: Option<u64>) -> usize {
    let mut shortened = 0;
    for part in &mut message.parts {
        let Part::ToolResult { content, .. } = part else { continue };
        let short = match tokens_max {
            Some(max) => cap_tokens(content, max),
            None => LEFT_OUT.to_owned(),
        };
        if short.len() < content.len() {
            *content = short;
            shortened += 1;
        }
    }
    shortened
}

/// Returns how many were shortened.
fn shorten_texts(message: &mut Message, tokens_max: u64) -> usize {
    let mut shortened = 0;
    for part in &mut message.parts {
        let (Part::Text { text } | Part::ToolResult { content: text, .. }) = part else {
            continue;
        };
        let short = cap_tokens(text, tokens_max);
        if short.len() < text.len() {
            *text = short;
            shortened += 1;
        }
    }
    shortened
}
