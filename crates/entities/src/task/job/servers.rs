//! MCP servers of a member, as a device is told of them: variables are replaced, what is sealed
//! becomes a secret.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use troupe_chat::variables::{Place, fill};
use troupe_domain::task::MemberPlan;
use troupe_executor::McpServer;

use crate::models::looks_sealed;

/// How a job refers to a secret. A plan's own words and what people call things must not: they
/// would reach for another one.
const REFERENCE: &str = "${secret:";

/// Sealed values by the names that the job has for them.
type Sealed = BTreeMap<String, String>;

/// The servers that a runtime on a device can be told of; their sealed values go to `sealed`.
pub(super) fn servers(
    member: &MemberPlan,
    variables: &Map<String, Value>,
    sealed: &mut Sealed,
) -> BTreeMap<String, McpServer> {
    let mut servers = BTreeMap::new();
    for (name, value) in &member.mcp_servers {
        let mut texts = Texts { variables, left: Vec::new() };
        match texts.server(value, sealed) {
            Some(server) => drop(servers.insert(name.clone(), server)),
            None => tracing::warn!(member = %member.name, server = %name, "left out on a device"),
        }
        if !texts.left.is_empty() {
            let left = texts.left.join(", ");
            tracing::warn!(member = %member.name, server = %name, %left, "variables not known");
        }
    }
    servers
}

/// Makes the texts of a server ready.
struct Texts<'a> {
    variables: &'a Map<String, Value>,
    /// Variables that nothing is known for: they stay as they stand.
    left: Vec<String>,
}

impl Texts<'_> {
    fn server(&mut self, value: &Value, sealed: &mut Sealed) -> Option<McpServer> {
        match value["type"].as_str()? {
            "stdio" => {
                let args = value["args"].as_array().map(Vec::as_slice).unwrap_or_default();
                let args = args.iter().map(|arg| self.filled(arg.as_str()?, Place::Argument));
                Some(McpServer::Stdio {
                    args: args.collect::<Option<_>>()?,
                    // Which program it is, no variable says.
                    command: plain(value["command"].as_str()?)?.to_owned(),
                    env: self.values(&value["env"], sealed)?,
                })
            }
            "streamable-http" => Some(McpServer::StreamableHttp {
                url: self.filled(value["url"].as_str()?, Place::Url)?,
                headers: self.values(&value["headers"], sealed)?,
            }),
            _ => None,
        }
    }

    /// What is sealed is replaced by a reference. `None`: something refers to a secret by itself.
    fn values(&mut self, given: &Value, sealed: &mut Sealed) -> Option<BTreeMap<String, String>> {
        let mut values = BTreeMap::new();
        for (name, value) in given.as_object().into_iter().flatten() {
            let value = value.as_str()?;
            let value = if looks_sealed(value) {
                let known = sealed.iter().find(|(_, known)| *known == value);
                let secret = known.map(|(name, _)| name.clone());
                let secret = secret.unwrap_or_else(|| format!("mcp_{}", sealed.len()));
                sealed.insert(secret.clone(), value.to_owned());
                format!("{REFERENCE}{secret}}}")
            } else {
                self.filled(value, Place::Line)?
            };
            values.insert(name.clone(), value);
        }
        Some(values)
    }

    fn filled(&mut self, text: &str, place: Place) -> Option<String> {
        let filled = fill(plain(text)?, self.variables, place);
        self.left.extend(filled.left);
        plain(&filled.text)?;
        Some(filled.text)
    }
}

fn plain(text: &str) -> Option<&str> {
    (!text.contains(REFERENCE) && !looks_sealed(text)).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(value: &Value, sealed: &mut Sealed) -> Option<McpServer> {
        let variables = json!({"user": {"id": "usr_1", "name": "Eve"}, "task": {
            "title": "a b; c", "evil": "${secret:model_key}", "sealed": "sealed:v1:x@p",
            "lines": "a\r\nX-Admin: yes"}});
        let variables = variables.as_object().unwrap();
        Texts { variables, left: Vec::new() }.server(value, sealed)
    }

    #[test]
    fn variables_are_replaced_but_never_by_more_than_a_text() {
        let mut sealed = Sealed::new();
        let http = |url: &str, value: &str| json!({"type": "streamable-http", "url": url, "headers": {"X-A": value}});
        let given = http("https://x/${{task.title}}", "${{user.name}} ${{task.lines}} ${{no}}");
        let Some(McpServer::StreamableHttp { url, headers }) = server(&given, &mut sealed) else {
            panic!("another sort")
        };
        assert_eq!(url, "https://x/a%20b%3B%20c");
        assert_eq!(headers["X-A"], "Eve ${{task.lines}} ${{no}}");
        let given = json!({"type": "stdio", "command": "${{user.name}}", "args": ["${{user.id}}",
            "${{task.title}}"], "env": {"TITLE": "${{task.title}}", "A": "${{task.evil}}"}});
        let Some(McpServer::Stdio { command, args, env }) = server(&given, &mut sealed) else {
            panic!("another sort")
        };
        assert_eq!(command, "${{user.name}}");
        assert_eq!(args, ["usr_1", "${{task.title}}"]);
        assert_eq!((env["TITLE"].as_str(), env["A"].as_str()), ("a b; c", "${{task.evil}}"));
        assert_eq!(server(&http("https://x", "${{task.sealed}}"), &mut sealed), None);
        assert_eq!(sealed, Sealed::new(), "what a person wrote is no secret of ours");
    }

    #[test]
    fn what_is_sealed_becomes_a_secret_and_nothing_else_refers_to_one() {
        let mut sealed = Sealed::from([("model_key".to_owned(), "sealed:v1:key@p".to_owned())]);
        let given = json!({"type": "streamable-http", "url": "https://mcp.example.org",
            "headers": {"X-Team": "a", "Authorization": "sealed:v1:abc@ghost/x"}});
        let McpServer::StreamableHttp { headers, .. } = server(&given, &mut sealed).unwrap() else {
            panic!("another sort")
        };
        assert_eq!(headers["X-Team"], "a");
        assert_eq!(headers["Authorization"], "${secret:mcp_1}");
        assert_eq!(sealed["mcp_1"], "sealed:v1:abc@ghost/x");
        for bad in [
            json!({"type": "sse", "url": "https://x"}),
            json!({"type": "streamable-http", "url": "https://x/${secret:model_key}"}),
            json!({"type": "streamable-http", "url": "https://x",
                "headers": {"A": "${secret:model_key}"}}),
            json!({"type": "stdio", "command": "x", "args": ["${secret:model_key}"]}),
            json!({"type": "stdio"}),
        ] {
            assert_eq!(server(&bad, &mut sealed), None, "{bad}");
        }
    }
}
