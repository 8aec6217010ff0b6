//! What the cluster may ask of this device. The file belongs to the device's user; nothing
//! that comes over the link changes it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;
use troupe_executor::{
    Job, McpServer, Permissions, RuntimeKind, WorkspaceSource, clone_host, is_free_variable,
};

/// Largest policy file.
const POLICY_BYTES_MAX: u64 = 256 * 1024;

/// Why a policy file is not used. The agent does not start then.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is larger than any policy.
    #[error("{path} is larger than 256 KiB")]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// It does not say what a policy can say.
    #[error("{path}: {message}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Line, column and what is wrong.
        message: String,
    },
}

/// A job that the policy does not allow.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the policy of this device does not allow {what}: `{field}` in its policy file")]
pub struct Refused {
    /// The field of the policy file that decides.
    pub field: &'static str,
    /// What was asked for.
    pub what: String,
}

/// What is allowed. The default, without a file: any Team, any runtime but commands, no
/// directory of the user's, clones into the agent's own directory, no programs as MCP servers, no
/// variables, and a person is asked before commands run.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Policy {
    /// Teams, `namespace/name`; `*` stands for any text.
    pub teams: Vec<String>,
    /// Users by name; `*` stands for any text.
    pub users: Vec<String>,
    /// Runtimes by their word (`ClaudeCode`).
    pub runtimes: Vec<String>,
    /// Roots of directories that may be worked in as they are.
    pub workspace_roots: Vec<PathBuf>,
    /// Where clones may come from: hosts; `*` stands for any text, and case does not count.
    pub clone_hosts: Vec<String>,
    /// Programs that the runtime `Command` may run.
    pub commands: Vec<String>,
    /// The most that a runtime may do without asking: `read-only`, `ask`, `accept-edits`,
    /// `bypass`. A job that wants more gets this.
    pub permissions_max: PermissionsMax,
    /// Whether "always allow this in this Task" counts here.
    pub grants: bool,
    /// Whether jobs may start programs as MCP servers.
    pub mcp_programs: bool,
    /// Variables that jobs may set for their runtimes, by name; `*` stands for any text behind a
    /// beginning. Many that decide whose code runs (`PATH`, `LD_*`, `GIT_*`..) are refused even
    /// then; nobody can know all of them, so `*` alone is refused.
    pub env: Vec<String>,
    /// The machine is a fence by itself, as a container is: runtimes put no sandbox of their own
    /// around commands, where a container would not let them.
    pub fenced: bool,
}

/// See [`Policy::permissions_max`], in rising order.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum PermissionsMax {
    /// Nothing is changed.
    ReadOnly,
    /// A person is asked.
    Ask,
    /// Files of the workspace are edited without asking.
    #[default]
    AcceptEdits,
    /// Nobody is asked.
    Bypass,
}

impl Default for Policy {
    fn default() -> Self {
        let any = || vec!["*".to_owned()];
        Self {
            teams: any(),
            users: any(),
            runtimes: ["ClaudeCode", "Codex", "Agno"].map(str::to_owned).to_vec(),
            workspace_roots: Vec::new(),
            clone_hosts: any(),
            commands: Vec::new(),
            permissions_max: PermissionsMax::default(),
            grants: true,
            mcp_programs: false,
            env: Vec::new(),
            fenced: false,
        }
    }
}

const fn rank(permissions: Permissions) -> PermissionsMax {
    match permissions {
        Permissions::ReadOnly => PermissionsMax::ReadOnly,
        Permissions::Ask => PermissionsMax::Ask,
        Permissions::AcceptEdits => PermissionsMax::AcceptEdits,
        Permissions::Bypass => PermissionsMax::Bypass,
    }
}

const fn permissions(max: PermissionsMax) -> Permissions {
    match max {
        PermissionsMax::ReadOnly => Permissions::ReadOnly,
        PermissionsMax::Ask => Permissions::Ask,
        PermissionsMax::AcceptEdits => Permissions::AcceptEdits,
        PermissionsMax::Bypass => Permissions::Bypass,
    }
}

/// Whether a text fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn any_fits(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| fits(pattern, text))
}

