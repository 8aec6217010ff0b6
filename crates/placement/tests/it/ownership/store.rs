//! The store of the model: rows that compare-and-set changes, and a journal per shard.

use std::collections::BTreeMap;

use troupe_placement::{Answer, StoreOp};
use troupe_types::{Epoch, Incarnation, LeaseRow, NodeName, NodeState, ShardId, ShardRow};

/// One entry: what it is, and what its writer believed to stand before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: u64,
    pub(super) before: u64,
}

/// Rows are tagged with the fence of their writer, as in the real one.
#[derive(Debug, Default)]
pub(super) struct Journal {
    epoch: Epoch,
    fence: u64,
    starts: BTreeMap<u64, u64>,
    rows: BTreeMap<(u64, u64), Entry>,
}

#[derive(Debug)]
pub(super) struct Store {
    /// Rows of different fences are different rows. Without, the last write wins.
    fences: bool,
    pub(super) leases: BTreeMap<NodeName, LeaseRow>,
    pub(super) shards: BTreeMap<ShardId, ShardRow>,
    journals: BTreeMap<ShardId, Journal>,
    /// Who got which epoch.
    grants: BTreeMap<(ShardId, Epoch), (NodeName, Incarnation)>,
    pub(super) violations: Vec<String>,
}

impl Journal {
    /// The effective log: row (s, f) counts if f is the greatest fence that starts at or
    /// below s.
    fn log(&self) -> Vec<Entry> {
        let in_force = |seq| self.starts.iter().rev().find(|(_, start)| **start <= seq);
        let row = |seq| self.rows.get(&(seq, *in_force(seq)?.0)).copied();
        (1..).map_while(row).collect()
    }
}

impl Store {
    pub(super) fn new(fences: bool) -> Self {
        Self {
            fences,
            leases: BTreeMap::new(),
            shards: BTreeMap::new(),
            journals: BTreeMap::new(),
            grants: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    pub(super) fn run(&mut self, op: &StoreOp) -> Answer {
        match op {
            StoreOp::ReadLease { node } => Answer::Lease(self.leases.get(node).cloned()),
            StoreOp::ListLeases => Answer::Leases(self.leases.values().cloned().collect()),
            StoreOp::ReadShard { shard } => Answer::Shard(self.shards.get(shard).cloned()),
            StoreOp::ListShards => Answer::Shards(self.shards.values().cloned().collect()),
            StoreOp::Join { row, .. } | StoreOp::Renew { from: row, .. } => {
                self.change_lease(&row.node.clone(), op)
            }
            StoreOp::Kill { seen } => self.change_lease(&seen.node.clone(), op),
            StoreOp::Claim { row, .. } | StoreOp::Move { row, .. } | StoreOp::Bump { row, .. } => {
                self.change_shard(row.shard, op)
            }
        }
    }

    fn change_lease(&mut self, node: &NodeName, op: &StoreOp) -> Answer {
        let Some(row) = op.lease_after(self.leases.get(node)) else { return Answer::Refused };
        self.leases.insert(node.clone(), row);
        Answer::Applied
    }

    fn change_shard(&mut self, shard: ShardId, op: &StoreOp) -> Answer {
        let before = self.shards.get(&shard);
        let Some(row) = op.shard_after(before) else { return Answer::Refused };
        let last = before.map_or(Epoch::ZERO, |row| row.epoch);
        if row.epoch != last.next() {
            self.violations.push(format!("I1: {last} is followed by {row:?}"));
        }
        let owner = (row.owner.clone(), row.owner_inc);
        if let Some(other) = self.grants.insert((shard, row.epoch), owner.clone()) {
            self.violations.push(format!("I1: {other:?} and {owner:?} both got {row:?}"));
        }
        // What a claim relies on: the old owner can never pass a barrier again.
        if let (StoreOp::Claim { .. }, Some(before)) = (op, before)
            && self.is_alive(&before.owner, before.owner_inc)
        {
            self.violations.push(format!("I2: claimed from a live owner: {before:?}"));
        }
        self.shards.insert(shard, row);
        Answer::Applied
    }

    pub(super) fn is_alive(&self, node: &NodeName, inc: Incarnation) -> bool {
        let row = self.leases.get(node);
        row.is_some_and(|row| row.inc == inc && row.state != NodeState::Dead)
    }

    pub(super) fn epoch(&self, shard: ShardId) -> Epoch {
        self.shards.get(&shard).map_or(Epoch::ZERO, |row| row.epoch)
    }

    /// Claims the next fence, unless a newer epoch has been there.
    pub(super) fn claim_fence(&mut self, shard: ShardId, epoch: Epoch) -> Option<u64> {
        let journal = self.journals.entry(shard).or_default();
        if epoch < journal.epoch {
            return None;
        }
        journal.epoch = epoch;
        journal.fence += 1;
        Some(journal.fence)
    }

    /// Reads the log and starts after it; the head and the last value.
    pub(super) fn start(&mut self, shard: ShardId, fence: u64) -> Option<(u64, u64)> {
        let journal = self.journals.get_mut(&shard).filter(|journal| journal.fence == fence)?;
        let log = journal.log();
        let head = u64::try_from(log.len()).unwrap();
        let (tag, start) = if self.fences { (fence, head + 1) } else { (0, 1) };
        journal.starts.insert(tag, start);
        Some((head, log.last().map_or(0, |entry| entry.value)))
    }

    /// Nothing stops a write; whether it counts is decided by its tag.
    pub(super) fn write(&mut self, shard: ShardId, fence: u64, seq: u64, entry: Entry) {
        let tag = if self.fences { fence } else { 0 };
        self.journals.entry(shard).or_default().rows.insert((seq, tag), entry);
    }

    /// Compares the final logs with what was acknowledged.
    pub(super) fn check(&mut self, acked: &BTreeMap<(ShardId, u64), u64>) {
        let mut found = Vec::new();
        let logs: BTreeMap<_, _> = self.journals.iter().map(|(s, j)| (*s, j.log())).collect();
        for ((shard, seq), value) in acked {
            let place = usize::try_from(*seq - 1).unwrap();
            let entry = logs[shard].get(place);
            if entry.map(|entry| entry.value) != Some(*value) {
                found.push(format!("I4: shard {shard} entry {seq} was {value}, is {entry:?}"));
            }
        }
        for (shard, log) in &logs {
            let broken = log.windows(2).find(|pair| pair[1].before != pair[0].value);
            if let Some(pair) = broken {
                found.push(format!("I3: shard {shard} was decided on another state: {pair:?}"));
            }
        }
        self.violations.append(&mut found);
    }
}
