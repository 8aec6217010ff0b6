//! Who owns which shard: hashing, leases, claims, hand-offs as pure state machines.
//!
//! No async, no IO, no clock: a [`Node`] is told what happened and when
//! ([`Node::step`]), and says what is to be done ([`Effect`]). A thin shell runs that.
//! **Hashing is advice, the row is the decision, the fence on every append is the guarantee**:
//! nothing here is needed for the journal to be right; it makes ownership quick and calm.
//!
//! Invariants (shown by the models in `tests/it`):
//! - I1: the epochs of a shard rise by one, and each has one owner: ownership changes only by
//!   compare-and-set on the row, from the epoch that was read.
//! - I2, I3: a shard is claimed only after a SERIAL read has shown that its owner's
//!   incarnation is over, so every later commit barrier of that owner fails; an epoch under
//!   which a move was sent is never handled again.
//! - An unknown outcome is never guessed at: the row is read with SERIAL first. An answer that
//!   comes after its attempt was given up is dropped.
//! - A step looks at the own lease before anything else: a process that was frozen drops its
//!   activations before it handles a message.
//!
//! Deliberate absences: wall clocks are compared nowhere; envelopes, queues and activations
//! are the shell's; the hot path asks [`Node::owner`] and never the store.

pub mod effect;
pub mod hash;
mod lease;
mod node;
pub mod op;
mod pace;
mod peers;
mod shard;
pub mod timings;

pub use effect::{
    AttemptId, Effect, FenceReason, HandoffId, Input, LeaseView, MoveAnswer, MoveRefusal, Owner,
    PeerMessage,
};
pub use hash::{Candidate, preferred, ranked};
pub use lease::Identity;
pub use node::{Node, Rebalancing};
pub use op::{Answer, StoreOp};
pub use timings::{InvalidTimings, Timings};
