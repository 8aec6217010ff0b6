//! Nodes, leases, builds, keys, shards, queues.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use troupe_api::admin::{
    Check, NodeList, NodeView, QueuesView, RebalanceSetting, ShardList, ShardState,
};

use super::{Verdict, check, some};
use crate::admin::{Operations, OperatorError, rebalance::setting};

impl Operations {
    pub(super) async fn check_cluster(&self) -> Vec<Check> {
        let (nodes, shards) = tokio::join!(self.operator().nodes(), self.operator().shards());
        let mut checks = Vec::new();
        match &nodes {
            Ok(nodes) => {
                checks.extend([alive(nodes), leases(nodes), builds(nodes), keys(nodes)]);
                let set = setting(self.parts.stores.directory.as_ref()).await;
                checks.push(rebalance(nodes, set));
            }
            Err(error) => checks.push(check("nodes", "Nodes are alive").unknown(error)),
        }
        match &shards {
            Ok(shards) => {
                let list = nodes.as_ref().ok();
                checks.extend([owners(shards, list), epochs(shards), places(shards, list)]);
            }
            Err(error) => {
                checks.push(check("shards", "Every shard has a live owner").unknown(error));
            }
        }
        let living = nodes.iter().flat_map(|list| &list.items).filter(|node| is_up(node));
        let names: Vec<&str> = living.map(|node| node.name.as_str()).collect();
        let asked = names.into_iter().map(|name| self.operator().queues(Some(name)));
        checks.extend(queues(join_all(asked).await));
        checks
    }
}

fn is_up(node: &NodeView) -> bool {
    node.state != "dead"
}

fn alive(nodes: &NodeList) -> Check {
    let check = check("nodes", "Nodes are alive and answer");
    let up: Vec<&NodeView> = nodes.items.iter().filter(|node| is_up(node)).collect();
    let named = |list: Vec<&&NodeView>| list.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
    let silent = named(up.iter().filter(|node| node.unreachable.is_some()).collect());
    let draining = named(up.iter().filter(|node| node.state == "draining").collect());
    if !silent.is_empty() {
        let fix = "Look whether the process runs and whether 8444/udp is open between the nodes.";
        return check.fail(
            format!("{} of {} do not answer: {}", silent.len(), up.len(), some(&silent)),
            fix,
        );
    }
    if !draining.is_empty() {
        let fix = "That is what a restart looks like; end or restart the process once it is empty.";
        return check.warn(format!("draining: {}", some(&draining)), fix);
    }
    check.ok(format!("{} alive", up.len()))
}

fn leases(nodes: &NodeList) -> Check {
    let check = check("leases", "No lease is overdue");
    let held = nodes.items.iter().filter(|node| is_up(node) && node.lease_left_ms.is_some());
    let held: Vec<&NodeView> = held.collect();
    let overdue: Vec<String> = held
        .iter()
        .filter_map(|node| {
            let over = -node.lease_left_ms?;
            (over > 0).then(|| format!("{} by {} s", node.name, over / 1_000))
        })
        .collect();
    if overdue.is_empty() {
        return check.ok(match held.len() {
            0 => "a single node has no lease".to_owned(),
            n => format!("{n} leases, all renewed in time"),
        });
    }
    let fix = "Its process hangs, is gone or does not reach the store; others take its shards up \
               some 12 s after its last renewal.";
    check.fail(format!("overdue: {}", some(&overdue)), fix)
}

fn builds(nodes: &NodeList) -> Check {
    let check = check("builds", "All nodes run one build");
    let mut by_build: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in nodes.items.iter().filter(|node| is_up(node)) {
        by_build.entry(&node.build).or_default().push(&node.name);
    }
    if by_build.len() <= 1 {
        return check.ok(by_build.keys().next().copied().unwrap_or("no build").to_owned());
    }
    let list = by_build.iter().map(|(build, on)| format!("{build} on {}", some(on)));
    let fix = "Fine during a rolling upgrade; otherwise bring all nodes to one build.";
    check.warn(list.collect::<Vec<_>>().join("; "), fix)
}

