//! Control groups, v2 and v1 (and both at once), below the group that this process is in.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const MOUNT: &str = "/sys/fs/cgroup";
/// Controllers of v1 that we use; `freezer` is the one that is needed.
const V1: [&str; 3] = ["freezer", "pids", "memory"];
/// A group can be removed a moment after its last process died.
const REMOVE_WAIT: Duration = Duration::from_millis(500);

/// Controllers of v2 that bounds are set with.
const V2: [&str; 2] = ["pids", "memory"];
/// Where this process and its children go, so that its own group may hand controllers down: v2 lets
/// a group have processes or hand down, not both.
const LEAF: &str = "troupe.agent";
/// How often processes are looked for that were started while others were moved.
const MOVES_MAX: u32 = 8;

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
    /// v2: its controllers are handed down, or why not.
    unified_limits: Result<(), String>,
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
                // An earlier look may have moved us.
                let path = path.strip_suffix(LEAF).unwrap_or(path).trim_end_matches('/');
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
            Self { prefix: format!("troupe-{owner}-"), parents, unified_limits: Ok(()) };
        cgroups.parents.retain(|(kind, parent)| usable(*kind, parent, &cgroups.prefix));
        let kills = |(kind, _): &(Kind, PathBuf)| matches!(kind, Kind::Unified | Kind::Freezer);
        if !cgroups.parents.iter().any(kills) {
            return None;
        }
        if let Some((_, parent)) = cgroups.parents.iter().find(|(k, _)| *k == Kind::Unified) {
            cgroups.unified_limits = hand_down(parent, &is_ours, &enable);
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

    /// Whether bounds can be set, or why not.
    pub(super) fn limits(&self) -> Result<(), &str> {
        let has = |kind: Kind| self.parents.iter().any(|(k, _)| *k == kind);
        match &self.unified_limits {
            _ if has(Kind::Pids) && has(Kind::Memory) => Ok(()),
            _ if has(Kind::Pids) => Err("memory is not among the controllers"),
            Ok(()) if has(Kind::Unified) => Ok(()),
            Ok(()) => Err("there is no group that has them"),
            Err(why) => Err(why),
        }
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
                Kind::Unified if self.unified_limits.is_ok() => ("pids.max", "memory.max"),
                Kind::Pids => ("pids.max", ""),
                Kind::Memory => ("", "memory.limit_in_bytes"),
                Kind::Unified | Kind::Freezer => ("", ""),
            };
            for (file, bound) in [(pids, u64::from(pids_max)), (memory, memory_max)] {
                if !file.is_empty() && bound > 0 {
                    fs::write(dir.join(file), bound.to_string())?;
                }
            }
            if !memory.is_empty() && memory_max > 0 {
                no_swap(&dir, *kind, memory_max);
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

/// Lets a group of v2 hand its controllers to the groups below it. The processes in it go to a leaf
/// first; that is done only if all of them are ours, and undone if it does not help.
/// A bound of memory that swap cannot be used to get around. Kernels without swap accounting have no
/// such file, and then there is nothing to bound.
fn no_swap(dir: &Path, kind: Kind, memory_max: u64) {
    let (file, bound) = match kind {
        Kind::Unified => ("memory.swap.max", 0),
        _ => ("memory.memsw.limit_in_bytes", memory_max),
    };
    if let Err(error) = fs::write(dir.join(file), bound.to_string())
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, file, "swap is not bounded");
    }
}

fn hand_down(
    own: &Path,
    ours: &dyn Fn(i32) -> bool,
    enable: &dyn Fn(&Path) -> io::Result<()>,
) -> Result<(), String> {
    let offered = fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
    if !V2.iter().all(|name| offered.split_ascii_whitespace().any(|has| has == *name)) {
        return Err(format!("{} was not given the controllers pids and memory", own.display()));
    }
    // Done before, or a root: that may have processes.
    if enable(own).is_ok() {
        return Ok(());
    }
    let leaf = own.join(LEAF);
    let made = fs::create_dir(&leaf);
    if let Err(error) = made
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(format!("{} cannot be made: {error}", leaf.display()));
    }
    let moved = (0..MOVES_MAX).try_for_each(|_| move_all(own, &leaf, ours));
    let handed = moved.and_then(|()| enable(own).map_err(|error| error.to_string()));
    handed.map_err(|why| {
        // Back where they were; what cannot go back is as well off where it is.
        let _ = move_all(&leaf, own, ours);
        let _ = fs::remove_dir(&leaf);
        format!("{} cannot hand them down: {why}", own.display())
    })
}

