//! Nodes of different builds on one link.

use bytes::{BufMut, Bytes, BytesMut};
use troupe_types::Uuid;
use troupe_wire::{
    Batch, DecodeError, Envelope, EnvelopeKind, Fate, Hello, Item, Reply, StreamEnd, StreamEnded,
    Welcome,
};

use crate::samples::{TOKEN, batch, envelope, hello, items};

#[test]
fn a_newer_kind_of_item_is_skipped_and_the_rest_is_read() {
    let (_, first) = items().remove(0);
    let (_, last) = items().remove(13);
    let newer = Item::Other(200, Bytes::from_static(b"from the future"));
    let read = Batch::decode(batch(&[first.clone(), newer.clone(), last.clone()])).unwrap();
    let read: Vec<Item> = read.items.into_iter().map(|(item, _)| item).collect();
    assert_eq!(read, [first, newer, last]);
}

/// A payload with two more fields at its end, as a newer program may write it.
#[test]
fn fields_that_a_newer_program_adds_are_ignored() {
    for (name, item) in items() {
        let bytes = batch(std::slice::from_ref(&item));
        let head = 1 + 8 + 2;
        let len = u32::from_be_bytes(bytes[head + 1..head + 5].try_into().unwrap());
        let mut longer = BytesMut::from(&bytes[..]);
        longer[head + 1..head + 5].copy_from_slice(&(len + 12).to_be_bytes());
        longer.put_u64(77);
        longer.put_u32(78);
        let read = Batch::decode(longer.freeze()).unwrap();
        assert_eq!(read.items[0].0, item, "{name}");
    }
    let mut longer = BytesMut::from(&Welcome::Hello(hello()).encode().unwrap()[..]);
    longer.put_u64(77);
    assert_eq!(Welcome::decode(longer.freeze()).unwrap(), Welcome::Hello(hello()));
}

#[test]
fn newer_values_come_through_as_such() {
    let newer = [
        Item::Envelope(envelope(EnvelopeKind::Other(99))),
        Item::Reply(Reply { to: Uuid::from_u128(1), fate: Fate::Other(99) }),
        Item::End(StreamEnd { stream: 1, how: StreamEnded::Other(99) }),
    ];
    let read = Batch::decode(batch(&newer)).unwrap();
    let read: Vec<Item> = read.items.into_iter().map(|(item, _)| item).collect();
    assert_eq!(read, newer);
    let mut to = envelope(EnvelopeKind::Ask);
    to.to.kind = 250;
    let read = Batch::decode(batch(&[Item::Envelope(to)])).unwrap();
    let Item::Envelope(Envelope { to, .. }) = &read.items[0].0 else { panic!() };
    assert!(to.entity().is_none(), "an entity kind that nobody here knows");
}

#[test]
fn another_version_is_refused_by_name() {
    let mut bytes = BytesMut::from(&batch(&[])[..]);
    bytes[0] = 9;
    let refused = Batch::decode(bytes.freeze()).unwrap_err();
    let expected = DecodeError::Version { what: "batch", found: 9, oldest: 1, newest: 1 };
    assert_eq!(refused, expected);
    let mut bytes = BytesMut::from(&batch(&[])[..]);
    bytes[0] = 9;
    assert_eq!(Batch::token_of(&bytes), Some(TOKEN), "its link can still be found");
    assert_eq!(Batch::token_of(&bytes[..8]), None);
}

#[test]
fn two_ends_agree_on_the_newest_version_that_both_read() {
    let of = |version_min, version_max| Hello { version_min, version_max, ..hello() };
    assert_eq!(of(1, 3).common_version(&of(2, 5)), Some(3));
    assert_eq!(of(2, 5).common_version(&of(1, 2)), Some(2));
    assert_eq!(of(1, 1).common_version(&of(2, 5)), None);
    assert_eq!(of(3, 4).common_version(&of(1, 2)), None);
}
