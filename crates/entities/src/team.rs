//! The Team actor: grants slots of one Team to the Tasks of one owner.
//!
//! Nothing of it is durable: grants are soft leases that running Tasks renew, so after a crash
//! they come back by themselves (`troupe_domain::slots`).

mod actor;
mod address;

pub use actor::{TeamActor, TeamFactory, TeamInternal};
pub use address::{SlotAnswer, TeamAddress, TeamAsk};
