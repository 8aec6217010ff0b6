//! Several runs in one workspace, and what a killed git leaves there.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use troupe_executor::{WorkspaceSource, WorkspaceSpec};
use troupe_testkit::wait_until;

use crate::workspaces::{Kit, execution, existing, git, task};

const PATIENCE: Duration = Duration::from_secs(20);
/// How long a lock in a person's checkout is left alone.
const FOREIGN_AGE: Duration = Duration::from_secs(10 * 60);

fn clone_of(repository: &Path) -> WorkspaceSpec {
    let url = format!("file://{}", repository.display());
    let source = WorkspaceSource::Clone { url, token: None, user: None };
    WorkspaceSpec { source, ..WorkspaceSpec::default() }
}

#[tokio::test]
async fn runs_of_one_task_may_begin_at_the_same_time() {
    let kit = Kit::new();
    let tree = WorkspaceSpec { worktree: true, ..existing(&kit.repository) };
    for spec in [WorkspaceSpec::default(), clone_of(&kit.repository), tree] {
        let task = task();
        let open = || kit.open(task, &spec);
        let (a, b, c, d) = tokio::join!(open(), open(), open(), open());
        let first = a.unwrap();
        for other in [b, c, d] {
            assert_eq!(other.unwrap().path(), first.path(), "{spec:?}");
        }
        assert!(first.keep(execution(), None).await.unwrap(), "{spec:?}");
    }
}

/// A `git commit` that waits for its editor: it has locked the index, and closed the lock.
fn commit(checkout: &Path) -> Child {
    fs::write(checkout.join("a.txt"), "two\n").unwrap();
    Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-a"])
        .current_dir(checkout)
        .env("GIT_EDITOR", "sh -c 'cat >/dev/null; exit 1'")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A program that is no git, and has the lock open.
async fn hold(lock: &Path) -> Child {
    let script = r#"exec 3> "$0"; exec cat"#;
    let child = Command::new("sh").args(["-c", script]).arg(lock).stdin(Stdio::piped()).spawn();
    wait_until(PATIENCE, async || lock.exists()).await;
    child.unwrap()
}

/// kill -9; an editor ends with its input.
fn kill(mut program: Child) {
    program.kill().unwrap();
    program.wait().unwrap();
}

#[tokio::test]
async fn a_lock_that_a_killed_git_left_goes_and_one_in_use_stays() {
    let kit = Kit::new();
    let tree = WorkspaceSpec { worktree: true, ..existing(&kit.repository) };
    for spec in [clone_of(&kit.repository), tree] {
        let task = task();
        let space = kit.open(task, &spec).await.unwrap();
        let name =
            git(space.path(), &["rev-parse", "--path-format=absolute", "--git-path", "index.lock"]);
        let lock = Path::new(name.trim());
        let running = commit(space.path());
        wait_until(PATIENCE, async || lock.exists()).await;
        kit.open(task, &spec).await.unwrap();
        assert!(lock.exists(), "git works there: {spec:?}");
        kill(running);
        assert!(lock.exists(), "a killed git leaves its lock: {spec:?}");
        kit.open(task, &spec).await.unwrap();
        assert!(!lock.exists(), "nobody works there: {spec:?}");
        git(space.path(), &["add", "."]);
    }
}

#[tokio::test]
async fn a_lock_that_any_program_has_open_stays() {
    let kit = Kit::new();
    let (task, spec) = (task(), clone_of(&kit.repository));
    let space = kit.open(task, &spec).await.unwrap();
    let lock = space.path().join(".git/index.lock");
    let program = hold(&lock).await;
    kit.open(task, &spec).await.unwrap();
    assert!(lock.exists(), "somebody has it open");
    kill(program);
    kit.open(task, &spec).await.unwrap();
    assert!(!lock.exists(), "nobody has it open");
}

#[tokio::test]
async fn in_a_persons_checkout_only_an_old_lock_goes() {
    let kit = Kit::new();
    let (task, spec) = (task(), existing(&kit.repository));
    let lock = kit.repository.join(".git/index.lock");
    let program = hold(&lock).await;
    let made = fs::metadata(&lock).unwrap().modified().unwrap();
    let set_age = |age: Duration| {
        fs::File::options().write(true).open(&lock).unwrap().set_modified(made - age).unwrap();
    };
    set_age(FOREIGN_AGE);
    kit.open(task, &spec).await.unwrap();
    assert!(lock.exists(), "it is old, but open");
    kill(program);
    set_age(Duration::ZERO);
    kit.open(task, &spec).await.unwrap();
    assert!(lock.exists(), "it is young");
    set_age(FOREIGN_AGE);
    kit.open(task, &spec).await.unwrap();
    assert!(!lock.exists(), "it is old, and nobody works there");
}

/// The index of a state that was being kept when the machine went down.
#[tokio::test]
async fn a_state_is_kept_though_an_earlier_try_was_killed() {
    let kit = Kit::new();
    let (task, execution) = (task(), execution());
    let space = kit.open(task, &existing(&kit.repository)).await.unwrap();
    let lock = kit.spaces.task_dir(task).join(format!("index-{execution}.part.lock"));
    fs::write(&lock, "").unwrap();
    assert!(space.keep(execution, None).await.unwrap());
    assert!(!lock.exists());
}
