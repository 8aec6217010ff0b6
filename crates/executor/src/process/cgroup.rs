//! Control groups, v2 and v1 (and both at once), below the group that this process is in.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const MOUNT: &str = "/sys/fs/cgroup";
/// Controllers of v1 that we use; `freezer` is the one that is needed.
const V1: [&str; 3] = ["freezer", "pids", "memory"];
/// A group can be removed a moment after its last process died.
const REMOVE_WAIT: Duration = Duration::from_millis(500);

/// A group of ours in one hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// v2: with `cgroup.kill`.
    Unified,
    /// v1: freezer.
    Freezer,
    Pids,
    Memory,
}

/// Where groups can be made.
#[derive(Debug)]
pub(super) struct Cgroups {
    prefix: String,
    parents: Vec<(Kind, PathBuf)>,
    /// v2 with its controllers handed down.
    unified_limits: bool,
}

impl Cgroups {
    /// `None`: there is no right to make groups, or no way to kill by them.
    pub(super) fn detect(owner: &str) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mut parents = Vec::new();
        for line in own.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let path = path.trim_start_matches('/');
            if controllers.is_empty() {
                let mounts = [Path::new(MOUNT).join("unified"), PathBuf::from(MOUNT)];
                let root = mounts.into_iter().find(|m| m.join("cgroup.controllers").is_file());
                parents.extend(root.map(|root| (Kind::Unified, root.join(path))));
            }
            for name in V1.iter().filter(|name| controllers.split(',').any(|c| c == **name)) {
                let kind = match *name {
                    "freezer" => Kind::Freezer,
                    "pids" => Kind::Pids,
                    _ => Kind::Memory,
                };
                parents.push((kind, Path::new(MOUNT).join(name).join(path)));
            }
        }
        let mut cgroups =
            Self { prefix: format!("troupe-{owner}-"), parents, unified_limits: false };
        cgroups.parents.retain(|(kind, parent)| usable(*kind, parent, &cgroups.prefix));
        let kills = |(kind, _): &(Kind, PathBuf)| matches!(kind, Kind::Unified | Kind::Freezer);
        if !cgroups.parents.iter().any(kills) {
            return None;
        }
        if let Some((_, parent)) = cgroups.parents.iter().find(|(k, _)| *k == Kind::Unified) {
            // Refused where this process itself is in the group: then there are no bounds.
            let handed = fs::write(parent.join("cgroup.subtree_control"), "+pids +memory");
            cgroups.unified_limits = handed.is_ok();
        }
        Some(cgroups)
    }

    pub(super) fn how(&self) -> String {
        let has = |kind: Kind| self.parents.iter().any(|(k, _)| *k == kind);
        let names = [
            (Kind::Unified, "v2 kill"),
            (Kind::Freezer, "v1 freezer"),
            (Kind::Pids, "v1 pids"),
            (Kind::Memory, "v1 memory"),
        ];
        let names: Vec<&str> =
            names.iter().filter(|(kind, _)| has(*kind)).map(|(_, name)| *name).collect();
        format!("cgroups ({})", names.join(", "))
    }

    pub(super) fn has_limits(&self) -> bool {
        self.unified_limits || self.parents.iter().any(|(kind, _)| *kind == Kind::Pids)
    }

    /// Makes the groups of one tree.
    pub(super) fn make(&self, name: &str, pids_max: u32, memory_max: u64) -> io::Result<Group> {
        let mut group = Group { dirs: Vec::new(), kinds: Vec::new() };
        for (kind, parent) in &self.parents {
            let dir = parent.join(format!("{}{name}", self.prefix));
            if let Err(error) = fs::create_dir(&dir)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                group.remove();
                return Err(error);
            }
            let (pids, memory) = match kind {
                Kind::Unified if self.unified_limits => ("pids.max", "memory.max"),
                Kind::Pids => ("pids.max", ""),
                Kind::Memory => ("", "memory.limit_in_bytes"),
                Kind::Unified | Kind::Freezer => ("", ""),
            };
            for (file, bound) in [(pids, u64::from(pids_max)), (memory, memory_max)] {
                if !file.is_empty() && bound > 0 {
                    fs::write(dir.join(file), bound.to_string())?;
                }
            }
            group.kinds.push(*kind);
            group.dirs.push(dir);
        }
        Ok(group)
    }

    /// Kills and removes groups of earlier processes of this owner.
    pub(super) fn sweep(&self, own_pid: u32) -> usize {
        let own = format!("{}{own_pid}-", self.prefix);
        let mut found: HashSet<i32> = HashSet::new();
        for (kind, parent) in &self.parents {
            let Ok(entries) = fs::read_dir(parent) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !name.starts_with(&self.prefix) || name.starts_with(&own) {
                    continue;
                }
                let group = Group { dirs: vec![entry.path()], kinds: vec![*kind] };
                let deadline = Instant::now() + REMOVE_WAIT;
                loop {
                    let pids = group.pids();
                    found.extend(&pids);
                    if pids.is_empty() || Instant::now() > deadline {
                        break;
                    }
                    group.kill();
                    pids.iter().for_each(|pid| super::signal(*pid, super::Signal::KILL));
                    std::thread::sleep(super::KILL_STEP);
                }
                group.remove();
            }
        }
        found.len()
    }
}

