//! Frames of the node link: what a peer sends may be anything.

use bytes::Bytes;
use troupe_wire::{Batch, BatchWriter, Item, Welcome};

/// Reads the bytes as a batch and as a hello. Whatever reads is written again and then reads as
/// the same.
///
/// # Panics
/// If something that was read cannot be written, or reads differently afterwards.
pub fn run(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let _token = Batch::token_of(&bytes);
    if let Ok(batch) = Batch::decode(bytes.clone()) {
        round(&batch);
    }
    if let Ok(welcome) = Welcome::decode(bytes) {
        let written = welcome.encode().expect("what was read fits");
        let again = Welcome::decode(written).expect("what was written reads");
        assert_eq!(again, welcome, "writing changed a hello");
    }
}

fn round(batch: &Batch) {
    let mut writer = BatchWriter::new(batch.token);
    let mut taken = Vec::new();
    for (item, size) in &batch.items {
        assert!(*size >= 5, "an item has a head");
        let written = BatchWriter::encode_item(item).expect("what was read fits");
        // Fields that this version does not know are not written again.
        assert!(written.len() <= *size, "an item grew: {item:?}");
        // More items than a batch of ours holds are read, as their sizes are bounded.
        if writer.push(&written) {
            taken.push(item.clone());
        }
    }
    let again = Batch::decode(writer.finish()).expect("what was written reads");
    assert_eq!(again.token, batch.token);
    let read: Vec<Item> = again.items.into_iter().map(|(item, _)| item).collect();
    assert_eq!(read, taken, "writing changed an item");
}
