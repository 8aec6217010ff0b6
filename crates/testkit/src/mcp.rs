//! A small MCP server over streamable HTTP, written against the protocol by hand, with tools
//! whose effects are counted.
//!
//! Tools: `echo {text}`, `add {a, b}`, `count {}` (a side effect), `slow {ms}`, `fail {text}`,
//! `big {bytes}`. Every call is kept with its idempotency key: `_meta.idempotencyKey` (or any
//! `_meta` key that ends so, as `example.org/idempotencyKey`), else the header `idempotency-key`.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

const SESSION: &str = "mcp-session-id";
const VERSIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
/// Calls that are kept for tests to look at.
const CALLS_MAX: usize = 10_000;
/// Most bytes that `big` answers.
const BIG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A call as it came in.
#[derive(Clone, Debug)]
pub struct McpCall {
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub args: Value,
    /// `_meta` of the call.
    pub meta: Value,
    /// Its idempotency key, if it had one.
    pub idempotency_key: Option<String>,
    /// Whether the call was answered; one that hangs, or whose client went away, was not.
    pub answered: bool,
}

#[derive(Debug, Default)]
struct Shared {
    calls: Mutex<Vec<McpCall>>,
    sessions: Mutex<HashSet<String>>,
    counter: AtomicU64,
    next_session: AtomicU64,
    token: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running server; dropping it stops it.
#[derive(Debug)]
pub struct McpServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinSet<()>,
}

impl McpServer {
    /// Starts a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is no port.
    pub async fn start() -> io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts a server on an address.
    ///
    /// # Errors
    /// If the port is taken.
    pub async fn start_at(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let app = Router::new()
            // No GET: the server has nothing to say by itself, which the protocol answers by 405.
            .route("/mcp", post(handle).delete(end_session))
            .with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { addr, shared, server })
    }

    /// `http://ADDRESS:PORT/mcp`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.addr)
    }

    /// From now on only calls with this bearer token are good; others get 401.
    pub fn require_token(&self, token: &str) {
        *lock(&self.shared.token) = Some(token.to_owned());
    }

    /// How often `count` took effect.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.shared.counter.load(Ordering::SeqCst)
    }

    /// The calls so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<McpCall> {
        lock(&self.shared.calls).clone()
    }

    /// Forgets all sessions: clients get 404 and must initialise anew.
    pub fn forget_sessions(&self) {
        lock(&self.shared.sessions).clear();
    }

    /// Stops listening.
    pub async fn stop(mut self) {
        self.server.shutdown().await;
    }
}

async fn end_session(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> StatusCode {
    let session = headers.get(SESSION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if lock(&shared.sessions).remove(session) { StatusCode::OK } else { StatusCode::NOT_FOUND }
}

async fn handle(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let token = lock(&shared.token).clone();
    if token.is_some_and(|token| text("authorization") != Some(&format!("Bearer {token}"))) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response();
    }
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        return failed(&Value::Null, -32_700, "parse error");
    };
    let accept = text("accept").unwrap_or_default();
    if !accept.contains("application/json") || !accept.contains("text/event-stream") {
        return StatusCode::NOT_ACCEPTABLE.into_response();
    }
    let method = message["method"].as_str().unwrap_or_default();
    let id = message["id"].clone();
    if method == "initialize" {
        return initialize(&shared, &id, &message["params"]);
    }
    match text(SESSION) {
        None => return StatusCode::BAD_REQUEST.into_response(),
        Some(session) if !lock(&shared.sessions).contains(session) => {
            return StatusCode::NOT_FOUND.into_response();
        }
        Some(_) => {}
    }
    if id.is_null() {
        return StatusCode::ACCEPTED.into_response(); // A notification, or an answer.
    }
    match method {
        "ping" => answered(&id, json!({})),
        "tools/list" => answered(&id, json!({"tools": tools()})),
        "tools/call" => {
            let result = call(&shared, &message["params"], text("idempotency-key")).await;
            match result {
                Some(result) => streamed(&id, result),
                None => failed(&id, -32_602, "unknown tool"),
            }
        }
        _ => failed(&id, -32_601, "method not found"),
    }
}

