//! Runs git: clean environment, no hooks, bounded output, a deadline, no process left.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use troupe_types::Timestamp;

use super::WorkspaceError;
use crate::{
    lines::Tail,
    machine::Machine,
    process::{Program, Spawned, find},
    secret::Secret,
};

/// What is kept of what git says.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Reads the token from the environment; the shell's variables are expanded by the helper, so
/// that no argument holds a secret.
const HELPER: &str = r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$TROUPE_GIT_USER" "$TROUPE_GIT_TOKEN"; }; f"#;

/// A token for one host.
#[derive(Debug)]
pub(super) struct Auth {
    pub(super) origin: String,
    pub(super) user: String,
    pub(super) token: Secret,
}

/// git on this machine.
#[derive(Clone, Debug)]
pub(super) struct Git {
    machine: Machine,
    home: PathBuf,
}

impl Git {
    pub(super) const fn new(machine: Machine, home: PathBuf) -> Self {
        Self { machine, home }
    }

    /// The time of day, as this machine's runs have it.
    pub(super) fn now(&self) -> Timestamp {
        self.machine.clock.now()
    }

    pub(super) async fn run(
        &self,
        cwd: &Path,
        auth: Option<&Auth>,
        args: &[&str],
        wait: Duration,
    ) -> Result<String, WorkspaceError> {
        self.run_with(cwd, auth, args, &[], wait).await
    }

    /// Its standard output, at most 1 MiB of it.
    pub(super) async fn run_with(
        &self,
        cwd: &Path,
        auth: Option<&Auth>,
        args: &[&str],
        env: &[(&str, &OsStr)],
        wait: Duration,
    ) -> Result<String, WorkspaceError> {
        let program = find("git", &self.machine.path).ok_or(WorkspaceError::NoGit)?;
        let action = args.first().copied().unwrap_or_default().to_owned();
        let failed = |text: String| WorkspaceError::Git { action: action.clone(), text };
        let program = Program {
            program,
            args: arguments(auth, args),
            cwd: cwd.to_owned(),
            env: self.environment(auth, env)?,
            pids_max: 0,
            memory_bytes_max: 0,
            one_output: false,
        };
        let spawned = self.machine.containment.spawn(&program);
        let Spawned { tree, mut child, stdin, stdout, stderr } =
            spawned.map_err(|error| WorkspaceError::machine("start git", error))?;
        drop(stdin);
        let mut tail = Tail::default();
        let run = async {
            let (output, ()) = tokio::join!(capped(stdout), tailed(stderr, &mut tail));
            (child.wait().await, output)
        };
        let outcome = tokio::time::timeout(wait, run).await;
        tree.kill().await;
        let Ok((status, output)) = outcome else {
            return Err(failed(format!("it took longer than {} s", wait.as_secs())));
        };
        if status.is_ok_and(|status| status.success()) {
            return Ok(String::from_utf8_lossy(&output).into_owned());
        }
        let mut said = tail.text();
        if let Some(auth) = auth {
            said = said.replace(auth.token.expose(), "[secret]");
        }
        Err(failed(said))
    }

    fn environment(
        &self,
        auth: Option<&Auth>,
        more: &[(&str, &OsStr)],
    ) -> Result<Vec<(OsString, OsString)>, WorkspaceError> {
        std::fs::create_dir_all(&self.home)
            .map_err(|e| WorkspaceError::machine("make git's home", e))?;
        // ssh finds its keys in the home of the device's user.
        let home = self.machine.login_home.as_ref().unwrap_or(&self.home);
        let mut env: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), self.machine.path.clone()),
            ("HOME".into(), home.into()),
            ("LANG".into(), "C.UTF-8".into()),
        ];
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "true"),
            ("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_ALLOW_PROTOCOL", "https:http:ssh:file"),
            ("GIT_AUTHOR_NAME", "troupe"),
            ("GIT_AUTHOR_EMAIL", "troupe@localhost"),
            ("GIT_COMMITTER_NAME", "troupe"),
            ("GIT_COMMITTER_EMAIL", "troupe@localhost"),
        ] {
            env.push((name.into(), value.into()));
        }
        if let Some(Auth { user, token, .. }) = auth {
            env.push(("TROUPE_GIT_USER".into(), user.into()));
            env.push(("TROUPE_GIT_TOKEN".into(), token.expose().into()));
        }
        env.extend(more.iter().map(|(name, value)| (OsString::from(name), (*value).to_owned())));
        Ok(env)
    }
}

fn arguments(auth: Option<&Auth>, args: &[&str]) -> Vec<OsString> {
    let mut all: Vec<String> = Vec::new();
    let mut set = |value: String| all.extend(["-c".to_owned(), value]);
    // What a repository configures must not make us run its programs.
    set("core.hooksPath=/dev/null".to_owned());
    set("core.fsmonitor=false".to_owned());
    set("safe.directory=*".to_owned());
    set("credential.helper=".to_owned());
    set("core.quotePath=false".to_owned());
    set("advice.detachedHead=false".to_owned());
    if let Some(auth) = auth {
        set(format!("credential.{}.helper={HELPER}", auth.origin));
    }
    all.into_iter().chain(args.iter().map(|arg| (*arg).to_owned())).map(Into::into).collect()
}

/// The first megabyte; the rest is read and forgotten.
async fn capped(from: Option<Box<dyn AsyncRead + Send + Unpin>>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return kept };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
    kept
}

async fn tailed(from: Option<tokio::process::ChildStderr>, tail: &mut Tail) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 4 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tail.push(&buffer[..read]);
    }
}
