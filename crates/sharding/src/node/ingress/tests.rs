use troupe_link::Identity;
use troupe_types::{Epoch, SystemClock};
use troupe_wire::{Address, BatchWriter, Credit, Heartbeat, StreamFrames, StreamStop};

use super::*;
use crate::{
    node::{
        observer::NoObserver,
        options::NodeOptions,
        peer::{Room, Up, Waiting},
    },
    placement::NodeName,
    router::Router,
};

const TOKEN: u64 = 7;

/// A node without a host, and a link with one peer.
fn fixture() -> (Arc<NodeShared>, Arc<Peer>, tokio_util::sync::CancellationToken) {
    fixture_with(NodeOptions::default())
}

fn fixture_with(
    options: NodeOptions,
) -> (Arc<NodeShared>, Arc<Peer>, tokio_util::sync::CancellationToken) {
    let me = Identity {
        cluster: "test".to_owned(),
        node: "node-1".to_owned(),
        boot: Uuid::from_u128(1),
        build: String::new(),
        roles: Vec::new(),
        ingress: 1,
    };
    let (router, clock) = (Router::new(), SystemClock::shared());
    let node = NodeShared::new(me, options.clone(), router, clock, Arc::new(NoObserver));
    let node = Arc::new(node);
    let peer = node.peer_or_new(&NodeName("node-2".into()));
    peer.link_up(Up { generation: 1, boot: Uuid::from_u128(2) }, &options);
    let stop = tokio_util::sync::CancellationToken::new();
    let linked = Linked { peer: Arc::clone(&peer), generation: 1, stop: stop.clone() };
    node.add_token(TOKEN, linked);
    (node, peer, stop)
}

fn batch(token: u64, items: &[Item]) -> Bytes {
    let mut batch = BatchWriter::new(token);
    for item in items {
        assert!(batch.push(&BatchWriter::encode_item(item).unwrap()));
    }
    batch.finish()
}

fn envelope(id: u128, kind: EnvelopeKind, entity_kind: u8) -> Item {
    let to = Address { kind: entity_kind, id: Uuid::from_u128(9) };
    Item::Envelope(Envelope {
        id: Uuid::from_u128(id),
        from: None,
        sender_seq: 1,
        to,
        shard: to.entity().map_or(troupe_types::ShardId(0), EntityId::shard),
        epoch: Epoch::ZERO,
        ttl_ms: 10_000,
        hop: 0,
        relay: false,
        kind,
        trace: None,
        body: Bytes::new(),
    })
}

fn told(peer: &Peer) -> Vec<Item> {
    let Some(batch) = peer.lock().batch(1, true) else { return Vec::new() };
    Batch::decode(batch.finish()).unwrap().items.into_iter().map(|(item, _)| item).collect()
}

/// The same for a peer that takes everything.
fn told_in_time(peer: &Peer) -> Vec<Item> {
    let mut all = Vec::new();
    loop {
        peer.granted(Credit { bytes: u64::MAX, items: u32::MAX });
        let some = told(peer);
        if some.is_empty() {
            return all;
        }
        peer.made_room();
        all.extend(some);
    }
}

fn fates(items: &[Item]) -> Vec<(u128, Fate)> {
    let fate = |item: &Item| match item {
        Item::Reply(reply) => Some((reply.to.as_u128(), reply.fate.clone())),
        _ => None,
    };
    items.iter().filter_map(fate).collect()
}

/// A peer with one more kind of everything: what is not known is skipped or refused, and the
/// rest is handled.
#[test]
fn a_newer_peer_is_understood_as_far_as_possible() {
    let (node, peer, stop) = fixture();
    let items = [
        Item::Other(200, Bytes::from_static(b"newer")),
        envelope(1, EnvelopeKind::Other(99), 1),
        envelope(2, EnvelopeKind::Ask, 250),
        envelope(3, EnvelopeKind::Ask, 1),
        Item::Heartbeat(Heartbeat { inc: 1, seq: 1 }),
    ];
    node.receive(batch(TOKEN, &items));
    let told = told(&peer);
    let expected = [(1, Fate::Unsupported), (2, Fate::Unsupported), (3, Fate::NotDelivered)];
    assert_eq!(fates(&told), expected);
    let credit = told.iter().find_map(|item| match item {
        Item::Credit(credit) => Some(credit.items),
        _ => None,
    });
    assert_eq!(credit, Some(3), "three were paid for");
    assert!(!stop.is_cancelled());
}

