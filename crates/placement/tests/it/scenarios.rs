//! Scenarios of one or two nodes, answer by answer.

mod orders;

use std::time::Duration;

use troupe_placement::{
    Answer, AttemptId, Effect, FenceReason, HandoffId, Identity, Input, MoveAnswer, Node, Owner,
    PeerMessage, StoreOp, Timings,
};
use troupe_types::{
    Epoch, Incarnation, LeaseRow, MonoTime, NodeName, NodeState, Roles, ShardId, ShardRow, Uuid,
};

const SHARD: ShardId = ShardId(0);

fn at(ms: u64) -> MonoTime {
    MonoTime::ZERO.plus(Duration::from_millis(ms))
}

fn lease(node: &str, inc: u64, seq: u64, state: NodeState) -> LeaseRow {
    LeaseRow {
        node: node.into(),
        boot_id: Uuid::from_u128(99),
        inc: Incarnation(inc),
        seq,
        state,
        addr: String::new(),
        build: String::new(),
        roles: Roles::ALL,
        weight: 100,
    }
}

fn row(owner: &str, inc: u64, epoch: u64) -> ShardRow {
    let (owner, owner_inc) = (owner.into(), Incarnation(inc));
    ShardRow { shard: SHARD, owner, owner_inc, epoch: Epoch(epoch) }
}

/// A node under test with what it has asked of the store and not heard of.
struct Bench {
    node: Node,
    asked: Vec<(AttemptId, StoreOp)>,
    effects: Vec<Effect>,
    /// What became of orders to move shards.
    answers: Vec<(ShardId, MoveAnswer)>,
}

impl Bench {
    fn new(name: &str) -> Self {
        Self::with(name, Timings::default(), [SHARD])
    }

    fn with(name: &str, timings: Timings, shards: impl IntoIterator<Item = ShardId>) -> Self {
        let me = Identity {
            node: name.into(),
            addr: String::new(),
            build: String::new(),
            roles: Roles::ALL,
            weight: 100,
        };
        let node = Node::new(me, timings, shards, 1);
        Self { node, asked: Vec::new(), effects: Vec::new(), answers: Vec::new() }
    }

    fn step(&mut self, input: Input, ms: u64) -> &mut Self {
        for effect in self.node.step(input, at(ms)) {
            match effect {
                Effect::Store { attempt, op } => self.asked.push((attempt, op)),
                Effect::Heartbeat { .. } => {}
                Effect::MoveAnswered { shard, answer } => self.answers.push((shard, answer)),
                effect => self.effects.push(effect),
            }
        }
        self
    }

    /// Takes the one question that fits.
    fn question(&mut self, wanted: impl Fn(&StoreOp) -> bool) -> (AttemptId, StoreOp) {
        let place = self.asked.iter().position(|(_, op)| wanted(op));
        let place = place.unwrap_or_else(|| panic!("not asked: {:?}", self.asked));
        self.asked.remove(place)
    }

