//! Rooms: one upstream subscription per Task with viewers, and its latest frames.
//!
//! A room holds no truth: frames come from the Task's owner after their commit, and whatever a
//! room no longer has is read from there again.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use troupe_actor::{TaskHandle, spawn_task};
use troupe_api::task::Viewer;
use troupe_services::{Caller, Problem, TaskStream};
use troupe_sharding::StreamItem;
use troupe_types::{Frame, FrameSeq, LogId, TaskId};

use super::{connection::Connection, encoded::Encoded};
use crate::{
    gateway::{Inner, Shared},
    options::GatewayOptions,
};

/// Frames that a room keeps although all its viewers have them, for those who are joining.
const TAIL_FRAMES: usize = 256;
/// How long a subscription may take.
const FOLLOW_MAX: Duration = Duration::from_secs(15);
/// Pauses before a broken subscription is made anew.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// All rooms of this node.
#[derive(Debug)]
pub(crate) struct Rooms {
    rooms: Mutex<HashMap<TaskId, Arc<Room>>>,
    /// Tasks whose room ended: their viewers are to be withdrawn.
    emptied: Mutex<HashSet<TaskId>>,
    bytes: Arc<AtomicUsize>,
    room_frames: usize,
    room_bytes: usize,
    rooms_bytes: usize,
}

/// One Task with viewers.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) task: TaskId,
    pub(super) log: LogId,
    ring: Mutex<Ring>,
    viewers: Mutex<HashMap<u64, Seat>>,
    /// Rises with each push; closed when the room is.
    signal: watch::Sender<Signal>,
    follower: Mutex<Option<TaskHandle>>,
    pub(super) presence_changed: AtomicBool,
    /// Who looks through other nodes.
    pub(super) elsewhere: Mutex<Vec<Viewer>>,
    bytes: Arc<AtomicUsize>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    frames: usize,
    bytes: usize,
    all_bytes: usize,
}

/// What viewers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signal {
    pub(super) head: FrameSeq,
    pub(super) is_over: bool,
}

/// A viewer, as its room sees it.
#[derive(Debug)]
struct Seat {
    connection: Weak<Connection>,
    next: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Ring {
    /// Seq of the first frame kept, or of the next one to come.
    first: FrameSeq,
    frames: VecDeque<Arc<Encoded>>,
    bytes: usize,
}

/// What a viewer finds at its place.
#[derive(Debug)]
pub(super) enum Found {
    Frames(Vec<Arc<Encoded>>),
    /// Nothing yet.
    Nothing,
    /// It is gone; the room begins later.
    Gone,
}

impl Ring {
    fn next(&self) -> FrameSeq {
        self.first.plus(self.frames.len() as u64)
    }

