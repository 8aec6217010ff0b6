//! The command line.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// What every verb takes.
#[derive(Clone, Debug, Args)]
pub struct GlobalArgs {
    /// The node, if not that of the context: http://host:port
    #[arg(long, global = true, env = "TROUPE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// An API key or access token, if not that of the context
    #[arg(long, global = true, env = "TROUPE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The context to use
    #[arg(long, global = true, env = "TROUPE_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// The contexts file [default: ~/.config/troupe/contexts.toml]
    #[arg(long, global = true, env = "TROUPE_CONTEXTS", value_name = "FILE")]
    pub contexts_file: Option<PathBuf>,
    /// How to print
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub output: Format,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// JSON (a line per event where events are followed)
    Json,
    /// YAML
    Yaml,
    /// Names or ids only, one a line
    Name,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Logs in and remembers it as a context
    #[command(after_help = "Examples:
  troupe login
  troupe login http://127.0.0.1:8080 --user admin
  echo \"$PASSWORD\" | troupe login --user ada --password-stdin")]
    Login(LoginArgs),
    /// Ends the login of the context
    Logout,
    /// Makes the first administrator with the one-time token that `troupe up` prints
    Setup(SetupArgs),
    /// Lists or switches contexts
    Context {
        /// Switch to this one
        name: Option<String>,
    },
    /// Creates or changes resources from files, all or nothing per namespace
    #[command(after_help = "Examples:
  troupe apply -f team.yaml
  troupe apply -f ./resources --dry-run
  cat bot.yaml | troupe apply -f -")]
    Apply(ApplyArgs),
    /// Lists resources, or shows one
    #[command(after_help = "Examples:
  troupe get teams
  troupe get team plan-then-build -o yaml
  troupe get models -l tier=fast")]
    Get(GetArgs),
    /// Shows a resource with who uses it
    Describe(DescribeArgs),
    /// Deletes resources by name or by file
    Delete(DeleteArgs),
    /// Explains the fields of a kind
    #[command(after_help = "Examples:
  troupe explain team
  troupe explain team.spec.members")]
    Explain {
        /// KIND or KIND.path.to.field
        what: String,
    },
    /// Adds models
    #[command(subcommand)]
    Model(ModelVerb),
    /// Starts a Task and follows it
    #[command(after_help = "Examples:
  troupe run \"What can you do?\"
  troupe run \"Write a parser\" --team plan-then-build
  troupe run --detach -o name \"Translate: hello\" --team translator")]
    Run(RunArgs),
    /// Lists Tasks, newest activity first
    Ls(LsArgs),
    /// Follows a Task
    Attach(AttachArgs),
    /// Sends a further message and follows the answer
    Send(SendArgs),
    /// Passes the gate of a pipeline
    Confirm(ConfirmArgs),
    /// Stops what a Task does
    Cancel {
        /// Id of the Task, or a unique beginning of it
        task: String,
    },
    /// Tries the failed message of a Task again
    Retry(RetryArgs),
    /// Says why a Task waits or what it does
    Why {
        /// Id of the Task, or a unique beginning of it
        task: String,
    },
    /// Manages API keys
    #[command(subcommand)]
    Key(KeyVerb),
    /// Manages users (administrators)
    #[command(subcommand)]
    User(UserVerb),
    /// Prints a completion script for a shell
    #[command(after_help = "Example:
  troupe completion bash > /etc/bash_completion.d/troupe")]
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Of `login`.
#[derive(Clone, Debug, Args)]
pub struct LoginArgs {
    /// The node [default: that of the context, else http://127.0.0.1:8080]
    pub node: Option<String>,
    /// User name [default: asked for]
    #[arg(short, long)]
    pub user: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Name of the context [default: the node's host and port]
    #[arg(long)]
    pub name: Option<String>,
}

/// Of `setup`.
#[derive(Clone, Debug, Args)]
pub struct SetupArgs {
    /// The one-time token
    pub setup_token: String,
    /// Name of the administrator
    #[arg(short, long, default_value = "admin")]
    pub user: String,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
}

/// Of `apply`.
#[derive(Clone, Debug, Args)]
pub struct ApplyArgs {
    /// File, directory, or - for standard input (repeatable)
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// Namespace of documents that name none
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Check and say what would happen, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Unknown fields are warnings (for YAML of the upstream system)
    #[arg(long)]
    pub ignore_unknown: bool,
}

/// Of `get`.
#[derive(Clone, Debug, Args)]
pub struct GetArgs {
    /// Kind: teams, team, kb..
    pub kind: String,
    /// Names [default: all]
    pub names: Vec<String>,
    /// Only this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Only those with these labels: a=b,c!=d
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Stay and print what changes
    #[arg(short, long)]
    pub watch: bool,
    /// Only at this version of the namespace or a later one, as `apply -o json` tells it
    #[arg(long, value_name = "VERSION")]
    pub min_version: Option<u64>,
}

/// Of `describe`.
#[derive(Clone, Debug, Args)]
pub struct DescribeArgs {
    /// Kind
    pub kind: String,
    /// Name
    pub name: String,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

/// Of `delete`.
#[derive(Clone, Debug, Args)]
pub struct DeleteArgs {
    /// Kind
    #[arg(required_unless_present = "file")]
    pub kind: Option<String>,
    /// Names
    pub names: Vec<String>,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// What these files name (repeatable)
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "kind")]
    pub file: Vec<PathBuf>,
}

