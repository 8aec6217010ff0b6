//! The live activation of a Namespace.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use troupe_actor::spawn_task;
use troupe_domain::namespace::{Apply, Key, NamespaceEntry, NamespaceState, decide};
use troupe_resources::Kind;
use troupe_sharding::{
    AskError, Crash, Entity, EntityContext, EntityFactory, FailedAsk, FrameSink, Reply,
};
use troupe_store::{AppendError, Opened};
use troupe_types::{EntityKind, FrameSeq, Seq, limits};

use super::{
    address::{Listed, NamespaceAsk, NamespaceRefusal, NamespaceReply, WATCH_HELD},
    log::Log,
    parts::{Parts, Put},
    size::Size,
};
use crate::{
    codec,
    commit::{Abandoned, Appended, Committer},
};

/// Changes of one entry, as JSON; what the entry has besides is small.
const CHANGES_BYTES: usize = limits::ENTRY_BYTES_MAX - 4096;
/// Entries of one apply, which are one append of the store.
const APPLY_BYTES_MAX: usize = 960 * 1024;
/// Watches held open at once; further ones are answered at once.
const WATCHES_MAX: usize = 64;
/// Entries after which a snapshot is written.
const SNAPSHOT_ENTRIES: u64 = 100;

/// Makes Namespace activations.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamespaceFactory;

#[async_trait]
impl EntityFactory for NamespaceFactory {
    type Entity = NamespaceActor;

    fn kind(&self) -> EntityKind {
        EntityKind::Namespace
    }

    fn idle_for(&self) -> Duration {
        Duration::from_secs(300)
    }

    async fn activate(
        &self,
        context: EntityContext<NamespaceInternal>,
    ) -> Result<NamespaceActor, Crash> {
        NamespaceActor::activate(context).await
    }
}

/// What a Namespace's own tasks tell it.
#[derive(Debug)]
pub enum NamespaceInternal {
    /// An append ended.
    Appended(Appended),
    /// A snapshot ended.
    Snapshot(Result<(), AppendError>),
    /// Watches that were held long enough.
    WatchTimer,
}

#[derive(Debug)]
enum Effect {
    Committed(NamespaceEntry, Seq),
    Reply(Reply, Result<Bytes, FailedAsk>),
    Read(NamespaceAsk, Reply),
    Snapshot(Seq, Bytes),
}

#[derive(Debug)]
struct Watch {
    since: Seq,
    until: troupe_types::MonoTime,
    reply: Reply,
}

/// The resources of one owner, live.
#[derive(Debug)]
pub struct NamespaceActor {
    context: EntityContext<NamespaceInternal>,
    commits: Committer<Effect>,
    /// The speculative fold.
    state: NamespaceState,
    /// The committed fold: what reads answer.
    committed: Arc<NamespaceState>,
    log: Log,
    size: Size,
    /// Of applies that are larger than a message.
    parts: Parts,
    watches: Vec<Watch>,
    /// One timer at a time looks after all of them.
    watch_timer: bool,
    since_snapshot: u64,
    snapshot_under_way: bool,
}

impl NamespaceActor {
    async fn activate(context: EntityContext<NamespaceInternal>) -> Result<Self, Crash> {
        let journal = Arc::clone(&context.stores.journal);
        let mut opened = journal
            .open(context.id, context.epoch)
            .await
            .map_err(|e| blameless(format!("the journal could not be opened: {e}")))?;
        let since_snapshot = opened.tail.len() as u64;
        let (state, log) = fold(&mut opened)?;
        let committed = Arc::new(state.clone());
        Ok(Self {
            context,
            commits: Committer::new(journal, Arc::new(opened)),
            size: Size::of(&state),
            state,
            committed,
            log,
            parts: Parts::default(),
            watches: Vec::new(),
            watch_timer: false,
            since_snapshot,
            snapshot_under_way: false,
        })
    }

