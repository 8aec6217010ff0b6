//! The Task actor: one conversation, one journal, its runners and its followers.
//!
//! The pure part is `troupe_domain::task`; here are the commit, the text buffers, the runners,
//! the reads and the projections.

mod actor;
mod address;
mod ask;
mod asks;
mod container;
mod device;
mod effects;
mod factory;
mod internal;
mod job;
mod last_line;
mod measure;
mod place;
mod projection;
mod reads;
mod recover;
mod runner;
mod slots;
mod snapshot;
mod text;
mod view;
mod window;

pub use actor::TaskActor;
pub use address::{TaskAddress, TaskError};
pub use ask::{DeviceChecked, DeviceInput, SubscribeAsk, SubscribeReply, TaskAsk, TaskReply};
pub use factory::{Listed, Notifier, Silent, TaskFactory, TaskOptions};
pub use internal::TaskInternal;
pub use job::{BRANCH_LABEL, KEEP_LABEL, REPO_LABEL, WORKTREE_LABEL};
pub use place::ON_LABEL;

pub use crate::codec::decode_entry;
