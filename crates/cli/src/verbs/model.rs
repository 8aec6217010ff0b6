//! `model add`.

use serde_json::{Value, json};
use troupe_api::resource::ApplyAnswer;

use super::secret;
use crate::{
    args::{Format, ModelAddArgs, ModelVerb, ProviderArg},
    client::{Client, segment},
    error::CliError,
    output,
};

pub(super) async fn run(client: &Client, format: Format, verb: ModelVerb) -> Result<(), CliError> {
    let ModelVerb::Add(args) = verb;
    let document = document(&args, key(&args)?)?;
    let path = format!("/api/v1/namespaces/{}/apply", segment(&args.namespace));
    let answer: ApplyAnswer = client.post(&path, &document).await?;
    let value = serde_json::to_value(&answer).unwrap_or_default();
    let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let operation = answer.results.first().map_or("applied", |r| r.operation.as_str()).to_owned();
    let table =
        || format!("model/{name} {operation}\ntry it: troupe run \"Say hello\" --model {name}\n");
    output::print(format, &value, table, || vec![format!("model/{name}")]);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the person names the variable that holds the key")]
fn key(args: &ModelAddArgs) -> Result<Option<String>, CliError> {
    if args.no_key || args.provider == ProviderArg::Demo {
        return Ok(None);
    }
    if let Some(variable) = &args.key_from_env {
        let found = std::env::var(variable).ok().filter(|v| !v.is_empty());
        return match found {
            Some(key) => Ok(Some(key)),
            None => Err(CliError::Usage(format!("the variable {variable} is not set"))),
        };
    }
    secret(args.key_stdin, "Key: ").map(Some)
}

fn document(args: &ModelAddArgs, key: Option<String>) -> Result<Value, CliError> {
    let (provider, fallback) = match args.provider {
        ProviderArg::Anthropic => ("claude", None),
        ProviderArg::Openai => ("openai", None),
        ProviderArg::Demo => ("demo", Some("demo")),
    };
    let model_id = args.model.as_deref().or(fallback).ok_or_else(|| {
        CliError::Usage("give the provider's id of the model: --model ID".to_owned())
    })?;
    let name = args.name.clone().unwrap_or_else(|| resource_name(model_id));
    let mut env = json!({"model": provider, "model_id": model_id});
    if let Some(key) = key {
        env["api_key"] = key.into();
    }
    if let Some(base_url) = &args.base_url {
        env["base_url"] = base_url.as_str().into();
    }
    let mut metadata = json!({"name": name, "namespace": args.namespace});
    if args.default {
        metadata["labels"] = json!({"default": "true"});
    }
    Ok(json!({
        "apiVersion": "agent.wecode.io/v1",
        "kind": "Model",
        "metadata": metadata,
        "spec": {"modelConfig": {"env": env}},
    }))
}

/// A model's id as a name: lower case, everything unusual becomes a hyphen.
fn resource_name(model_id: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = model_id.to_ascii_lowercase().chars().map(clean).collect();
    name.trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_ids() {
        assert_eq!(resource_name("Qwen/Qwen3:8B"), "qwen-qwen3-8b");
        assert_eq!(resource_name("claude-sonnet-4.5"), "claude-sonnet-4.5");
    }
}
