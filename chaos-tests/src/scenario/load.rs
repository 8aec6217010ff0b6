//! Too much of everything.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream};
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tokio::time::Instant;
use troupe_testkit::client::stream::Socket;

use crate::{
    load::{
        QUICK,
        person::{Command, Person},
        rest,
    },
    stage::Stage,
};

/// Messages to one Task at once.
const HOT: usize = 300;
/// Viewers that do not read.
const SLOW: usize = 5;
/// Requests of a storm that are under way at once.
const STORM_AT_ONCE: usize = 128;

pub(super) async fn hot_task(stage: &mut Stage) -> Result<()> {
    let probe = stage.probes.first().context("no probes")?.task.clone();
    stage.note(format!("{HOT} messages to {probe} at once"));
    let began = Instant::now();
    let around = stage.load.around.clone();
    let say = |n: usize| {
        let rng = StdRng::seed_from_u64(n as u64);
        let mut person = Person::new(3_000 + n as u64, around.clone(), rng);
        let command = Command::say(&probe, QUICK);
        async move { person.command(&command).await.is_some() }
    };
    let acked: Vec<bool> = stream::iter(0..HOT).map(say).buffer_unordered(HOT).collect().await;
    let acked = acked.into_iter().filter(|acked| *acked).count();
    let took = began.elapsed().as_secs_f64();
    stage.figure(format!("{acked} of {HOT} were acknowledged within {took:.1} s"), None);
    let others: Vec<_> = stage.probes.iter().skip(1).take(8).cloned().collect();
    let asking = stage.ask(&others, usize::MAX);
    stage.answered("other tasks answer", asking, Duration::from_secs(5)).await;
    Ok(())
}

pub(super) async fn slow_viewers(stage: &mut Stage) -> Result<()> {
    let names = stage.load.around.board.names();
    let open = stage.load.around.board.unfinished();
    let task = open.first().map(|(task, _)| task).or(names.first()).context("no tasks")?;
    let mut sockets = Vec::new();
    for (_, url) in stage.cluster.roster.all() {
        for _ in 0..SLOW {
            let mut socket = Socket::open(&url, &stage.admin.token).await?;
            let ask = json!({"task_id": task, "after": 0});
            let _ack = socket.call("chat:resume", ask).await?;
            sockets.push(socket);
        }
    }
    stage.note(format!("{} viewers of {task} do not read", sockets.len()));
    stage.cluster.watch(stage.span(6, 40)).await;
    stage.expect_progress("the load goes on", Duration::from_secs(5)).await;
    drop(sockets);
    Ok(())
}

pub(super) async fn storm(stage: &mut Stage) -> Result<()> {
    let count = match stage.set {
        crate::stage::Set::Ci => 500,
        crate::stage::Set::Full => 5_000,
    };
    stage.note(format!("{count} tasks are made"));
    let around = stage.load.around.clone();
    let make = |n: usize| {
        let rng = StdRng::seed_from_u64(n as u64);
        let mut person = Person::new(10_000 + n as u64, around.clone(), rng);
        async move {
            let ack = person.command(&Command::create("probe", QUICK)).await?;
            ack["task_id"].as_str().map(str::to_owned)
        }
    };
    let began = Instant::now();
    let made: Vec<Option<String>> =
        stream::iter(0..count).map(make).buffer_unordered(STORM_AT_ONCE).collect().await;
    let tasks: Vec<String> = made.into_iter().flatten().collect();
    let took = began.elapsed().as_secs_f64();
    stage.others.extend(tasks.iter().cloned());
    stage.figure(
        format!("{} of {count} made within {took:.1} s", tasks.len()),
        Some(tasks.len() == count),
    );
    // With their nodes gone nothing of them is in memory: all are activated at once.
    stage.note("all nodes are killed and started again, then all are asked for at once");
    super::processes::crash_all(stage).await?;
    let urls = stage.cluster.roster.all();
    let who = stage.admin.clone();
    let ask = |(n, task): (usize, String)| {
        let (_, url) = urls[n % urls.len()].clone();
        let who = who.clone();
        async move {
            let path = format!("/api/v1/tasks/{task}");
            for _ in 0..20 {
                let Ok(rest) = rest(&url) else { continue };
                let answer = rest.call("GET", &path, Some(&who), None).await;
                if answer.is_ok_and(|answer| answer.status == 200) {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            false
        }
    };
    let began = Instant::now();
    let asked = stream::iter(tasks.into_iter().enumerate()).map(ask);
    let answered: Vec<bool> = asked.buffer_unordered(STORM_AT_ONCE).collect().await;
    let well = answered.iter().filter(|well| **well).count();
    let took = began.elapsed().as_secs_f64();
    stage.figure(format!("{well} of {count} activated within {took:.1} s"), Some(well == count));
    Ok(())
}
