//! `key ..`, `git ..`, `user ..`
#![expect(clippy::print_stdout, reason = "a client prints")]

use serde_json::{Value, json};
use troupe_types::ApiKeyId;

use super::{beginning, only_one, secret};
use crate::{
    args::{Format, GitVerb, KeyVerb, UserVerb},
    client::{Client, segment},
    error::CliError,
    output::{self, Table},
};

const KEYS: &str = "/api/v1/api-keys";

pub(super) async fn keys(client: &Client, format: Format, verb: KeyVerb) -> Result<(), CliError> {
    match verb {
        KeyVerb::Add { name } => {
            let made: Value = client.post(KEYS, &json!({"name": name})).await?;
            let key = made["key"].as_str().unwrap_or_default().to_owned();
            let table = || format!("{key}\nKeep it now: it is shown once.\n");
            output::print(format, &made, table, || vec![key.clone()]);
        }
        KeyVerb::Ls => {
            let list: Value = client.get(KEYS).await?;
            print_list(format, &list, &["id", "name", "key_prefix", "expires_at", "last_used_at"]);
        }
        KeyVerb::Delete { id } => {
            let id = key_id(client, &id).await?;
            client.delete(&format!("{KEYS}/{id}")).await?;
            println!("key/{id} deleted");
        }
    }
    Ok(())
}

/// A whole id, or a unique beginning of one (with or without `key_`).
async fn key_id(client: &Client, given: &str) -> Result<ApiKeyId, CliError> {
    if let Ok(id) = given.parse() {
        return Ok(id);
    }
    let wanted = beginning(given, ApiKeyId::PREFIX)?;
    let list: Value = client.get(KEYS).await?;
    let mut found = Vec::new();
    for key in list["items"].as_array().into_iter().flatten() {
        let id = key["id"].as_str().unwrap_or_default();
        let begins = id.strip_prefix("key_").is_some_and(|id| id.starts_with(&wanted));
        if let (true, Ok(id)) = (begins, id.parse::<ApiKeyId>()) {
            found.push((id, key["name"].as_str().unwrap_or_default().to_owned()));
        }
    }
    only_one(given, "key", "troupe key ls", &found)
}

pub(super) async fn git(client: &Client, format: Format, verb: GitVerb) -> Result<(), CliError> {
    const PATH: &str = "/api/v1/users/me/git";
    let at = |host: &str| format!("{PATH}/{}", segment(host));
    match verb {
        GitVerb::Add { host, user, token_stdin } => {
            let token = secret(token_stdin, "Token: ")?;
            let set: Value = client.put(&at(&host), &json!({"token": token, "user": user})).await?;
            let host = set["host"].as_str().unwrap_or_default().to_owned();
            let table = || format!("git/{host} set: clones of https://{host}/.. use it\n");
            output::print(format, &set, table, || vec![host.clone()]);
        }
        GitVerb::Ls => {
            let list: Value = client.get(PATH).await?;
            print_list(format, &list, &["host", "user", "token", "updated_at"]);
        }
        GitVerb::Delete { host } => {
            client.delete(&at(&host)).await?;
            println!("git/{host} deleted");
        }
    }
    Ok(())
}

pub(super) async fn users(client: &Client, format: Format, verb: UserVerb) -> Result<(), CliError> {
    match verb {
        UserVerb::Add { name, admin, password_stdin } => {
            let password = secret(password_stdin, "Password of the new user: ")?;
            let role = if admin { "admin" } else { "user" };
            let body = json!({"user_name": name, "password": password, "role": role});
            let made: Value = client.post("/api/v1/users", &body).await?;
            output::print(
                format,
                &made,
                || format!("user/{name} created\n"),
                || vec![name.clone()],
            );
        }
        UserVerb::Ls => {
            let list: Value = client.get("/api/v1/users").await?;
            print_list(format, &list, &["id", "user_name", "role", "is_active", "created_at"]);
        }
    }
    Ok(())
}

fn print_list(format: Format, list: &Value, columns: &[&'static str]) {
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let cell = |v: &Value| match v {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let table = || {
        let mut table = Table::new(columns);
        for item in &items {
            table.row(columns.iter().map(|c| cell(&item[*c])).collect());
        }
        table.render()
    };
    let names = || items.iter().map(|i| cell(&i["id"])).collect();
    output::print(format, list, table, names);
}
