//! Somebody who looks at one Task through all crashes and keeps every frame that was shown.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

use crate::{fold::Event, stream::Socket};

/// A live stream is not silent for longer.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// Nobody who is less behind is told to join anew.
const FAR_BEHIND: u64 = 1_000;
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(50);

/// How a viewer takes up again after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// `chat:resume` alone.
    Resumes,
    /// `task:join`, then `chat:resume`.
    Joins,
}

#[derive(Debug, Default)]
struct Seen {
    last: u64,
    frames: BTreeMap<u64, Event>,
    faults: Vec<String>,
    cuts: u32,
}

/// The viewer; dropping it closes its stream.
#[derive(Debug)]
pub(crate) struct Viewer {
    seen: Arc<Mutex<Seen>>,
    _running: JoinSet<()>,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Viewer {
    /// `url` says where the node is; `None` while there is none.
    pub(crate) fn follow(
        url: watch::Receiver<Option<String>>,
        token: &str,
        task: &str,
        habit: Habit,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let follower = Follower {
            url,
            token: token.to_owned(),
            task: task.to_owned(),
            habit,
            seen: Arc::clone(&seen),
        };
        let mut running = JoinSet::new();
        running.spawn(follower.run());
        Self { seen, _running: running }
    }

    /// All frames that were shown, by seq.
    pub(crate) fn frames(&self) -> Vec<Event> {
        lock(&self.seen).frames.values().cloned().collect()
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        lock(&self.seen).frames.len()
    }

    /// The last seq that was shown, or that a join told.
    pub(crate) fn last(&self) -> u64 {
        lock(&self.seen).last
    }

    /// What a node must not do to a viewer.
    pub(crate) fn faults(&self) -> Vec<String> {
        lock(&self.seen).faults.clone()
    }
}

struct Follower {
    url: watch::Receiver<Option<String>>,
    token: String,
    task: String,
    habit: Habit,
    seen: Arc<Mutex<Seen>>,
}

impl Follower {
    async fn run(mut self) {
        loop {
            let up = self.url.wait_for(Option::is_some).await.map(|url| url.clone());
            let Ok(Some(url)) = up else { return };
            if let Err(error) = self.watch(&url).await
                && self.url.borrow().as_deref() == Some(&*url)
                && error.downcast_ref::<Broken>().is_some()
            {
                lock(&self.seen).faults.push(format!("{}: {error:#}", self.task));
                return;
            }
            // The node is gone, or on its way: whatever comes first.
            if let Ok(Err(_)) = tokio::time::timeout(PAUSE, self.url.changed()).await {
                return;
            }
        }
    }

    /// Until the stream is cut.
    async fn watch(&mut self, url: &str) -> Result<()> {
        let mut socket = Socket::open(url, &self.token).await?;
        if self.habit == Habit::Joins {
            let joined =
                socket.call("task:join", json!({"task_id": self.task, "turns": 0})).await?;
            if !joined["error"].is_null() {
                bail!(Broken(format!("join is refused: {joined}")));
            }
        }
        let mut last = self.take_up(&mut socket).await?;
        while let Some(event) = socket.next_frame(SILENCE_MAX).await? {
            if event.data["task_id"] != self.task.as_str() {
                bail!(Broken(format!("a frame of another task: {event:?}")));
            }
            // What a join lets through before the resume is in order, but may be there twice.
            let in_order = event.seq == last + 1;
            if self.habit == Habit::Resumes && !in_order {
                bail!(Broken(format!("{} follows {last}", event.seq)));
            }
            last = event.seq;
            self.keep(event)?;
        }
        lock(&self.seen).cuts += 1;
        Ok(())
    }

    /// Resumes; the seq after which frames follow.
    async fn take_up(&self, socket: &mut Socket) -> Result<u64> {
        let after = lock(&self.seen).last;
        let ask = json!({"task_id": self.task, "after": after});
        let ack = socket.call("chat:resume", ask).await?;
        let head = ack["head"].as_u64().unwrap_or(0);
        if ack["success"] == true && head >= after {
            return Ok(after);
        }
        if ack["rejoin"] != true || head.saturating_sub(after) < FAR_BEHIND {
            bail!(Broken(format!("resume after {after} is answered with {ack}")));
        }
        let joined = socket.call("task:join", json!({"task_id": self.task, "turns": 0})).await?;
        let head = joined["head"].as_u64().unwrap_or(0);
        if head <= after {
            bail!(Broken(format!("a join far beyond {after} is answered with {joined}")));
        }
        lock(&self.seen).last = head;
        Ok(head)
    }

    fn keep(&self, event: Event) -> Result<()> {
        let mut seen = lock(&self.seen);
        seen.last = seen.last.max(event.seq);
        if let Some(known) = seen.frames.get(&event.seq)
            && *known != event
        {
            bail!(Broken(format!("frame {} changed from {known:?} to {event:?}", event.seq)));
        }
        seen.frames.insert(event.seq, event);
        Ok(())
    }
}

/// A promise was broken; anything else is a connection that ends with its node.
#[derive(Debug)]
struct Broken(String);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// Frames without a hole from the first on.
pub(crate) fn gapless(frames: &[Event]) -> Result<()> {
    for (expected, event) in (1..).zip(frames) {
        if event.seq != expected {
            bail!("frame {} stands where {expected} belongs", event.seq);
        }
    }
    frames.first().map(|_| ()).context("no frames at all")
}
