//! Bounds of the node link. Sizes are in bytes.

use troupe_types::limits::ENTRY_BYTES_MAX;

/// Largest body of an envelope, a reply or a piece of a stream.
pub const BODY_BYTES_MAX: usize = ENTRY_BYTES_MAX;
/// Largest item: a body and what is said about it.
pub const ITEM_BYTES_MAX: usize = BODY_BYTES_MAX + 8 * 1024;
/// Largest batch.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Items of one batch.
pub const BATCH_ITEMS_MAX: usize = 1_024;
/// What may be under way to one peer.
pub const CREDIT_BYTES: u64 = 4 * 1024 * 1024;
/// Items that may be under way to one peer.
pub const CREDIT_ITEMS: u32 = 4_096;
/// How often an envelope may be passed on.
pub const HOPS_MAX: u8 = 3;
/// Longest name of a node, in bytes.
pub const NODE_NAME_BYTES_MAX: usize = 63;
/// Longest text in a refusal.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Largest hello.
pub const HELLO_BYTES_MAX: usize = 4 * 1024;
/// Frames in one piece of a stream.
pub const STREAM_FRAMES_MAX: usize = 4_096;
/// Roles of one node.
pub const ROLES_MAX: usize = 32;
/// Body of a question from node to node, and of its answer.
pub const QUESTION_BYTES_MAX: usize = 4 * 1024 * 1024;
