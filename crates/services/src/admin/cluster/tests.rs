use std::sync::Mutex;

use serde_json::Value;
use troupe_sharding::{Answerer as _, HostWatch, NodeName};
use troupe_types::{Epoch, Incarnation, ManualClock, Roles, TaskId, Timestamp, Uuid};

use super::*;
use crate::admin::{
    LocalParts, NodeControl, OwnAnswers,
    peers::{TOPIC, decode},
};

/// Writes down what it was told.
#[derive(Debug, Default)]
struct Told {
    list: Mutex<Vec<String>>,
    newer: bool,
}

impl Told {
    fn begun(&self, what: String) -> Result<Begun, OperatorError> {
        self.list.lock().unwrap().push(what.clone());
        Ok(Begun { detail: what, shards: 3 })
    }
}

#[async_trait]
impl NodeControl for Told {
    async fn drain(&self) -> Result<Begun, OperatorError> {
        self.begun("drain".to_owned())
    }

    async fn move_shard(&self, shard: ShardId, to: &str) -> Result<ShardMove, OperatorError> {
        if to == "c" && !self.list.lock().unwrap().iter().any(|told| told == "asked before") {
            self.begun("asked before".to_owned())?;
            let detail = "It has just gone.".to_owned();
            return Err(OperatorError::Refused { code: NOT_OWNER.into(), detail });
        }
        if to == "b" {
            let detail = "It is full.".to_owned();
            return Err(OperatorError::Refused { code: "full".into(), detail });
        }
        let detail = self.begun(format!("move {shard} to {to}"))?.detail;
        Ok(ShardMove { outcome: "begun".to_owned(), detail, ..ShardMove::default() })
    }

    /// `b` has newer rows than `a`.
    fn shard(&self, shard: ShardId) -> ShardView {
        let (owner, epoch) = match shard.0 {
            0 => ("a", 5),
            4 => return ShardView::default(),
            6 if self.newer => ("a", 6),
            _ => ("b", 5),
        };
        ShardView { shard: shard.0, owner: Some(owner.into()), epoch, ..ShardView::default() }
    }

    async fn pause(&self, paused: bool) -> Result<(), OperatorError> {
        self.begun(format!("pause {paused}")).map(drop)
    }

    async fn rebalance_now(&self) -> Result<Begun, OperatorError> {
        self.begun("now".to_owned())
    }

    fn rebalancing(&self) -> &'static str {
        "on"
    }
}

fn local(name: &str, control: Arc<Told>) -> Arc<LocalOperator> {
    Arc::new(LocalOperator::new(LocalParts {
        name: name.to_owned(),
        incarnation: 1,
        build: "1".to_owned(),
        roles: Roles::ALL,
        weight: 100,
        http: Some(format!("http-{name}")),
        link: None,
        key_ids: vec!["k".to_owned()],
        host: HostWatch::default(),
        control: Some(control),
        clock: Arc::new(ManualClock::at(Timestamp::from_millis(0))),
    }))
}

/// The other nodes, with everything encoded on the way; one that is not there is silent.
#[derive(Debug)]
struct Wire(HashMap<String, OwnAnswers>);

#[async_trait]
impl Peers for Wire {
    async fn ask(&self, node: &str, question: &NodeQuestion) -> Result<Value, OperatorError> {
        let silent = || OperatorError::Unreachable {
            node: node.to_owned(),
            why: "no answer in time".to_owned(),
        };
        let peer = self.0.get(node).ok_or_else(silent)?;
        let body = serde_json::to_vec(question).unwrap();
        let answer = peer.answer(&NodeName("a".into()), TOPIC, body.into()).await.unwrap();
        decode(node, &answer)
    }
}

#[derive(Debug)]
struct View {
    leases: Vec<SeenLease>,
    shards: Vec<SeenShard>,
}

impl ClusterView for View {
    fn leases(&self) -> Vec<SeenLease> {
        self.leases.clone()
    }

    fn shards(&self) -> Vec<SeenShard> {
        self.shards.clone()
    }

    fn is_linked(&self, node: &str) -> bool {
        node == "b"
    }

    fn rebalancing(&self) -> &'static str {
        "paused"
    }

    fn lease_time(&self) -> Duration {
        Duration::from_secs(12)
    }
}

