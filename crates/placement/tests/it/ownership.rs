//! Four nodes, eight shards, one store, and everything that can go wrong between them.
//!
//! The nodes run the crate's own machines; the shell around them is a simulation that a seed
//! decides: late, lost and doubled messages, compare-and-sets whose answer is lost or that are
//! done half a minute later, frozen processes, clocks that run fast or slow, crashes, cuts, an
//! unreachable or slow store, planned moves and rolling restarts.
//!
//! `cargo xtask test ownership --long` runs 20,000 seeds, `TROUPE_MODEL_SEED=n` replays one.

mod faults;
mod host;
mod sim;
mod store;

use std::collections::BTreeMap;

use self::sim::{Flaw, Report, run};

fn number(name: &str) -> Option<u64> {
    let value = std::env::var_os(name)?;
    Some(value.to_str().and_then(|v| v.parse().ok()).expect("a number of seeds, or a seed"))
}

/// Seeds that have found something. 1581: the target of a hand-off waited for a source that was
/// gone, and nobody else was there to claim the shard.
const FOUND: [u64; 1] = [1_581];

fn seeds() -> Vec<u64> {
    match number("TROUPE_MODEL_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("TROUPE_MODEL_SEEDS").unwrap_or(200)).chain(FOUND).collect(),
    }
}

/// I1, I2, I3 and I4 hold whatever happens, and I6 half a minute after the last fault.
#[test]
fn nothing_is_committed_under_two_owners() {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds() {
        let Report { violations, counts } = run(seed, Flaw::None);
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
        for (what, count) in counts {
            *seen.entry(what).or_default() += count;
        }
    }
    println!("{seen:#?}");
    if number("TROUPE_MODEL_SEED").is_none() {
        // A model in which nothing happens shows nothing.
        for what in ["acks", "claims", "moves", "bumps", "fences", "kills", "late"] {
            assert!(seen.get(what).copied().unwrap_or(0) > 0, "no {what} in {seen:?}");
        }
    }
}

/// The rule is needed: some seed below the bound breaks without it. All of them are counted
/// when a number of seeds is asked for.
fn breaks(flaw: Flaw, bound: u64) {
    let (mut first, mut count) = (None, 0);
    let asked = number("TROUPE_MODEL_SEEDS");
    let bound = asked.unwrap_or(bound);
    for seed in 0..bound {
        if let Some(what) = run(seed, flaw).violations.first() {
            if first.is_none() {
                println!("{flaw:?}, seed {seed}: {what}");
                first = Some(seed);
            }
            count += 1;
            if asked.is_none() {
                break;
            }
        }
    }
    if asked.is_some() {
        println!("{flaw:?}: {count} of {bound}");
    }
    assert!(first.is_some(), "{flaw:?} harms nobody in {bound} seeds");
}

/// Entries that are acknowledged because the own clock says that the lease holds, without a
/// look at the row after the write, in rows without the tag of their writer: 97 % of seeds.
#[test]
fn without_the_fence_two_owners_commit() {
    breaks(Flaw::NoFence, 100);
}

/// A move times out, the row still shows the old epoch, and the node goes on under it:
/// 3 % of seeds.
#[test]
fn going_back_after_a_move_was_sent_makes_two_owners() {
    breaks(Flaw::GoBack, 400);
}
