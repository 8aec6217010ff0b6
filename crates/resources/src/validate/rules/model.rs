//! What the fields of a Model demand of each other, and which of them nothing calls.

use serde_json::{Map, Value};

use super::Scope;
use crate::problem::Code;

/// Fields of a Model's `env` with two spellings: the old one, the one that is kept.
const ENV_SPELLINGS: [(&str, &str); 4] = [
    ("ANTHROPIC_MODEL", "model_id"),
    ("ANTHROPIC_BASE_URL", "base_url"),
    ("ANTHROPIC_AUTH_TOKEN", "api_key"),
    ("ANTHROPIC_API_KEY", "api_key"),
];
/// Fewest tokens of an answer beside thinking: its least budget, and as much for the words.
const THINKING_OUTPUT_MIN: i64 = 2_048;
const ENV: &str = "modelConfig.env.";
/// Sizes of Claude Code's models that jobs do not carry.
const OTHER_SIZES: [&str; 2] = [
    "modelConfig.env.ANTHROPIC_DEFAULT_SONNET_MODEL",
    "modelConfig.env.ANTHROPIC_DEFAULT_OPUS_MODEL",
];
/// Words for the APIs of providers.
pub(crate) const PROTOCOLS: &[&str] =
    &["openai", "openai-responses", "claude", "gemini", "gemini-deep-research"];

/// Path, code and message of an error.
type Trouble = (String, Code, String);

pub(crate) fn model(scope: &mut Scope<'_, '_>) {
    let mut trouble = old_places(scope.value);
    if let Some(config) = scope.value.get_mut("modelConfig").and_then(Value::as_object_mut) {
        if let Some(env) = config.get_mut("env").and_then(Value::as_object_mut) {
            trouble.extend(env_of(env));
        }
        trouble.extend(thinking(config));
    }
    for (path, code, message) in trouble {
        scope.error(&path, code, message);
    }
    for (path, message) in not_called(scope.value) {
        scope.warn(path, message);
    }
}

/// Moves limits from their old places.
fn old_places(value: &mut Map<String, Value>) -> Vec<Trouble> {
    let moved = [("contextWindow", "context_window"), ("maxOutputTokens", "max_output_tokens")];
    let old: Vec<(&str, &str, Value)> =
        moved.into_iter().filter_map(|(from, to)| Some((from, to, value.remove(from)?))).collect();
    let Some(config) = value.get_mut("modelConfig").and_then(Value::as_object_mut) else {
        return Vec::new();
    };
    let mut trouble = Vec::new();
    for (from, to, value) in old {
        if !replace(config, to, value) {
            let message = other_value(&format!("modelConfig.{to}"));
            trouble.push((from.to_owned(), Code::Conflict, message));
        }
    }
    trouble
}

/// Replaces old spellings, and says what is missing.
fn env_of(env: &mut Map<String, Value>) -> Vec<Trouble> {
    let mut trouble = Vec::new();
    let there = |name: &str| env.contains_key(name);
    let anthropic = env.keys().any(|key| key.starts_with("ANTHROPIC_"));
    // This spelling alone says how the key is sent.
    let bearer = there("ANTHROPIC_AUTH_TOKEN")
        && !["ANTHROPIC_API_KEY", "api_key", "auth"].map(there).contains(&true);
    for (from, to) in ENV_SPELLINGS {
        if let Some(value) = env.remove(from)
            && !replace(env, to, value)
        {
            trouble.push((format!("{ENV}{from}"), Code::Conflict, other_value(to)));
        }
    }
    if bearer {
        env.insert("auth".to_owned(), "bearer".into());
    }
    if anthropic && !env.contains_key("model") {
        env.insert("model".to_owned(), "claude".into());
    }
    let dify = env.contains_key("DIFY_API_KEY");
    let provider = env.get("model").and_then(Value::as_str);
    if !env.contains_key("model") && !dify {
        let message = "`model` (the provider) is required".to_owned();
        trouble.push(("modelConfig.env.model".to_owned(), Code::MissingField, message));
    }
    if provider.is_some_and(|name| name != "demo") && !env.contains_key("model_id") {
        let message = "`model_id` is required for this provider".to_owned();
        trouble.push(("modelConfig.env.model_id".to_owned(), Code::MissingField, message));
    }
    trouble
}

