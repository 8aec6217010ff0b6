//! One connection looking at one Task: its place in the sequence of frames.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use troupe_actor::{TaskHandle, spawn_task};
use troupe_types::{FrameSeq, LogId, TaskId, limits};

use super::{
    connection::Connection,
    encoded::{Encoded, raw},
    peer::NotSent,
    room::{Found, Room, Rooms},
};
use crate::gateway::{Inner, Shared};

/// Frames taken from the room at once.
const BATCH: usize = 64;
/// Times that a viewer may catch up by reading older frames, over its whole stay.
const OLDER_READS_MAX: u8 = 5;
/// How long a read of older frames may take.
const READ_MAX: Duration = Duration::from_secs(15);
/// How long `task:resync` may wait for room.
const RESYNC_PATIENCE: Duration = Duration::from_secs(10);

/// A seat in a room, and the task that sends from it. Dropped, it stops and leaves.
#[derive(Debug)]
pub(crate) struct Viewing {
    pub(super) room: Arc<Room>,
    rooms: Weak<Rooms>,
    connection: u64,
    next: Arc<AtomicU64>,
    sender: Option<TaskHandle>,
}

impl Viewing {
    /// Stops and waits until nothing more is sent.
    async fn stop(mut self) {
        if let Some(sender) = self.sender.take() {
            sender.abort();
            // It ended one way or another; that is all that matters.
            let _ = sender.await;
        }
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.abort();
        }
        if let Some(rooms) = self.rooms.upgrade() {
            rooms.leave(&self.room, self.connection, &self.next);
        }
    }
}

/// Where to begin.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) task: TaskId,
    pub(super) log: LogId,
    /// Everything up to here is known as committed.
    pub(super) head: FrameSeq,
    /// What is sent first, in order.
    pub(super) backlog: Vec<Arc<Encoded>>,
    /// The frame after the backlog.
    pub(super) next: FrameSeq,
}

/// Takes a seat without sending yet: the ack goes first. A seat that the connection had in this
/// room is given up once nothing is sent from it any more.
pub(super) async fn take_seat(
    shared: &Shared,
    connection: &Arc<Connection>,
    begin: &Begin,
) -> Viewing {
    let old = connection.viewings().remove(&begin.task);
    let first = begin.backlog.first().map_or(begin.next, |frame| frame.seq);
    let next = Arc::new(AtomicU64::new(first.0));
    let rooms = &shared.hub.rooms;
    let at = (begin.log, begin.head);
    let room = rooms.enter(shared, begin.task, at, connection, Arc::clone(&next));
    if let Some(old) = old {
        old.stop().await;
    }
    Viewing { room, rooms: Arc::downgrade(rooms), connection: connection.id, next, sender: None }
}

/// Begins to send.
pub(super) fn start(
    shared: &Shared,
    connection: &Arc<Connection>,
    mut viewing: Viewing,
    begin: Begin,
) {
    let task = begin.task;
    let sending = send(
        Arc::downgrade(shared),
        Arc::downgrade(connection),
        Arc::clone(&viewing.room),
        Arc::clone(&viewing.next),
        begin,
    );
    viewing.sender = Some(spawn_task("gateway-viewer", sending));
    let replaced = {
        let mut viewings = connection.viewings();
        // Closed meanwhile: nobody would take this out again.
        if connection.is_closing() { Some(viewing) } else { viewings.insert(task, viewing) }
    };
    drop(replaced);
}

/// Why sending ended.
enum End {
    /// The connection or the room is gone, nothing is to be said.
    Quiet,
    /// The connection is too slow, or the history is another one.
    Resync,
}

async fn send(
    shared: Weak<Inner>,
    connection: Weak<Connection>,
    room: Arc<Room>,
    next: Arc<AtomicU64>,
    begin: Begin,
) {
    let end = send_all(&shared, &connection, &room, &next, begin).await;
    if let (End::Resync, Some(connection)) = (end, connection.upgrade()) {
        metrics::counter!("troupe_gateway_resyncs_total").increment(1);
        resync(&connection, &room).await;
    }
}

