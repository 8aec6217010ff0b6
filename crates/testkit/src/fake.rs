//! A model server that speaks Anthropic Messages (`/v1/messages`), OpenAI chat completions
//! (`/v1/chat/completions`) and OpenAI Responses (`/v1/responses`), streaming or not, and
//! answers what a [`Script`] says.
//!
//! The step of an answer comes from the conversation in the request, never from a counter, so
//! repeated, parallel and side calls stay right.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::HeaderMap,
    routing::{get, post},
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

mod anthropic;
mod directive;
mod openai;
mod responses;
mod script;
mod stream;

pub use script::{Answer, Fault, Gate, Piece, Rule, Script, ToolOffer, ToolOutcome, Turn, Wire};

/// Largest request body, in bytes (what the real ones take).
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Requests that are kept for tests to look at; older ones are forgotten.
const RECORDS_MAX: usize = 2_000;
/// Bytes of their bodies: a long conversation is sent again with each step. The last one is kept
/// whatever its size.
const RECORDS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Conversations, and starts of prompts, whose numbers are remembered; then all are forgotten.
const NUMBERS_MAX: usize = 100_000;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// From 1, in the order in which they came.
    pub number: u64,
    /// Its wire format.
    pub wire: Wire,
    /// Headers by lower-case name; keys and tokens are replaced by `[redacted]`.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Value,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    active: AtomicUsize,
    active_max: AtomicUsize,
    client_gone: AtomicU64,
    finished: AtomicU64,
}

/// A request as it is kept: its body as text, which is several times smaller.
#[derive(Debug)]
struct Kept {
    record: Recorded,
    body: String,
}

impl Kept {
    fn open(&self) -> Recorded {
        let body = serde_json::from_str(&self.body).unwrap_or_default();
        Recorded { body, ..self.record.clone() }
    }
}

/// What the server remembers.
#[derive(Debug, Default)]
struct Memory {
    records: VecDeque<Kept>,
    /// Of their bodies.
    bytes: usize,
    /// How often a conversation was sent.
    repeats: HashMap<u64, u64>,
    /// Prompt starts that are in the cache.
    cached: HashSet<u64>,
}

impl Memory {
    fn keep(&mut self, kept: Kept) {
        self.bytes += kept.body.len();
        self.records.push_back(kept);
        while self.records.len() > 1
            && (self.records.len() > RECORDS_MAX || self.bytes > RECORDS_BYTES_MAX)
        {
            let old = self.records.pop_front();
            self.bytes -= old.map_or(0, |old| old.body.len());
        }
    }
}

#[derive(Debug)]
struct Shared {
    script: RwLock<Script>,
    key: Mutex<Option<String>>,
    counters: Arc<Counters>,
    memory: Mutex<Memory>,
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script(&self) -> Script {
        self.script.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the key is good, when one is wanted.
    fn key_fits(&self, headers: &HeaderMap) -> bool {
        let key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = key.as_deref() else { return true };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        header("x-api-key") == Some(key)
            || header("authorization").and_then(|value| value.strip_prefix("Bearer ")) == Some(key)
    }

    fn record(&self, wire: Wire, headers: &HeaderMap, body: &Value) -> u64 {
        let number = self.counters.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let shown = |name: &str, value: &str| match name {
            "authorization" | "x-api-key" | "cookie" => "[redacted]".to_owned(),
            _ => value.to_owned(),
        };
        let headers = headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), shown(name.as_str(), &value))
        });
        let headers = headers.collect();
        let record = Recorded { number, wire, headers, body: Value::Null };
        let kept = Kept { record, body: body.to_string() };
        self.memory().keep(kept);
        number
    }

    /// How often this very conversation was sent before.
    fn repeat(&self, conversation: u64) -> u64 {
        let mut memory = self.memory();
        if memory.repeats.len() >= NUMBERS_MAX {
            memory.repeats.clear();
        }
        let seen = memory.repeats.entry(conversation).or_insert(0);
        *seen += 1;
        *seen - 1
    }

    /// Tokens read from and written to the prompt cache: `starts` are the hashes of the prompt's
    /// marked starts with their tokens, shortest first.
    fn cache(&self, starts: &[(u64, u64)]) -> (u64, u64) {
        let mut memory = self.memory();
        let read = starts.iter().rev().find(|(hash, _)| memory.cached.contains(hash));
        let read = read.map_or(0, |(_, tokens)| *tokens);
        let whole = starts.last().map_or(0, |(_, tokens)| *tokens);
        if memory.cached.len() >= NUMBERS_MAX {
            memory.cached.clear();
        }
        memory.cached.extend(starts.iter().map(|(hash, _)| *hash));
        (read, whole.saturating_sub(read))
    }
}

/// Counts a request as active until it is dropped, and as gone if it was not finished then.
#[derive(Debug)]
struct Active {
    counters: Arc<Counters>,
    finished: bool,
}

impl Active {
    fn new(counters: &Arc<Counters>) -> Self {
        let active = counters.active.fetch_add(1, Ordering::SeqCst) + 1;
        counters.active_max.fetch_max(active, Ordering::SeqCst);
        Self { counters: Arc::clone(counters), finished: false }
    }

