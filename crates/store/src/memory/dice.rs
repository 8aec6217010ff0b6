//! Chance, and what the tests let go wrong.

use std::collections::VecDeque;

use rand::{RngExt, rngs::StdRng};

use super::{QUORUM, REPLICAS};

/// How often things go wrong, each between 0.0 (never, the default) and 1.0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// A replica never gets a write and says nothing.
    pub lost: f64,
    /// A replica gets a write later, after and among others, and says nothing.
    pub late: f64,
    /// A replica takes a write, but the answer is lost.
    pub silent: f64,
    /// A replica refuses a write, and says so.
    pub refused: f64,
    /// A conditional update is answered by a timeout; it may have been applied or not.
    pub unknown: f64,
    /// The task yields between two steps, so that others come in between.
    pub interrupted: f64,
}

impl Faults {
    /// A bit of everything.
    #[must_use]
    pub const fn all(p: f64) -> Self {
        Self { lost: p, late: p, silent: p, refused: p, unknown: p, interrupted: 0.5 }
    }
}

/// How one append fails, whatever chance says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptedFailure {
    /// No room; nothing is written.
    Full,
    /// Refused; nothing is written.
    Unavailable,
    /// Nobody answers.
    OutcomeUnknown {
        /// Whether it is written all the same.
        written: bool,
    },
}

pub(crate) struct Dice {
    rng: StdRng,
    pub(crate) faults: Faults,
    pub(crate) down: [bool; REPLICAS],
    pub(crate) scripted: VecDeque<ScriptedFailure>,
}

/// What becomes of one write at one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Throw {
    Applied,
    Silent,
    Late,
    Lost,
    Refused,
}

impl Dice {
    pub(crate) fn new(rng: StdRng, faults: Faults) -> Self {
        Self { rng, faults, down: [false; REPLICAS], scripted: VecDeque::new() }
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.rng.random_bool(p.min(1.0))
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n.max(1))
    }

    pub(crate) fn write(&mut self, replica: usize) -> Throw {
        let f = self.faults;
        if self.down[replica] || self.chance(f.refused) {
            Throw::Refused
        } else if self.chance(f.lost) {
            Throw::Lost
        } else if self.chance(f.late) {
            Throw::Late
        } else if self.chance(f.silent) {
            Throw::Silent
        } else {
            Throw::Applied
        }
    }

    pub(crate) fn has_quorum(&self) -> bool {
        self.down.iter().filter(|down| !**down).count() >= QUORUM
    }

    /// The replicas that a quorum read asks.
    pub(crate) fn readers(&mut self) -> Option<[usize; QUORUM]> {
        let mut up: Vec<usize> = (0..REPLICAS).filter(|r| !self.down[*r]).collect();
        while up.len() > QUORUM {
            up.swap_remove(self.below(up.len()));
        }
        up.try_into().ok()
    }
}