/// Thinking counts as output, so it has to fit in.
fn thinking(config: &Map<String, Value>) -> Option<Trouble> {
    let number = |field: &str| config.get(field).and_then(Value::as_i64);
    let (tokens, most) = (number("thinking_tokens"), number("max_output_tokens"));
    let word = config.get("thinking").and_then(Value::as_str);
    let (field, message) = match (word, tokens, most) {
        (Some(word), Some(_), _) => {
            ("thinking_tokens", format!("`thinking` is there too (`{word}`); write one of them"))
        }
        (None, Some(tokens), Some(most)) if tokens >= most => (
            "thinking_tokens",
            format!("`thinking_tokens` ({tokens}) must be lower than `max_output_tokens` ({most})"),
        ),
        (Some(_), None, Some(most)) if most < THINKING_OUTPUT_MIN => (
            "thinking",
            format!(
                "thinking needs `max_output_tokens` of {THINKING_OUTPUT_MIN} or more, not {most}"
            ),
        ),
        _ => return None,
    };
    Some((format!("modelConfig.{field}"), Code::Conflict, message))
}

/// What is kept, and called by nothing here: path, and what to do instead.
fn not_called(value: &Map<String, Value>) -> Vec<(&'static str, String)> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let env = value.get("modelConfig").and_then(|config| config.get("env"));
    let named = |field: &str| env.and_then(|env| env.get(field)?.as_str());
    let mut told = Vec::new();
    if let Some(other) = text("modelType").filter(|other| *other != "llm") {
        told.push((
            "modelType",
            format!("a `{other}` Model is not called yet; Bots need an `llm`"),
        ));
    }
    if named("DIFY_API_KEY").is_some() {
        let message = "Dify is not called yet; use a Model of `claude` or `openai`";
        told.push(("modelConfig.env.DIFY_API_KEY", message.to_owned()));
    }
    for path in OTHER_SIZES {
        let size = path.strip_prefix(ENV).and_then(named);
        if size.is_some_and(|model| named("model_id") != Some(model)) {
            let message = "this has no effect yet: Claude Code uses `model_id` in its place";
            told.push((path, message.to_owned()));
        }
    }
    told.extend(named("model").and_then(|provider| {
        not_spoken(provider, text("protocol"), text("apiFormat") == Some("responses"))
    }));
    told
}

/// The API that somebody asks for and that is not spoken.
fn not_spoken(
    provider: &str,
    protocol: Option<&str>,
    responses: bool,
) -> Option<(&'static str, String)> {
    const RESPONSES: &str = "a Chat Shell calls `chat/completions` all the same (Codex calls \
        `responses` by itself); leave this out, and name a server that has `chat/completions`";
    let protocol = protocol.filter(|protocol| PROTOCOLS.contains(protocol));
    match (provider, protocol) {
        ("gemini", _) => {
            let message = "a Chat Shell cannot call `gemini`; use its OpenAI-compatible address: \
                `model: openai`, `base_url: https://generativelanguage.googleapis.com/v1beta/openai`";
            Some(("modelConfig.env.model", message.to_owned()))
        }
        ("openai", Some("openai-responses")) => Some(("protocol", RESPONSES.to_owned())),
        (provider, Some(protocol)) if protocol != provider => {
            let message = format!(
                "this has no effect: the API of `{provider}` is spoken; to change that, change \
                 `modelConfig.env.model`"
            );
            Some(("protocol", message))
        }
        ("openai", _) if responses => Some(("apiFormat", RESPONSES.to_owned())),
        (provider, _) if responses => {
            Some(("apiFormat", format!("this has no effect for `{provider}`, only for `openai`")))
        }
        _ => None,
    }
}

fn other_value(field: &str) -> String {
    format!("`{field}` is there too and says something else")
}

/// Puts a value at its new place; false if another one is there.
fn replace(target: &mut Map<String, Value>, to: &str, value: Value) -> bool {
    if target.get(to).is_some_and(|there| *there != value) {
        return false;
    }
    target.insert(to.to_owned(), value);
    true
}
