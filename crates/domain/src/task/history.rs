//! Entries folded into what the prompt of one execution needs.
//!
//! Rows above an execution's own, in order; removed rows are out. Who reads what:
//!
//! | Reader | Rows of this turn | Rows of earlier turns |
//! |---|---|---|
//! | solo, route, coordinate's plan | the person's | all but `routing` |
//! | coordinate, one item | the person's, the plan, its own instructions (as a hand-off) | all but `routing` |
//! | coordinate, merge | the person's, the plan, every item (a failed one as a note) | all but `routing` |
//! | collaborate | the person's, all contributions so far | all but `routing` |
//! | pipeline, stage s | what was said to stage s: the person's message if the turn began there, else the hand-off | what was said to stage s and what it answered; turns that no pipeline ran |
//!
//! How a row is told: a person's and a hand-off as such; the reader's own finished answers as
//! their step records, if every tool call in them has a result; every other member's answer as
//! text. A `plan` row is its text and the list of its items; a contribution without text is
//! the summary that its member gave. An answer that was stopped or failed is told as far as
//! it came, with a note; without any text it is left out. Routing rows are never told.
//!
//! An execution that goes on gets its own finished steps as `resume`: ask after its start is
//! folded, since that append closes open tool calls.

mod rules;

use std::collections::{BTreeMap, BTreeSet};

use troupe_types::{ExecutionId, FrameBody, MessageId, MessageKind, Ordinal, RunStep, TurnId};

use super::{
    entry::{AttemptEnd, StepRecord, TaskEntry, TaskEvent},
    execution::Work,
    leader::LeaderDecision,
    plan::TeamPlan,
    text,
    transcript::Transcript,
};

/// One thing that a prompt tells.
#[derive(Clone, Debug, PartialEq)]
pub enum HistoryItem {
    /// A person said it.
    Person {
        /// The name.
        name: String,
        /// What.
        text: String,
    },
    /// A member said it.
    Member {
        /// The Bot's name.
        name: String,
        /// Index in the Team.
        index: u32,
        /// What the row was for.
        kind: MessageKind,
        /// What.
        text: String,
    },
    /// What a pipeline stage or a work item is given; may be empty.
    Handoff {
        /// What.
        text: String,
    },
    /// An earlier finished answer of the reader, as it was made.
    OwnSteps {
        /// The row.
        message: MessageId,
        /// Its steps, every tool call with its result.
        steps: Vec<StepRecord>,
    },
}

/// What the prompt of one execution needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// Everything before the execution's own steps, in order.
    pub items: Vec<HistoryItem>,
    /// Finished steps of earlier attempts that are kept.
    pub resume: Vec<StepRecord>,
    /// Text of the answer that belongs to them.
    pub kept_text: String,
}

/// The folded entries of a Task; may be kept and folded on.
#[derive(Clone, Debug, Default)]
pub struct History {
    transcript: Transcript,
    rows: Vec<Row>,
    executions: BTreeMap<ExecutionId, Made>,
    fillers: BTreeMap<MessageId, ExecutionId>,
}

/// A row of the transcript.
#[derive(Clone, Debug)]
struct Row {
    message: MessageId,
    ordinal: Ordinal,
    turn: TurnId,
    kind: MessageKind,
    step: Option<RunStep>,
}

/// What fills a row.
#[derive(Clone, Debug)]
struct Made {
    message: MessageId,
    member: u32,
    work: Work,
    /// Finished and kept.
    steps: Vec<StepRecord>,
    /// Code points of the answer so far, and at the last finished step.
    offset: u64,
    kept_offset: u64,
    decision: Option<LeaderDecision>,
}

