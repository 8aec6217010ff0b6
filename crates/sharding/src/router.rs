//! The one way to reach an entity.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use tracing::{Instrument as _, Span, debug_span};
use troupe_actor::spawn_task;
use troupe_telemetry::trace;
use troupe_types::{EntityId, ShardId, Timestamp, limits::ENTRY_BYTES_MAX};

use crate::{
    ask::{AskError, FailedAsk},
    entity::{FrameSink, StreamItem},
    host::shared::HostShared,
    letter::{Answer, AskCell, Content, PendingAnswer},
    node::{
        asks::{RemoteAsk, What},
        shared::NodeShared,
    },
    placement::Owner,
};

/// Tells under way, of a Router without a node link.
const TELLS_MAX: usize = 4_096;
/// First pause before a repeatable ask is tried again; it doubles.
const REPEAT_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
const REPEAT_MAX: Duration = Duration::from_secs(2);

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
    node: ArcSwapOption<NodeShared>,
    tells: AtomicUsize,
}

/// How a message may be given to entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// To one owner.
    Once,
    /// Again and again, as the entity knows it.
    Repeatable,
    /// The same, and nobody waits for the answer.
    Tell,
}

/// What became of a message that was posted.
pub(crate) enum Posted<T = PendingAnswer> {
    /// An entity of this node has it in its queue.
    Here(T),
    /// Its Shard is not owned by this node.
    Elsewhere(Content),
    Refused(AskError),
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

    pub(crate) fn attach_node(&self, node: Arc<NodeShared>) {
        self.link.node.store(Some(node));
    }

    pub(crate) fn detach_node(&self) {
        self.link.node.store(None);
    }

    pub(crate) fn has_node(&self) -> bool {
        self.link.node.load().is_some()
    }

    /// Whether this node is letting go of a Shard.
    pub(crate) fn is_released(&self, shard: ShardId) -> bool {
        let host = self.link.host.load();
        let shard = host.as_ref().and_then(|host| host.shard(shard).ok());
        shard.is_none_or(|shard| shard.lock().is_released())
    }

    /// Who owns a Shard, as far as placement knows.
    pub(crate) fn owner(&self, shard: ShardId) -> Owner {
        self.link.host.load().as_ref().map_or(Owner::Nobody, |host| host.owner(shard))
    }

    /// A message waits for a Shard that has no owner.
    pub(crate) fn wanted(&self, shard: ShardId) {
        if let Some(host) = self.link.host.load().as_ref() {
            host.wanted(shard);
        }
    }

    /// The same for entities, whose asks still reach live entities during a drain.
    pub(crate) fn inside(&self) -> Self {
        Self { link: Arc::clone(&self.link), inside: true }
    }

    /// Asks an entity, which need not be active, and waits at most `timeout`. `body` has at most
    /// `ENTRY_BYTES_MAX` bytes. The entity may live on any node.
    ///
    /// Dropping the future withdraws the ask if no handler has seen it yet and it has not left
    /// this node.
    ///
    /// # Errors
    /// The four fates. `Failed` with the code `too_large`: the body is; `poisoned`: the message
    /// crashed the entity three times. `OutcomeUnknown` too if the owner went away while it had
    /// the message.
    pub async fn ask(
        &self,
        to: EntityId,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, AskError> {
        self.send(to, Content::Ask(body), Mode::Once, timeout).await
    }

    /// Asks an entity that knows a repeated message by a key of its own: the message is given
    /// to it again, and to whoever owns it by then, until it answers or the time is up.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); those that may pass are told only when the time is up.
    pub async fn ask_repeatable(
        &self,
        to: EntityId,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, AskError> {
        self.repeat(to, body, Mode::Repeatable, timeout).await
    }

    /// Asks once, or again and again if the entity knows repeated messages and there are other
    /// nodes: alone, a second try finds what the first one found.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn ask_or_repeat(
        &self,
        to: EntityId,
        body: Bytes,
        may_repeat: bool,
        timeout: Duration,
    ) -> Result<Bytes, AskError> {
        if may_repeat && self.has_node() {
            self.ask_repeatable(to, body, timeout).await
        } else {
            self.ask(to, body, timeout).await
        }
    }

    async fn repeat(
        &self,
        to: EntityId,
        body: Bytes,
        mode: Mode,
        timeout: Duration,
    ) -> Result<Bytes, AskError> {
        let until = Instant::now() + timeout;
        let mut pause = REPEAT_MIN;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.send(to, Content::Ask(body.clone()), mode, left).await;
            let again = matches!(&answer, Err(fate) if fate.is_transient());
            if !again || Instant::now() + pause >= until {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REPEAT_MAX);
        }
    }