/// Whether a group can be made there, and does what we need.
fn usable(kind: Kind, parent: &Path, prefix: &str) -> bool {
    let probe = parent.join(format!("{prefix}probe-{}", std::process::id()));
    if fs::create_dir(&probe).is_err() {
        return false;
    }
    let needed = match kind {
        Kind::Unified => "cgroup.kill",
        Kind::Freezer => "freezer.state",
        Kind::Pids => "pids.max",
        Kind::Memory => "memory.limit_in_bytes",
    };
    let works = probe.join(needed).is_file()
        && fs::OpenOptions::new().write(true).open(probe.join("cgroup.procs")).is_ok();
    // A group without processes can always be removed.
    let _ = fs::remove_dir(&probe);
    works
}

/// What the kernel did for want of something to processes of the group that this process is in: a
/// container, mostly. Without a right to make groups nobody else counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// Killed for want of memory.
    pub(super) oom_kills: u64,
    /// Not started: there were too many processes.
    pub(super) forks_refused: u64,
}

impl Wants {
    /// As far as the kernel tells.
    pub(super) fn now() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let read = |controller: &str, file: &str, key: &str| {
            own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
                let named = controllers.split(',').any(|name| name == controller);
                let mount = match (named, controllers.is_empty()) {
                    (true, _) => Path::new(MOUNT).join(controller),
                    (_, true) => PathBuf::from(MOUNT),
                    _ => return None,
                };
                // A container sees its own group as the root, whatever its path is called.
                let dirs = [mount.join(path), mount];
                dirs.iter().find_map(|dir| count(&dir.join(file), key))
            })
        };
        let memory = read("memory", "memory.oom_control", "oom_kill ");
        let memory = memory.or_else(|| read("memory", "memory.events", "oom_kill "));
        Self {
            oom_kills: memory.unwrap_or_default(),
            forks_refused: read("pids", "pids.events", "max ").unwrap_or_default(),
        }
    }
}

fn count(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

/// The groups of one tree.
#[derive(Debug)]
pub(super) struct Group {
    dirs: Vec<PathBuf>,
    kinds: Vec<Kind>,
}

impl Group {
    pub(super) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Living processes in it.
    pub(super) fn pids(&self) -> HashSet<i32> {
        let lists =
            self.dirs.iter().filter_map(|d| fs::read_to_string(d.join("cgroup.procs")).ok());
        lists
            .flat_map(|list| list.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
            .collect()
    }

    /// Kills all that is in it, children that are just being made too.
    pub(super) fn kill(&self) {
        let at = |kind: Kind| self.kinds.iter().position(|k| *k == kind).map(|at| &self.dirs[at]);
        if let Some(dir) = at(Kind::Unified)
            && fs::write(dir.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        let Some(dir) = at(Kind::Freezer) else { return };
        // Frozen, nothing in it can make a child; the kill acts once it is thawed.
        let _ = fs::write(dir.join("freezer.state"), "FROZEN");
        self.pids().into_iter().for_each(|pid| super::signal(pid, super::Signal::KILL));
        let _ = fs::write(dir.join("freezer.state"), "THAWED");
    }

    /// Removes it once it is empty.
    pub(super) fn remove(&self) {
        let deadline = Instant::now() + REMOVE_WAIT;
        for dir in &self.dirs {
            while let Err(error) = fs::remove_dir(dir) {
                if error.kind() == io::ErrorKind::NotFound || Instant::now() > deadline {
                    break;
                }
                std::thread::sleep(super::KILL_STEP);
            }
        }
    }

    pub(super) fn wants(&self) -> Wants {
        let sum = |files: [(Kind, &str); 2], key: &str| {
            let each = self.dirs.iter().zip(&self.kinds).filter_map(|(dir, kind)| {
                let (_, file) = files.iter().find(|(of, _)| of == kind)?;
                count(&dir.join(file), key)
            });
            each.sum()
        };
        let memory = [(Kind::Unified, "memory.events"), (Kind::Memory, "memory.oom_control")];
        let pids = [(Kind::Unified, "pids.events"), (Kind::Pids, "pids.events")];
        Wants { oom_kills: sum(memory, "oom_kill "), forks_refused: sum(pids, "max ") }
    }
}
