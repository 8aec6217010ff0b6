//! The far end of a connection: how an event or an ack gets there.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use axum::extract::ws::Utf8Bytes;
use serde_json::value::RawValue;
use socketioxide::{
    SendError, SocketError,
    adapter::LocalAdapter,
    extract::{AckSender, SocketRef},
    handler::{FromMessageParts, Value as Packet},
    socket::Socket,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::encoded::{Encoded, stream_event};

/// First and longest pause before a full queue is tried again. The longer one leaves the queue
/// some room, so that a heartbeat finds a place in it.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Why something was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// The peer takes nothing, or too slowly.
    Slow,
    /// The connection is gone.
    Gone,
}

/// One end of a connection. Sends never queue here: Socket.IO has its own bounded queue, the
/// stream a bounded channel.
#[derive(Debug)]
pub(super) enum Peer {
    SocketIo(Weak<Socket<LocalAdapter>>),
    Stream(mpsc::Sender<Outgoing>),
}

/// What goes to the writer of a stream.
#[derive(Debug)]
pub(super) enum Outgoing {
    Text(Utf8Bytes),
    Close,
}

/// To whom an answer goes. Without a number the client does not want one.
#[derive(Clone, Debug)]
pub(super) enum Ack {
    SocketIo { socket: Weak<Socket<LocalAdapter>>, number: Option<i64> },
    Stream { id: Option<serde_json::Value> },
}

impl Peer {
    pub(super) fn is_connected(&self) -> bool {
        match self {
            Self::SocketIo(socket) => socket.upgrade().is_some_and(|s| s.connected()),
            Self::Stream(to) => !to.is_closed(),
        }
    }

    /// Sends an event, waiting for room for at most `patience`.
    pub(super) async fn event(
        &self,
        name: &str,
        data: &RawValue,
        patience: Duration,
    ) -> Result<(), NotSent> {
        match self {
            Self::SocketIo(socket) => {
                until_sent(patience, || {
                    let socket = socket.upgrade().ok_or(NotSent::Gone)?;
                    told(socket.emit(name, data))
                })
                .await
            }
            Self::Stream(to) => push(to, stream_event(name, data), patience).await,
        }
    }

    /// Sends a frame, waiting for room for at most `patience`.
    pub(super) async fn frame(&self, frame: &Encoded, patience: Duration) -> Result<(), NotSent> {
        match self {
            Self::SocketIo(_) => self.event(&frame.event, &frame.json, patience).await,
            Self::Stream(to) => push(to, frame.stream(), patience).await,
        }
    }

    /// Sends an event if there is room right now.
    pub(super) fn try_event(&self, name: &str, data: &RawValue) -> Result<(), NotSent> {
        match self {
            Self::SocketIo(socket) => {
                let socket = socket.upgrade().ok_or(NotSent::Gone)?;
                told(socket.emit(name, data))
            }
            Self::Stream(to) => {
                let text = Outgoing::Text(stream_event(name, data));
                to.try_send(text).map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => NotSent::Slow,
                    mpsc::error::TrySendError::Closed(_) => NotSent::Gone,
                })
            }
        }
    }

    /// Answers an operation.
    pub(super) async fn ack(
        &self,
        ack: &Ack,
        data: &RawValue,
        patience: Duration,
    ) -> Result<(), NotSent> {
        match (self, ack) {
            (_, Ack::SocketIo { number: None, .. } | Ack::Stream { id: None }) => Ok(()),
            (_, Ack::SocketIo { socket, number }) => {
                until_sent(patience, || {
                    let socket = socket.upgrade().ok_or(NotSent::Gone)?;
                    // An ack sender is used up by a failed try, so each try makes one.
                    let mut nothing = Packet::Str("".into(), None);
                    let Ok(sender) = AckSender::from_message_parts(&socket, &mut nothing, number);
                    told(sender.send(data))
                })
                .await
            }
            (Self::Stream(to), Ack::Stream { id: Some(id) }) => {
                let text = format!("{{\"ack\":{id},\"data\":{}}}", data.get());
                push(to, text.into(), patience).await
            }
            (Self::SocketIo(_), Ack::Stream { .. }) => Err(NotSent::Gone),
        }
    }

    /// Ends the connection. `false`: not yet, try again.
    pub(super) fn close(&self) -> bool {
        match self {
            Self::SocketIo(socket) => match socket.upgrade() {
                Some(socket) if socket.connected() => SocketRef::from(socket).disconnect().is_ok(),
                _ => true,
            },
            Self::Stream(to) => to.is_closed() || to.try_send(Outgoing::Close).is_ok(),
        }
    }
}

async fn push(
    to: &mpsc::Sender<Outgoing>,
    text: Utf8Bytes,
    patience: Duration,
) -> Result<(), NotSent> {
    // Without a timer while there is room, as there nearly always is.
    let message = match to.try_send(Outgoing::Text(text)) {
        Ok(()) => return Ok(()),
        Err(mpsc::error::TrySendError::Closed(_)) => return Err(NotSent::Gone),
        Err(mpsc::error::TrySendError::Full(message)) => message,
    };
    match to.send_timeout(message, patience).await {
        Ok(()) => Ok(()),
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(NotSent::Slow),
        Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(NotSent::Gone),
    }
}

fn told(sent: Result<(), SendError>) -> Result<(), NotSent> {
    match sent {
        Ok(()) => Ok(()),
        Err(SendError::Socket(SocketError::InternalChannelFull)) => Err(NotSent::Slow),
        Err(SendError::Socket(SocketError::Closed)) => Err(NotSent::Gone),
        Err(SendError::Serialize(error)) => {
            tracing::error!(%error, "a payload could not be sent");
            Ok(())
        }
    }
}

async fn until_sent(
    patience: Duration,
    mut send: impl FnMut() -> Result<(), NotSent>,
) -> Result<(), NotSent> {
    let mut pause = PAUSE_MIN;
    let mut deadline = None;
    loop {
        match send() {
            Err(NotSent::Slow) => {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
                if Instant::now() >= deadline {
                    return Err(NotSent::Slow);
                }
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            done => return done,
        }
    }
}

/// A weak hold on a socket: a strong one kept beyond its handler would keep it for ever.
pub(super) fn weak(socket: &Arc<Socket<LocalAdapter>>) -> Weak<Socket<LocalAdapter>> {
    Arc::downgrade(socket)
}