    fn apply(&mut self, apply: &Apply, reply: Reply) -> Result<(), Crash> {
        let now = self.context.clock.now();
        let mut ids = || troupe_types::RequestId::new(now).uuid();
        let decision = match decide(&self.state, apply, now, &mut ids) {
            Ok(decision) => decision,
            Err(faults) => {
                let refusal = refused(&NamespaceRefusal::Faults { faults });
                self.defer(Effect::Reply(reply, Err(refusal)));
                return Ok(());
            }
        };
        if let Some(entry) = decision.entry
            && let Err(refusal) = self.stage(entry, apply.dry_run)?
        {
            self.defer(Effect::Reply(reply, Err(refusal)));
            return Ok(());
        }
        let version = self.state.version;
        let answer = NamespaceReply::Applied { outcomes: decision.outcomes, version };
        self.defer(Effect::Reply(reply, Ok(encode(&answer))));
        Ok(())
    }

    /// All or none: what does not fit into one entry of the journal is in several, which are
    /// one append. Nothing is staged of a dry run.
    fn stage(
        &mut self,
        entry: NamespaceEntry,
        dry_run: bool,
    ) -> Result<Result<(), FailedAsk>, Crash> {
        let size = match self.size.after(&entry, &self.state) {
            Ok(size) => size,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let entries = entry.split(self.state.version.next(), CHANGES_BYTES);
        let encoded = entries.iter().map(codec::encode_namespace_entry);
        let bodies: Vec<Bytes> = encoded
            .collect::<Result<_, _>>()
            .map_err(|e| blameless(format!("an entry cannot be encoded: {e}")))?;
        if let Err(refusal) = fits(&bodies) {
            return Ok(Err(refusal));
        }
        if dry_run {
            return Ok(Ok(()));
        }
        self.size = size;
        self.since_snapshot += bodies.len() as u64;
        let mut seq = self.commits.stage_together(FrameSeq(1), bodies, Vec::new());
        for entry in entries {
            self.state.apply(&entry);
            self.defer(Effect::Committed(entry, seq));
            seq = seq.next();
        }
        if self.since_snapshot >= SNAPSHOT_ENTRIES && !self.snapshot_under_way {
            self.snapshot_under_way = true;
            self.since_snapshot = 0;
            let state = codec::encode_namespace(&self.state)
                .map_err(|e| blameless(format!("a snapshot cannot be encoded: {e}")))?;
            self.defer(Effect::Snapshot(self.state.version, state));
        }
        Ok(Ok(()))
    }

    fn part(&mut self, put: Put, reply: Reply) -> Result<(), Crash> {
        match put {
            Put::Held => self.defer(Effect::Reply(reply, Ok(encode(&NamespaceReply::Held)))),
            Put::Whole(text) => match serde_json::from_str::<Apply>(&text) {
                Ok(apply) => self.apply(&apply, reply)?,
                Err(_) => reply.fail(AskError::NotDelivered),
            },
            Put::Torn => reply.fail(AskError::NotDelivered),
            Put::TooLarge => reply.refuse(too_large("the documents are too large for one apply")),
        }
        Ok(())
    }

    fn defer(&mut self, effect: Effect) {
        if let Some(now) = self.commits.after(effect) {
            self.run_effects(vec![now]);
        }
    }

    fn pump(&mut self) {
        while let Some(job) = self.commits.pump() {
            let me = self.context.me.clone();
            spawn_task("namespace-append", async move {
                let _ = me.send(NamespaceInternal::Appended(job.await));
            });
        }
    }

    fn run_effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Committed(entry, seq) => self.committed(&entry, seq),
                Effect::Reply(reply, Ok(body)) => reply.ok(body),
                Effect::Reply(reply, Err(why)) => reply.refuse(why),
                Effect::Read(ask, reply) => self.read(ask, reply),
                Effect::Snapshot(upto, state) => self.write_snapshot(upto, state),
            }
        }
    }

    fn committed(&mut self, entry: &NamespaceEntry, seq: Seq) {
        Arc::make_mut(&mut self.committed).apply(entry);
        self.log.push(entry, seq);
        for watch in std::mem::take(&mut self.watches) {
            self.watch(watch.since, watch.reply);
        }
    }

    fn read(&mut self, ask: NamespaceAsk, reply: Reply) {
        let state = Arc::clone(&self.committed);
        match ask {
            NamespaceAsk::Get { keys } => {
                let found = keys.into_iter().filter_map(|key| {
                    let item = state.items.get(&key)?.clone();
                    Some((key, item))
                });
                let listed = Listed { items: found.collect(), version: state.version };
                reply.ok(encode(&NamespaceReply::Listed(listed)));
            }
            NamespaceAsk::List { kind } => {
                let of_kind = |key: &Key| kind.is_none_or(|k: Kind| key.kind == k);
                let items = state.items.iter().filter(|(key, _)| of_kind(key));
                let items = items.map(|(k, i)| (k.clone(), i.clone())).collect();
                let listed = Listed { items, version: state.version };
                reply.ok(encode(&NamespaceReply::Listed(listed)));
            }
            NamespaceAsk::Deleted => {
                let now = self.context.clock.now();
                let kept = state.deleted.iter().filter(|(_, gone)| gone.is_kept(now));
                let items = kept.map(|(key, gone)| (key.clone(), gone.clone())).collect();
                reply.ok(encode(&NamespaceReply::Deleted { items, version: state.version }));
            }
            NamespaceAsk::Watch { since } => self.watch(since, reply),
            NamespaceAsk::Apply { .. } | NamespaceAsk::ApplyPart { .. } => {
                reply.fail(AskError::NotDelivered);
            }
        }
    }

    fn watch(&mut self, since: Seq, reply: Reply) {
        let version = self.committed.version;
        let oldest = self.log.begins();
        if since < oldest || since > version {
            reply.refuse(refused(&NamespaceRefusal::Trimmed { oldest }));
            return;
        }
        if since == version && self.watches.len() < WATCHES_MAX {
            let until = self.context.clock.mono().plus(WATCH_HELD);
            self.arm_watch_timer();
            self.watches.push(Watch { since, until, reply });
            return;
        }
        let (events, version) = self.log.since(since, version);
        reply.ok(encode(&NamespaceReply::Changed { events, version }));
    }

    fn arm_watch_timer(&mut self) {
        if std::mem::replace(&mut self.watch_timer, true) {
            return;
        }
        let (me, stop) = (self.context.me.clone(), self.context.stop.clone());
        spawn_task("namespace-watch-timer", async move {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    let _ = me.send(NamespaceInternal::WatchTimer);
                }
                () = stop.cancelled() => {}
            }
        });
    }

    fn end_old_watches(&mut self) {
        self.watch_timer = false;
        let now = self.context.clock.mono();
        let version = self.committed.version;
        for watch in std::mem::take(&mut self.watches) {
            if watch.until <= now {
                let answer = NamespaceReply::Changed { events: Vec::new(), version };
                watch.reply.ok(encode(&answer));
            } else {
                self.watches.push(watch);
            }
        }
        if !self.watches.is_empty() {
            self.arm_watch_timer();
        }
    }

    fn write_snapshot(&self, upto: Seq, state: Bytes) {
        let journal = Arc::clone(&self.context.stores.journal);
        let opened = Arc::clone(self.commits.opened());
        let me = self.context.me.clone();
        spawn_task("namespace-snapshot", async move {
            let result = journal.snapshot(&opened, upto, state).await;
            let _ = me.send(NamespaceInternal::Snapshot(result));
        });
    }
}

