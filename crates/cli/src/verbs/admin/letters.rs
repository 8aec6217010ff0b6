//! `admin dead-letters ..`
#![expect(clippy::print_stdout, reason = "a client prints")]

use serde_json::{Value, json};
use troupe_api::{
    admin::{DeadLetterView, RetriedLetter},
    task::Page,
};

use super::{failed, value_of};
use crate::{
    args::{Format, LetterVerb},
    client::{Client, segment},
    error::CliError,
    output::{self, Table},
};

const LETTERS: &str = "/api/v1/admin/dead-letters";

pub(super) async fn run(
    client: &Client,
    format: Format,
    verb: Option<LetterVerb>,
) -> Result<(), CliError> {
    match verb.unwrap_or(LetterVerb::Ls) {
        LetterVerb::Ls => list(client, format).await,
        LetterVerb::Show { id } => show(client, format, &id).await,
        LetterVerb::Retry { id } => retry(client, format, &id).await,
        LetterVerb::Discard { id, reason } => {
            let path = format!("{LETTERS}/{}/discard", segment(&id));
            client.post::<Value>(&path, &json!({ "reason": reason })).await?;
            println!("dead-letter/{id} discarded");
            Ok(())
        }
    }
}

async fn list(client: &Client, format: Format) -> Result<(), CliError> {
    let page: Page<DeadLetterView> = client.get(&format!("{LETTERS}?limit=200")).await?;
    let table = || {
        if page.items.is_empty() {
            return "no dead letters\n".to_owned();
        }
        let mut table = Table::new(&["id", "at", "entity", "what", "strikes", "error"]);
        for letter in &page.items {
            table.row(vec![
                letter.id.clone(),
                letter.at.to_string(),
                letter.entity.clone(),
                letter.what.clone(),
                letter.strikes.to_string(),
                letter.error.chars().take(100).collect(),
            ]);
        }
        let mut text = table.render();
        let shown = page.items.len() as u64;
        if page.total > shown {
            text.push_str(&format!("{} more\n", page.total - shown));
        }
        text
    };
    let names = || page.items.iter().map(|letter| letter.id.clone()).collect();
    output::print(format, &value_of(&page), table, names);
    Ok(())
}

async fn show(client: &Client, format: Format, id: &str) -> Result<(), CliError> {
    let letter: DeadLetterView = client.get(&format!("{LETTERS}/{}", segment(id))).await?;
    let words = || {
        let message = letter.message.as_ref().map(|m| format!("{m:#}\n")).unwrap_or_default();
        format!(
            "{}\n  for      {} (shard {})\n  given up {} after {} tries\n  what     {}, {} \
             bytes\n  error    {}\n{message}",
            letter.id,
            letter.entity,
            letter.shard,
            letter.at,
            letter.strikes,
            letter.what,
            letter.bytes,
            letter.error,
        )
    };
    output::print(format, &value_of(&letter), words, || vec![letter.id.clone()]);
    Ok(())
}

async fn retry(client: &Client, format: Format, id: &str) -> Result<(), CliError> {
    let path = format!("{LETTERS}/{}/retry", segment(id));
    let done: RetriedLetter = client.post(&path, &json!({})).await?;
    if done.outcome == "given_up" {
        return Err(failed("given_up", done.detail));
    }
    let line = || format!("{}: {}\n", done.outcome, done.detail);
    output::print(format, &value_of(&done), line, || vec![done.id.clone()]);
    Ok(())
}