fn enable(own: &Path) -> io::Result<()> {
    fs::write(own.join("cgroup.subtree_control"), "+pids +memory")
}

/// Moves every process of a group to another one; none if one of them is not ours.
fn move_all(from: &Path, to: &Path, ours: &dyn Fn(i32) -> bool) -> Result<(), String> {
    let list = fs::read_to_string(from.join("cgroup.procs")).map_err(|error| error.to_string())?;
    let pids: Vec<i32> = list.lines().filter_map(|line| line.trim().parse().ok()).collect();
    if let Some(stranger) = pids.iter().find(|pid| !ours(**pid)) {
        return Err(format!("process {stranger} is in it, too, and not of this agent"));
    }
    for pid in pids {
        let file = fs::OpenOptions::new().append(true).open(to.join("cgroup.procs"));
        let written = file.and_then(|mut file| writeln!(file, "{pid}"));
        // One that ended meanwhile need not be moved.
        if let Err(error) = written
            && error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error())
        {
            return Err(error.to_string());
        }
    }
    Ok(())
}

/// This process, or one that it started.
fn is_ours(pid: i32) -> bool {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let mut at = pid;
    // A process may end while it is looked at: then it is nobody's.
    for _ in 0..64 {
        if at == me {
            return true;
        }
        match super::proc::parent(at) {
            Some(parent) if parent > 0 => at = parent,
            _ => return false,
        }
    }
    false
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like a group of v2; what is written there stays there.
    fn group(controllers: &str, pids: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        fs::write(dir.path().join("cgroup.procs"), pids).unwrap();
        fs::create_dir(dir.path().join(LEAF)).unwrap();
        fs::write(dir.path().join(LEAF).join("cgroup.procs"), "").unwrap();
        dir
    }

    fn moved(dir: &Path) -> String {
        fs::read_to_string(dir.join(LEAF).join("cgroup.procs")).unwrap()
    }

    /// As the kernel has it: refused until the processes are in the leaf.
    fn once_moved(own: &Path) -> io::Result<()> {
        match moved(own).is_empty() {
            true => Err(io::ErrorKind::ResourceBusy.into()),
            false => enable(own),
        }
    }

    #[test]
    fn controllers_are_handed_down_once_the_agent_is_in_a_leaf() {
        let dir = group("cpu pids memory\n", "12\n15\n");
        hand_down(dir.path(), &|_| true, &once_moved).unwrap();
        assert!(moved(dir.path()).starts_with("12\n15\n"));
        let handed = fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(handed, "+pids +memory");
        // Where it is not refused, nobody is moved.
        let dir = group("cpu pids memory\n", "12\n");
        hand_down(dir.path(), &|_| true, &enable).unwrap();
        assert_eq!(moved(dir.path()), "");
    }

    #[test]
    fn strangers_are_not_moved_and_the_reason_is_told() {
        let dir = group("pids memory\n", "12\n15\n");
        let why = hand_down(dir.path(), &|pid| pid == 12, &once_moved).unwrap_err();
        assert!(why.contains("process 15 is in it, too"), "{why}");
        assert_eq!(moved(dir.path()), "");
        let dir = group("cpu\n", "12\n");
        let why = hand_down(dir.path(), &|_| true, &once_moved).unwrap_err();
        assert!(why.contains("was not given the controllers pids and memory"), "{why}");
        // Refused for good: they go back.
        let dir = group("pids memory\n", "12\n");
        let never = |_: &Path| Err(io::ErrorKind::PermissionDenied.into());
        let why = hand_down(dir.path(), &|_| true, &never).unwrap_err();
        assert!(why.contains("cannot hand them down"), "{why}");
        let back = fs::read_to_string(dir.path().join("cgroup.procs")).unwrap();
        assert!(back.starts_with("12\n12\n"), "{back}");
    }

    #[test]
    fn this_process_and_its_children_are_ours() {
        assert!(is_ours(i32::try_from(std::process::id()).unwrap()));
        assert!(!is_ours(1) && !is_ours(0));
    }
}
