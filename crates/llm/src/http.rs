//! One HTTP call that answers with a stream of events: waits, bounds, error bodies.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Client, Response, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use troupe_types::Clock;

use crate::{
    assemble::Assembler,
    config::{LlmOptions, ModelConfig},
    egress::{EgressError, refusal_in},
    error::{
        ErrorHints, ErrorType, ModelError, PROVIDER_TEXT_BYTES_MAX, TimeoutPhase, capped, classify,
    },
    message::Request,
    provider::{ModelEvent, ModelStream, Provider, Source, stream_of},
    retry::{Jitter, Retrying},
    retry_after,
    secret::SecretText,
    sse::{SseDecoder, SseEvent},
};

/// Most bytes of an error body that are read.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for an error body.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What differs between providers that are called over HTTP.
pub(crate) trait Protocol: fmt::Debug + Send + Sync + 'static {
    /// The provider's name.
    const NAME: &'static str;
    /// Reads the events of one answer.
    type Decoder: Decoder;

    /// Where calls go.
    fn url(config: &ModelConfig) -> String;
    /// Headers of every call.
    fn headers(config: &ModelConfig) -> Result<HeaderMap, ModelError>;
    /// The body of a call.
    fn body(config: &ModelConfig, options: &LlmOptions, request: &Request) -> Value;
}

/// Reads the events of one answer.
pub(crate) trait Decoder: Default + Send + 'static {
    /// Takes one event in.
    fn event(&mut self, event: &SseEvent, answer: &mut Assembler) -> Result<(), ModelError>;
    /// The stream has ended; an answer that is not complete is `Cut`.
    fn end(&mut self, answer: &mut Assembler) -> Result<(), ModelError>;
}

/// Where and how calls of one model are sent.
#[derive(Debug)]
pub(crate) struct Wire {
    client: Client,
    url: Url,
    headers: HeaderMap,
    secrets: Vec<SecretText>,
    options: Arc<LlmOptions>,
    clock: Arc<dyn Clock>,
}

impl Wire {
    pub(crate) fn new(
        client: Client,
        url: Url,
        headers: HeaderMap,
        config: &ModelConfig,
        options: Arc<LlmOptions>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let secrets = config.api_key.iter().chain(config.headers.values());
        let secrets = secrets.filter(|s| s.expose().len() >= 6).cloned().collect();
        Self { client, url, headers, secrets, options, clock }
    }

    /// Sends a call and waits for the head of the answer.
    async fn open(&self, body: Bytes) -> Result<EventStream, ModelError> {
        let options = &self.options;
        let start = Instant::now();
        let first_byte = start + options.first_byte_timeout;
        let mut call = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        if options.send_trace
            && let Some(here) = troupe_telemetry::trace::current()
        {
            call = call.header("traceparent", here.to_string());
        }
        let response = timeout_at(first_byte, call.send())
            .await
            .map_err(|_| timed_out(TimeoutPhase::FirstByte, options.first_byte_timeout))?
            .map_err(|error| self.network(error))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        // A missing or vague type may still be a stream.
        let other = |kind: &str| {
            let kind = kind.to_ascii_lowercase();
            !kind.starts_with("text/event-stream") && !kind.starts_with("application/octet-stream")
        };
        if kind.is_some_and(other) {
            return Err(self.no_stream(response).await);
        }
        Ok(EventStream {
            response,
            decoder: SseDecoder::new(options.event_bytes_max),
            received: 0,
            deadline: (first_byte, TimeoutPhase::FirstByte, options.first_byte_timeout),
            total: start + options.total_timeout,
            ended: false,
        })
    }

    fn network(&self, error: reqwest::Error) -> ModelError {
        if let Some(refusal) = refusal_in(&error) {
            // A name that cannot be resolved just now is a matter of the network.
            if !matches!(refusal, EgressError::Unresolved { .. }) {
                return ModelError::Egress(refusal);
            }
        }
        if error.is_connect() && error.is_timeout() {
            return timed_out(TimeoutPhase::Connect, self.options.connect_timeout);
        }
        ModelError::Network { source: error.without_url() }
    }