/// As of a Task: "nothing happened" is said only of what certainly did not.
fn append_failed(error: &AppendError, abandoned: Abandoned<Effect>) -> Crash {
    let certain = match error {
        AppendError::Full => Some("the data directory is full; free some room and repeat"),
        AppendError::Unavailable { .. } => Some("the store is not available; repeat later"),
        _ => None,
    };
    for effect in abandoned.since {
        if let (Some(message), Effect::Reply(reply, _) | Effect::Read(_, reply)) = (certain, effect)
        {
            let (code, message) = ("store".into(), message.into());
            reply.refuse(FailedAsk { code, message, detail: None });
        }
    }
    blameless(format!("an append failed: {error}"))
}

#[async_trait]
impl Entity for NamespaceActor {
    type Internal = NamespaceInternal;

    async fn ask(&mut self, body: Bytes, reply: Reply) -> Result<(), Crash> {
        match serde_json::from_slice::<NamespaceAsk>(&body) {
            Ok(NamespaceAsk::Apply { apply }) => self.apply(&apply, reply)?,
            Ok(NamespaceAsk::ApplyPart { of, part, is_last, text }) => {
                let put = self.parts.put(of, part, is_last, &text);
                self.part(put, reply)?;
            }
            Ok(read) => self.defer(Effect::Read(read, reply)),
            Err(_) => reply.fail(AskError::NotDelivered),
        }
        self.pump();
        Ok(())
    }