fn keys(nodes: &NodeList) -> Check {
    let check = check("keys", "All nodes have the same keys");
    let up = nodes.items.iter().filter(|node| is_up(node) && node.unreachable.is_none());
    let known: Vec<(&NodeView, BTreeSet<&String>)> = up
        .filter(|node| !node.key_ids.is_empty())
        .map(|node| (node, node.key_ids.iter().collect()))
        .collect();
    let Some((_, first)) = known.first() else { return check.unknown("no node told its key ids") };
    let other: Vec<&str> =
        known.iter().filter(|(_, ids)| ids != first).map(|(node, _)| node.name.as_str()).collect();
    if other.is_empty() {
        return check.ok(format!("{} key ids on {} node(s)", first.len(), known.len()));
    }
    let fix = "Give every node the same key files and restart it: with other keys it refuses \
               tokens of the others and cannot open their sealed secrets.";
    check.fail(format!("other keys on {}", some(&other)), fix)
}

fn owners(shards: &ShardList, nodes: Option<&NodeList>) -> Check {
    let check = check("shards", "Every shard has a live owner").of("I6");
    let up: Option<BTreeSet<&str>> =
        nodes.map(|list| list.items.iter().filter(|n| is_up(n)).map(|n| n.name.as_str()).collect());
    let lost = shards.items.iter().filter(|shard| {
        let is_owned = matches!(shard.state, ShardState::Owned | ShardState::Moving);
        let lives = match (&up, &shard.owner) {
            (Some(up), Some(owner)) => up.contains(owner.as_str()),
            (None, owner) => owner.is_some(),
            (Some(_), None) => false,
        };
        !(is_owned && lives)
    });
    let lost: Vec<u16> = lost.map(|shard| shard.shard).collect();
    let moving = shards.items.iter().filter(|s| s.state == ShardState::Moving).count();
    if lost.is_empty() {
        return check.ok(format!("{} shards owned, {moving} of them moving", shards.items.len()));
    }
    let fix = "After a crash they are claimed within 14 s. If this stays: is there a live node \
               with the role (entities below 1024, knowledge from there on), and does it reach \
               the store?";
    check.fail(format!("{} without a live owner: {}", lost.len(), some(&lost)), fix)
}

fn epochs(shards: &ShardList) -> Check {
    let check = check("epochs", "Every owned shard has an epoch").of("I1");
    let owned: Vec<_> = shards.items.iter().filter(|shard| shard.owner.is_some()).collect();
    let without: Vec<u16> = owned.iter().filter(|s| s.epoch == 0).map(|s| s.shard).collect();
    let highest = owned.iter().map(|shard| shard.epoch).max().unwrap_or(0);
    if without.is_empty() {
        return check.ok(format!("{} epochs, the highest is {highest}", owned.len()));
    }
    let fix = "An owner without an epoch fences nobody: restart its node, and report this.";
    check.fail(format!("no epoch: {}", some(&without)), fix)
}

/// Each node reads the setting by itself; one that does not keep to it moves shards, or holds them.
fn rebalance(nodes: &NodeList, set: Result<Option<RebalanceSetting>, String>) -> Check {
    let check = check("rebalance", "All nodes keep to the setting of rebalancing");
    let paused = match set {
        Ok(set) => set.is_some_and(|setting| setting.paused),
        Err(why) => return check.unknown(why),
    };
    let up = nodes.items.iter().filter(|node| is_up(node));
    let told = up.filter_map(|node| Some((node, node.rebalance.as_deref()?)));
    let told: Vec<(&NodeView, &str)> = told.collect();
    let off = told.iter().filter(|(_, word)| (*word == "paused") != paused);
    let off: Vec<&str> = off.map(|(node, _)| node.name.as_str()).collect();
    let set = if paused { "paused" } else { "on" };
    if off.is_empty() {
        return check.ok(format!("{set} on {} node(s)", told.len()));
    }
    let fix = "They read it every 2 s: look again. If it stays, do they reach the store?";
    check.warn(format!("{set} for the cluster, and not so on {}", some(&off)), fix)
}

