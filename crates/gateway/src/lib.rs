//! The HTTP edge of a node: REST, Socket.IO, `/api/v1/stream`, OpenAPI, health, metrics, console.
//!
//! Invariants:
//! - Access is decided in `services` on every call; this crate only carries who calls (I10).
//! - Every operation exists once: REST routes in one table ([`http`]), live operations in
//!   another one ([`live`]); documents and tests are generated from them.
//! - A viewer gets the frames above its join in order, without a gap or a double, or is told to
//!   join anew (I5); nothing is buffered for it beyond stated limits (I7).
//!
//! Absences: no state of a Task lives here; a room holds no truth.

mod assets;
mod gateway;
pub mod http;
mod https;
pub mod live;
mod options;
mod serve;

pub use assets::{Asset, Assets, NoConsole};
pub use gateway::{Gateway, GatewayState};
pub use https::{HttpsCert, HttpsError};
pub use options::GatewayOptions;
pub use serve::{Peer, ServeError, serve};
