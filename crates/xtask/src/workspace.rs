//! Where the repository and its build directory are.

use std::{
    env,
    ffi::OsString,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

/// The repository this program was built from.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Cargo's build directory, wherever configuration or environment put it.
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.ancestors().nth(2).context("the manifest lies two levels deep")?;
        let exe = env::current_exe().context("find this program")?;
        // <target>/<profile>/<program>
        let target = exe.ancestors().nth(2).context("the program lies two levels deep")?;
        Ok(Self { root: root.to_owned(), target: target.to_owned() })
    }

    /// Tools that this program installed; safe to delete.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// A cargo command at the root.
    pub(crate) fn cargo(&self) -> Command {
        self.command(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
    }

    /// Any command at the root.
    pub(crate) fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        command.current_dir(&self.root);
        command
    }

    /// The `troupe` binary of the given profile directory (`debug` or `release`).
    pub(crate) fn binary(&self, profile: &str) -> PathBuf {
        self.target.join(profile).join("troupe")
    }

    /// Tracked and new files below `under`, relative to the root, ignored ones left out.
    pub(crate) fn files(&self, under: &str) -> Result<Vec<String>> {
        let mut git = self.command("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", under]);
        let listed = git.output().context("run git ls-files")?;
        anyhow::ensure!(listed.status.success(), "git ls-files failed: not a git checkout?");
        let listed = String::from_utf8(listed.stdout).context("file names are UTF-8")?;
        let mut files: Vec<String> = listed
            .split('\0')
            .filter(|file| !file.is_empty() && self.root.join(file).is_file())
            .map(str::to_owned)
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }
}

/// True in CI, where nobody can answer a question and lock files must be fresh.
pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// A number that changes when a name or the content of one of `files` does.
pub(crate) fn hash_files(root: &Path, files: &[String], salt: &str) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    salt.hash(&mut hasher);
    for file in files {
        file.hash(&mut hasher);
        let content = fs::read(root.join(file)).with_context(|| format!("read {file}"))?;
        content.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Whether `stamp` holds `wanted`: the work that it stands for is done.
pub(crate) fn is_stamped(stamp: &Path, wanted: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|found| found == wanted)
}
