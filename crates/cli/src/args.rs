//! The command line.

mod admin;
mod people;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

pub use admin::{
    ActorsArgs, AdminVerb, BackupArgs, LetterVerb, NodeArgs, RebalanceArg, ShardsArgs, WatchArgs,
};
pub use people::{GitVerb, KeyVerb, UserVerb};

use crate::error::EXIT_CODES;

/// The help of the whole program: as clap has it, and the exit codes.
fn help_template() -> String {
    let clap =
        "{before-help}{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}{after-help}";
    format!("{clap}\n\n{EXIT_CODES}")
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
#[command(help_template = help_template())]
pub struct GlobalArgs {
    /// The node, if not that of the context: http://host:port or https://host:port
    #[arg(long, global = true, env = "TROUPE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// PEM of the authority that signed the node's certificate, if it is not one of the machine's;
    /// `login` and `setup` remember it
    #[arg(long, global = true, env = "TROUPE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
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
    /// YAML (a document per event where events are followed)
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
  troupe login https://troupe.example.com --ca-file ca.pem
  echo \"$PASSWORD\" | troupe login --user ada --password-stdin")]
    Login(LoginArgs),
    /// Ends the login of the context
    #[command(after_help = "Examples:
  troupe logout
  troupe logout --context troupe.example.com")]
    Logout,
    /// Makes the first administrator with the one-time token that `troupe up` prints
    #[command(after_help = "Examples:
  troupe setup \"$SETUP_TOKEN\"
  echo \"$PASSWORD\" | troupe setup \"$SETUP_TOKEN\" --user ada --password-stdin")]
    Setup(SetupArgs),
    /// Lists or switches contexts
    #[command(after_help = "Examples:
  troupe context
  troupe context troupe.example.com")]
    Context {
        /// Switch to this one
        name: Option<String>,
    },
    /// Creates or changes resources from files, all or nothing per namespace
    #[command(after_help = "Examples:
  troupe apply -f team.yaml
  troupe apply -f models.yaml -f bots.json
  troupe apply -f ./resources --dry-run
  cat bot.yaml | troupe apply -f -")]
    Apply(ApplyArgs),
    /// Lists resources, or shows one
    #[command(after_help = "Examples:
  troupe get teams
  troupe get team plan-then-build -o yaml
  troupe get models -l tier=fast
  troupe get teams --watch
  troupe get teams --deleted")]
    Get(GetArgs),
    /// Shows one resource: names, owner, version, labels and spec
    #[command(after_help = "Examples:
  troupe describe team plan-then-build
  troupe describe model local -o yaml")]
    Describe(DescribeArgs),
    /// Deletes resources by name or by file; one that others use stays, and they are named
    ///
    /// What is deleted can be brought back for 30 days: troupe undelete
    #[command(after_help = "Examples:
  troupe delete team review
  troupe delete bot ann oskar
  troupe delete -f team.yaml
  troupe delete model old --purge     # for good, its key with it")]
    Delete(DeleteArgs),
    /// Brings deleted resources back as they were
    #[command(after_help = "Examples:
  troupe get teams --deleted
  troupe undelete team review
  troupe undelete bot ann oskar")]
    Undelete(UndeleteArgs),
    /// Makes what a Template holds in your own namespace
    ///
    /// What is there already under one of its names is left as it is, and nothing is made.
    #[command(after_help = "Examples:
  troupe get templates
  troupe instantiate standup --dry-run
  troupe instantiate standup")]
    Instantiate(InstantiateArgs),
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
    /// Uploads and downloads Skills as packages
    #[command(subcommand)]
    Skill(SkillVerb),
    /// Starts a Task and follows it
    #[command(after_help = "Examples:
  troupe run \"What can you do?\"
  troupe run \"Write a parser\" --team plan-then-build
  troupe run --detach -o name \"Translate: hello\" --team translator")]
    Run(RunArgs),
    /// Lists Tasks, newest activity first
    #[command(after_help = "Examples:
  troupe ls
  troupe ls --status running,failed -n 50
  troupe ls --asks -o name")]
    Ls(LsArgs),
    /// Follows a Task
    #[command(after_help = "Examples:
  troupe attach tsk_01k
  troupe attach tsk_01k --turns 3 --follow
  troupe attach tsk_01k -o json")]
    Attach(AttachArgs),
    /// Sends a further message and follows the answer
    #[command(after_help = "Examples:
  troupe send tsk_01k \"And in French?\"
  git diff | troupe send tsk_01k -
  troupe send tsk_01k \"Look again\" --model claude-sonnet-4")]
    Send(SendArgs),
    /// Passes the gate of a pipeline
    #[command(after_help = "Examples:
  troupe confirm tsk_01k
  troupe confirm tsk_01k --message \"Build it, but without the cache\"")]
    Confirm(ConfirmArgs),
    /// Stops what a Task does
    #[command(after_help = "Example:
  troupe cancel tsk_01k")]
    Cancel {
        /// Id of the Task, or a unique beginning of it
        task: String,
    },
    /// Tries the failed message of a Task again
    #[command(after_help = "Examples:
  troupe retry tsk_01k
  troupe retry tsk_01k --model local")]
    Retry(RetryArgs),
    /// Says why a Task waits or what it does
    #[command(after_help = "Examples:
  troupe why tsk_01k
  troupe why tsk_01k -o json")]
    Why {
        /// Id of the Task, or a unique beginning of it
        task: String,
    },
    /// Prints what the agents of a Task changed in files
    #[command(after_help = "Examples:
  troupe diff tsk_01k
  troupe diff tsk_01k --turn 2 | git apply
  troupe diff tsk_01k -o name")]
    Diff(DiffArgs),
    /// Manages devices: machines that run agents
    #[command(subcommand)]
    Device(DeviceVerb),
    /// Runs one program on a device and ends with its exit code
    #[command(after_help = "Examples:
  troupe exec laptop -- make test
  troupe exec laptop -- sh -c 'df -h | head -n 3'

