//! What can be seen of a journal's fences without owning it.

use bytes::Bytes;
use troupe_types::{EntityKind, Seq};

use super::{Subject, entity, entries};
use crate::effective::Tags;

/// A store either keeps no tags, or they tell of every claim, and of no fault.
pub(super) async fn tags(subject: &mut dyn Subject) {
    let id = entity(EntityKind::Task);
    let stores = subject.stores();
    let look = async |stores: &crate::Stores| stores.inventory.tags(id, 3).await.unwrap();
    assert_eq!(look(&stores).await, None, "there is no entry");
    let first = stores.journal.open(id, stores.boot_epoch).await.unwrap();
    stores.journal.append(&first, Seq(1), entries(1, 2, 1, 1), Vec::new()).await.unwrap();
    let Some(tags) = look(&stores).await else { return };
    let rows = [(Seq(2), first.fence), (Seq(1), first.fence)];
    assert_eq!((&tags.rows[..], tags.is_whole), (&rows[..], true));
    assert_eq!((tags.epoch, tags.fence), (stores.boot_epoch, first.fence));

    subject.restart().await;
    let stores = subject.stores();
    let second = stores.journal.open(id, stores.boot_epoch).await.unwrap();
    stores.journal.append(&second, Seq(3), entries(3, 2, 3, 1), Vec::new()).await.unwrap();
    let tags = look(&stores).await.unwrap();
    let rows = [(Seq(4), second.fence), (Seq(3), second.fence), (Seq(2), first.fence)];
    assert_eq!((&tags.rows[..], tags.is_whole), (&rows[..], false), "the newest three");
    assert_eq!((tags.epoch, tags.fence), (stores.boot_epoch, second.fence));
    assert_eq!((tags.starts[&second.fence], tags.faults()), (Seq(3), vec![]));

    stores.journal.snapshot(&second, Seq(3), Bytes::from_static(b"state")).await.unwrap();
    let tags = look(&stores).await.unwrap();
    assert_eq!((tags.snapshot_seq, &tags.rows[..]), (Seq(3), &rows[..1]));
    assert_eq!(Tags { is_whole: true, ..tags }.faults(), []);
}
