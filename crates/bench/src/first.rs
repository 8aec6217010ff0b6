//! From `chat:send` to the first chunk, for a viewer who sent it and has joined.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use troupe_types::Uuid;

use crate::{
    node::Node,
    stats::{Times, cores, grouped, note, row},
    stream::Stream,
};

const MESSAGE: &str = "[[demo chunks=3 pace=0 think=0]] go on";
const CHUNK: &str = "{\"ev\":\"chat:chunk\"";
const DONE: &str = "{\"ev\":\"chat:done\"";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Messages of the first part, one after the other
    #[arg(long, default_value_t = 1_000)]
    messages: usize,
    /// Tasks that they go to in turn
    #[arg(long, default_value_t = 50)]
    tasks: usize,
    /// Messages per second of the second part, over all Tasks
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// How long the second part takes, in seconds
    #[arg(long, default_value_t = 15)]
    seconds: u32,
}

pub(crate) async fn run(node: &Node, args: &Args) -> Result<()> {
    note("making tasks");
    let mut viewers = Vec::new();
    for task in node.tasks(args.tasks).await? {
        let mut stream = Stream::open(node).await?;
        stream.call("task:join", json!({"task_id": task, "turns": 0})).await?;
        viewers.push(Viewer { stream, task });
    }
    note("one at a time");
    let (mut acks, mut times) = (Times::default(), Times::default());
    let (start, before) = (Instant::now(), node.cpu()?);
    for n in 0..args.messages {
        let at = n % viewers.len();
        let (ack, chunk) = viewers[at].message(Instant::now()).await?;
        acks.push(ack);
        times.push(chunk);
    }
    let cpu = cores(node.cpu()? - before, start.elapsed());
    let count = args.messages;
    let summary = times.summary();
    row("first chunk, one message at a time", format!("{summary} ({count} messages; node {cpu})"));
    row("its ack", acks.summary());

    note(&format!("{} messages per second", args.rate));
    let (start, before) = (Instant::now() + Duration::from_millis(100), node.cpu()?);
    let each = Duration::from_secs(1) * u32::try_from(viewers.len())? / args.rate;
    let count = args.rate * args.seconds / u32::try_from(viewers.len())?;
    let mut senders = JoinSet::new();
    for (number, mut viewer) in (0..).zip(viewers) {
        let first = start + each * number / u32::try_from(args.tasks)?;
        senders.spawn(async move {
            let mut times = Times::default();
            for n in 0..count {
                let due = first + each * n;
                sleep_until(due).await;
                times.push(viewer.message(due.max(Instant::now() - TIMER)).await?.1);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Times::default();
    while let Some(sent) = senders.join_next().await {
        times.append(sent.context("a sender died")??);
    }
    let took = start.elapsed();
    let rate = grouped(times.len() as f64 / took.as_secs_f64());
    let cpu = cores(node.cpu()? - before, took);
    let what = format!("first chunk at {rate} messages/s over {} tasks", args.tasks);
    let summary = times.summary();
    row(&what, format!("{summary} (node {cpu})"));
    Ok(())
}

/// The timer is good for a millisecond; what is late by it is not the node's fault.
const TIMER: Duration = Duration::from_millis(2);

struct Viewer {
    stream: Stream,
    task: String,
}

impl Viewer {
    /// Sends, and waits for the end of the answer; times until ack and first chunk.
    async fn message(&mut self, due: Instant) -> Result<(Duration, Duration)> {
        let id = Uuid::new_v4();
        let send = json!({"task_id": self.task, "message": MESSAGE, "client_message_id": id});
        self.stream.send("chat:send", send).await?;
        let (mut ack, mut chunk, mut is_done) = (None, None, false);
        while ack.is_none() || !is_done {
            let text = self.stream.next().await?;
            if text.starts_with("{\"ack\":") {
                ensure!(!text.contains("\"error\""), "a message was refused: {text}");
                ack = Some(due.elapsed());
            } else if text.starts_with(CHUNK) {
                chunk.get_or_insert_with(|| due.elapsed());
            } else if text.starts_with("{\"ev\":\"chat:error\"") {
                anyhow::bail!("an answer failed: {text}");
            } else if text.starts_with(DONE) {
                is_done = true;
            }
        }
        Ok((ack.unwrap_or_default(), chunk.context("an answer without a chunk")?))
    }
}
