//! Bounds that more than one crate must know. Sizes are in bytes.

/// Largest encoded journal entry, frame and envelope body.
pub const ENTRY_BYTES_MAX: usize = 256 * 1024;
/// Largest text of a person's message.
pub const MESSAGE_BYTES_MAX: usize = 60_000;
/// Largest HTTP body and Socket.IO payload.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Text of one execution is flushed into a frame at this size at the latest.
pub const TEXT_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Secrets of one attempt on a device.
pub const JOB_SECRETS_MAX: usize = 64;
/// Messages that wait for one entity.
pub const ENTITY_QUEUE_MAX: usize = 256;
/// Appends of one entity that are under way at once.
pub const APPENDS_IN_FLIGHT_MAX: usize = 4;
/// Entries after which a snapshot is written.
pub const SNAPSHOT_ENTRIES: u64 = 1_000;
/// Bytes of entries after which a snapshot is written.
pub const SNAPSHOT_BYTES: u64 = 1024 * 1024;
/// Frames in one bucket of the archive.
pub const ARCHIVE_BUCKET_FRAMES: u64 = 4_096;
/// A client that is further behind than this many frames joins anew.
pub const RESUME_FRAMES_MAX: u64 = 2_000;
/// A client that is further behind than this many bytes joins anew.
pub const RESUME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages of a person that wait behind a running turn.
pub const QUEUED_MESSAGES_MAX: usize = 50;
/// Attempts in a row that may be lost without a finished step.
pub const LOST_IN_A_ROW_MAX: u32 = 3;
/// Name of a resource, a namespace, a label, in characters.
pub const NAME_CHARS_MAX: usize = 100;
