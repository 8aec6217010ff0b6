//! Weighted rendezvous hashing: which node should own a shard. Advice, never a decision.
//!
//! Every node gets a score for a shard, and the highest score wins:
//!
//! ```text
//! score(node, shard) = -weight(node) / ln(h(node, shard))      with h evenly spread in (0, 1)
//! ```
//! So a node wins a share of the shards in proportion to its weight, and a node that joins or
//! leaves moves only the shards that it wins or owned. The idea of the highest random weight is
//! Thaler's and Ravishankar's (1998); the logarithmic form for weights is the method of
//! Schindelhauer and Schomaker (2005), in the shape in which Resch wrote it down (2015).
//!
//! All nodes must agree, and the logarithms of two machines may differ in the last bit. So the
//! score is never computed in floating point: `-ln h` is `L * ln 2` with `L = 64 - log2(x)` for
//! the 64 hash bits `x`, in fixed point with 32 binary places, and `w_a / L_a > w_b / L_b` is
//! compared as `w_a * L_b > w_b * L_a`. Equal scores go to the lesser name.

use std::cmp::Ordering;

use troupe_types::{NodeName, NodeRole, Roles, ShardId};

/// A node that may own shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name; the name alone decides its hash.
    pub node: NodeName,
    /// What it hosts.
    pub roles: Roles,
    /// Its share relative to others; 0 counts as 1.
    pub weight: u32,
}

/// The node that should own the shard; `None` if no candidate has the role for it.
#[must_use]
pub fn preferred(shard: ShardId, candidates: &[Candidate]) -> Option<&NodeName> {
    let scored = scores(shard, candidates);
    scored.max_by(|a, b| compare(a, b)).map(|score| score.node)
}

/// The nodes that may own the shard, best first.
#[must_use]
pub fn ranked(shard: ShardId, candidates: &[Candidate]) -> Vec<&NodeName> {
    let mut scored: Vec<_> = scores(shard, candidates).collect();
    scored.sort_by(|a, b| compare(b, a));
    scored.into_iter().map(|score| score.node).collect()
}

struct Score<'a> {
    node: &'a NodeName,
    weight: u32,
    /// `-log2(h)` with 32 binary places, never 0.
    log: u64,
}

fn scores(shard: ShardId, candidates: &[Candidate]) -> impl Iterator<Item = Score<'_>> {
    let role = NodeRole::of_shard(shard);
    let may = candidates.iter().filter(move |candidate| candidate.roles.has(role));
    may.map(move |Candidate { node, weight, .. }| Score {
        node,
        weight: (*weight).max(1),
        log: negative_log2(hash(node, shard)),
    })
}

fn compare(a: &Score<'_>, b: &Score<'_>) -> Ordering {
    let left = u128::from(a.weight) * u128::from(b.log);
    let right = u128::from(b.weight) * u128::from(a.log);
    left.cmp(&right).then_with(|| b.node.cmp(a.node))
}

/// FNV-1a over the name, mixed with the shard; the finaliser is that of SplitMix64.
fn hash(node: &NodeName, shard: ShardId) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in node.as_str().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let step = u64::from(shard.0).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mix(mix(hash).wrapping_add(step))
}

pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `64 - log2(x)` with 32 binary places, at least the smallest step; 0 counts as 1.
fn negative_log2(x: u64) -> u64 {
    let x = x.max(1);
    let whole = 63 - u64::from(x.leading_zeros());
    // x / 2^whole lies in [1, 2); each squaring brings out one more binary place.
    let mut mantissa = x << x.leading_zeros();
    let mut log = whole << 32;
    for place in (0..32).rev() {
        let square = u128::from(mantissa) * u128::from(mantissa);
        // 2^126 stands for 1; from 2^127 on the square is at least 2.
        if square >> 127 == 1 {
            log |= 1 << place;
            mantissa = u64::try_from(square >> 64).unwrap_or(u64::MAX);
        } else {
            mantissa = u64::try_from(square >> 63).unwrap_or(u64::MAX);
        }
    }
    ((64 << 32) - log).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use troupe_types::{SHARDS_GENERAL, SHARDS_KNOWLEDGE};

    use super::*;

    fn node(name: &str, weight: u32) -> Candidate {
        Candidate { node: name.into(), roles: Roles::ALL, weight }
    }

    fn shares(candidates: &[Candidate]) -> BTreeMap<String, u32> {
        let mut shares = BTreeMap::new();
        for shard in 0..SHARDS_GENERAL {
            let owner = preferred(ShardId(shard), candidates).unwrap();
            *shares.entry(owner.to_string()).or_default() += 1;
        }
        shares
    }

    #[test]
    fn the_logarithm_is_one() {
        for x in [1_u64, 2, 3, 1 << 31, (1 << 63) - 1, 1 << 63, u64::MAX, 0x1234_5678_9abc_def0] {
            let fixed = negative_log2(x) as f64 / f64::from(2u32).powi(32);
            let float = 64.0 - (x as f64).log2();
            assert!((fixed - float).abs() < 1e-8, "{x}: {fixed} and {float}");
        }
    }

    /// Nodes of one cluster must agree across builds; a change here moves every shard.
    #[test]
    fn owners_are_pinned() {
        let nodes = [node("node-1", 100), node("node-2", 100), node("node-3", 50)];
        let owners: Vec<_> = (0..16)
            .map(|shard| preferred(ShardId(shard * 80), &nodes).unwrap().as_str()[5..].to_owned())
            .collect();
        assert_eq!(owners.concat(), PINNED);
    }

    const PINNED: &str = "1222122131121112";

    #[test]
    fn equal_nodes_share_alike_and_weights_count() {
        let shares = shares(&[node("a", 100), node("b", 100), node("c", 200), node("d", 100)]);
        assert!((150..260).contains(&shares["a"]), "{shares:?}");
        assert!((150..260).contains(&shares["b"]), "{shares:?}");
        assert!((340..480).contains(&shares["c"]), "{shares:?}");
        assert!((150..260).contains(&shares["d"]), "{shares:?}");
    }

    #[test]
    fn roles_decide_who_may_own_a_shard() {
        let only =
            |name: &str, role| Candidate { roles: Roles::NONE.with(role), ..node(name, 100) };
        let nodes = [
            only("entities", NodeRole::Entities),
            only("knowledge", NodeRole::Knowledge),
            only("gateway", NodeRole::Gateway),
        ];
        for shard in 0..SHARDS_GENERAL + SHARDS_KNOWLEDGE {
            let owner = preferred(ShardId(shard), &nodes).unwrap().as_str();
            assert_eq!(owner == "knowledge", shard >= SHARDS_GENERAL);
            assert_ne!(owner, "gateway");
        }
        assert_eq!(preferred(ShardId(1024), &nodes[..1]), None);
    }

    proptest! {
        /// Only the shards that the newcomer wins change hands, and they go to it.
        #[test]
        fn a_newcomer_moves_only_what_it_gets(
            names in prop::collection::btree_set("[a-z0-9-]{1,12}", 2..8),
            weights in prop::collection::vec(1..400u32, 8),
        ) {
            let all: Vec<_> = names.iter().zip(&weights).map(|(n, w)| node(n, *w)).collect();
            let (newcomer, before) = all.split_last().unwrap();
            for shard in (0..SHARDS_GENERAL).step_by(7).map(ShardId) {
                let (old, new) = (preferred(shard, before), preferred(shard, &all));
                prop_assert!(old == new || new == Some(&newcomer.node));
                prop_assert_eq!(ranked(shard, &all).first().copied(), new);
            }
        }

        /// The order in which a node happens to know the others changes nothing.
        #[test]
        fn the_order_of_candidates_does_not_matter(shard in 0..1280u16, turn in 0..5usize) {
            let mut nodes: Vec<_> = ["a", "b", "c", "d", "e"].map(|n| node(n, 100)).into();
            let before = preferred(ShardId(shard), &nodes).cloned();
            nodes.rotate_left(turn);
            prop_assert_eq!(preferred(ShardId(shard), &nodes).cloned(), before);
        }
    }
}
