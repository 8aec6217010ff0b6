//! Live connections: Socket.IO (`/socket.io`, namespace `/chat`) and `wss /api/v1/stream`, over
//! one table of operations ([`ops`]) and one way to follow a Task ([`room`]).

pub(crate) mod connection;
mod encoded;
mod lanes;
pub mod ops;
mod peer;
pub(crate) mod presence;
pub(crate) mod room;
pub(crate) mod socketio;
pub(crate) mod stream;
pub(crate) mod sweep;
mod viewing;

use std::sync::Arc;

use connection::Connections;
use room::Rooms;

pub use ops::{OPS, Op};

use crate::gateway::GatewayState;

/// Where the plain WebSocket is.
pub const STREAM_PATH: &str = "/api/v1/stream";
/// The Socket.IO namespace.
pub const NAMESPACE: &str = "/chat";

/// The table of operations.
#[must_use]
pub const fn ops() -> &'static [Op] {
    OPS
}

/// Everything that is open on this node.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) connections: Connections,
    pub(crate) rooms: Arc<Rooms>,
}

impl Hub {
    pub(crate) fn new(state: &GatewayState) -> Self {
        Self {
            connections: Connections::new(state.options.sockets_max),
            rooms: Arc::new(Rooms::new(&state.options)),
        }
    }

    pub(crate) fn close_all(&self) {
        for connection in self.connections.all() {
            connection.close();
        }
        self.rooms.close_all();
    }
}
