//! What ends a run before its turn is over.

use tokio::sync::{mpsc, watch};
use troupe_wire::device::AttemptKey;

use crate::outbox::{Ended, Marks, Outbox, OutboxError};

/// Why a run is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// For good.
    Cancel,
    /// The agent ends; the attempt goes on with the next one.
    Pause,
    /// Its log was given up: what it says from now on is lost.
    NoLog,
}

impl Stop {
    /// How the run ended by it; `None`: it goes on later.
    ///
    /// # Errors
    /// There is no log to end in.
    pub(super) fn end(self) -> Result<Option<(Ended, String)>, OutboxError> {
        match self {
            Self::Cancel => Ok(Some((Ended::Cancelled, String::new()))),
            Self::Pause => Ok(None),
            Self::NoLog => Err(OutboxError::Damaged("a write failed".to_owned())),
        }
    }
}

/// Hears what is to stop a run.
#[derive(Debug)]
pub(super) struct Stops {
    asked: mpsc::Receiver<Stop>,
    marks: watch::Receiver<Marks>,
    /// It was told to stop for good.
    pub(super) cancelled: bool,
}

impl Stops {
    /// What is asked for, and what becomes of the log.
    ///
    /// # Errors
    /// The attempt is not here.
    pub(super) fn new(
        asked: mpsc::Receiver<Stop>,
        outbox: &Outbox,
        key: AttemptKey,
    ) -> Result<Self, OutboxError> {
        let marks = outbox.marks(key).ok_or(OutboxError::Unknown)?;
        Ok(Self { asked, marks, cancelled: false })
    }

    /// The next one; `None`: nobody is left to ask. Cancel safe.
    pub(super) async fn recv(&mut self) -> Option<Stop> {
        let stop = tokio::select! {
            biased;
            stop = self.asked.recv() => stop,
            () = given_up(&mut self.marks) => Some(Stop::NoLog),
        };
        self.cancelled |= stop == Some(Stop::Cancel);
        stop
    }
}

/// A log that is gone counts, too.
async fn given_up(marks: &mut watch::Receiver<Marks>) {
    drop(marks.wait_for(|marks| marks.broken).await);
}
