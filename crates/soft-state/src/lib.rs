//! What nodes tell each other and may forget: presence, the status cache of lists, rate
//! limits, notices to users, news of revocations.
//!
//! Invariants:
//! - Nothing here is the truth: every call has an answer without Redis, none returns an error,
//!   none takes longer than [`RedisOptions::command_timeout`].
//! - Nothing grows without bound: every key has a time to live, every queue and table a size.
//! - Who wants to know whether answers cover the cluster or this node alone looks at
//!   [`SoftState::health`].
//!
//! Absences: nothing is spawned here; [`RedisDriver::run`] is a future for whoever can.

#[cfg(feature = "conformance")]
pub mod conformance;
mod gcra;
mod health;
mod in_process;
mod limits;
mod news;
mod presence;
mod redis;
mod statuses;

pub use self::{
    health::Health,
    in_process::InProcess,
    limits::{Limits, Rule, Verdict},
    news::{NOTICE_BYTES_MAX, News, Notice},
    presence::{Presence, VIEWERS_MAX},
    redis::{RedisDriver, RedisError, RedisOptions, RedisSoftState},
    statuses::{Statuses, TaskNote},
};

use std::time::Duration;

use tokio::sync::watch;

/// All of it, as a node uses it.
pub trait SoftState: Presence + Statuses + Limits + News {
    /// Whether the nodes of the cluster reach each other through it.
    fn health(&self) -> watch::Receiver<Health>;
}

/// How long things are kept that nobody renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of a node's word about who looks at a Task; 90 s. It is to be renewed every third of it.
    pub presence: Duration,
    /// Of a Task's status in the cache; 2 h.
    pub status: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { presence: Duration::from_secs(90), status: Duration::from_secs(2 * 3600) }
    }
}