fn places(shards: &ShardList, nodes: Option<&NodeList>) -> Check {
    let check = check("placement", "Shards are where placement would have them");
    let astray = shards.items.iter().filter(|shard| {
        shard.preferred.is_some() && shard.owner.is_some() && shard.preferred != shard.owner
    });
    let astray: Vec<u16> = astray.map(|shard| shard.shard).collect();
    let rebalance = nodes.map_or("on", |list| list.rebalance.as_str());
    if rebalance == "slow" && !astray.is_empty() {
        return check.warn(
            format!("{} are not: {}", astray.len(), some(&astray)),
            "They move by themselves once the store is quicker: its compare-and-sets are slow.",
        );
    }
    let paused = rebalance == "paused";
    match (astray.len(), paused) {
        (0, false) => check.ok("all of them"),
        (0, true) => check.warn(
            "all of them, but rebalancing is paused",
            "troupe admin rebalance resume, once what it was paused for is over.",
        ),
        (n, true) => check.warn(
            format!("{n} are not, and rebalancing is paused"),
            "troupe admin rebalance resume, once what it was paused for is over.",
        ),
        (n, false) => check.warn(
            format!("{n} are not: {}", some(&astray)),
            "They move by themselves once things were quiet for 10 s; or: troupe admin rebalance now.",
        ),
    }
}

fn queues(asked: Vec<Result<QueuesView, OperatorError>>) -> Vec<Check> {
    let crashes = check("crashes", "No entity rests after a crash");
    let full = check("queues", "No queue is about to be full").of("I7");
    let found: Vec<QueuesView> = asked.iter().filter_map(|q| q.as_ref().ok().cloned()).collect();
    if let Some(error) = asked.iter().find_map(|queues| queues.as_ref().err()) {
        return vec![crashes.unknown(error), full.unknown(error)];
    }
    let kinds = || found.iter().flat_map(|queues| &queues.kinds);
    let resting: u64 = kinds().map(|kind| kind.resting).sum();
    let restarts: u64 = kinds().map(|kind| kind.restarts).sum();
    let overloaded: u64 = kinds().map(|kind| kind.overloaded).sum();
    let live: u64 = kinds().map(|kind| kind.live).sum();
    let entities = || found.iter().flat_map(|queues| &queues.deepest);
    let failing: Vec<String> = entities()
        .filter(|entity| entity.state == "resting")
        .map(|entity| {
            format!("{} ({})", entity.entity, entity.last_error.as_deref().unwrap_or("?"))
        })
        .collect();
    let crashes = if resting == 0 {
        crashes.ok(format!("{live} live, {restarts} restarts since the nodes started"))
    } else {
        let fix = "The reason says why; after a fix: troupe admin actors --restart ENTITY. Its \
                   journal is safe, and messages to it wait or are told NotDelivered.";
        crashes.warn(format!("{resting} rest: {}", some(&failing)), fix)
    };
    let limit = found.iter().map(|queues| queues.limit).max().unwrap_or(0);
    let deep: Vec<String> = entities()
        .filter(|entity| entity.unanswered * 5 >= limit * 4 && limit > 0)
        .map(|entity| format!("{} with {}", entity.entity, entity.unanswered))
        .collect();
    let full = if deep.is_empty() {
        let deepest = entities().map(|entity| entity.unanswered).max().unwrap_or(0);
        full.ok(format!(
            "the deepest holds {deepest} of {limit}; {overloaded} messages were refused so far"
        ))
    } else {
        let fix = "Its senders are told Overloaded and come back. Look what it does: troupe admin \
                   why TASK, troupe admin actors.";
        full.warn(format!("nearly full: {}", some(&deep)), fix)
    };
    vec![crashes, full]
}

#[cfg(test)]
mod tests {
    use troupe_api::admin::{CheckState, EntityView, KindQueues, ShardView};

    use super::*;

    fn node(name: &str) -> NodeView {
        NodeView {
            name: name.to_owned(),
            state: "alive".to_owned(),
            build: "1".to_owned(),
            key_ids: vec!["a".to_owned(), "b".to_owned()],
            rebalance: Some("on".to_owned()),
            lease_left_ms: Some(4_000),
            ..NodeView::default()
        }
    }

    fn list(items: Vec<NodeView>) -> NodeList {
        NodeList { items, rebalance: "on".to_owned(), rebalance_setting: None }
    }

