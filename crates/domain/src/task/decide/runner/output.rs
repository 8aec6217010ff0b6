//! Text and thinking: the hot path, which copies no state.

use troupe_types::{
    Frame, FrameBody, FrameSeq, Reasoning, TextFrame, ThinkingFrame, limits::TEXT_BUFFER_BYTES_MAX,
};

use super::{Said, block_id};
use crate::task::{
    command::{Ack, Context, Decision, Output},
    entry::TaskEntry,
    execution::{Execution, LATE_FRAMES_MAX, Sort, Tail},
    state::TaskState,
    text,
};

pub(super) fn output(
    state: &TaskState,
    e: &Execution,
    said: Said,
    pieces: Vec<Output>,
    late: bool,
    ctx: &Context<'_>,
) -> Decision {
    let Some(mut track) = e.track(said.attempt) else { return super::super::nothing() };
    let room = if late { LATE_FRAMES_MAX.saturating_sub(e.late) } else { u32::MAX };
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let mut entry = TaskEntry { at: ctx.now, events: Vec::new(), frames: Vec::new() };
    let mut offset = e.offset;
    for (sort, text) in joined(pieces).into_iter().take(room) {
        let tail = match track.tail.take().filter(|t| t.sort == sort) {
            Some(tail) => tail,
            None => {
                let block_id = block_id(e, said.attempt, track.next_block);
                track.next_block = track.next_block.saturating_add(1);
                Tail { sort, block_id }
            }
        };
        let block_id = tail.block_id.clone();
        track.tail = Some(tail);
        let (message, attempt) = (e.message, said.attempt);
        let body = match sort {
            Sort::Text => {
                let before = offset;
                if !late {
                    offset = offset.saturating_add(text::code_points(&text));
                }
                let (content, offset) = (text, before);
                FrameBody::Text(TextFrame { message, attempt, block_id, content, offset, late })
            }
            Sort::Thinking => {
                let result = Reasoning { reasoning_chunk: text };
                FrameBody::Thinking(ThinkingFrame { message, attempt, block_id, result, late })
            }
        };
        let place = u64::try_from(entry.frames.len()).unwrap_or(u64::MAX);
        let seq = FrameSeq(state.next_frame.0.saturating_add(place));
        entry.frames.push(Frame { seq, at: ctx.now, body });
    }
    if entry.frames.is_empty() {
        return super::super::nothing();
    }
    entry.events.extend(said.mark());
    Decision { entry: Some(entry), ack: Ack::Ok }
}

/// Neighbours of one sort become one piece, none above the largest that a frame carries.
fn joined(pieces: Vec<Output>) -> Vec<(Sort, String)> {
    let mut out: Vec<(Sort, String)> = Vec::new();
    for piece in pieces {
        let (sort, text) = match piece {
            Output::Text(text) => (Sort::Text, text),
            Output::Thinking(text) => (Sort::Thinking, text),
        };
        if text.is_empty() {
            continue;
        }
        match out.last_mut() {
            Some((last, whole))
                if *last == sort && whole.len() + text.len() <= TEXT_BUFFER_BYTES_MAX =>
            {
                whole.push_str(&text);
            }
            _ => out.push((sort, text)),
        }
    }
    out
}
