//! One row of the transcript and the frames about it.

use troupe_api::task::{AttemptError, AttemptView, MessageView, UsageTotal};
use troupe_types::{
    Attempt, Block, BlockKind, BlockPatch, BlockStatus, FrameBody, FrameSeq, MessageFrame,
    StartedFrame, Status, StatusFrame, Timestamp, UsageFrame,
};

use crate::task::text::code_points;

/// A row and what the fold knows about its blocks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) view: MessageView,
    /// Beside `view.blocks`.
    marks: Vec<Mark>,
}

#[derive(Clone, Debug, PartialEq)]
struct Mark {
    attempt: Attempt,
    /// The last frame that added to it.
    last: FrameSeq,
    /// The frame with which it ended.
    ended: Option<FrameSeq>,
    /// Code points of the answer after it (text blocks).
    offset: u64,
}

impl Row {
    pub(super) fn new(m: &MessageFrame, at: Timestamp) -> Self {
        let view = MessageView {
            message: m.message,
            ordinal: m.ordinal,
            turn: m.turn,
            role: m.role,
            kind: m.kind,
            sender: m.sender.clone(),
            step: m.step,
            status: m.status,
            content: m.content.clone(),
            blocks: Vec::new(),
            attempts: Vec::new(),
            usage: None,
            client_message_id: m.client_message_id,
            created_at: at,
        };
        Self { view, marks: Vec::new() }
    }

    pub(super) fn fold(&mut self, body: &FrameBody, at: Timestamp, seq: FrameSeq) {
        match body {
            FrameBody::Started(f) => self.start(f, at),
            FrameBody::Text(f) => {
                let new = BlockKind::Text { content: String::new() };
                if f.late {
                    self.late_piece(f.attempt, &f.block_id, new, &f.content, at);
                } else if self.is_current(f.attempt) {
                    let block = self.grow(f.attempt, &f.block_id, new, &f.content, at, seq);
                    self.marks[block].offset = f.offset.saturating_add(code_points(&f.content));
                    self.view.content.push_str(&f.content);
                }
            }
            FrameBody::Thinking(f) => {
                let new = BlockKind::Thinking { content: String::new() };
                let text = &f.result.reasoning_chunk;
                if f.late {
                    self.late_piece(f.attempt, &f.block_id, new, text, at);
                } else if self.is_current(f.attempt) {
                    self.grow(f.attempt, &f.block_id, new, text, at, seq);
                }
            }
            FrameBody::BlockCreated(f) if f.late => {
                if let Some(attempt) = self.attempt_mut(f.attempt) {
                    attempt.interrupted.push(f.block.clone());
                }
            }
            FrameBody::BlockCreated(f) if self.is_current(f.attempt) => {
                self.push(f.attempt, f.block.clone(), seq);
            }
            FrameBody::BlockUpdated(f) => self.update(f.attempt, &f.block_id, &f.patch, seq),
            FrameBody::Status(f) => self.status(f),
            FrameBody::Usage(f) => self.usage(f),
            FrameBody::Done(f) => self.end(f.attempt, Status::Completed, None, at),
            FrameBody::Error(f) => {
                let error =
                    AttemptError { kind: f.kind, error: f.error.clone(), continues: f.continues };
                self.end(f.attempt, Status::Failed, Some(error), at);
            }
            FrameBody::Cancelled(f) => self.end(f.attempt, Status::Cancelled, None, at),
            _ => {}
        }
    }

    fn is_current(&self, attempt: Attempt) -> bool {
        self.view.attempts.last().is_some_and(|a| a.attempt == attempt)
    }

    fn attempt_mut(&mut self, attempt: Attempt) -> Option<&mut AttemptView> {
        self.view.attempts.iter_mut().rev().find(|a| a.attempt == attempt)
    }

    fn start(&mut self, f: &StartedFrame, at: Timestamp) {
        self.interrupt(f.keeps, f.offset);
        self.view.status = Status::Running;
        self.view.attempts.push(AttemptView {
            attempt: f.attempt,
            status: Status::Running,
            place: f.place.clone(),
            bot_name: f.bot_name.clone(),
            shell_type: f.shell_type.clone(),
            model: f.model.clone(),
            error: None,
            interrupted: Vec::new(),
            started_at: at,
            ended_at: None,
        });
    }

    /// Blocks that the next attempt does not keep go under the attempt that made them.
    fn interrupt(&mut self, keeps: FrameSeq, offset: u64) {
        let blocks = std::mem::take(&mut self.view.blocks);
        let marks = std::mem::take(&mut self.marks);
        self.view.content.clear();
        for (mut block, mark) in blocks.into_iter().zip(marks) {
            settle(&mut block);
            let kept = match &block.kind {
                BlockKind::Text { .. } => mark.last <= keeps && mark.offset <= offset,
                BlockKind::Thinking { .. } => mark.last <= keeps,
                _ => mark.ended.is_some_and(|ended| ended <= keeps),
            };
            if kept {
                if let BlockKind::Text { content } = &block.kind {
                    self.view.content.push_str(content);
                }
                self.view.blocks.push(block);
                self.marks.push(mark);
            } else if let Some(attempt) = self.attempt_mut(mark.attempt) {
                attempt.interrupted.push(block);
            }
        }
    }

