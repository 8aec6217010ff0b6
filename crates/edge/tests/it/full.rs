//! Disks that are full, that refuse, and that forget.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::timeout;
use troupe_actor::spawn_task;
use troupe_edge::{
    EdgeAgent,
    outbox::{Accepted, ExecutionLog, Outbox, OutboxError, Record},
};
use troupe_types::{Attempt, ExecutionId, OutSeq, TaskId};
use troupe_wire::device::{AttemptKey, DeviceFrame, EndedHow, InputFate, InputKind};

use crate::{
    engine::Script,
    owner::{LONG, SERVER, World, assignment, now, until},
};

/// A small file system of its own, gone with the test.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// `None`, with the reason printed, where mounting is not permitted. In CI it is.
    fn new(size: &str) -> Option<Self> {
        Self::below(&std::env::temp_dir(), size)
    }

    /// In a new directory below `parent`.
    #[expect(clippy::print_stdout, reason = "says why nothing was tested")]
    fn below(parent: &Path, size: &str) -> Option<Self> {
        let dir = tempfile::tempdir_in(parent).unwrap();
        let size = format!("size={size}");
        let told = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "troupe"])
            .arg(dir.path())
            .output();
        match told {
            Ok(output) if output.status.success() => Some(Self { dir }),
            other => {
                let in_ci = std::env::var_os("CI").is_some();
                assert!(!in_ci, "a small file system cannot be mounted, and this is CI: {other:?}");
                println!("skipped: a small file system cannot be mounted here: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes all room that is left; its end gives it back.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            let piece = vec![b'x'; size];
            while file.write_all(&piece).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn accepted() -> Accepted {
    Accepted {
        task: TaskId::new(now()),
        team: "a/b".to_owned(),
        user: "ada".to_owned(),
        spec: "{}".to_owned(),
        secrets: false,
        waits: false,
    }
}

fn attempt() -> AttemptKey {
    AttemptKey { execution: ExecutionId::new(now()), attempt: Attempt(1) }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

fn segments(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// Segments that were acknowledged go without a note of it, and make room for it.
#[test]
fn an_ack_frees_segments_on_a_full_disk() {
    let Some(disk) = Disk::new("8m") else { return };
    let dir = disk.path().join("log");
    let mut log = ExecutionLog::create(&dir, &Record::Accepted(accepted())).unwrap();
    let body = Bytes::from(vec![b'x'; 100_000]);
    for _ in 0..35 {
        log.append_output(body.clone()).unwrap();
    }
    log.sync().unwrap();
    assert_eq!(segments(&dir), 4);
    let _filler = disk.fill();
    while log.append(&Record::Session("s".to_owned())).is_ok() {}
    log.ack(OutSeq(24)).1.unwrap();
    assert_eq!(segments(&dir), 2, "room for the note, too");
    log.sync().unwrap();
    drop(log);
    let mut log = ExecutionLog::open(&dir).unwrap().unwrap();
    assert_eq!((log.fold().last, log.fold().acked), (OutSeq(35), OutSeq(24)));
    assert_eq!(log.read(OutSeq(25), 1).unwrap(), [(OutSeq(25), body)]);
}

/// What is set aside for one attempt holds up neither others nor what needs no room.
#[tokio::test]
async fn a_full_disk_holds_up_only_what_writes() {
    let Some(disk) = Disk::new("2m") else { return };
    let outbox = Outbox::open(disk.path().join("executions"), 1 << 30).await.unwrap().outbox;
    let (one, other) = (attempt(), attempt());
    for key in [one, other] {
        outbox.accept(key, accepted()).await.unwrap();
    }
    outbox.push(one, Bytes::from_static(b"\"first\"")).await.unwrap();
    let filler = disk.fill();
    let mut marks = outbox.marks(one).unwrap();
    outbox.push(one, Bytes::from(vec![b'a'; 100_000])).await.unwrap();
    drop(soon("it is full", marks.wait_for(|marks| marks.full)).await.unwrap());
    // Whoever writes to this log waits by now.
    let (writer, session) = (outbox.clone(), Record::Session("late".to_owned()));
    let note = spawn_task("note", async move { writer.note(one, session).await });
    let more = outbox.push(one, Bytes::from_static(b"\"more\""));
    assert!(timeout(Duration::from_millis(50), more).await.is_err(), "it waits");
    assert_eq!(soon("fold", outbox.fold(one)).await.unwrap().last, OutSeq(1));
    assert_eq!(soon("read", outbox.read(one, OutSeq(1), 10)).await.unwrap().len(), 1);
    let refused = soon("now", outbox.note_now(one, Record::Session("now".to_owned()))).await;
    assert_eq!(refused, Err(OutboxError::Full));
    assert!(soon("ack", outbox.ack(one, OutSeq(1))).await);
    drop(soon("acked", marks.wait_for(|marks| marks.acked == OutSeq(1))).await.unwrap());
    let refused = soon("create", outbox.accept(attempt(), accepted())).await;
    assert!(matches!(refused, Err(OutboxError::Disk(_))), "{refused:?}");
    soon("remove", outbox.remove(other)).await.unwrap();
    assert!(!note.is_finished(), "it waits for room");
    fs::remove_file(&filler).unwrap();
    soon("the note", note).await.unwrap().unwrap();
    drop(soon("there is room", marks.wait_for(|marks| !marks.full)).await.unwrap());
    let fold = outbox.fold(one).await.unwrap();
    assert_eq!((fold.last, fold.session.as_deref()), (OutSeq(2), Some("late")));
    assert_eq!(outbox.read(one, OutSeq(2), 10).await.unwrap()[0].1[0], b'a');
}

/// Who waits for what was said waits for the disk; what a broken log lost is told.
#[tokio::test]
async fn settled_is_what_is_on_the_disk() {
    let Some(disk) = Disk::new("2m") else { return };
    let outbox = Outbox::open(disk.path().join("executions"), 1 << 30).await.unwrap().outbox;
    let key = attempt();
    assert_eq!(outbox.settle(key).await, Err(OutboxError::Unknown));
    outbox.accept(key, accepted()).await.unwrap();
    let mut marks = outbox.marks(key).unwrap();
    for n in 1..=100 {
        outbox.push(key, Bytes::from_static(b"\"said\"")).await.unwrap();
        outbox.settle(key).await.unwrap();
        assert_eq!(marks.borrow().durable, OutSeq(n));
    }
    let filler = disk.fill();
    outbox.push(key, Bytes::from(vec![b'a'; 100_000])).await.unwrap();
    drop(soon("it is full", marks.wait_for(|marks| marks.full)).await.unwrap());
    let mut settled = Box::pin(outbox.settle(key));
    assert!(timeout(Duration::from_millis(50), &mut settled).await.is_err(), "it waits for room");
    fs::remove_file(&filler).unwrap();
    soon("the rest", settled).await.unwrap();
    assert_eq!(marks.borrow().durable, OutSeq(101));
    let _filler = disk.fill();
    outbox.push(key, Bytes::from(vec![b'a'; 100_000])).await.unwrap();
    drop(soon("it is full", marks.wait_for(|marks| marks.full)).await.unwrap());
    let mut settled = Box::pin(outbox.settle(key));
    assert!(timeout(Duration::from_millis(50), &mut settled).await.is_err(), "it waits again");
    soon("remove", outbox.remove(key)).await.unwrap();
    assert_eq!(soon("it is told", settled).await, Err(OutboxError::Unknown));
}

/// Until a run waits for room.
async fn paused(agent: &EdgeAgent, key: AttemptKey) {
    let begun = tokio::time::Instant::now();
    loop {
        let status = agent.status().await.unwrap();
        let run = status.executions.iter().find(|run| run.execution == key.execution).unwrap();
        if run.state == "paused" {
            return;
        }
        assert!(begun.elapsed() < LONG, "{} instead of paused", run.state);
        tokio::task::yield_now().await;
    }
}

/// A run that fills the disk stops when it is told to, and the device works on.
#[tokio::test]
async fn a_run_on_a_full_disk_can_be_cancelled() {
    let Some(disk) = Disk::new("3m") else { return };
    let (world, engine) = (World::new(), Arc::new(Script::default()));
    let agent = world.agent(disk.path(), engine.clone()).await;
    let waits = world.owner.assign(assignment("say:1 wait say:1")).await;
    world.owner.kept().mute = true;
    let key = world.owner.assign(assignment("big:2000")).await;
    until("it says much", || engine.said.load(Ordering::SeqCst) > 20).await;
    let filler = disk.fill();
    paused(&agent, key).await;
    world.owner.kept().keep_ended = true;
    world.owner.input(key, InputKind::Cancel, "").await;
    assert_eq!(world.owner.ended(key).await.how, EndedHow::Cancelled);
    until("it stopped", || engine.running.load(Ordering::SeqCst) == 1).await;
    assert_eq!(agent.status().await.unwrap().slots_used, 1);
    // It is said again, although no disk knows of it.
    world.owner.kept().ended.clear();
    world.owner.kept().keep_ended = false;
    world.hub.sever(&world.name(), SERVER);
    assert_eq!(world.owner.ended(key).await.how, EndedHow::Cancelled);
    fs::remove_file(filler).unwrap();
    world.owner.kept().mute = false;
    world.owner.input(waits, InputKind::Steer, r#"{"text":"go on"}"#).await;
    assert_eq!(world.owner.ended(waits).await.how, EndedHow::Finished);
    agent.stop().await;
}

/// An input that finds no room waits for it, once, and needs no new link.
#[tokio::test]
async fn an_input_waits_for_room() {
    let Some(disk) = Disk::new("3m") else { return };
    let (world, engine) = (World::new(), Arc::new(Script::default()));
    let agent = world.agent(disk.path(), engine.clone()).await;
    world.owner.kept().mute = true;
    let key = world.owner.assign(assignment("big:2000 wait say:1")).await;
    until("it says much", || engine.said.load(Ordering::SeqCst) > 20).await;
    let filler = disk.fill();
    paused(&agent, key).await;
    let id = world.owner.input(key, InputKind::Steer, r#"{"text":"go on"}"#).await;
    let again = world.owner.kept().inputs[&id].clone();
    world.owner.send(&DeviceFrame::Input(again)).await;
    // What comes after it is answered, so it was heard.
    let refused = world.owner.assign(assignment("say:1")).await;
    let owner = world.owner.clone();
    let is_refused = || owner.kept().answers.iter().any(|a| a.key() == refused);
    until("the refusal", is_refused).await;
    assert!(world.owner.kept().input_answers.is_empty(), "it is not written");
    fs::remove_file(filler).unwrap();
    world.owner.kept().mute = false;
    assert_eq!(world.owner.ended(key).await.how, EndedHow::Finished);
    let (fates, hellos) = {
        let kept = world.owner.kept();
        let fates: Vec<_> = kept.input_answers.iter().map(|a| (a.id, a.fate)).collect();
        (fates, kept.hellos.len())
    };
    assert_eq!((fates, hellos), (vec![(id, InputFate::Taken)], 1));
    agent.stop().await;
}

/// Nothing of a run that was cancelled comes back, although no log says so.
#[tokio::test]
async fn an_end_that_found_no_room_outlives_a_restart() {
    let Some(disk) = Disk::new("3m") else { return };
    let (world, engine) = (World::new(), Arc::new(Script::default()));
    let agent = world.agent(disk.path(), engine.clone()).await;
    (world.owner.kept().mute, world.owner.kept().keep_ended) = (true, true);
    let key = world.owner.assign(assignment("big:2000")).await;
    until("it says much", || engine.said.load(Ordering::SeqCst) > 20).await;
    let _filler = disk.fill();
    paused(&agent, key).await;
    world.owner.input(key, InputKind::Cancel, "").await;
    assert_eq!(world.owner.ended(key).await.how, EndedHow::Cancelled);
    agent.stop().await;
    world.hub.cut(&world.name(), SERVER, true);
    world.owner.kept().ended.clear();
    let options = world.options(disk.path(), engine.clone());
    let agent = EdgeAgent::start(options, world.dialler()).await.unwrap();
    assert_eq!(agent.status().await.unwrap().slots_used, 0);
    world.hub.cut(&world.name(), SERVER, false);
    assert_eq!(world.owner.ended(key).await.how, EndedHow::Cancelled);
    assert_eq!(engine.launches.lock().unwrap().len(), 1);
    agent.stop().await;
}

/// What was forgotten is not gone on with, although it is still there.
#[tokio::test]
async fn what_cannot_be_deleted_goes_at_a_later_start() {
    let dir = tempfile::tempdir().unwrap();
    let executions = dir.path().join("executions");
    let open = || Outbox::open(executions.clone(), 1 << 20);
    let (outbox, key) = (open().await.unwrap().outbox, attempt());
    outbox.accept(key, accepted()).await.unwrap();
    let log = log_of(dir.path(), key);
    let Some(disk) = Disk::below(&log, "1m") else { return };
    let refused = outbox.remove(key).await;
    assert!(matches!(refused, Err(OutboxError::Disk(_))), "{refused:?}");
    drop(outbox);
    // As if the log were whole: what was deleted before the refusal is a matter of luck.
    drop(ExecutionLog::create(&log, &Record::Accepted(accepted())).unwrap());
    let outbox = open().await.unwrap().outbox;
    assert_eq!((outbox.attempts(), log.exists()), (Vec::new(), true));
    drop((outbox, disk));
    let outbox = open().await.unwrap().outbox;
    assert_eq!((outbox.attempts(), log.exists()), (Vec::new(), false));
}

fn log_of(dir: &Path, key: AttemptKey) -> PathBuf {
    dir.join("executions").join(format!("{}.{}", key.execution, key.attempt))
}

/// The disk refuses a segment: the run stops, and is told as lost until that is heard.
#[tokio::test]
async fn a_log_that_breaks_stops_its_run() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    world.owner.kept().keep_ended = true;
    let key = world.owner.assign(assignment("wait big:300 forever")).await;
    until("it runs", || engine.running.load(Ordering::SeqCst) == 1).await;
    fs::create_dir(log_of(dir.path(), key).join("00000002.log")).unwrap();
    world.owner.input(key, InputKind::Steer, r#"{"text":"go on"}"#).await;
    let ended = world.owner.ended(key).await;
    assert_eq!(ended.how, EndedHow::Lost, "{ended:?}");
    assert!(ended.last.0 > 3, "what was written is told: {ended:?}");
    assert_eq!(engine.running.load(Ordering::SeqCst), 0);
    assert_eq!(agent.status().await.unwrap().slots_used, 0);
    for keep in [true, false] {
        world.owner.kept().keep_ended = keep;
        world.owner.kept().ended.clear();
        world.hub.sever(&world.name(), SERVER);
        assert_eq!(world.owner.ended(key).await, ended, "said again");
    }
    until("it is forgotten", || !log_of(dir.path(), key).exists()).await;
    let next = world.owner.assign(assignment("say:1")).await;
    assert_eq!(world.owner.ended(next).await.how, EndedHow::Finished);
    agent.stop().await;
}

/// What was written cannot be read any more: it is lost, whatever its log says of the end.
#[tokio::test]
async fn output_that_cannot_be_read_is_told_as_lost() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    (world.owner.kept().mute, world.owner.kept().keep_ended) = (true, true);
    let key = world.owner.assign(assignment("say:20")).await;
    assert_eq!(world.owner.ended(key).await.how, EndedHow::Finished);
    agent.stop().await;
    world.hub.cut(&world.name(), SERVER, true);
    let options = world.options(dir.path(), engine);
    let agent = EdgeAgent::start(options, world.dialler()).await.unwrap();
    // Opened, and found good; then the disk forgets.
    fs::remove_file(log_of(dir.path(), key).join("00000001.log")).unwrap();
    world.owner.kept().ended.clear();
    world.hub.cut(&world.name(), SERVER, false);
    let owner = world.owner.clone();
    let lost = || owner.kept().ended.get(&key).is_some_and(|end| end.how == EndedHow::Lost);
    until("it is lost", lost).await;
    assert_eq!(world.owner.kept().ended[&key].last, OutSeq::ZERO, "nothing is waited for");
    agent.stop().await;
}

/// What cannot be read just now is read later, and is not lost.
#[tokio::test]
async fn output_that_cannot_be_read_for_a_while_is_told_later() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    (world.owner.kept().mute, world.owner.kept().keep_ended) = (true, true);
    let key = world.owner.assign(assignment("say:20")).await;
    let ended = world.owner.ended(key).await;
    agent.stop().await;
    world.hub.cut(&world.name(), SERVER, true);
    world.owner.kept().outputs.clear();
    let options = world.options(dir.path(), engine);
    let agent = EdgeAgent::start(options, world.dialler()).await.unwrap();
    // A link to itself: an error that is neither damage nor anything that is not there.
    let segment = log_of(dir.path(), key).join("00000001.log");
    let away = dir.path().join("away");
    fs::rename(&segment, &away).unwrap();
    std::os::unix::fs::symlink(&segment, &segment).unwrap();
    world.hub.cut(&world.name(), SERVER, false);
    let mut link = agent.link();
    drop(soon("the link", link.wait_for(|link| link.state == "connected")).await.unwrap());
    let other = world.owner.assign(assignment("say:1")).await;
    world.owner.whole(other).await;
    assert!(!world.owner.kept().outputs.contains_key(&key), "it cannot be read");
    fs::rename(&away, &segment).unwrap();
    assert_eq!(world.owner.whole(key).await, ended);
    agent.stop().await;
}
