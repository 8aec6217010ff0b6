//! Claude Code: `claude -p` with stream-json both ways and its control protocol.
//!
//! One process per run, own configuration directory per Bot and Task. Permission prompts come
//! over standard output and become approvals; `AskUserQuestion` becomes a question.

mod dialect;
mod parse;
mod stream;

use std::{
    fs,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use troupe_types::Uuid;

use self::dialect::ClaudeDialect;
use crate::{
    drive,
    job::{Job, McpServer, ModelAccess, Permissions, RuntimeKind, SessionId},
    machine::{Environment, Machine, link_login, link_skills, make_private, remove_login},
    process::Program,
    runtime::{Abilities, Found, Launch, ProbeError, Runtime, StartError, Started},
};

/// The version that this was built and tested with.
pub const CLAUDE_VERSION: &str = "2.1.330";
const WAY_OUT: &str = "npm install -g @anthropic-ai/claude-code@2.1.330, or name the program in the device's configuration";

/// Drives Claude Code.
#[derive(Clone, Debug)]
pub struct ClaudeCode {
    machine: Machine,
    program: Option<PathBuf>,
}

impl ClaudeCode {
    /// `program`: where it lies, if not on the search path.
    #[must_use]
    pub const fn new(machine: Machine, program: Option<PathBuf>) -> Self {
        Self { machine, program }
    }

    fn find(&self) -> Result<PathBuf, ProbeError> {
        self.machine.program(self.program.as_deref(), "claude", WAY_OUT)
    }

    fn environment(&self, launch: &Launch) -> Result<Environment, StartError> {
        let config = launch.state_dir.join("claude");
        make_private(&config)?;
        let mut env = Environment::new(&self.machine, launch, &launch.state_dir)?;
        env.set("CLAUDE_CONFIG_DIR", &config);
        for name in [
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
            "DISABLE_AUTOUPDATER",
            "DISABLE_TELEMETRY",
            "DISABLE_ERROR_REPORTING",
            // It refuses to skip permissions as root otherwise.
            "IS_SANDBOX",
        ] {
            env.set(name, "1");
        }
        // The Bot's MCP tools are few and named: no search before they can be used.
        env.set("ENABLE_TOOL_SEARCH", "false");
        let model = launch.job.model.as_ref();
        let bearer = model.is_some_and(|model| model.bearer);
        let key = if bearer { "ANTHROPIC_AUTH_TOKEN" } else { "ANTHROPIC_API_KEY" };
        let keyed = env.key(launch, key)?;
        self.login(&config, keyed, model.is_some_and(|model| model.base_url.is_some()))?;
        if let Some(ModelAccess { model, small_model, base_url, retries, .. }) = model {
            env.set("ANTHROPIC_MODEL", model);
            for small in ["ANTHROPIC_DEFAULT_HAIKU_MODEL", "ANTHROPIC_SMALL_FAST_MODEL"] {
                env.set(small, small_model.as_ref().unwrap_or(model));
            }
            for size in ["ANTHROPIC_DEFAULT_SONNET_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL"] {
                env.set(size, model);
            }
            base_url.iter().for_each(|url| env.set("ANTHROPIC_BASE_URL", url));
            env.set("CLAUDE_CODE_MAX_RETRIES", retries.to_string());
        }
        Ok(env)
    }

    /// The login of the device's user is for the provider's own address: a server that the job
    /// names would be shown it.
    fn login(&self, config: &Path, keyed: bool, elsewhere: bool) -> Result<(), StartError> {
        let file = config.join(".credentials.json");
        let done = match &self.machine.login_home {
            _ if !keyed && elsewhere => {
                let message = "the Model has an address of its own but no key, and the login of \
                               this device is not shown to other servers: give the Model a key, \
                               or leave out its address";
                return Err(StartError::job("model.key", message));
            }
            Some(home) if !keyed => link_login(&home.join(".claude/.credentials.json"), &file),
            _ => remove_login(&file),
        };
        done.map_err(|e| StartError::machine("set up the login of Claude Code", e))
    }

    /// The session's file, if the runtime still has it.
    fn has_session(launch: &Launch, session: &SessionId) -> bool {
        let name = format!("{session}.jsonl");
        let projects = fs::read_dir(launch.state_dir.join("claude/projects"));
        projects.into_iter().flatten().flatten().any(|dir| dir.path().join(&name).is_file())
    }
}

/// The servers as `--mcp-config` has them. Values with secrets become variables of the process,
/// which Claude Code fills in by itself: neither arguments nor files hold one.
fn mcp_config(launch: &Launch, env: &mut Environment) -> Result<Option<String>, StartError> {
    let mut servers = Map::new();
    let mut count = 0_u32;
    for (name, server) in &launch.job.mcp_servers {
        let mut value = |field: &str, text: &str| -> Result<Value, StartError> {
            if !text.contains("${") {
                return Ok(json!(text));
            }
            count += 1;
            let variable = format!("TROUPE_MCP_{count}");
            env.filled(launch, &format!("mcp_servers.{name}.{field}"), &variable, text)?;
            Ok(json!(format!("${{{variable}}}")))
        };
        let server = match server {
            McpServer::Stdio { command, args, env } => {
                let mut filled = Map::new();
                for (name, text) in env {
                    filled.insert(name.clone(), value(&format!("env.{name}"), text)?);
                }
                json!({"type": "stdio", "command": command, "args": args, "env": filled})
            }
            McpServer::StreamableHttp { url, headers } => {
                let mut filled = Map::new();
                for (name, text) in headers {
                    filled.insert(name.clone(), value(&format!("headers.{name}"), text)?);
                }
                json!({"type": "http", "url": value("url", url)?, "headers": filled})
            }
        };
        servers.insert(name.clone(), server);
    }
    Ok((!servers.is_empty()).then(|| json!({"mcpServers": servers}).to_string()))
}

fn arguments(job: &Job, session: &SessionId, resumed: bool, mcp: Option<String>) -> Vec<String> {
    let mode = match job.permissions {
        Permissions::Ask => "default",
        Permissions::AcceptEdits => "acceptEdits",
        Permissions::ReadOnly => "plan",
        Permissions::Bypass => "bypassPermissions",
    };
    let mut args: Vec<String> = [
        "-p",
        "--input-format",
        "stream-json",
        "--output-format",
        "stream-json",
        "--verbose",
        "--include-partial-messages",
        "--permission-mode",
        mode,
        "--permission-prompt-tool",
        "stdio",
        "--strict-mcp-config",
    ]
    .map(str::to_owned)
    .into();
    let mut add = |name: &str, value: String| args.extend([name.to_owned(), value]);
    add(if resumed { "--resume" } else { "--session-id" }, session.to_string());
    if job.permissions != Permissions::Bypass {
        // Hooks and rules of the repository would allow themselves things.
        add("--setting-sources", "user".to_owned());
    }
    if job.permissions == Permissions::ReadOnly {
        // Where an account has it, a model would allow commands in place of a person.
        let settings = json!({"useAutoModeDuringPlan": false,
            "permissions": {"disableAutoMode": "disable"}});
        add("--settings", settings.to_string());
    }
    if !job.instructions.is_empty() {
        add("--append-system-prompt", job.instructions.clone());
        // A resumed session would go on with the rules that it began with.
        add("--system-prompt-snapshot", "off".to_owned());
    }
    mcp.into_iter().for_each(|config| add("--mcp-config", config));
    args
}

#[async_trait]
impl Runtime for ClaudeCode {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::ClaudeCode
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
        Ok(Found::tested(RuntimeKind::ClaudeCode, program, version, CLAUDE_VERSION))
    }

    async fn start(&self, launch: Launch) -> Result<Started, StartError> {
        let program = self.find()?;
        make_private(&launch.state_dir)?;
        let mut env = self.environment(&launch)?;
        link_skills(&launch.job, &launch.state_dir.join("claude/skills"))?;
        let mcp = mcp_config(&launch, &mut env)?;
        let wanted = launch.job.session.clone();
        let resumed = wanted.as_ref().is_some_and(|session| Self::has_session(&launch, session));
        let session = match wanted.clone().filter(|_| resumed) {
            Some(session) => session,
            None => SessionId(Uuid::new_v4().to_string()),
        };
        let args = arguments(&launch.job, &session, resumed, mcp);
        let program = Program {
            program,
            args: args.into_iter().map(Into::into).collect(),
            cwd: launch.cwd.clone(),
            env: env.into_vec(),
            pids_max: launch.job.limits.pids_max,
            memory_bytes_max: launch.job.limits.memory_bytes_max,
            one_output: false,
        };
        let limits = launch.job.limits;
        let lost = wanted.is_some() && !resumed;
        let dialect = ClaudeDialect::new(&launch.job, session, resumed, lost);
        drive::start(&self.machine.containment, &program, Box::new(dialect), launch.secrets, limits)
    }
}
