//! Reads of a Task at a committed head: pages of turns and frames, of any age.
//!
//! A read takes what it needs of the actor's memory at once and does the rest (the archive, the
//! fold) in a task of its own, so that a long transcript never holds up the Task.

mod prompt;

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::Semaphore;
use troupe_actor::spawn_task;
use troupe_api::{
    FrameEvent,
    task::{FrameItem, FramesPage, JoinAnswer, OutlineRow, Streaming, TurnView, TurnsPage},
};
use troupe_domain::task::{Refusal, TaskEntry, Transcript};
use troupe_sharding::{FailedAsk, Reply};
use troupe_store::{JournalStore, ReadError};
use troupe_types::{EntityId, Frame, FrameSeq, Ordinal, Seq, Status, TaskId, TurnId, limits};

use super::{
    actor::{TaskActor, encode, failed, respond},
    ask::TaskReply,
    asks,
    internal::TaskInternal,
    view::Public,
    window::Held,
};
use crate::codec;

pub(super) use prompt::FOLDS_MAX;

/// Bytes of archive that one read of it brings.
const ARCHIVE_PAGE_BYTES: usize = 1024 * 1024;

/// A question that is answered from committed state.
#[derive(Debug)]
pub(super) enum Read {
    View,
    Why,
    Asks,
    Join { turns: u32, after_message_id: Option<Ordinal> },
    Turns { before: Option<TurnId>, limit: u32 },
    Frames { after: FrameSeq, limit: u32 },
    Raw { after: FrameSeq, limit: u32 },
}

/// Frames in order without a gap, and about what they weigh.
#[derive(Debug)]
struct Piece {
    frames: Vec<Frame>,
    bytes: usize,
}

/// What a read takes along: the Task at one committed head.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    entity: EntityId,
    journal: Arc<dyn JournalStore>,
    pub(super) public: Arc<Public>,
    pub(super) head: FrameSeq,
    held: Vec<Held>,
    /// Turns of reading an archive as a whole.
    folds: Arc<Semaphore>,
}

impl TaskActor {
    pub(super) fn reader(&self) -> Reader {
        Reader {
            entity: self.context.id,
            journal: Arc::clone(&self.context.stores.journal),
            public: Arc::clone(&self.public),
            head: self.window.head(),
            held: self.window.entries(),
            folds: Arc::clone(&self.factory.folds),
        }
    }

    pub(super) fn start_read(&mut self, read: Read, reply: Reply) {
        if self.public.view_exists().is_none() || self.public.deleted {
            reply.refuse(failed(&Refusal::NotFound));
            return;
        }
        match read {
            Read::View => {
                let view = Box::new(self.public.view_at(self.window.head()));
                respond(reply, &TaskReply::View { view });
            }
            Read::Why => respond(reply, &TaskReply::Why { answer: self.why() }),
            read => {
                let reader = self.reader();
                spawn_task("task-read", async move {
                    match reader.answer(read).await {
                        Ok(answer) => reply.ok(encode(&answer)),
                        Err(error) => reply.refuse(read_failed(&error)),
                    }
                });
            }
        }
    }

    /// The texts of an automatic hand-off are in the transcript, not in the state.
    pub(super) fn look_up_handoff(
        &mut self,
        key: troupe_types::Uuid,
        message: Option<String>,
        reply: Reply,
    ) {
        let (reader, me) = (self.reader(), self.context.me.clone());
        spawn_task("task-handoff", async move {
            let (original, previous) = match reader.last_turn().await {
                Ok(turn) => handoff_texts(turn.as_ref()),
                Err(error) => {
                    reply.refuse(read_failed(&error));
                    return;
                }
            };
            let ready = TaskInternal::ConfirmReady { key, message, original, previous, reply };
            let _ = me.send(ready);
        });
    }
}

