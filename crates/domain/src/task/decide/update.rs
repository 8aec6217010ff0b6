//! Title and labels.

use std::collections::BTreeMap;

use troupe_types::TaskFrame;

use super::check;
use crate::task::{
    command::{Ack, Context, Decision, Refusal},
    draft::Draft,
    entry::TaskEvent,
    labels::replaced,
    state::TaskState,
};

pub(super) fn update(
    state: &TaskState,
    title: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    ctx: &mut Context<'_>,
) -> Result<Decision, Refusal> {
    title.as_deref().map_or(Ok(()), check::title)?;
    let labels = labels.map(|given| replaced(&state.labels, given)).transpose()?;
    labels.as_ref().map_or(Ok(()), check::labels)?;
    let title = title.filter(|new| *new != state.title);
    let labels = labels.filter(|new| *new != state.labels);
    if title.is_none() && labels.is_none() {
        return Ok(super::nothing());
    }
    let mut d = Draft::new(state, ctx);
    d.event(TaskEvent::Updated { title: title.clone(), labels: labels.clone() });
    d.tell_task(TaskFrame { title, labels, status: None });
    d.finish_bounded(Ack::Ok, "labels")
}
