//! Frames folded into the state: the seq, first frames, offsets, numbers of blocks.

use std::sync::Arc;

use troupe_types::{
    Attempt, Block, BlockKind, Frame, FrameBody, FrameSeq, MessageFrame, MessageId, MessageKind,
    QueuedMessage, Sender, StartedFrame,
};

use super::TaskState;
use crate::task::{
    execution::{Asked, Execution, Sort, Tail},
    plan::CollaborationModel,
    text,
};

/// Field of a block that asks: when its time is over. The owner of the Task sets it.
pub(in crate::task) const EXPIRES_AT: &str = "expires_at";
/// Characters of a request that the outline shows.
const EXCERPT_CHARS: usize = 80;

impl TaskState {
    pub(in crate::task) fn apply_frame(&mut self, frame: &Frame) {
        self.next_frame = self.next_frame.max(FrameSeq(frame.seq.0.saturating_add(1)));
        match &frame.body {
            FrameBody::Message(m) => self.fold_message(m, frame.seq),
            FrameBody::Queue(q) => self.fold_queue(&q.queue),
            FrameBody::Started(s) => {
                if let Some(e) = self.by_message(s.message) {
                    started(e, s);
                }
            }
            FrameBody::Text(t) => {
                if let Some(e) = self.by_message(t.message) {
                    let chars = text::code_points(&t.content);
                    grown(e, t.attempt, Sort::Text, &t.block_id, t.late);
                    if !t.late && e.is_open(t.attempt) {
                        e.offset = e.offset.saturating_add(chars);
                    }
                }
            }
            FrameBody::Thinking(t) => {
                if let Some(e) = self.by_message(t.message) {
                    grown(e, t.attempt, Sort::Thinking, &t.block_id, t.late);
                }
            }
            FrameBody::BlockCreated(b) => {
                if let Some(e) = self.by_message(b.message) {
                    created(e, b.attempt, b.late);
                    if !b.late {
                        asked(e, &b.block);
                    }
                    if b.block.status.is_final() {
                        close(e, &b.block.id);
                    }
                }
            }
            FrameBody::BlockUpdated(b) => {
                if let Some(e) = self.by_message(b.message) {
                    e.late = e.late.saturating_add(u32::from(b.late));
                    if b.patch.status.is_some_and(troupe_types::BlockStatus::is_final) {
                        close(e, &b.block_id);
                    }
                }
            }
            FrameBody::Status(s) => {
                let told = s.message.zip(s.retry_at);
                if let Some((message, at)) = told
                    && let Some(e) = self.by_message(message)
                {
                    e.held(at, s.wait.as_ref());
                }
            }
            _ => {}
        }
    }

    fn by_message(&mut self, message: MessageId) -> Option<&mut Execution> {
        self.executions.iter_mut().find(|e| e.message == message)
    }

    fn fold_message(&mut self, m: &MessageFrame, seq: FrameSeq) {
        if let Some(at) = self.messages.iter().rposition(|row| row.message == m.message) {
            Arc::make_mut(&mut self.messages)[at].first_frame = seq;
        }
        if m.kind != MessageKind::User {
            return;
        }
        if let Some(at) = self.turns.iter().rposition(|row| row.message == m.message) {
            let row = &mut Arc::make_mut(&mut self.turns)[at];
            row.first_frame = seq;
            row.ordinal = m.ordinal;
            row.excerpt = text::one_line(&m.content, EXCERPT_CHARS);
            row.author = match &m.sender {
                Sender::User { user_name, .. } => user_name.clone(),
                Sender::Member { name, .. } => name.clone(),
                Sender::Team | Sender::System => String::new(),
            };
        }
        let pipeline = self.plan().is_some_and(|p| p.model == CollaborationModel::Pipeline);
        let begins = self.run.as_ref().is_some_and(|r| r.message == m.message && r.begins);
        if pipeline && (begins || self.original.is_empty()) {
            self.original = Arc::from(m.content.as_str());
        }
    }

    fn fold_queue(&mut self, queue: &[QueuedMessage]) {
        self.queue = Arc::new(queue.to_vec());
        self.queued_plans.retain(|message, _| queue.iter().any(|q| q.message == *message));
    }
}

fn started(e: &mut Execution, s: &StartedFrame) {
    if !e.is_open(s.attempt) {
        return;
    }
    e.kept = s.keeps;
    e.kept_offset = s.offset;
    e.offset = s.offset;
    e.next_block = 1;
    e.tail = None;
    e.names.clear();
}

/// A piece went into a block; a new id is a new block.
fn grown(e: &mut Execution, attempt: Attempt, sort: Sort, block_id: &str, late: bool) {
    e.late = e.late.saturating_add(u32::from(late));
    e.goes_on(attempt);
    let Some(mut track) = e.track(attempt) else { return };
    if track.tail.as_ref().is_none_or(|t| t.block_id != block_id) {
        track.next_block = track.next_block.saturating_add(1);
        track.tail = Some(Tail { sort, block_id: block_id.to_owned() });
        e.set_track(attempt, track);
    }
}

fn created(e: &mut Execution, attempt: Attempt, late: bool) {
    e.late = e.late.saturating_add(u32::from(late));
    e.goes_on(attempt);
    let Some(mut track) = e.track(attempt) else { return };
    track.next_block = track.next_block.saturating_add(1);
    track.tail = None;
    e.set_track(attempt, track);
}

/// Whether a block asks a person something, and whether that is a question (else an approval).
pub(in crate::task) fn asks(fields: &serde_json::Map<String, serde_json::Value>) -> Option<bool> {
    match fields.get("type").and_then(serde_json::Value::as_str) {
        Some("approval") => Some(false),
        Some("question") => Some(true),
        _ => None,
    }
}

/// Approvals and questions wait for a person until they are final, or their time is over.
fn asked(e: &mut Execution, block: &Block) {
    let BlockKind::Other(fields) = &block.kind else { return };
    let Some(question) = asks(fields) else { return };
    let name = e.names.iter().find(|(_, named)| named.block_id == block.id);
    if let Some(name) = name.map(|(name, _)| name.clone()) {
        let always = fields.get("always").filter(|grant| !grant.is_null()).cloned();
        let expires_at = fields.get(EXPIRES_AT).cloned();
        let expires_at = expires_at.and_then(|at| serde_json::from_value(at).ok());
        let asked = Asked { name, question, always, answer: None, expires_at, expired: None };
        e.asks.insert(block.id.clone(), asked);
    }
}

fn close(e: &mut Execution, block_id: &str) {
    e.asks.remove(block_id);
    if let Some(block) = e.names.values_mut().find(|b| b.block_id == block_id) {
        block.is_final = true;
    }
}