    /// Tells an entity something, without waiting for its answer: as
    /// [`ask_repeatable`](Self::ask_repeatable), for at most `ttl`. If that does not help, the
    /// log says so and nobody else does.
    ///
    /// # Errors
    /// `Overloaded`: too much is being told.
    pub fn tell(&self, to: EntityId, body: Bytes, ttl: Duration) -> Result<(), AskError> {
        let node = self.link.node.load();
        let max = node.as_ref().map_or(TELLS_MAX, |node| node.options.tells_max);
        if self.link.tells.fetch_add(1, Ordering::Relaxed) >= max {
            self.link.tells.fetch_sub(1, Ordering::Relaxed);
            return Err(AskError::Overloaded);
        }
        let telling = Telling { router: self.clone(), span: Span::none() };
        // Straight to its owner, if that is so simple.
        let left = match &*node {
            Some(node) if self.is_attached() && body.len() <= ENTRY_BYTES_MAX => {
                let until = Instant::now() + ttl;
                node.tell_owner(to, body.clone(), until, self.inside, telling)
            }
            _ => Err(telling),
        };
        let Err(mut telling) = left else { return Ok(()) };
        // Each of its tries has one.
        telling.span = Span::none();
        let router = self.clone();
        drop(spawn_task("tell", async move {
            if let Err(fate) = router.repeat(to, body, Mode::Tell, ttl).await {
                not_told(to, &fate);
            }
            drop(telling);
        }));
        Ok(())
    }

