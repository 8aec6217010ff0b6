//! `cargo xtask fresh-root`: do the README's two commands work on an empty Debian 12?
//!
//! A debootstrap root below `target/`, a clone of what is committed, the machine's own Rust
//! toolchain mounted read-only, and nothing else. Each command runs in a mount namespace whose
//! root it is (a plain chroot would hide from it that it may make containers of its own).
//! Needs root for that.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    run::{kill_tree, quiet, run, step, text, took, watch},
    tools::{apt, is_root, which},
    workspace::Workspace,
};

const SUITE: &str = "bookworm";
/// What the README asks for before its two commands, besides Rust.
const PREREQUISITES: [&str; 3] = ["build-essential", "ca-certificates", "git"];
const TEST_COMMAND: &str = "cargo xtask test";
const UP_COMMAND: &str = "cargo xtask up";
/// Makes `$1` the root of a mount namespace of its own, with the kernel's view of the machine in
/// `/sys`, and runs the line `$2` there. All of it goes with the last process inside.
const ENTER: &str = r#"set -e
mount --rbind "$1" "$1"
mount --rbind /sys "$1/sys"
cd "$1"
pivot_root . mnt
umount --lazy /mnt
exec sh -c "$2""#;
const READY_FILE: &str = "root/ready.json";
const PATH: &str = "/opt/cargo-bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Name lookup, certificates and package sources of this machine.
const SETTINGS: [&str; 7] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/ssl/certs/ca-certificates.crt",
    "/usr/local/share/ca-certificates",
    "/etc/apt/apt.conf.d",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
];
/// Package clients of this machine may need these to reach their registries.
const PASSED_ON: [&str; 8] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "PIP_DEFAULT_TIMEOUT",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask fresh-root                  the whole thing: about an hour on two cores
  cargo xtask fresh-root --only-root      make the root and check that Rust runs in it
  cargo xtask fresh-root --again          throw the old root away first")]
