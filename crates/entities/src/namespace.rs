//! The Namespace actor: the only write path of its resources.

mod actor;
mod address;
mod log;
mod parts;
mod size;

pub use actor::{NamespaceActor, NamespaceFactory, NamespaceInternal};
pub use address::{
    Listed, NamespaceAddress, NamespaceAsk, NamespaceError, NamespaceRefusal, NamespaceReply,
    WatchEvent,
};
