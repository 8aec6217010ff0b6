//! Rate limits that all nodes share.

use std::{fmt, time::Duration};

use async_trait::async_trait;

/// At most `burst` at once, and in the long run `burst` per `per`: after a full burst one more
/// comes free every `per / burst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// At least 1.
    pub burst: u32,
    /// At least 1 ms per unit of `burst`.
    pub per: Duration,
}

/// What a limit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on; it is counted.
    Allowed,
    /// Not now, and it is not counted.
    Refused {
        /// When to try again.
        retry_after: Duration,
    },
}

/// Counters under names: the generic cell rate algorithm (ITU-T I.371, annex A), counted in
/// one atomic step.
///
/// Names are at most 256 bytes (longer ones are cut) and hold no secrets. Alone (degraded), each
/// node counts for itself.
#[async_trait]
pub trait Limits: fmt::Debug + Send + Sync + 'static {
    /// Counts one under `name`, if that is allowed.
    async fn take(&self, name: &str, rule: Rule) -> Verdict;

    /// Takes back one that was counted.
    async fn give_back(&self, name: &str, rule: Rule);

    /// Forgets all that was counted under `name`.
    async fn forget(&self, name: &str);
}

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// The name as it is used.
pub(crate) fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}
