//! What goes on beside the operations: expired tokens, revocations, notices.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::StreamExt;
use tokio::sync::broadcast::error::RecvError;
use troupe_services::{AuthError, Caller, auth::AuthChange};
use troupe_soft_state::Notice;
use troupe_types::TaskId;

use super::{
    connection::{Connection, LastWord},
    encoded::raw,
    room::is_final,
    viewing,
};
use crate::gateway::{Inner, Shared};

const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Connections that are checked again at once.
const CHECKS_AT_ONCE: usize = 32;
/// Tries to find out whether a session still holds; then it is closed to be safe.
const CHECK_TRIES: u32 = 3;
const CHECK_PAUSE: Duration = Duration::from_millis(300);
/// How long a Task may take to say who may look.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Once a second: forgets dead connections, tells expired ones, closes those whose grace is
/// over.
pub(crate) async fn run(shared: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        for connection in shared.hub.connections.all() {
            sweep(&shared, &connection).await;
        }
    }
}

async fn sweep(shared: &Shared, connection: &Arc<Connection>) {
    let (now, mono) = (shared.state.clock.now(), shared.state.clock.mono());
    if connection.is_dead(mono) {
        shared.hub.connections.remove(connection);
        return;
    }
    if connection.is_closing() {
        // An earlier try found no room for the last packet.
        connection.close();
        return;
    }
    let is_new = {
        let mut session = connection.session();
        if session.caller.expires_at.is_none_or(|at| at > now) {
            return;
        }
        let is_new = session.expired_at.is_none();
        session.expired_at.get_or_insert(mono);
        is_new
    };
    if is_new {
        if let Some(payload) = LastWord::Expired.payload() {
            let _ = connection.peer.try_event("auth:error", &payload);
        }
        return;
    }
    let since = connection.session().expired_at;
    if since.is_some_and(|since| mono.since(since) >= shared.options().expiry_grace) {
        tracing::debug!(user = %connection.user, "a socket with an expired token is closed");
        connection.close();
    }
}

/// Drops what a revocation ends, as soon as this process hears of it.
pub(crate) async fn revocations(shared: Weak<Inner>) {
    let Some(mut changes) = shared.upgrade().map(|shared| shared.state.auth.changes()) else {
        return;
    };
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => AuthChange::All,
            Err(RecvError::Closed) => return,
        };
        let Some(shared) = shared.upgrade() else { return };
        let connections = match change {
            AuthChange::User(user) => shared.hub.connections.of(user),
            AuthChange::All => shared.hub.connections.all(),
        };
        futures::stream::iter(connections)
            .for_each_concurrent(CHECKS_AT_ONCE, |connection| check(&shared, connection))
            .await;
    }
}

async fn check(shared: &Shared, connection: Arc<Connection>) {
    let caller = connection.session().caller.clone();
    for _ in 0..CHECK_TRIES {
        match shared.state.auth.recheck(&caller).await {
            Ok(caller) => return check_rooms(shared, &caller, &connection).await,
            Err(AuthError::Store(_)) => tokio::time::sleep(CHECK_PAUSE).await,
            Err(_) => break,
        }
    }
    tracing::info!(target: "audit", action = "socket", by = %caller.user, outcome = "ended");
    connection.end(LastWord::Ended).await;
}

/// The session holds, but maybe a membership does not.
async fn check_rooms(shared: &Shared, caller: &Caller, connection: &Arc<Connection>) {
    let rooms: Vec<(TaskId, _)> =
        connection.viewings().iter().map(|(task, v)| (*task, Arc::clone(&v.room))).collect();
    for (task, room) in rooms {
        let asking = shared.state.tasks.may_follow(caller, task);
        // Without an answer the room's own subscription decides when it is made anew.
        let Ok(may) = tokio::time::timeout(ASK_MAX, asking).await else { continue };
        if may.is_err_and(|problem| is_final(&problem)) {
            viewing::send_out(connection, &room).await;
        }
    }
}

/// Passes notices on to all connections of their user. Best effort.
pub(crate) async fn notices(shared: Weak<Inner>) {
    let Some(mut notices) = shared.upgrade().map(|shared| shared.state.soft.notices()) else {
        return;
    };
    loop {
        match notices.recv().await {
            Ok(notice) => {
                let Some(shared) = shared.upgrade() else { return };
                pass_on(&shared, &notice);
            }
            Err(RecvError::Lagged(lost)) => tracing::debug!(lost, "notices were lost"),
            Err(RecvError::Closed) => return,
        }
    }
}

fn pass_on(shared: &Shared, notice: &Notice) {
    let Some(payload) = raw(&notice.payload) else { return };
    for connection in shared.hub.connections.of(notice.user) {
        if !connection.is_closing() {
            let _ = connection.peer.try_event(&notice.event, &payload);
        }
    }
}