fn initialize(shared: &Shared, id: &Value, params: &Value) -> Response {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let version = VERSIONS.iter().find(|version| **version == asked).unwrap_or(&VERSIONS[0]);
    let session = format!("session-{}", shared.next_session.fetch_add(1, Ordering::SeqCst) + 1);
    let mut response = answered(
        id,
        json!({"protocolVersion": version, "capabilities": {"tools": {"listChanged": false}},
            "serverInfo": {"name": "troupe-test-tools", "version": "1.0.0"},
            "instructions": "Tools for tests."}),
    );
    if let Ok(value) = HeaderValue::from_str(&session) {
        response.headers_mut().insert(SESSION, value);
    }
    lock(&shared.sessions).insert(session);
    response
}

fn tools() -> Value {
    let tool = |name: &str, description: &str, properties: Value, required: Value| {
        json!({"name": name, "description": description,
            "inputSchema": {"type": "object", "properties": properties, "required": required},
            "annotations": {"readOnlyHint": name != "count", "idempotentHint": name != "count"}})
    };
    let text = json!({"text": {"type": "string"}});
    let numbers = json!({"a": {"type": "number"}, "b": {"type": "number"}});
    json!([
        tool("echo", "Says the text back.", text.clone(), json!(["text"])),
        tool("add", "Adds two numbers.", numbers, json!(["a", "b"])),
        tool("count", "Counts one further: a side effect.", json!({}), json!([])),
        tool(
            "slow",
            "Answers after some milliseconds.",
            json!({"ms": {"type": "integer"}}),
            json!(["ms"])
        ),
        tool("fail", "Fails with the text.", text, json!([])),
        tool(
            "big",
            "Answers with many bytes.",
            json!({"bytes": {"type": "integer"}}),
            json!(["bytes"])
        ),
    ])
}

fn key_of(meta: &Value, header: Option<&str>) -> Option<String> {
    let fields = meta.as_object().into_iter().flatten();
    let key = |name: &str| {
        let name = name.rsplit('/').next().unwrap_or(name);
        matches!(name, "idempotencyKey" | "idempotency-key" | "idempotency_key")
    };
    let told = fields.filter(|(name, _)| key(name)).find_map(|(_, value)| value.as_str());
    told.or(header).map(str::to_owned)
}

/// Runs a tool; `None` if there is none of that name.
async fn call(shared: &Shared, params: &Value, header: Option<&str>) -> Option<Value> {
    let tool = params["name"].as_str().unwrap_or_default().to_owned();
    let args = params["arguments"].clone();
    let meta = params["_meta"].clone();
    let at = {
        let mut calls = lock(&shared.calls);
        let idempotency_key = key_of(&meta, header);
        if calls.len() < CALLS_MAX {
            let (tool, args) = (tool.clone(), args.clone());
            calls.push(McpCall { tool, args, meta, idempotency_key, answered: false });
        }
        calls.len() - 1
    };
    let number = |key: &str| args[key].as_f64().unwrap_or(0.0);
    let (text, is_error) = match tool.as_str() {
        "echo" => (args["text"].as_str().unwrap_or_default().to_owned(), false),
        "add" => ((number("a") + number("b")).to_string(), false),
        "count" => ((shared.counter.fetch_add(1, Ordering::SeqCst) + 1).to_string(), false),
        "slow" => {
            let ms = args["ms"].as_u64().unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            (format!("waited {ms} ms"), false)
        }
        "fail" => (args["text"].as_str().unwrap_or("the tool failed").to_owned(), true),
        "big" => {
            let bytes = args["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
            ("x".repeat(bytes.unwrap_or(0).min(BIG_BYTES_MAX)), false)
        }
        _ => return None,
    };
    if let Some(call) = lock(&shared.calls).get_mut(at) {
        call.answered = true;
    }
    Some(json!({"content": [{"type": "text", "text": text}], "isError": is_error}))
}

fn answered(id: &Value, result: Value) -> Response {
    axum::Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response()
}

fn failed(id: &Value, code: i64, message: &str) -> Response {
    let error = json!({"code": code, "message": message});
    axum::Json(json!({"jsonrpc": "2.0", "id": id, "error": error})).into_response()
}

/// Answers of tools come as a stream of one event, as servers of long calls send them.
fn streamed(id: &Value, result: Value) -> Response {
    let message = json!({"jsonrpc": "2.0", "id": id, "result": result});
    let mut response = Response::new(Body::from(format!("event: message\ndata: {message}\n\n")));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
