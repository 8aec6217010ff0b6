//! Workspaces on real repositories.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use troupe_executor::{
    Roots, Secrets, Workspace, WorkspaceError, WorkspaceSource, WorkspaceSpec, Workspaces,
};
use troupe_types::{ExecutionId, TaskId, TurnId, Uuid};

use crate::kit::World;

const TOKEN: &str = "ghp_0123456789abcdefghij";

pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]);
    let output = command.args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) struct Kit {
    world: World,
    pub(crate) spaces: Workspaces,
    pub(crate) repository: PathBuf,
}

impl Kit {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let root = world.dir.path().join("root");
        let repository = root.join("project");
        fs::create_dir_all(&repository).unwrap();
        git(&repository, &["init", "-q"]);
        fs::write(repository.join("a.txt"), "one\n").unwrap();
        fs::write(repository.join(".gitignore"), "ignored\n").unwrap();
        git(&repository, &["add", "."]);
        git(&repository, &["commit", "-q", "-m", "first"]);
        let roots = Roots::new(vec![root]).with_local_urls();
        let spaces = Workspaces::new(&world.machine, world.dir.path().join("spaces"), roots);
        Self { world, spaces, repository }
    }

    /// As the agent makes them: anew for every start.
    fn spaces(&self) -> Workspaces {
        let roots = Roots::new(vec![self.world.dir.path().join("root")]);
        Workspaces::new(&self.world.machine, self.world.dir.path().join("spaces"), roots)
    }

    pub(crate) async fn open(
        &self,
        task: TaskId,
        spec: &WorkspaceSpec,
    ) -> Result<Workspace, WorkspaceError> {
        self.spaces.open(task, spec, &Secrets::new().with("git", TOKEN)).await
    }
}

pub(crate) fn task() -> TaskId {
    TaskId::from_uuid(Uuid::new_v4())
}

pub(crate) fn execution() -> ExecutionId {
    ExecutionId::from_uuid(Uuid::new_v4())
}

pub(crate) fn existing(path: &Path) -> WorkspaceSpec {
    let source = WorkspaceSource::Existing { path: path.to_owned() };
    WorkspaceSpec { source, ..WorkspaceSpec::default() }
}

#[tokio::test]
async fn an_empty_workspace_has_diffs_too() {
    let kit = Kit::new();
    let (task, turn) = (task(), TurnId::from_uuid(Uuid::new_v4()));
    let me = execution();
    let space = kit.open(task, &WorkspaceSpec::default()).await.unwrap();
    assert!(space.keep(me, None).await.unwrap());
    fs::write(space.path().join("new.txt"), "a\nb\n").unwrap();
    assert!(space.keep(me, Some(turn)).await.unwrap());
    let diff = space.diff(me, None, turn).await.unwrap().unwrap();
    assert_eq!((diff.files.len(), diff.files[0].added), (1, Some(2)));
    assert!(diff.patch.contains("+a\n+b\n") && !diff.truncated);
    assert!(!space.path().join(".git").exists());
    // Found again, with its files.
    let again = kit.open(task, &WorkspaceSpec::default()).await.unwrap();
    assert!(again.path().join("new.txt").exists());
    kit.spaces.remove(task, &WorkspaceSpec::default()).await.unwrap();
    assert!(!kit.spaces.task_dir(task).exists());
    kit.spaces.remove(task, &WorkspaceSpec::default()).await.unwrap();
}

