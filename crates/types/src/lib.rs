//! Words that every crate shares: typed ids, sequence numbers, frames, the clock, limits.
//!
//! No async and no IO here. Serde names of frame types are the *outside* names
//! (`subtask_id`, `message_id`), Rust names are the house words; golden files in `records`
//! pin them, because the same bytes lie on disk.

pub mod block;
pub mod clock;
pub mod entity;
pub mod frame;
pub mod id;
pub mod limits;
pub mod node;
pub mod seq;

pub use block::{Block, BlockKind, BlockPatch, BlockStatus};
pub use clock::{Clock, ManualClock, MonoTime, SystemClock, Timestamp};
pub use entity::{EntityId, EntityKind, SHARDS_GENERAL, SHARDS_KNOWLEDGE, ShardId};
pub use frame::*;
pub use id::*;
pub use node::{LeaseRow, NodeName, NodeRole, NodeState, Roles, ShardRow, UnknownRole};
pub use seq::{Attempt, Epoch, Fence, FrameSeq, Incarnation, Ordinal, OutSeq, Seq};
pub use uuid::{self, Uuid};
