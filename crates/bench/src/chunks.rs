//! Chunks through the whole path: model, commit, fan-out, viewers.
//!
//! A chunk is one frame with its own seq at a viewer. The model says pieces of 12 characters
//! at a fixed pace; pieces that arrive while an append is under way share a frame, so the
//! mean group size is printed with every rate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep},
};
use troupe_types::{Clock as _, SystemClock, Uuid};

use crate::{
    node::Node,
    stats::{Times, cores, grouped, note, row},
    stream::{Stream, at_ms, number},
};

/// Characters of a piece.
const PIECE: u64 = 12;
const CHUNK: &str = "{\"ev\":\"chat:chunk\"";
/// Streams that are opened at once.
const OPENED_AT_ONCE: usize = 64;
/// One frame in so many is timed.
const TIMED: u64 = 16;
const DAY_MS: u64 = 86_400_000;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Tasks that stream at once
    #[arg(long, default_value_t = 1)]
    tasks: usize,
    /// Viewers of each
    #[arg(long, default_value_t = 1)]
    viewers: usize,
    /// Pieces per second of each
    #[arg(long, default_value_t = 1_000)]
    pace: u32,
    /// How long is measured, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// How long they stream before, in seconds
    #[arg(long, default_value_t = 3)]
    warm_up: u32,
}

/// What viewers count while the window is open.
#[derive(Debug, Default)]
struct Window {
    is_open: AtomicBool,
    frames: AtomicU64,
    pieces_chars: AtomicU64,
    /// The same, at the first viewer of each Task only.
    committed: AtomicU64,
    streaming: AtomicUsize,
}

