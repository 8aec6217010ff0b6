//! Links: QUIC connections with mutual TLS, and an in-memory twin of them.
//!
//! ```text
//! Network (quic::QuicNetwork | memory::MemoryNetwork)     dials and accepts connections
//!   Connection                                            carries streams, each with a purpose
//!     greet::{dial, accept}                               certificate, hello, versions: a Link
//! ```
//! This is the side between nodes (`troupe-node/1`). Devices come in by doors of their own, with
//! a CA, an ALPN and purposes of streams of their own, over QUIC or over a WebSocket: [`device`].
//!
//! Invariants:
//! - A peer is who its certificate names, or there is no link.
//! - Whoever says nothing holds up nobody: every handshake runs by itself, under a deadline, and
//!   their number is bounded.
//! - A stream whose reader does not read is closed by its writer after a deadline; a peer that
//!   does not answer at all is gone after the idle time.
//! - Bulk data goes over streams of its own, so that small messages do not wait behind it.
//!
//! Absences: nothing here knows what a message means, or who owns what. No task is spawned
//! here but those that a caller drives and those that carry a connection and end with it.

pub mod cert;
pub mod device;
pub mod error;
pub mod greet;
pub mod memory;
pub mod name;
pub mod options;
pub mod quic;
pub mod redial;
#[cfg(feature = "test-support")]
pub mod relay;
pub mod stream;
mod tls;

pub use cert::{CertError, NodeCa, NodeCert};
pub use error::LinkError;
pub use greet::{Identity, Link, accept_links, dial};
pub use memory::{MemoryHub, MemoryNetwork};
pub use name::{NameError, check_node_name};
pub use options::LinkOptions;
pub use quic::QuicNetwork;
pub use redial::Redial;
#[cfg(feature = "test-support")]
pub use relay::{TcpRelay, UdpRelay};
pub use stream::{
    Arriving, BoxRead, BoxWrite, Carrier, Connection, LinkStream, Network, Protocol, Purpose,
    StallGuard,
};
