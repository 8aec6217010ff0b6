//! Use cases and access checks, once, for REST, Socket.IO and the stream alike.
//!
//! Every call takes a [`Caller`] and answers a [`Problem`] that says what and the way out; what
//! is not the caller's answers exactly as what does not exist (I10).

pub mod admin;
pub mod auth;
pub mod caller;
pub mod devices;
mod git_tokens;
pub mod resources;
pub mod tasks;

pub use admin::{Operations, OperationsParts, Operator, OperatorError};
pub use auth::{Auth, AuthError, AuthOptions};
pub use caller::{Caller, Credential};
pub use devices::{Devices, LiveDevices};
pub use git_tokens::GitTokens;
pub use resources::{ApplyOptions, LiveResources, Removal, Resources, SkillPackage, SkillUpload};
pub use tasks::{LiveTasks, TaskFilter, TaskStream, Tasks};
pub use troupe_api::Problem;
pub use troupe_packages::PACKAGE_BYTES_MAX;
