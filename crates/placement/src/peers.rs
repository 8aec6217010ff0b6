//! The other nodes: what was last seen of their leases, and who is over.
//!
//! Wall clocks are compared nowhere. A peer is over for an observer when its (incarnation, seq)
//! has not moved for the expiry on the observer's own clock; then the observer tries to write
//! that into the row, and only the row decides. Claims want more than a look at the row: the
//! proof of a SERIAL read (or of an own compare-and-set), so that every later commit barrier of
//! the old owner sees the same.

use std::{collections::BTreeMap, time::Duration};

use troupe_types::{Incarnation, LeaseRow, MonoTime, NodeName, NodeState};

use crate::{
    hash::Candidate,
    op::{Answer, StoreOp},
    timings::Timings,
};

#[derive(Debug)]
pub(crate) struct Peers {
    me: NodeName,
    expiry: Duration,
    silent_after: Duration,
    peers: BTreeMap<NodeName, Peer>,
    /// All incarnations up to this one are over, proved.
    gone: BTreeMap<NodeName, Incarnation>,
    /// How often an incarnation was first seen to be over.
    ends: u64,
}

#[derive(Debug)]
struct Peer {
    /// The newest row seen.
    row: LeaseRow,
    /// When its (incarnation, seq) last moved, on this node's clock.
    moved: MonoTime,
    heard: MonoTime,
    /// A kill was refused or has an unknown outcome.
    read_first: bool,
    not_before: MonoTime,
}

/// Orders what was seen of a lease; dead is the last word about an incarnation.
fn age(row: &LeaseRow) -> (Incarnation, bool, u64) {
    (row.inc, row.state == NodeState::Dead, row.seq)
}

impl Peers {
    pub(crate) fn new(me: NodeName, timings: &Timings) -> Self {
        Self {
            me,
            expiry: timings.expiry,
            silent_after: timings.silent_after,
            peers: BTreeMap::new(),
            gone: BTreeMap::new(),
            ends: 0,
        }
    }

    /// A row was read, one way or another. Ignored if it is older than what was seen before.
    pub(crate) fn saw(&mut self, row: &LeaseRow, now: MonoTime) {
        if row.node == self.me {
            return;
        }
        match self.peers.get_mut(&row.node) {
            Some(peer) if age(row) <= age(&peer.row) => {}
            Some(peer) => {
                self.ends += u64::from(age(row) > (peer.row.inc, true, 0));
                peer.moved = now;
                peer.row = row.clone();
            }
            None => {
                let row = row.clone();
                let (moved, heard, not_before) = (now, now, now);
                let peer = Peer { row, moved, heard, read_first: false, not_before };
                self.peers.insert(peer.row.node.clone(), peer);
            }
        }
    }

    /// A SERIAL read has shown this row.
    pub(crate) fn proved(&mut self, row: &LeaseRow, now: MonoTime) {
        self.saw(row, now);
        let over =
            if row.state == NodeState::Dead { row.inc.0 } else { row.inc.0.saturating_sub(1) };
        let gone = self.gone.entry(row.node.clone()).or_default();
        *gone = (*gone).max(Incarnation(over));
    }

    /// A peer said so itself. `false`: its row has to be read.
    pub(crate) fn heard(
        &mut self,
        from: &NodeName,
        inc: Incarnation,
        seq: u64,
        now: MonoTime,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(from) else { return false };
        if inc == peer.row.inc {
            peer.heard = now;
            if seq > peer.row.seq && peer.row.state != NodeState::Dead {
                (peer.row.seq, peer.moved) = (seq, now);
            }
        }
        inc <= peer.row.inc
    }

    /// Everybody gets a full expiry from now on: this node could not have seen renewals.
    pub(crate) fn restart_clocks(&mut self, now: MonoTime) {
        for peer in self.peers.values_mut() {
            (peer.moved, peer.heard) = (now, now);
        }
    }

