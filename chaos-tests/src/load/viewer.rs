//! Somebody who looks at one Task through any node, and takes up at another one when that fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rand::{RngExt as _, rngs::StdRng};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use troupe_testkit::client::stream::{Message, Socket};

use super::Surroundings;
use crate::history::{What, digest};

/// To open a stream and to take up on it.
const OPEN: Duration = Duration::from_secs(6);
/// A node that does not even answer a ping for so long is gone.
const DEAD: Duration = Duration::from_secs(4);
const PING: Duration = Duration::from_secs(1);
/// A stream that shows nothing although others saw more is no good after this.
const SILENT: Duration = Duration::from_secs(10);

/// The viewer; dropping it closes its stream.
#[derive(Debug)]
pub(crate) struct Viewer {
    name: String,
    last: Arc<AtomicU64>,
    _running: JoinSet<()>,
}

impl Viewer {
    pub(crate) fn follow(around: &Surroundings, name: String, task: &str, rng: StdRng) -> Self {
        let last = Arc::new(AtomicU64::new(0));
        let follower = Follower {
            around: around.clone(),
            name: name.clone(),
            task: task.to_owned(),
            last: Arc::clone(&last),
            rng,
        };
        let mut running = JoinSet::new();
        running.spawn(follower.run());
        Self { name, last, _running: running }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The last frame that it saw.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }
}

struct Follower {
    around: Surroundings,
    name: String,
    task: String,
    last: Arc<AtomicU64>,
    rng: StdRng,
}

impl Follower {
    async fn run(mut self) {
        let mut node = String::new();
        loop {
            let (name, url) = self.around.roster.pick(&mut self.rng, &[&node]);
            node = name;
            let error = match self.watch(&node, &url).await {
                Ok(()) => "the stream ended".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            let (viewer, task) = (self.name.clone(), self.task.clone());
            self.around.history.add(What::Closed { viewer, task, why: format!("{node}: {error}") });
            sleep(Duration::from_millis(self.rng.random_range(50..400))).await;
        }
    }

    /// Until the stream is cut.
    async fn watch(&mut self, node: &str, url: &str) -> Result<()> {
        let opened = timeout(OPEN, self.open(node, url)).await;
        let mut socket = opened.context("opening takes too long")??;
        let mut silent_since = None;
        loop {
            let frame = match socket.next(PING).await {
                Ok(Some((name, data))) if name == "task:resync" => {
                    bail!("told to resume: {data}");
                }
                Ok(Some(event)) => Some(event),
                Ok(None) => return Ok(()),
                Err(_) if socket.heard.elapsed() > DEAD => bail!("no answer to pings"),
                Err(_) => {
                    socket.send(Message::Ping(Vec::new().into())).await?;
                    None
                }
            };
            let Some((name, data)) = frame else {
                self.judge_silence(&mut silent_since)?;
                continue;
            };
            let Some(seq) = data["seq"].as_u64() else { continue };
            if data["task_id"] != self.task.as_str() {
                bail!("a frame of another task: {data}");
            }
            silent_since = None;
            let digest = digest(&name, &data);
            let (viewer, task) = (self.name.clone(), self.task.clone());
            self.around.history.add(What::Shown { viewer, task, seq, digest });
            self.last.store(seq, Ordering::SeqCst);
        }
    }

    fn judge_silence(&self, since: &mut Option<Instant>) -> Result<()> {
        let behind = self.around.board.seen(&self.task) > self.last.load(Ordering::SeqCst);
        match since {
            Some(at) if behind && at.elapsed() > SILENT && self.around.board.heals() => {
                bail!("stuck: others saw more, this stream is silent")
            }
            Some(_) if behind => {}
            _ => *since = behind.then(Instant::now),
        }
        Ok(())
    }

    async fn open(&self, node: &str, url: &str) -> Result<Socket> {
        let mut socket = Socket::open(url, &self.around.who.token).await?;
        let after = self.last.load(Ordering::SeqCst);
        let ask = json!({"task_id": self.task, "after": after});
        let ack = socket.call("chat:resume", ask).await?;
        let (viewer, task) = (self.name.clone(), self.task.clone());
        let node = node.to_owned();
        if ack["success"] == true {
            self.around.history.add(What::Opened { viewer, node, task, after });
            return Ok(socket);
        }
        if ack["rejoin"] != true {
            bail!("resume after {after} is answered with {ack}");
        }
        let joined = socket.call("task:join", json!({"task_id": self.task, "turns": 0})).await?;
        let head = joined["head"].as_u64().context("a join without a head")?;
        self.last.store(head, Ordering::SeqCst);
        let jumped = What::Jumped { viewer: viewer.clone(), task: task.clone(), to: head };
        self.around.history.add(jumped);
        self.around.history.add(What::Opened { viewer, node, task, after: head });
        Ok(socket)
    }
}
