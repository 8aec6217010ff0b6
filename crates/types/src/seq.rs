//! Numbers that only rise.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! rising {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first one.
            pub const ZERO: Self = Self(0);

            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// This many further on.
            #[must_use]
            pub const fn plus(self, n: u64) -> Self {
                Self(self.0 + n)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

rising!(
    /// Place of an entry in an entity's journal; the first entry is 1.
    Seq);
rising!(
    /// Place of a frame in a Task's output; the first frame is 1. Outside it is `seq`.
    FrameSeq);
rising!(
    /// Rises with each grant of a shard; embedded: with each start of the process.
    Epoch);
rising!(
    /// Rises with each join of a node; 0 is before the first.
    Incarnation);
rising!(
    /// Rises with each activation of an entity; guards its writes.
    Fence);
rising!(
    /// Ordinal of a message in its Task, from 1, never used twice. Outside: `message_id`.
    Ordinal);
rising!(
    /// Place of a frame in one attempt, given by the executor, from 1.
    OutSeq);

/// One try at an execution, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The first try.
    pub const FIRST: Self = Self(1);

    /// The try after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