    /// The error of an answer with an error status.
    async fn refused(&self, response: Response) -> ModelError {
        let status = response.status();
        let headers = response.headers().clone();
        let body = read_capped(response).await;
        let mut error = self.provider_error(Some(status.as_u16()), &body);
        if status.is_redirection() {
            let detail = format!("unexpected redirect ({})", status.as_u16());
            return ModelError::Protocol { detail };
        }
        if let ModelError::Provider { retry_after, request_id, transient, .. } = &mut error {
            *retry_after = retry_after::read(&headers, self.clock.now());
            *request_id =
                header(&headers, "request-id").or_else(|| header(&headers, "x-request-id"));
            match header(&headers, "x-should-retry").as_deref() {
                Some("true") => *transient = true,
                Some("false") => *transient = false,
                _ => {}
            }
        }
        error
    }

    /// The error of an answer that is no stream: some servers answer errors with status 200.
    async fn no_stream(&self, response: Response) -> ModelError {
        let body = read_capped(response).await;
        let told =
            serde_json::from_str::<Value>(&body).is_ok_and(|body| body.get("error").is_some());
        if told {
            return self.provider_error(None, &body);
        }
        let excerpt = capped(&body, 200).to_owned();
        ModelError::Protocol { detail: self.clean(&format!("no event stream: {excerpt}")) }
    }

    /// Sorts an error body. The known shapes: `{error: {type, code, message}}`, `{error: text}`,
    /// `{message, code, type}`, `{detail}`; anything else counts as text.
    fn provider_error(&self, status: Option<u16>, body: &str) -> ModelError {
        let json = serde_json::from_str::<Value>(body).unwrap_or(Value::Null);
        let error = json.get("error").filter(|e| e.is_object()).unwrap_or(&json);
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        let code = match error.get("code") {
            Some(Value::String(code)) => code.clone(),
            Some(Value::Number(code)) => code.to_string(),
            _ => String::new(),
        };
        let message = text("message")
            .or_else(|| json.get("error").and_then(Value::as_str))
            .or_else(|| json.get("detail").and_then(Value::as_str))
            .unwrap_or(body);
        let kind = text("type").unwrap_or_default();
        let (kind, transient) = classify(ErrorHints { status, kind, code: &code, message });
        let mut message = message.trim().to_owned();
        if message.is_empty() {
            message = status.map_or_else(String::new, |status| format!("HTTP status {status}"));
        }
        ModelError::Provider {
            kind,
            text: self.clean(&message),
            status,
            retry_after: None,
            request_id: None,
            transient,
        }
    }

    /// A provider's text without our secrets, capped.
    fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.expose(), "[key]");
        }
        capped(&text, PROVIDER_TEXT_BYTES_MAX).to_owned()
    }

    /// Errors that a decoder found pass through here, so that no key leaves with them.
    fn cleaned(&self, error: ModelError) -> ModelError {
        match error {
            ModelError::Protocol { detail } => ModelError::Protocol { detail: self.clean(&detail) },
            other => other,
        }
    }
}

/// A marker by which a decoder hands over an error that came within the stream: [`HttpCall`]
/// sorts it, because only it can take the keys out.
pub(crate) fn error_in_stream(body: String) -> ModelError {
    ModelError::Provider {
        kind: ErrorType::GenericError,
        text: body,
        status: None,
        retry_after: None,
        request_id: None,
        transient: false,
    }
}

/// The body of a running answer.
#[derive(Debug)]
struct EventStream {
    response: Response,
    decoder: SseDecoder,
    received: usize,
    deadline: (Instant, TimeoutPhase, Duration),
    total: Instant,
    ended: bool,
}

