//! Three replicas: rows, snapshot parts, and the registers that compare-and-set changes.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use troupe_store::effective::{Starts, effective_log};
use troupe_types::{Epoch, Fence, Incarnation, Seq};

use super::world::{Flaw, Handle, NODES, World};

pub(super) const REPLICAS: usize = 3;
const QUORUM: usize = 2;

/// One entry, and the one that its writer decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) before: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) inc: Incarnation,
    pub(super) dead: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) owner: usize,
    pub(super) inc: Incarnation,
    pub(super) epoch: Epoch,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statics {
    pub(super) epoch: Epoch,
    pub(super) fence: Fence,
    pub(super) starts: Starts,
    pub(super) snapshot: Option<(Seq, Fence)>,
}

impl Statics {
    pub(super) fn above(&self) -> Seq {
        self.snapshot.map_or(Seq::ZERO, |(upto, _)| upto)
    }
}

/// A row that only compare-and-set changes. Its versions have one order; each replica has seen
/// some of them.
#[derive(Debug)]
pub(super) struct Register<T> {
    versions: Vec<T>,
    seen: [usize; REPLICAS],
}

impl<T: Default> Default for Register<T> {
    fn default() -> Self {
        Self { versions: vec![T::default()], seen: [0; REPLICAS] }
    }
}

impl<T> Register<T> {
    fn latest(&self) -> &T {
        self.versions.last().expect("there is a first version")
    }

    /// What the first phase of a compare-and-set or a SERIAL read does: what is decided is
    /// brought to a quorum before anything new is.
    fn finish(&mut self, skipped: usize) {
        let newest = self.versions.len() - 1;
        for (_, seen) in self.seen.iter_mut().enumerate().filter(|(r, _)| *r != skipped) {
            *seen = newest;
        }
    }
}

pub(super) type Rows = BTreeMap<(Seq, Fence), Entry>;
pub(super) type Part = Rc<Vec<u64>>;
type Parts = BTreeMap<(Seq, Fence), Part>;

#[derive(Debug, Default)]
pub(super) struct Replicas {
    pub(super) rows: [Rows; REPLICAS],
    pub(super) parts: [Parts; REPLICAS],
    pub(super) leases: [Register<Lease>; NODES],
    pub(super) shard: Register<Shard>,
    pub(super) statics: Register<Statics>,
    /// What every entry was decided on.
    pub(super) before: HashMap<u64, u64>,
    acked: BTreeMap<Seq, u64>,
}

/// The outcome of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lwt {
    Applied,
    Refused,
    Unknown,
}

/// Which register of the replicas.
pub(super) type At<T> = fn(&mut Replicas, usize) -> &mut Register<T>;

pub(super) fn lease(replicas: &mut Replicas, node: usize) -> &mut Register<Lease> {
    &mut replicas.leases[node]
}

pub(super) fn shard(replicas: &mut Replicas, _: usize) -> &mut Register<Shard> {
    &mut replicas.shard
}

pub(super) fn statics(replicas: &mut Replicas, _: usize) -> &mut Register<Statics> {
    &mut replicas.statics
}

