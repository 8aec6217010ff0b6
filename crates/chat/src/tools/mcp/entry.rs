//! One MCP entry of a Ghost, made ready: variables replaced, secrets opened.

use std::{collections::HashMap, time::Duration};

use reqwest::{
    Url,
    header::{HeaderName, HeaderValue},
};
use serde_json::{Map, Value};
use troupe_domain::task::MemberPlan;

use super::McpError;
use crate::{
    options::ChatOptions,
    services::{ChatServices, SecretRef},
};

/// Bounds of an entry's own timeout, in seconds.
const TIMEOUT_SECONDS: (f64, f64) = (1.0, 3_600.0);

/// Where a server is, and what it is sent. No `Debug`: it holds keys in the clear.
pub(super) struct Entry {
    pub(super) url: Url,
    pub(super) headers: HashMap<HeaderName, HeaderValue>,
    pub(super) timeout: Option<Duration>,
    /// An administrator named it. No document can say so, only what makes the plan.
    pub(super) trusted: bool,
}

impl Entry {
    pub(super) fn read(
        server: &str,
        entry: &Value,
        member: &MemberPlan,
        services: &ChatServices,
        options: &ChatOptions,
    ) -> Result<Self, McpError> {
        let fault = |detail: &str| Err(McpError::Entry { detail: detail.to_owned() });
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        match text("type") {
            Some("stdio") => return fault("stdio servers run on devices and in containers only"),
            Some("sse") => {
                return fault("the legacy SSE transport is not supported; use `streamable-http`");
            }
            None if entry.get("command").is_some() => {
                return fault("stdio servers run on devices and in containers only");
            }
            _ => {}
        }
        let opened = |field: &str, value: &str| -> Result<String, McpError> {
            if services.secrets.is_sealed(value) {
                let secret = SecretRef { member, server, field, sealed: value };
                let detail = || format!("the secret of `{field}` does not open here");
                let secret = services.secrets.open(secret);
                let secret = secret.ok_or_else(|| McpError::Entry { detail: detail() })?;
                return Ok(secret.expose().to_owned());
            }
            Ok(substituted(value, &options.variables))
        };
        let Some(url) = text("url") else { return fault("it has no url") };
        let Ok(url) = Url::parse(&opened("url", url)?) else { return fault("its url is none") };
        let mut headers = HashMap::new();
        for (name, value) in entry.get("headers").and_then(Value::as_object).into_iter().flatten() {
            let field = format!("headers.{name}");
            let value = opened(&field, value.as_str().unwrap_or_default())?;
            let pair = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value));
            let (Ok(name), Ok(mut value)) = pair else {
                return fault(&format!("`{field}` is no header"));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let seconds = entry.get("timeout").and_then(Value::as_f64);
        let (min, max) = TIMEOUT_SECONDS;
        let timeout = seconds.map(|s| Duration::from_secs_f64(s.clamp(min, max)));
        let trusted = entry.get("trusted").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { url, headers, timeout, trusted })
    }
}

/// The text with each `${{path.to.value}}` replaced; unknown ones stay as they are.
pub(super) fn substituted(text: &str, variables: &Map<String, Value>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${{") {
        out.push_str(before);
        let Some((path, behind)) = after.split_once("}}") else {
            out.push_str("${{");
            rest = after;
            break;
        };
        match lookup(path.trim(), variables) {
            Some(value) => out.push_str(&value),
            None => {
                out.push_str("${{");
                out.push_str(path);
                out.push_str("}}");
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

fn lookup(path: &str, variables: &Map<String, Value>) -> Option<String> {
    let mut keys = path.split('.');
    let mut value = variables.get(keys.next()?)?;
    for key in keys {
        value = value.get(key)?;
    }
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_replaced_and_unknown_ones_stay() {
        let variables = json!({"user": {"id": 7, "name": "Eve"}, "on": true});
        let variables = variables.as_object().cloned().unwrap_or_default();
        let replaced = |text: &str| substituted(text, &variables);
        assert_eq!(replaced("a ${{user.name}}/${{ user.id }} ${{on}}"), "a Eve/7 true");
        assert_eq!(
            replaced("${{user}} ${{user.x}} ${{}} $ {{"),
            "${{user}} ${{user.x}} ${{}} $ {{"
        );
        assert_eq!(replaced("x ${{user.name"), "x ${{user.name");
    }
}