The device's policy says which programs may run: `commands` in its policy.toml.")]
    Exec(ExecArgs),
    /// Lists what agents ask, over all Tasks
    #[command(after_help = "Examples:
  troupe asks
  troupe asks -o name | while read task block; do troupe approve $task $block; done")]
    Asks,
    /// Allows what an agent asks for
    #[command(after_help = "Examples:
  troupe approve tsk_01k
  troupe approve tsk_01k 2.1.3 --always")]
    Approve(ApproveArgs),
    /// Denies what an agent asks for
    #[command(after_help = "Examples:
  troupe deny tsk_01k
  troupe deny tsk_01k 2.1.3 --message \"Not in this directory\"")]
    Deny(DenyArgs),
    /// Answers the question of an agent
    #[command(after_help = "Example:
  troupe answer tsk_01k \"Use PostgreSQL\"")]
    Answer(AnswerArgs),
    /// Manages API keys
    #[command(subcommand)]
    Key(KeyVerb),
    /// Manages git tokens: what devices clone private repositories with
    #[command(subcommand)]
    Git(GitVerb),
    /// Manages users (administrators)
    #[command(subcommand)]
    User(UserVerb),
    /// Looks after a node or a cluster (administrators)
    #[command(subcommand)]
    Admin(AdminVerb),
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
    /// File, directory, or - for standard input (repeatable; all are applied as one)
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
    /// What was deleted and can be undeleted, instead of what there is
    #[arg(long, conflicts_with_all = ["watch", "selector", "min_version"])]
    pub deleted: bool,
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
    /// For good, also what is deleted already; else it can be undeleted for 30 days
    #[arg(long, conflicts_with = "file")]
    pub purge: bool,
}

