//! Soft state on Redis 7.
//!
//! One connection (RESP3: commands and news) that [`RedisDriver`] opens, probes and replaces.
//! A call that fails takes the connection out of use until a probe succeeds, so only the first
//! ones wait for a server that hangs; the rest goes to the in-process twin at once.
//!
//! This is not the library's connection manager, because that one keeps a connection that
//! merely times out, and takes no notice of a subscription that was refused.

mod driver;
mod messages;
mod options;
mod scripts;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisResult, aio::MultiplexedConnection};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use troupe_api::task::Viewer;
use troupe_types::{Clock, TaskId};

pub use self::{
    driver::RedisDriver,
    options::{RedisError, RedisOptions},
};
use self::{messages::Message, scripts::Scripts};
use crate::{
    Health, InProcess, Limits, NOTICE_BYTES_MAX, News, Notice, Presence, Rule, SoftState, Statuses,
    TaskNote, Verdict, gcra, limits, news::Ears, presence::named,
};

/// News that may wait to be sent; further ones are lost.
const OUTBOX_MAX: usize = 1_024;

/// Soft state that the nodes of a cluster share through a Redis.
#[derive(Debug)]
pub struct RedisSoftState(Arc<Shared>);

/// A connection that worked when it was last looked at.
struct Line {
    connection: MultiplexedConnection,
}

/// What calls and driver share.
struct Shared {
    client: Client,
    config: AsyncConnectionConfig,
    options: RedisOptions,
    scripts: Scripts,
    /// `None` while there is none that works: calls do not try then.
    line: ArcSwapOption<Line>,
    /// Wakes the driver: the line is suspected.
    suspected: Arc<Notify>,
    health: watch::Sender<Health>,
    ears: Arc<Ears>,
    outbox: mpsc::Sender<String>,
    /// Answers while there is no line.
    alone: InProcess,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl RedisSoftState {
    /// Opens nothing yet: it begins degraded, and becomes whole once the driver runs and the
    /// server answers.
    ///
    /// # Errors
    /// An address or a certificate that cannot work.
    pub fn new(
        options: RedisOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, RedisDriver), RedisError> {
        options.check()?;
        let client = options.client()?;
        let (ears, suspected) = (Arc::new(Ears::new()), Arc::new(Notify::new()));
        let (outbox, to_send) = mpsc::channel(OUTBOX_MAX);
        let listener =
            messages::listener(options.node.clone(), Arc::clone(&ears), Arc::clone(&suspected));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.probe_timeout))
            .set_response_timeout(Some(options.probe_timeout))
            .set_push_sender(listener);
        let shared = Arc::new(Shared {
            client,
            config,
            scripts: Scripts::new(),
            line: ArcSwapOption::empty(),
            suspected,
            health: watch::Sender::new(Health::Degraded("redis: not connected yet".into())),
            ears,
            outbox,
            alone: InProcess::new(clock, options.lifetimes),
            options,
        });
        Ok((Self(Arc::clone(&shared)), RedisDriver::new(shared, to_send)))
    }
}

impl Shared {
    fn key(&self, kind: &str, name: impl std::fmt::Display) -> String {
        format!("troupe:{}:{kind}:{name}", self.options.cluster)
    }

    /// Where all nodes of the cluster listen.
    fn channel(&self) -> String {
        format!("troupe:{}:news", self.options.cluster)
    }

    /// Asks the server, if there is one: `None` within the command's timeout otherwise.
    async fn ask<T, F>(&self, asking: impl FnOnce(MultiplexedConnection) -> F + Send) -> Option<T>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let answer = match self.line.load_full() {
            Some(line) => {
                let asking = asking(line.connection.clone());
                match tokio::time::timeout(self.options.command_timeout, asking).await {
                    Ok(Ok(answer)) => Some(answer),
                    Ok(Err(error)) => {
                        tracing::debug!(error = %error, "redis refused a command");
                        self.suspect(&line);
                        None
                    }
                    Err(_) => {
                        self.suspect(&line);
                        None
                    }
                }
            }
            None => None,
        };
        if answer.is_none() {
            metrics::counter!("troupe_soft_state_fallbacks_total").increment(1);
        }
        answer
    }

    async fn command<T: redis::FromRedisValue>(&self, command: Cmd) -> Option<T> {
        self.ask(|mut line| async move { command.query_async(&mut line).await }).await
    }

    /// Takes this very line out of use until the driver has looked at it.
    fn suspect(&self, line: &Arc<Line>) {
        self.line.compare_and_swap(line, None);
        self.suspected.notify_one();
    }

    /// Puts something into the box; the driver sends it if it can.
    fn tell(&self, message: String) {
        if self.line.load().is_none() || self.outbox.try_send(message).is_err() {
            metrics::counter!("troupe_soft_state_news_dropped_total").increment(1);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What other nodes wrote; a newer node may write what this one cannot read.
fn read_viewers(of_nodes: Vec<String>) -> Vec<Viewer> {
    let read = |text: String| serde_json::from_str::<Vec<Viewer>>(&text).unwrap_or_default();
    named(of_nodes.into_iter().flat_map(read).collect())
}

#[async_trait]
impl Presence for RedisSoftState {
    async fn announce(&self, task: TaskId, here: &[Viewer]) -> Vec<Viewer> {
        let shared = &self.0;
        let here = named(here.to_vec());
        let text = match here.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&here).unwrap_or_default(),
        };
        let mut call = shared.scripts.announce.prepare_invoke();
        call.key(shared.key("presence", task)).arg(&shared.options.node).arg(text);
        call.arg(millis(shared.options.lifetimes.presence)).arg(shared.channel());
        call.arg(Message::presence(&shared.options.node, task));
        let told: Option<Vec<String>> =
            shared.ask(|mut line| async move { call.invoke_async(&mut line).await }).await;
        read_viewers(told.unwrap_or_default())
    }

    async fn elsewhere(&self, task: TaskId) -> Vec<Viewer> {
        let shared = &self.0;
        let mut call = shared.scripts.elsewhere.prepare_invoke();
        call.key(shared.key("presence", task)).arg(&shared.options.node);
        let told: Option<Vec<String>> =
            shared.ask(|mut line| async move { call.invoke_async(&mut line).await }).await;
        read_viewers(told.unwrap_or_default())
    }

    fn presence_changes(&self) -> broadcast::Receiver<TaskId> {
        self.0.ears.presence.subscribe()
    }
}

