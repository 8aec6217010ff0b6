//! How much a Namespace holds, and that it stays what can be listed.

use troupe_domain::namespace::{Item, ItemChange, NamespaceEntry, NamespaceState};
use troupe_sharding::FailedAsk;

/// All resources of a Namespace as JSON, those that were deleted and are kept included: an answer
/// between nodes has at most 8 MiB.
const BYTES_MAX: usize = 6 * 1024 * 1024;

/// Bytes of a Namespace, or more: what was forgotten by age is found out when it matters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(usize);

impl Size {
    pub(super) fn of(state: &NamespaceState) -> Self {
        Self(bytes(state))
    }

    /// Its size after an entry. What makes it larger than it may be is refused; what makes it
    /// smaller never is.
    pub(super) fn after(
        self,
        entry: &NamespaceEntry,
        state: &NamespaceState,
    ) -> Result<Self, FailedAsk> {
        let (more, less) = (more(entry), less(entry, state));
        let after = |size: Self| size.0.saturating_add(more).saturating_sub(less);
        if more <= less || after(self) <= BYTES_MAX {
            return Ok(Self(after(self)));
        }
        let known = Self::of(state);
        if after(known) <= BYTES_MAX {
            return Ok(Self(after(known)));
        }
        let message = format!(
            "the namespace would hold {} KiB, {} KiB fit: delete some (what is deleted counts for \
             30 days unless it is purged)",
            after(known) / 1024,
            BYTES_MAX / 1024
        );
        Err(FailedAsk { code: "too_large".into(), message, detail: None })
    }
}

fn bytes<T: serde::Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

fn more(entry: &NamespaceEntry) -> usize {
    let written = entry.changes.iter().filter(|c| matches!(c, ItemChange::Written { .. }));
    written.map(ItemChange::bytes).sum()
}

/// What is replaced, brought back or gone for good.
fn less(entry: &NamespaceEntry, state: &NamespaceState) -> usize {
    let replaced = |change: &ItemChange| -> usize {
        let (ItemChange::Written { key, .. } | ItemChange::Removed { key, .. }) = change;
        let (item, gone) = (state.items.get(key), state.deleted.get(key).map(|gone| &gone.item));
        let of = |item: Option<&Item>| item.map_or(0, bytes);
        match change {
            ItemChange::Written { item: new, .. } => {
                of(item) + of(gone.filter(|gone| gone.uid == new.uid))
            }
            ItemChange::Removed { purge: true, .. } => of(item) + of(gone),
            // It takes the place of one that was deleted before.
            ItemChange::Removed { purge: false, .. } => item.and(gone).map_or(0, bytes),
        }
    };
    entry.changes.iter().map(replaced).sum()
}
