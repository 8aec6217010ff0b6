//! Idle Socket.IO connections, and one event to all of them: a node beside bare socketioxide
//! in one run, the same clients, one after the other.

use std::{
    env,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    engine_io::Socket,
    http::Http,
    node::Node,
    stats::{self, Times, grouped, note, row},
};

/// Connections that are opened at once.
const OPENED_AT_ONCE: usize = 100;
/// Until what opening needed is given back.
const SETTLE: Duration = Duration::from_secs(5);
/// How long one event may take to all of them.
const EMIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Connections; a process may have 20,000 open files in all
    #[arg(long, default_value_t = 10_000)]
    sockets: usize,
    /// Events to all of them
    #[arg(long, default_value_t = 20)]
    emits: usize,
}

/// What one server needed.
struct Cost {
    bytes: f64,
    opened: Duration,
    emits: Times,
    emitting: Duration,
    cpu: Duration,
}

pub(crate) async fn run(node: &Node, args: &Args) -> Result<()> {
    note("making tasks to delete");
    let tasks = node.tasks(args.emits).await?;
    sleep(SETTLE).await;
    let mut http = node.http().await?;
    let mut paths = tasks.iter().map(|task| format!("/api/v1/tasks/{task}"));
    let node_cost = measure("node", (&node.authority, &node.token), node.pid, args, async || {
        let path = paths.next().context("a task for each emit")?;
        http.call("DELETE", &path, None).await?.ok()
    })
    .await?;

    let (mut child, authority) = start_bare().await?;
    let pid = child.id().context("the bare server runs")?;
    let mut http = Http::connect(&authority, "").await?;
    let bare_cost = measure("bare socketioxide", (&authority, ""), pid, args, async || {
        http.call("POST", "/emit", None).await?.ok()
    })
    .await?;
    child.kill().await.context("end the bare server")?;

    let ratio = node_cost.bytes / bare_cost.bytes;
    row("memory per idle socket, node to bare", format!("{ratio:.2} times"));
    let mean = |cost: &Cost| cost.emitting.as_secs_f64() / args.emits as f64;
    let ratio = mean(&node_cost) / mean(&bare_cost);
    row("time of an event to all of them, node to bare", format!("{ratio:.2} times"));
    Ok(())
}

async fn start_bare() -> Result<(Child, String)> {
    let program = env::current_exe().context("this program")?;
    let mut command = Command::new(program);
    command.arg("bare").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("start the bare server")?;
    let out = child.stdout.take().context("its output")?;
    let line = timeout(Duration::from_secs(10), BufReader::new(out).lines().next_line()).await;
    let line = line.context("the bare server is silent")??;
    Ok((child, line.context("the bare server ended")?))
}

async fn measure(
    what: &str,
    (authority, token): (&str, &str),
    pid: u32,
    args: &Args,
    mut emit: impl AsyncFnMut() -> Result<Vec<u8>>,
) -> Result<Cost> {
    note(&format!("{what}: opening {} sockets", args.sockets));
    let (resident, start) = (stats::resident(pid)?, Instant::now());
    let seen = Arc::new((AtomicUsize::new(0), Notify::new()));
    let mut listeners = JoinSet::new();
    let mut left = args.sockets;
    while left > 0 {
        let group = left.min(OPENED_AT_ONCE);
        let opening = (0..group).map(|_| Socket::open(authority, token));
        for mut socket in futures::future::try_join_all(opening).await? {
            let seen = Arc::clone(&seen);
            let all = args.sockets;
            listeners.spawn(async move {
                loop {
                    socket.event().await?;
                    if (seen.0.fetch_add(1, Ordering::AcqRel) + 1).is_multiple_of(all) {
                        seen.1.notify_one();
                    }
                }
                #[expect(unreachable_code, reason = "names the type of the block")]
                anyhow::Ok(())
            });
        }
        left -= group;
    }
    let opened = start.elapsed();
    sleep(SETTLE).await;
    let bytes = (stats::resident(pid)? - resident) / args.sockets as f64;
    let mut cost = Cost {
        bytes,
        opened,
        emits: Times::default(),
        emitting: Duration::ZERO,
        cpu: stats::cpu_time(pid)?,
    };
    note(&format!("{what}: {} events to all", args.emits));
    for n in 1..=args.emits {
        let begun = Instant::now();
        emit().await?;
        let all = timeout(EMIT_MAX, seen.1.notified());
        tokio::select! {
            all = all => { all.context("an event did not reach every socket")?; }
            died = listeners.join_next() => {
                died.context("there are listeners")?.context("a listener died")??;
            }
        }
        ensure!(seen.0.load(Ordering::Acquire) == n * args.sockets, "events came twice");
        cost.emits.push(begun.elapsed());
        cost.emitting += begun.elapsed();
    }
    cost.cpu = stats::cpu_time(pid)? - cost.cpu;
    tell(what, args, &mut cost);
    Ok(cost)
}

fn tell(what: &str, args: &Args, cost: &mut Cost) {
    let sockets = args.sockets as f64;
    let per_second = sockets / cost.opened.as_secs_f64();
    row(
        &format!("{what}: {} idle sockets", grouped(sockets)),
        format!("{} bytes each, opened at {}/s", grouped(cost.bytes), grouped(per_second)),
    );
    let rate = sockets * args.emits as f64 / cost.emitting.as_secs_f64();
    let summary = cost.emits.summary();
    let cpu = cost.cpu.as_secs_f64() / (sockets * args.emits as f64) * 1e6;
    row(
        &format!("{what}: an event to all of them"),
        format!("{summary}; {} events/s, {cpu:.1} µs of its processor each", grouped(rate)),
    );
}