/// Of `undelete`.
#[derive(Clone, Debug, Args)]
pub struct UndeleteArgs {
    /// Kind
    pub kind: String,
    /// Names
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

/// Of `instantiate`.
#[derive(Clone, Debug, Args)]
pub struct InstantiateArgs {
    /// Template
    pub name: String,
    /// Its namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Say what would be made, and make nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `model ..`
#[derive(Clone, Debug, Subcommand)]
pub enum ModelVerb {
    /// Adds a model of a provider
    #[command(after_help = "Examples:
  troupe model add anthropic --model claude-sonnet-4 --key-from-env ANTHROPIC_API_KEY
  troupe model add openai --model gpt-5 --base-url https://llm.example.org/v1 --key-stdin
  troupe model add openai --name local --model qwen3 --base-url http://127.0.0.1:11434/v1 --no-key
  troupe model add openai --model gpt-5 --key-stdin --namespace public     # for everybody (administrators)")]
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

/// `skill ..`
#[derive(Clone, Debug, Subcommand)]
pub enum SkillVerb {
    /// Makes a Skill of a folder or a ZIP, or replaces the one of this name
    ///
    /// The folder holds SKILL.md, whose front matter names at least `description`; bindShells says
    /// which Shells it is for (by default ClaudeCode).
    #[command(after_help = "Examples:
  troupe skill upload ./review
  troupe skill upload review.zip --name code-review --namespace team")]
    Upload(SkillUploadArgs),
    /// Writes the package of a Skill to a file
    #[command(after_help = "Examples:
  troupe skill download review
  troupe skill download review --file - | bsdtar -t")]
    Download(SkillDownloadArgs),
}

/// Of `skill upload`.
#[derive(Clone, Debug, Args)]
pub struct SkillUploadArgs {
    /// A folder with SKILL.md in it, or a ZIP of one; at most 10 MiB packed
    pub path: PathBuf,
    /// Name of the Skill [default: as the folder is called]
    #[arg(long)]
    pub name: Option<String>,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

/// Of `skill download`.
#[derive(Clone, Debug, Args)]
pub struct SkillDownloadArgs {
    /// Name of the Skill
    pub name: String,
    /// Where to; - is standard output [default: NAME.zip]
    #[arg(short, long)]
    pub file: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
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
    /// Have models think before they answer, also those whose Model does not say so
    #[arg(long)]
    pub think: bool,
    /// Title of the Task
    #[arg(long)]
    pub title: Option<String>,
    /// A device's name, what it has to be (os=linux,tool=claude>=2,label:gpu), or container
    #[arg(long, value_name = "SELECTOR")]
    pub on: Option<String>,
    /// Where its files come from: https://.., ssh://.., git@host:path, or a directory of the device
    #[arg(long, value_name = "URL|DIR")]
    pub repo: Option<String>,
    /// The branch to start from
    #[arg(long, value_name = "NAME", requires = "repo")]
    pub branch: Option<String>,
    /// Keep the workspace and the container when nobody uses them
    #[arg(long)]
    pub keep: bool,
    /// Work in a git worktree of its own (with a directory)
    #[arg(long, requires = "repo")]
    pub worktree: bool,
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
    /// Only those whose agents wait for you
    #[arg(long)]
    pub asks: bool,
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
    /// A Model for this Task from now on; an empty name: the Bots' own again
    #[arg(short, long)]
    pub model: Option<String>,
    /// Have models think before they answer this message, also those whose Model does not say so
    #[arg(long)]
    pub think: bool,
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

/// Of `diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// Id of the Task, or a unique beginning of it
    pub task: String,
    /// Of this turn, from 1 [default: the last one that changed something]
    #[arg(long, value_name = "N")]
    pub turn: Option<u32>,
}

/// Of `exec`.
#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// A device's name, or what it has to be: os=linux,label:gpu
    pub device: String,
    /// The program and what it is given
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// The Team that runs it: one member with the shell Command
    #[arg(short, long, default_value = "command")]
    pub team: String,
    /// Print the id of its Task and return at once
    #[arg(short, long)]
    pub detach: bool,
}

/// `device ..`
#[derive(Clone, Debug, Subcommand)]
pub enum DeviceVerb {
    /// Prints the line that makes a machine a device; waits and says what joined
    #[command(after_help = "Examples:
  troupe device invite
  troupe device invite --name laptop --address troupe.example.org:8443
  troupe device invite --no-wait -o json")]
    Invite {
        /// Name of the device [default: the machine's own]
        #[arg(long)]
        name: Option<String>,
        /// Where the machine reaches the cluster [default: as the node knows it]
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,
        /// Return at once
        #[arg(long)]
        no_wait: bool,
    },
    /// Lists devices
    Ls,
    /// Shows one
    Describe {
        /// Id, name or alias
        device: String,
    },
    /// Changes alias, labels, slots, or which device is preferred
    Set {
        /// Id, name or alias
        device: String,
        /// Another name
        #[arg(long)]
        alias: Option<String>,
        /// All labels that you give it (repeatable)
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// Executions at once, 1 to 20
        #[arg(long)]
        slots: Option<u16>,
        /// Prefer it where several fit
        #[arg(long)]
        default: bool,
    },
    /// Takes one out for good; its link ends at once, what it runs is lost
    Revoke {
        /// Id, name or alias
        device: String,
    },
    /// Gives one no new work; what runs goes on
    Drain {
        /// Id, name or alias
        device: String,
        /// Gives it new work again
        #[arg(long)]
        undo: bool,
    },
}

/// Of `approve`.
#[derive(Clone, Debug, Args)]
pub struct ApproveArgs {
    /// Id of the Task, or a unique beginning of it
    pub task: String,
    /// The block that asks [default: the only one]
    pub block: Option<String>,
    /// The same in this Task from now on
    #[arg(long)]
    pub always: bool,
}

/// Of `deny`.
#[derive(Clone, Debug, Args)]
pub struct DenyArgs {
    /// Id of the Task, or a unique beginning of it
    pub task: String,
    /// The block that asks [default: the only one]
    pub block: Option<String>,
    /// What the agent is told
    #[arg(short, long)]
    pub message: Option<String>,
}

/// Of `answer`.
#[derive(Clone, Debug, Args)]
pub struct AnswerArgs {
    /// Id of the Task, or a unique beginning of it
    pub task: String,
    /// The answer, or QUESTION=ANSWER for one of several questions (repeatable)
    #[arg(required = true)]
    pub answers: Vec<String>,
    /// The block that asks [default: the only one]
    #[arg(long)]
    pub block: Option<String>,
}
