//! The one way to reach an entity.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::mpsc;
use troupe_types::{EntityId, Timestamp, limits::ENTRY_BYTES_MAX};

use crate::{
    ask::{AskError, FailedAsk},
    entity::{FrameSink, StreamItem},
    host::shared::HostShared,
    letter::{Content, PendingAnswer},
};

/// Reaches entities by their addresses. Cheap to clone.
///
/// It may be made before its host, so that factories can hold it; until the host starts, and
/// after it ended, every ask is `NotDelivered`.
#[derive(Clone, Default)]
pub struct Router {
    link: Arc<Link>,
    inside: bool,
}

#[derive(Default)]
struct Link {
    host: ArcSwapOption<HostShared>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

impl Router {
    /// A router without a host yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn attach(&self, host: Arc<HostShared>) {
        self.link.host.store(Some(host));
    }

    pub(crate) fn detach(&self) {
        self.link.host.store(None);
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.link.host.load().is_some()
    }

    /// The same for entities, whose asks still reach live entities during a drain.
    pub(crate) fn inside(&self) -> Self {
        Self { link: Arc::clone(&self.link), inside: true }
    }

    /// Asks an entity, which need not be active, and waits at most `timeout`. `body` has at most
    /// `ENTRY_BYTES_MAX` bytes.
    ///
    /// Dropping the future withdraws the ask if no handler has seen it yet.
    ///
    /// # Errors
    /// The four fates. `Failed` with the code `too_large`: the body is; `poisoned`: the message
    /// crashed the entity three times.
    pub async fn ask(
        &self,
        to: EntityId,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, AskError> {
        let pending = self.post(to, Content::Ask(body));
        self.answer(to, pending, timeout).await
    }

    /// Asks an entity for its frames: answers its reply and the stream, which holds at most
    /// `capacity` undelivered batches. A closed stream means the same as `Ended`.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn subscribe(
        &self,
        to: EntityId,
        body: Bytes,
        capacity: usize,
        timeout: Duration,
    ) -> Result<(Bytes, mpsc::Receiver<StreamItem>), AskError> {
        let (sink, stream) = FrameSink::new(capacity);
        let pending = self.post(to, Content::Subscribe(body, sink));
        let reply = self.answer(to, pending, timeout).await?;
        Ok((reply, stream))
    }

    /// Tells this node's wake loop of a wake row that was just written, so that it need not be
    /// read. Best effort: the wake index is read again every few minutes.
    pub fn note_wake(&self, entity: EntityId, due: Timestamp) {
        if let Some(host) = &*self.link.host.load() {
            host.note_wake(entity, due);
        }
    }

    fn post(&self, to: EntityId, content: Content) -> Result<PendingAnswer, AskError> {
        let (Content::Ask(body) | Content::Subscribe(body, _)) = &content;
        if body.len() > ENTRY_BYTES_MAX {
            return Err(AskError::Failed(FailedAsk {
                code: "too_large".to_owned(),
                message: format!("a message has at most {ENTRY_BYTES_MAX} bytes"),
                detail: None,
            }));
        }
        let host = self.link.host.load();
        let Some(host) = &*host else { return Err(AskError::NotDelivered) };
        if host.kind(to.kind).is_none() || (host.is_draining() && !self.inside) {
            return Err(AskError::NotDelivered);
        }
        // An owner elsewhere will be reached from here, through its node's Router.
        let shard = host.shard(to.shard()).map_err(|_| AskError::NotDelivered)?;
        let now = host.clock.mono();
        let posted = shard.lock().post(to, content, self.inside, now);
        if posted.is_err() && host.census.is_full() {
            host.sweep_soon.notify_one();
        }
        let (answer, nudge) = posted?;
        host.nudge(shard, nudge);
        Ok(answer)
    }

    async fn answer(
        &self,
        to: EntityId,
        pending: Result<PendingAnswer, AskError>,
        timeout: Duration,
    ) -> Result<Bytes, AskError> {
        let answer = match pending {
            Ok(pending) => pending.within(timeout).await,
            Err(fate) => Err(fate),
        };
        if let Some(host) = &*self.link.host.load()
            && let Some(kind) = host.kind(to.kind)
        {
            kind.metrics.asked(&answer);
        }
        answer
    }
}
