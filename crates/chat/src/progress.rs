//! How far a run is: a pure fold of its step records. Live and resumed runs share it.

use std::{collections::HashSet, sync::Arc};

use serde_json::Value;
use tracing::warn;
use troupe_domain::task::{LeaderDecision, StepRecord, TeamPlan, Work};
use troupe_llm::{Message, Part, StopReason};

use crate::{
    decision::{LeaderTool, TRIES_MAX},
    record::{self, Step},
};

/// A tool call that a model made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// Unique in its execution.
    pub id: String,
    /// The tool.
    pub name: String,
    /// An object; anything else is what the model wrote instead of one.
    pub args: Value,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Call the model.
    Model,
    /// Run the open calls.
    Tools,
    /// Say the answer.
    Finish,
}

/// The fold.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    plan: Arc<TeamPlan>,
    lead: Option<LeaderTool>,
    messages: Vec<Message>,
    calls: Vec<(Call, Option<Part>)>,
    ids: HashSet<String>,
    steps: u32,
    rounds: u32,
    decision: Option<LeaderDecision>,
    /// What was wrong with the last try to decide.
    fault: Option<String>,
    faults: u32,
    stop: StopReason,
    next: Next,
}

impl Progress {
    /// Before the first step.
    pub(crate) fn new(plan: Arc<TeamPlan>, work: &Work) -> Self {
        Self {
            plan,
            lead: LeaderTool::of(work),
            messages: Vec::new(),
            calls: Vec::new(),
            ids: HashSet::new(),
            steps: 0,
            rounds: 0,
            decision: None,
            fault: None,
            faults: 0,
            stop: StopReason::EndTurn,
            next: Next::Model,
        }
    }

    /// What comes next.
    pub(crate) const fn next(&self) -> Next {
        self.next
    }

    /// What the model sees of this message so far. Whole whenever [`Next::Model`] is next.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Model calls that led to a further one.
    pub(crate) const fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Why the model stopped last.
    pub(crate) const fn stop(&self) -> &StopReason {
        &self.stop
    }

    /// The tool by which this member decides.
    pub(crate) const fn lead(&self) -> Option<LeaderTool> {
        self.lead
    }

    /// What was decided, at the end of the run.
    pub(crate) fn decision(&self) -> Option<LeaderDecision> {
        let invalid = || self.fault.clone().map(|error| LeaderDecision::Invalid { error });
        self.decision.clone().or_else(|| invalid().filter(|_| self.faults >= TRIES_MAX))
    }

    /// Calls without a result, in order.
    pub(crate) fn open_calls(&self) -> Vec<Call> {
        let open = self.calls.iter().filter(|(_, result)| result.is_none());
        open.map(|(call, _)| call.clone()).collect()
    }

    /// An id that no call of this execution had before: providers may use theirs again, and
    /// idempotency keys are made of them.
    pub(crate) fn fresh_id(&self, id: &str, taken: &[String]) -> String {
        let used = |id: &str| self.ids.contains(id) || taken.iter().any(|other| other == id);
        let mut fresh = id.to_owned();
        let mut n = self.steps;
        while used(&fresh) {
            fresh = format!("{id}_s{n}");
            n += 1;
        }
        fresh
    }

    /// What to tell the model of a call of the leader's tool.
    pub(crate) fn judged(&self, call: &Call) -> Option<Result<LeaderDecision, String>> {
        let lead = self.lead.filter(|lead| lead.name() == call.name)?;
        Some(lead.judge(&self.plan, &call.args))
    }

    /// Folds a record.
    pub(crate) fn apply(&mut self, record: &StepRecord) {
        match record::decode(record) {
            Some(Step::Model { message, stop }) => self.model(message, stop),
            Some(Step::Tool { id, result }) => self.result(&id, result),
            // Between two steps: it says how the conversation is told, not what was done.
            Some(Step::Summary(_)) => {}
            None => warn!("a step record cannot be read and is passed over"),
        }
    }

    fn model(&mut self, message: Message, stop: StopReason) {
        self.close_calls();
        self.steps += 1;
        self.rounds += 1;
        let text = message.text();
        let calls = message.parts.iter().filter_map(|part| match part {
            Part::ToolCall { id, name, args } => {
                Some(Call { id: id.clone(), name: name.clone(), args: args.clone() })
            }
            _ => None,
        });
        self.calls = calls.map(|call| (call, None)).collect();
        self.ids.extend(self.calls.iter().map(|(call, _)| call.id.clone()));
        if !message.parts.is_empty() {
            self.messages.push(message);
        }
        let paused = stop == StopReason::Pause;
        self.stop = stop;
        if !self.calls.is_empty() {
            self.next = Next::Tools;
        } else if paused {
            self.next = Next::Model;
        } else {
            self.finished_with(&text);
        }
    }

    /// The model called nothing: its text is the answer, or should have been a decision.
    fn finished_with(&mut self, text: &str) {
        self.next = Next::Finish;
        let Some(lead) = self.lead.filter(|_| self.decision.is_none()) else { return };
        match lead.judge_text(&self.plan, text) {
            Some(Ok(decision)) => self.decision = Some(decision),
            // In a discussion a block is just part of what is said.
            _ if !lead.is_required() => {}
            Some(Err(error)) => self.fault_in_text(lead, &error, true),
            None => self.fault_in_text(lead, "you did not call it", false),
        }
    }

    fn fault_in_text(&mut self, lead: LeaderTool, error: &str, tried: bool) {
        self.faults += 1;
        if tried {
            self.fault = Some(error.to_owned());
        }
        if self.faults < TRIES_MAX {
            self.messages.push(Message::user(lead.ask_again(error)));
            self.next = Next::Model;
        }
    }

    fn result(&mut self, id: &str, result: Part) {
        let slot = self.calls.iter_mut().find(|(call, done)| call.id == id && done.is_none());
        let Some((_, slot)) = slot else {
            warn!("a result without its call is passed over");
            return;
        };
        *slot = Some(result);
        if self.calls.iter().all(|(_, result)| result.is_some()) {
            self.decide();
            self.close_calls();
        }
    }

    /// All calls of a step have their results: looks at those that decide.
    fn decide(&mut self) {
        self.next = Next::Model;
        let verdicts: Vec<_> = self.calls.iter().filter_map(|(c, _)| self.judged(c)).collect();
        let others = self.calls.len() > verdicts.len();
        let required = self.lead.is_some_and(LeaderTool::is_required);
        let (valid, invalid): (Vec<_>, Vec<_>) = verdicts.into_iter().partition(Result::is_ok);
        if let Some(Ok(decision)) = valid.into_iter().next() {
            self.decision = Some(decision);
            if required || !others {
                self.next = Next::Finish;
            }
        } else if let Some(Err(error)) = invalid.into_iter().next() {
            self.fault = Some(error);
            self.faults += 1;
            if self.faults >= TRIES_MAX {
                self.next = Next::Finish;
            }
        }
    }

    fn close_calls(&mut self) {
        let calls = std::mem::take(&mut self.calls);
        let result = |(call, part): (Call, Option<Part>)| {
            part.unwrap_or_else(|| record::unknown_result(&call.id))
        };
        if !calls.is_empty() {
            self.messages.push(Message::results(calls.into_iter().map(result).collect()));
        }
    }
}

#[cfg(test)]
mod tests;
