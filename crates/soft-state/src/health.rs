//! Whether soft state is shared right now.

use std::sync::Arc;

/// How far answers reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// All nodes of the cluster.
    Whole,
    /// This node alone, until the server is back. Holds why, in a few words without secrets.
    Degraded(Arc<str>),
}

impl Health {
    /// Whether this node is on its own.
    #[must_use]
    pub const fn is_degraded(&self) -> bool {
        matches!(self, Self::Degraded(_))
    }

    /// Why it is, for people.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Whole => None,
            Self::Degraded(why) => Some(why),
        }
    }
}
