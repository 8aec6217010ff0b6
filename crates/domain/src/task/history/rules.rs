//! Who reads which row, and how it is told.

use std::fmt::Write as _;

use troupe_api::task::MessageView;
use troupe_types::{MessageKind, RunStep, Sender, Status, TurnId};

use super::{History, HistoryItem, Made, Row};
use crate::task::{entry::StepRecord, execution::Work, leader::LeaderDecision, plan::TeamPlan};

/// The execution whose prompt is made.
pub(super) struct Reader<'a> {
    history: &'a History,
    made: &'a Made,
    own: &'a Row,
    name: &'a str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        history: &'a History,
        plan: &'a TeamPlan,
        made: &'a Made,
        own: &'a Row,
    ) -> Self {
        Self { history, made, own, name: plan.name_of(made.member) }
    }

    /// Whether the reader sees a row at all.
    pub(super) fn reads(&self, row: &Row) -> bool {
        if row.kind == MessageKind::Routing {
            return false;
        }
        match &self.made.work {
            Work::Stage { stage } => match self.stage_of(row) {
                Some(said_to) => said_to == *stage,
                None => true,
            },
            Work::Item { .. } => {
                row.turn != self.own.turn
                    || matches!(row.kind, MessageKind::User | MessageKind::Plan)
            }
            _ => true,
        }
    }

    /// The stage that a row belongs to; `None`: no pipeline ran its turn.
    fn stage_of(&self, row: &Row) -> Option<u32> {
        stage(row).or_else(|| self.first_stage(row.turn))
    }

    /// The stage that a turn began with: the person spoke to it.
    fn first_stage(&self, turn: TurnId) -> Option<u32> {
        self.history.rows.iter().filter(|row| row.turn == turn).find_map(stage)
    }

    pub(super) fn item(&self, row: &Row) -> Option<HistoryItem> {
        let view = self.history.transcript.message(row.message)?;
        match row.kind {
            MessageKind::User => {
                let name = match &view.sender {
                    Sender::User { user_name, .. } => user_name.clone(),
                    _ => String::new(),
                };
                Some(HistoryItem::Person { name, text: view.content.clone() })
            }
            MessageKind::Handoff => Some(HistoryItem::Handoff { text: view.content.clone() }),
            kind => self.answer(view, kind),
        }
    }

    fn answer(&self, view: &MessageView, kind: MessageKind) -> Option<HistoryItem> {
        let filler = self.history.fillers.get(&view.message)?;
        let made = self.history.executions.get(filler)?;
        let name = match &view.sender {
            Sender::Member { name, .. } => name.clone(),
            _ => String::new(),
        };
        let own = made.member == self.made.member && name == self.name;
        let replayable = own
            && view.status == Status::Completed
            && kind != MessageKind::Plan
            && !made.steps.is_empty()
            && is_closed(&made.steps);
        if replayable {
            let (message, steps) = (view.message, made.steps.clone());
            return Some(HistoryItem::OwnSteps { message, steps });
        }
        let text = self.told(view, made)?;
        Some(HistoryItem::Member { name, index: made.member, kind, text })
    }

    /// An answer as text; `None`: there is nothing to tell.
    fn told(&self, view: &MessageView, made: &Made) -> Option<String> {
        let mut text = view.content.clone();
        let note = match view.status {
            Status::Completed => {
                add_decision(&mut text, made.decision.as_ref());
                return (!text.trim().is_empty()).then_some(text);
            }
            Status::Failed => {
                let error = view.attempts.last().and_then(|a| a.error.as_ref());
                let why = error.map_or("no reason is known", |e| e.error.as_str());
                format!("[This answer failed: {why}]")
            }
            Status::Cancelled => "[This answer was stopped before it was complete.]".to_owned(),
            _ => return None,
        };
        let merging = self.made.work == Work::Merge && matches!(made.work, Work::Item { .. });
        if text.trim().is_empty() && !merging {
            return None;
        }
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&note);
        Some(text)
    }
}

const fn stage(row: &Row) -> Option<u32> {
    match row.step {
        Some(RunStep::Stage(stage)) => Some(stage),
        _ => None,
    }
}

/// Whether every tool call has its result.
fn is_closed(steps: &[StepRecord]) -> bool {
    let mut open: Vec<&str> = Vec::new();
    for step in steps {
        match step {
            StepRecord::Model { calls, .. } => {
                open.extend(calls.iter().map(|c| c.tool_use_id.as_str()));
            }
            StepRecord::Tool { tool_use_id, .. } => open.retain(|id| id != tool_use_id),
        }
    }
    open.is_empty()
}

/// What a decision says beyond the text.
fn add_decision(text: &mut String, decision: Option<&LeaderDecision>) {
    match decision {
        Some(LeaderDecision::SplitWork { items }) => {
            for item in items {
                if !text.is_empty() {
                    text.push('\n');
                }
                let _ = write!(text, "- {}: {}", item.member, item.instructions);
            }
        }
        Some(LeaderDecision::Conclude { summary, .. }) if text.trim().is_empty() => {
            text.clone_from(summary);
        }
        _ => {}
    }
}
