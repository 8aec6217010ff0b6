//! One table in three copies.

use std::{
    collections::{BTreeMap, btree_map},
    ops::RangeBounds,
};

use super::{
    QUORUM, REPLICAS, TRIES_MAX,
    dice::{Dice, Throw},
};

/// A value with its write time; `None` is a deletion. The latest time wins.
#[derive(Clone, Debug)]
pub(crate) struct Cell<V> {
    pub(crate) stamp: u64,
    pub(crate) value: Option<V>,
}

type Batch<K, V> = Vec<(K, Cell<V>)>;

/// Why a quorum was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// Every replica refused every try: nothing was written.
    Refused,
    /// Some replica said nothing.
    Unknown,
}

/// Which replicas have confirmed a batch, and whether any may have it unconfirmed.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    acked: [bool; REPLICAS],
    tries: usize,
    doubt: bool,
}

pub(crate) struct Replicas<K, V> {
    copies: [BTreeMap<K, Cell<V>>; REPLICAS],
    late: [Vec<Batch<K, V>>; REPLICAS],
}

impl<K: Ord + Clone, V: Clone> Replicas<K, V> {
    pub(crate) fn new() -> Self {
        Self { copies: Default::default(), late: Default::default() }
    }

    /// One try of a batch, which each replica takes whole or not at all. `None`: try again.
    pub(crate) fn attempt(
        &mut self,
        dice: &mut Dice,
        batch: &Batch<K, V>,
        progress: &mut Progress,
    ) -> Option<Result<(), Missed>> {
        self.deliver_late(dice);
        progress.tries += 1;
        for replica in 0..REPLICAS {
            match dice.write(replica) {
                Throw::Applied => {
                    apply(&mut self.copies[replica], batch);
                    progress.acked[replica] = true;
                }
                Throw::Silent => {
                    apply(&mut self.copies[replica], batch);
                    progress.doubt = true;
                }
                Throw::Late => {
                    self.late[replica].push(batch.clone());
                    progress.doubt = true;
                }
                Throw::Lost => progress.doubt = true,
                Throw::Refused => {}
            }
        }
        let acked = progress.acked.iter().filter(|acked| **acked).count();
        if acked >= QUORUM {
            return Some(Ok(()));
        }
        let nowhere = acked == 0 && !progress.doubt;
        (progress.tries >= TRIES_MAX).then_some(Err(if nowhere {
            Missed::Refused
        } else {
            Missed::Unknown
        }))
    }

    /// All tries in one go, for tables where nothing needs to come in between.
    pub(crate) fn write(&mut self, dice: &mut Dice, batch: &Batch<K, V>) -> Result<(), Missed> {
        let mut progress = Progress::default();
        loop {
            if let Some(outcome) = self.attempt(dice, batch, &mut progress) {
                return outcome;
            }
        }
    }

    /// What a quorum knows; `None` without a quorum.
    pub(crate) fn read(
        &mut self,
        dice: &mut Dice,
        range: impl RangeBounds<K> + Clone,
    ) -> Option<BTreeMap<K, V>> {
        self.deliver_late(dice);
        let mut seen: BTreeMap<K, &Cell<V>> = BTreeMap::new();
        for replica in dice.readers()? {
            for (key, cell) in self.copies[replica].range(range.clone()) {
                match seen.entry(key.clone()) {
                    btree_map::Entry::Vacant(slot) => _ = slot.insert(cell),
                    btree_map::Entry::Occupied(mut slot) => {
                        if cell.stamp > slot.get().stamp {
                            slot.insert(cell);
                        }
                    }
                }
            }
        }
        let live = |(key, cell): (K, &Cell<V>)| Some((key, cell.value.clone()?));
        Some(seen.into_iter().filter_map(live).collect())
    }

    /// Removes rows for good from the replicas that are up. What is late may bring them back.
    pub(crate) fn purge(&mut self, dice: &Dice, gone: impl RangeBounds<K> + Clone) {
        for (copy, _) in self.copies.iter_mut().zip(dice.down).filter(|(_, down)| !*down) {
            let keys: Vec<K> = copy.range(gone.clone()).map(|(key, _)| key.clone()).collect();
            for key in keys {
                copy.remove(&key);
            }
        }
    }

    fn deliver_late(&mut self, dice: &mut Dice) {
        for replica in 0..REPLICAS {
            while !dice.down[replica] && !self.late[replica].is_empty() && dice.chance(0.3) {
                let batch = self.late[replica].swap_remove(dice.below(self.late[replica].len()));
                apply(&mut self.copies[replica], &batch);
            }
        }
    }
}

fn apply<K: Ord + Clone, V: Clone>(copy: &mut BTreeMap<K, Cell<V>>, batch: &Batch<K, V>) {
    for (key, cell) in batch {
        match copy.entry(key.clone()) {
            btree_map::Entry::Vacant(slot) => _ = slot.insert(cell.clone()),
            btree_map::Entry::Occupied(mut slot) => {
                if cell.stamp > slot.get().stamp {
                    slot.insert(cell.clone());
                }
            }
        }
    }
}
