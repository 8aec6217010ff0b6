//! One of each frame, always the same.

use bytes::Bytes;
use troupe_types::{EntityId, EntityKind, Epoch, Incarnation, ShardId, Uuid};
use troupe_wire::{
    BatchWriter, Credit, Envelope, EnvelopeKind, Fate, Handoff, HandoffStep, Heartbeat, Hello,
    Item, Origin, Refusal, RefusalReason, Reply, StreamEnd, StreamEnded, StreamFrames, StreamStop,
    TraceContext, Welcome,
};

pub(crate) const TOKEN: u64 = 0x1122_3344_5566_7788;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n)
}

pub(crate) fn envelope(kind: EnvelopeKind) -> Envelope {
    Envelope {
        id: id(1),
        from: Some(Origin { node: "node-3".to_owned(), boot: id(2) }),
        sender_seq: 42,
        to: EntityId { kind: EntityKind::Task, id: id(3) }.into(),
        shard: ShardId(777),
        epoch: Epoch(5),
        ttl_ms: 14_500,
        hop: 1,
        relay: true,
        kind,
        trace: Some(TraceContext { trace: [7; 16], span: [9; 8], flags: 1 }),
        body: Bytes::from_static(b"{\"op\":\"get\"}"),
    }
}

fn reply(fate: Fate) -> Item {
    Item::Reply(Reply { to: id(1), fate })
}

pub(crate) fn items() -> Vec<(&'static str, Item)> {
    let ask = Envelope { from: None, trace: None, ..envelope(EnvelopeKind::Ask) };
    let subscribe = EnvelopeKind::Subscribe { stream: 9, capacity: 64 };
    let failed = Fate::Failed {
        code: "gone".to_owned(),
        message: "it is gone".to_owned(),
        detail: Some("{\"at\":3}".to_owned()),
    };
    let owner = Some("node-2".to_owned());
    let step = |step| {
        let (source_inc, target_inc) = (Incarnation(3), Incarnation(5));
        let (shard, epoch) = (ShardId(7), Epoch(8));
        Item::Handoff(Handoff { shard, epoch, source_inc, count: 11, target_inc, step })
    };
    vec![
        ("ask", Item::Envelope(ask)),
        ("tell", Item::Envelope(envelope(EnvelopeKind::Tell))),
        ("subscribe", Item::Envelope(envelope(subscribe))),
        ("done", reply(Fate::Done(Bytes::from_static(b"ok")))),
        ("part", reply(Fate::Part { part: 2, body: Bytes::from_static(b"so far") })),
        ("duplicate", reply(Fate::Duplicate { done: true })),
        ("expired", reply(Fate::Expired)),
        ("not-owner", reply(Fate::NotOwner { owner, epoch: Epoch(6) })),
        ("failed", reply(failed)),
        ("overloaded", reply(Fate::Overloaded)),
        ("not-delivered", reply(Fate::NotDelivered)),
        ("unknown", reply(Fate::Unknown)),
        ("unsupported", reply(Fate::Unsupported)),
        ("credit", Item::Credit(Credit { bytes: 70_000, items: 12 })),
        ("heartbeat", Item::Heartbeat(Heartbeat { inc: 3, seq: 99 })),
        (
            "frames",
            Item::Frames(StreamFrames {
                stream: 9,
                piece: 4,
                more: true,
                frames: vec![
                    Bytes::from_static(b"{\"seq\":1}"),
                    Bytes::from_static(b"{\"seq\":2}"),
                ],
            }),
        ),
        ("end", Item::End(StreamEnd { stream: 9, how: StreamEnded::Lagged })),
        ("stop", Item::Stop(StreamStop { stream: 9 })),
        ("handoff-prepare", step(HandoffStep::Prepare)),
        ("handoff-ready", step(HandoffStep::Ready)),
        ("handoff-refused", step(HandoffStep::Refused)),
        ("handoff-committed", step(HandoffStep::Committed)),
        ("handoff-flush", step(HandoffStep::FlushMarker)),
        ("handoff-cancelled", step(HandoffStep::Cancelled)),
    ]
}

pub(crate) fn hello() -> Hello {
    Hello {
        cluster: "main".to_owned(),
        node: "node-1".to_owned(),
        boot: id(2),
        version_min: 1,
        version_max: 1,
        build: "0.1.0".to_owned(),
        roles: vec!["gateway".to_owned(), "entities".to_owned()],
        ingress: 12,
        token: TOKEN,
    }
}

pub(crate) fn welcomes() -> Vec<(&'static str, Welcome)> {
    let refusal =
        Refusal { reason: RefusalReason::WrongName, message: "you are somebody else".to_owned() };
    vec![("hello", Welcome::Hello(hello())), ("refused", Welcome::Refused(refusal))]
}

/// A batch of these items.
pub(crate) fn batch(items: &[Item]) -> Bytes {
    let mut writer = BatchWriter::new(TOKEN);
    for item in items {
        assert!(writer.push(&BatchWriter::encode_item(item).unwrap()));
    }
    writer.finish()
}