async fn send_all(
    shared: &Weak<Inner>,
    connection: &Weak<Connection>,
    room: &Arc<Room>,
    next: &AtomicU64,
    begin: Begin,
) -> End {
    let mut signal = room.signal();
    if let Err(end) = send_batch(shared, connection, next, &begin.backlog).await {
        return end;
    }
    let mut place = begin.next;
    next.store(place.0, Ordering::Release);
    let mut older_left = OLDER_READS_MAX;
    loop {
        // Marked as seen before the look, so that a push in between is not missed.
        if signal.borrow_and_update().is_over {
            return End::Resync;
        }
        let frames = match room.read(place, BATCH) {
            Found::Frames(frames) => frames,
            Found::Nothing => {
                if signal.changed().await.is_err() {
                    return End::Quiet;
                }
                continue;
            }
            // The room moved on: since the join, or because this viewer was a little slow.
            Found::Gone if older_left > 0 => {
                older_left -= 1;
                match older(shared, connection, room, place).await {
                    Some(frames) => frames,
                    None => return End::Resync,
                }
            }
            Found::Gone => return End::Resync,
        };
        if let Err(end) = send_batch(shared, connection, next, &frames).await {
            return end;
        }
        place = FrameSeq(next.load(Ordering::Acquire));
    }
}

async fn send_batch(
    shared: &Weak<Inner>,
    connection: &Weak<Connection>,
    next: &AtomicU64,
    frames: &[Arc<Encoded>],
) -> Result<(), End> {
    if frames.is_empty() {
        return Ok(());
    }
    let (Some(gateway), Some(connection)) = (shared.upgrade(), connection.upgrade()) else {
        return Err(End::Quiet);
    };
    let patience = gateway.options().slow_after;
    for frame in frames {
        match connection.peer.frame(frame, patience).await {
            Ok(()) => next.store(frame.seq.next().0, Ordering::Release),
            Err(NotSent::Slow) => return Err(End::Resync),
            Err(NotSent::Gone) => return Err(End::Quiet),
        }
    }
    metrics::counter!("troupe_gateway_frames_sent_total").increment(frames.len() as u64);
    Ok(())
}

/// Frames that the room no longer has, from their owner.
async fn older(
    shared: &Weak<Inner>,
    connection: &Weak<Connection>,
    room: &Arc<Room>,
    place: FrameSeq,
) -> Option<Vec<Arc<Encoded>>> {
    let (gateway, connection) = (shared.upgrade()?, connection.upgrade()?);
    let caller = connection.session().caller.clone();
    let after = FrameSeq(place.0.saturating_sub(1));
    let limit = u32::try_from(limits::RESUME_FRAMES_MAX).unwrap_or(u32::MAX);
    let reading = gateway.state.tasks.frames(&caller, room.task, after, limit);
    let page = tokio::time::timeout(READ_MAX, reading).await.ok()?.ok()?;
    if page.log != room.log {
        return None;
    }
    let frames: Vec<_> = page.frames.into_iter().filter_map(Encoded::stored).collect();
    (frames.first().map(|frame| frame.seq) == Some(place)).then_some(frames)
}

/// Tells a connection to join anew, after it left the room.
async fn resync(connection: &Arc<Connection>, room: &Arc<Room>) {
    // The viewing holds this very task and would abort it: it lets go of it first.
    let own = connection.viewings().remove(&room.task).filter(|v| Arc::ptr_eq(&v.room, room));
    let Some(mut own) = own else { return };
    drop(own.sender.take());
    drop(own);
    let Some(payload) = raw(&json!({ "task_id": room.task, "head": room.head() })) else {
        return;
    };
    if connection.peer.event("task:resync", &payload, RESYNC_PATIENCE).await == Err(NotSent::Slow) {
        tracing::debug!(task = %room.task, "a socket takes nothing and is closed");
        connection.close();
    }
}

/// Sends out a viewer who may not look any more; called from outside its own task.
pub(super) async fn send_out(connection: &Arc<Connection>, room: &Arc<Room>) {
    let own = connection.viewings().remove(&room.task);
    if let Some(own) = own {
        own.stop().await;
    }
    if let Some(payload) = raw(&json!({ "task_id": room.task, "head": room.head() })) {
        // Their next join says that there is nothing for them.
        let _ = connection.peer.try_event("task:resync", &payload);
    }
}