    async fn subscribe(
        &mut self,
        _body: Bytes,
        _sink: FrameSink,
        reply: Reply,
    ) -> Result<(), Crash> {
        // A Namespace has no frames; its log is read by `Watch`.
        reply.fail(AskError::NotDelivered);
        Ok(())
    }

    async fn internal(&mut self, message: NamespaceInternal) -> Result<(), Crash> {
        match message {
            NamespaceInternal::Appended(appended) => match self.commits.finished(appended) {
                Ok(effects) => self.run_effects(effects),
                Err((error, abandoned)) => return Err(append_failed(&error, abandoned)),
            },
            NamespaceInternal::Snapshot(result) => {
                self.snapshot_under_way = false;
                match result {
                    Err(error @ AppendError::Fenced { .. }) => {
                        return Err(blameless(error.to_string()));
                    }
                    Err(error) => {
                        tracing::warn!(entity = %self.context.id, %error, "a snapshot failed");
                    }
                    Ok(()) => {}
                }
            }
            NamespaceInternal::WatchTimer => self.end_old_watches(),
        }
        self.pump();
        Ok(())
    }

    async fn wake(&mut self) -> Result<(), Crash> {
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.commits.is_settled() && self.watches.is_empty() && !self.snapshot_under_way
    }

    async fn drain(&mut self) -> Result<(), Crash> {
        let version = self.committed.version;
        for watch in self.watches.drain(..) {
            let answer = NamespaceReply::Changed { events: Vec::new(), version };
            watch.reply.ok(encode(&answer));
        }
        Ok(())
    }

    async fn close(&mut self) {}
}

fn fold(opened: &mut Opened) -> Result<(NamespaceState, Log), Crash> {
    let unreadable = |seq: Seq, error: &dyn std::error::Error| {
        tracing::error!(%seq, %error, "a namespace record cannot be read");
        blameless(format!("record {seq} cannot be read: {error}"))
    };
    let mut state = match opened.snapshot.take() {
        Some(snapshot) => {
            codec::decode_namespace(&snapshot.state).map_err(|e| unreadable(snapshot.upto, &e))?
        }
        None => NamespaceState::default(),
    };
    let mut log = Log::new(state.version);
    for entry in std::mem::take(&mut opened.tail) {
        let decoded =
            codec::decode_namespace_entry(&entry.body).map_err(|e| unreadable(entry.seq, &e))?;
        log.push(&decoded, entry.seq);
        state.apply(&decoded);
    }
    Ok((state, log))
}

/// Whether entries are an append, and each one an entry.
fn fits(bodies: &[Bytes]) -> Result<(), FailedAsk> {
    let (total, most) = (bodies.iter().map(Bytes::len).sum::<usize>(), APPLY_BYTES_MAX);
    if total > most {
        return Err(too_large(&format!(
            "the documents are {} KiB after encoding, {} KiB fit into one apply: split them",
            total / 1024,
            most / 1024
        )));
    }
    match bodies.iter().map(Bytes::len).find(|bytes| *bytes > limits::ENTRY_BYTES_MAX) {
        Some(bytes) => Err(too_large(&format!(
            "a document is {} KiB after encoding, {} KiB are allowed for one",
            bytes / 1024,
            limits::ENTRY_BYTES_MAX / 1024
        ))),
        None => Ok(()),
    }
}

fn too_large(message: &str) -> FailedAsk {
    FailedAsk { code: "too_large".into(), message: message.into(), detail: None }
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}

fn refused(refusal: &NamespaceRefusal) -> FailedAsk {
    FailedAsk {
        code: "refused".into(),
        message: refusal.to_string(),
        detail: serde_json::to_string(refusal).ok(),
    }
}

fn blameless(reason: String) -> Crash {
    Crash { reason, blameless: true }
}
