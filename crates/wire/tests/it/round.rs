//! There and back, for anything that may be said; and any bytes.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use troupe_types::{Epoch, Incarnation, ShardId, Uuid};
use troupe_wire::{
    Address, Batch, Credit, Envelope, EnvelopeKind, Fate, Handoff, HandoffStep, Heartbeat, Hello,
    Item, Origin, Reply, StreamEnd, StreamEnded, StreamFrames, StreamStop, TraceContext, Welcome,
};

use crate::samples::{batch, items, welcomes};

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9.-]{1,63}"
}

fn kind() -> impl Strategy<Value = EnvelopeKind> {
    prop_oneof![
        Just(EnvelopeKind::Ask),
        Just(EnvelopeKind::Tell),
        (any::<u64>(), any::<u32>())
            .prop_map(|(stream, capacity)| EnvelopeKind::Subscribe { stream, capacity }),
        (4_u8..).prop_map(EnvelopeKind::Other),
    ]
}

fn trace() -> impl Strategy<Value = TraceContext> {
    (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<u8>())
        .prop_map(|(trace, span, flags)| TraceContext { trace, span, flags })
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let origin = (name(), uuid()).prop_map(|(node, boot)| Origin { node, boot });
    let address = (any::<u8>(), uuid()).prop_map(|(kind, id)| Address { kind, id });
    let numbers = (any::<u64>(), any::<u16>(), any::<u64>(), any::<u32>(), 0_u8..=3);
    (
        uuid(),
        option::of(origin),
        address,
        numbers,
        any::<bool>(),
        kind(),
        option::of(trace()),
        bytes(),
    )
        .prop_map(
            |(id, from, to, (sender_seq, shard, epoch, ttl_ms, hop), relay, kind, trace, body)| {
                let (shard, epoch) = (ShardId(shard), Epoch(epoch));
                Envelope {
                    id,
                    from,
                    sender_seq,
                    to,
                    shard,
                    epoch,
                    ttl_ms,
                    hop,
                    relay,
                    kind,
                    trace,
                    body,
                }
            },
        )
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        bytes().prop_map(Fate::Done),
        any::<bool>().prop_map(|done| Fate::Duplicate { done }),
        Just(Fate::Expired),
        (option::of(name()), any::<u64>())
            .prop_map(|(owner, epoch)| Fate::NotOwner { owner, epoch: Epoch(epoch) }),
        (".{0,40}", ".{0,40}", option::of(".{0,40}"))
            .prop_map(|(code, message, detail)| Fate::Failed { code, message, detail }),
        Just(Fate::Overloaded),
        Just(Fate::NotDelivered),
        Just(Fate::Unknown),
        Just(Fate::Unsupported),
        (any::<u32>(), bytes()).prop_map(|(part, body)| Fate::Part { part, body }),
        (11_u8..).prop_map(Fate::Other),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let step = prop_oneof![
        Just(HandoffStep::Prepare),
        Just(HandoffStep::Ready),
        Just(HandoffStep::FlushMarker),
        (7_u8..).prop_map(HandoffStep::Other),
    ];
    let how = prop_oneof![
        Just(StreamEnded::Lagged),
        Just(StreamEnded::Ended),
        Just(StreamEnded::Closed),
        (4_u8..).prop_map(StreamEnded::Other),
    ];
    prop_oneof![
        envelope().prop_map(Item::Envelope),
        (uuid(), fate()).prop_map(|(to, fate)| Item::Reply(Reply { to, fate })),
        (any::<u64>(), any::<u32>())
            .prop_map(|(bytes, items)| Item::Credit(Credit { bytes, items })),
        (any::<u64>(), any::<u64>()).prop_map(|(inc, seq)| Item::Heartbeat(Heartbeat { inc, seq })),
        (any::<u64>(), any::<u64>(), any::<bool>(), vec(bytes(), 0..20)).prop_map(
            |(stream, piece, more, frames)| Item::Frames(StreamFrames {
                stream,
                piece,
                more,
                frames
            })
        ),
        (any::<u64>(), how).prop_map(|(stream, how)| Item::End(StreamEnd { stream, how })),
        any::<u64>().prop_map(|stream| Item::Stop(StreamStop { stream })),
        (any::<u16>(), any::<[u64; 4]>(), step).prop_map(|(shard, numbers, step)| {
            let [epoch, source, count, target] = numbers;
            let (source_inc, target_inc) = (Incarnation(source), Incarnation(target));
            let (shard, epoch) = (ShardId(shard), Epoch(epoch));
            Item::Handoff(Handoff { shard, epoch, source_inc, count, target_inc, step })
        }),
        (9_u8.., bytes()).prop_map(|(code, bytes)| Item::Other(code, bytes)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(items in vec(item(), 0..30)) {
        let written = batch(&items);
        let read = Batch::decode(written.clone()).unwrap();
        let sizes: usize = read.items.iter().map(|(_, size)| size).sum();
        prop_assert_eq!(sizes + 11, written.len(), "the sizes are what it costs");
        let read: Vec<Item> = read.items.into_iter().map(|(item, _)| item).collect();
        prop_assert_eq!(read, items);
    }

    #[test]
    fn hellos_are_read_again(
        names in (name(), name()),
        boot in uuid(),
        versions in any::<(u8, u8)>(),
        build in ".{0,60}",
        roles in vec(name(), 0..32),
        numbers in any::<(u64, u64)>(),
    ) {
        let hello = Welcome::Hello(Hello {
            cluster: names.0,
            node: names.1,
            boot,
            version_min: versions.0,
            version_max: versions.1,
            build,
            roles,
            ingress: numbers.0,
            token: numbers.1,
        });
        prop_assert_eq!(Welcome::decode(hello.encode().unwrap()).unwrap(), hello);
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in vec(any::<u8>(), 0..600)) {
        let _ = Batch::decode(Bytes::from(bytes.clone()));
        let _ = Welcome::decode(Bytes::from(bytes));
    }

    #[test]
    fn damaged_frames_give_an_answer(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let all = items();
        let (_, item) = &all[which.index(all.len())];
        let good = batch(std::slice::from_ref(item)).to_vec();
        let mut turned = good.clone();
        turned[at.index(good.len())] ^= 1 << bit;
        let _ = Batch::decode(Bytes::from(turned));
        let cut = at.index(good.len());
        prop_assert!(Batch::decode(Bytes::from(good[..cut].to_vec())).is_err(), "cut at {}", cut);
    }
}

#[test]
fn every_cut_of_a_hello_is_refused() {
    for (_, welcome) in welcomes() {
        let whole = welcome.encode().unwrap();
        for cut in 0..whole.len() {
            assert!(Welcome::decode(whole.slice(..cut)).is_err(), "cut at {cut}");
        }
    }
}
