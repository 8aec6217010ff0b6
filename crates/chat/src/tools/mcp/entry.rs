//! One MCP entry of a Ghost, made ready: variables replaced, secrets opened.

use std::{collections::HashMap, time::Duration};

use reqwest::{
    Url,
    header::{HeaderName, HeaderValue},
};
use serde_json::Value;
use troupe_domain::task::MemberPlan;

use super::McpError;
use crate::{
    options::ChatOptions,
    services::{ChatServices, SecretRef},
    variables::{Place, fill},
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
    /// Variables that nothing is known for: they are sent as they stand.
    pub(super) left: Vec<String>,
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
        let mut left = Vec::new();
        let mut opened = |field: &str, value: &str, place: Place| -> Result<String, McpError> {
            if services.secrets.is_sealed(value) {
                let secret = SecretRef { member, server, field, sealed: value };
                let detail = || format!("the secret of `{field}` does not open here");
                let secret = services.secrets.open(secret);
                let secret = secret.ok_or_else(|| McpError::Entry { detail: detail() })?;
                return Ok(secret.expose().to_owned());
            }
            let filled = fill(value, &options.variables, place);
            left.extend(filled.left);
            Ok(filled.text)
        };
        let Some(url) = text("url") else { return fault("it has no url") };
        let Ok(url) = Url::parse(&opened("url", url, Place::Url)?) else {
            return fault("its url is none");
        };
        let mut headers = HashMap::new();
        for (name, value) in entry.get("headers").and_then(Value::as_object).into_iter().flatten() {
            let field = format!("headers.{name}");
            let value = opened(&field, value.as_str().unwrap_or_default(), Place::Line)?;
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
        Ok(Self { url, headers, timeout, trusted, left })
    }
}
