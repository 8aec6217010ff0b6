//! Slots of one Team for one owner: how many Tasks may run at once.
//!
//! A grant is a lease that its Task renews; nothing is durable, and grants are soft: a running
//! Task's renewal always succeeds, so after a fail-over there may be more grants than slots
//! for one renewal period. Waiting is first come first served, but fair between the Tasks'
//! owners: a free slot goes to the owner with the fewest grants, among those to the one whose
//! Task has waited longest. A Task that waits asks again every renewal period; one that has
//! not done so for a lease is forgotten. Time is an argument.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use troupe_types::{MonoTime, TaskId, UserId};

/// How long a grant lasts without a renewal.
pub const LEASE: Duration = Duration::from_secs(60);
/// How often a Task renews its grant, or asks again.
pub const RENEW_EVERY: Duration = Duration::from_secs(20);
/// Tasks that may wait; more are told to ask later.
pub const WAITING_MAX: usize = 10_000;

/// The slots of one Team.
#[derive(Clone, Debug)]
pub struct TeamSlots {
    limit: usize,
    grants: BTreeMap<TaskId, Grant>,
    /// In order of arrival.
    waiting: Vec<Waiter>,
}

#[derive(Clone, Debug)]
struct Grant {
    owner: UserId,
    until: MonoTime,
}

#[derive(Clone, Debug)]
struct Waiter {
    task: TaskId,
    owner: UserId,
    /// Forgotten then, unless it asks again.
    until: MonoTime,
}

/// Answer to a Task that wants a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "slot", rename_all = "snake_case")]
pub enum Slot {
    /// It has one for [`LEASE`].
    Granted,
    /// It waits; ask again after [`RENEW_EVERY`].
    Queued {
        /// How many are before it, plus one.
        position: usize,
        /// Tasks that run now.
        running: usize,
        /// Tasks that may run at once.
        limit: usize,
    },
    /// Too many wait already; ask again later.
    Full,
}

impl TeamSlots {
    /// Slots for this many Tasks at once, at least one.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let mut this = Self { limit: 1, grants: BTreeMap::new(), waiting: Vec::new() };
        this.set_limit(limit);
        this
    }

    /// Another limit, at least one; a lower one takes no grant back.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
    }

    /// A Task wants a slot, or asks again. Free slots go to those who wait before it first:
    /// Tasks that get one so are to be told (`granted`).
    pub fn acquire(
        &mut self,
        task: TaskId,
        owner: UserId,
        now: MonoTime,
        granted: &mut Vec<TaskId>,
    ) -> Slot {
        let until = now.plus(LEASE);
        if let Some(waiter) = self.waiting.iter_mut().find(|w| w.task == task) {
            waiter.until = until;
        }
        self.expire(now, granted);
        let known = self.why(task).is_some();
        if !known && self.waiting.len() >= WAITING_MAX {
            return Slot::Full;
        }
        if !known {
            self.waiting.push(Waiter { task, owner, until });
            self.hand_out(now, granted);
        }
        granted.retain(|other| *other != task);
        if let Some(grant) = self.grants.get_mut(&task) {
            grant.until = until;
        }
        self.why(task).unwrap_or(Slot::Full)
    }

    /// A running Task renews its grant: always succeeds, also if the grant is not known (it
    /// was made by an owner before a fail-over).
    pub fn renew(&mut self, task: TaskId, owner: UserId, now: MonoTime) {
        self.waiting.retain(|w| w.task != task);
        self.grants.insert(task, Grant { owner, until: now.plus(LEASE) });
    }

    /// A Task needs no slot any more, or stops waiting. Tasks that get one now are to be told.
    pub fn release(&mut self, task: TaskId, now: MonoTime, granted: &mut Vec<TaskId>) {
        self.grants.remove(&task);
        self.waiting.retain(|w| w.task != task);
        self.expire(now, granted);
    }

    /// Ends leases that were not renewed. Tasks that get a slot now are to be told.
    pub fn expire(&mut self, now: MonoTime, granted: &mut Vec<TaskId>) {
        self.grants.retain(|_, grant| grant.until > now);
        self.waiting.retain(|waiter| waiter.until > now);
        self.hand_out(now, granted);
    }

    /// When [`TeamSlots::expire`] has something to do next.
    #[must_use]
    pub fn next_expiry(&self) -> Option<MonoTime> {
        let grants = self.grants.values().map(|g| g.until);
        grants.chain(self.waiting.iter().map(|w| w.until)).min()
    }

    /// Why a Task waits, or that it does not; `None`: it is not known here.
    #[must_use]
    pub fn why(&self, task: TaskId) -> Option<Slot> {
        if self.grants.contains_key(&task) {
            return Some(Slot::Granted);
        }
        let place = self.order().iter().position(|t| *t == task)?;
        Some(Slot::Queued { position: place + 1, running: self.grants.len(), limit: self.limit })
    }

    /// Tasks with a slot.
    #[must_use]
    pub fn running(&self) -> usize {
        self.grants.len()
    }

    /// Tasks that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Nothing to remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.waiting.is_empty()
    }

    fn hand_out(&mut self, now: MonoTime, granted: &mut Vec<TaskId>) {
        while self.grants.len() < self.limit && !self.waiting.is_empty() {
            let Some(at) = next_place(&self.waiting, &self.held()) else { return };
            let Waiter { task, owner, .. } = self.waiting.remove(at);
            self.grants.insert(task, Grant { owner, until: now.plus(LEASE) });
            granted.push(task);
        }
    }

    /// Grants by owner.
    fn held(&self) -> BTreeMap<UserId, usize> {
        let mut held = BTreeMap::new();
        for grant in self.grants.values() {
            *held.entry(grant.owner).or_default() += 1;
        }
        held
    }

    /// Those who wait in the order in which they would get slots if none were given back.
    fn order(&self) -> Vec<TaskId> {
        let mut ranked: Vec<(usize, usize, TaskId)> = Vec::with_capacity(self.waiting.len());
        let mut held = self.held();
        for (arrival, waiter) in self.waiting.iter().enumerate() {
            let before = held.entry(waiter.owner).or_default();
            ranked.push((*before, arrival, waiter.task));
            *before += 1;
        }
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, _, task)| task).collect()
    }
}

/// Whose turn it is: the first to arrive among the owners with the fewest grants.
fn next_place(waiting: &[Waiter], held: &BTreeMap<UserId, usize>) -> Option<usize> {
    let grants = |w: &Waiter| held.get(&w.owner).copied().unwrap_or(0);
    (0..waiting.len()).min_by_key(|at| (grants(&waiting[*at]), *at))
}

#[cfg(test)]
mod tests;
