//! Why the store does not open, and what the driver's errors mean for callers.

use scylla::errors::{
    DbError, ExecutionError, PagerExecutionError, PrepareError, RequestAttemptError,
};
use thiserror::Error;
use troupe_store::{AppendError, CasError, Cause, CorruptPart, ReadError, WriteError, cause};
use troupe_types::EntityId;

/// Why the store could not be connected.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// A setting makes no sense.
    #[error("the options of the store are not valid: {0}")]
    Options(&'static str),
    /// No server answers, or not in time, or not as it should.
    #[error("the database cannot be reached")]
    Unreachable {
        /// What the driver said.
        #[source]
        source: Cause,
    },
    /// A newer program made the tables.
    #[error("the keyspace has format {found}, this program knows up to {known}; use a newer one")]
    Newer {
        /// Its format.
        found: i32,
        /// The newest format that this program knows.
        known: i32,
    },
    /// The tables could not be made or brought up to date.
    #[error("the tables could not be brought up to date at step {step}")]
    Migration {
        /// The number of the step.
        step: i32,
        /// What the database said.
        #[source]
        source: Cause,
    },
    /// Another process migrates and does not come to an end.
    #[error("another process is bringing the tables up to date")]
    Locked,
    /// A statement was refused: the tables are not as this program expects them.
    #[error("the tables are not as expected")]
    Prepare {
        /// What the database said.
        #[source]
        source: Cause,
    },
}

/// The fate of one statement that did not succeed.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// Nothing happened, and nothing of it will.
    Refused(Cause),
    /// It may have happened, or may still happen.
    Unknown(Cause),
    /// The answer does not read as it should.
    Odd(Cause),
}

impl Failed {
    pub(crate) fn cause(self) -> Cause {
        match self {
            Self::Refused(source) | Self::Unknown(source) | Self::Odd(source) => source,
        }
    }
}

/// What one attempt of a statement, without repetitions by the driver, came to.
pub(crate) fn attempt(error: ExecutionError) -> Failed {
    let nowhere = match &error {
        ExecutionError::BadQuery(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::PrepareError(_)
        | ExecutionError::ConnectionPoolError(_) => true,
        ExecutionError::LastAttemptError(last) => is_refusal(last),
        _ => false,
    };
    if nowhere { Failed::Refused(cause(error)) } else { Failed::Unknown(cause(error)) }
}

/// Refused by the driver or the first server, before any replica was asked.
fn is_refusal(error: &RequestAttemptError) -> bool {
    match error {
        RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_)
        | RequestAttemptError::UnableToAllocStreamId => true,
        RequestAttemptError::DbError(error, _) => matches!(
            error,
            DbError::SyntaxError
                | DbError::Invalid
                | DbError::Unauthorized
                | DbError::AuthenticationError
                | DbError::ConfigError
                | DbError::IsBootstrapping
                | DbError::Unavailable { .. }
        ),
        _ => false,
    }
}

impl From<PagerExecutionError> for Failed {
    fn from(error: PagerExecutionError) -> Self {
        Self::Unknown(cause(error))
    }
}

impl From<PrepareError> for Failed {
    fn from(error: PrepareError) -> Self {
        Self::Refused(cause(error))
    }
}

impl From<Failed> for WriteError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(source) => Self::Unavailable { source },
            Failed::Unknown(source) | Failed::Odd(source) => Self::OutcomeUnknown { source },
        }
    }
}

impl From<Failed> for AppendError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(source) => Self::Unavailable { source },
            Failed::Unknown(source) | Failed::Odd(source) => Self::OutcomeUnknown { source },
        }
    }
}

impl From<Failed> for CasError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(source) => Self::Unavailable { source },
            Failed::Unknown(source) | Failed::Odd(source) => Self::OutcomeUnknown { source },
        }
    }
}

/// A read of something that belongs to no entity.
pub(crate) fn unread(what: &'static str) -> impl Fn(Failed) -> ReadError {
    move |failed| match failed {
        Failed::Refused(source) | Failed::Unknown(source) => ReadError::Unavailable { source },
        Failed::Odd(source) => {
            tracing::error!(what, %source, "a row does not read as it should");
            ReadError::CorruptRow { what, part: CorruptPart::Row }
        }
    }
}

/// A read of an entity's rows: damaged, or not to be had.
#[derive(Clone, Debug)]
pub(crate) enum Unread {
    Corrupt(CorruptPart),
    Unavailable(Cause),
}

impl From<Failed> for Unread {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Odd(source) => {
                tracing::error!(%source, "a row does not read as it should");
                Self::Corrupt(CorruptPart::Row)
            }
            other => Self::Unavailable(other.cause()),
        }
    }
}

impl Unread {
    pub(crate) fn of(self, entity: EntityId) -> ReadError {
        match self {
            Self::Corrupt(part) => ReadError::Corrupt { entity, part },
            Self::Unavailable(source) => ReadError::Unavailable { source },
        }
    }
}