#[tokio::test]
async fn a_turn_leaves_a_hidden_ref_and_the_checkout_alone() {
    let kit = Kit::new();
    let (task, turn) = (task(), TurnId::from_uuid(Uuid::new_v4()));
    let me = execution();
    let spec = existing(&kit.repository);
    let space = kit.open(task, &spec).await.unwrap();
    // A staged change of the user's own.
    fs::write(kit.repository.join("staged.txt"), "s\n").unwrap();
    git(&kit.repository, &["add", "staged.txt"]);
    // A hook of the repository must not run.
    let hook = kit.repository.join(".git/hooks/reference-transaction");
    fs::write(&hook, "#!/bin/sh\ntouch hook-ran\n").unwrap();
    Command::new("chmod").arg("+x").arg(&hook).status().unwrap();
    space.keep(me, None).await.unwrap();
    let before = git(&kit.repository, &["status", "--porcelain"]);
    fs::write(kit.repository.join("a.txt"), "one\ntwo\n").unwrap();
    fs::write(kit.repository.join("b\u{e4} \".txt"), "new\n").unwrap();
    fs::write(kit.repository.join("bin"), [0_u8, 1, 2]).unwrap();
    fs::write(kit.repository.join("ignored"), "x").unwrap();
    space.keep(me, Some(turn)).await.unwrap();
    let diff = space.diff(me, None, turn).await.unwrap().unwrap();
    let told: Vec<_> =
        diff.files.iter().map(|f| (f.path.as_str(), f.change.as_str(), f.added)).collect();
    let expected = [
        ("a.txt", "modified", Some(1)),
        ("bin", "added", None),
        ("b\u{e4} \".txt", "added", Some(1)),
    ];
    assert_eq!(told, expected);
    assert!(!kit.repository.join("hook-ran").exists());
    // The index is as the user left it.
    let after = git(&kit.repository, &["status", "--porcelain"]);
    assert!(before.contains("A  staged.txt") && after.contains("A  staged.txt"), "{after}");
    assert!(after.contains(" M a.txt"), "{after}");
    let refs = git(&kit.repository, &["for-each-ref", "--format=%(refname)", "refs/troupe/"]);
    assert_eq!(refs.lines().count(), 2);
    assert!(git(&kit.repository, &["branch", "--all"]).trim().ends_with("* main"));
    // Nothing changed: no diff. Another state: none either.
    let other = TurnId::from_uuid(Uuid::new_v4());
    assert_eq!(space.diff(me, Some(turn), other).await.unwrap(), None);
    space.keep(me, Some(other)).await.unwrap();
    assert_eq!(space.diff(me, Some(turn), other).await.unwrap(), None);
    kit.spaces.remove(task, &spec).await.unwrap();
    assert_eq!(git(&kit.repository, &["for-each-ref", "refs/troupe/"]), "");
    assert!(kit.repository.join("a.txt").exists());
}

