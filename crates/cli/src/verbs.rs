//! The verbs.

mod admin;
mod asks;
mod device;
mod diff;
mod exec;
mod login;
mod model;
mod people;
mod resources;
mod skill;
mod tasks;

use std::io::Read as _;

use troupe_api::Problem;

use crate::{
    args::{GlobalArgs, Verb},
    client::Client,
    error::CliError,
};

/// Does what the command line says. `command` is the whole program, for completion scripts.
///
/// # Errors
/// See [`CliError`]; its exit code says what sort it is.
pub async fn run(verb: Verb, args: GlobalArgs, command: clap::Command) -> Result<(), CliError> {
    let format = args.output;
    match verb {
        Verb::Login(login) => login::login(&args, login).await,
        Verb::Logout => login::logout(&args).await,
        Verb::Setup(setup) => login::setup(&args, setup).await,
        Verb::Context { name } => login::context(&args, name),
        Verb::Completion { shell } => {
            let mut command = command;
            clap_complete::generate(shell, &mut command, "troupe", &mut std::io::stdout());
            Ok(())
        }
        verb => {
            let client = Client::new(&args)?;
            match verb {
                Verb::Apply(apply) => resources::apply(&client, format, apply).await,
                Verb::Get(get) => resources::get(&client, format, get).await,
                Verb::Describe(what) => resources::describe(&client, format, what).await,
                Verb::Delete(what) => resources::delete(&client, format, what).await,
                Verb::Undelete(what) => resources::undelete(&client, format, what).await,
                Verb::Instantiate(of) => resources::instantiate(&client, format, of).await,
                Verb::Explain { what } => resources::explain(&client, format, &what).await,
                Verb::Model(verb) => model::run(&client, format, verb).await,
                Verb::Skill(verb) => skill::run(&client, format, verb).await,
                Verb::Run(run) => tasks::run(&client, format, run).await,
                Verb::Ls(ls) => tasks::list(&client, format, ls).await,
                Verb::Attach(attach) => tasks::attach(&client, format, attach).await,
                Verb::Send(send) => tasks::send(&client, format, send).await,
                Verb::Confirm(confirm) => tasks::confirm(&client, format, confirm).await,
                Verb::Cancel { task } => tasks::cancel(&client, &task).await,
                Verb::Retry(retry) => tasks::retry(&client, format, retry).await,
                Verb::Why { task } => tasks::why(&client, format, &task).await,
                Verb::Device(verb) => device::run(&client, format, verb).await,
                Verb::Asks => asks::list(&client, format).await,
                Verb::Diff(args) => diff::show(&client, format, args).await,
                Verb::Exec(args) => exec::run(&client, format, args).await,
                Verb::Approve(args) => device::approve(&client, args).await,
                Verb::Deny(args) => device::deny(&client, args).await,
                Verb::Answer(args) => device::answer(&client, args).await,
                Verb::Key(verb) => people::keys(&client, format, verb).await,
                Verb::Git(verb) => people::git(&client, format, verb).await,
                Verb::User(verb) => people::users(&client, format, verb).await,
                Verb::Admin(verb) => admin::run(&client, format, verb).await,
                Verb::Login(_)
                | Verb::Logout
                | Verb::Setup(_)
                | Verb::Context { .. }
                | Verb::Completion { .. } => Ok(()),
            }
        }
    }
}

/// A secret from standard input (one line), or asked for without echo.
///
/// # Errors
/// [`CliError::Usage`] if nothing is given; there is no terminal to ask on.
pub fn secret(from_stdin: bool, prompt: &str) -> Result<String, CliError> {
    let text = if from_stdin {
        stdin_text(64 * 1024)?
    } else {
        rpassword::prompt_password(prompt)
            .map_err(|e| CliError::local("no terminal to ask on; pipe it in instead", e))?
    };
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    if text.is_empty() {
        Err(CliError::Usage(format!("{prompt}nothing was given")))
    } else {
        Ok(text)
    }
}

/// Standard input as text, up to `bytes_max`.
fn stdin_text(bytes_max: u64) -> Result<String, CliError> {
    let mut text = String::new();
    std::io::stdin()
        .take(bytes_max + 1)
        .read_to_string(&mut text)
        .map_err(|e| CliError::local("standard input cannot be read", e))?;
    if text.len() as u64 > bytes_max {
        return Err(CliError::Usage(format!("standard input is larger than {bytes_max} bytes")));
    }
    Ok(text)
}

/// What an id that is not whole begins with, without the word before its `_`.
fn beginning(given: &str, prefix: &str) -> Result<String, CliError> {
    let begin = given.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
    let begin = begin.unwrap_or(given).to_ascii_lowercase();
    if begin.len() < 3 {
        return Err(CliError::Usage(format!("`{given}` is too short: give 3 characters or more")));
    }
    Ok(begin)
}

/// The only id that begins as given; those that were found are told with what they are called.
fn only_one<I: std::fmt::Display + Copy>(
    given: &str,
    what: &str,
    see: &str,
    found: &[(I, String)],
) -> Result<I, CliError> {
    match found {
        [(id, _)] => Ok(*id),
        [] => {
            let text = format!("no {what} begins with `{given}`; see: {see}");
            Err(CliError::Problem(Box::new(Problem::new(404, "not_found", text))))
        }
        many => {
            let line = |(id, name): &(I, String)| format!("\n  {id}  {name}");
            let lines: Vec<String> = many.iter().take(5).map(line).collect();
            let text = format!("several {what}s begin with `{given}`:{}", lines.concat());
            Err(CliError::Usage(text))
        }
    }
}

/// A fresh random id in UUID form, for keys that make a repeated send harmless.
fn fresh_key() -> troupe_types::Uuid {
    use troupe_types::Clock as _;
    troupe_types::MessageId::new(troupe_types::SystemClock::new().now()).uuid()
}
