//! `login`, `logout`, `setup`, `context`.
#![expect(clippy::print_stdout, reason = "a client prints")]

use std::path::PathBuf;

use serde_json::{Value, json};
use troupe_api::auth::TokenAnswer;

use super::secret;
use crate::{
    args::{GlobalArgs, LoginArgs, SetupArgs},
    client::{Client, contexts_path, normal_url},
    context::{Context, Contexts, DEFAULT_URL},
    error::CliError,
    output::{self, Table},
};

pub(super) async fn login(args: &GlobalArgs, login: LoginArgs) -> Result<(), CliError> {
    let path = contexts_path(args);
    let contexts = Contexts::load(&path)?;
    let named = args.context.as_ref().unwrap_or(&contexts.current);
    let known = contexts.contexts.get(named);
    let url = login
        .node
        .or_else(|| args.url.clone())
        .or_else(|| known.map(|c| c.url.clone()))
        .unwrap_or_else(|| DEFAULT_URL.to_owned());
    let url = normal_url(&url);
    let known = contexts.contexts.values().filter(|known| known.url == url);
    let ca_file = ca_file(args)?.or_else(|| known.filter_map(|known| known.ca_file.clone()).next());
    let client = Client::anonymous(&url, ca_file.as_deref())?;
    let user = match login.user {
        Some(user) => user,
        None if login.password_stdin => {
            return Err(CliError::Usage("--password-stdin needs --user".into()));
        }
        None => ask("User name: ")?,
    };
    let password = secret(login.password_stdin, "Password: ")?;
    let body = json!({"user_name": user, "password": password});
    let answer: TokenAnswer = client.post("/api/v1/auth/login", &body).await?;
    let name = login.name.or_else(|| args.context.clone());
    remember(args, url, ca_file, name, answer)
}

pub(super) async fn setup(args: &GlobalArgs, setup: SetupArgs) -> Result<(), CliError> {
    let url = normal_url(args.url.as_deref().unwrap_or(DEFAULT_URL));
    let ca_file = ca_file(args)?;
    let client = Client::anonymous(&url, ca_file.as_deref())?;
    let password = secret(setup.password_stdin, "New password: ")?;
    let body = json!({
        "token": setup.setup_token, "user_name": setup.user, "password": password,
    });
    let answer: TokenAnswer = client.post("/api/v1/setup", &body).await?;
    remember(args, url, ca_file, args.context.clone(), answer)
}

/// Where it is from everywhere: it is remembered.
fn ca_file(args: &GlobalArgs) -> Result<Option<PathBuf>, CliError> {
    let absolute = args.ca_file.as_ref().map(|file| {
        let failed = |e| CliError::local(format!("--ca-file: {}", file.display()), e);
        std::path::absolute(file).map_err(failed)
    });
    absolute.transpose()
}

fn remember(
    args: &GlobalArgs,
    url: String,
    ca_file: Option<PathBuf>,
    name: Option<String>,
    answer: TokenAnswer,
) -> Result<(), CliError> {
    let path = contexts_path(args);
    let mut contexts = Contexts::load(&path)?;
    let name = name.unwrap_or_else(|| {
        url.trim_start_matches("https://").trim_start_matches("http://").replace(':', "-")
    });
    let user_name = answer.user.user_name;
    println!("logged in to {url} as {user_name} (context {name})");
    let context = Context {
        url,
        ca_file,
        user_name,
        access_token: answer.access_token,
        refresh_token: answer.refresh_token.unwrap_or_default(),
    };
    contexts.contexts.insert(name.clone(), context);
    contexts.current = name;
    contexts.save(&path)
}

pub(super) async fn logout(args: &GlobalArgs) -> Result<(), CliError> {
    let client = Client::new(args)?;
    if let Some(refresh_token) = client.refresh_token().await {
        let body = json!({"refresh_token": refresh_token});
        client.post::<Value>("/api/v1/auth/logout", &body).await?;
    }
    let path = contexts_path(args);
    let mut contexts = Contexts::load(&path)?;
    let name = args.context.clone().unwrap_or_else(|| contexts.current.clone());
    if let Some(context) = contexts.contexts.get_mut(&name) {
        context.access_token.clear();
        context.refresh_token.clear();
        contexts.save(&path)?;
    }
    println!("logged out of {}", client.url());
    Ok(())
}

pub(super) fn context(args: &GlobalArgs, name: Option<String>) -> Result<(), CliError> {
    let path = contexts_path(args);
    let mut contexts = Contexts::load(&path)?;
    if let Some(name) = name {
        if !contexts.contexts.contains_key(&name) {
            return Err(CliError::Usage(format!("no context `{name}`; see: troupe context")));
        }
        contexts.current = name;
        return contexts.save(&path);
    }
    let value = json!(contexts.contexts.iter().map(|(name, c)| json!({
        "name": name, "url": c.url, "user_name": c.user_name, "current": *name == contexts.current,
    })).collect::<Vec<_>>());
    let table = || {
        let mut table = Table::new(&["current", "name", "url", "user"]);
        for (name, c) in &contexts.contexts {
            let mark = if *name == contexts.current { "*" } else { "" };
            table.row(vec![mark.into(), name.clone(), c.url.clone(), c.user_name.clone()]);
        }
        table.render()
    };
    output::print(args.output, &value, table, || contexts.contexts.keys().cloned().collect());
    Ok(())
}

fn ask(prompt: &str) -> Result<String, CliError> {
    use std::io::Write as _;
    print!("{prompt}");
    let _ = std::io::stdout().flush();
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(n) if n > 0 => Ok(line.trim().to_owned()),
        _ => Err(CliError::Usage("give --user: there is nobody to ask".into())),
    }
}