pub(crate) struct FreshArgs {
    /// Stops once the root is made and cargo runs inside
    #[arg(long)]
    only_root: bool,
    /// Makes the root anew even if there is one
    #[arg(long)]
    again: bool,
    /// Longest time for each of the two commands, in minutes
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

pub(crate) fn fresh_root(ws: &Workspace, args: &FreshArgs) -> Result<()> {
    if !is_root() {
        bail!("only root can make a root of its own: run this verb with sudo");
    }
    let readme = fs::read_to_string(ws.root.join("README.md")).context("read the README")?;
    for command in [UP_COMMAND, TEST_COMMAND] {
        if !readme.lines().any(|line| line.starts_with(command)) {
            bail!("the README has no line `{command}`");
        }
    }
    let dir = ws.target.join("fresh-root");
    make(&dir, args.again)?;
    let root = FreshRoot::mount(dir)?;
    let version = text(&mut root.command("cargo --version"))?;
    step(&format!("inside the root: {version}"));
    if args.only_root {
        return Ok(());
    }
    root.clone_repository(ws)?;
    step(&format!("installing what the README asks for: {}", PREREQUISITES.join(" ")));
    let install = format!(
        "apt-get update -q && apt-get install -q -y --no-install-recommends {}",
        PREREQUISITES.join(" ")
    );
    quiet(&mut root.command(&install))?;
    let limit = Duration::from_secs(args.minutes * 60);
    let mut failed = Vec::new();
    for (command, outcome) in
        [(UP_COMMAND, root.try_up(limit)), (TEST_COMMAND, root.try_test(limit))]
    {
        match outcome {
            Ok(time) => println!("fresh root: `{command}` works ({})", took(time)),
            Err(error) => {
                println!("fresh root: `{command}` FAILED: {error:#}");
                failed.push(command);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed in a fresh root: {}", failed.join(", ")) }
}

/// Makes the root with debootstrap, from the mirror that this machine's apt uses.
fn make(dir: &Path, again: bool) -> Result<()> {
    let done = dir.join("etc/troupe-fresh-root");
    if done.exists() && !again {
        return Ok(());
    }
    unmount_all(dir)?;
    if dir.exists() {
        quiet(Command::new("rm").args(["-rf", "--one-file-system"]).arg(dir))?;
    }
    if which("debootstrap").is_none() {
        apt(&["debootstrap"])?;
    }
    fs::create_dir_all(dir).context("make the root's directory")?;
    step(&format!("debootstrap {SUITE} into {}", dir.display()));
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", SUITE]).arg(dir).args(mirror());
    quiet(&mut debootstrap)?;
    fs::write(done, "made by cargo xtask fresh-root\n").context("mark the root as made")
}

/// The first address in apt's lists; debootstrap knows a default if there is none.
pub(crate) fn mirror() -> Option<String> {
    let lists = fs::read_dir("/etc/apt/sources.list.d").ok()?.flatten().map(|entry| entry.path());
    let lists = lists.chain([PathBuf::from("/etc/apt/sources.list")]);
    let texts: Vec<String> = lists.filter_map(|list| fs::read_to_string(list).ok()).collect();
    mirror_in(&texts.join("\n"))
}

fn mirror_in(lists: &str) -> Option<String> {
    let is_own = |address: &&str| address.trim_end_matches('/').ends_with("/debian");
    lists
        .lines()
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_whitespace)
        .filter(|word| word.contains("://"))
        .find(is_own)
        .map(str::to_owned)
}

/// A root with its mounts; they go when it is dropped, the files stay for the next time.
#[derive(Debug)]
struct FreshRoot {
    dir: PathBuf,
    /// Name of the toolchain as it lies on the disk; the one that the project asks for may be a
    /// link to it, by a path that is not there inside.
    toolchain: OsString,
}

impl FreshRoot {
    fn mount(dir: PathBuf) -> Result<Self> {
        unmount_all(&dir)?;
        let rustup = Command::new("rustc").args(["--print", "sysroot"]).output()?;
        let sysroot = PathBuf::from(String::from_utf8(rustup.stdout)?.trim());
        let toolchain = sysroot.file_name().context("a toolchain has a name")?.to_owned();
        let root = Self { dir, toolchain };
        root.copy_settings()?;
        let toolchains = sysroot.parent().and_then(Path::parent).context("rustup made Rust")?;
        let cargo = which("cargo").context("cargo is on the search path")?;
        let binaries = cargo.parent().context("cargo lies in a directory")?;
        root.bind_read_only(toolchains, "opt/rustup")?;
        root.bind_read_only(binaries, "opt/cargo-bin")?;
        root.mount_new("proc", "proc")?;
        root.mount_new("tmpfs", "dev/shm")?;
        root.mount_new("devpts", "dev/pts")?;
        Ok(root)
    }

    /// Takes over how this machine reaches its registries.
    fn copy_settings(&self) -> Result<()> {
        for setting in SETTINGS.iter().filter(|setting| Path::new(setting).exists()) {
            let to = self.dir.join(setting.trim_start_matches('/'));
            let parent = to.parent().context("a setting lies in a directory")?;
            fs::create_dir_all(parent).context("make a directory for settings")?;
            quiet(Command::new("cp").args(["-rL", setting]).arg(parent))?;
        }
        let home = self.dir.join("root/.cargo");
        fs::create_dir_all(&home).context("make cargo's directory")?;
        if let Some(own) = std::env::home_dir().map(|home| home.join(".cargo/config.toml"))
            && own.exists()
        {
            fs::copy(own, home.join("config.toml")).context("copy cargo's settings")?;
        }
        Ok(())
    }

    fn bind_read_only(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.dir.join(to);
        fs::create_dir_all(&to).context("make a mount point")?;
        run(Command::new("mount").arg("--bind").arg(from).arg(&to))?;
        run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&to))
    }

    fn mount_new(&self, kind: &str, to: &str) -> Result<()> {
        let to = self.dir.join(to);
        fs::create_dir_all(&to).context("make a mount point")?;
        run(Command::new("mount").args(["-t", kind, kind]).arg(&to))
    }

    /// A shell line inside, in the clone if there is one, with an almost empty environment.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "sh"]);
        command.arg(&self.dir).arg(format!("cd /root/troupe 2>/dev/null || cd /root; {line}"));
        command.env_clear().env("PATH", PATH).env("HOME", "/root").env("LANG", "C.UTF-8");
        command.env("RUSTUP_HOME", "/opt/rustup").env("CARGO_HOME", "/root/.cargo");
        command.env("RUSTUP_TOOLCHAIN", &self.toolchain);
        command.env("RUSTUP_AUTO_INSTALL", "0").env("DEBIAN_FRONTEND", "noninteractive");
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    fn clone_repository(&self, ws: &Workspace) -> Result<()> {
        if !text(ws.command("git").args(["status", "--porcelain"]))?.is_empty() {
            step("only what is committed goes into the fresh root; this tree has more");
        }
        let clone = self.dir.join("root/troupe");
        quiet(Command::new("rm").args(["-rf", "--one-file-system"]).arg(&clone))?;
        step("cloning the repository");
        quiet(ws.command("git").args(["clone", "--quiet", "--no-hardlinks", "."]).arg(&clone))
    }

    /// Starts a node, waits until it answers over HTTP, ends it.
    fn try_up(&self, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        let ready = self.dir.join(READY_FILE);
        if ready.exists() {
            fs::remove_file(&ready).context("remove the old ready file")?;
        }
        let line =
            format!("{UP_COMMAND} -- --http 127.0.0.1:0 --ready-file /{READY_FILE} </dev/null");
        let child = self.command(&line).spawn().context("start the node")?;
        let mut node = Killed(child);
        loop {
            if let Some(status) = node.0.try_wait().context("look at the node")? {
                bail!("it ended before the node was ready ({status})");
            }
            if start.elapsed() > limit {
                bail!("no node after {}", took(limit));
            }
            if let Ok(content) = fs::read_to_string(&ready)
                && let Ok(told) = serde_json::from_str::<serde_json::Value>(&content)
            {
                let url = told["http"].as_str().context("the ready file names the address")?;
                check_answer(url)?;
                return Ok(start.elapsed());
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn try_test(&self, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        let outcome = watch(&mut self.command(TEST_COMMAND), limit)?;
        if outcome.timed_out {
            bail!("not finished after {}", took(limit));
        }
        if !outcome.success {
            bail!("{}", outcome.counts.closing_line());
        }
        Ok(start.elapsed())
    }
}

impl Drop for FreshRoot {
    fn drop(&mut self) {
        if let Err(error) = unmount_all(&self.dir) {
            step(&format!("unmount by hand below {}: {error:#}", self.dir.display()));
        }
    }
}

/// A child that does not outlive us.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        kill_tree(self.0.id());
        let _already_gone = self.0.wait();
    }
}

/// The page at `/` comes with a good status.
fn check_answer(url: &str) -> Result<()> {
    let host = url.strip_prefix("http://").context("the node speaks plain HTTP on loopback")?;
    let host = host.trim_end_matches('/');
    let mut stream = TcpStream::connect(host).context("connect to the node")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).context("read the node's answer")?;
    if !(status.contains(" 200 ") || status.contains(" 30")) {
        bail!("the node answered {}", status.trim());
    }
    Ok(())
}

/// Unmounts everything below `dir`, the innermost first.
fn unmount_all(dir: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/mounts").context("read the mounts")?;
    let below: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|point| Path::new(point).starts_with(dir))
        .collect();
    for point in below.iter().rev() {
        run(Command::new("umount").arg("--lazy").arg(point).stderr(Stdio::inherit()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_read_from_both_kinds_of_lists() {
        let old = "# x\ndeb [arch=amd64] http://mirror.test/debian bookworm main\n";
        assert_eq!(mirror_in(old).as_deref(), Some("http://mirror.test/debian"));
        let new =
            "Types: deb\nURIs: http://m.test/debian-security\n\nURIs: http://m.test/debian/\n";
        assert_eq!(mirror_in(new).as_deref(), Some("http://m.test/debian/"));
        assert_eq!(mirror_in("nothing"), None);
    }
}
