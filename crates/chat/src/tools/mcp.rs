//! Tools of MCP servers over streamable HTTP.
//!
//! A run connects to the servers of its member at its start and leaves them at its end. The
//! idempotency key of a call stands in its `_meta` under [`KEY_META`]. A server that cannot be
//! reached is left out, and people are told so.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use rmcp::{
    RoleClient,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig,
        ContentBlock, Implementation, PaginatedRequestParams, RequestMetaObject, ResourceContents,
    },
    service::{ClientInitializeError, Peer, RunningService, ServiceError, serve_client},
    transport::{streamable_http_client::StreamableHttpClientTransport, worker::WorkerTransport},
};
use serde_json::{Map, Value};
use thiserror::Error;
use troupe_domain::task::MemberPlan;
use troupe_llm::EgressError;

use self::{entry::Entry, http::Http};
use super::{Tool, ToolContext, ToolError, ToolOutput};
use crate::{caps, options::ChatOptions, services::ChatServices};

mod entry;
mod http;

/// The field of `_meta` that holds a call's idempotency key.
pub(crate) const KEY_META: &str = "troupe/idempotencyKey";
/// Largest answer of a server, in bytes; larger ones are an error.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pages of a list of tools that are read.
const PAGES_MAX: usize = 20;
/// Tools of one server; the rest is left out.
const TOOLS_MAX: usize = 200;
/// Largest schema of a tool, in bytes; a tool with a larger one is left out.
const SCHEMA_BYTES_MAX: usize = 32 * 1024;
/// Longest text of a server that an error keeps, in bytes.
const ERROR_BYTES_MAX: usize = 2 * 1024;
/// For leaving a server.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a server is left out.
#[derive(Debug, Error)]
pub(crate) enum McpError {
    /// Its entry cannot work.
    #[error("{detail}")]
    Entry {
        /// What is wrong with it.
        detail: String,
    },
    /// Its address is refused.
    #[error("its address is refused")]
    Egress(#[source] EgressError),
    /// It could not be reached, or did not speak the protocol.
    #[error("it cannot be used: {detail}")]
    Unusable {
        /// Without its URL, which may hold a key.
        detail: String,
    },
    /// It took too long.
    #[error("it did not answer within {} s", after.as_secs())]
    Timeout {
        /// How long.
        after: Duration,
    },
}

type Session = RunningService<RoleClient, ClientConfig>;

/// The servers that answered.
#[derive(Debug, Default)]
pub(crate) struct Connected {
    /// Their tools, server by server.
    pub tools: Vec<Arc<dyn Tool>>,
    /// What people should know: servers that are left out.
    pub warnings: Vec<String>,
    sessions: Vec<Session>,
}

impl Connected {
    /// Leaves all servers.
    pub(crate) async fn close(self) {
        let close = |mut session: Session| async move {
            let _ = session.close_with_timeout(CLOSE_TIMEOUT).await;
        };
        join_all(self.sessions.into_iter().map(close)).await;
    }
}

/// Connects to all servers of a member, at the same time. Dropping the future, or what it
/// returns, ends the connections too.
pub(crate) async fn connect(
    services: &ChatServices,
    member: &MemberPlan,
    options: &ChatOptions,
) -> Connected {
    let connect = |(name, value): (&String, &Value)| {
        let (name, entry) = (name.clone(), Entry::read(name, value, member, services, options));
        let left = entry.as_ref().map(|entry| entry.left.clone()).unwrap_or_default();
        async move {
            let limit = options.mcp_connect_timeout;
            let reached = async { reach(services, &name, entry?, options).await };
            let reached = tokio::time::timeout(limit, reached).await;
            let reached = reached.unwrap_or(Err(McpError::Timeout { after: limit }));
            (name, left, reached)
        }
    };
    let mut connected = Connected::default();
    for (name, left, reached) in join_all(member.mcp_servers.iter().map(connect)).await {
        if !left.is_empty() {
            let left = caps::cap_bytes(&caps::readable(&left.join(", ")), ERROR_BYTES_MAX);
            let text = format!("MCP server `{name}` is sent {left} as it stands: not known here");
            connected.warnings.push(text);
        }
        match reached {
            Ok((session, tools)) => {
                connected.sessions.push(session);
                connected.tools.extend(tools);
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let cause = cause.unwrap_or_default();
                let text = format!("MCP server `{name}` is left out: {error}{cause}");
                connected.warnings.push(text);
            }
        }
    }
    connected
}

async fn reach(
    services: &ChatServices,
    server: &str,
    entry: Entry,
    options: &ChatOptions,
) -> Result<(Session, Vec<Arc<dyn Tool>>), McpError> {
    let reached = services.reach(entry.trusted);
    reached.egress.check_url(&entry.url).map_err(McpError::Egress)?;
    let client = reached.client().map_err(McpError::Egress)?;
    let timeout = entry.timeout.unwrap_or(options.mcp_call_timeout);
    let config = http::config(server, entry.headers);
    let transport: WorkerTransport<_> =
        StreamableHttpClientTransport::with_client(Http::new(client, &entry.url), config);
    let own = Implementation::new("troupe", env!("CARGO_PKG_VERSION"));
    let own = ClientConfig::new(ClientCapabilities::default(), own);
    let session = serve_client(own, transport).await.map_err(|error| unusable(&error))?;
    let found = list(session.peer()).await?;
    let tool = |tool: rmcp::model::Tool| {
        Arc::new(McpTool::new(server, tool, timeout, session.peer().clone())) as Arc<dyn Tool>
    };
    let tools = found.into_iter().map(tool).collect();
    Ok((session, tools))
}

async fn list(peer: &Peer<RoleClient>) -> Result<Vec<rmcp::model::Tool>, McpError> {
    let mut tools = Vec::new();
    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let page = peer.list_tools(Some(params)).await;
        let page = page.map_err(|error| McpError::Unusable { detail: told(&error) })?;
        let small = |tool: &rmcp::model::Tool| {
            serde_json::to_string(&tool.input_schema).is_ok_and(|s| s.len() <= SCHEMA_BYTES_MAX)
        };
        tools.extend(page.tools.into_iter().filter(small));
        cursor = page.next_cursor;
        if cursor.is_none() || tools.len() >= TOOLS_MAX {
            break;
        }
    }
    tools.truncate(TOOLS_MAX);
    Ok(tools)
}