#[async_trait]
impl Statuses for RedisSoftState {
    async fn put_status(&self, task: TaskId, note: &TaskNote) {
        let shared = &self.0;
        let note = note.bounded();
        let mut call = shared.scripts.put_status.prepare_invoke();
        call.key(shared.key("status", task)).arg(note.seq.0);
        call.arg(serde_json::to_string(&note).unwrap_or_default());
        call.arg(millis(shared.options.lifetimes.status));
        let kept: Option<bool> =
            shared.ask(|mut line| async move { call.invoke_async(&mut line).await }).await;
        if kept.is_none() {
            shared.alone.put_status(task, &note).await;
        }
    }

    async fn statuses(&self, tasks: &[TaskId]) -> Vec<Option<TaskNote>> {
        let shared = &self.0;
        if tasks.is_empty() {
            return Vec::new();
        }
        let mut command = redis::cmd("MGET");
        for task in tasks {
            command.arg(shared.key("status", task));
        }
        match shared.command::<Vec<Option<String>>>(command).await {
            Some(notes) => notes.into_iter().map(|text| read_note(&text?)).collect(),
            None => shared.alone.statuses(tasks).await,
        }
    }
}

fn read_note(text: &str) -> Option<TaskNote> {
    let (_, note) = text.split_once('|')?;
    serde_json::from_str(note).ok()
}

#[async_trait]
impl Limits for RedisSoftState {
    async fn take(&self, name: &str, rule: Rule) -> Verdict {
        let shared = &self.0;
        let mut call = shared.scripts.take.prepare_invoke();
        call.key(shared.key("limit", limits::cut(name)));
        call.arg(gcra::interval(rule)).arg(gcra::reach(rule));
        let wait: Option<u64> =
            shared.ask(|mut line| async move { call.invoke_async(&mut line).await }).await;
        match wait {
            Some(0) => Verdict::Allowed,
            Some(micros) => Verdict::Refused { retry_after: Duration::from_micros(micros) },
            None => shared.alone.take(name, rule).await,
        }
    }

    async fn give_back(&self, name: &str, rule: Rule) {
        let shared = &self.0;
        let mut call = shared.scripts.give_back.prepare_invoke();
        call.key(shared.key("limit", limits::cut(name))).arg(gcra::interval(rule));
        let done: Option<()> =
            shared.ask(|mut line| async move { call.invoke_async(&mut line).await }).await;
        if done.is_none() {
            shared.alone.give_back(name, rule).await;
        }
    }

    async fn forget(&self, name: &str) {
        let shared = &self.0;
        let mut command = redis::cmd("DEL");
        command.arg(shared.key("limit", limits::cut(name)));
        let done: Option<()> = shared.command(command).await;
        if done.is_none() {
            shared.alone.forget(name).await;
        }
    }
}

impl News for RedisSoftState {
    fn notify(&self, notice: Notice) {
        match Message::notice(&self.0.options.node, &notice) {
            Some(text) if text.len() <= NOTICE_BYTES_MAX => self.0.tell(text),
            _ => metrics::counter!("troupe_soft_state_news_dropped_total").increment(1),
        }
        self.0.ears.notice(notice);
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.0.ears.notices.subscribe()
    }

    fn tell_revoked(&self) {
        self.0.tell(Message::revoked(&self.0.options.node));
    }

    fn revocations(&self) -> watch::Receiver<u64> {
        self.0.ears.revocations.subscribe()
    }
}

impl SoftState for RedisSoftState {
    fn health(&self) -> watch::Receiver<Health> {
        self.0.health.subscribe()
    }
}
