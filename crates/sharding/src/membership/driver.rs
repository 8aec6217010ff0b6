//! The loop around the machine.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use troupe_actor::{TaskHandle, spawn_task};
use troupe_placement::{
    Answer, AttemptId, Effect, FenceReason, HandoffId, Input, MoveAnswer, Node, PeerMessage,
    StoreOp, Timings,
};
use troupe_store::{Floors, Ownership};
use troupe_types::{Epoch, Incarnation, MonoTime, NodeState, ShardId, Uuid};

use super::{
    ClusterStatus, Ended, MembershipParts, ShardStatus,
    metrics::MembershipMetrics,
    peers::Addresses,
    store,
    view::{ClusterView, SHARDS},
    words,
};
use crate::{
    host::ShardHost,
    node::NodeLink,
    placement::{NodeName, Owner},
};

/// Longest time between two looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// How often operators are shown anew what there is.
const SHOW_EVERY: Duration = Duration::from_millis(500);
/// Events that are taken in one step.
const EVENTS_AT_ONCE: usize = 256;

/// Why the driver wakes up.
#[derive(Debug)]
pub(super) enum Event {
    /// A store operation ended.
    Reply { attempt: AttemptId, answer: Answer },
    /// A peer says something.
    Peer { from: NodeName, message: PeerMessage },
    /// A Shard came to rest.
    Drained { shard: ShardId, id: HandoffId },
    /// All that was left came to rest.
    Passivated,
    /// An operator wants something.
    Order(Order),
}

/// What operators want.
#[derive(Debug)]
pub(super) enum Order {
    Leave,
    Move(ShardId, NodeName, oneshot::Sender<MoveAnswer>),
    Pause(bool),
}

/// The machine with everything that it acts on.
pub(super) struct Driver {
    node: Node,
    boot: Uuid,
    timings: Timings,
    ownership: Arc<dyn Ownership>,
    floors: Floors,
    view: Arc<ClusterView>,
    host: Arc<ShardHost>,
    link: Arc<NodeLink>,
    events: mpsc::Sender<Event>,
    ended: watch::Sender<Option<Ended>>,
    addresses: watch::Sender<Addresses>,
    show_at: MonoTime,
    /// What the view was told last.
    published: Vec<Owner>,
    /// Who waits for what became of a move, within one step.
    movers: VecDeque<oneshot::Sender<MoveAnswer>>,
    /// Shards that are coming to rest.
    resting: HashMap<ShardId, TaskHandle>,
    metrics: Arc<MembershipMetrics>,
}

impl Driver {
    pub(super) fn new(
        parts: MembershipParts,
        ended: watch::Sender<Option<Ended>>,
        addresses: watch::Sender<Addresses>,
    ) -> Self {
        let MembershipParts { identity, boot, timings, ownership, floors, view, host, link } =
            parts;
        let (seed, _) = boot.as_u64_pair();
        let node = Node::new(identity, timings.clone(), (0..SHARDS).map(ShardId), seed);
        Self {
            node,
            boot,
            timings,
            ownership,
            floors,
            events: view.events.clone(),
            view,
            host,
            link,
            ended,
            addresses,
            show_at: MonoTime::ZERO,
            published: vec![Owner::Nobody; usize::from(SHARDS)],
            movers: VecDeque::new(),
            resting: HashMap::new(),
            metrics: Arc::new(MembershipMetrics::new()),
        }
    }

    pub(super) async fn run(mut self, mut incoming: mpsc::Receiver<Event>) {
        self.step(vec![Input::Start { boot_id: self.boot }]);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.ended.borrow().is_none() {
            let mut inputs = Vec::new();
            let event = tokio::select! {
                biased;
                _ = tick.tick() => None,
                // The driver holds a sender, so this does not end.
                event = incoming.recv() => event,
            };
            let wanted = self.view.take_wanted();
            inputs.extend(wanted.into_iter().map(|shard| Input::Wanted { shard }));
            inputs.push(event.map_or(Input::Tick, |event| self.input(event)));
            for _ in 1..EVENTS_AT_ONCE {
                let Ok(event) = incoming.try_recv() else { break };
                inputs.push(self.input(event));
            }
            self.step(inputs);
            self.tell_addresses();
            let now = self.view.mono();
            if now >= self.show_at {
                self.show_at = now.plus(SHOW_EVERY);
                self.view.show(self.status(now));
            }
        }
        tracing::info!(ended = ?*self.ended.borrow(), "membership ended");
    }

