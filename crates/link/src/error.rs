//! Why there is no link.

use std::{io, net::SocketAddr};

use thiserror::Error;
use troupe_wire::{DecodeError, EncodeError, Refusal};

use crate::name::NameError;

/// Why a link did not come to be, or ended.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The socket could not be had.
    #[error("the socket could not be opened")]
    Socket(#[source] io::Error),
    /// The peer has a name that no node can have.
    #[error("no node can have this name")]
    Name(#[source] NameError),
    /// The connection could not be begun, or broke off.
    #[error("the connection failed: {reason}")]
    Connection {
        /// What QUIC or TLS said.
        reason: String,
    },
    /// Who came to a door did not get through its handshake.
    #[error("the handshake failed: {reason}")]
    Handshake {
        /// Where it came from.
        from: SocketAddr,
        /// What QUIC or TLS said.
        reason: String,
    },
    /// It took too long.
    #[error("not ready in time")]
    Deadline,
    /// The peer did not want it.
    #[error("the peer refused the link ({:?}): {}", .0.reason, .0.message)]
    Refused(Refusal),
    /// This end did not want it.
    #[error("the link was refused ({:?}): {}", .0.reason, .0.message)]
    Unwanted(Refusal),
    /// The peer's first words made no sense.
    #[error("the peer's hello does not read")]
    Hello(#[source] DecodeError),
    /// The own hello does not fit.
    #[error("the own hello does not fit")]
    OwnHello(#[source] EncodeError),
    /// A stream broke off.
    #[error("the stream broke off")]
    Stream(#[source] io::Error),
    /// A stream of a purpose that nobody asked for.
    #[error("a stream with the unknown purpose {0}")]
    Purpose(u8),
    /// The network was closed.
    #[error("the network is closed")]
    Closed,
}

impl LinkError {
    /// Whether it is the fault of one stream, so that its connection goes on.
    #[must_use]
    pub const fn is_of_stream(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Purpose(_))
    }

    /// Whether dialling again may succeed without anything else changing.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::Name(_) | Self::OwnHello(_))
    }
}
