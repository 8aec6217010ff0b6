//! No process outlives its run, whatever it does to get away.

use std::time::Duration;

use troupe_executor::{Containment, Limits, RunCommand, RuntimeEvent, TurnEnd};
use troupe_testkit::wait_until;

use crate::kit::{Run, WAIT, World, lives, pids};

/// Children of every sort; each writes its pid. The last line ends the script, or not.
const ESCAPES: &str = r#"
echo $$ > self.pid
sh -c 'echo $$ > child.pid; exec sleep 1000' &
setsid sh -c 'echo $$ > setsid.pid; exec sleep 1000' &
(setsid sh -c '(setsid sh -c "echo \$\$ > double.pid; exec sleep 1000" &) ; exit 0' &)
sh -c 'trap "" TERM INT HUP; echo $$ > deaf.pid; while :; do sleep 1000; done' &
setsid sh -c 'trap "" TERM INT HUP; echo $$ > deafsid.pid; exec sleep 1000' >/dev/null 2>&1 </dev/null &
env -i /bin/sh -c 'echo $$ > bare.pid; exec /bin/sleep 1000' &
"#;

async fn escaped(world: &World, last: &str) -> (Run, Vec<i32>) {
    let run = world.script(&format!("{ESCAPES}\n{last}")).await;
    let dir = world.work();
    wait_until(WAIT, || std::future::ready(pids(&dir).len() == 7)).await;
    let pids = pids(&dir);
    (run, pids)
}

fn none_lives(pids: &[i32]) {
    let left: Vec<i32> = pids.iter().copied().filter(|pid| lives(*pid)).collect();
    assert!(left.is_empty(), "left: {left:?}");
}

async fn stop(world: World) {
    let (mut run, pids) = escaped(&world, "trap '' TERM; while :; do sleep 1000; done").await;
    let handle = run.handle.clone();
    let (exit, ()) = tokio::join!(run.exit(), handle.stop());
    none_lives(&pids);
    assert!(exit.stopped && exit.killed >= 5, "{exit:?}");
    assert!(run.seen.contains(&RuntimeEvent::TurnEnded(TurnEnd::Interrupted)));
}

#[tokio::test]
async fn a_stop_leaves_nothing() {
    stop(World::new()).await;
}

#[tokio::test]
async fn a_stop_leaves_nothing_without_cgroups() {
    stop(World::without_cgroups()).await;
}

async fn crash(world: World) {
    // Not before all of them have said who they are.
    let (mut run, pids) =
        escaped(&world, "while [ ! -e go ]; do sleep 0.02; done; kill -9 $$").await;
    std::fs::write(world.work().join("go"), "").unwrap();
    let TurnEnd::Failed { text, .. } = run.turn_end().await else { panic!("it crashed") };
    assert!(text.contains("signal 9"), "{text}");
    run.exit().await;
    none_lives(&pids);
}

#[tokio::test]
async fn a_crash_of_the_program_leaves_nothing() {
    crash(World::new()).await;
}

#[tokio::test]
async fn a_crash_of_the_program_leaves_nothing_without_cgroups() {
    crash(World::without_cgroups()).await;
}

#[tokio::test]
async fn a_good_end_leaves_nothing() {
    for world in [World::new(), World::without_cgroups()] {
        let (mut run, pids) =
            escaped(&world, "while [ ! -e go ]; do sleep 0.02; done; exit 0").await;
        std::fs::write(world.work().join("go"), "").unwrap();
        assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
        run.exit().await;
        none_lives(&pids);
    }
}

#[tokio::test]
async fn an_interrupt_and_a_drop_leave_nothing() {
    let world = World::new();
    let (mut run, pids) = escaped(&world, "wait").await;
    run.handle.tell(RunCommand::Interrupt).await.unwrap();
    assert_eq!(run.turn_end().await, TurnEnd::Interrupted);
    run.exit().await;
    none_lives(&pids);
    for world in [World::new(), World::without_cgroups()] {
        let (run, pids) = escaped(&world, "wait").await;
        drop(run);
        wait_until(WAIT, || std::future::ready(pids.iter().all(|pid| !lives(*pid)))).await;
    }
}

/// A fork bomb meets the bound on processes, and all of it goes.
#[tokio::test]
async fn a_fork_bomb_is_contained() {
    let world = World::new();
    if !world.machine.containment.has_limits() {
        println!("skipped: no right to bound processes here");
        return;
    }
    let limits = Limits { pids_max: 40, ..Limits::default() };
    let script = "b() { sh -c 'sleep 1000' & b & b; }; b; sleep 1000";
    let mut run = world.script_within(script, limits).await;
    run.until(|event| matches!(event, RuntimeEvent::Text { text, .. } if text.contains("fork")))
        .await;
    let handle = run.handle.clone();
    let (exit, ()) = tokio::join!(run.exit(), handle.stop());
    assert!(exit.killed <= 40, "{}", exit.killed);
}

/// What an earlier process of the same owner left is ended at start.
#[tokio::test]
async fn leftovers_are_swept() {
    let owner = format!("sweep-{}", std::process::id());
    let dir = tempfile::TempDir::new().unwrap();
    let mut orphan = std::process::Command::new("setsid")
        .args(["sh", "-c", "sleep 1000 & touch ready; wait"])
        .current_dir(dir.path())
        .env("TROUPE_RUN", format!("{owner}/1-0"))
        .spawn()
        .unwrap();
    let pid = i32::try_from(orphan.id()).unwrap();
    let ready = dir.path().join("ready");
    wait_until(WAIT, || std::future::ready(ready.exists())).await;
    let containment = Containment::detect(&owner);
    assert_eq!(containment.sweep(), 2);
    wait_until(Duration::from_secs(5), || std::future::ready(!lives(pid))).await;
    orphan.wait().unwrap();
    assert_eq!(containment.sweep(), 0);
}

/// A stop needs nobody who reads, and what was said before it can still be read.
#[tokio::test]
async fn a_stop_needs_no_reader() {
    let world = World::new();
    let mut run = world
        .script("echo line; echo line; echo $$ > self.pid; while :; do /bin/true; echo line; done")
        .await;
    let dir = world.work();
    wait_until(WAIT, || std::future::ready(pids(&dir).len() == 1)).await;
    run.handle.stop().await;
    none_lives(&pids(&dir));
    assert!(run.handle.is_ended());
    run.exit().await;
    assert!(run.text().starts_with("line\nline\n"));
    let late = run.handle.tell(RunCommand::Interrupt).await;
    assert_eq!(late, Err(troupe_executor::CommandError::Ended));
}