/// Bots of one Task work in one directory at the same time: each has its own beginning, and none
/// takes the other's away.
#[tokio::test]
async fn bots_of_one_task_do_not_spoil_each_others_diff() {
    let kit = Kit::new();
    let (task, turn, spec) = (task(), TurnId::from_uuid(Uuid::new_v4()), existing(&kit.repository));
    let first = kit.open(task, &spec).await.unwrap();
    let second = kit.spaces().open(task, &spec, &Secrets::new()).await.unwrap();
    let (one, two) = (execution(), execution());
    first.keep(one, None).await.unwrap();
    fs::write(kit.repository.join("one.txt"), "1\n").unwrap();
    // The other Bot begins later: what the first did is not its change.
    second.keep(two, None).await.unwrap();
    fs::write(kit.repository.join("two.txt"), "2\n").unwrap();
    let (a, b) = tokio::join!(first.keep(one, Some(turn)), second.keep(two, Some(turn)));
    assert!(a.unwrap() && b.unwrap());
    let paths = |diff: troupe_executor::Diff| -> Vec<String> {
        diff.files.into_iter().map(|file| file.path).collect()
    };
    let diff = first.diff(one, None, turn).await.unwrap().unwrap();
    assert_eq!(paths(diff), ["one.txt", "two.txt"]);
    let diff = second.diff(two, None, turn).await.unwrap().unwrap();
    assert_eq!(paths(diff), ["two.txt"]);
    // Many at once: none meets another's index.
    let (a, b, c) = (execution(), execution(), execution());
    let kept = tokio::join!(
        first.keep(a, Some(turn)),
        second.keep(b, Some(turn)),
        first.keep(c, Some(turn)),
        second.keep(two, Some(turn)),
    );
    assert!(kept.0.unwrap() && kept.1.unwrap() && kept.2.unwrap() && kept.3.unwrap());
    let parts = fs::read_dir(kit.spaces.task_dir(task)).unwrap().flatten();
    let parts = parts.filter(|file| file.file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(parts.count(), 0);
    // Refs of an earlier version go as well.
    let old = format!("refs/troupe/{task}/begin");
    git(&kit.repository, &["update-ref", &old, "HEAD"]);
    kit.spaces.remove(task, &spec).await.unwrap();
    assert_eq!(git(&kit.repository, &["for-each-ref", "refs/troupe/"]), "");
}

/// An attempt that was under way when the device was updated: its beginning has no execution in it.
#[tokio::test]
async fn a_beginning_of_an_earlier_version_counts() {
    let kit = Kit::new();
    let (task, turn, spec) = (task(), TurnId::from_uuid(Uuid::new_v4()), existing(&kit.repository));
    let space = kit.open(task, &spec).await.unwrap();
    let me = execution();
    git(&kit.repository, &["update-ref", &format!("refs/troupe/{task}/begin"), "HEAD"]);
    fs::write(kit.repository.join("new.txt"), "1\n").unwrap();
    space.keep(me, Some(turn)).await.unwrap();
    let diff = space.diff(me, None, turn).await.unwrap().unwrap();
    assert_eq!((diff.files.len(), diff.files[0].path.as_str()), (1, "new.txt"));
    // One of its own comes first.
    space.keep(me, None).await.unwrap();
    assert_eq!(space.diff(me, None, turn).await.unwrap(), None);
}

#[tokio::test]
async fn worktrees_keep_tasks_apart() {
    let kit = Kit::new();
    let spec = WorkspaceSpec { worktree: true, ..existing(&kit.repository) };
    let (first, second) = (task(), task());
    let one = kit.open(first, &spec).await.unwrap();
    let two = kit.open(second, &spec).await.unwrap();
    fs::write(one.path().join("a.txt"), "changed\n").unwrap();
    assert_eq!(fs::read_to_string(two.path().join("a.txt")).unwrap(), "one\n");
    assert_eq!(fs::read_to_string(kit.repository.join("a.txt")).unwrap(), "one\n");
    let again = kit.open(first, &spec).await.unwrap();
    assert_eq!(fs::read_to_string(again.path().join("a.txt")).unwrap(), "changed\n");
    one.keep(execution(), None).await.unwrap();
    // Work that was committed survives the removal, on its branch.
    git(two.path(), &["commit", "-q", "--allow-empty", "-m", "work"]);
    kit.spaces.remove(first, &spec).await.unwrap();
    kit.spaces.remove(second, &spec).await.unwrap();
    let branches = git(&kit.repository, &["branch", "--format=%(refname:short)"]);
    assert_eq!(branches, format!("main\ntroupe/{second}\n"));
    assert_eq!(git(&kit.repository, &["worktree", "list"]).lines().count(), 1);
}

/// What nobody used for long goes, with what its repository knows of it; work that was committed
/// stays on its branch, and what is to be kept stays whole.
#[tokio::test]
async fn what_nobody_uses_goes_in_time() {
    let kit = Kit::new();
    let spec = WorkspaceSpec { worktree: true, ..existing(&kit.repository) };
    let kept = WorkspaceSpec { keep: true, ..WorkspaceSpec::default() };
    let (old, fresh, keep) = (task(), task(), task());
    let me = execution();
    for (task, spec) in [(old, &spec), (fresh, &spec), (keep, &kept)] {
        kit.open(task, spec).await.unwrap().keep(me, None).await.unwrap();
    }
    let week = Duration::from_secs(7 * 24 * 3_600);
    assert_eq!(kit.spaces.stale(week), []);
    for task in [old, keep] {
        let file = kit.spaces.task_dir(task).join("workspace.json");
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(UNIX_EPOCH + week).unwrap();
    }
    let stale = kit.spaces.stale(week);
    let tasks = || kit.spaces.stale(week).iter().map(|stale| stale.task).collect::<Vec<_>>();
    assert_eq!(tasks(), [old]);
    kit.spaces.set_aside(&stale[0]).unwrap();
    assert!(!kit.spaces.task_dir(old).exists(), "out of the way at once");
    assert_eq!(tasks(), [old], "a crash in between is made good later");
    kit.spaces.discard(&stale[0]).await.unwrap();
    kit.spaces.discard(&stale[0]).await.unwrap();
    assert_eq!(kit.spaces.stale(week), []);
    let branches = git(&kit.repository, &["branch", "--format=%(refname:short)"]);
    assert_eq!(branches, format!("main\ntroupe/{fresh}\n"));
    let refs = git(&kit.repository, &["for-each-ref", "--format=%(refname)", "refs/troupe/"]);
    assert_eq!(refs, format!("refs/troupe/{fresh}/{me}/begin\n"));
    // A turn after all: it begins anew.
    assert!(kit.open(old, &spec).await.unwrap().path().join("a.txt").exists());
}

#[tokio::test]
async fn paths_outside_of_the_roots_are_refused() {
    let kit = Kit::new();
    let outside = kit.world.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let root = kit.repository.parent().unwrap();
    symlink(&outside, root.join("link")).unwrap();
    symlink(&kit.repository, root.join("inside-link")).unwrap();
    for bad in
        [outside.clone(), root.join("link"), root.join("../outside"), "/".into(), "/none".into()]
    {
        let error = kit.open(task(), &existing(&bad)).await.unwrap_err().to_string();
        assert!(error.contains("is not below a directory that this device allows"), "{error}");
    }
    let error = kit.open(task(), &existing(&root.join("nothing"))).await.unwrap_err().to_string();
    assert!(error.contains("does not exist"), "{error}");
    let error = kit.open(task(), &existing(Path::new("rel"))).await.unwrap_err().to_string();
    assert!(error.contains("not an absolute path"), "{error}");
    let space = kit.open(task(), &existing(&root.join("inside-link"))).await.unwrap();
    assert_eq!(space.path(), kit.repository.canonicalize().unwrap());
    let spec = WorkspaceSpec { branch: Some("other".into()), ..existing(&kit.repository) };
    let error = kit.open(task(), &spec).await.unwrap_err().to_string();
    assert!(error.contains("is on main, not on other"), "{error}");
}

#[tokio::test]
async fn a_clone_and_its_branch() {
    let kit = Kit::new();
    git(&kit.repository, &["branch", "topic"]);
    let url = format!("file://{}", kit.repository.display());
    let source = WorkspaceSource::Clone { url, token: None, user: None };
    let spec = WorkspaceSpec { source, branch: Some("topic".into()), ..WorkspaceSpec::default() };
    let task = task();
    let space = kit.open(task, &spec).await.unwrap();
    assert_eq!(space.path().file_name().unwrap(), "project");
    assert_eq!(git(space.path(), &["branch", "--show-current"]).trim(), "topic");
    let missing = WorkspaceSpec { branch: Some("nope".into()), ..spec.clone() };
    let other = self::task();
    let error = kit.open(other, &missing).await.unwrap_err().to_string();
    assert!(error.contains("git clone failed") && error.contains("nope"), "{error}");
    assert_eq!(fs::read_dir(kit.spaces.task_dir(other)).unwrap().count(), 0);
}

/// The token reaches the server that the URL names, and no disk.
#[tokio::test]
async fn a_token_reaches_the_server_only() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let kit = Kit::new();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Wants a login, then says that the repository is not there.
    let server = async {
        let mut logins = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 8 * 1024];
            let read = socket.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
            let login = head
                .lines()
                .find_map(|l| l.strip_prefix("authorization: basic ").map(str::to_owned));
            let answer = match &login {
                Some(_) => {
                    "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                }
                None => {
                    "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                }
            };
            socket.write_all(answer.as_bytes()).await.unwrap();
            logins.extend(login);
            if !logins.is_empty() {
                return logins;
            }
        }
    };
    let url = format!("http://127.0.0.1:{port}/owner/name.git");
    let source = WorkspaceSource::Clone { url, token: Some("git".into()), user: None };
    let spec = WorkspaceSpec { source, ..WorkspaceSpec::default() };
    let (logins, opened) = tokio::join!(server, kit.open(task(), &spec));
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("not found") && !error.contains(TOKEN), "{error}");
    // base64 of "x-access-token:" + TOKEN, in lower case as the head was
    assert!(logins[0].starts_with("ec1hy2nlc3mtdg9rzw46"), "{logins:?}");
    let grep = Command::new("grep").args(["-r", "-l", TOKEN]).arg(kit.world.dir.path()).output();
    assert_eq!(String::from_utf8_lossy(&grep.unwrap().stdout), "");
    let with = WorkspaceSource::Clone {
        url: format!("https://x:{TOKEN}@host/a"),
        token: None,
        user: None,
    };
    let spec = WorkspaceSpec { source: with, ..WorkspaceSpec::default() };
    let error = kit.open(task(), &spec).await.unwrap_err().to_string();
    assert!(error.contains("give the token as a secret") && !error.contains(TOKEN), "{error}");
}
