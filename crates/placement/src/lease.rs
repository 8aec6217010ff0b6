//! The own lease: join, renew, expire, leave.
//!
//! One operation at a time. After anything but a clear yes the row is read with SERIAL before
//! the next step, because a compare-and-set that timed out may have been done, or may be done
//! later. Repeating it is harmless: it carries the same expected and new values.

use std::time::Duration;

use troupe_types::{Incarnation, LeaseRow, MonoTime, NodeName, NodeState, Roles, Uuid};

use crate::{
    op::{Answer, StoreOp},
    timings::Timings,
};

/// Who this node is, as its lease row will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name in its certificate.
    pub node: NodeName,
    /// Where its node link listens.
    pub addr: String,
    /// Which build it runs.
    pub build: String,
    /// What it hosts.
    pub roles: Roles,
    /// Its share of the shards, 100 is usual.
    pub weight: u32,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// There is a lease of this incarnation.
    Joined(Incarnation),
    /// It holds from now on.
    Valid,
    /// It was not renewed in time.
    Expired,
    /// It is dead or superseded.
    Lost,
    /// It is dead because this node wanted it so.
    Left,
}

#[derive(Debug)]
pub(crate) struct Lease {
    me: Identity,
    validity: Duration,
    renew_every: Duration,
    retry_after: Duration,
    phase: Phase,
    /// The row must be read with SERIAL before the next step.
    read_first: bool,
    /// No operation before this.
    not_before: MonoTime,
    draining: bool,
    leaving: bool,
}

#[derive(Debug)]
enum Phase {
    Absent,
    Joining {
        boot_id: Uuid,
        /// The incarnation that was found; outer `None`: nobody has looked yet.
        found: Option<Option<Incarnation>>,
    },
    Held(Held),
}

#[derive(Debug)]
struct Held {
    /// As it was last known to be.
    row: LeaseRow,
    valid_until: MonoTime,
    valid: bool,
    /// When the renewal of `row` was first sent.
    first_sent: Option<MonoTime>,
}

impl Lease {
    pub(crate) fn new(me: Identity, timings: &Timings) -> Self {
        Self {
            me,
            validity: timings.validity,
            renew_every: timings.renew_every,
            retry_after: timings.retry_after,
            phase: Phase::Absent,
            read_first: false,
            not_before: MonoTime::ZERO,
            draining: false,
            leaving: false,
        }
    }

    pub(crate) const fn me(&self) -> &Identity {
        &self.me
    }

    /// Joins; whatever was held before is forgotten.
    pub(crate) fn start(&mut self, boot_id: Uuid, now: MonoTime) {
        self.phase = Phase::Joining { boot_id, found: None };
        (self.read_first, self.not_before) = (true, now);
        (self.draining, self.leaving) = (false, false);
    }

    /// From the next renewal on the row says draining.
    pub(crate) fn drain(&mut self, now: MonoTime) {
        self.draining = true;
        self.not_before = now;
    }

    /// Ends the own lease.
    pub(crate) fn leave(&mut self, now: MonoTime) {
        self.leaving = true;
        self.not_before = now;
    }

    pub(crate) const fn is_draining(&self) -> bool {
        self.draining
    }

    pub(crate) const fn inc(&self) -> Option<Incarnation> {
        match &self.phase {
            Phase::Held(held) => Some(held.row.inc),
            _ => None,
        }
    }

    /// The own row as it was last known to be.
    pub(crate) const fn row(&self) -> Option<&LeaseRow> {
        match &self.phase {
            Phase::Held(held) => Some(&held.row),
            _ => None,
        }
    }

    /// The last good renewal, and until when it holds, while it holds.
    pub(crate) const fn valid(&self) -> Option<(Incarnation, u64, MonoTime)> {
        match &self.phase {
            Phase::Held(held) if held.valid => Some((held.row.inc, held.row.seq, held.valid_until)),
            _ => None,
        }
    }

    /// The next operation, if one is due. The caller has none under way.
    pub(crate) fn next(&mut self, now: MonoTime) -> Option<StoreOp> {
        if now < self.not_before || matches!(self.phase, Phase::Absent) {
            return None;
        }
        let node = self.me.node.clone();
        if self.read_first {
            return Some(StoreOp::ReadLease { node });
        }
        match &mut self.phase {
            Phase::Absent => None,
            Phase::Joining { boot_id, found } => {
                let expected = (*found)?;
                let inc = expected.unwrap_or(Incarnation::ZERO).next();
                let row = row(&self.me, *boot_id, inc);
                Some(StoreOp::Join { expected, row })
            }
            Phase::Held(held) if self.leaving => Some(StoreOp::Kill { seen: held.row.clone() }),
            Phase::Held(held) => {
                held.first_sent.get_or_insert(now);
                let alive = !self.draining;
                let state = if alive { NodeState::Alive } else { NodeState::Draining };
                Some(StoreOp::Renew { from: held.row.clone(), state })
            }
        }
    }