    /// What an event means to the machine.
    fn input(&mut self, event: Event) -> Input {
        match event {
            Event::Reply { attempt, answer } => Input::Reply { attempt, answer },
            Event::Peer { from, message } => Input::Message { from, message },
            Event::Drained { shard, id } => {
                self.resting.remove(&shard);
                Input::Drained { shard, id }
            }
            Event::Passivated => Input::Passivated,
            Event::Order(order) => self.order(order),
        }
    }

    fn order(&mut self, order: Order) -> Input {
        // Whoever gave it looks what came of it.
        self.show_at = MonoTime::ZERO;
        match order {
            Order::Leave => {
                tracing::info!("leaving: shards are handed over");
                Input::Leave
            }
            Order::Move(shard, to, reply) => {
                self.movers.push_back(reply);
                Input::MoveShard { shard, to }
            }
            Order::Pause(paused) => Input::PauseRebalance(paused),
        }
    }

    fn step(&mut self, inputs: Vec<Input>) {
        let effects = self.node.step_all(inputs, self.view.mono());
        // First what may not be handled any more, then what follows from it.
        self.publish();
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn publish(&mut self) {
        let now = self.view.mono();
        let lease = self.node.lease();
        self.view.publish_lease(lease, self.node.unowned());
        let mut owned = 0;
        for (shard, known) in (0..SHARDS).map(ShardId).zip(&mut self.published) {
            let owner = self.node.owner(shard, now);
            owned += u32::from(matches!(owner, Owner::Here(_)));
            if *known != owner {
                known.clone_from(&owner);
                self.view.publish(shard, owner);
            }
        }
        self.metrics.lease_valid.set(if lease.is_some() { 1.0 } else { 0.0 });
        self.metrics.shards_owned.set(f64::from(owned));
    }

    fn tell_addresses(&self) {
        let alive = self.node.peers().filter(|row| row.state != NodeState::Dead);
        let wanted: Addresses = alive.map(|row| (row.node.clone(), row.addr.clone())).collect();
        self.addresses.send_if_modified(|told| {
            let is_news = *told != wanted;
            if is_news {
                *told = wanted;
            }
            is_news
        });
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Store { attempt, op } => self.ask_store(attempt, op),
            Effect::Send { to, message } => {
                if let Some(word) = words::write(&message)
                    && !self.link.send_handoff(&to, word)
                {
                    tracing::debug!(peer = %to, ?message, "a word of a hand-off was not sent");
                }
            }
            // The link beats by itself and asks the view what to say.
            Effect::Heartbeat { .. } => {}
            Effect::FenceNode { reason } => self.fence(reason),
            Effect::UnfenceNode { inc } => tracing::info!(inc = inc.0, "the lease holds"),
            Effect::Activate { shard, epoch } | Effect::ActivateForwarded { shard, epoch } => {
                tracing::debug!(%shard, epoch = epoch.0, "shard claimed");
                self.metrics.claimed.increment(1);
                self.host.claimed(shard);
            }
            Effect::Deactivate { shard, epoch } => {
                tracing::info!(%shard, epoch = epoch.0, "shard lost");
                self.stop_resting(shard);
                self.metrics.lost.increment(1);
                self.host.lost(shard);
            }
            Effect::DrainShard { shard, to, id } => self.let_rest(shard, &to, id),
            Effect::ResumeShard { shard, .. } => {
                self.stop_resting(shard);
                self.host.claimed(shard);
            }
            Effect::Release { shard, epoch } => self.floors.release(shard, epoch),
            Effect::MoveAnswered { shard, answer } => {
                tracing::info!(%shard, ?answer, "a move was ordered");
                if let Some(mover) = self.movers.pop_front() {
                    // Whoever ordered it may have left.
                    let _ = mover.send(answer);
                }
            }
            // Nothing waits for a Shard that moves but its senders.
            Effect::OpenDirect { .. }
            | Effect::SendQueues { .. }
            | Effect::Forward { .. }
            | Effect::BufferShard { .. }
            | Effect::DiscardBuffer { .. } => {}
            Effect::PassivateAll => {
                let (host, events) = (Arc::clone(&self.host), self.events.clone());
                let deadline = self.timings.drain_max;
                drop(spawn_task("passivate all", async move {
                    let outcome = host.drain(deadline).await;
                    tracing::info!(?outcome, "entities are at rest");
                    let _ = events.send(Event::Passivated).await;
                }));
            }
            Effect::Exit => self.end(Ended::Left),
        }
    }

