//! Collecting traces: spans of this process go to an OpenTelemetry collector, in batches, over
//! HTTP. A collector that is slow or dead costs spans, which are counted, and nothing else.

use std::{fmt, mem, time::Duration};

use bytes::Bytes;
use metrics::{Counter, counter, describe_counter};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor, Tracer},
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::error_chain;

const EXPORTED: &str = "troupe_telemetry_spans_exported_total";
const DROPPED: &str = "troupe_telemetry_spans_dropped_total";

/// Spans that wait to be sent, at most.
const QUEUE_MAX: usize = 8_192;
/// Spans of one request.
const BATCH_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// How long one request may take.
const EXPORT_MAX: Duration = Duration::from_secs(5);
/// Pauses after a failed request: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Attributes of a span and links of a span, at most.
const ATTRIBUTES_MAX: u32 = 32;

/// Where traces go, and how many.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The collector: `http://host:4318`; spans are posted to `/v1/traces` below it.
    pub endpoint: String,
    /// The share of traces that begin here and are collected, from 0 to 1. A trace that a
    /// caller began is collected if the caller says so.
    pub sample_ratio: f64,
    /// `service.instance.id`: the node's name.
    pub instance: String,
    /// `service.version`.
    pub version: String,
}

/// Why traces cannot be collected.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The address of the collector.
    #[error("the address of the collector is not valid: give http://HOST:PORT")]
    Endpoint,
    /// The share of traces.
    #[error("the share of traces must be from 0 to 1")]
    Ratio,
    /// The client that sends.
    #[error("no HTTP client for the collector can be made")]
    Client(#[source] reqwest::Error),
    /// The exporter.
    #[error("the exporter cannot be made")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}

/// The collecting of a process: dropped, spans that still wait are lost.
#[derive(Debug)]
pub struct Traces {
    finish: mpsc::Sender<oneshot::Sender<()>>,
    provider: SdkTracerProvider,
}

impl Traces {
    /// Sends what waits, for at most `within`, and ends the collecting.
    pub async fn finish(self, within: Duration) {
        crate::trace::set_collected(false);
        let (done, is_done) = oneshot::channel();
        let flush = async {
            if self.finish.send(done).await.is_ok() {
                // An export that ended before answers nothing: there is nothing left to send.
                let _ = is_done.await;
            }
        };
        if timeout(within, flush).await.is_err() {
            tracing::info!("the last spans did not reach the collector in time");
        }
        drop(self.provider);
    }
}

/// The sending of spans; to be spawned. It ends with [`Traces`].
pub struct TraceExport {
    spans: mpsc::Receiver<SpanData>,
    finish: mpsc::Receiver<oneshot::Sender<()>>,
    exporter: opentelemetry_otlp::SpanExporter,
    exported: Counter,
    failed: Counter,
    is_down: bool,
}

impl fmt::Debug for TraceExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceExport").field("is_down", &self.is_down).finish_non_exhaustive()
    }
}

/// What the subscriber needs, and what has to be run.
pub(crate) struct Made {
    pub(crate) tracer: Tracer,
    pub(crate) traces: Traces,
    pub(crate) export: TraceExport,
}

