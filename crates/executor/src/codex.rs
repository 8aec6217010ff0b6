//! Codex: `codex app-server`, JSON-RPC lines over stdio.
//!
//! One process per run, so that keys and configuration of one execution are not another's.

mod dialect;
mod items;
mod parse;

use std::{fmt::Write as _, fs, path::PathBuf};

use async_trait::async_trait;

use self::dialect::CodexDialect;
use crate::{
    drive,
    job::{McpServer, ModelAccess, Permissions, RuntimeKind},
    machine::{Environment, Machine, link_login, link_skills, make_private, remove_login},
    process::{Program, is_program},
    runtime::{Abilities, Found, Launch, ProbeError, Runtime, StartError, Started},
};

/// The version that this was built and tested with.
pub const CODEX_VERSION: &str = "0.169.0";
const WAY_OUT: &str =
    "npm install -g @openai/codex@0.169.0, or name the program in the device's configuration";
/// The variable that holds the key.
const KEY_VARIABLE: &str = "TROUPE_MODEL_KEY";

/// Drives Codex.
#[derive(Clone, Debug)]
pub struct Codex {
    machine: Machine,
    program: Option<PathBuf>,
}

impl Codex {
    /// `program`: where it lies, if not on the search path.
    #[must_use]
    pub const fn new(machine: Machine, program: Option<PathBuf>) -> Self {
        Self { machine, program }
    }

    /// The native program; npm's launcher of it is a script that needs Node.js and passes
    /// signals on late.
    fn find(&self) -> Result<PathBuf, ProbeError> {
        let found = self.machine.program(self.program.as_deref(), "codex", WAY_OUT)?;
        Ok(native(&found).unwrap_or(found))
    }

    fn environment(&self, launch: &Launch) -> Result<Environment, StartError> {
        let home = launch.state_dir.join("codex");
        make_private(&home)?;
        let mut env = Environment::new(&self.machine, launch, &launch.state_dir)?;
        env.set("CODEX_HOME", &home);
        let keyed = env.key(launch, KEY_VARIABLE)?;
        let elsewhere = launch.job.model.as_ref().is_some_and(|model| model.base_url.is_some());
        let file = home.join("auth.json");
        let done = match &self.machine.login_home {
            Some(login) if !keyed && !elsewhere => {
                link_login(&login.join(".codex/auth.json"), &file)
            }
            // A server that the job names is not shown it; one of its own may want no key.
            _ => remove_login(&file),
        };
        done.map_err(|e| StartError::machine("set up the login of Codex", e))?;
        Ok(env)
    }
}

/// The program inside the platform package beside npm's launcher.
fn native(launcher: &std::path::Path) -> Option<PathBuf> {
    let script = launcher.canonicalize().ok()?;
    let package = script.parent()?.parent()?;
    let inside = [package.join("node_modules/@openai"), package.parent()?.to_owned()];
    let platforms = inside.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
    let vendors = platforms
        .filter(|dir| dir.file_name().to_string_lossy().starts_with("codex-"))
        .filter_map(|dir| fs::read_dir(dir.path().join("vendor")).ok());
    vendors
        .flatten()
        .flatten()
        .map(|dir| dir.path().join("bin/codex"))
        .find(|file| is_program(file))
}