impl Policy {
    /// Reads a policy file; `Ok(None)` if there is none.
    ///
    /// # Errors
    /// See [`PolicyError`]: an agent with a policy that does not read must not start.
    pub fn read(path: &Path) -> Result<Option<Self>, PolicyError> {
        let fail = |source| PolicyError::Read { path: path.to_owned(), source };
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
            Ok(meta) if meta.len() > POLICY_BYTES_MAX => {
                return Err(PolicyError::TooLarge { path: path.to_owned() });
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(path).map_err(fail)?;
        Self::parse(&text)
            .map(Some)
            .map_err(|message| PolicyError::Parse { path: path.to_owned(), message })
    }

    /// Reads the text of a policy.
    ///
    /// # Errors
    /// What is wrong, with line and column.
    pub fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for root in &policy.workspace_roots {
            if !root.is_absolute() {
                let root = root.display();
                return Err(format!("workspace-roots: `{root}` is not an absolute path"));
            }
        }
        if let Some(any) = policy.env.iter().find(|name| name.starts_with('*')) {
            return Err(format!(
                "env: `{any}` allows variables that nobody thought of, and one of them may run a \
                 program: name them, or what they begin with (`APP_*`)"
            ));
        }
        Ok(policy)
    }

    /// Whether a job may run here, and the job as it may run: never with more permissions than
    /// the policy allows.
    ///
    /// # Errors
    /// [`Refused`] names the field that decides.
    pub fn check(&self, team: &str, user: &str, mut job: Job) -> Result<Job, Refused> {
        let refuse = |field, what: String| Err(Refused { field, what });
        if !any_fits(&self.teams, team) {
            return refuse("teams", format!("the team `{team}`"));
        }
        if !any_fits(&self.users, user) {
            return refuse("users", format!("the user `{user}`"));
        }
        if !self.runtimes.iter().any(|word| word == job.runtime.as_str()) {
            return refuse("runtimes", format!("the runtime {}", job.runtime));
        }
        if job.runtime == RuntimeKind::Command {
            let program = job.command.as_ref().map(|c| c.program.as_str()).unwrap_or_default();
            if !self.commands.iter().any(|allowed| allowed == program) {
                return refuse("commands", format!("the command `{program}`"));
            }
        }
        self.check_workspace(&job.workspace.source)?;
        if !self.mcp_programs {
            let program = |s: &McpServer| matches!(s, McpServer::Stdio { .. });
            if let Some((name, _)) = job.all_mcp_servers().find(|(_, server)| program(server)) {
                return refuse("mcp-programs", format!("the program of the MCP server `{name}`"));
            }
        }
        self.check_env(&job)?;
        if rank(job.permissions) > self.permissions_max {
            job.permissions = permissions(self.permissions_max);
        }
        if !self.grants {
            job.grants.clear();
        }
        Ok(job)
    }

    /// A variable can run a program that nobody is asked about (`GIT_CONFIG_KEY_0`, `BASH_ENV`).
    fn check_env(&self, job: &Job) -> Result<(), Refused> {
        let refuse = |what: String| Err(Refused { field: "env", what });
        for name in job.env.keys() {
            if !any_fits(&self.env, name) {
                return refuse(format!("the variable {name:?}"));
            }
            if !is_free_variable(name) {
                return refuse(format!(
                    "the variable {name:?}, which no policy can allow: it decides whose code runs"
                ));
            }
        }
        Ok(())
    }

    fn check_workspace(&self, source: &WorkspaceSource) -> Result<(), Refused> {
        match source {
            WorkspaceSource::Empty => Ok(()),
            WorkspaceSource::Clone { url, .. } => {
                // No host is told where there is none, or more than one can be read out of it.
                let Some(host) = clone_host(url) else {
                    let what = "clones from a URL that names no host plainly".to_owned();
                    return Err(Refused { field: "clone-hosts", what });
                };
                let mut hosts = self.clone_hosts.iter();
                if !hosts.any(|pattern| fits(&pattern.to_ascii_lowercase(), &host)) {
                    let what = format!("clones from `{host}`");
                    return Err(Refused { field: "clone-hosts", what });
                }
                Ok(())
            }
            WorkspaceSource::Existing { path } => {
                let refused = Refused {
                    field: "workspace-roots",
                    what: format!("work in {}", path.display()),
                };
                // Links are followed first, so that none leads out of a root.
                let real = fs::canonicalize(path).map_err(|_| refused.clone())?;
                let mut roots = self.workspace_roots.iter();
                let inside = roots
                    .any(|root| fs::canonicalize(root).is_ok_and(|root| real.starts_with(root)));
                if inside { Ok(()) } else { Err(refused) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
