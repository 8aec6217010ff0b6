//! Versioned frames of the links between nodes, and of those to devices.
//!
//! ```text
//! batch  = version, token, count, item*          one message of the node link
//! item   = kind, length, payload                 a kind that a reader does not know is skipped
//! hello  = version, kind, payload                the first words of both ends of a link
//! question, answer = head, body                  once over a bulk stream of its own
//! ```
//! Links to devices have frames of their own: [`device`].
//!
//! All numbers are big-endian. A payload only ever grows at its end: a reader ignores what
//! follows the fields that it knows, and takes a default for a field that is not there yet.
//! What cannot be said that way is a new kind of item, or a new version.
//!
//! Invariants:
//! - Nothing is allocated for a length before that many bytes are known to be there.
//! - Decoding any bytes gives a value or an error, never a panic.
//! - What is encoded fits the limits of [`limits`]; the encoder refuses the rest.
//! - The bytes of released versions lie in golden files and stay readable.
//!
//! Absences: nothing here knows a socket, a clock or an actor.

mod batch;
mod codec;
mod control;
pub mod device;
mod envelope;
mod error;
mod handoff;
mod hello;
pub mod limits;
mod question;
mod reply;
mod stream;

pub use batch::{BATCH_VERSION, Batch, BatchWriter, Item};
pub use control::{Credit, Heartbeat};
pub use envelope::{Address, Envelope, EnvelopeKind, Origin, TraceContext};
pub use error::{DecodeError, EncodeError};
pub use handoff::{Handoff, HandoffStep};
pub use hello::{HELLO_VERSION, Hello, Refusal, RefusalReason, Welcome};
pub use question::{AnswerHead, AnswerOutcome, QUESTION_VERSION, QuestionHead};
pub use reply::{Fate, Reply};
pub use stream::{StreamEnd, StreamEnded, StreamFrames, StreamStop};