    /// Adds a piece to a block; answers its place.
    fn grow(
        &mut self,
        attempt: Attempt,
        id: &str,
        new: BlockKind,
        piece: &str,
        at: Timestamp,
        seq: FrameSeq,
    ) -> usize {
        let place = match self.view.blocks.iter().rposition(|b| b.id == id) {
            Some(place) => place,
            None => self.push(attempt, streaming(id, new, at), seq),
        };
        append(&mut self.view.blocks[place], piece);
        self.marks[place].last = seq;
        place
    }

    /// A new block; text before it is over.
    fn push(&mut self, attempt: Attempt, block: Block, seq: FrameSeq) -> usize {
        for earlier in &mut self.view.blocks {
            if earlier.status == BlockStatus::Streaming {
                earlier.status = BlockStatus::Done;
            }
        }
        let ended = block.status.is_final().then_some(seq);
        self.view.blocks.push(block);
        self.marks.push(Mark { attempt, last: seq, ended, offset: 0 });
        self.view.blocks.len() - 1
    }

    fn update(&mut self, attempt: Attempt, id: &str, patch: &BlockPatch, seq: FrameSeq) {
        if let Some(place) = self.view.blocks.iter().rposition(|b| b.id == id) {
            let block = &mut self.view.blocks[place];
            if matches!(block.kind, BlockKind::Text { .. }) {
                return;
            }
            block.apply(patch);
            let mark = &mut self.marks[place];
            mark.last = seq;
            mark.ended = block.status.is_final().then_some(mark.ended.unwrap_or(seq));
        } else if let Some(attempt) = self.attempt_mut(attempt)
            && let Some(block) = attempt.interrupted.iter_mut().rfind(|b| b.id == id)
        {
            block.apply(patch);
        }
    }

    fn late_piece(
        &mut self,
        attempt: Attempt,
        id: &str,
        new: BlockKind,
        piece: &str,
        at: Timestamp,
    ) {
        let Some(attempt) = self.attempt_mut(attempt) else { return };
        let known = attempt.interrupted.iter().rposition(|b| b.id == id);
        let place = known.unwrap_or_else(|| {
            attempt.interrupted.push(Block { status: BlockStatus::Done, ..streaming(id, new, at) });
            attempt.interrupted.len() - 1
        });
        append(&mut attempt.interrupted[place], piece);
    }

    fn status(&mut self, f: &StatusFrame) {
        let over = matches!(self.view.status, Status::Failed | Status::Cancelled);
        if f.phase == "queued" && over {
            self.view.status = Status::Pending;
        }
    }

    fn usage(&mut self, f: &UsageFrame) {
        let first = self.view.usage.is_none();
        let total = self.view.usage.get_or_insert_with(UsageTotal::default);
        total.model.clone_from(&f.model);
        total.input_tokens = total.input_tokens.saturating_add(f.input_tokens);
        total.output_tokens = total.output_tokens.saturating_add(f.output_tokens);
        total.cached_tokens = total.cached_tokens.saturating_add(f.cached_tokens);
        total.calls = total.calls.saturating_add(1);
        total.cost = match (first, total.cost, f.cost) {
            (true, _, cost) => cost,
            (false, Some(sum), Some(cost)) => Some(sum + cost),
            _ => None,
        };
    }

    fn end(
        &mut self,
        attempt: Attempt,
        status: Status,
        error: Option<AttemptError>,
        at: Timestamp,
    ) {
        let continues = error.as_ref().is_some_and(|e| e.continues);
        if let Some(view) = self.attempt_mut(attempt) {
            view.status = status;
            view.error = error;
            view.ended_at = Some(at);
        }
        if continues {
            self.view.status = Status::Running;
        } else {
            self.view.status = status;
            self.view.blocks.iter_mut().for_each(settle);
        }
    }
}

fn streaming(id: &str, kind: BlockKind, at: Timestamp) -> Block {
    Block {
        id: id.to_owned(),
        kind,
        status: BlockStatus::Streaming,
        timestamp: at.as_millis(),
        parent_tool_use_id: None,
    }
}

fn append(block: &mut Block, piece: &str) {
    if let BlockKind::Text { content } | BlockKind::Thinking { content } = &mut block.kind {
        content.push_str(piece);
    }
}

/// Nothing goes on in a block whose attempt is over.
fn settle(block: &mut Block) {
    if block.status.is_final() {
        return;
    }
    block.status = match block.kind {
        BlockKind::Text { .. } | BlockKind::Thinking { .. } => BlockStatus::Done,
        _ => BlockStatus::Unknown,
    };
}