    fn ask_store(&self, attempt: AttemptId, op: StoreOp) {
        let (store, events) = (Arc::clone(&self.ownership), self.events.clone());
        let metrics = Arc::clone(&self.metrics);
        // As many as the machine has attempts, which it bounds.
        drop(spawn_task("ownership", async move {
            let begun = Instant::now();
            let answer = store::run(store.as_ref(), &op).await;
            metrics.store_seconds.record(begun.elapsed().as_secs_f64());
            if answer == Answer::Failed {
                metrics.store_failures.increment(1);
            }
            let _ = events.send(Event::Reply { attempt, answer }).await;
        }));
    }

    fn fence(&mut self, reason: FenceReason) {
        tracing::warn!(?reason, "the lease is over: everything active is dropped");
        self.metrics.fences.increment(1);
        self.resting.drain().for_each(|(_, task)| task.abort());
        self.host.fence();
        if reason == FenceReason::Lost {
            self.end(Ended::Lost);
        }
    }

    fn let_rest(&mut self, shard: ShardId, to: &NodeName, id: HandoffId) {
        tracing::debug!(%shard, %to, "shard comes to rest for a move");
        let (host, events) = (Arc::clone(&self.host), self.events.clone());
        let Timings { step_max, drain_max, .. } = self.timings;
        let metrics = Arc::clone(&self.metrics);
        let task = spawn_task("hand over", async move {
            let begun = Instant::now();
            let outcome = host.hand_over(shard, step_max, drain_max).await;
            metrics.hand_over_seconds.record(begun.elapsed().as_secs_f64());
            metrics.handed_over.increment(1);
            if !outcome.is_clean() {
                tracing::warn!(%shard, ?outcome, "a shard was cut short for its move");
            }
            let _ = events.send(Event::Drained { shard, id }).await;
        });
        self.resting.insert(shard, task);
    }

    fn stop_resting(&mut self, shard: ShardId) {
        if let Some(task) = self.resting.remove(&shard) {
            task.abort();
        }
    }

    fn end(&self, how: Ended) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(how);
            first
        });
    }

    fn status(&self, now: MonoTime) -> ClusterStatus {
        let mut shards: Vec<_> = (0..SHARDS)
            .map(|shard| ShardStatus {
                shard: ShardId(shard),
                owner: None,
                owner_inc: Incarnation::ZERO,
                epoch: Epoch::ZERO,
                preferred: self.node.preferred(ShardId(shard)).cloned(),
                moving_to: self.node.moving_to(ShardId(shard)).cloned(),
            })
            .collect();
        for row in self.node.rows() {
            if let Some(status) = shards.get_mut(usize::from(row.shard.0)) {
                (status.owner, status.owner_inc) = (Some(row.owner.clone()), row.owner_inc);
                status.epoch = row.epoch;
            }
        }
        ClusterStatus {
            leases: self.node.leases(now),
            shards,
            rebalancing: self.node.rebalancing(now),
        }
    }
}
