//! Model providers behind one trait: Anthropic Messages, OpenAI chat completions, and the
//! scripted `demo` model; with them what a call needs: the egress rule and sealed keys.
//!
//! Invariants:
//! - A stream ends with exactly one [`ModelEvent::Completed`] or one error; then with `None`.
//! - A call is repeated only while none of its output was seen.
//! - Dropping a [`ModelStream`], or cancelling its token, closes the connection.
//! - No key appears in a log line, an error or a `Debug` text (I11).
//! - Every buffer is bounded and every wait has a timeout ([`LlmOptions`]).
//!
//! Absences: no tool is run here, nothing is stored here, no environment variable is read here.

pub mod config;
pub mod demo;
pub mod egress;
pub mod error;
pub mod message;
pub mod provider;
pub mod seal;
pub mod secret;

mod anthropic;
mod assemble;
mod http;
mod openai;
mod retry;
mod retry_after;
mod sse;

pub use config::{AuthStyle, Llm, LlmOptions, ModelConfig, ProviderKind, Reach};
pub use demo::DemoProvider;
pub use egress::{AllowRule, ClientOptions, Egress, EgressError, EgressPolicy};
pub use error::{ErrorSummary, ErrorType, ModelError, TimeoutPhase};
pub use message::{
    Completion, Effort, Message, Part, Request, Role, StopReason, Thinking, ToolChoice, ToolDef,
    Usage,
};
pub use provider::{ModelEvent, ModelStream, Provider};
pub use retry::{RETRY_AFTER_MAX, RetryPolicy};
pub use seal::{SealError, Sealer};
pub use secret::{SecretKey, SecretText, masked};
pub use tokio_util::sync::CancellationToken;