impl EventStream {
    /// The next event; `None` at the end.
    async fn next(&mut self, wire: &Wire) -> Result<Option<SseEvent>, ModelError> {
        loop {
            if let Some(event) = self.decoder.pop() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            let (mut at, mut phase, mut after) = self.deadline;
            if self.total < at {
                (at, phase, after) = (self.total, TimeoutPhase::Total, wire.options.total_timeout);
            }
            let chunk = timeout_at(at, self.response.chunk()).await;
            match chunk.map_err(|_| timed_out(phase, after))? {
                Ok(Some(bytes)) => {
                    self.received = self.received.saturating_add(bytes.len());
                    let limit = wire.options.wire_bytes_max;
                    if self.received > limit {
                        return Err(ModelError::TooLarge { what: "a stream", limit });
                    }
                    self.decoder.push(&bytes)?;
                    let idle = wire.options.idle_timeout;
                    self.deadline = (Instant::now() + idle, TimeoutPhase::Idle, idle);
                }
                Ok(None) => {
                    self.ended = true;
                    self.decoder.finish()?;
                }
                // Bytes that do not add up: the connection broke in the middle.
                Err(error) => return Err(wire.network(error)),
            }
        }
    }
}

/// One try of a call.
struct HttpCall<P: Protocol> {
    wire: Arc<Wire>,
    body: Bytes,
    stream: Option<EventStream>,
    decoder: P::Decoder,
    answer: Assembler,
}

impl<P: Protocol> Source for HttpCall<P> {
    async fn next(&mut self) -> Result<ModelEvent, ModelError> {
        loop {
            if let Some(event) = self.answer.pop() {
                return Ok(event);
            }
            let stream = match &mut self.stream {
                Some(stream) => stream,
                none => none.insert(self.wire.open(self.body.clone()).await?),
            };
            let taken = match stream.next(&self.wire).await? {
                Some(event) => self.decoder.event(&event, &mut self.answer),
                None => self.decoder.end(&mut self.answer),
            };
            taken.map_err(|error| match error {
                ModelError::Provider { text, status: None, .. } => {
                    self.wire.provider_error(None, &text)
                }
                other => self.wire.cleaned(other),
            })?;
        }
    }
}

/// A model behind HTTP.
#[derive(Debug)]
pub(crate) struct HttpProvider<P> {
    config: ModelConfig,
    wire: Arc<Wire>,
    jitter: Jitter,
    protocol: PhantomData<P>,
}

impl<P> HttpProvider<P> {
    pub(crate) const fn new(config: ModelConfig, wire: Arc<Wire>, jitter: Jitter) -> Self {
        Self { config, wire, jitter, protocol: PhantomData }
    }
}

impl<P: Protocol> Provider for HttpProvider<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn model(&self) -> &str {
        &self.config.model_id
    }

    fn stream(&self, request: Request, cancel: CancellationToken) -> ModelStream {
        let options = Arc::clone(&self.wire.options);
        let body = Bytes::from(P::body(&self.config, &options, &request).to_string());
        let wire = Arc::clone(&self.wire);
        let model = self.config.model_id.clone();
        let start = move || HttpCall::<P> {
            wire: Arc::clone(&wire),
            body: body.clone(),
            stream: None,
            decoder: P::Decoder::default(),
            answer: Assembler::new(&model, options.answer_bytes_max),
        };
        let retry = self.wire.options.retry;
        stream_of(Retrying::new(retry, self.jitter.clone(), start), cancel)
    }
}

/// Headers common to all protocols, and the model's own over them.
pub(crate) fn base_headers(
    config: &ModelConfig,
    pairs: &[(&'static str, String)],
) -> Result<HeaderMap, ModelError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("accept", HeaderValue::from_static("text/event-stream"));
    let own = config.headers.iter().map(|(name, value)| (name.as_str(), value.expose()));
    for (name, value) in pairs.iter().map(|(name, value)| (*name, value.as_str())).chain(own) {
        let bad = || ModelError::Config { detail: format!("header {name} cannot be sent") };
        let key = HeaderName::try_from(name).map_err(|_| bad())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

const fn timed_out(phase: TimeoutPhase, after: Duration) -> ModelError {
    ModelError::Timeout { phase, after }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(|value| capped(value, 200).to_owned())
}

/// The start of a body, as text.
async fn read_capped(mut response: Response) -> String {
    let mut body = Vec::new();
    let deadline = Instant::now() + ERROR_BODY_TIMEOUT;
    while let Ok(Ok(Some(chunk))) = timeout_at(deadline, response.chunk()).await {
        body.extend_from_slice(&chunk);
        if body.len() >= ERROR_BODY_BYTES_MAX {
            body.truncate(ERROR_BODY_BYTES_MAX);
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}