fn handoff_texts(turn: Option<&TurnView>) -> (String, String) {
    use troupe_types::MessageKind;
    let rows = || turn.into_iter().flat_map(|t| &t.messages);
    let text = |kind| rows().rfind(move |m| m.kind == kind).map(|m| m.content.clone());
    let original = rows().find(|m| m.kind == MessageKind::User).map(|m| m.content.clone());
    (original.unwrap_or_default(), text(MessageKind::Answer).unwrap_or_default())
}

impl Reader {
    async fn answer(&self, read: Read) -> Result<TaskReply, ReadError> {
        match read {
            Read::Join { turns, after_message_id } => {
                let answer = Box::new(self.join(turns, after_message_id).await?);
                Ok(TaskReply::Join { answer })
            }
            Read::Turns { before, limit } => {
                Ok(TaskReply::Turns { page: self.turns(before, limit).await? })
            }
            Read::Frames { after, limit } => {
                Ok(TaskReply::Frames { page: self.frames_page(after, limit).await? })
            }
            Read::Raw { after, limit } => {
                let piece = self.frames(after, limit.into(), limits::RESUME_BYTES_MAX).await?;
                Ok(TaskReply::Raw { frames: piece.frames })
            }
            Read::Asks if self.public.asks.is_empty() => Ok(TaskReply::Asks { asks: Vec::new() }),
            Read::Asks => {
                let asks = asks::listed(&self.public, self.last_turn().await?);
                Ok(TaskReply::Asks { asks })
            }
            Read::View | Read::Why => {
                Ok(TaskReply::View { view: Box::new(self.public.view_at(self.head)) })
            }
        }
    }

    async fn join(
        &self,
        limit: u32,
        after_message_id: Option<Ordinal>,
    ) -> Result<JoinAnswer, ReadError> {
        let page = self.turns(None, limit).await?;
        let rows = || page.turns.iter().flat_map(|t| &t.messages);
        let streaming = rows().rfind(|m| m.status == Status::Running).map(|m| Streaming {
            message: m.message,
            attempt: m.attempts.last().map_or(troupe_types::Attempt::FIRST, |a| a.attempt),
            offset: m.content.chars().count() as u64,
            cached_content: m.content.clone(),
            blocks: m.blocks.clone(),
        });
        let subtasks = match after_message_id {
            Some(after) => rows().filter(|m| m.ordinal > after).cloned().collect(),
            None => Vec::new(),
        };
        Ok(JoinAnswer {
            log: page.log,
            head: page.head,
            task: self.public.view_at(self.head),
            outline: self.public.outline.clone(),
            viewers: Vec::new(),
            streaming,
            subtasks,
            turns: page.turns,
        })
    }

    async fn turns(&self, before: Option<TurnId>, limit: u32) -> Result<TurnsPage, ReadError> {
        let outline = &self.public.outline;
        let end = match before {
            Some(before) => outline.iter().position(|row| row.turn == before).unwrap_or(0),
            None => outline.len(),
        };
        let start = end.saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        let wanted = &outline[start..end];
        // A page ends where the next turn of the transcript begins; what was edited away in
        // between is not wanted and so left out.
        let until = outline.get(end).map_or(self.head, |row| FrameSeq(row.first_seq.0 - 1));
        let turns = self.fold(wanted, until).await?;
        Ok(TurnsPage {
            log: self.public.view.log,
            head: self.head,
            turns,
            // With a limit of 0 there may be no turn to name.
            before: outline.get(start).filter(|_| start > 0).map(|row| row.turn),
        })
    }

    /// The newest turn, folded at the head.
    async fn last_turn(&self) -> Result<Option<TurnView>, ReadError> {
        let last = self.public.outline.len().saturating_sub(1);
        Ok(self.fold(&self.public.outline[last..], self.head).await?.pop())
    }

