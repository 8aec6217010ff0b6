//! What an administrator hears who wants a shard moved.

use troupe_placement::MoveRefusal;
use troupe_types::NodeRole;

use super::*;

/// Owns shards 0 and 1 beside nodes that are well, dead, on their way out and without the role.
fn owner_among_many() -> Bench {
    let timings = Timings { moves_max: 1, claim_jitter: Duration::ZERO, ..Timings::default() };
    let mut bench = Bench::with("node-a", timings, [ShardId(0), ShardId(1)]);
    let roles = Roles::NONE.with(NodeRole::Gateway);
    let others = vec![
        lease("node-b", 1, 1, NodeState::Alive),
        lease("node-c", 1, 1, NodeState::Dead),
        lease("node-d", 1, 1, NodeState::Draining),
        LeaseRow { roles, ..lease("node-e", 1, 1, NodeState::Alive) },
    ];
    bench.join(others, Vec::new());
    // At once what the hash gives this node, and the rest when node-b does not take it.
    for ms in [0, 3_300] {
        bench.step(Input::Tick, ms);
        while bench.asked.iter().any(|(_, op)| is_claim(op)) {
            bench.answer(is_claim, Answer::Applied, ms);
        }
    }
    bench.answer(is_renew, Answer::Applied, 3_300);
    bench
}

fn order(bench: &mut Bench, shard: u16, to: &str, ms: u64) -> MoveAnswer {
    bench.step(Input::MoveShard { shard: ShardId(shard), to: to.into() }, ms);
    let answers = std::mem::take(&mut bench.answers);
    let [(answered, answer)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(*answered, ShardId(shard));
    answer.clone()
}

#[test]
fn an_order_says_what_became_of_it() {
    use MoveAnswer::{AlreadyThere, Begun, Refused, UnderWay};
    let mut bench = owner_among_many();
    assert_eq!(order(&mut bench, 0, "node-a", 3_400), AlreadyThere);
    let whys = [
        ("node-b", MoveRefusal::SilentTarget),
        ("node-c", MoveRefusal::DeadTarget),
        ("node-d", MoveRefusal::DrainingTarget),
        ("node-e", MoveRefusal::UnfitTarget),
        ("node-x", MoveRefusal::UnknownTarget),
    ];
    for (to, why) in whys {
        assert_eq!(order(&mut bench, 0, to, 3_400), Refused(why));
    }
    assert_eq!(order(&mut bench, 7, "node-b", 3_400), Refused(MoveRefusal::NotOwner));
    let sends = |effect: &Effect| matches!(effect, Effect::Send { .. });
    assert!(!bench.effects().iter().any(sends), "nobody was asked to take anything");

    bench.hear("node-b", 3_400);
    assert_eq!(order(&mut bench, 0, "node-b", 3_400), Begun);
    assert_eq!(bench.node.moving_to(ShardId(0)), Some(&"node-b".into()));
    assert_eq!(order(&mut bench, 0, "node-b", 3_500), UnderWay);
    let elsewhere = MoveRefusal::Elsewhere("node-b".into());
    assert_eq!(order(&mut bench, 0, "node-e", 3_500), Refused(elsewhere));
    let full = MoveRefusal::Full { under_way: 1 };
    assert_eq!(order(&mut bench, 1, "node-b", 3_500), Refused(full));
    assert_eq!(order(&mut bench, 1, "node-b", 60_000), Refused(MoveRefusal::NoLease));
}

#[test]
fn orders_of_one_step_are_answered_in_their_order() {
    let mut bench = owner_among_many();
    bench.hear("node-b", 3_400);
    let order = |to: &str| Input::MoveShard { shard: SHARD, to: to.into() };
    let effects =
        bench.node.step_all([order("node-b"), order("node-b"), order("node-c")], at(3_400));
    let answers: Vec<_> = effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::MoveAnswered { answer, .. } => Some(answer),
            _ => None,
        })
        .collect();
    let elsewhere = MoveAnswer::Refused(MoveRefusal::Elsewhere("node-b".into()));
    assert_eq!(answers, [MoveAnswer::Begun, MoveAnswer::UnderWay, elsewhere]);
}
