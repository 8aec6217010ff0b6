//! What a device gives to runtimes: search path, containment, homes; and what all of them need:
//! finding programs, asking versions, clean environments.

mod variables;

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::{DirBuilderExt as _, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::Command;
use troupe_types::Clock;

pub use self::variables::is_free_variable;
use crate::{
    job::{Job, ModelAccess, SkillDir, SkillText},
    process::{Containment, find, is_program},
    runtime::{Launch, ProbeError, StartError},
};

/// How long a program may take to say its version.
const PROBE_WAIT: Duration = Duration::from_secs(20);

/// What a device gives to all runtimes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Machine {
    /// How processes are held together.
    pub containment: Containment,
    /// Search path (`PATH`) for runtimes and the programs that they run.
    pub path: OsString,
    /// Home of the person whose logins runtimes use when a job brings neither a key nor an address
    /// of a model; `None`: none.
    pub login_home: Option<PathBuf>,
    /// It is a fence by itself (a container): runtimes need none of their own around commands.
    pub fenced: bool,
    /// Time of day.
    pub clock: Arc<dyn Clock>,
}

impl Machine {
    /// The program at `wanted`, or of that name on the search path.
    pub(crate) fn program(
        &self,
        wanted: Option<&Path>,
        name: &str,
        way_out: &str,
    ) -> Result<PathBuf, ProbeError> {
        let found = match wanted {
            Some(path) => is_program(path).then(|| path.to_owned()),
            None => find(name, &self.path),
        };
        found.ok_or_else(|| ProbeError::Missing {
            program: wanted.map_or_else(|| name.to_owned(), |path| path.display().to_string()),
            way_out: way_out.to_owned(),
        })
    }

    /// The first word with a digit in what a program says to `args`.
    pub(crate) async fn version(
        &self,
        program: &Path,
        args: &[&str],
    ) -> Result<String, ProbeError> {
        let broken =
            |text: String| ProbeError::Broken { program: program.display().to_string(), text };
        let mut command = Command::new(program);
        command.args(args).env_clear().env("PATH", &self.path).env("LANG", "C.UTF-8");
        // Some make files in their home when they start: one of their own, which goes with this.
        let home = tempfile::tempdir().ok();
        command.env("HOME", home.as_ref().map_or(Path::new("/nonexistent"), TempDir::path));
        command.current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PROBE_WAIT, command.output()).await;
        let output = output
            .map_err(|_| broken(format!("no answer in {} s", PROBE_WAIT.as_secs())))?
            .map_err(|error| broken(error.to_string()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(broken(errors.trim().chars().take(500).collect()));
        }
        let word = said
            .split_ascii_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        word.map(str::to_owned).ok_or_else(|| broken("it does not say its version".to_owned()))
    }
}

/// The variables of a runtime's process, whole: nothing is inherited.
#[derive(Default)]
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// Search path, home, language, time zone, temporary files, and what the job sets.
    pub(crate) fn new(machine: &Machine, launch: &Launch, home: &Path) -> Result<Self, StartError> {
        let tmp = launch.state_dir.join("tmp");
        make_private(&tmp)?;
        let mut env = Self::default();
        for (name, value) in &launch.job.env {
            if !is_free_variable(name) {
                let message = format!("a job may not set {name:?}");
                return Err(StartError::job("env", message));
            }
            env.filled(launch, &format!("env.{name}"), name, value)?;
        }
        env.set("PATH", &machine.path);
        env.set("HOME", home);
        env.set("TMPDIR", &tmp);
        env.set("LANG", "C.UTF-8");
        env.set("TERM", "dumb");
        env.set("GIT_TERMINAL_PROMPT", "0");
        Ok(env)
    }

    pub(crate) fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        self.0.retain(|(known, _)| known != name.as_ref());
        self.0.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
    }

    /// A value with references to secrets.
    pub(crate) fn filled(
        &mut self,
        launch: &Launch,
        field: &str,
        name: &str,
        value: &str,
    ) -> Result<(), StartError> {
        let secret = launch.secrets.fill(value);
        let secret = secret.map_err(|name| StartError::Secret { field: field.to_owned(), name })?;
        self.set(name, secret.expose());
        Ok(())
    }

    /// The key of the job's model, if it has one. One without a letter is none: runtimes would take
    /// another login for it.
    pub(crate) fn key(&mut self, launch: &Launch, variable: &str) -> Result<bool, StartError> {
        match &launch.job.model {
            Some(model) => self.key_of(launch, "model", model, variable),
            None => Ok(false),
        }
    }

    /// The same for the model in a field of the job.
    pub(crate) fn key_of(
        &mut self,
        launch: &Launch,
        field: &str,
        model: &ModelAccess,
        variable: &str,
    ) -> Result<bool, StartError> {
        let Some(name) = &model.key else { return Ok(false) };
        let missing = || StartError::Secret { field: format!("{field}.key"), name: name.clone() };
        let key = launch.secrets.get(name).ok_or_else(missing)?;
        if key.expose().trim().is_empty() {
            return Ok(false);
        }
        self.set(variable, key.expose());
        Ok(true)
    }

    pub(crate) fn into_vec(self) -> Vec<(OsString, OsString)> {
        self.0
    }
}

