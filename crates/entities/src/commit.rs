//! The commit pipeline of one activation: stage entries at once, act on them after the commit.
//!
//! ```text
//! stage -> staged -> (pump) -> in flight, at most 4 -> finished -> effects, in order
//! ```
//! While appends are in flight, staged entries gather and leave together with the next one:
//! that is the group commit of one entity. Effects (answers, frames, dispatches) run in order
//! after the commit of every entry staged before them, so nobody is told what could be lost.

use std::{collections::VecDeque, fmt, future::Future, pin::Pin, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::{Instrument as _, debug_span};
use troupe_store::{AppendError, Entry, JournalStore, Opened, WakeChange};
use troupe_telemetry::{TraceParent, trace};
use troupe_types::{FrameSeq, Seq, limits};

use crate::metrics::AppendMetrics;

/// Entries or bytes that one append may carry at most (well below the store's own bounds).
const BATCH_ENTRIES_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 768 * 1024;

/// An append under way; to be spawned, its result goes to [`Committer::finished`].
pub type AppendJob = Pin<Box<dyn Future<Output = Appended> + Send>>;

/// What became of an append.
#[derive(Debug)]
pub struct Appended {
    /// Number of the flight.
    pub flight: u64,
    /// Its result.
    pub result: Result<(), AppendError>,
}

struct Staged<F> {
    /// They leave in one append.
    entries: Vec<Entry>,
    wake: Vec<WakeChange>,
    effects: Vec<F>,
    trace: Option<TraceParent>,
}

struct Flight<F> {
    number: u64,
    last: Seq,
    /// It changes the wake index alone, so it takes no number of the journal.
    unnumbered: bool,
    effects: Vec<F>,
    done: bool,
}

/// The pipeline; `F` is what an entity does after a commit.
pub struct Committer<F> {
    journal: Arc<dyn JournalStore>,
    opened: Arc<Opened>,
    next: Seq,
    committed: Seq,
    staged: VecDeque<Staged<F>>,
    flights: VecDeque<Flight<F>>,
    flight_number: u64,
    /// Closed when the last append has its result.
    last_result: Option<oneshot::Receiver<()>>,
    metrics: AppendMetrics,
}

impl<F> fmt::Debug for Committer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer")
            .field("next", &self.next)
            .field("committed", &self.committed)
            .field("staged", &self.staged.len())
            .field("flights", &self.flights.len())
            .finish_non_exhaustive()
    }
}

impl<F> Committer<F> {
    /// A pipeline behind a journal that was just opened.
    #[must_use]
    pub fn new(journal: Arc<dyn JournalStore>, opened: Arc<Opened>) -> Self {
        let head = opened.head;
        Self {
            journal,
            opened,
            next: head.next(),
            committed: head,
            staged: VecDeque::new(),
            flights: VecDeque::new(),
            flight_number: 0,
            last_result: None,
            metrics: AppendMetrics::new(),
        }
    }

    /// The handle of the activation.
    #[must_use]
    pub fn opened(&self) -> &Arc<Opened> {
        &self.opened
    }

    /// The last committed entry.
    #[must_use]
    pub fn committed(&self) -> Seq {
        self.committed
    }

    /// The last entry that was staged (committed or not).
    #[must_use]
    pub fn last_staged(&self) -> Seq {
        Seq(self.next.0 - 1)
    }

