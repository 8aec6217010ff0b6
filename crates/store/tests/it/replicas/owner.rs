//! What the owner of an entity does to its journal.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use troupe_store::effective::{Starts, prune};
use troupe_types::{Epoch, Fence, Incarnation, Seq, limits::APPENDS_IN_FLIGHT_MAX};

use super::{
    cluster::{Entry, Lease, Lwt, Part, Replicas, Rows, Statics, lease, log, statics},
    world::{Flaw, Handle},
};

/// What one process knows, besides its tasks.
pub(super) struct Process {
    pub(super) handle: Handle,
    pub(super) node: usize,
    pub(super) inc: Cell<Incarnation>,
    /// Its lease is over: everything is dropped, and it joins anew.
    pub(super) fenced: Cell<bool>,
    /// The newest fence of the entity here; older ones are refused.
    pub(super) newest: Cell<Fence>,
    /// Epochs up to this one are given away.
    pub(super) released: Cell<Epoch>,
}

/// An open journal.
pub(super) struct Activation {
    process: Rc<Process>,
    epoch: Epoch,
    fence: Fence,
    state: RefCell<State>,
}

struct State {
    over: bool,
    /// All entries, those in flight included.
    all: Vec<u64>,
    committed: Seq,
    in_flight: BTreeMap<Seq, Batch>,
    /// As this activation has read and written it.
    starts: Starts,
    snapshot: Seq,
    snapshotting: bool,
}

struct Batch {
    ids: Vec<u64>,
    passed: bool,
}

impl Process {
    fn flaw(&self) -> Flaw {
        self.handle.with(|world| world.flaw)
    }

    /// A plain read of the own lease. `None`: no answer.
    async fn barrier(&self) -> Option<bool> {
        let inc = self.inc.get();
        let Lease { inc: now, dead } = self.handle.plain(lease, self.node).await?;
        Some(now == inc && !dead)
    }
}

/// Reads rows of two replicas, each at its own moment.
async fn read_rows(handle: &Handle, above: Seq) -> Option<Rows> {
    let read = move |replicas: &mut Replicas, replica: usize| {
        let rows = replicas.rows[replica].range((above.next(), Fence::ZERO)..);
        rows.map(|(key, entry)| (*key, *entry)).collect::<Rows>()
    };
    let mut found = handle.quorum(read).await?;
    let mut rows = found.pop().unwrap_or_default();
    rows.extend(found.into_iter().flatten());
    Some(rows)
}

async fn read_part(handle: &Handle, key: (Seq, Fence)) -> Option<Part> {
    let read =
        move |replicas: &mut Replicas, replica: usize| replicas.parts[replica].get(&key).cloned();
    let found = handle.quorum(read).await?;
    found.into_iter().flatten().next()
}

/// Claims the next fence, reads, writes the tail again, starts. `None`: try again, or not.
pub(super) async fn open(process: &Rc<Process>, epoch: Epoch) -> Option<Rc<Activation>> {
    let (handle, flaw) = (&process.handle, process.flaw());
    let found = handle.serial(statics, 0).await?;
    if found.epoch > epoch || epoch <= process.released.get() {
        return None;
    }
    let fence = found.fence.max(process.newest.get()).next();
    let expected = found.fence;
    let claim = move |now: &Statics| {
        let may = now.fence == expected && now.epoch <= epoch;
        may.then(|| Statics { epoch, fence, ..now.clone() })
    };
    if handle.lwt(statics, 0, claim).await != Lwt::Applied || fence <= process.newest.get() {
        return None;
    }
    process.newest.set(fence);
    let found = handle.plain(statics, 0).await.filter(|found| found.fence == fence)?;
    let above = found.above();
    let mut all = match found.snapshot {
        None => Vec::new(),
        Some(key) => read_part(handle, key).await?.to_vec(),
    };
    let rows = read_rows(handle, above).await?;
    let tail = log(flaw, rows, &found);
    if let Some((last, ..)) = tail.last()
        && flaw != Flaw::TailNotWrittenAgain
    {
        let again = tail.iter().filter(|(fence, ..)| fence == last);
        let again = again.map(|(fence, seq, entry)| ((*seq, *fence), *entry)).collect();
        if !handle.write(again).await {
            return None;
        }
    }
    all.extend(tail.iter().map(|(_, _, entry)| entry.id));
    let head = Seq(all.len() as u64);
    let (tag, start) =
        if flaw == Flaw::NoFence { (Fence::ZERO, Seq(1)) } else { (fence, head.next()) };
    let mut starts = found.starts.clone();
    starts.insert(tag, start);
    for _ in 0..4 {
        let begin = move |now: &Statics| {
            (now.fence == fence).then(|| {
                let mut now = now.clone();
                now.starts.insert(tag, start);
                now
            })
        };
        match handle.lwt(statics, 0, begin).await {
            Lwt::Applied => {
                handle.with(|world| world.report.opens += 1);
                let state = State {
                    over: false,
                    all,
                    committed: head,
                    in_flight: BTreeMap::new(),
                    starts,
                    snapshot: above,
                    snapshotting: false,
                };
                let (process, state) = (Rc::clone(process), RefCell::new(state));
                return Some(Rc::new(Activation { process, epoch, fence, state }));
            }
            Lwt::Refused => return None,
            Lwt::Unknown => {}
        }
    }
    None
}