#[test]
fn what_did_not_happen_is_tried_anew_when_it_comes_again() {
    let (node, peer, _stop) = fixture();
    for _ in 0..2 {
        node.receive(batch(TOKEN, &[envelope(3, EnvelopeKind::Ask, 1)]));
        assert_eq!(fates(&told(&peer)), [(3, Fate::NotDelivered)]);
    }
}

/// Whatever frames wait for the peer: it hears what became of its envelope.
#[test]
fn a_reply_is_not_crowded_out_by_frames() {
    let (node, peer, _stop) = fixture();
    let frames = Item::Other(77, Bytes::from(vec![0; 200_000]));
    let bytes = BatchWriter::encode_item(&frames).unwrap();
    let item = || Waiting { bytes: bytes.clone(), room: Room::Common, envelope: None };
    while peer.send(item()).is_ok() {}
    let subscribe = EnvelopeKind::Subscribe { stream: 5, capacity: 4 };
    let asked = [envelope(3, EnvelopeKind::Ask, 1), envelope(4, subscribe, 1)];
    node.receive(batch(TOKEN, &asked));
    let all = told_in_time(&peer);
    assert_eq!(fates(&all), [(3, Fate::NotDelivered), (4, Fate::NotDelivered)]);
}

/// A long answer that has no room at once gets it as soon as there is some.
#[tokio::test]
async fn a_long_answer_waits_for_its_room() {
    let options = NodeOptions { queue_bytes_max: 100_000, ..NodeOptions::default() };
    let (node, peer, _stop) = fixture_with(options);
    let until = Instant::now() + Duration::from_secs(20);
    let to = Address { kind: 1, id: Uuid::from_u128(9) }.entity().unwrap();
    let places = Arc::new(tokio::sync::Semaphore::new(3));
    for n in 1..=3 {
        let asked = Asked::new(&node, &peer, to, Uuid::from_u128(n), until, &Span::none()).unwrap();
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        let (cell, _) = asked.posted(place);
        cell.answer(Ok(Bytes::from(vec![0; 60_000])));
    }
    let mut all = Vec::new();
    let came = troupe_actor::settle(Duration::from_secs(20), || {
        all.extend(told_in_time(&peer));
        fates(&all).len() == 3
    });
    assert!(came.await, "{}", fates(&all).len());
    assert_eq!(peer.handled.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// Who does not follow a stream says so, once, however much of it is under way.
#[test]
fn frames_that_nobody_follows_are_stopped() {
    let (node, peer, _stop) = fixture();
    let frames = |stream, piece| {
        Item::Frames(StreamFrames { stream, piece, more: false, frames: Vec::new() })
    };
    node.receive(batch(TOKEN, &[frames(5, 1), frames(5, 2), frames(6, 1)]));
    node.receive(batch(TOKEN, &[frames(5, 3)]));
    let stops: Vec<_> = told(&peer)
        .into_iter()
        .filter_map(|item| match item {
            Item::Stop(stop) => Some(stop.stream),
            _ => None,
        })
        .collect();
    assert_eq!(stops, [5, 6]);
}

/// From before it is answered a subscription can be stopped, and by nobody else.
#[tokio::test]
async fn a_stop_finds_a_subscription_that_is_not_answered_yet() {
    let (node, peer, _stop) = fixture();
    let served = Served::enter(&node, &peer, 1, 5).unwrap();
    assert!(Served::enter(&node, &peer, 1, 5).is_none(), "the number is taken");
    let (_sink, items) = FrameSink::new(1);
    let until = Instant::now() + Duration::from_secs(20);
    let follow = served.follow(Uuid::from_u128(1), until, std::future::pending(), items);
    let follow = spawn_task("follow", follow);
    node.receive(batch(TOKEN, &[Item::Stop(StreamStop { stream: 4 })]));
    tokio::task::yield_now().await;
    assert_eq!(node.streams.serving(), 1, "that was another one");
    node.receive(batch(TOKEN, &[Item::Stop(StreamStop { stream: 5 })]));
    follow.await.unwrap();
    assert_eq!(node.streams.serving(), 0);
    assert!(told(&peer).iter().all(|item| !matches!(item, Item::Reply(_))), "nobody asks");
}

#[test]
fn words_of_another_link_are_dropped_and_nonsense_ends_its_link() {
    let (node, peer, stop) = fixture();
    node.receive(batch(8, &[envelope(3, EnvelopeKind::Ask, 1)]));
    assert!(told(&peer).is_empty());
    let mut nonsense = batch(TOKEN, &[envelope(3, EnvelopeKind::Ask, 1)]).to_vec();
    nonsense.truncate(40);
    node.receive(Bytes::from(nonsense));
    assert!(told(&peer).is_empty());
    assert!(stop.is_cancelled(), "its credit would never add up again");
}
