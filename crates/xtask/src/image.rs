//! `cargo xtask image`: the image that containers of Tasks run, made without any registry of
//! images: a Debian root by debootstrap, the agent programs, `troupe-edge`.
//!
//! The root with the programs is one image (`troupe-edge-base`, made once and known by what is in
//! it), `troupe-edge` on top of it another, so a new build of the agent costs seconds.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{
    fresh::mirror,
    run::{quiet, run, step, text},
    runtimes,
    services::{Which, up},
    tools::{apt, is_root, which},
    workspace::{Workspace, hash_files},
};

/// What tests are told: the image without `troupe-edge`.
pub(crate) const VARIABLE: &str = "TROUPE_TEST_IMAGE";
const SUITE: &str = "bookworm";
/// What agents use; their own programs come from `runtimes`.
const PACKAGES: &str = "ca-certificates,curl,git,openssh-client,procps,python3,ripgrep";
/// Where Debian's Python looks for what is not Debian's.
const PYTHON: (&str, &str) = ("3.11", "usr/local/lib/python3.11/dist-packages");
const AGNO: &str = "crates/xtask/tools/agno.txt";
/// Who works in a container.
const USER: u32 = 10_001;
const POLICY_FILE: &str = "/etc/troupe-edge/policy.toml";
/// The container is the fence: within it an agent may do what it likes.
const POLICY: &str = "\
runtimes = [\"ClaudeCode\", \"Codex\", \"Agno\", \"Command\"]
commands = [\"sh\", \"git\", \"python3\"]
permissions-max = \"bypass\"
mcp-programs = true
fenced = true
";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask image                         troupe-edge:VERSION in the machine's Docker engine
  cargo xtask image --tag registry/edge:1   under another name
  cargo xtask image --base-only             the Debian root with the agent programs alone")]
pub(crate) struct ImageArgs {
    /// The image's name [default: troupe-edge:VERSION]
    #[arg(long)]
    tag: Option<String>,
    /// Stops at the image without troupe-edge, and prints its name
    #[arg(long)]
    base_only: bool,
}

pub(crate) fn image(ws: &Workspace, args: &ImageArgs) -> Result<()> {
    let [docker] = &Which::Docker.services()[..] else { bail!("there is one Docker engine") };
    let engine = up(ws, docker.as_ref())?.address;
    let base = base(ws, &engine)?;
    if args.base_only {
        println!("{base}");
        return Ok(());
    }
    step("building troupe-edge");
    run(ws.cargo().args(["build", "--release", "--locked", "--package", "troupe-edge-agent"]))?;
    let tag = args.tag.clone();
    let tag = tag.unwrap_or_else(|| format!("troupe-edge:{}", env!("CARGO_PKG_VERSION")));
    let program = ws.target.join("release/troupe-edge");
    add(&engine, &base, &program, &tag)?;
    step(&format!("image {tag} is in {engine}"));
    println!("containers.engine = \"{engine}\"\ncontainers.image = \"{tag}\"");
    Ok(())
}

fn docker(engine: &str) -> Command {
    let mut docker = Command::new("docker");
    docker.args(["-H", engine]);
    docker
}

/// `troupe-edge` on top of `base`.
fn add(engine: &str, base: &str, program: &Path, tag: &str) -> Result<()> {
    let container = text(docker(engine).args(["create", base]))?;
    let put = || {
        let to = format!("{container}:/usr/local/bin/troupe-edge");
        quiet(docker(engine).arg("cp").arg(program).arg(to))?;
        quiet(docker(engine).args(["commit", &container, tag]))
    };
    let done = put();
    quiet(docker(engine).args(["rm", "-f", &container]))?;
    done
}

/// The name of the base image, made if it is not there.
pub(crate) fn base(ws: &Workspace, engine: &str) -> Result<String> {
    ensure!(which("docker").is_some(), "there is no `docker` on the path: install docker.io");
    let files = [AGNO, "crates/xtask/src/image.rs", "crates/xtask/src/runtimes.rs"];
    let what = hash_files(&ws.root, &files.map(str::to_owned), SUITE)?;
    let name = format!("troupe-edge-base:{what}");
    if text(docker(engine).args(["images", "-q", &name]))?.is_empty() {
        let programs = runtimes::install(ws)?;
        let root = Root::make(ws)?;
        root.put_programs(ws, &programs)?;
        root.put_settings()?;
        step(&format!("importing {name}"));
        root.import(engine, &name)?;
        forget_others(engine, &name)?;
    }
    Ok(name)
}

/// Takes away base images of other contents: more than a gigabyte each. One in use stays.
fn forget_others(engine: &str, name: &str) -> Result<()> {
    let format = "{{.Repository}}:{{.Tag}}";
    let all = text(docker(engine).args(["images", "--format", format, "troupe-edge-base"]))?;
    for other in all.lines().filter(|other| *other != name) {
        let removed = docker(engine).args(["rmi", other]).output().context("run docker")?;
        if removed.status.success() {
            step(&format!("removed {other}, which this one replaces"));
        }
    }
    Ok(())
}

/// A Debian root below `target/image`; it goes when it was imported.
struct Root(PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            step(&format!("{} could not be removed: {error}", self.0.display()));
        }
    }
}