impl Activation {
    pub(super) fn is_over(&self) -> bool {
        let process = &self.process;
        self.state.borrow().over
            || process.fenced.get()
            || process.newest.get() != self.fence
            || self.epoch <= process.released.get()
    }

    pub(super) fn end(&self) {
        self.state.borrow_mut().over = true;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state.borrow().in_flight.is_empty()
    }

    /// Decides on a few entries and sends them; they are acknowledged when they are committed.
    pub(super) fn append(self: &Rc<Self>) {
        if self.is_over() || self.state.borrow().in_flight.len() >= APPENDS_IN_FLIGHT_MAX {
            return;
        }
        let handle = self.process.handle.clone();
        let (mut rows, mut ids) = (Vec::new(), Vec::new());
        let mut state = self.state.borrow_mut();
        let first = Seq(state.all.len() as u64 + 1);
        let untagged = self.process.flaw() == Flaw::NoFence;
        let tag = if untagged { Fence::ZERO } else { self.fence };
        handle.with(|world| {
            for _ in 0..=world.below(3) {
                let id = world.replicas.before.len() as u64 + 1;
                let before = state.all.last().copied().unwrap_or(0);
                world.replicas.before.insert(id, before);
                let seq = Seq(state.all.len() as u64 + 1);
                rows.push(((seq, tag), Entry { id, before }));
                ids.push(id);
                state.all.push(id);
            }
        });
        state.in_flight.insert(first, Batch { ids, passed: false });
        drop(state);
        let this = Rc::clone(self);
        handle.spawn(self.process.node, async move { this.commit(first, rows).await });
    }

    async fn commit(&self, first: Seq, rows: Vec<((Seq, Fence), Entry)>) {
        let process = &self.process;
        let flaw = process.flaw();
        let early = Rc::new(Cell::new(None));
        if flaw == Flaw::BarrierWithWrite {
            let (process, early) = (Rc::clone(process), Rc::clone(&early));
            let node = process.node;
            process.handle.clone().spawn(node, async move {
                early.set(Some(process.barrier().await == Some(true)));
            });
        }
        if !process.handle.write(rows).await {
            self.end();
            return;
        }
        let passed = match flaw {
            Flaw::NoBarrier => Some(true),
            Flaw::BarrierWithWrite => {
                while early.get().is_none() {
                    process.handle.sleep(1).await;
                }
                early.get()
            }
            _ => process.barrier().await,
        };
        match passed {
            Some(true) => self.acknowledge(first),
            Some(false) => process.fenced.set(true),
            None => self.end(),
        }
    }

    /// In order, and after a last look at what this process knows.
    fn acknowledge(&self, first: Seq) {
        if self.is_over() {
            return;
        }
        let mut state = self.state.borrow_mut();
        if let Some(batch) = state.in_flight.get_mut(&first) {
            batch.passed = true;
        }
        while let Some(next) = state.in_flight.first_entry()
            && next.get().passed
        {
            let (first, Batch { ids, .. }) = next.remove_entry();
            for (seq, id) in (first.0..).map(Seq).zip(ids) {
                self.process.handle.with(|world| world.ack(seq, id));
                state.committed = seq;
            }
        }
    }

    /// Makes the fold of what is committed the snapshot and trims below it.
    pub(super) async fn snapshot(self: Rc<Self>) {
        let process = &self.process;
        let (handle, fence) = (&process.handle, self.fence);
        let (upto, part, starts) = {
            let mut state = self.state.borrow_mut();
            let (committed, current) = (state.committed, state.snapshot);
            let below = handle.with(|world| world.below(4));
            let upto = Seq(committed.0.saturating_sub(below));
            if state.snapshotting || state.over || upto <= current {
                return;
            }
            state.snapshotting = true;
            let part: Part = Rc::new(state.all[..usize::try_from(upto.0).unwrap()].to_vec());
            (upto, part, prune(&state.starts, upto))
        };
        let key = (upto, fence);
        let put = move |replicas: &mut Replicas, replica: usize| {
            replicas.parts[replica].insert(key, Rc::clone(&part));
        };
        let written = handle.quorum(put).await.is_some();
        if written && process.barrier().await == Some(true) && !self.is_over() {
            let new = starts.clone();
            let switch = move |now: &Statics| {
                let snapshot = Some(key);
                let starts = new.clone();
                (now.fence == fence).then(|| Statics { snapshot, starts, ..now.clone() })
            };
            if handle.lwt(statics, 0, switch).await == Lwt::Applied {
                handle.with(|world| world.report.snapshots += 1);
                let trim = move |replicas: &mut Replicas, replica: usize| {
                    replicas.rows[replica].retain(|(seq, _), _| *seq > upto);
                    replicas.parts[replica].retain(|(of, _), _| *of >= upto);
                };
                handle.quorum(trim).await;
                let mut state = self.state.borrow_mut();
                (state.snapshot, state.starts) = (upto, starts);
            } else {
                // It may be done or not: this activation's view of the row is no longer sure.
                self.end();
            }
        }
        self.state.borrow_mut().snapshotting = false;
    }
}