fn lease(node: &str, state: NodeState, age: u64) -> SeenLease {
    let row = LeaseRow {
        node: node.into(),
        boot_id: Uuid::nil(),
        inc: Incarnation(2),
        seq: 1,
        state,
        addr: format!("link-{node}"),
        build: "1".to_owned(),
        roles: Roles::ALL,
        weight: 100,
    };
    SeenLease { row, age: Duration::from_secs(age) }
}

fn shard(number: u16, owner: Option<(&str, u64)>, moving_to: Option<&str>) -> SeenShard {
    let row = owner.map(|(owner, inc)| ShardRow {
        shard: ShardId(number),
        owner: owner.into(),
        owner_inc: Incarnation(inc),
        epoch: Epoch(5),
    });
    let preferred = Some("a".to_owned());
    SeenShard { shard: ShardId(number), row, moving_to: moving_to.map(str::to_owned), preferred }
}

struct Cluster {
    operator: ClusterOperator,
    a: Arc<Told>,
    b: Arc<Told>,
}

/// `a` answers, `b` is a peer, `c` is alive and silent, `d` is dead.
fn cluster() -> Cluster {
    let a = Arc::new(Told::default());
    let b = Arc::new(Told { newer: true, ..Told::default() });
    let wire = Wire([("b".to_owned(), OwnAnswers(local("b", Arc::clone(&b))))].into());
    let leases = vec![
        lease("b", NodeState::Alive, 3),
        lease("a", NodeState::Alive, 1),
        lease("c", NodeState::Alive, 15),
        lease("d", NodeState::Dead, 99),
    ];
    let mut shards: Vec<SeenShard> =
        (0..1_024).map(|number| shard(number, Some(("b", 2)), None)).collect();
    shards[0] = shard(0, Some(("a", 2)), None);
    shards[1] = shard(1, Some(("b", 2)), Some("a"));
    shards[2] = shard(2, Some(("d", 2)), None);
    shards[3] = shard(3, Some(("b", 1)), None);
    shards[4] = shard(4, None, None);
    shards[5] = shard(5, Some(("c", 2)), None);
    let view = Arc::new(View { leases, shards });
    let operator = ClusterOperator::new(local("a", Arc::clone(&a)), view, Arc::new(wire));
    Cluster { operator, a, b }
}

#[tokio::test]
async fn nodes_tell_of_themselves_and_a_silent_one_is_named() {
    let nodes = cluster().operator.nodes().await.unwrap();
    assert_eq!(nodes.rebalance, "paused");
    let names: Vec<&str> = nodes.items.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    let [a, b, c, d] = &nodes.items[..] else { panic!("{nodes:?}") };
    assert!(a.is_this && a.linked && a.load.is_some());
    assert_eq!((b.http.as_deref(), b.link.as_deref()), (Some("http-b"), Some("link-b")));
    assert_eq!((b.lease_age_ms, b.lease_left_ms), (Some(3_000), Some(9_000)));
    assert_eq!(b.key_ids, ["k"]);
    assert_eq!((b.rebalance.as_deref(), c.rebalance.as_deref()), (Some("on"), None));
    assert!(c.load.is_none() && c.unreachable.as_deref() == Some("no answer in time"));
    assert_eq!(c.lease_left_ms, Some(-3_000));
    assert_eq!((d.state.as_str(), &d.unreachable, d.lease_left_ms), ("dead", &None, None));
}

#[tokio::test]
async fn a_shard_whose_owner_is_gone_or_started_again_is_orphaned() {
    let shards = cluster().operator.shards().await.unwrap().items;
    let states: Vec<ShardState> = shards.iter().take(6).map(|shard| shard.state).collect();
    use ShardState::{Moving, Orphaned, Owned, Unowned};
    assert_eq!(states, [Owned, Moving, Orphaned, Orphaned, Unowned, Owned]);
    assert_eq!(shards[1].moving_to.as_deref(), Some("a"));
    assert_eq!((shards[0].entities, shards[1].entities), (Some(0), Some(0)));
    assert_eq!(shards[5].entities, None, "its owner does not answer");
    assert_eq!(shards[4].epoch, 0);
}

