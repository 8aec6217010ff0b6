//! Socket.IO: the transport of the operations for browsers and the contract's clients.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use socketioxide::{
    SocketIo, TransportType,
    adapter::LocalAdapter,
    extract::{Data, Event, SocketRef, TryData},
    handler::{ConnectHandler, FromConnectParts, FromMessageParts, Value as Packet},
    layer::SocketIoLayer,
    socket::Socket,
};
use troupe_services::Problem;

use super::{
    connection::Connection,
    lanes::Job,
    ops,
    peer::{Ack, Peer, weak},
};
use crate::gateway::{Inner, Shared};

/// How long a socket may take to come to a namespace.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Messages that wait for one socket.
const QUEUE: usize = 128;

/// What a client shows when it connects.
#[derive(Deserialize)]
struct Handshake {
    #[serde(default)]
    token: Option<String>,
}

/// Why a socket was refused; the client reads the text as `connect_error`'s message.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The layer in front of the router, and the handle that closes all sockets.
pub(crate) fn build(shared: &Shared) -> (SocketIoLayer, SocketIo) {
    let options = shared.options();
    let (layer, io) = SocketIo::builder()
        .req_path("/socket.io")
        .transports([TransportType::Websocket])
        .ping_interval(options.ping_interval)
        .ping_timeout(options.ping_timeout)
        .connect_timeout(CONNECT_MAX)
        .max_payload(options.payload_max as u64)
        .ws_max_message_size(options.payload_max)
        .ws_max_frame_size(options.payload_max)
        .max_buffer_size(QUEUE)
        .build_layer();
    let gateway = Arc::downgrade(shared);
    let enter = move |socket: Whole, TryData(handshake): TryData<Handshake>| {
        let gateway = gateway.clone();
        async move {
            let gateway = gateway.upgrade().ok_or_else(|| Refused("draining".to_owned()))?;
            let handshake = handshake.map_err(|_| Refused("unauthorized".to_owned()));
            connect(gateway, socket.0, handshake?).await
        }
    };
    // Handlers are there before the client hears that it is connected: its first event must find
    // its handler. Events to it are taken only from `entered` on.
    io.ns(super::NAMESPACE, entered.with(enter));
    (layer, io)
}

async fn entered(socket: SocketRef) {
    if let Some(connection) = socket.extensions.get::<Arc<Connection>>() {
        connection.enter();
    }
}

/// The socket itself, for a weak hold on it.
struct Whole(Arc<Socket<LocalAdapter>>);

impl FromConnectParts<LocalAdapter> for Whole {
    type Error = Infallible;

    fn from_connect_parts(
        socket: &Arc<Socket<LocalAdapter>>,
        _: &Option<Packet>,
    ) -> Result<Self, Infallible> {
        Ok(Self(Arc::clone(socket)))
    }
}

async fn connect(
    shared: Arc<Inner>,
    socket: Arc<Socket<LocalAdapter>>,
    handshake: Handshake,
) -> Result<(), Refused> {
    if shared.is_draining() {
        return Err(Refused("draining".to_owned()));
    }
    let token = handshake.token.unwrap_or_default();
    let caller = shared.state.auth.verify(&token).await;
    let caller = caller.map_err(|error| Refused(Problem::from(error).code))?;
    let (peer, now) = (Peer::SocketIo(weak(&socket)), shared.state.clock.mono());
    let connection = shared.hub.connections.open(caller, peer, now);
    let connection = connection.ok_or_else(|| Refused("too_many".to_owned()))?;
    socket.extensions.insert(Arc::clone(&connection));
    let gone = {
        let (shared, connection) = (Arc::downgrade(&shared), Arc::downgrade(&connection));
        move || {
            let (shared, connection) = (shared.clone(), connection.clone());
            async move {
                if let (Some(shared), Some(connection)) = (shared.upgrade(), connection.upgrade()) {
                    shared.hub.connections.remove(&connection);
                }
            }
        }
    };
    socket.on_disconnect(gone);
    let shared = Arc::downgrade(&shared);
    // One handler for all events: the table of operations decides, and an idle socket holds
    // one closure instead of ten.
    socket.on_fallback(move |incoming: Incoming| {
        let shared = shared.clone();
        async move {
            let Some(shared) = shared.upgrade() else { return };
            match incoming {
                Incoming::Run(connection, lane) => ops::run_lane(shared, connection, lane).await,
                Incoming::Refuse(connection, job) => ops::refuse(&connection, &job).await,
                Incoming::Nothing => {}
            }
        }
    });
    Ok(())
}

/// An event, already in its lane: this happens while packets are still in order.
enum Incoming {
    Run(Arc<Connection>, String),
    Refuse(Arc<Connection>, Box<Job>),
    Nothing,
}

impl FromMessageParts<LocalAdapter> for Incoming {
    type Error = Infallible;

    fn from_message_parts(
        socket: &Arc<Socket<LocalAdapter>>,
        packet: &mut Packet,
        ack: &Option<i64>,
    ) -> Result<Self, Infallible> {
        let connection = socket.extensions.get::<Arc<Connection>>();
        let Some(connection) = connection.filter(|c| !c.is_closing()) else {
            return Ok(Self::Nothing);
        };
        let Ok(Event(name)) = Event::from_message_parts(socket, packet, ack) else {
            return Ok(Self::Nothing);
        };
        let payload = Data::<Value>::from_message_parts(socket, packet, ack);
        let payload = payload.map(|Data(value)| value).map_err(|error| {
            let mut problem = Problem::invalid("", format!("{error}."));
            problem.code = "malformed".to_owned();
            problem
        });
        let ack = Ack::SocketIo { socket: weak(socket), number: *ack };
        let job = Job { name, payload, ack };
        Ok(match ops::submit(&connection, job) {
            Ok(Some(lane)) => Self::Run(connection, lane),
            Ok(None) => Self::Nothing,
            Err(job) => Self::Refuse(connection, job),
        })
    }
}
