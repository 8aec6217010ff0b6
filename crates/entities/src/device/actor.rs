//! The live activation of a device.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use troupe_actor::spawn_task;
use troupe_domain::device::{Assigned, DeviceEvent, DeviceRefusal, DeviceState, Gone, Lease, Line};
use troupe_sharding::{AskError, Crash, Entity, EntityContext, FailedAsk, FrameSink, Reply};
use troupe_store::{AppendError, Opened, WakeChange, WakeKind};
use troupe_types::{Attempt, ExecutionId, FrameSeq, MonoTime, Seq, Uuid};

use super::{
    ask::{DeviceAsk, DeviceReply, Found, Has, ToDevice},
    factory::{DeviceFactory, DeviceInternal},
    link::Link,
    past::Past,
};
use crate::{
    codec,
    commit::{Abandoned, Committer},
};

/// How often it looks at what has a time.
const TICK: Duration = Duration::from_secs(1);
/// Entries after which a snapshot is written.
const SNAPSHOT_ENTRIES: u64 = 64;

/// One attempt of one execution.
pub(super) type Key = (ExecutionId, Attempt);

#[derive(Debug)]
pub(super) enum Effect {
    Reply(Reply, Result<Bytes, FailedAsk>),
    /// An attempt may go out to the device.
    Give(Key),
    /// The device may delete it.
    Forget(Key, String),
    /// A question about an attempt has its answer.
    Offered(Key, DeviceReply),
    /// It is not wanted any more.
    Revoked,
    Snapshot(Seq, Bytes),
}

/// A Task that waits for the answer to its offer.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) reply: Reply,
    pub(super) since: MonoTime,
}

/// One enrolled machine, live.
#[derive(Debug)]
pub struct DeviceActor {
    pub(super) context: EntityContext<DeviceInternal>,
    pub(super) factory: DeviceFactory,
    pub(super) commits: Committer<Effect>,
    pub(super) state: DeviceState,
    pub(super) link: Option<Link>,
    /// What the device said it can do, last.
    pub(super) found: Found,
    /// When it was linked. Soft: the device says it anew.
    pub(super) past: Past,
    pub(super) lease: Lease,
    /// Who waits for a slot. Soft: they ask again.
    pub(super) line: Line,
    pub(super) offers: BTreeMap<Key, Offered>,
    /// Attempts whose Task is being asked.
    pub(super) checking: BTreeSet<Key>,
    pub(super) checked_at: MonoTime,
    /// Attempts that are over here, and why; their Task is being told (`true`) or to be told.
    pub(super) ending: BTreeMap<Key, (Gone, bool)>,
    /// Inputs that the device has, or that came too late.
    pub(super) settled: BTreeSet<Uuid>,
    timer: bool,
    draining: bool,
    has_wake: bool,
    since_snapshot: u64,
    snapshot_under_way: bool,
}

impl DeviceActor {
    pub(super) async fn activate(
        factory: DeviceFactory,
        context: EntityContext<DeviceInternal>,
    ) -> Result<Self, Crash> {
        let journal = Arc::clone(&context.stores.journal);
        let opened = journal.open(context.id, context.epoch).await;
        let mut opened =
            opened.map_err(|e| blameless(format!("the journal could not be opened: {e}")))?;
        let (state, since_snapshot) = fold(&mut opened)?;
        let now = context.clock.mono();
        let lease = Lease::new(now, factory.lease);
        Ok(Self {
            context,
            factory,
            commits: Committer::new(journal, Arc::new(opened)),
            state,
            link: None,
            found: Found::default(),
            past: Past::default(),
            lease,
            line: Line::default(),
            offers: BTreeMap::new(),
            checking: BTreeSet::new(),
            checked_at: now,
            ending: BTreeMap::new(),
            settled: BTreeSet::new(),
            timer: false,
            draining: false,
            has_wake: false,
            since_snapshot,
            snapshot_under_way: false,
        })
    }

    pub(super) fn now(&self) -> MonoTime {
        self.context.clock.mono()
    }

    pub(super) fn held(&self, has: Has) -> Option<&Assigned> {
        self.state.held(has.execution, has.attempt)
    }