/// `model ..`
#[derive(Clone, Debug, Subcommand)]
pub enum ModelVerb {
    /// Adds a model of a provider
    #[command(after_help = "Examples:
  troupe model add anthropic --model claude-sonnet-4 --key-from-env ANTHROPIC_API_KEY
  troupe model add openai --model gpt-5 --base-url https://llm.example.org/v1 --key-stdin
  troupe model add openai --name local --model qwen3 --base-url http://127.0.0.1:11434/v1 --no-key")]
    Add(ModelAddArgs),
}

/// Of `model add`.
#[derive(Clone, Debug, Args)]
pub struct ModelAddArgs {
    /// Whose protocol it speaks
    #[arg(value_enum)]
    pub provider: ProviderArg,
    /// The provider's id of the model
    #[arg(short, long)]
    pub model: Option<String>,
    /// Name of the resource [default: made of the model's id]
    #[arg(long)]
    pub name: Option<String>,
    /// Another server than the provider's own
    #[arg(long)]
    pub base_url: Option<String>,
    /// Variable of the environment that holds the key
    #[arg(long, value_name = "VARIABLE", conflicts_with_all = ["key_stdin", "no_key"])]
    pub key_from_env: Option<String>,
    /// Read the key from standard input
    #[arg(long, conflicts_with = "no_key")]
    pub key_stdin: bool,
    /// The server wants no key
    #[arg(long)]
    pub no_key: bool,
    /// Use it for Bots that name no model
    #[arg(long)]
    pub default: bool,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

/// Whose protocol a model speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProviderArg {
    /// Anthropic Messages
    Anthropic,
    /// OpenAI chat completions, at OpenAI or any compatible server
    Openai,
    /// The scripted demo model
    Demo,
}

/// Of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What to do; - reads standard input
    pub prompt: String,
    /// The Team: NAME or NAMESPACE/NAME
    #[arg(short, long, default_value = "assistant")]
    pub team: String,
    /// A Model for this Task instead of the Bots' own
    #[arg(short, long)]
    pub model: Option<String>,
    /// Title of the Task
    #[arg(long)]
    pub title: Option<String>,
    /// Print the id and return at once
    #[arg(short, long)]
    pub detach: bool,
    /// Pass gates without asking
    #[arg(long)]
    pub yes: bool,
}

/// Of `ls`.
#[derive(Clone, Debug, Args)]
pub struct LsArgs {
    /// Only these: running, pending, pending_confirmation, completed, failed, cancelled
    #[arg(short, long, value_delimiter = ',')]
    pub status: Vec<String>,
    /// Only titles that hold this
    #[arg(long)]
    pub text: Option<String>,
    /// How many
    #[arg(short = 'n', long, default_value_t = 20)]
    pub limit: u32,
}

/// Of `attach`.
#[derive(Clone, Debug, Args)]
pub struct AttachArgs {
    /// Id of the Task, or a unique beginning of it
    pub task: String,
    /// How many earlier turns to print first
    #[arg(long, default_value_t = 1)]
    pub turns: u32,
    /// Stay after the turn has ended
    #[arg(long)]
    pub follow: bool,
}

/// Of `send`.
#[derive(Clone, Debug, Args)]
pub struct SendArgs {
    /// Id of the Task, or a unique beginning of it
    pub task: String,
    /// The message; - reads standard input
    pub message: String,
    /// Return at once
    #[arg(short, long)]
    pub detach: bool,
}

/// Of `confirm`.
#[derive(Clone, Debug, Args)]
pub struct ConfirmArgs {
    /// Id of the Task, or a unique beginning of it
    pub task: String,
    /// Replaces the automatic hand-off text
    #[arg(short, long)]
    pub message: Option<String>,
    /// Return at once
    #[arg(short, long)]
    pub detach: bool,
}

/// Of `retry`.
#[derive(Clone, Debug, Args)]
pub struct RetryArgs {
    /// Id of the Task, or a unique beginning of it
    pub task: String,
    /// Another Model for this turn
    #[arg(short, long)]
    pub model: Option<String>,
    /// Return at once
    #[arg(short, long)]
    pub detach: bool,
}

/// `key ..`
#[derive(Clone, Debug, Subcommand)]
pub enum KeyVerb {
    /// Makes a key; it is shown once
    Add {
        /// Name
        name: String,
    },
    /// Lists keys
    Ls,
    /// Deletes a key
    Delete {
        /// Id
        id: String,
    },
}

/// `user ..`
#[derive(Clone, Debug, Subcommand)]
pub enum UserVerb {
    /// Makes a user; the password comes from standard input or is asked for
    Add {
        /// Name
        name: String,
        /// May do everything
        #[arg(long)]
        admin: bool,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Lists users
    Ls,
}
