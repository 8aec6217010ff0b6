//! Where a run says what happens.

use async_trait::async_trait;
use thiserror::Error;
use troupe_domain::task::{RunEvent, StepRecord};
use troupe_types::UsageFrame;

/// The attempt is over, or its owner is: the run ends without a further word.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the attempt is over")]
pub struct Gone;

/// Takes what a run says, in order.
///
/// A run calls it from one place at a time, so an implementation needs no lock for the order.
/// A dropped call (the run was cancelled) may or may not have taken effect.
#[async_trait]
pub trait RunSink: Send + Sync {
    /// Takes one event. Resolves when there is room for the next one (back-pressure), not when
    /// it is committed.
    ///
    /// # Errors
    /// [`Gone`]: nothing further is taken.
    async fn event(&self, event: RunEvent) -> Result<(), Gone>;

    /// Takes a finished step. Resolves ONLY WHEN IT IS COMMITTED, with all events before it:
    /// a tool is called after this, never before.
    ///
    /// # Errors
    /// [`Gone`]: it is not committed, and nothing further is taken.
    async fn step(&self, record: StepRecord, usage: Option<UsageFrame>) -> Result<(), Gone>;

    /// Resolves once the run is asked to leave, because its node drains: at once if it was asked
    /// before, never if it is not. A run that works goes on to the end of its step, where
    /// [`step`](Self::step) says [`Gone`]; one that only waits ends as if it had been told so.
    async fn leaving(&self);
}