    /// What is to be asked of the store about peers, at most one operation for each of those
    /// that `busy` does not name. `wanted`: owners whose end must be proved.
    pub(crate) fn next(
        &self,
        wanted: &[(NodeName, Incarnation)],
        busy: impl Fn(&NodeName) -> bool,
        now: MonoTime,
    ) -> Vec<(NodeName, StoreOp)> {
        let mut ops = Vec::new();
        for (node, peer) in self.peers.iter().filter(|(node, _)| !busy(node)) {
            let lives = peer.row.state != NodeState::Dead;
            let expired = lives && now.since(peer.moved) >= self.expiry;
            let prove = wanted.iter().any(|(owner, _)| owner == node);
            let node = node.clone();
            if now < peer.not_before {
            } else if prove || (expired && peer.read_first) {
                ops.push((node.clone(), StoreOp::ReadLease { node }));
            } else if expired {
                ops.push((node, StoreOp::Kill { seen: peer.row.clone() }));
            }
        }
        ops
    }

    pub(crate) fn answered(
        &mut self,
        node: &NodeName,
        op: &StoreOp,
        answer: &Answer,
        retry_at: MonoTime,
        now: MonoTime,
    ) {
        match (op, answer) {
            (StoreOp::ReadLease { .. }, Answer::Lease(Some(row))) => {
                self.proved(row, now);
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.read_first = false;
                }
            }
            (StoreOp::Kill { seen }, Answer::Applied) => {
                self.proved(&LeaseRow { state: NodeState::Dead, ..seen.clone() }, now);
            }
            (_, answer) => {
                let Some(peer) = self.peers.get_mut(node) else { return };
                peer.read_first |= matches!(op, StoreOp::Kill { .. });
                if *answer != Answer::Refused {
                    peer.not_before = retry_at;
                }
            }
        }
    }

    /// Whether the incarnation is over, as far as anybody has seen.
    pub(crate) fn seems_gone(&self, node: &NodeName, inc: Incarnation) -> bool {
        let seen = self.peers.get(node).map(|peer| &peer.row);
        seen.is_some_and(|row| row.inc > inc || (row.inc == inc && row.state == NodeState::Dead))
    }

    /// Whether the incarnation is over, proved.
    pub(crate) fn is_gone(&self, node: &NodeName, inc: Incarnation) -> bool {
        self.gone.get(node).is_some_and(|gone| inc <= *gone)
    }

    /// Rises whenever an incarnation is first seen to be over.
    pub(crate) const fn ends(&self) -> u64 {
        self.ends
    }

    /// The own older incarnations are over: the join has superseded them.
    pub(crate) fn superseded(&mut self, inc: Incarnation) {
        self.gone.insert(self.me.clone(), Incarnation(inc.0.saturating_sub(1)));
    }

    /// All of them, each with the time since its lease moved.
    pub(crate) fn seen(&self, now: MonoTime) -> impl Iterator<Item = (&LeaseRow, Duration)> {
        self.peers.values().map(move |peer| (&peer.row, now.since(peer.moved)))
    }

    /// Nodes that take shards, this one left out.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Candidate> {
        let alive = self.peers.values().filter(|peer| peer.row.state == NodeState::Alive);
        alive.map(|peer| Candidate {
            node: peer.row.node.clone(),
            roles: peer.row.roles,
            weight: peer.row.weight,
        })
    }

    /// The newest row seen of a node.
    pub(crate) fn row(&self, node: &NodeName) -> Option<&LeaseRow> {
        self.peers.get(node).map(|peer| &peer.row)
    }

    /// Whether the node takes shards and was heard lately.
    pub(crate) fn is_near(&self, node: &NodeName, now: MonoTime) -> bool {
        let peer = self.peers.get(node);
        peer.is_some_and(|peer| {
            peer.row.state == NodeState::Alive && now.since(peer.heard) < self.silent_after
        })
    }

    /// Whether somebody who should work has not been heard for a while.
    pub(crate) fn any_silent(&self, now: MonoTime) -> bool {
        let lives = |peer: &&Peer| peer.row.state != NodeState::Dead;
        self.peers.values().filter(lives).any(|peer| now.since(peer.heard) >= self.silent_after)
    }

    /// The newest rows seen.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &LeaseRow> {
        self.peers.values().map(|peer| &peer.row)
    }
}