/// Makes the pieces; nothing is sent yet.
pub(crate) fn make(options: &TraceOptions) -> Result<Made, TraceError> {
    if !(0.0..=1.0).contains(&options.sample_ratio) {
        return Err(TraceError::Ratio);
    }
    let base = options.endpoint.trim_end_matches('/');
    let url = reqwest::Url::parse(base).map_err(|_| TraceError::Endpoint)?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(TraceError::Endpoint);
    }
    describe_counter!(EXPORTED, "spans that the collector took");
    describe_counter!(DROPPED, "spans that were lost, by why");
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(EXPORT_MAX)
        .build()
        .map_err(TraceError::Client)?;
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "troupe"),
            KeyValue::new("service.instance.id", options.instance.clone()),
            KeyValue::new("service.version", options.version.clone()),
        ])
        .build();
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Client(client))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{base}/v1/traces"))
        .with_timeout(EXPORT_MAX)
        .build()
        .map_err(TraceError::Exporter)?;
    exporter.set_resource(&resource);
    let (to, spans) = mpsc::channel(QUEUE_MAX);
    let (finish, finishing) = mpsc::channel(1);
    let processor = Queue { to, full: counter!(DROPPED, "why" => "full") };
    let sampler = Sampler::TraceIdRatioBased(options.sample_ratio);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_max_attributes_per_span(ATTRIBUTES_MAX)
        .with_max_links_per_span(ATTRIBUTES_MAX)
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("troupe");
    let export = TraceExport {
        spans,
        finish: finishing,
        exporter,
        exported: counter!(EXPORTED),
        failed: counter!(DROPPED, "why" => "failed"),
        is_down: false,
    };
    Ok(Made { tracer, traces: Traces { finish, provider }, export })
}

impl TraceExport {
    /// Sends until [`Traces`] is finished or gone.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut pause = PAUSE.0;
        loop {
            let told = tokio::select! {
                count = self.spans.recv_many(&mut batch, BATCH_MAX) => match count {
                    0 => return,
                    _ => self.gather(&mut batch).await,
                },
                told = self.finish.recv() => Some(told),
            };
            if let Some(told) = told {
                return self.end(batch, told).await;
            }
            if self.send(mem::take(&mut batch)).await {
                pause = PAUSE.0;
                continue;
            }
            // Meanwhile the queue fills up; what finds no room is counted.
            tokio::select! {
                () = sleep(pause) => {}
                told = self.finish.recv() => return self.end(batch, told).await,
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Waits a little for more. `Some`: it is time to end.
    async fn gather(&mut self, batch: &mut Vec<SpanData>) -> Option<Option<oneshot::Sender<()>>> {
        let until = Instant::now() + GATHER;
        while batch.len() < BATCH_MAX {
            let room = BATCH_MAX - batch.len();
            tokio::select! {
                more = timeout_at(until, self.spans.recv_many(batch, room)) => {
                    if matches!(more, Err(_) | Ok(0)) {
                        return None;
                    }
                }
                told = self.finish.recv() => return Some(told),
            }
        }
        None
    }

    /// Sends what is there once, without a second try.
    async fn end(mut self, mut batch: Vec<SpanData>, told: Option<oneshot::Sender<()>>) {
        loop {
            while batch.len() < BATCH_MAX
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() || !self.send(mem::take(&mut batch)).await {
                break;
            }
        }
        if let Some(told) = told {
            // Whoever waits may have stopped waiting.
            let _ = told.send(());
        }
    }

    /// Whether the collector took it; what it did not take is lost.
    async fn send(&mut self, batch: Vec<SpanData>) -> bool {
        let count = u64::try_from(batch.len()).unwrap_or(0);
        let why = match timeout(EXPORT_MAX, self.exporter.export(batch)).await {
            Ok(Ok(())) => {
                self.exported.increment(count);
                if mem::take(&mut self.is_down) {
                    tracing::info!("the collector of traces takes spans again");
                }
                return true;
            }
            Ok(Err(error)) => error_chain(&error),
            Err(_) => "it took too long".to_owned(),
        };
        self.failed.increment(count);
        if !mem::replace(&mut self.is_down, true) {
            tracing::warn!(why, "the collector of traces does not take spans");
        }
        false
    }
}

/// Puts ended spans into the queue, or counts them.
struct Queue {
    to: mpsc::Sender<SpanData>,
    full: Counter,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.to.try_send(span).is_err() {
            self.full.increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Our HTTP client; it runs on the runtime of whoever runs [`TraceExport`].
#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut answer = self.0.execute(request.try_into()?).await?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err("the collector's answer is too long".into());
            }
            body.extend_from_slice(&piece);
        }
        let mut response = Response::builder().status(answer.status()).body(Bytes::from(body))?;
        *response.headers_mut() = mem::take(answer.headers_mut());
        Ok(response)
    }
}