impl History {
    /// Nothing folded yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Folds the next entry.
    pub fn fold(&mut self, entry: &TaskEntry) {
        let mut stepped = BTreeSet::new();
        for event in &entry.events {
            if let TaskEvent::StepFinished { execution, .. } = event {
                stepped.insert(*execution);
            }
            self.fold_event(event);
        }
        for frame in &entry.frames {
            self.transcript.fold(frame);
            match &frame.body {
                FrameBody::Started(f) => {
                    if let Some(made) = self.filler_mut(f.message) {
                        made.offset = f.offset;
                        made.kept_offset = f.offset;
                    }
                }
                FrameBody::Text(f) if !f.late => {
                    let chars = text::code_points(&f.content);
                    if let Some(made) = self.filler_mut(f.message) {
                        made.offset = made.offset.saturating_add(chars);
                    }
                }
                _ => {}
            }
        }
        for execution in stepped {
            let starts = |m: &Made| {
                entry
                    .frames
                    .iter()
                    .any(|f| matches!(&f.body, FrameBody::Started(s) if s.message == m.message))
            };
            if let Some(made) = self.executions.get_mut(&execution).filter(|m| !starts(m)) {
                made.kept_offset = made.offset;
            }
        }
    }

    fn filler_mut(&mut self, message: MessageId) -> Option<&mut Made> {
        self.executions.get_mut(self.fillers.get(&message)?)
    }

    fn fold_event(&mut self, event: &TaskEvent) {
        match event {
            TaskEvent::MessagePlanned { message, ordinal, turn, kind, step, .. } => {
                let (message, ordinal, turn) = (*message, *ordinal, *turn);
                self.rows.push(Row { message, ordinal, turn, kind: *kind, step: *step });
            }
            TaskEvent::ExecutionPlanned { execution, message, member, work } => {
                self.fillers.insert(*message, *execution);
                self.executions.entry(*execution).or_insert(Made {
                    message: *message,
                    member: *member,
                    work: work.clone(),
                    steps: Vec::new(),
                    offset: 0,
                    kept_offset: 0,
                    decision: None,
                });
            }
            TaskEvent::AttemptQueued { execution, keep: false, .. } => {
                if let Some(made) = self.executions.get_mut(execution) {
                    made.steps.clear();
                    made.kept_offset = 0;
                }
            }
            TaskEvent::StepFinished { execution, record, .. } => {
                if let Some(made) = self.executions.get_mut(execution) {
                    made.steps.push(record.clone());
                }
            }
            TaskEvent::AttemptEnded { execution, end: AttemptEnd::Done { decision }, .. } => {
                if let Some(made) = self.executions.get_mut(execution) {
                    made.decision.clone_from(decision);
                }
            }
            TaskEvent::Edited { removed } => {
                let gone: BTreeSet<_> = removed.iter().collect();
                self.rows.retain(|row| !gone.contains(&row.message));
                self.executions.retain(|_, made| !gone.contains(&made.message));
                self.fillers.retain(|message, _| !gone.contains(message));
            }
            _ => {}
        }
    }

    /// The transcript of the folded entries.
    #[must_use]
    pub const fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// What the prompt of an execution needs; `None` if it is not known. `plan` is that of
    /// its turn.
    #[must_use]
    pub fn conversation(&self, plan: &TeamPlan, execution: ExecutionId) -> Option<Conversation> {
        let made = self.executions.get(&execution)?;
        let own = self.rows.iter().find(|row| row.message == made.message)?;
        let reader = rules::Reader::new(self, plan, made, own);
        let mut items: Vec<HistoryItem> = self
            .rows
            .iter()
            .filter(|row| row.ordinal < own.ordinal && reader.reads(row))
            .filter_map(|row| reader.item(row))
            .collect();
        if let Work::Item { instructions, .. } = &made.work {
            items.push(HistoryItem::Handoff { text: instructions.clone() });
        }
        let answer = self.transcript.answer_text(made.message).unwrap_or_default();
        let kept = usize::try_from(made.kept_offset).unwrap_or(usize::MAX);
        let kept_text = answer.chars().take(kept).collect();
        Some(Conversation { items, resume: made.steps.clone(), kept_text })
    }
}

/// What the prompt of an execution needs, from all entries of its Task up to its start.
pub fn conversation<'a>(
    entries: impl IntoIterator<Item = &'a TaskEntry>,
    plan: &TeamPlan,
    execution: ExecutionId,
) -> Option<Conversation> {
    let mut history = History::new();
    entries.into_iter().for_each(|entry| history.fold(entry));
    history.conversation(plan, execution)
}