    /// Whether everything that was staged is committed.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.staged.is_empty() && self.flights.is_empty()
    }

    /// Whether no append is under way, so that text need not wait.
    #[must_use]
    pub fn has_no_flight(&self) -> bool {
        self.flights.is_empty()
    }

    /// Stages an entry; `effects` run after its commit.
    pub fn stage(
        &mut self,
        first_frame: FrameSeq,
        frames: u32,
        body: Bytes,
        wake: Vec<WakeChange>,
        effects: Vec<F>,
    ) -> Seq {
        let seq = self.next;
        self.next = seq.next();
        let entries = vec![Entry { seq, first_frame, frames, body }];
        self.staged.push_back(Staged { entries, wake, effects, trace: trace::current() });
        seq
    }

    /// Stages entries without frames that are committed all or none; `effects` run after that.
    /// Answers the first one's number. What is more than an append of the store may carry fails
    /// there.
    pub fn stage_together(
        &mut self,
        first_frame: FrameSeq,
        bodies: Vec<Bytes>,
        effects: Vec<F>,
    ) -> Seq {
        let first = self.next;
        let mut entries = Vec::with_capacity(bodies.len());
        for body in bodies {
            entries.push(Entry { seq: self.next, first_frame, frames: 0, body });
            self.next = self.next.next();
        }
        let wake = Vec::new();
        self.staged.push_back(Staged { entries, wake, effects, trace: trace::current() });
        first
    }

    /// Stages a change of the wake index alone.
    pub fn stage_wake(&mut self, wake: Vec<WakeChange>, effects: Vec<F>) {
        let entries = Vec::new();
        self.staged.push_back(Staged { entries, wake, effects, trace: trace::current() });
    }

    /// Runs `effect` after the commit of all that is staged. `Some`: nothing is, run it now.
    #[must_use]
    pub fn after(&mut self, effect: F) -> Option<F> {
        if let Some(staged) = self.staged.back_mut() {
            staged.effects.push(effect);
            None
        } else if let Some(flight) = self.flights.back_mut() {
            flight.effects.push(effect);
            None
        } else {
            Some(effect)
        }
    }

    /// The next append to spawn, if there is something staged and room for one more.
    ///
    /// Appends are put in order by the numbers of their entries. One without entries has the
    /// number of the next one, which would be free to overtake it: nothing overlaps it.
    pub fn pump(&mut self) -> Option<AppendJob>
    where
        F: Send + 'static,
    {
        if self.staged.is_empty()
            || self.flights.len() >= limits::APPENDS_IN_FLIGHT_MAX
            || self.flights.back().is_some_and(|flight| flight.unnumbered)
        {
            return None;
        }
        let (mut entries, mut wake, mut effects) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bytes, mut trace) = (0, None);
        while let Some(staged) = self.staged.front() {
            let size: usize = staged.entries.iter().map(|e| e.body.len()).sum();
            let full = entries.len() + staged.entries.len() > BATCH_ENTRIES_MAX
                || wake.len() >= BATCH_ENTRIES_MAX
                || bytes + size > BATCH_BYTES_MAX;
            if full && !(entries.is_empty() && wake.is_empty()) {
                break;
            }
            let Some(staged) = self.staged.pop_front() else { break };
            bytes += size;
            // Of several traces in one append the first one shows it.
            trace = trace.or(staged.trace);
            entries.extend(staged.entries);
            wake.extend(staged.wake);
            effects.extend(staged.effects);
        }
        let last_flown = self.flights.back().map_or(self.committed, |f| f.last);
        let first = entries.first().map_or(last_flown.next(), |e: &Entry| e.seq);
        let last = entries.last().map_or(last_flown, |e| e.seq);
        self.flight_number += 1;
        let number = self.flight_number;
        let unnumbered = entries.is_empty();
        self.flights.push_back(Flight { number, last, unnumbered, effects, done: false });
        let (journal, opened) = (Arc::clone(&self.journal), Arc::clone(&self.opened));
        let (mine, result_is_there) = oneshot::channel();
        let before = self.last_result.replace(result_is_there);
        let span = trace::child_of(trace, || {
            debug_span!(
                "append",
                otel.kind = "client",
                entries = entries.len(),
                bytes,
                outcome = tracing::field::Empty
            )
        });
        let metrics = self.metrics.clone();
        Some(Box::pin(async move {
            let began = Instant::now();
            let appending = journal.append(&opened, first, entries, wake);
            let result = appending.instrument(span.clone()).await;
            metrics.appended(began.elapsed(), result.is_ok());
            span.record("outcome", if result.is_ok() { "committed" } else { "failed" });
            drop(span);
            // Appends commit in order; telling their results in order keeps a failure from
            // overtaking that of the append before it, whose askers would learn nothing.
            if let Some(before) = before {
                let _ = before.await;
            }
            drop(mine);
            Appended { flight: number, result }
        }))
    }

    /// Takes the result of an append; answers what may be done now, in order.
    ///
    /// # Errors
    /// The append's own, and what will never be done: the activation must be dropped.
    pub fn finished(&mut self, appended: Appended) -> Result<Vec<F>, (AppendError, Abandoned<F>)> {
        if let Err(error) = appended.result {
            let abandoned = self.abandon(appended.flight);
            return Err((error, abandoned));
        }
        if let Some(flight) = self.flights.iter_mut().find(|f| f.number == appended.flight) {
            flight.done = true;
        }
        let mut effects = Vec::new();
        while self.flights.front().is_some_and(|f| f.done) {
            if let Some(flight) = self.flights.pop_front() {
                self.committed = flight.last;
                effects.extend(flight.effects);
            }
        }
        Ok(effects)
    }

    /// Gives back every effect that will never run, now that an append failed. Results may
    /// come in any order, so those before it may be committed or not; those behind it cannot
    /// be committed without it.
    fn abandon(&mut self, failed: u64) -> Abandoned<F> {
        let (mut before, mut since) = (Vec::new(), Vec::new());
        for flight in self.flights.drain(..) {
            let part = if flight.number < failed { &mut before } else { &mut since };
            part.extend(flight.effects);
        }
        since.extend(self.staged.drain(..).flat_map(|s| s.effects));
        Abandoned { before, since }
    }
}

/// Effects that will never run.
#[derive(Debug)]
pub struct Abandoned<F> {
    /// Of appends under way before the one that failed: nobody knows their outcome here.
    pub before: Vec<F>,
    /// Of the append that failed and of all behind it: they share its fate.
    pub since: Vec<F>,
}

#[cfg(test)]
mod tests;