impl Handle {
    /// Replaces the value if `change` finds it as it wants it. Decided at one moment, which may
    /// lie long after the caller has given up; told to the replicas one by one.
    pub(super) async fn lwt<T: Clone + 'static>(
        &self,
        at: At<T>,
        index: usize,
        change: impl FnOnce(&T) -> Option<T> + 'static,
    ) -> Lwt {
        let slot = self.slot();
        let (answer, late) = (slot.clone(), slot.clone());
        self.with(|world| {
            world.after(world.odds.timeout, move |world| late.set(world, Lwt::Unknown));
            world.send_late(world.odds.lwt_late, move |world| {
                let skipped = usize::try_from(world.below(3)).unwrap();
                let register = at(&mut world.replicas, index);
                register.finish(skipped);
                let Some(new) = change(register.latest()) else {
                    world.send(move |world| answer.set(world, Lwt::Refused));
                    return;
                };
                register.versions.push(new);
                let version = register.versions.len() - 1;
                let acks = Rc::new(std::cell::Cell::new(0));
                for replica in 0..REPLICAS {
                    let (acks, answer) = (Rc::clone(&acks), answer.clone());
                    world.send_late(world.odds.commit_late, move |world| {
                        let seen = &mut at(&mut world.replicas, index).seen[replica];
                        *seen = version.max(*seen);
                        world.send(move |world| {
                            acks.set(acks.get() + 1);
                            if acks.get() == QUORUM {
                                answer.set(world, Lwt::Applied);
                            }
                        });
                    });
                }
            });
        });
        slot.await
    }

    /// A SERIAL read; `None`: no answer.
    pub(super) async fn serial<T: Clone + 'static>(&self, at: At<T>, index: usize) -> Option<T> {
        let slot = self.slot();
        let (answer, late) = (slot.clone(), slot.clone());
        self.with(|world| {
            world.after(world.odds.timeout, move |world| late.set(world, None));
            world.send(move |world| {
                let skipped = usize::try_from(world.below(3)).unwrap();
                let register = at(&mut world.replicas, index);
                register.finish(skipped);
                let value = register.latest().clone();
                world.send(move |world| answer.set(world, Some(value)));
            });
        });
        slot.await
    }

    /// A plain read of a register at QUORUM; `None`: no answer.
    pub(super) async fn plain<T: Clone + 'static>(&self, at: At<T>, index: usize) -> Option<T> {
        let read = move |replicas: &mut Replicas, replica: usize| {
            let register = at(replicas, index);
            let version = register.seen[replica];
            (version, register.versions[version].clone())
        };
        let answers = self.quorum(read).await?;
        answers.into_iter().max_by_key(|(version, _)| *version).map(|(_, value)| value)
    }

    /// Asks every replica, each at its own moment, until a quorum has answered.
    pub(super) async fn quorum<T: 'static>(
        &self,
        ask: impl Fn(&mut Replicas, usize) -> T + Clone + 'static,
    ) -> Option<Vec<T>> {
        let slot = self.slot();
        let late = slot.clone();
        self.with(|world| {
            world.after(world.odds.timeout, move |world| late.set(world, None));
            let answers = Rc::new(std::cell::RefCell::new(Vec::new()));
            for replica in 0..REPLICAS {
                let (ask, answers, slot) = (ask.clone(), Rc::clone(&answers), slot.clone());
                let late = self.lateness(&world.odds, replica);
                world.send_late(late, move |world| {
                    let found = ask(&mut world.replicas, replica);
                    world.send(move |world| {
                        answers.borrow_mut().push(found);
                        if answers.borrow().len() == QUORUM {
                            slot.set(world, Some(answers.take()));
                        }
                    });
                });
            }
        });
        slot.await
    }

    /// Writes at QUORUM; once more if there is no answer. Whether it was confirmed.
    pub(super) async fn write(&self, rows: Vec<((Seq, Fence), Entry)>) -> bool {
        for _ in 0..2 {
            let rows = rows.clone();
            let apply = move |replicas: &mut Replicas, replica: usize| {
                replicas.rows[replica].extend(rows.iter().copied());
            };
            if self.quorum(apply).await.is_some() {
                return true;
            }
        }
        false
    }
}

/// The log that a reader makes of rows and statics.
pub(super) fn log(flaw: Flaw, rows: Rows, statics: &Statics) -> Vec<(Fence, Seq, Entry)> {
    let above = statics.above();
    let rows: HashMap<_, _> = rows.into_iter().map(|(k, entry)| (k, (k.0, entry))).collect();
    if flaw != Flaw::HighestFence {
        let log = effective_log(rows, &statics.starts, above);
        return log.into_iter().map(|(fence, (seq, entry))| (fence, seq, entry)).collect();
    }
    let mut log = Vec::new();
    let mut seq = above.next();
    while let Some((fence, entry)) = (rows.iter())
        .filter(|((of, _), _)| *of == seq)
        .map(|((_, fence), (_, entry))| (*fence, *entry))
        .max_by_key(|(fence, _)| *fence)
    {
        log.push((fence, seq, entry));
        seq = seq.next();
    }
    log
}

impl World {
    fn violation(&mut self, what: String) {
        if self.report.violations.len() < 5 {
            self.report.violations.push(format!("at {}: {what}", self.now));
        }
    }

    /// An entry is committed and its caller is told.
    pub(super) fn ack(&mut self, seq: Seq, id: u64) {
        self.report.acks += 1;
        if let Some(other) = self.replicas.acked.insert(seq, id) {
            self.violation(format!("entry {seq} was {other}, is {id}"));
        }
    }

    /// Whichever two replicas a reader asks, it finds everything that was acknowledged, and
    /// every entry stands on the one that it was decided on.
    pub(super) fn check(&mut self) {
        for left_out in 0..REPLICAS {
            if let Some(what) = self.find_fault(left_out) {
                self.violation(what);
            }
        }
    }

    fn find_fault(&self, left_out: usize) -> Option<String> {
        let now = &self.replicas;
        let statics = now.statics.latest();
        let asked = || (0..REPLICAS).filter(|replica| *replica != left_out);
        let mut all: Vec<u64> = Vec::new();
        if let Some(key) = statics.snapshot {
            let Some(part) = asked().find_map(|replica| now.parts[replica].get(&key)) else {
                return Some(format!("the snapshot {key:?} is gone"));
            };
            all.extend(part.iter());
        }
        let from = (statics.above().next(), Fence::ZERO);
        let rows = asked().flat_map(|replica| now.rows[replica].range(from..));
        let rows = rows.map(|(key, entry)| (*key, *entry)).collect();
        all.extend(log(self.flaw, rows, statics).iter().map(|(_, _, entry)| entry.id));
        for (seq, id) in &now.acked {
            let found = all.get(usize::try_from(seq.0).ok()? - 1);
            if found != Some(id) {
                return Some(format!("entry {seq} was {id}, is {found:?}"));
            }
        }
        let chain = std::iter::once(0).chain(all.iter().copied());
        let broken = chain.zip(&all).find(|(before, id)| now.before[*id] != *before);
        broken.map(|(before, id)| format!("entry {id} was not decided on {before}"))
    }
}
