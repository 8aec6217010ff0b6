//! Limits, on both sides.

use bytes::{BufMut, Bytes, BytesMut};
use troupe_wire::{
    Batch, BatchWriter, DecodeError, EncodeError, Envelope, EnvelopeKind, Item, StreamFrames,
    Welcome,
    limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, BODY_BYTES_MAX, HOPS_MAX, STREAM_FRAMES_MAX},
};

use crate::samples::{TOKEN, envelope, hello};

#[test]
fn the_largest_body_fits_and_one_byte_more_does_not() {
    let of = |len| {
        let body = Bytes::from(vec![b'x'; len]);
        Item::Envelope(Envelope { body, ..envelope(EnvelopeKind::Ask) })
    };
    let largest = BatchWriter::encode_item(&of(BODY_BYTES_MAX)).unwrap();
    assert!(BatchWriter::new(TOKEN).push(&largest));
    let refused = BatchWriter::encode_item(&of(BODY_BYTES_MAX + 1)).unwrap_err();
    let (found, max) = (BODY_BYTES_MAX + 1, BODY_BYTES_MAX);
    assert_eq!(refused, EncodeError::TooLarge { what: "body", found, max });
}

#[test]
fn a_batch_takes_what_fits_and_no_more() {
    let body = Bytes::from(vec![b'x'; 60_000]);
    let item = Item::Envelope(Envelope { body, ..envelope(EnvelopeKind::Tell) });
    let item = BatchWriter::encode_item(&item).unwrap();
    let mut writer = BatchWriter::new(TOKEN);
    let mut taken = 0;
    while writer.push(&item) {
        taken += 1;
    }
    assert_eq!((taken, writer.len()), (8, 8));
    let bytes = writer.finish();
    assert!(bytes.len() <= BATCH_BYTES_MAX);
    assert_eq!(Batch::decode(bytes).unwrap().items.len(), 8);

    let small = BatchWriter::encode_item(&Item::Other(99, Bytes::new())).unwrap();
    let mut writer = BatchWriter::new(TOKEN);
    let taken = (0..2 * BATCH_ITEMS_MAX).take_while(|_| writer.push(&small)).count();
    assert_eq!(taken, BATCH_ITEMS_MAX);
}

#[test]
fn too_many_hops_are_refused_on_both_sides() {
    let far = Envelope { hop: HOPS_MAX + 1, ..envelope(EnvelopeKind::Ask) };
    assert!(BatchWriter::encode_item(&Item::Envelope(far)).is_err());
}

#[test]
fn long_streams_and_hellos_are_refused() {
    let frames = StreamFrames {
        stream: 1,
        piece: 1,
        more: false,
        frames: vec![Bytes::new(); STREAM_FRAMES_MAX + 1],
    };
    assert!(BatchWriter::encode_item(&Item::Frames(frames)).is_err());
    let half = Bytes::from(vec![b'x'; BODY_BYTES_MAX / 2 + 1]);
    let frames = vec![half.clone(), half];
    let frames = StreamFrames { stream: 1, piece: 1, more: false, frames };
    assert!(BatchWriter::encode_item(&Item::Frames(frames)).is_err());
    let mut long = hello();
    long.roles = vec!["r".to_owned(); 33];
    assert!(Welcome::Hello(long.clone()).encode().is_err());
    long.roles = vec!["r".repeat(64)];
    assert!(Welcome::Hello(long).encode().is_err());
}

/// A length that promises gigabytes costs nothing: what is there is looked at first.
#[test]
fn a_length_that_lies_is_refused_before_anything_is_made() {
    let mut lying = BytesMut::new();
    lying.put_u8(1);
    lying.put_u64(TOKEN);
    lying.put_u16(u16::MAX);
    lying.put_u8(1);
    lying.put_u32(u32::MAX);
    let refused = Batch::decode(lying.freeze()).unwrap_err();
    assert!(matches!(refused, DecodeError::TooLarge { .. }), "{refused:?}");
    let large = Bytes::from(vec![1; BATCH_BYTES_MAX + 1]);
    assert!(matches!(Batch::decode(large), Err(DecodeError::TooLarge { what: "batch", .. })));
    assert_eq!(Batch::decode(Bytes::new()), Err(DecodeError::Short { what: "batch" }));
}
