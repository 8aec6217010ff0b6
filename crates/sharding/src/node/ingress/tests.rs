use troupe_link::Identity;
use troupe_types::{Epoch, SystemClock};
use troupe_wire::{Address, BatchWriter, Heartbeat};

use super::*;
use crate::{
    node::{observer::NoObserver, options::NodeOptions, peer::Up},
    placement::NodeName,
    router::Router,
};

const TOKEN: u64 = 7;

/// A node without a host, and a link with one peer.
fn fixture() -> (Arc<NodeShared>, Arc<Peer>, tokio_util::sync::CancellationToken) {
    let me = Identity {
        cluster: "test".to_owned(),
        node: "node-1".to_owned(),
        boot: Uuid::from_u128(1),
        build: String::new(),
        roles: Vec::new(),
        ingress: 1,
    };
    let options = NodeOptions::default();
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
