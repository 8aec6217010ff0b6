//! Frames folded, in order, into what people see. This fold is the definition that clients
//! copy; `turns` and `task:join` are made by it.
//!
//! | Frame | What it does to the fold |
//! |---|---|
//! | message | a new row at the end of its turn (a new turn at the end if it is not there) |
//! | started | a new attempt; the row is RUNNING. Blocks that `keeps` and `offset` do not cover go under `interrupted` of their attempt; kept text is over |
//! | text, thinking | appended to its block; an unknown id is a new block, and text before it is over. Text is part of the answer |
//! | block created, updated | a new block / its changed fields |
//! | status | phase `queued` on a row that had ended: PENDING (it will be tried again). Nothing else |
//! | usage | summed |
//! | done, error, cancelled | the attempt and its row end (not the row, if the error `continues`); open blocks end with them: text as done, tools as unknown |
//! | edited | rows leave, and turns without rows |
//! | stage, queue, task | replaced, where something is given |
//!
//! A text block is covered by `keeps` and `offset` if its last piece came at or before `keeps`
//! and ends at or before `offset`; a thinking block if its last piece came at or before
//! `keeps`; any other block if it had ended at or before `keeps`. `late` pieces are put under
//! `interrupted` of their attempt and never change answer, offset or status (a late update
//! of a block that is shown elsewhere changes it there). Frames about rows that the fold does
//! not hold are ignored, so it may begin at the first frame of any turn.

mod row;

use std::collections::{BTreeMap, BTreeSet};

use troupe_api::task::{MessageView, Streaming, TurnView};
use troupe_types::{
    Frame, FrameBody, FrameSeq, MessageFrame, MessageId, QueuedMessage, Role, StageFrame, Status,
    TaskFrame, Timestamp, TurnId,
};

use row::Row;

/// The folded frames of a Task, from its beginning or from the first frame of a turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    head: FrameSeq,
    title: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    status: Option<Status>,
    stage: Option<StageFrame>,
    queue: Vec<QueuedMessage>,
    turns: Vec<Turn>,
}

#[derive(Clone, Debug, PartialEq)]
struct Turn {
    turn: TurnId,
    rows: Vec<Row>,
}

impl Transcript {
    /// Nothing folded yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The fold of these frames.
    pub fn of<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Self {
        let mut this = Self::new();
        frames.into_iter().for_each(|frame| this.fold(frame));
        this
    }

    /// Folds the next frame; one at or below [`Transcript::head`] is a double and ignored.
    pub fn fold(&mut self, frame: &Frame) {
        if frame.seq <= self.head {
            return;
        }
        self.head = frame.seq;
        let (at, seq) = (frame.at, frame.seq);
        match &frame.body {
            FrameBody::Message(m) => self.fold_message(m, at),
            FrameBody::Edited(e) => self.remove(&e.removed),
            FrameBody::Stage(s) => self.stage = (!s.stages.is_empty()).then(|| s.clone()),
            FrameBody::Queue(q) => self.queue.clone_from(&q.queue),
            FrameBody::Task(t) => self.fold_task(t),
            body => {
                if let Some(row) = message_of(body).and_then(|m| self.row_mut(m)) {
                    row.fold(body, at, seq);
                }
            }
        }
    }

    fn fold_message(&mut self, m: &MessageFrame, at: Timestamp) {
        if self.row_mut(m.message).is_some() {
            return;
        }
        let row = Row::new(m, at);
        match self.turns.iter_mut().rev().find(|t| t.turn == m.turn) {
            Some(turn) => turn.rows.push(row),
            None => self.turns.push(Turn { turn: m.turn, rows: vec![row] }),
        }
    }

    fn remove(&mut self, removed: &[MessageId]) {
        let gone: BTreeSet<_> = removed.iter().collect();
        for turn in &mut self.turns {
            turn.rows.retain(|row| !gone.contains(&row.view.message));
        }
        self.turns.retain(|turn| !turn.rows.is_empty());
    }

    fn fold_task(&mut self, t: &TaskFrame) {
        if t.title.is_some() {
            self.title.clone_from(&t.title);
        }
        if t.labels.is_some() {
            self.labels.clone_from(&t.labels);
        }
        self.status = t.status.or(self.status);
    }

    fn row_mut(&mut self, message: MessageId) -> Option<&mut Row> {
        let mut rows = self.turns.iter_mut().rev().flat_map(|t| t.rows.iter_mut().rev());
        rows.find(|row| row.view.message == message)
    }

    /// Seq of the last folded frame.
    #[must_use]
    pub const fn head(&self) -> FrameSeq {
        self.head
    }

    /// Title, if a frame told it.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// Labels, if a frame told them.
    #[must_use]
    pub const fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.labels.as_ref()
    }

    /// Status of the Task, if a frame told it.
    #[must_use]
    pub const fn status(&self) -> Option<Status> {
        self.status
    }

    /// Position of the pipeline.
    #[must_use]
    pub const fn stage(&self) -> Option<&StageFrame> {
        self.stage.as_ref()
    }

    /// What waits behind the running turn.
    #[must_use]
    pub fn queue(&self) -> &[QueuedMessage] {
        &self.queue
    }

    /// Rows in order.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &MessageView> {
        self.turns.iter().flat_map(|t| &t.rows).map(|row| &row.view)
    }

    /// A row.
    #[must_use]
    pub fn message(&self, message: MessageId) -> Option<&MessageView> {
        self.messages().rev().find(|view| view.message == message)
    }

    /// The text of a row; of an answer: all of its valid text so far.
    #[must_use]
    pub fn answer_text(&self, message: MessageId) -> Option<&str> {
        self.message(message).map(|view| view.content.as_str())
    }

    /// The turns, oldest first.
    #[must_use]
    pub fn turns(&self) -> Vec<TurnView> {
        let views = |turn: &Turn| turn.rows.iter().map(|row| row.view.clone()).collect();
        self.turns.iter().map(|t| TurnView { turn: t.turn, messages: views(t) }).collect()
    }

    /// The turns, oldest first, without a copy.
    #[must_use]
    pub fn into_turns(self) -> Vec<TurnView> {
        self.turns
            .into_iter()
            .map(|Turn { turn, rows }| TurnView {
                turn,
                messages: rows.into_iter().map(|row| row.view).collect(),
            })
            .collect()
    }

    /// The contract's view of the newest answer that is being written.
    #[must_use]
    pub fn streaming(&self) -> Option<Streaming> {
        let running = |v: &&MessageView| v.role == Role::Assistant && v.status == Status::Running;
        let view = self.messages().rev().find(running)?;
        Some(Streaming {
            message: view.message,
            attempt: view.attempts.last()?.attempt,
            offset: super::text::code_points(&view.content),
            cached_content: view.content.clone(),
            blocks: view.blocks.clone(),
        })
    }
}

/// The row that a frame of an attempt is about.
const fn message_of(body: &FrameBody) -> Option<MessageId> {
    match body {
        FrameBody::Started(f) => Some(f.message),
        FrameBody::Text(f) => Some(f.message),
        FrameBody::Thinking(f) => Some(f.message),
        FrameBody::BlockCreated(f) => Some(f.message),
        FrameBody::BlockUpdated(f) => Some(f.message),
        FrameBody::Status(f) => f.message,
        FrameBody::Usage(f) => f.message,
        FrameBody::Done(f) => Some(f.message),
        FrameBody::Error(f) => Some(f.message),
        FrameBody::Cancelled(f) => Some(f.message),
        _ => None,
    }
}
