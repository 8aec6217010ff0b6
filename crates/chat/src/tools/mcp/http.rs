//! The HTTP client of MCP sessions. The protocol library is told a server's name instead of its
//! URL, and errors lose theirs, so that a key in a URL reaches no log line.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::stream::BoxStream;
use reqwest::{
    Client, Url,
    header::{HeaderName, HeaderValue},
};
use rmcp::{
    model::ClientJsonRpcMessage,
    transport::{
        common::client_side_sse::ExponentialBackoff,
        streamable_http_client::{
            SseError, StreamableHttpClient, StreamableHttpClientTransportConfig,
            StreamableHttpError, StreamableHttpPostResponse, StreamableHttpResponseLimits,
        },
    },
};
use sse_stream::Sse;
use troupe_llm::EgressError;

use super::ANSWER_BYTES_MAX;

/// Tries to take up a stream that broke.
const RESUMES_MAX: usize = 3;
/// Bytes of an error page that are read.
const ERROR_PAGE_BYTES_MAX: usize = 4 * 1024;

type Error = StreamableHttpError<reqwest::Error>;
type Headers = HashMap<HeaderName, HeaderValue>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

/// A client that knows the server's real address.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client,
    url: Arc<str>,
}

impl Http {
    pub(super) fn new(client: Client, url: &Url) -> Self {
        Self { client, url: url.as_str().into() }
    }
}

/// How a session behaves.
pub(super) fn config(server: &str, headers: Headers) -> StreamableHttpClientTransportConfig {
    let mut resumes = ExponentialBackoff::default();
    resumes.max_times = Some(RESUMES_MAX);
    resumes.max_delay = Some(Duration::from_secs(5));
    let mut config = StreamableHttpClientTransportConfig::with_uri(format!("mcp:{server}"))
        .custom_headers(headers)
        .max_sse_event_size(ANSWER_BYTES_MAX)
        .max_json_response_size(ANSWER_BYTES_MAX)
        .max_error_response_size(ERROR_PAGE_BYTES_MAX);
    config.retry_config = Arc::new(resumes);
    config
}

fn without_url(error: Error) -> Error {
    match error {
        StreamableHttpError::Client(error) => StreamableHttpError::Client(error.without_url()),
        other => other,
    }
}

impl StreamableHttpClient for Http {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Error> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session, token, headers, limits).await
    }

    async fn post_message_with_response_limits(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, Error> {
        let url = Arc::clone(&self.url);
        self.client
            .post_message_with_response_limits(url, message, session, token, headers, limits)
            .await
            .map_err(without_url)
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<(), Error> {
        let url = Arc::clone(&self.url);
        self.client.delete_session(url, session, token, headers).await.map_err(without_url)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<Events, Error> {
        let max = ANSWER_BYTES_MAX;
        self.get_stream_with_max_sse_event_size(uri, session, last_event, token, headers, max).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        _: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: Headers,
        max: usize,
    ) -> Result<Events, Error> {
        let url = Arc::clone(&self.url);
        self.client
            .get_stream_with_max_sse_event_size(url, session, last_event, token, headers, max)
            .await
            .map_err(without_url)
    }
}

/// What people are told of an error of the transport.
pub(super) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(refusal) = find::<EgressError>(error) {
        return refusal.to_string();
    }
    match find::<Error>(error) {
        Some(StreamableHttpError::Client(error)) => match error.status() {
            Some(status) => format!("HTTP {status}"),
            None if error.is_connect() => format!("no connection{}", root(error)),
            None if error.is_timeout() => "the connection timed out".to_owned(),
            None => format!("the connection failed{}", root(error)),
        },
        Some(StreamableHttpError::AuthRequired(_)) => {
            "HTTP 401: it wants other credentials".to_owned()
        }
        Some(StreamableHttpError::InsufficientScope(_)) => {
            "HTTP 403: it wants other credentials".to_owned()
        }
        Some(other) => other.to_string(),
        None => "the connection failed".to_owned(),
    }
}

/// Whether it is certain that the server never saw the request.
pub(super) fn never_sent(error: &(dyn std::error::Error + 'static)) -> bool {
    find::<EgressError>(error).is_some()
        || matches!(find::<Error>(error), Some(StreamableHttpError::Client(e)) if e.is_connect())
}

/// The deepest cause, which is the system's own word.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error.source();
    let mut text = String::new();
    while let Some(error) = cause {
        text = format!(": {error}");
        cause = error.source();
    }
    text
}

fn find<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