fn unusable(error: &ClientInitializeError) -> McpError {
    let detail = match error {
        ClientInitializeError::TransportError { error, .. } => http::told(error.error.as_ref()),
        ClientInitializeError::JsonRpcError(error) => error.message.to_string(),
        ClientInitializeError::ConnectionClosed(_) => "the connection was closed".to_owned(),
        _ => "it does not speak the protocol".to_owned(),
    };
    McpError::Unusable { detail: caps::cap_bytes(&caps::readable(&detail), ERROR_BYTES_MAX) }
}

fn told(error: &ServiceError) -> String {
    let text = match error {
        ServiceError::McpError(error) => error.message.to_string(),
        ServiceError::TransportSend(error) => http::told(error.error.as_ref()),
        ServiceError::TransportClosed => "the connection was closed".to_owned(),
        ServiceError::UnexpectedResponse => "the server answered what is not supported".to_owned(),
        _ => "the server did not answer".to_owned(),
    };
    caps::cap_bytes(&caps::readable(&text), ERROR_BYTES_MAX)
}

/// One tool of a server.
#[derive(Debug)]
struct McpTool {
    server: String,
    tool: rmcp::model::Tool,
    description: String,
    timeout: Duration,
    peer: Peer<RoleClient>,
}

impl McpTool {
    fn new(
        server: &str,
        tool: rmcp::model::Tool,
        timeout: Duration,
        peer: Peer<RoleClient>,
    ) -> Self {
        let description = tool.description.as_deref().unwrap_or_default().to_owned();
        Self { server: server.to_owned(), tool, description, timeout, peer }
    }
}

#[async_trait]
impl Tool for McpTool {
    fn name(&self) -> &str {
        &self.tool.name
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn schema(&self) -> Value {
        Value::Object(Map::clone(&self.tool.input_schema))
    }

    fn read_only(&self) -> bool {
        self.tool.annotations.as_ref().and_then(|a| a.read_only_hint).unwrap_or(false)
    }

    fn display_name(&self) -> Option<&str> {
        let title = self.tool.annotations.as_ref().and_then(|a| a.title.as_deref());
        self.tool.title.as_deref().or(title)
    }

    fn server_label(&self) -> Option<&str> {
        Some(&self.server)
    }

    fn timeout(&self) -> Option<Duration> {
        Some(self.timeout)
    }

    /// A dropped call tells the server that it was cancelled.
    async fn call(
        &self,
        args: Map<String, Value>,
        context: ToolContext,
    ) -> Result<ToolOutput, ToolError> {
        let mut params = CallToolRequestParams::new(self.tool.name.clone()).with_arguments(args);
        let mut meta = RequestMetaObject::new();
        meta.insert(KEY_META.to_owned(), Value::String(context.idempotency_key));
        params.meta = Some(meta);
        match self.peer.call_tool_once(params).await {
            Ok(CallToolResponse::Complete(result)) => Ok(output(&result)),
            Ok(_) => {
                let text = "the server asks for input, which is not supported".to_owned();
                Err(ToolError::Failed { text })
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

fn failed(error: &ServiceError) -> ToolError {
    let text = told(error);
    let refused = match error {
        ServiceError::McpError(_) | ServiceError::UnexpectedResponse => true,
        ServiceError::TransportSend(error) => http::never_sent(error.error.as_ref()),
        _ => false,
    };
    if refused { ToolError::Failed { text } } else { ToolError::Unknown { text } }
}

fn output(result: &CallToolResult) -> ToolOutput {
    let mut parts: Vec<String> = result.content.iter().map(in_words).collect();
    if parts.is_empty() {
        parts.extend(result.structured_content.as_ref().map(Value::to_string));
    }
    let is_error = result.is_error.unwrap_or(false);
    ToolOutput { text: parts.join("\n\n"), is_error }
}

fn in_words(content: &ContentBlock) -> String {
    match content {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => format!("[image, {}]", image.mime_type),
        ContentBlock::Audio(audio) => format!("[audio, {}]", audio.mime_type),
        ContentBlock::Resource(resource) => match &resource.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("{uri}:\n{text}"),
            ResourceContents::BlobResourceContents { uri, .. } => format!("[file {uri}]"),
            _ => "[resource of an unknown kind]".to_owned(),
        },
        ContentBlock::ResourceLink(link) => format!("[link {}]", link.uri),
        _ => "[content of an unknown kind]".to_owned(),
    }
}