/// What a node says of one shard is made by the same words as the list.
#[test]
fn an_owner_that_is_back_under_its_name_does_not_own_what_it_did() {
    let seen = |inc, moving_to| shard(3, Some(("b", inc)), moving_to);
    let alive = lease("b", NodeState::Alive, 1).row;
    let dead = lease("b", NodeState::Dead, 1).row;
    use ShardState::{Moving, Orphaned, Owned};
    for (seen, lease, state) in [
        (seen(2, None), Some(&alive), Owned),
        (seen(2, Some("a")), Some(&alive), Moving),
        (seen(1, None), Some(&alive), Orphaned),
        (seen(1, Some("a")), Some(&alive), Orphaned),
        (seen(2, None), Some(&dead), Orphaned),
        (seen(2, None), None, Orphaned),
    ] {
        let view = seen.clone().into_view(lease);
        assert_eq!(view.state, state, "{seen:?} {lease:?}");
        assert_eq!((view.owner.as_deref(), view.epoch), (Some("b"), 5));
    }
    assert_eq!(shard(4, None, None).into_view(None).state, ShardState::Unowned);
}

#[tokio::test]
async fn a_wish_goes_to_the_node_that_can_do_it() {
    let Cluster { operator, a, b } = cluster();
    operator.drain("a").await.unwrap();
    assert_eq!(operator.drain("b").await.unwrap().shards, 3);
    let moved = operator.move_shard(ShardId(1), "a").await.unwrap();
    assert_eq!((moved.outcome.as_str(), moved.from.as_deref()), ("begun", Some("b")));
    assert_eq!((moved.shard, moved.to.as_str()), (1, "a"));
    operator.move_shard(ShardId(0), "c").await.unwrap();
    let told = ["drain", "asked before", "move 0 to c"];
    assert_eq!(*a.list.lock().unwrap(), told, "whoever does not own it any more is asked again");
    assert_eq!(*b.list.lock().unwrap(), ["drain", "move 1 to a"]);
    let code = |error: OperatorError| match error {
        OperatorError::Refused { code, .. } => code.into_owned(),
        other => format!("{other:?}"),
    };
    assert_eq!(code(operator.move_shard(ShardId(0), "b").await.unwrap_err()), "full");
    let there = operator.move_shard(ShardId(9), "b").await.unwrap();
    assert_eq!((there.outcome.as_str(), there.from.as_deref()), ("already_there", Some("b")));
    let there = operator.move_shard(ShardId(6), "a").await.unwrap();
    assert_eq!(there.outcome, "already_there", "b has seen the newest epoch");
    assert_eq!(code(operator.move_shard(ShardId(4), "a").await.unwrap_err()), "unowned");
    assert_eq!(code(operator.drain("d").await.unwrap_err()), "node_dead");
    let nobody = operator.drain("x").await.unwrap_err();
    assert_eq!(nobody, OperatorError::NoSuchNode("x".to_owned()));
    let silent = operator.drain("c").await.unwrap_err();
    assert!(matches!(silent, OperatorError::Unreachable { .. }), "{silent:?}");
    let some = operator.rebalance(RebalanceAction::Now).await.unwrap_err();
    assert!(matches!(some, OperatorError::Unreachable { .. }), "c is not left out in silence");
    let some = operator.rebalance(RebalanceAction::Pause).await.unwrap();
    assert!(some.detail.contains("within seconds: c."), "{some:?}");
    assert_eq!(b.list.lock().unwrap()[2..], ["now", "pause true"], "the others have done it");
}

#[tokio::test]
async fn other_nodes_show_their_actors_and_entities() {
    let Cluster { operator, .. } = cluster();
    assert_eq!(operator.actors(None).await.unwrap().node, "a");
    assert_eq!(operator.actors(Some("b")).await.unwrap().node, "b");
    assert_eq!(operator.queues(Some("b")).await.unwrap().node, "b");
    assert!(operator.queues(Some("c")).await.is_err());
    // One that lives in a shard of `b`.
    let task = (0..).map(|n| EntityId::from(TaskId::derived(&[&n.to_string()])));
    let entity = task.into_iter().find(|task| task.shard().0 > 5).unwrap();
    let places = operator.places(&[entity]).await.unwrap();
    assert_eq!((places[0].node.as_deref(), places[0].epoch), (Some("b"), 5));
    let told = operator.restart_entity(entity).await.unwrap();
    assert_eq!((told.node.as_str(), told.outcome.as_str()), ("b", "not_in_memory"));
}