/// Makes a directory that only its owner can enter.
pub(crate) fn make_private(dir: &Path) -> Result<(), StartError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| {
        StartError::machine(format!("make the directory {}", dir.display()), error)
    })
}

/// Writes the skills that came with a job below `dir`, and counts them to those on the disk. The
/// package of one is unpacked in `dir/HASH/NAME` already, and its `SKILL.md` says what the job says:
/// fields of other programs, that let a runtime do things unasked, are not in it.
///
/// # Errors
/// A name that is none, or the file system's.
pub fn write_skills(job: &mut Job, dir: &Path) -> Result<(), StartError> {
    for skill in std::mem::take(&mut job.skill_texts) {
        let SkillText { name, description, text, package } = skill;
        check_skill(&name)?;
        let path = package.map_or_else(|| dir.to_owned(), |hash| dir.join(hash)).join(&name);
        make_private(&path)?;
        // JSON's strings are YAML's, too.
        let description = serde_json::Value::from(description.replace('\n', " "));
        let file = format!("---\nname: {name}\ndescription: {description}\n---\n\n{text}\n");
        fs::write(path.join("SKILL.md"), file).map_err(|error| {
            StartError::machine(format!("write the skill {name} to {}", path.display()), error)
        })?;
        job.skills.push(SkillDir { name, path });
    }
    Ok(())
}

/// Whether a name may be that of a directory.
///
/// # Errors
/// It may not.
pub fn check_skill(name: &str) -> Result<(), StartError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        let message = format!("{name:?} is no name of a skill: letters, digits, -, _ and .");
        return Err(StartError::job("skills", message));
    }
    Ok(())
}

/// Makes the skills of a job, and no others, visible in a directory of the runtime.
pub(crate) fn link_skills(job: &Job, dir: &Path) -> Result<(), StartError> {
    make_private(dir)?;
    let failed =
        |error| StartError::machine(format!("set up the skills in {}", dir.display()), error);
    for entry in fs::read_dir(dir).map_err(failed)?.flatten() {
        if entry.path().is_symlink() {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    for SkillDir { name, path } in &job.skills {
        check_skill(name)?;
        if !path.join("SKILL.md").is_file() {
            let message = format!("{}: there is no SKILL.md", path.display());
            return Err(StartError::job("skills", message));
        }
        symlink(path, dir.join(name)).map_err(failed)?;
    }
    Ok(())
}

/// Lets a runtime use the login of the device's user: links one file into its own directory.
pub(crate) fn link_login(from: &Path, to: &Path) -> io::Result<()> {
    if to.is_symlink() {
        fs::remove_file(to)?;
    }
    if from.is_file() && !to.exists() {
        symlink(from, to)?;
    }
    Ok(())
}

/// Takes the login of the device's user out of a runtime's directory again, or what the runtime
/// made of it.
pub(crate) fn remove_login(to: &Path) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use troupe_types::SystemClock;

    use super::*;

    #[tokio::test]
    async fn a_program_that_says_its_version_leaves_nothing() {
        let machine = Machine {
            containment: Containment::without_cgroups("machine-tests"),
            path: "/usr/bin:/bin".into(),
            login_home: None,
            fenced: false,
            clock: SystemClock::shared(),
        };
        let says = |script: &'static str| {
            let machine = machine.clone();
            async move { machine.version(Path::new("/bin/sh"), &["-c", script]).await }
        };
        let said = says("touch \"$HOME/cache\" && echo tool 7$HOME").await.unwrap();
        let home = Path::new(said.strip_prefix('7').unwrap());
        assert!(home.is_absolute() && !home.exists(), "{}", home.display());
        let error = says("echo no token >&2; exit 3").await.unwrap_err().to_string();
        assert!(error.contains("no token"), "{error}");
        let error = says("echo tool").await.unwrap_err().to_string();
        assert!(error.contains("does not say its version"), "{error}");
    }
}
