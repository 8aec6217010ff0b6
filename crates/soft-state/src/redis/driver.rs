//! Opens the connection, looks after it, replaces it, and sends news.

use std::sync::Arc;

use redis::RedisError;
use tokio::{sync::mpsc, time::Instant};

use super::{Line, Shared, millis};
use crate::Health;

/// News that are sent at once.
const BATCH: usize = 128;

/// The life of a connection. To be run for as long as the state is used.
#[derive(Debug)]
pub struct RedisDriver {
    shared: Arc<Shared>,
    to_send: mpsc::Receiver<String>,
}

impl RedisDriver {
    pub(super) const fn new(shared: Arc<Shared>, to_send: mpsc::Receiver<String>) -> Self {
        Self { shared, to_send }
    }

    /// Runs for ever.
    pub async fn run(self) {
        let Self { shared, to_send } = self;
        tokio::join!(supervise(&shared), send(&shared, to_send));
    }
}

/// Keeps a line up, with pauses that grow and vary while that fails.
async fn supervise(shared: &Shared) {
    let options = &shared.options;
    let mut pause = options.pause_min;
    loop {
        let why = match open(shared).await {
            Ok(line) => {
                let since = Instant::now();
                let why = watch(shared, line).await;
                if since.elapsed() >= options.pause_max {
                    pause = options.pause_min;
                }
                why
            }
            Err(why) => why,
        };
        shared.line.store(None);
        degrade(shared, why);
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
        pause = (pause * 2).min(options.pause_max);
    }
}

/// A fresh connection that listens and takes writes.
async fn open(shared: &Shared) -> Result<Arc<Line>, String> {
    let connecting = shared.client.get_multiplexed_async_connection_with_config(&shared.config);
    let mut connection = within(shared, connecting).await?;
    within(shared, connection.subscribe(shared.channel())).await?;
    let line = Arc::new(Line { connection });
    probe(shared, &line).await?;
    Ok(line)
}

/// Uses a line until it fails; answers why it did.
async fn watch(shared: &Shared, line: Arc<Line>) -> String {
    shared.line.store(Some(Arc::clone(&line)));
    let mut reached = Health::Whole;
    shared.health.send_if_modified(|health| {
        let changed = health.is_degraded();
        std::mem::swap(health, &mut reached);
        changed
    });
    if reached.is_degraded() {
        tracing::info!("redis answers: soft state is shared");
        metrics::gauge!("troupe_soft_state_degraded").set(0.0);
        // What was told meanwhile was not heard.
        shared.ears.revoked();
    }
    loop {
        // A pause or a suspicion, whichever comes first.
        let _ = tokio::time::timeout(shared.options.probe_every, shared.suspected.notified()).await;
        if let Err(why) = probe(shared, &line).await {
            return why;
        }
        if shared.line.load().is_none() {
            shared.line.store(Some(Arc::clone(&line)));
        }
    }
}

/// Whether the server answers and takes writes: a full one, or a replica, does not.
async fn probe(shared: &Shared, line: &Line) -> Result<(), String> {
    let mut connection = line.connection.clone();
    let mut alive = redis::cmd("SET");
    alive.arg(shared.key("alive", &shared.options.node)).arg(1);
    alive.arg("PX").arg(millis(10 * shared.options.probe_every));
    within(shared, async move { alive.query_async::<()>(&mut connection).await }).await
}

async fn within<T>(
    shared: &Shared,
    doing: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, String> {
    match tokio::time::timeout(shared.options.probe_timeout, doing).await {
        Ok(done) => done.map_err(|error| reason(&error)),
        Err(_) => Err("redis does not answer in time".to_owned()),
    }
}

/// In a few words, for people; without what the server or the address say in full.
fn reason(error: &RedisError) -> String {
    if error.is_timeout() {
        "redis does not answer in time".to_owned()
    } else if error.is_connection_refusal() {
        "redis refuses connections".to_owned()
    } else if error.is_connection_dropped() {
        "redis closed the connection".to_owned()
    } else if let Some(code) = error.code() {
        format!("redis answers {code}")
    } else {
        format!("redis: {}", error.category())
    }
}

fn degrade(shared: &Shared, why: String) {
    metrics::gauge!("troupe_soft_state_degraded").set(1.0);
    shared.health.send_if_modified(|health| {
        if health.reason() == Some(why.as_str()) {
            return false;
        }
        if !health.is_degraded() {
            tracing::warn!(%why, "soft state is degraded: this node is on its own");
        }
        *health = Health::Degraded(why.into());
        true
    });
}

/// Sends news in batches. What cannot be sent is lost: it says "look again", no more.
async fn send(shared: &Shared, mut to_send: mpsc::Receiver<String>) {
    let channel = shared.channel();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if to_send.recv_many(&mut batch, BATCH).await == 0 {
            return std::future::pending().await;
        }
        let count = batch.len();
        let mut pipe = redis::pipe();
        for message in batch.drain(..) {
            pipe.publish(&channel, message).ignore();
        }
        let sent: Option<()> =
            shared.ask(|mut line| async move { pipe.query_async(&mut line).await }).await;
        if sent.is_none() {
            metrics::counter!("troupe_soft_state_news_dropped_total")
                .increment(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
}