    /// Folds and stages an entry; `after` runs once it is committed.
    pub(super) fn stage(&mut self, event: &DeviceEvent, after: Vec<Effect>) -> Result<(), Crash> {
        let body = codec::encode_device_event(event)
            .map_err(|e| blameless(format!("an entry cannot be encoded: {e}")))?;
        self.state.apply(event);
        let wake = self.wake_change();
        let seq = self.commits.stage(FrameSeq(1), 0, body, wake, after);
        self.since_snapshot += 1;
        if self.since_snapshot >= SNAPSHOT_ENTRIES && !self.snapshot_under_way {
            self.snapshot_under_way = true;
            self.since_snapshot = 0;
            let state = codec::encode_device(&self.state)
                .map_err(|e| blameless(format!("a snapshot cannot be encoded: {e}")))?;
            self.defer(Effect::Snapshot(seq, state));
        }
        Ok(())
    }

    /// A wake row stands while there are assignments: someone has to measure their lease. It
    /// always has the same time, so one row is there at most, whoever wrote it.
    fn wake_change(&mut self) -> Vec<WakeChange> {
        let Some(due) = self.state.device.as_ref().map(|device| device.at) else {
            return Vec::new();
        };
        let (wanted, kind) = (!self.state.assignments.is_empty(), WakeKind::DeviceLease);
        if wanted && !self.has_wake {
            self.has_wake = true;
            return vec![WakeChange::Insert { due, kind }];
        }
        if !wanted {
            self.has_wake = false;
            return vec![WakeChange::Remove { due, kind }];
        }
        Vec::new()
    }

    pub(super) fn defer(&mut self, effect: Effect) {
        if let Some(now) = self.commits.after(effect) {
            self.run_effects(vec![now]);
        }
    }

    pub(super) fn answer(&mut self, reply: Reply, answer: &DeviceReply) {
        self.defer(Effect::Reply(reply, Ok(encode(answer))));
    }

    pub(super) fn refuse(&mut self, reply: Reply, refusal: DeviceRefusal) {
        self.answer(reply, &DeviceReply::Refused { refusal });
    }

    fn run_effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply(reply, Ok(body)) => reply.ok(body),
                Effect::Reply(reply, Err(why)) => reply.refuse(why),
                Effect::Give(key) => self.give(key),
                Effect::Forget((execution, attempt), reason) => {
                    let has = Has { execution, attempt };
                    self.push(ToDevice::Forget { has, reason });
                }
                Effect::Offered(key, answer) => {
                    if let Some(offered) = self.offers.remove(&key) {
                        offered.reply.ok(encode(&answer));
                    }
                }
                Effect::Revoked => self.push(ToDevice::Revoked),
                Effect::Snapshot(upto, state) => self.write_snapshot(upto, state),
            }
        }
    }

    /// For the device, if its link is up; else it is worked out anew when it comes.
    pub(super) fn push(&mut self, what: ToDevice) {
        let Some(link) = &mut self.link else { return };
        if link.is_full() {
            tracing::warn!(device = %self.context.id, "a link takes nothing: it ends");
            self.end_link();
            return;
        }
        if let Some((reply, commands)) = link.push(what) {
            reply.ok(encode(&DeviceReply::Next { commands }));
        }
    }

    pub(super) fn end_link(&mut self) {
        if self.link.is_some() {
            self.past.end(self.context.clock.now());
        }
        if let Some(reply) = self.link.take().and_then(Link::end) {
            reply.ok(encode(&DeviceReply::Stale));
        }
    }

    fn pump(&mut self) {
        while let Some(job) = self.commits.pump() {
            let me = self.context.me.clone();
            spawn_task("device-append", async move {
                let _ = me.send(DeviceInternal::Appended(job.await));
            });
        }
    }

    fn write_snapshot(&self, upto: Seq, state: Bytes) {
        let journal = Arc::clone(&self.context.stores.journal);
        let (opened, me) = (Arc::clone(self.commits.opened()), self.context.me.clone());
        spawn_task("device-snapshot", async move {
            let result = journal.snapshot(&opened, upto, state).await;
            let _ = me.send(DeviceInternal::Snapshot(result));
        });
    }

    fn is_busy(&self) -> bool {
        self.link.is_some() || !self.state.assignments.is_empty() || !self.offers.is_empty()
    }

    fn arm_timer(&mut self) {
        if !self.is_busy() || std::mem::replace(&mut self.timer, true) {
            return;
        }
        let (me, stop) = (self.context.me.clone(), self.context.stop.clone());
        spawn_task("device-tick", async move {
            tokio::select! {
                () = tokio::time::sleep(TICK) => { let _ = me.send(DeviceInternal::Tick); }
                () = stop.cancelled() => {}
            }
        });
    }

    fn settle(&mut self) -> Result<(), Crash> {
        self.tell_ends();
        self.arm_timer();
        self.pump();
        Ok(())
    }
}