    fn answer(&mut self, wanted: impl Fn(&StoreOp) -> bool, answer: Answer, ms: u64) -> StoreOp {
        let (attempt, op) = self.question(wanted);
        self.step(Input::Reply { attempt, answer }, ms);
        op
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Joined at 0 ms as incarnation 1; these are the others, and the row of the shard.
    fn joined(name: &str, others: Vec<LeaseRow>, shard: Option<ShardRow>) -> Self {
        let mut bench = Self::new(name);
        bench.join(others, shard.into_iter().collect());
        bench
    }

    fn join(&mut self, others: Vec<LeaseRow>, shards: Vec<ShardRow>) {
        self.step(Input::Start { boot_id: Uuid::from_u128(1) }, 0);
        self.answer(is_read_lease, Answer::Lease(None), 0);
        self.answer(|op| matches!(op, StoreOp::Join { .. }), Answer::Applied, 0);
        self.answer(|op| *op == StoreOp::ListLeases, Answer::Leases(others), 0);
        self.answer(|op| *op == StoreOp::ListShards, Answer::Shards(shards), 0);
    }

    /// Owns the shard under epoch 1; node-b works beside it.
    fn owner() -> Self {
        let others = vec![lease("node-b", 1, 1, NodeState::Alive)];
        let mut bench = Self::joined("node-a", others, None);
        bench.step(Input::Tick, 3_300);
        bench.answer(is_claim, Answer::Applied, 3_300);
        bench.answer(is_renew, Answer::Applied, 3_300);
        assert_eq!(bench.node.owner(SHARD, at(3_300)), Owner::Here(Epoch(1)));
        bench.effects();
        bench.hear("node-b", 3_300);
        bench
    }

    fn hear(&mut self, peer: &str, ms: u64) {
        let message = PeerMessage::Heartbeat { inc: Incarnation(1), seq: 1 };
        self.step(Input::Message { from: peer.into(), message }, ms);
    }

    fn told(&mut self, from: &str, message: PeerMessage, ms: u64) {
        self.step(Input::Message { from: from.into(), message }, ms);
    }
}

fn is_read_lease(op: &StoreOp) -> bool {
    matches!(op, StoreOp::ReadLease { .. })
}

fn is_claim(op: &StoreOp) -> bool {
    matches!(op, StoreOp::Claim { .. })
}

fn is_renew(op: &StoreOp) -> bool {
    matches!(op, StoreOp::Renew { .. })
}

fn is_move(op: &StoreOp) -> bool {
    matches!(op, StoreOp::Move { .. })
}

fn is_read_shard(op: &StoreOp) -> bool {
    matches!(op, StoreOp::ReadShard { .. })
}

#[test]
fn a_node_joins_claims_and_serves() {
    let mut bench = Bench::joined("node-a", Vec::new(), None);
    assert_eq!(bench.effects(), [Effect::UnfenceNode { inc: Incarnation(1) }]);
    bench.step(Input::Tick, 250);
    let op = bench.answer(is_claim, Answer::Applied, 260);
    assert_eq!(op, StoreOp::Claim { expected: None, row: row("node-a", 1, 1) });
    assert_eq!(bench.effects(), [Effect::Activate { shard: SHARD, epoch: Epoch(1) }]);
    assert_eq!(bench.node.owner(SHARD, at(7_999)), Owner::Here(Epoch(1)));
    assert_eq!(bench.node.owner(SHARD, at(8_000)), Owner::Nobody);
}

/// Validity counts from the send of the renewal, and what waited for a frozen process is not
/// believed before its lease was looked at.
#[test]
fn a_node_fences_itself_first_and_goes_on_with_the_next_renewal() {
    let mut bench = Bench::joined("node-a", Vec::new(), Some(row("node-a", 0, 3)));
    bench.step(Input::Tick, 250);
    bench.answer(is_claim, Answer::Applied, 260);
    bench.effects();
    bench.step(Input::Tick, 2_500);
    let (attempt, _) = bench.question(is_renew);
    // Frozen; the answer is the first thing that it sees.
    bench.step(Input::Reply { attempt, answer: Answer::Applied }, 60_000);
    assert_eq!(bench.effects(), [Effect::FenceNode { reason: FenceReason::Expired }]);
    assert_eq!(bench.node.valid_until(), None);
    // The late answer was dropped: the row is read, and the renewal counts from its send.
    let known = lease("node-a", 1, 2, NodeState::Alive);
    bench.answer(is_read_lease, Answer::Lease(Some(known)), 60_010);
    assert_eq!(bench.effects(), []);
    bench.answer(is_renew, Answer::Applied, 60_020);
    let served = [
        Effect::UnfenceNode { inc: Incarnation(1) },
        Effect::Activate { shard: SHARD, epoch: Epoch(4) },
    ];
    assert_eq!(bench.effects(), served);
    assert_eq!(bench.node.valid_until(), Some(at(68_010)));
}

#[test]
fn a_lease_that_was_killed_is_lost_for_good() {
    let mut bench = Bench::owner();
    bench.step(Input::Tick, 5_900);
    bench.answer(is_renew, Answer::Refused, 5_910);
    let dead = lease("node-a", 1, 2, NodeState::Dead);
    bench.answer(is_read_lease, Answer::Lease(Some(dead)), 5_920);
    assert_eq!(bench.effects(), [Effect::FenceNode { reason: FenceReason::Lost }]);
    assert_eq!(bench.node.owner(SHARD, at(5_920)), Owner::Nobody);
    bench.asked.clear();
    bench.step(Input::Tick, 20_000);
    assert_eq!(bench.asked, [], "only a new start joins again");
}

#[test]
fn a_barrier_that_shows_another_incarnation_fences_the_node() {
    let mut bench = Bench::owner();
    let shown = |inc, state| Input::BarrierShows {
        inc: Incarnation(inc),
        row: Some(lease("node-a", inc, 9, state)),
    };
    bench.step(shown(0, NodeState::Dead), 3_310);
    assert_eq!(bench.effects(), [], "of an earlier incarnation");
    bench.step(shown(1, NodeState::Dead), 3_320);
    assert_eq!(bench.effects(), [Effect::FenceNode { reason: FenceReason::Lost }]);
}

/// What a plain read says is not enough for a claim.
#[test]
fn a_shard_is_claimed_after_a_serial_read_has_shown_its_owner_dead() {
    let others = vec![lease("node-b", 4, 7, NodeState::Dead)];
    let mut bench = Bench::joined("node-a", others, Some(row("node-b", 4, 9)));
    bench.step(Input::Tick, 500);
    assert!(!bench.asked.iter().any(|(_, op)| is_claim(op)));
    let dead = lease("node-b", 4, 7, NodeState::Dead);
    bench.answer(is_read_lease, Answer::Lease(Some(dead)), 510);
    bench.step(Input::Tick, 800);
    let op = bench.answer(is_claim, Answer::Failed, 810);
    assert_eq!(
        op,
        StoreOp::Claim { expected: Some(row("node-b", 4, 9)), row: row("node-a", 1, 10) }
    );
    // Unknown: the row is read before anything else, and it was done after all.
    assert!(!bench.asked.iter().any(|(_, op)| is_claim(op)));
    bench.step(Input::Tick, 1_100);
    bench.answer(is_read_shard, Answer::Shard(Some(row("node-a", 1, 10))), 1_110);
    assert!(bench.effects().contains(&Effect::Activate { shard: SHARD, epoch: Epoch(10) }));
}

/// After a crash there are many at once: what messages wait for is served first.
#[test]
fn a_shard_that_is_waited_for_is_claimed_before_others() {
    let timings = Timings { claims_max: 2, claim_jitter: Duration::ZERO, ..Timings::default() };
    let mut bench = Bench::with("node-a", timings, (0..20).map(ShardId));
    bench.step(Input::Wanted { shard: ShardId(17) }, 0);
    bench.step(Input::Wanted { shard: ShardId(5) }, 0);
    bench.join(Vec::new(), Vec::new());
    let claimed = bench.asked.iter().filter_map(|(_, op)| match op {
        StoreOp::Claim { row, .. } => Some(row.shard),
        _ => None,
    });
    assert_eq!(claimed.collect::<Vec<_>>(), [ShardId(5), ShardId(17)]);
}

/// A node that is started again finds its own rows of before.
#[test]
fn what_its_own_earlier_process_had_is_wanted_too() {
    let timings = Timings { claims_max: 1, claim_jitter: Duration::ZERO, ..Timings::default() };
    let shards = (0..20).map(ShardId);
    let mut bench = Bench::with("node-a", timings, shards.clone());
    bench.step(Input::Start { boot_id: Uuid::from_u128(1) }, 0);
    let dead = lease("node-a", 3, 7, NodeState::Alive);
    bench.answer(is_read_lease, Answer::Lease(Some(dead)), 0);
    bench.answer(|op| matches!(op, StoreOp::Join { .. }), Answer::Applied, 0);
    bench.answer(|op| *op == StoreOp::ListLeases, Answer::Leases(Vec::new()), 0);
    let rows = shards.map(|shard| ShardRow { shard, ..row("node-a", 3, 9) }).collect();
    bench.answer(|op| *op == StoreOp::ListShards, Answer::Shards(rows), 0);
    bench.step(Input::Wanted { shard: ShardId(17) }, 1);
    bench.answer(is_claim, Answer::Applied, 2);
    let next = bench.question(is_claim).1;
    assert!(matches!(next, StoreOp::Claim { row, .. } if row.shard == ShardId(17)));
}

/// The store has room for activations meanwhile; before the next node would claim them as well,
/// all are under way.
#[test]
fn shards_that_nobody_waits_for_have_some_time() {
    let timings =
        Timings { claims_unwanted_max: 3, claim_jitter: Duration::ZERO, ..Timings::default() };
    let half = u64::try_from(timings.rank_delay.as_millis()).unwrap() / 2;
    let mut bench = Bench::with("node-a", timings, (0..20).map(ShardId));
    bench.join(Vec::new(), Vec::new());
    let claims = |bench: &Bench| bench.asked.iter().filter(|(_, op)| is_claim(op)).count();
    bench.step(Input::Tick, half - 1);
    assert_eq!(claims(&bench), 3);
    bench.step(Input::Tick, half);
    assert_eq!(claims(&bench), 20);
}

/// Rows whose replicas hang are tried again and again; those behind them have their turn.
#[test]
fn shards_that_fail_do_not_keep_others_waiting() {
    let timings = Timings { claims_max: 2, claim_jitter: Duration::ZERO, ..Timings::default() };
    let shards = (0..4).map(ShardId);
    let mut bench = Bench::with("node-a", timings, shards.clone());
    for shard in shards {
        bench.step(Input::Wanted { shard }, 0);
    }
    bench.join(Vec::new(), Vec::new());
    let asked = |bench: &Bench| -> Vec<ShardId> {
        let shard = |op: &StoreOp| match op {
            StoreOp::Claim { row, .. } => Some(row.shard),
            StoreOp::ReadShard { shard } => Some(*shard),
            _ => None,
        };
        bench.asked.iter().filter_map(|(_, op)| shard(op)).collect()
    };
    assert_eq!(asked(&bench), [ShardId(0), ShardId(1)]);
    for ms in [1_000, 1_010] {
        bench.answer(is_claim, Answer::Failed, ms);
    }
    assert_eq!(asked(&bench), [ShardId(2), ShardId(3)]);
    // They fail as well, when the first two are due again.
    for ms in [1_500, 1_510] {
        bench.answer(is_claim, Answer::Failed, ms);
    }
    assert_eq!(asked(&bench), [ShardId(0), ShardId(1)]);
    for ms in [2_000, 2_010] {
        bench.answer(is_read_shard, Answer::Failed, ms);
    }
    assert_eq!(asked(&bench), [ShardId(2), ShardId(3)], "and not the first two once more");
}

/// Peers that do not know it yet still name the owner that is gone, under the epoch of its row.
#[test]
fn whoever_comes_next_is_known_as_newer_than_the_owner_that_is_gone() {
    let others =
        vec![lease("node-b", 4, 7, NodeState::Dead), lease("node-c", 1, 1, NodeState::Alive)];
    let shards = (0..20).map(ShardId);
    let mut bench = Bench::with("node-a", Timings::default(), shards.clone());
    let rows = shards.clone().map(|shard| ShardRow { shard, ..row("node-b", 4, 9) });
    bench.join(others, rows.collect());
    let next = shards.map(|shard| bench.node.owner(shard, at(10))).filter(|o| *o != Owner::Nobody);
    let next: Vec<_> = next.collect();
    assert!(
        (1..20).contains(&next.len()),
        "some are this node's to claim, some node-c's: {next:?}"
    );
    assert!(next.iter().all(|owner| *owner == Owner::There("node-c".into(), Epoch(9))), "{next:?}");
}

#[test]
fn a_silent_peer_is_killed_after_its_expiry_and_not_before() {
    let others = vec![lease("node-b", 1, 5, NodeState::Alive)];
    let mut bench = Bench::joined("node-a", others, Some(row("node-b", 1, 1)));
    let is_kill = |op: &StoreOp| matches!(op, StoreOp::Kill { .. });
    for ms in (500..11_900).step_by(500) {
        bench.step(Input::Tick, ms);
        assert!(!bench.asked.iter().any(|(_, op)| is_kill(op)), "at {ms} ms");
        for (attempt, op) in std::mem::take(&mut bench.asked) {
            let answer = match op {
                StoreOp::Renew { .. } => Answer::Applied,
                // A row that is older than the last one seen changes nothing.
                StoreOp::ListLeases => {
                    Answer::Leases(vec![lease("node-b", 1, 4, NodeState::Alive)])
                }
                _ => Answer::Failed,
            };
            bench.step(Input::Reply { attempt, answer }, ms);
        }
    }
    bench.step(Input::Tick, 12_000);
    let kill = StoreOp::Kill { seen: lease("node-b", 1, 5, NodeState::Alive) };
    assert_eq!(bench.answer(is_kill, Answer::Applied, 12_010), kill);
    bench.step(Input::Tick, 12_500);
    assert!(bench.asked.iter().any(|(_, op)| is_claim(op)), "its end is proved by the kill");
}

/// The whole of a hand-off on the source's side.
fn given_away(bench: &mut Bench) -> HandoffId {
    bench.step(Input::MoveShard { shard: SHARD, to: "node-b".into() }, 3_400);
    let effects = bench.effects();
    let [Effect::Send { message: PeerMessage::Prepare { id, .. }, .. }] = effects[..] else {
        panic!("{effects:?}");
    };
    let ready = PeerMessage::Ready { id, shard: SHARD, inc: Incarnation(1) };
    bench.told("node-b", ready, 3_410);
    let drain = Effect::DrainShard { shard: SHARD, to: "node-b".into(), id };
    assert_eq!(bench.effects(), [drain]);
    bench.step(Input::Drained { shard: SHARD, id }, 3_500);
    assert_eq!(bench.effects(), [Effect::Release { shard: SHARD, epoch: Epoch(1) }]);
    assert_eq!(bench.node.owner(SHARD, at(3_500)), Owner::Nobody);
    id
}

#[test]
fn a_source_drains_moves_and_forwards() {
    let mut bench = Bench::owner();
    let id = given_away(&mut bench);
    let op = bench.answer(is_move, Answer::Applied, 3_510);
    assert_eq!(op, StoreOp::Move { expected: row("node-a", 1, 1), row: row("node-b", 1, 2) });
    let to: NodeName = "node-b".into();
    let send = |message| Effect::Send { to: to.clone(), message };
    let keep = Duration::from_secs(60);
    let expected = [
        Effect::SendQueues { shard: SHARD, to: to.clone(), id },
        send(PeerMessage::Committed { id, shard: SHARD, epoch: Epoch(2) }),
        send(PeerMessage::FlushMarker { id, shard: SHARD }),
        Effect::Forward { shard: SHARD, to: to.clone(), keep },
    ];
    assert_eq!(bench.effects(), expected);
    assert_eq!(bench.node.owner(SHARD, at(3_520)), Owner::There(to, Epoch(2)));
}

#[test]
fn a_move_with_an_unknown_outcome_never_leads_back_to_the_old_epoch() {
    let mut bench = Bench::owner();
    given_away(&mut bench);
    for round in 0..3u64 {
        let ms = 3_510 + round * 400;
        bench.answer(is_move, Answer::Failed, ms);
        bench.step(Input::Tick, ms + 260);
        bench.answer(is_read_shard, Answer::Shard(Some(row("node-a", 1, 1))), ms + 270);
        assert_eq!(bench.effects(), [], "nothing is handled under epoch 1 again");
    }
    let (attempt, op) = bench.question(|op| matches!(op, StoreOp::Bump { .. }));
    assert_eq!(op, StoreOp::Bump { expected: row("node-a", 1, 1), row: row("node-a", 1, 2) });
    bench.step(Input::Reply { attempt, answer: Answer::Applied }, 4_700);
    assert!(bench.effects().contains(&Effect::Activate { shard: SHARD, epoch: Epoch(2) }));
}

/// A step may take 45 s: meanwhile others go, so that all steps are waited for side by side.
#[test]
fn a_hand_off_that_waits_for_a_long_step_makes_way_for_others() {
    let timings = Timings { moves_max: 1, claim_jitter: Duration::ZERO, ..Timings::default() };
    let shards = [ShardId(0), ShardId(1)];
    let mut bench = Bench::with("node-a", timings, shards);
    bench.join(vec![lease("node-b", 1, 1, NodeState::Alive)], Vec::new());
    // At once what the hash gives this node, and the rest when node-b does not take it.
    for ms in [0, 3_300] {
        bench.step(Input::Tick, ms);
        while bench.asked.iter().any(|(_, op)| is_claim(op)) {
            bench.answer(is_claim, Answer::Applied, ms);
        }
    }
    bench.answer(is_renew, Answer::Applied, 3_300);
    bench.hear("node-b", 3_300);
    bench.effects();
    let asks = |bench: &mut Bench, shard: u16, ms: u64| {
        bench.step(Input::MoveShard { shard: ShardId(shard), to: "node-b".into() }, ms);
        bench.effects().into_iter().find_map(|effect| match effect {
            Effect::Send { message: PeerMessage::Prepare { id, .. }, .. } => Some(id),
            _ => None,
        })
    };
    let id = asks(&mut bench, 0, 3_400).unwrap();
    let ready = PeerMessage::Ready { id, shard: ShardId(0), inc: Incarnation(1) };
    bench.told("node-b", ready, 3_500);
    assert_eq!(asks(&mut bench, 1, 4_400), None, "it may be over in a moment");
    assert!(asks(&mut bench, 1, 4_500).is_some());
}

#[test]
fn a_target_that_does_not_answer_changes_nothing() {
    let mut bench = Bench::owner();
    bench.step(Input::MoveShard { shard: SHARD, to: "node-b".into() }, 3_400);
    bench.effects();
    bench.step(Input::Tick, 5_400);
    let effects = bench.effects();
    let [Effect::Send { message: PeerMessage::Cancel { id, .. }, .. }] = effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(bench.node.owner(SHARD, at(5_400)), Owner::Here(Epoch(1)));
    // Its answer comes too late, and is told so.
    let ready = PeerMessage::Ready { id, shard: SHARD, inc: Incarnation(1) };
    bench.told("node-b", ready, 5_410);
    assert_eq!(bench.effects(), effects);
}

#[test]
fn a_target_buffers_and_takes_over_in_order() {
    let others = vec![lease("node-a", 1, 1, NodeState::Alive)];
    let mut bench = Bench::joined("node-b", others, Some(row("node-a", 1, 7)));
    bench.effects();
    let (id, shard) = (HandoffId { inc: Incarnation(1), count: 1 }, SHARD);
    bench.told("node-a", PeerMessage::Prepare { id, shard, epoch: Epoch(7) }, 100);
    let ready = PeerMessage::Ready { id, shard, inc: Incarnation(1) };
    let expected = [
        Effect::BufferShard { shard, from: "node-a".into(), id },
        Effect::Send { to: "node-a".into(), message: ready },
    ];
    assert_eq!(bench.effects(), expected);
    bench.told("node-a", PeerMessage::Committed { id, shard, epoch: Epoch(8) }, 200);
    assert_eq!(bench.effects(), [Effect::ActivateForwarded { shard, epoch: Epoch(8) }]);
    bench.told("node-a", PeerMessage::FlushMarker { id, shard }, 300);
    assert_eq!(bench.effects(), [Effect::OpenDirect { shard }]);
    assert_eq!(bench.node.owner(SHARD, at(300)), Owner::Here(Epoch(8)));
}

/// node-b, which node-a has asked to take the shard.
fn target(ms: u64) -> (Bench, HandoffId) {
    let others = vec![lease("node-a", 1, 1, NodeState::Alive)];
    let mut bench = Bench::joined("node-b", others, Some(row("node-a", 1, 7)));
    let (id, shard) = (HandoffId { inc: Incarnation(1), count: 1 }, SHARD);
    bench.told("node-a", PeerMessage::Prepare { id, shard, epoch: Epoch(7) }, ms);
    bench.effects();
    (bench, id)
}

/// The source's word is lost, or the source itself: the row tells.
#[test]
fn a_target_that_hears_nothing_looks_at_the_row() {
    let (mut bench, _) = target(100);
    bench.step(Input::Tick, 5_100);
    bench.answer(is_read_shard, Answer::Shard(Some(row("node-b", 1, 8))), 5_110);
    assert_eq!(bench.effects(), [Effect::Activate { shard: SHARD, epoch: Epoch(8) }]);
}

/// Nothing will come of the hand-off, so it is not waited for: nobody else may be there to claim.
#[test]
fn a_target_whose_source_is_gone_claims_the_shard() {
    // Its next look at the row would be at 8 s.
    let (mut bench, id) = target(3_000);
    let dead = lease("node-a", 1, 1, NodeState::Dead);
    let claimed = (3_100..12_000).step_by(100).find(|ms| {
        bench.step(Input::Tick, *ms);
        let asked = std::mem::take(&mut bench.asked);
        let claims = asked.iter().any(|(_, op)| is_claim(op));
        for (attempt, op) in asked {
            let answer = match op {
                StoreOp::Renew { .. } => Answer::Applied,
                // Somebody else has ended it; what this one has seen of it is no proof yet.
                StoreOp::ListLeases => Answer::Leases(vec![dead.clone()]),
                StoreOp::ReadLease { .. } => Answer::Lease(Some(dead.clone())),
                StoreOp::ReadShard { .. } => Answer::Shard(Some(row("node-a", 1, 7))),
                _ => Answer::Failed,
            };
            bench.step(Input::Reply { attempt, answer }, *ms);
        }
        claims
    });
    assert!(claimed.is_some_and(|ms| ms < 6_500), "claimed at {claimed:?}");
    assert!(bench.effects().contains(&Effect::DiscardBuffer { shard: SHARD, id }));
}

#[test]
fn a_node_that_leaves_hands_over_and_ends_its_lease() {
    let mut bench = Bench::owner();
    bench.step(Input::Leave, 3_400);
    let renew = bench.answer(is_renew, Answer::Applied, 3_410);
    assert!(matches!(renew, StoreOp::Renew { state: NodeState::Draining, .. }));
    let effects = bench.effects();
    let [Effect::Send { message: PeerMessage::Prepare { id, .. }, .. }] = effects[..] else {
        panic!("{effects:?}");
    };
    bench.told("node-b", PeerMessage::Ready { id, shard: SHARD, inc: Incarnation(1) }, 3_420);
    bench.step(Input::Drained { shard: SHARD, id }, 3_430);
    bench.answer(is_move, Answer::Applied, 3_440);
    assert_eq!(bench.effects().last(), Some(&Effect::PassivateAll));
    bench.step(Input::Passivated, 3_450);
    let kill = bench.answer(|op| matches!(op, StoreOp::Kill { .. }), Answer::Applied, 3_460);
    assert!(matches!(kill, StoreOp::Kill { seen } if seen.node == "node-a".into()));
    assert_eq!(bench.effects(), [Effect::Exit]);
}
