//! What tests and benchmarks share: a fake model server for both wire formats, a small MCP
//! server, and waiting for a condition.
//!
//! The servers speak raw HTTP on 127.0.0.1 and use no house crate, so that they cannot share a
//! mistake with what they test. They check what the real ones check (keys, signatures, results
//! that belong to a call) and answer what a script says.

#[cfg(feature = "client")]
pub mod client;
pub mod fake;
mod faketime;
pub mod mcp;
mod nat;
mod wait;

pub use fake::{
    Answer, FakeModel, Fault, Gate, Piece, Recorded, Rule, Script, ToolOffer, ToolOutcome, Turn,
    Wire,
};
pub use faketime::faketime;
pub use mcp::{McpCall, McpServer};
pub use nat::Nat;
pub use wait::{try_until, wait_until};