#[async_trait]
impl Entity for DeviceActor {
    type Internal = DeviceInternal;

    async fn ask(&mut self, body: Bytes, reply: Reply) -> Result<(), Crash> {
        match serde_json::from_slice::<DeviceAsk>(&body) {
            Ok(ask) => self.asked(ask, reply)?,
            Err(_) => reply.fail(AskError::NotDelivered),
        }
        self.settle()
    }

    async fn subscribe(
        &mut self,
        _body: Bytes,
        _sink: FrameSink,
        reply: Reply,
    ) -> Result<(), Crash> {
        reply.fail(AskError::NotDelivered);
        Ok(())
    }

    async fn internal(&mut self, message: DeviceInternal) -> Result<(), Crash> {
        match message {
            DeviceInternal::Appended(appended) => match self.commits.finished(appended) {
                Ok(effects) => self.run_effects(effects),
                Err((error, abandoned)) => return Err(append_failed(&error, abandoned)),
            },
            DeviceInternal::Snapshot(result) => {
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
            DeviceInternal::Tick => {
                self.timer = false;
                self.tick()?;
            }
            DeviceInternal::Checked { has, checked } => self.checked(has, checked)?,
            DeviceInternal::EndTold { has, told } => self.end_told(has, told)?,
        }
        self.settle()
    }

    async fn wake(&mut self) -> Result<(), Crash> {
        self.has_wake = true;
        if self.state.assignments.is_empty() {
            // A false row, or one that an earlier activation left.
            if let Some(due) = self.state.device.as_ref().map(|device| device.at) {
                self.has_wake = false;
                let kind = WakeKind::DeviceLease;
                self.commits.stage_wake(vec![WakeChange::Remove { due, kind }], Vec::new());
            }
        }
        self.settle()
    }

    fn is_idle(&self) -> bool {
        self.draining || (self.commits.is_settled() && !self.is_busy() && !self.snapshot_under_way)
    }

    async fn drain(&mut self) -> Result<(), Crash> {
        self.draining = true;
        self.end_link();
        self.pump();
        Ok(())
    }

    async fn close(&mut self) {
        self.end_link();
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
        if let (Some(message), Effect::Reply(reply, _)) = (certain, effect) {
            let (code, message) = ("store".into(), message.into());
            reply.refuse(FailedAsk { code, message, detail: None });
        }
    }
    blameless(format!("an append failed: {error}"))
}

fn fold(opened: &mut Opened) -> Result<(DeviceState, u64), Crash> {
    let unreadable = |seq: Seq, error: &dyn std::error::Error| {
        tracing::error!(%seq, %error, "a device's record cannot be read");
        blameless(format!("record {seq} cannot be read: {error}"))
    };
    let mut state = match opened.snapshot.take() {
        Some(snapshot) => {
            codec::decode_device(&snapshot.state).map_err(|e| unreadable(snapshot.upto, &e))?
        }
        None => DeviceState::default(),
    };
    let mut count = 0;
    for entry in std::mem::take(&mut opened.tail) {
        let event =
            codec::decode_device_event(&entry.body).map_err(|e| unreadable(entry.seq, &e))?;
        state.apply(&event);
        count += 1;
    }
    Ok((state, count))
}

pub(super) fn encode<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}

fn blameless(reason: String) -> Crash {
    Crash { reason, blameless: true }
}