    /// Asks an entity for its frames: answers its reply and the stream, which holds at most
    /// `capacity` undelivered batches. A closed stream means the same as `Ended`; it also closes
    /// when the link to the entity's node ends.
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
        let reply = self.send(to, Content::Subscribe(body, sink), Mode::Once, timeout).await?;
        Ok((reply, stream))
    }

    /// Tells this node's wake loop of a wake row that was just written, so that it need not be
    /// read. Best effort: the wake index is read again every few minutes.
    pub fn note_wake(&self, entity: EntityId, due: Timestamp) {
        if let Some(host) = &*self.link.host.load() {
            host.note_wake(entity, due);
        }
    }

    async fn send(
        &self,
        to: EntityId,
        content: Content,
        mode: Mode,
        timeout: Duration,
    ) -> Result<Bytes, AskError> {
        let span = Self::span(to);
        let answer = if span.is_disabled() {
            self.carry(to, content, mode, timeout).await
        } else {
            let carried = self.carry(to, content, mode, timeout).instrument(span.clone());
            Box::pin(carried).await
        };
        self.note(to, &span, &answer);
        answer
    }

    /// The span of what is asked of an entity.
    fn span(to: EntityId) -> Span {
        trace::child(|| {
            debug_span!("router ask", otel.kind = "producer", kind = to.kind.name(), entity = %to,
                fate = tracing::field::Empty)
        })
    }

    /// Takes note of an answer.
    fn note(&self, to: EntityId, span: &Span, answer: &Answer) {
        if !span.is_disabled() {
            span.record("fate", answer.as_ref().map_or_else(AskError::word, |_| "answered"));
        }
        if let Some(host) = &*self.link.host.load()
            && let Some(kind) = host.kind(to.kind)
        {
            kind.metrics.asked(answer);
        }
    }

    async fn carry(&self, to: EntityId, content: Content, mode: Mode, timeout: Duration) -> Answer {
        match self.post(to, content, self.inside) {
            Posted::Here(pending) => pending.within(timeout).await,
            Posted::Refused(fate) => Err(fate),
            // Boxed, so that the way within the node stays as light as it is.
            Posted::Elsewhere(content) => {
                Box::pin(self.elsewhere(to, content, mode, timeout)).await
            }
        }
    }

    /// Gives a message to an entity of this node, of a caller that waits.
    pub(crate) fn post(&self, to: EntityId, content: Content, inside: bool) -> Posted {
        self.post_of(to, content, inside, |place| AskCell::new(Some(place)))
    }

    /// The same; `asker` says who asks, once there is a place in the entity's queue.
    pub(crate) fn post_of<T>(
        &self,
        to: EntityId,
        content: Content,
        inside: bool,
        asker: impl FnOnce(OwnedSemaphorePermit) -> (Arc<AskCell>, T),
    ) -> Posted<T> {
        let (Content::Ask(body) | Content::Subscribe(body, _)) = &content;
        if body.len() > ENTRY_BYTES_MAX {
            return Posted::Refused(AskError::Failed(FailedAsk {
                code: "too_large".to_owned(),
                message: format!("a message has at most {ENTRY_BYTES_MAX} bytes"),
                detail: None,
            }));
        }
        let host = self.link.host.load();
        let Some(host) = &*host else { return Posted::Refused(AskError::NotDelivered) };
        let Ok(shard) = host.shard(to.shard()) else { return Posted::Elsewhere(content) };
        if host.kind(to.kind).is_none() || (host.is_draining() && !inside) {
            return Posted::Refused(AskError::NotDelivered);
        }
        let now = host.clock.mono();
        let mut table = shard.lock();
        if table.sends_away(&to, inside) {
            return Posted::Elsewhere(content);
        }
        let posted = table.post(to, content, inside, now, asker);
        drop(table);
        if posted.is_err() && host.census.is_full() {
            host.sweep_soon.notify_one();
        }
        match posted {
            Ok((answer, nudge)) => {
                host.nudge(shard, nudge);
                Posted::Here(answer)
            }
            Err(fate) => Posted::Refused(fate),
        }
    }

    async fn elsewhere(
        &self,
        to: EntityId,
        content: Content,
        mode: Mode,
        timeout: Duration,
    ) -> Result<Bytes, AskError> {
        let node = self.link.node.load_full();
        let Some(node) = node else { return Err(AskError::NotDelivered) };
        let repeatable = mode != Mode::Once;
        if matches!(node.resolve(to.shard()), Owner::Nobody) && !repeatable {
            return Err(AskError::NotDelivered);
        }
        let (body, what) = match content {
            Content::Ask(body) if mode == Mode::Tell => (body, What::Tell),
            Content::Ask(body) => (body, What::Ask),
            Content::Subscribe(body, sink) => {
                let capacity = u32::try_from(sink.capacity()).unwrap_or(u32::MAX);
                (body, What::Subscribe(sink, capacity))
            }
        };
        let (until, stamp) = (Instant::now() + timeout, node.stamp());
        let (inside, passed) = (self.inside, None);
        node.ask(RemoteAsk { stamp, to, body, what, until, repeatable, inside, passed }).await
    }
}

fn not_told(to: EntityId, fate: &AskError) {
    tracing::warn!(entity = %to, %fate, "nobody was told");
}

/// A tell under way; it counts as long as this is held.
pub(crate) struct Telling {
    router: Router,
    span: Span,
}

impl Telling {
    /// It goes over a link now.
    pub(crate) fn begin(&mut self, to: EntityId) {
        self.span = Router::span(to);
    }

    pub(crate) const fn span(&self) -> &Span {
        &self.span
    }

    /// It went to another node, and this is the answer.
    pub(crate) fn end(self, to: EntityId, answer: &Answer) {
        self.router.note(to, &self.span, answer);
        if let Err(fate) = answer {
            not_told(to, fate);
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.router.link.tells.fetch_sub(1, Ordering::Relaxed);
    }
}
