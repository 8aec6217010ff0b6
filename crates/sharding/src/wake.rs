//! The wake loop: reads the wake index and wakes who is due, at a rate.
//!
//! The index is read in passes, page by page in the order of `due`, and only as far as there is
//! room in memory; so it may be of any length. Rows whose work is not done are there again in
//! the next pass, and waking an entity once more is harmless.

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use troupe_actor::{Backoff, RateLimit};
use troupe_store::WakeRow;
use troupe_telemetry::error_chain;
use troupe_types::{EntityId, MonoTime, ShardId, Timestamp};

use crate::{
    host::shared::{HostShared, Woken},
    metrics::WakeMetrics,
};

/// Rows of one page; the next one is read when fewer than these are in memory.
const PAGE: usize = 1_000;
/// Wake-ups kept in memory.
const WAITING_MAX: usize = 10_000;
/// Time for one page.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// A Shard that is not ready yet is looked at again after this.
const NOT_READY_PAUSE: Duration = Duration::from_millis(200);
/// Longest sleep, because the wall clock may jump.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Shards that are read together: each may be a request of its own to the store, and all of them
/// have [`READ_DEADLINE`].
const SHARDS_AT_ONCE: usize = 64;

/// A pass over the index: some Shards at a time, each group page by page.
struct Pass {
    shards: Vec<ShardId>,
    until: Timestamp,
    /// How far the first group is.
    after: Option<WakeRow>,
}

impl Pass {
    fn group(&self) -> &[ShardId] {
        &self.shards[..self.shards.len().min(SHARDS_AT_ONCE)]
    }

    /// The first group is done; answers whether another one is left.
    fn next_group(&mut self) -> bool {
        self.after = None;
        self.shards.drain(..self.shards.len().min(SHARDS_AT_ONCE));
        !self.shards.is_empty()
    }
}

pub(crate) struct WakeLoop {
    host: Arc<HostShared>,
    notes: mpsc::Receiver<(EntityId, Timestamp)>,
    waiting: BTreeSet<(Timestamp, EntityId)>,
    pass: Option<Pass>,
    next_pass: MonoTime,
    rate: RateLimit,
    backoff: Backoff,
    metrics: WakeMetrics,
}

impl WakeLoop {
    pub(crate) fn new(host: Arc<HostShared>, notes: mpsc::Receiver<(EntityId, Timestamp)>) -> Self {
        let per_second = host.options.wakes_per_second;
        // A tenth of a second's worth at once.
        let burst = NonZeroU32::new(per_second.get() / 10).unwrap_or(NonZeroU32::MIN);
        let (min, max) = (host.options.backoff_min, host.options.backoff_max);
        let next_pass = host.clock.mono();
        Self {
            host,
            notes,
            waiting: BTreeSet::new(),
            pass: None,
            next_pass,
            rate: RateLimit::new(per_second, burst),
            backoff: Backoff::bounded(min, max, max, 1),
            metrics: WakeMetrics::new(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        stop.clone().run_until_cancelled_owned(async move { self.go().await }).await;
    }

    async fn go(&mut self) -> std::convert::Infallible {
        loop {
            while let Ok(note) = self.notes.try_recv() {
                self.note(note);
            }
            self.begin_pass();
            if self.pass.is_some() && self.waiting.len() < PAGE {
                self.read().await;
                continue;
            }
            let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
            self.metrics.waiting.set(f64::from(waiting));
            let now = self.host.clock.now();
            match self.waiting.first().copied() {
                Some((due, entity)) if due <= now => {
                    self.waiting.pop_first();
                    self.wake(entity).await;
                }
                next => self.sleep(next.map(|(due, _)| due.since(now))).await,
            }
        }
    }

    fn note(&mut self, (entity, due): (EntityId, Timestamp)) {
        let horizon = self.host.clock.now().plus(self.host.options.wake_horizon);
        if due > horizon {
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.host.note_lost.store(true, Ordering::Relaxed);
            return;
        }
        self.waiting.insert((due, entity));
    }

    /// Begins a pass when it is time for one.
    fn begin_pass(&mut self) {
        if self.pass.is_some() {
            return;
        }
        let now = self.host.clock.mono();
        // Lost notes and new Shards are looked for once there is room for them.
        let room = self.waiting.len() < PAGE;
        let lost = room && self.host.note_lost.swap(false, Ordering::Relaxed);
        let claimed = if room { self.host.take_claimed() } else { BTreeSet::new() };
        let shards = if now >= self.next_pass || lost {
            self.next_pass = now.plus(self.host.options.wake_read_every);
            self.host.owned_shards()
        } else {
            claimed.into_iter().collect()
        };
        if !shards.is_empty() {
            let until = self.host.clock.now().plus(self.host.options.wake_horizon);
            self.pass = Some(Pass { shards, until, after: None });
        }
    }

    async fn read(&mut self) {
        let Some(pass) = &mut self.pass else { return };
        let page = self.host.stores.wake.due(pass.group(), pass.until, pass.after, PAGE);
        let rows = match timeout(READ_DEADLINE, page).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => return self.failed(error_chain(&error)).await,
            Err(_) => return self.failed("it took too long".to_owned()).await,
        };
        pass.after = rows.last().copied();
        if rows.len() < PAGE && !pass.next_group() {
            self.pass = None;
        }
        self.waiting.extend(rows.into_iter().map(|row| (row.due, row.entity)));
    }

    async fn failed(&mut self, error: String) {
        self.metrics.read_failures.increment(1);
        let wait = self.backoff.failed(self.host.clock.mono());
        let retry_ms = wait.as_millis();
        tracing::warn!(error, retry_ms, "wake index not read");
        // What is in memory is woken meanwhile.
        let due = self.host.clock.now();
        while let Some(next) = self.waiting.first().copied().filter(|(at, _)| *at <= due) {
            self.waiting.remove(&next);
            self.wake(next.1).await;
        }
        tokio::time::sleep(wait).await;
    }

    async fn wake(&mut self, entity: EntityId) {
        self.rate.ready().await;
        match self.host.wake(entity) {
            Woken::Now => {}
            Woken::Later => self.note((entity, self.host.clock.now().plus(NOT_READY_PAUSE))),
            Woken::NotHere => tracing::debug!(%entity, "nobody to wake"),
        }
    }

    /// Sleeps until something is due, a note comes, or it is time to look again.
    async fn sleep(&mut self, due_in: Option<Duration>) {
        let pass_in = self.next_pass.since(self.host.clock.mono());
        let pause = due_in.unwrap_or(LOOK_EVERY).min(pass_in).min(LOOK_EVERY);
        tokio::select! {
            // The host holds a sender, so this ends with the loop only.
            Some(note) = self.notes.recv() => self.note(note),
            () = self.host.claims.notified() => {}
            () = tokio::time::sleep(pause.max(Duration::from_millis(1))) => {}
        }
    }
}