impl Root {
    fn make(ws: &Workspace) -> Result<Self> {
        ensure!(is_root(), "only root can make a Debian root: run this verb with sudo");
        if which("debootstrap").is_none() {
            apt(&["debootstrap"])?;
        }
        let dir = ws.target.join("image/root");
        if dir.exists() {
            quiet(Command::new("rm").args(["-rf", "--one-file-system"]).arg(&dir))?;
        }
        fs::create_dir_all(&dir).context("make the root's directory")?;
        step(&format!("debootstrap {SUITE} into {} (about a minute)", dir.display()));
        let root = Self(dir);
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE]);
        quiet(debootstrap.arg(&root.0).args(mirror()))?;
        // Lists and packages are of no use in an image that is never written.
        quiet(
            Command::new("rm").arg("-rf").args(
                ["var/lib/apt/lists", "var/cache/apt", "usr/share/doc", "usr/share/man"]
                    .map(|dir| root.0.join(dir)),
            ),
        )?;
        Ok(root)
    }

    fn put_programs(&self, ws: &Workspace, programs: &Path) -> Result<()> {
        let opt = self.0.join("opt");
        let claude = programs.join("claude-code/node_modules/@anthropic-ai/claude-code/bin");
        let vendor = programs.join("codex/node_modules/@openai/codex-linux-x64/vendor");
        for (from, to) in [(claude, "claude-code"), (vendor, "codex")] {
            quiet(Command::new("cp").arg("-aL").arg(from).arg(opt.join(to)))?;
        }
        let bin = self.0.join("usr/local/bin");
        symlink("/opt/claude-code/claude.exe", bin.join("claude")).context("link claude")?;
        let codex = "/opt/codex/x86_64-unknown-linux-musl/bin/codex";
        symlink(codex, bin.join("codex")).context("link codex")?;
        let (version, packages) = PYTHON;
        let python = programs.join("agno/bin/python");
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--python-version", version, "--only-binary=:all:", "--target"]);
        quiet(pip.arg(self.0.join(packages)).arg("-r").arg(ws.root.join(AGNO)))
    }

    fn put_settings(&self) -> Result<()> {
        let append = |file: &str, line: String| {
            let path = self.0.join(file);
            let text = fs::read_to_string(&path).with_context(|| format!("read {file}"))?;
            fs::write(&path, format!("{text}{line}\n")).with_context(|| format!("write {file}"))
        };
        append("etc/passwd", format!("troupe:x:{USER}:{USER}::/state/home:/bin/bash"))?;
        append("etc/group", format!("troupe:x:{USER}:"))?;
        // Mount points: the root is read-only in a container.
        fs::create_dir_all(self.0.join("state/workspaces")).context("make /state")?;
        let policy = self.0.join(POLICY_FILE.trim_start_matches('/'));
        let dir = policy.parent().context("a policy lies in a directory")?;
        fs::create_dir_all(dir).context("make the policy's directory")?;
        fs::write(policy, POLICY).context("write the policy")
    }

    fn import(&self, engine: &str, name: &str) -> Result<()> {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&self.0).args(["--numeric-owner", "-c", "."]);
        let mut tar = tar.stdout(Stdio::piped()).spawn().context("run tar")?;
        let stream = tar.stdout.take().context("tar writes to us")?;
        let mut import = docker(engine);
        import.arg("import");
        for change in [
            format!("USER {USER}:{USER}"),
            "WORKDIR /state".to_owned(),
            format!("ENV HOME=/state/home TROUPE_EDGE_DIR=/state TROUPE_EDGE_POLICY={POLICY_FILE}"),
            "ENTRYPOINT [\"/usr/local/bin/troupe-edge\"]".to_owned(),
        ] {
            import.args(["--change", &change]);
        }
        let status = import.args(["-", name]).stdin(stream).stdout(Stdio::null()).status();
        ensure!(status.context("run docker import")?.success(), "docker import failed");
        ensure!(tar.wait().context("wait for tar")?.success(), "tar failed");
        Ok(())
    }
}