    /// What became of the operation that was sent at `sent`.
    pub(crate) fn answered(
        &mut self,
        op: &StoreOp,
        answer: &Answer,
        sent: MonoTime,
        now: MonoTime,
    ) -> Vec<News> {
        match (op, answer) {
            (StoreOp::Join { row, .. }, Answer::Applied) => self.joined(row, Some(sent), now),
            (StoreOp::Renew { from, state }, Answer::Applied) => {
                let row = LeaseRow { seq: from.seq + 1, state: *state, ..from.clone() };
                self.renewed(row, sent, now)
            }
            (StoreOp::Kill { .. }, Answer::Applied) => self.left(),
            (StoreOp::ReadLease { .. }, Answer::Lease(row)) => {
                self.read_first = false;
                self.read(row.as_ref(), now)
            }
            (_, Answer::Refused) => {
                self.read_first = true;
                Vec::new()
            }
            _ => {
                self.read_first = true;
                self.not_before = now.max(sent.plus(self.retry_after));
                Vec::new()
            }
        }
    }

    fn read(&mut self, row: Option<&LeaseRow>, now: MonoTime) -> Vec<News> {
        match &mut self.phase {
            Phase::Absent => Vec::new(),
            Phase::Joining { boot_id, found } => {
                let mine = row.filter(|r| r.boot_id == *boot_id && r.state != NodeState::Dead);
                if let Some(row) = mine {
                    return self.joined(&row.clone(), None, now);
                }
                *found = Some(row.map(|row| row.inc));
                Vec::new()
            }
            Phase::Held(held) => {
                let Some(row) = row.filter(|r| r.inc == held.row.inc && r.state != NodeState::Dead)
                else {
                    return if self.leaving { self.left() } else { self.lost() };
                };
                if row.seq == held.row.seq {
                    return Vec::new(); // It was not done, or not yet: once more.
                }
                // Only this node renews, one step at a time, so it is the step that was tried.
                // It counts from the first try, as nobody knows which one was done.
                let sent = held.first_sent.unwrap_or(MonoTime::ZERO);
                self.renewed(row.clone(), sent, now)
            }
        }
    }

    fn joined(&mut self, row: &LeaseRow, sent: Option<MonoTime>, now: MonoTime) -> Vec<News> {
        // A join that was found by reading may be old: it holds from the next renewal on.
        let valid_until = sent.map_or(MonoTime::ZERO, |sent| sent.plus(self.validity));
        let inc = row.inc;
        let held = Held { row: row.clone(), valid_until, valid: false, first_sent: None };
        self.phase = Phase::Held(held);
        self.not_before = sent.map_or(now, |sent| sent.plus(self.renew_every));
        let mut news = vec![News::Joined(inc)];
        news.extend(self.revalidate(now));
        news
    }

    fn renewed(&mut self, row: LeaseRow, sent: MonoTime, now: MonoTime) -> Vec<News> {
        let Phase::Held(held) = &mut self.phase else { return Vec::new() };
        (held.row, held.first_sent) = (row, None);
        held.valid_until = held.valid_until.max(sent.plus(self.validity));
        let told = held.row.state == NodeState::Draining || !self.draining;
        self.not_before = if told { sent.plus(self.renew_every) } else { now };
        self.revalidate(now).into_iter().collect()
    }

    fn revalidate(&mut self, now: MonoTime) -> Option<News> {
        let Phase::Held(held) = &mut self.phase else { return None };
        if held.valid || now >= held.valid_until {
            return None;
        }
        held.valid = true;
        Some(News::Valid)
    }

    /// Whether the lease has run out. Asked before anything else is done.
    pub(crate) fn check(&mut self, now: MonoTime) -> Option<News> {
        let Phase::Held(held) = &mut self.phase else { return None };
        if !held.valid || now < held.valid_until {
            return None;
        }
        held.valid = false;
        Some(News::Expired)
    }

    /// A plain read has shown the own row to somebody who holds this incarnation.
    pub(crate) fn shown(&mut self, inc: Incarnation, row: Option<&LeaseRow>) -> Vec<News> {
        let Phase::Held(held) = &self.phase else { return Vec::new() };
        let holds = row.is_some_and(|row| row.inc <= inc && row.state != NodeState::Dead);
        if held.row.inc != inc || holds || self.leaving {
            return Vec::new();
        }
        self.lost()
    }

    fn lost(&mut self) -> Vec<News> {
        self.phase = Phase::Absent;
        vec![News::Lost]
    }

    fn left(&mut self) -> Vec<News> {
        self.phase = Phase::Absent;
        vec![News::Left]
    }
}

fn row(me: &Identity, boot_id: Uuid, inc: Incarnation) -> LeaseRow {
    LeaseRow {
        node: me.node.clone(),
        boot_id,
        inc,
        seq: 1,
        state: NodeState::Alive,
        addr: me.addr.clone(),
        build: me.build.clone(),
        roles: me.roles,
        weight: me.weight,
    }
}