    fn shard(number: u16, owner: Option<&str>) -> ShardView {
        let state = if owner.is_some() { ShardState::Owned } else { ShardState::Unowned };
        let owner = owner.map(str::to_owned);
        ShardView {
            shard: number,
            preferred: owner.clone(),
            owner,
            epoch: 3,
            state,
            ..ShardView::default()
        }
    }

    fn shards(items: Vec<ShardView>) -> ShardList {
        ShardList { items, ..ShardList::default() }
    }

    #[test]
    fn nodes_that_are_well_are_well() {
        let all = list(vec![node("a"), node("b"), NodeView { state: "dead".into(), ..node("c") }]);
        for check in
            [alive(&all), leases(&all), builds(&all), keys(&all), rebalance(&all, Ok(None))]
        {
            assert_eq!(check.state, CheckState::Ok, "{check:?}");
            assert!(!check.found.is_empty() && check.fix.is_none());
        }
    }

    #[test]
    fn each_trouble_of_nodes_is_named_with_a_way_out() {
        let bad = |change: fn(&mut NodeView)| {
            let mut other = node("b");
            change(&mut other);
            list(vec![node("a"), other])
        };
        let found = [
            (alive(&bad(|n| n.unreachable = Some("late".into()))), CheckState::Fail),
            (alive(&bad(|n| n.state = "draining".into())), CheckState::Warn),
            (leases(&bad(|n| n.lease_left_ms = Some(-3_000))), CheckState::Fail),
            (builds(&bad(|n| n.build = "2".into())), CheckState::Warn),
            (keys(&bad(|n| n.key_ids = vec!["x".into()])), CheckState::Fail),
            (rebalance(&bad(|n| n.rebalance = Some("paused".into())), Ok(None)), CheckState::Warn),
        ];
        for (check, state) in found {
            assert_eq!(check.state, state, "{check:?}");
            assert!(check.found.contains('b') && check.fix.is_some(), "{check:?}");
        }
        let unread = rebalance(&list(vec![node("a")]), Err("away".into()));
        assert_ne!(unread.state, CheckState::Ok, "nobody knows: {unread:?}");
    }

    #[test]
    fn a_shard_without_a_live_owner_fails() {
        let nodes = list(vec![node("a"), NodeView { state: "dead".into(), ..node("b") }]);
        let well = shards(vec![shard(0, Some("a")), shard(1, Some("a"))]);
        assert_eq!(owners(&well, Some(&nodes)).state, CheckState::Ok);
        for lost in [shard(1, None), shard(1, Some("b"))] {
            let check = owners(&shards(vec![shard(0, Some("a")), lost]), Some(&nodes));
            assert_eq!(check.state, CheckState::Fail);
            assert!(check.found.contains("1 without a live owner: 1"), "{check:?}");
        }
        let zero = ShardView { epoch: 0, ..shard(7, Some("a")) };
        assert_eq!(epochs(&shards(vec![zero])).state, CheckState::Fail);
        let astray = ShardView { preferred: Some("c".into()), ..shard(7, Some("a")) };
        assert_eq!(places(&shards(vec![astray]), Some(&nodes)).state, CheckState::Warn);
    }

    #[test]
    fn crashes_and_full_queues_are_told() {
        let queues_of = |resting, unanswered| QueuesView {
            node: "a".into(),
            kinds: vec![KindQueues { kind: "task".into(), resting, ..KindQueues::default() }],
            deepest: vec![EntityView {
                entity: "task/x".into(),
                state: if resting > 0 { "resting" } else { "live" }.into(),
                unanswered,
                last_error: Some("scripted".into()),
                ..EntityView::default()
            }],
            limit: 256,
        };
        let states = |resting, unanswered| {
            let checks = queues(vec![Ok(queues_of(resting, unanswered))]);
            checks.iter().map(|check| check.state).collect::<Vec<_>>()
        };
        assert_eq!(states(0, 0), [CheckState::Ok, CheckState::Ok]);
        assert_eq!(states(1, 0), [CheckState::Warn, CheckState::Ok]);
        assert_eq!(states(0, 250), [CheckState::Ok, CheckState::Warn]);
        let gone = Err(OperatorError::NoSuchNode("b".into()));
        assert!(queues(vec![gone]).iter().all(|check| check.found.contains("could not")));
    }
}
