//! An open connection, and all of them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{json, value::RawValue};
use tokio::sync::watch;
use troupe_services::Caller;
use troupe_types::{MonoTime, TaskId, UserId};

use super::{
    encoded::raw,
    lanes::Lanes,
    peer::{NotSent, Peer},
    viewing::Viewing,
};

/// A socket that did not get further than its handshake in this time is forgotten.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
/// How long a socket may take between its first operation and the end of its handshake.
const ENTER_MAX: Duration = Duration::from_secs(5);
/// How long the last event of a connection may wait for room.
const LAST_WORD_PATIENCE: Duration = Duration::from_secs(1);

/// Who speaks over a connection, and whether they were told that their token is expired.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) caller: Caller,
    pub(super) expired_at: Option<MonoTime>,
}

/// One socket of either kind.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) id: u64,
    pub(super) user: UserId,
    pub(super) user_name: String,
    pub(super) peer: Peer,
    pub(super) lanes: Lanes,
    opened: MonoTime,
    entered: watch::Sender<bool>,
    session: Mutex<Session>,
    viewings: Mutex<HashMap<TaskId, Viewing>>,
    closing: AtomicBool,
}

/// What a connection is told before it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastWord {
    Expired,
    Ended,
}

impl LastWord {
    pub(super) fn payload(self) -> Option<Box<RawValue>> {
        let (code, error) = match self {
            Self::Expired => ("token_expired", "The token is expired: refresh it or log in."),
            Self::Ended => ("session_ended", "This session was ended: log in again."),
        };
        raw(&json!({ "error": error, "code": code }))
    }
}

impl Connection {
    pub(super) fn new(id: u64, caller: Caller, peer: Peer, now: MonoTime) -> Arc<Self> {
        Arc::new(Self {
            id,
            user: caller.user,
            user_name: caller.name.clone(),
            entered: watch::Sender::new(peer.is_connected()),
            peer,
            lanes: Lanes::default(),
            opened: now,
            session: Mutex::new(Session { caller, expired_at: None }),
            viewings: Mutex::default(),
            closing: AtomicBool::new(false),
        })
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn viewings(&self) -> MutexGuard<'_, HashMap<TaskId, Viewing>> {
        self.viewings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on events can be sent.
    pub(super) fn enter(&self) {
        self.entered.send_replace(true);
    }

    /// Waits until events can be sent; `false` if that does not happen. A Socket.IO client hears
    /// that it is connected before its socket takes events here, and may be faster.
    pub(super) async fn has_entered(&self) -> bool {
        if *self.entered.borrow() {
            return true;
        }
        let mut entered = self.entered.subscribe();
        let waiting = entered.wait_for(|entered| *entered);
        tokio::time::timeout(ENTER_MAX, waiting).await.is_ok_and(|entered| entered.is_ok())
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Whether nothing can be sent any more, and nothing ever will.
    pub(super) fn is_dead(&self, now: MonoTime) -> bool {
        !self.peer.is_connected() && now.since(self.opened) > HANDSHAKE_MAX
    }

    /// Stops looking at everything and ends the connection; what does not work at once is tried
    /// again by the sweeper.
    pub(crate) fn close(&self) -> bool {
        self.closing.store(true, Ordering::Release);
        self.forget();
        self.peer.close()
    }

    /// Leaves all rooms, without a word.
    pub(super) fn forget(&self) {
        // Dropped outside the lock: a viewing leaves its room when it is dropped.
        let viewings = std::mem::take(&mut *self.viewings());
        drop(viewings);
    }

    /// Stops all frames at once, says why, and closes.
    pub(super) async fn end(&self, word: LastWord) {
        self.closing.store(true, Ordering::Release);
        self.forget();
        if let Some(payload) = word.payload() {
            // Who does not take it is closed all the same.
            let _: Result<(), NotSent> =
                self.peer.event("auth:error", &payload, LAST_WORD_PATIENCE).await;
        }
        self.close();
    }
}

/// All connections of this node, by number and by user.
#[derive(Debug)]
pub(crate) struct Connections {
    all: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    max: usize,
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        Self { all: Mutex::default(), next: AtomicU64::new(1), max }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection, unless there are too many.
    pub(super) fn open(
        &self,
        caller: Caller,
        peer: Peer,
        now: MonoTime,
    ) -> Option<Arc<Connection>> {
        let mut all = self.lock();
        if all.len() >= self.max {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::new(id, caller, peer, now);
        all.insert(id, Arc::clone(&connection));
        report(all.len());
        Some(connection)
    }

    pub(super) fn remove(&self, connection: &Connection) {
        connection.closing.store(true, Ordering::Release);
        connection.forget();
        let mut all = self.lock();
        all.remove(&connection.id);
        report(all.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn all(&self) -> Vec<Arc<Connection>> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn of(&self, user: UserId) -> Vec<Arc<Connection>> {
        self.lock().values().filter(|c| c.user == user).cloned().collect()
    }
}

fn report(open: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 sockets")]
    metrics::gauge!("troupe_gateway_sockets").set(open as f64);
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use futures::FutureExt as _;
    use troupe_api::auth::UserRole;
    use troupe_services::Credential;
    use troupe_types::{ApiKeyId, Uuid};

    use super::*;

    fn connection(peer: Peer) -> Arc<Connection> {
        let caller = Caller {
            user: UserId::from_uuid(Uuid::nil()),
            name: "ada".to_owned(),
            role: UserRole::User,
            credential: Credential::ApiKey(ApiKeyId::from_uuid(Uuid::nil())),
            expires_at: None,
        };
        Connection::new(1, caller, peer, MonoTime::default())
    }

    #[tokio::test]
    async fn operations_of_a_socket_wait_until_events_can_be_sent_to_it() {
        let connection = connection(Peer::SocketIo(Weak::new()));
        assert_eq!(connection.has_entered().now_or_never(), None, "its handshake is not over");
        connection.enter();
        assert_eq!(connection.has_entered().now_or_never(), Some(true));
    }

    #[tokio::test]
    async fn a_stream_takes_events_at_once() {
        let (to, _outgoing) = tokio::sync::mpsc::channel(1);
        let connection = connection(Peer::Stream(to));
        assert_eq!(connection.has_entered().now_or_never(), Some(true));
    }
}