    fn pop(&mut self) -> usize {
        let Some(frame) = self.frames.pop_front() else { return 0 };
        self.first = self.first.next();
        self.bytes -= frame.bytes();
        frame.bytes()
    }
}

impl Rooms {
    pub(super) fn new(options: &GatewayOptions) -> Self {
        Self {
            rooms: Mutex::default(),
            emptied: Mutex::default(),
            bytes: Arc::default(),
            room_frames: options.room_frames,
            room_bytes: options.room_bytes,
            rooms_bytes: options.rooms_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn get(&self, task: TaskId) -> Option<Arc<Room>> {
        self.lock().get(&task).cloned()
    }

    /// What `pick` makes of each room.
    pub(super) fn pick<T>(&self, pick: impl FnMut(&Arc<Room>) -> Option<T>) -> Vec<T> {
        self.lock().values().filter_map(pick).collect()
    }

    /// Tasks whose room ended since the last call and which have none now.
    pub(super) fn take_emptied(&self) -> Vec<TaskId> {
        let emptied = std::mem::take(&mut *self.emptied());
        let rooms = self.lock();
        emptied.into_iter().filter(|task| !rooms.contains_key(task)).collect()
    }

    fn emptied(&self) -> MutexGuard<'_, HashSet<TaskId>> {
        self.emptied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close_all(&self) {
        let rooms: Vec<_> = self.lock().drain().map(|(_, room)| room).collect();
        self.emptied().extend(rooms.iter().map(|room| room.task));
        for room in rooms {
            room.close();
        }
    }

    /// Takes a seat in a Task's room; the room is made and follows from `head` if there is none.
    pub(super) fn enter(
        self: &Arc<Self>,
        shared: &Shared,
        task: TaskId,
        (log, head): (LogId, FrameSeq),
        connection: &Arc<Connection>,
        next: Arc<AtomicU64>,
    ) -> Arc<Room> {
        let seat = Seat { connection: Arc::downgrade(connection), next };
        let mut rooms = self.lock();
        if let Some(room) = rooms.get(&task).filter(|room| room.log == log) {
            room.seat(connection.id, seat);
            return Arc::clone(room);
        }
        // Another log is another history (a restored backup): nobody stays in the old room.
        if let Some(stale) = rooms.remove(&task) {
            stale.close();
        }
        let limits = Limits {
            frames: self.room_frames,
            bytes: self.room_bytes,
            all_bytes: self.rooms_bytes,
        };
        let room = Arc::new(Room {
            task,
            log,
            ring: Mutex::new(Ring { first: head.next(), frames: VecDeque::new(), bytes: 0 }),
            viewers: Mutex::default(),
            signal: watch::Sender::new(Signal { head, is_over: false }),
            follower: Mutex::default(),
            presence_changed: AtomicBool::new(false),
            elsewhere: Mutex::default(),
            bytes: Arc::clone(&self.bytes),
            limits,
        });
        room.seat(connection.id, seat);
        let follower = follow(Arc::downgrade(shared), Arc::downgrade(&room), head);
        *room.follower() = Some(spawn_task("gateway-room", follower).abort_on_drop());
        rooms.insert(task, Arc::clone(&room));
        room
    }

    /// Gives a seat back; a room without viewers ends.
    pub(super) fn leave(&self, room: &Arc<Room>, connection: u64, next: &Arc<AtomicU64>) {
        let mut rooms = self.lock();
        if room.unseat(connection, next) == 0 {
            if rooms.get(&room.task).is_some_and(|known| Arc::ptr_eq(known, room)) {
                rooms.remove(&room.task);
                self.emptied().insert(room.task);
            }
            room.close();
        }
    }
}

impl Room {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn viewers(&self) -> MutexGuard<'_, HashMap<u64, Seat>> {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follower(&self) -> MutexGuard<'_, Option<TaskHandle>> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self, connection: u64, seat: Seat) {
        self.viewers().insert(connection, seat);
        self.presence_changed.store(true, Ordering::Release);
    }

    /// How many are left. A seat that was taken anew by the same connection stays.
    fn unseat(&self, connection: u64, next: &Arc<AtomicU64>) -> usize {
        let mut viewers = self.viewers();
        if viewers.get(&connection).is_some_and(|seat| Arc::ptr_eq(&seat.next, next)) {
            viewers.remove(&connection);
            self.presence_changed.store(true, Ordering::Release);
        }
        viewers.len()
    }

    fn close(&self) {
        let signal = *self.signal.borrow();
        self.signal.send_replace(Signal { is_over: true, ..signal });
        drop(self.follower().take());
        let mut ring = self.ring();
        ring.frames.clear();
        self.bytes.fetch_sub(std::mem::take(&mut ring.bytes), Ordering::Relaxed);
    }

    pub(super) fn signal(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    pub(super) fn head(&self) -> FrameSeq {
        self.signal.borrow().head
    }

    /// At most `count` frames from `next` on.
    pub(super) fn read(&self, next: FrameSeq, count: usize) -> Found {
        let ring = self.ring();
        if next < ring.first {
            return Found::Gone;
        }
        let skip = usize::try_from(next.0 - ring.first.0).unwrap_or(usize::MAX);
        let frames: Vec<_> = ring.frames.iter().skip(skip).take(count).cloned().collect();
        if frames.is_empty() { Found::Nothing } else { Found::Frames(frames) }
    }

    /// Takes over the frames that follow what is there; doubles are dropped. `false`: a gap.
    fn push(&self, frames: &[Frame]) -> bool {
        let slowest = self.slowest();
        let mut ring = self.ring();
        let mut head = None;
        for frame in frames {
            let expected = ring.next();
            if frame.seq < expected {
                continue;
            }
            if frame.seq > expected {
                return false;
            }
            let Some(encoded) = Encoded::live(self.task, frame) else { continue };
            ring.bytes += encoded.bytes();
            self.bytes.fetch_add(encoded.bytes(), Ordering::Relaxed);
            ring.frames.push_back(encoded);
            head = Some(frame.seq);
        }
        self.trim(&mut ring, slowest);
        drop(ring);
        if let Some(head) = head {
            self.signal.send_replace(Signal { head, is_over: false });
        }
        true
    }

    /// Lets go of what all viewers have, but for a tail; and of more if it is too much.
    fn trim(&self, ring: &mut Ring, slowest: FrameSeq) {
        loop {
            let crowded = self.bytes.load(Ordering::Relaxed) > self.limits.all_bytes;
            let bytes_max = if crowded { self.limits.bytes / 16 } else { self.limits.bytes };
            let seen = ring.frames.len() > TAIL_FRAMES && ring.first < slowest;
            let large = ring.frames.len() > self.limits.frames || ring.bytes > bytes_max;
            // The newest frame stays: somebody is about to send it.
            if ring.frames.len() <= 1 || !(seen || large) {
                return;
            }
            self.bytes.fetch_sub(ring.pop(), Ordering::Relaxed);
        }
    }

    fn slowest(&self) -> FrameSeq {
        let viewers = self.viewers();
        FrameSeq(viewers.values().map(|s| s.next.load(Ordering::Acquire)).min().unwrap_or(u64::MAX))
    }

    /// All who look.
    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        let seats: Vec<_> = self.viewers().values().map(|s| s.connection.clone()).collect();
        seats.into_iter().filter_map(|connection| connection.upgrade()).collect()
    }

    /// Somebody who looks, to ask on behalf of.
    fn callers(&self) -> Vec<(Arc<Connection>, Caller)> {
        let live = self.connections().into_iter();
        live.map(|c| {
            let caller = c.session().caller.clone();
            (c, caller)
        })
        .collect()
    }
}

/// Keeps a room supplied until it is closed.
async fn follow(shared: Weak<Inner>, room: Weak<Room>, head: FrameSeq) {
    let mut after = head;
    let mut pause = PAUSE_MIN;
    loop {
        let (Some(gateway), Some(here)) = (shared.upgrade(), room.upgrade()) else { return };
        match subscribe(&gateway, &here, after).await {
            Ok(stream) if stream.log == here.log => {
                pause = PAUSE_MIN;
                drop(gateway);
                after = supply(&here, stream).await;
            }
            Ok(_) => {
                // Another history began: everybody has to join anew.
                let signal = *here.signal.borrow();
                here.signal.send_replace(Signal { is_over: true, ..signal });
                return;
            }
            Err(Some(problem)) => {
                tracing::debug!(task = %here.task, code = problem.code, "a room cannot follow");
            }
            Err(None) => {}
        }
        drop(here);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Subscribes on behalf of any viewer who may; those who may not (any more) are sent out.
async fn subscribe(
    gateway: &Shared,
    room: &Arc<Room>,
    after: FrameSeq,
) -> Result<TaskStream, Option<Problem>> {
    let mut last = None;
    for (connection, caller) in room.callers() {
        let following = gateway.state.tasks.follow(&caller, room.task, after);
        match tokio::time::timeout(FOLLOW_MAX, following).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(problem)) => {
                if is_final(&problem) {
                    super::viewing::send_out(&connection, room).await;
                } else {
                    return Err(Some(problem));
                }
                last = Some(problem);
            }
            Err(_) => return Err(None),
        }
    }
    Err(last)
}

/// Whether asking again cannot help this caller.
pub(super) fn is_final(problem: &Problem) -> bool {
    matches!(problem.status, 401 | 403 | 404 | 410)
}

/// Pushes what comes until the subscription breaks; answers the last seq that is there.
async fn supply(room: &Arc<Room>, mut stream: TaskStream) -> FrameSeq {
    loop {
        let whole = match stream.frames.recv().await {
            Some(StreamItem::Frames(batch)) => room.push(&batch),
            Some(StreamItem::Lagged | StreamItem::Ended) | None => false,
        };
        if !whole {
            let next = room.ring().next();
            return FrameSeq(next.0.saturating_sub(1));
        }
    }
}
