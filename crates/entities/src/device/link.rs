//! The link of a device, as its actor knows it: what waits for the session to take it.

use std::collections::{BTreeSet, VecDeque};

use troupe_api::device::DevicePath;
use troupe_domain::device::Connection;
use troupe_sharding::Reply;
use troupe_types::{MonoTime, Uuid};

use super::ask::{Has, Numbered, ToDevice};

/// Commands that wait for one link; with more the link is ended, and a new one starts over.
const WAITING_MAX: usize = 256;

/// A live link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) node: String,
    pub(super) build: String,
    /// As its session said last.
    pub(super) path: Option<DevicePath>,
    /// When its session asked last.
    pub(super) heard: MonoTime,
    waiting: VecDeque<Numbered>,
    last: u64,
    /// A `Next` that is held, since when, and what it has.
    held: Option<(Reply, MonoTime, u64)>,
    /// What the device had when the link came up, until its Tasks said that it may begin.
    pub(super) unbegun: BTreeSet<(troupe_types::ExecutionId, troupe_types::Attempt)>,
    /// Inputs that went out on this link.
    pub(super) inputs: BTreeSet<Uuid>,
    /// Assignments that went out on this link.
    pub(super) given: BTreeSet<(troupe_types::ExecutionId, troupe_types::Attempt)>,
}

impl Link {
    pub(super) fn new(connection: Connection, node: String, build: String, now: MonoTime) -> Self {
        Self {
            connection,
            node,
            build,
            path: None,
            heard: now,
            waiting: VecDeque::new(),
            last: 0,
            held: None,
            unbegun: BTreeSet::new(),
            inputs: BTreeSet::new(),
            given: BTreeSet::new(),
        }
    }

    /// Whether the session is so far behind that it is no use.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// Puts something behind all that waits; answers a held question.
    pub(super) fn push(&mut self, what: ToDevice) -> Option<(Reply, Vec<Numbered>)> {
        if let ToDevice::Assign(work) = &what
            && !self.given.insert((work.has.execution, work.has.attempt))
        {
            return None;
        }
        if let ToDevice::Input { id, .. } = &what
            && !self.inputs.insert(*id)
        {
            return None;
        }
        self.last += 1;
        self.waiting.push_back(Numbered { number: self.last, what });
        let (reply, _, after) = self.held.take()?;
        Some((reply, self.after(after)))
    }

    fn after(&mut self, after: u64) -> Vec<Numbered> {
        self.waiting.retain(|one| one.number > after);
        self.waiting.iter().cloned().collect()
    }

    /// A session asks; `Some`: answer this now.
    pub(super) fn next(
        &mut self,
        after: u64,
        reply: Reply,
        now: MonoTime,
    ) -> Option<(Reply, Vec<Numbered>)> {
        let commands = self.after(after);
        // An older question was given up by its asker.
        let older = self.held.take();
        if commands.is_empty() {
            self.held = Some((reply, now, after));
            return older.map(|(reply, ..)| (reply, Vec::new()));
        }
        if let Some((older, ..)) = older {
            drop(older);
        }
        Some((reply, commands))
    }

    /// The held question, if it was held for long enough.
    pub(super) fn held_since(&mut self, before: impl Fn(MonoTime) -> bool) -> Option<Reply> {
        if !before(self.held.as_ref()?.1) {
            return None;
        }
        self.held.take().map(|(reply, ..)| reply)
    }

    /// The held question, for the end of the link.
    pub(super) fn end(self) -> Option<Reply> {
        self.held.map(|(reply, ..)| reply)
    }

    /// Whether an assignment went out on this link.
    pub(super) fn was_given(&self, has: Has) -> bool {
        self.given.contains(&(has.execution, has.attempt))
    }
}