    /// Nothing more is to be sent.
    const fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.counters.active.fetch_sub(1, Ordering::SeqCst);
        let ended =
            if self.finished { &self.counters.finished } else { &self.counters.client_gone };
        ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// The running server; dropping it stops it.
#[derive(Debug)]
pub struct FakeModel {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinSet<()>,
}

impl FakeModel {
    /// Starts a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is no port.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), script).await
    }

    /// Starts a server on an address.
    ///
    /// # Errors
    /// If the port is taken.
    pub async fn start_at(addr: SocketAddr, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script: RwLock::new(script),
            key: Mutex::new(None),
            counters: Arc::default(),
            memory: Mutex::default(),
        });
        let app = Router::new()
            .route("/v1/messages", post(anthropic::messages))
            .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
            .route("/v1/chat/completions", post(openai::completions))
            .route("/v1/responses", post(responses::responses))
            .route("/v1/models", get(openai::models))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move {
            // Ends only with the listener, which lives as long as this task.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { addr, shared, server })
    }

    /// `http://127.0.0.1:PORT`: the base URL for Anthropic clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// `http://127.0.0.1:PORT/v1`: the base URL for OpenAI clients.
    #[must_use]
    pub fn openai_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Replaces the script; running answers are not changed.
    pub fn set_script(&self, script: Script) {
        *self.shared.script.write().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// From now on only this key is good; others get 401.
    pub fn require_key(&self, key: &str) {
        let mut slot = self.shared.key.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(key.to_owned());
    }

    /// The last requests, oldest first: at most 2,000, and 32 MiB of bodies. A number that is
    /// missing before the first one is of a request that was forgotten.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.memory().records.iter().map(Kept::open).collect()
    }

    /// Requests so far, forgotten ones too.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.shared.counters.requests.load(Ordering::SeqCst)
    }

    /// Answers that were not finished because their client went away.
    #[must_use]
    pub fn client_gone(&self) -> u64 {
        self.shared.counters.client_gone.load(Ordering::SeqCst)
    }

    /// Answers that were sent whole (a fault that a script wanted counts as whole).
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.shared.counters.finished.load(Ordering::SeqCst)
    }

    /// Answers that are under way.
    #[must_use]
    pub fn active(&self) -> usize {
        self.shared.counters.active.load(Ordering::SeqCst)
    }

    /// Most answers that were under way at once.
    #[must_use]
    pub fn active_max(&self) -> usize {
        self.shared.counters.active_max.load(Ordering::SeqCst)
    }

    /// Stops listening and waits for it; running answers are cut when the runtime ends.
    pub async fn stop(mut self) {
        self.server.shutdown().await;
    }
}

/// A stable number of a text.
fn hash_of(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The signature that the server gives to a piece of thinking, and wants back with it.
#[must_use]
pub fn signature_of(thinking: &str) -> String {
    format!("fake-signature-{:016x}", hash_of(thinking))
}

/// About as many tokens as a provider would count.
const fn tokens(bytes: usize) -> u64 {
    (bytes / 4 + 1) as u64
}

/// Takes out what runtimes put into a human's message by themselves.
fn cleaned(text: &str) -> String {
    let mut text = text.to_owned();
    for tag in ["system-reminder", "environment_context", "turn_aborted", "user_instructions"] {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        while let Some(from) = text.find(&open) {
            let to = text[from..].find(&close).map_or(text.len(), |at| from + at + close.len());
            text.replace_range(from..to, "");
        }
    }
    while let Some(from) = text.find("[Request interrupted") {
        let to = text[from..].find(']').map_or(text.len(), |at| from + at + 1);
        text.replace_range(from..to, "");
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_requests_are_kept_within_bounds() {
        let mut memory = Memory::default();
        let mut keep = |number: u64, body: String| {
            let (wire, headers) = (Wire::OpenAi, BTreeMap::new());
            memory
                .keep(Kept { record: Recorded { number, wire, headers, body: Value::Null }, body });
            let first = memory.records.front().map(|kept| kept.record.number);
            (memory.records.len(), memory.bytes, first)
        };
        for number in 1..=2_100 {
            keep(number, "[1]".to_owned());
        }
        assert_eq!(keep(2_101, "[2]".to_owned()), (2_000, 6_000, Some(102)));
        let big = format!("\"{}\"", "x".repeat(RECORDS_BYTES_MAX / 2 - 2));
        keep(2_102, big.clone());
        assert_eq!(keep(2_103, big.clone()), (2, RECORDS_BYTES_MAX, Some(2_102)));
        assert_eq!(keep(2_104, big.repeat(3)), (1, 3 * big.len(), Some(2_104)), "the last is kept");
        assert_eq!(keep(2_105, "[3]".to_owned()), (1, 3, Some(2_105)));
        let last = memory.records.back().unwrap().open();
        assert_eq!((last.number, last.body), (2_105, serde_json::json!([3])));
    }

    #[test]
    fn texts_of_runtimes_are_taken_out() {
        assert_eq!(
            cleaned("<system-reminder>x</system-reminder> hi <system-reminder>y</system-reminder>"),
            "hi"
        );
        assert_eq!(cleaned("[Request interrupted by user]hi<environment_context>z"), "hi");
    }
}
