//! Router -> Shard -> entity: addresses, bounded queues, activation, passivation, drain; and the
//! link between the Routers of a cluster.
//!
//! ```text
//! Router ── admits into ──> Shard (queue per entity) <── pulls one at a time ── entity actor
//!                             │ spawns, supervises, starts again
//! ShardHost ── supervises ──> Shard actors;   wake loop, sweep, drain
//! ```
//! An entity is reached only by its address ([`troupe_types::EntityId`]) through a [`Router`].
//! Its queue belongs to the Shard and outlives its activations; a message costs one hop to the
//! entity's actor and one back.
//!
//! Invariants:
//! - At most `ENTITY_QUEUE_MAX` messages of one entity are unanswered; the next one gets
//!   `Overloaded` at once.
//! - An entity handles one message at a time, in the order in which they were admitted, also
//!   across crashes: a message that is fed again keeps its place.
//! - Of one entity there is never more than one activation in this process: the next one starts
//!   after the last one has ended. Between nodes the journal's fence decides.
//! - Every ask gets exactly one of the five answers (well, or one of the four fates), in its
//!   time. `NotDelivered` and `Overloaded` are said only when no handler ever saw the message.
//! - A passivated entity leaves nothing behind but its rows.
//!
//! # What is fed again after a crash
//! Only the message whose handler had **not returned** and whose [`Reply`] was **not answered**
//! and went down with the activation. Its caller still waits and learns nothing of the crash.
//! It has the same body and is first in the queue again. It counts as a strike unless the crash
//! was `blameless`; the third strike makes it a dead letter and its caller gets
//! `Failed { code: "poisoned" }`. So a handler may see one message more than once: what it began
//! before the crash (an append under way) must be found again by its key. All other unanswered
//! messages (a handler had returned and kept the `Reply`) get `OutcomeUnknown`, as nobody but the
//! journal knows. Messages still in the queue are untouched. An `Internal` dies with its
//! activation. A crash always leads to a new activation, which gets `wake()` first.
//!
//! # When an activation fails
//! It is tried again after a back-off while somebody waits. From the third failure in a row on,
//! all who wait are told `NotDelivered` at once, and so is everyone who comes before the next
//! try. A wake-up alone is given up after eight failures; the wake index brings it back.

mod activation;
pub mod ask;
pub mod entity;
mod host;
mod kind;
mod letter;
pub mod membership;
mod metrics;
pub mod node;
pub mod options;
pub mod placement;
mod router;
mod shard;
mod trace;
mod wake;

pub use ask::{AskError, FailedAsk};
pub use entity::{
    Crash, Entity, EntityContext, EntityFactory, FrameBatch, FrameSink, InternalSender, Reply,
    StreamItem,
};
pub use host::{
    DrainOutcome, HostParts, ShardHost, StartError,
    stats::{EntityInfo, HostStats, HostWatch, KindStats, Passivation, ShardInfo},
};
pub use kind::RegisteredKind;
pub use letter::PendingAnswer;
pub use membership::{
    ClusterStatus, ClusterView, Ended, Membership, MembershipError, MembershipParts, ShardStatus,
};
pub use node::{
    NodeIdentity, NodeLink, NodeParts, NodeStartError, PeerInfo,
    observer::{NoObserver, NodeObserver},
    options::NodeOptions,
    questions::{AnswerError, Answerer, BulkHandler, QuestionError, Questions},
};
pub use options::{HostOptions, InvalidOption};
pub use placement::{NodeName, NotOwner, OneNode, Owner, Placement};
pub use router::Router;