    async fn fold(
        &self,
        wanted: &[OutlineRow],
        until: FrameSeq,
    ) -> Result<Vec<TurnView>, ReadError> {
        let Some(first) = wanted.first() else { return Ok(Vec::new()) };
        let ids: BTreeSet<TurnId> = wanted.iter().map(|row| row.turn).collect();
        let mut transcript = Transcript::default();
        let mut after = FrameSeq(first.first_seq.0.saturating_sub(1));
        while after < until {
            let frames = self.frames(after, u64::MAX, ARCHIVE_PAGE_BYTES).await?.frames;
            let Some(last) = frames.last() else { break };
            after = last.seq;
            for frame in frames.iter().filter(|f| f.seq <= until) {
                transcript.fold(frame);
            }
        }
        let turns = transcript.into_turns();
        Ok(turns.into_iter().filter(|t| ids.contains(&t.turn)).collect())
    }

    async fn frames_page(&self, after: FrameSeq, limit: u32) -> Result<FramesPage, ReadError> {
        let task = self.public.view.id;
        let mut items = Vec::new();
        let mut from = after;
        let mut room = limits::RESUME_BYTES_MAX;
        // A page may begin in the archive and end in memory.
        while items.len() < usize::try_from(limit).unwrap_or(usize::MAX) && from < self.head {
            let left = u64::from(limit) - items.len() as u64;
            let Piece { frames, bytes } = self.frames(from, left, room).await?;
            let Some(last) = frames.last() else { break };
            from = last.seq;
            items.extend(frames.iter().map(|frame| item(task, frame)));
            room = room.saturating_sub(bytes);
            if room == 0 {
                break;
            }
        }
        Ok(FramesPage { log: self.public.view.log, head: self.head, frames: items })
    }

    /// Some committed frames after `after`, in order without a gap, at least one if there is
    /// one; about `bytes` of entries at most.
    async fn frames(&self, after: FrameSeq, limit: u64, bytes: usize) -> Result<Piece, ReadError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if self.held_from().is_some_and(|first| first <= after.next()) {
            return Ok(self.held_frames(after, limit, bytes));
        }
        let entries = self.journal.read_archive(self.entity, after.next(), bytes).await?;
        if entries.is_empty() {
            return Ok(self.held_frames(after, limit, bytes));
        }
        let (mut frames, mut size) = (Vec::new(), 0);
        for entry in entries {
            size += entry.body.len();
            frames.extend(decode(self.entity, entry.seq, &entry.body)?.frames);
        }
        frames.retain(|f| f.seq > after && f.seq <= self.head);
        frames.truncate(limit);
        Ok(Piece { frames, bytes: size })
    }

    fn held_from(&self) -> Option<FrameSeq> {
        self.held.iter().find_map(|h| h.entry.frames.first()).map(|f| f.seq)
    }

    fn held_frames(&self, after: FrameSeq, limit: usize, bytes: usize) -> Piece {
        let mut size = 0;
        let newer = |h: &&Held| h.entry.frames.last().is_some_and(|f| f.seq > after);
        let frames = self
            .held
            .iter()
            .filter(newer)
            .take_while(|h| {
                let fits = size < bytes;
                size += if fits { h.bytes } else { 0 };
                fits
            })
            .flat_map(|h| &h.entry.frames)
            .filter(|f| f.seq > after && f.seq <= self.head)
            .take(limit)
            .cloned()
            .collect();
        Piece { frames, bytes: size }
    }
}

fn decode(entity: EntityId, seq: Seq, body: &[u8]) -> Result<TaskEntry, ReadError> {
    codec::decode_entry(body).map_err(|error| {
        tracing::error!(%entity, %seq, %error, "an archived record cannot be read");
        ReadError::Corrupt { entity, part: troupe_store::CorruptPart::Entry(seq) }
    })
}

fn item(task: TaskId, frame: &Frame) -> FrameItem {
    let event = FrameEvent::new(task, frame);
    FrameItem { event: event.name().to_owned(), data: event.to_value() }
}

fn read_failed(error: &ReadError) -> FailedAsk {
    let message = match error {
        ReadError::Unavailable { .. } => "the store is not available; repeat later",
        _ => "stored data of this task is damaged; an operator must look at the log",
    };
    FailedAsk { code: "store".into(), message: message.into(), detail: None }
}