/// Viewers take the nodes in turn.
pub(crate) async fn run(nodes: &[Node], args: &Args) -> Result<()> {
    note(&format!("{} tasks, {} viewers each: joining", args.tasks, args.viewers));
    let tasks = nodes.first().context("a node")?.tasks(args.tasks).await?;
    let streams = open(nodes, &tasks, args.viewers).await?;
    let window = Arc::new(Window::default());
    let (stop, stopped) = watch::channel(false);
    let mut viewers = JoinSet::new();
    // Those who ask late take a while: the first must not be done before.
    let count = args.pace.max(1) * (args.warm_up + args.seconds + 30);
    let message = format!("[[demo chunks={count} size={PIECE} pace={} think=0]]", args.pace);
    let asking = Arc::new(Semaphore::new(OPENED_AT_ONCE));
    for (n, (task, mut stream)) in streams.into_iter().enumerate() {
        let is_first = n.is_multiple_of(args.viewers);
        let (window, stopped) = (Arc::clone(&window), stopped.clone());
        let (asking, message) = (Arc::clone(&asking), message.clone());
        viewers.spawn(async move {
            if is_first {
                let _permit = asking.acquire().await?;
                let id = Uuid::new_v4();
                let send = json!({"task_id": task, "message": message, "client_message_id": id});
                stream.call_patiently("chat:send", &send).await?;
            }
            view(stream, task, is_first, &window, stopped).await
        });
    }
    note("streaming");
    let all_stream = async {
        while window.streaming.load(Ordering::Relaxed) < args.tasks * args.viewers {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        begun = tokio::time::timeout(Duration::from_secs(60), all_stream) => {
            begun.context("not every viewer saw a chunk")?;
        }
        died = viewers.join_next() => {
            died.context("there are viewers")?.context("a viewer died")??;
        }
    }
    sleep(Duration::from_secs(args.warm_up.into())).await;
    let before = Cost::of(nodes).await?;
    window.is_open.store(true, Ordering::Relaxed);
    let start = Instant::now();
    sleep(Duration::from_secs(args.seconds.into())).await;
    window.is_open.store(false, Ordering::Relaxed);
    let took = start.elapsed();
    let after = Cost::of(nodes).await?;
    stop.send_replace(true);
    let mut late = Times::default();
    while let Some(viewer) = viewers.join_next().await {
        late.append(viewer.context("a viewer died")??);
    }
    let cost = Cost {
        cpu: after.cpu.saturating_sub(before.cpu),
        commits: after.commits - before.commits,
        writes: after.writes - before.writes,
    };
    tell(args, (nodes.len(), &window), took, &cost, late);
    Ok(())
}

/// What all nodes used so far.
#[derive(Debug, Default)]
struct Cost {
    cpu: Duration,
    /// Of the embedded store; a cluster's store is another program.
    commits: f64,
    writes: f64,
}

impl Cost {
    async fn of(nodes: &[Node]) -> Result<Self> {
        let mut all = Self::default();
        for node in nodes {
            let mut http = node.http().await?;
            all.cpu += node.cpu()?;
            all.commits += node.metric(&mut http, "troupe_store_commits_total").await?;
            all.writes += node.metric(&mut http, "troupe_store_writes_total").await?;
        }
        Ok(all)
    }
}

fn tell(
    args: &Args,
    (nodes, window): (usize, &Window),
    took: Duration,
    cost: &Cost,
    mut late: Times,
) {
    let per_second = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / took.as_secs_f64();
    let (frames, committed) = (per_second(&window.frames), per_second(&window.committed));
    let said = per_second(&window.pieces_chars) / PIECE as f64;
    let viewers = args.tasks * args.viewers;
    let tasks = if args.tasks == 1 { "1 task".to_owned() } else { format!("{} tasks", args.tasks) };
    let what = format!("{tasks}, {viewers} viewers, {} pieces/s each", args.pace);
    let what = if nodes == 1 { what } else { format!("{nodes} nodes, {what}") };
    row(
        &what,
        format!(
            "{} chunks/s delivered, {} committed, of {} pieces/s; mean group {:.2}",
            grouped(frames),
            grouped(committed),
            grouped(said),
            said / committed.max(1.0),
        ),
    );
    let mut figure =
        format!("from decision to viewer {}; node {}", late.summary(), cores(cost.cpu, took));
    if cost.commits > 0.0 {
        let commits = grouped(cost.commits / took.as_secs_f64());
        figure += &format!("; {commits} commits/s of {:.1} writes", cost.writes / cost.commits);
    }
    row("its delay and cost", figure);
}

/// A stream per viewer, each joined to its Task.
async fn open(nodes: &[Node], tasks: &[String], viewers: usize) -> Result<Vec<(String, Stream)>> {
    let wanted = tasks.iter().flat_map(|task| std::iter::repeat_n(task, viewers));
    let wanted: Vec<(&String, &Node)> = wanted.zip(nodes.iter().cycle()).collect();
    let mut streams = Vec::with_capacity(wanted.len());
    for group in wanted.chunks(OPENED_AT_ONCE) {
        let opening = group.iter().map(|(task, node)| async move {
            let mut stream = Stream::open(node).await?;
            stream.call("task:join", json!({"task_id": task, "turns": 0})).await?;
            anyhow::Ok(((*task).clone(), stream))
        });
        streams.extend(futures::future::try_join_all(opening).await?);
    }
    Ok(streams)
}

/// Reads until it is told to stop; then the first viewer of a Task cancels it. Answers how
/// late frames were.
async fn view(
    mut stream: Stream,
    task: String,
    is_first: bool,
    window: &Window,
    mut stopped: watch::Receiver<bool>,
) -> Result<Times> {
    let clock = SystemClock::default();
    let (mut times, mut last_seq, mut last_offset) = (Times::default(), None, 0);
    loop {
        let text = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            text = stream.next() => text?,
        };
        if let Some(seq) = number(&text, "\"seq\":") {
            ensure!(last_seq.is_none_or(|last| seq == last + 1), "{seq} after {last_seq:?}");
            last_seq = Some(seq);
        }
        ensure!(!text.starts_with("{\"ev\":\"task:resync\""), "a viewer was too slow");
        if !text.starts_with(CHUNK) {
            let is_bad = text.starts_with("{\"ev\":\"chat:error\"") || text.contains("\"error\":");
            ensure!(!is_bad, "something was refused or failed: {text}");
            continue;
        }
        let offset = number(&text, "\"offset\":").context("a chunk has an offset")?;
        if std::mem::replace(&mut last_offset, offset.max(1)) == 0 {
            window.streaming.fetch_add(1, Ordering::Relaxed);
        }
        if !window.is_open.load(Ordering::Relaxed) {
            continue;
        }
        let count = window.frames.fetch_add(1, Ordering::Relaxed);
        if is_first {
            window.committed.fetch_add(1, Ordering::Relaxed);
            let chars = content_chars(&text);
            window.pieces_chars.fetch_add(chars, Ordering::Relaxed);
        }
        if count.is_multiple_of(TIMED)
            && let Some(at) = at_ms(&text)
        {
            let now = u64::try_from(clock.now().as_millis()).unwrap_or(0) % DAY_MS;
            times.push(Duration::from_millis((now + DAY_MS - at) % DAY_MS));
        }
    }
    if is_first {
        stream.call("chat:cancel", json!({"task_id": task})).await?;
    }
    Ok(times)
}

/// Length of a chunk's text; the model's filler is plain ASCII without escapes.
fn content_chars(text: &str) -> u64 {
    let Some((_, after)) = text.split_once("\"content\":\"") else { return 0 };
    after.find('"').unwrap_or(0) as u64
}