/// A TOML string; JSON's escapes are valid in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// The configuration: no secret stands in it, only names of variables.
fn config(launch: &Launch, env: &mut Environment) -> Result<String, StartError> {
    let mut toml = String::from("check_for_update_on_startup = false\n");
    if let Some(ModelAccess { model, base_url, retries, key, .. }) = &launch.job.model {
        let _ = writeln!(toml, "model = {}\nmodel_provider = \"troupe\"", quoted(model));
        let url = base_url.as_deref().unwrap_or("https://api.openai.com/v1");
        let _ = writeln!(toml, "[model_providers.troupe]\nname = \"Troupe\"");
        let _ = writeln!(toml, "base_url = {}\nwire_api = \"responses\"", quoted(url));
        let _ = writeln!(toml, "request_max_retries = {retries}\nstream_max_retries = {retries}");
        if key.is_some() {
            let _ = writeln!(toml, "env_key = \"{KEY_VARIABLE}\"");
        }
    }
    toml.push_str("[analytics]\nenabled = false\n[otel]\nexporter = \"none\"\n");
    // Programs that the model runs do not see the keys.
    toml.push_str("[shell_environment_policy]\ninherit = \"all\"\n");
    toml.push_str(
        "exclude = [\"TROUPE_MODEL*\", \"TROUPE_MCP*\", \"*KEY*\", \"*SECRET*\", \"*TOKEN*\"]\n",
    );
    toml.push_str("[sandbox_workspace_write]\nexclude_slash_tmp = true\n");
    let approval = if launch.job.permissions == Permissions::Bypass { "approve" } else { "prompt" };
    let mut count = 0_u32;
    for (name, server) in &launch.job.mcp_servers {
        let _ = writeln!(toml, "[mcp_servers.{}]", quoted(name));
        let _ = writeln!(toml, "default_tools_approval_mode = \"{approval}\"");
        match server {
            McpServer::Stdio { command, args, env: variables } => {
                let args: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
                let _ =
                    writeln!(toml, "command = {}\nargs = [{}]", quoted(command), args.join(", "));
                // Passed on by name from this process, which alone knows the values.
                let names: Vec<String> = variables.keys().map(|name| quoted(name)).collect();
                let _ = writeln!(toml, "env_vars = [{}]", names.join(", "));
                for (variable, text) in variables {
                    env.filled(
                        launch,
                        &format!("mcp_servers.{name}.env.{variable}"),
                        variable,
                        text,
                    )?;
                }
            }
            McpServer::StreamableHttp { url, headers } => {
                let _ = writeln!(toml, "url = {}", quoted(url));
                let mut named = Vec::new();
                for (header, text) in headers {
                    count += 1;
                    let variable = format!("TROUPE_MCP_{count}");
                    env.filled(
                        launch,
                        &format!("mcp_servers.{name}.headers.{header}"),
                        &variable,
                        text,
                    )?;
                    named.push(format!("{} = \"{variable}\"", quoted(header)));
                }
                let _ = writeln!(toml, "env_http_headers = {{ {} }}", named.join(", "));
            }
        }
    }
    Ok(toml)
}

#[async_trait]
impl Runtime for Codex {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Codex
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            streams: true,
            approvals: true,
            questions: true,
            input: true,
            steer: true,
            interrupt: true,
            resume: true,
            mcp: true,
            skills: true,
            images: true,
            teams: false,
        }
    }

    async fn probe(&self) -> Result<Found, ProbeError> {
        let program = self.find()?;
        let version = self.machine.version(&program, &["--version"]).await?;
        Ok(Found::tested(RuntimeKind::Codex, program, version, CODEX_VERSION))
    }

    async fn start(&self, launch: Launch) -> Result<Started, StartError> {
        let program = self.find()?;
        make_private(&launch.state_dir)?;
        let mut env = self.environment(&launch)?;
        let home = launch.state_dir.join("codex");
        link_skills(&launch.job, &home.join("skills"))?;
        let config = config(&launch, &mut env)?;
        let written = fs::write(home.join("config.toml"), config);
        written.map_err(|e| StartError::machine("write the configuration of Codex", e))?;
        let program = Program {
            program,
            args: vec!["app-server".into()],
            cwd: launch.cwd.clone(),
            env: env.into_vec(),
            pids_max: launch.job.limits.pids_max,
            memory_bytes_max: launch.job.limits.memory_bytes_max,
            one_output: false,
        };
        let limits = launch.job.limits;
        let dialect = CodexDialect::new(&launch.job, &launch.cwd, self.machine.fenced);
        drive::start(&self.machine.containment, &program, Box::new(dialect), launch.secrets, limits)
    }
}
