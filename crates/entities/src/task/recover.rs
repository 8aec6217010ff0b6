//! From rows to a live state.

use std::sync::Arc;

use troupe_domain::task::TaskState;
use troupe_sharding::Crash;
use troupe_store::Opened;
use troupe_types::{EntityId, FrameSeq, Seq};

use super::window::{Held, Window};
use crate::codec;

/// Folds snapshot and tail (taken out of `opened`).
///
/// # Errors
/// A record that cannot be read: loud, never skipped.
pub(super) fn fold(opened: &mut Opened, entity: EntityId) -> Result<(TaskState, Window), Crash> {
    let (mut state, upto) = match opened.snapshot.take() {
        Some(snapshot) => {
            let state = codec::decode_state(&snapshot.state)
                .map_err(|e| unreadable(entity, snapshot.upto, &e))?;
            (state, snapshot.upto)
        }
        None => (TaskState::default(), Seq::ZERO),
    };
    let head = FrameSeq(state.next_frame.0.saturating_sub(1));
    let mut window = Window::new(upto, head);
    for entry in std::mem::take(&mut opened.tail) {
        let decoded =
            codec::decode_entry(&entry.body).map_err(|e| unreadable(entity, entry.seq, &e))?;
        state.apply(&decoded);
        window.push(Held { seq: entry.seq, bytes: entry.body.len(), entry: Arc::new(decoded) });
    }
    Ok((state, window))
}

fn unreadable(entity: EntityId, seq: Seq, error: &dyn std::error::Error) -> Crash {
    tracing::error!(%entity, %seq, %error, "a journal record cannot be read");
    Crash { reason: format!("record {seq} of {entity} cannot be read: {error}"), blameless: true }
}
