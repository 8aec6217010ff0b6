//! MCP servers of a member, as a device is told of them: what is sealed becomes a secret.

use std::collections::BTreeMap;

use serde_json::Value;
use troupe_domain::task::MemberPlan;
use troupe_executor::McpServer;

use crate::models::looks_sealed;

/// How a job refers to a secret. A plan's own words must not: they would reach for another one.
const REFERENCE: &str = "${secret:";

/// Sealed values by the names that the job has for them.
type Sealed = BTreeMap<String, String>;

/// The servers that a runtime on a device can be told of; their sealed values go to `sealed`.
pub(super) fn servers(member: &MemberPlan, sealed: &mut Sealed) -> BTreeMap<String, McpServer> {
    let mut servers = BTreeMap::new();
    for (name, value) in &member.mcp_servers {
        match server(value, sealed) {
            Some(server) => drop(servers.insert(name.clone(), server)),
            None => tracing::warn!(member = %member.name, server = %name, "left out on a device"),
        }
    }
    servers
}

fn server(value: &Value, sealed: &mut Sealed) -> Option<McpServer> {
    let text = |field: &str| Some(plain(value[field].as_str()?)?.to_owned());
    match value["type"].as_str()? {
        "stdio" => {
            let args = value["args"].as_array().map(Vec::as_slice).unwrap_or_default();
            let args = args.iter().map(|arg| Some(plain(arg.as_str()?)?.to_owned()));
            Some(McpServer::Stdio {
                command: text("command")?,
                args: args.collect::<Option<_>>()?,
                env: values(&value["env"], sealed)?,
            })
        }
        "streamable-http" => Some(McpServer::StreamableHttp {
            url: text("url")?,
            headers: values(&value["headers"], sealed)?,
        }),
        _ => None,
    }
}

/// What is sealed is replaced by a reference. `None`: something refers to a secret by itself.
fn values(given: &Value, sealed: &mut Sealed) -> Option<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for (name, value) in given.as_object().into_iter().flatten() {
        let value = value.as_str()?;
        let value = if looks_sealed(value) {
            let secret = format!("mcp_{}", sealed.len());
            sealed.insert(secret.clone(), value.to_owned());
            format!("{REFERENCE}{secret}}}")
        } else {
            plain(value)?.to_owned()
        };
        values.insert(name.clone(), value);
    }
    Some(values)
}

fn plain(text: &str) -> Option<&str> {
    (!text.contains(REFERENCE) && !looks_sealed(text)).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
