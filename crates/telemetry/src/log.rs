//! Where log lines go, and which.

use std::{
    error::Error,
    io::{self, IsTerminal as _},
    panic,
};

use thiserror::Error;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, ParseError, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    trace,
    traces::{self, TraceError, TraceExport, TraceOptions, Traces},
};

/// House code from INFO on; libraries that talk much from WARN on. What the CQL driver says of a
/// database that is away it says several times a second; the store says it once.
pub const DEFAULT_FILTER: &str = "info,ractor=warn,ractor_cluster=error,hyper=warn,h2=warn,\
    rustls=warn,engineioxide=warn,socketioxide=warn,scylla=warn,scylla::network=error,\
    scylla::cluster=error,scylla::cluster::metadata=off";

/// How to log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// One JSON object a line instead of text for people.
    pub json: bool,
    /// Directives such as `info,troupe_sharding=debug`.
    pub filter: String,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { json: false, filter: DEFAULT_FILTER.to_owned() }
    }
}

/// Why logging was not set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter's directives.
    #[error("the log filter is not valid")]
    Filter(#[source] ParseError),
    /// Traces cannot be collected.
    #[error("traces cannot be collected")]
    Traces(#[source] TraceError),
    /// Something else in this process has set it up.
    #[error("logging is set up already")]
    Twice(#[source] Box<dyn Error + Send + Sync>),
}

/// Logs to standard error from now on, panics included. Once per process.
///
/// # Errors
/// See [`LogError`].
pub fn init(options: &LogOptions) -> Result<(), LogError> {
    init_with_traces(options, None).map(drop)
}

/// As [`init`], and collects traces if it is told where they go: run the [`TraceExport`], and
/// [`finish`](Traces::finish) last of all. Needs the metrics recorder before it, and a runtime.
///
/// # Errors
/// See [`LogError`].
pub fn init_with_traces(
    options: &LogOptions,
    traces: Option<&TraceOptions>,
) -> Result<Option<(Traces, TraceExport)>, LogError> {
    let filter = EnvFilter::try_new(&options.filter).map_err(LogError::Filter)?;
    let made = traces.map(traces::make).transpose().map_err(LogError::Traces)?;
    let (tracer, collecting) = made.map(|made| (made.tracer, (made.traces, made.export))).unzip();
    // Colours are for people; a file gets plain text.
    let colours = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours);
    let lines = if options.json { lines.json().boxed() } else { lines.boxed() };
    // Spans of the house alone: no events, whose fields are written for the log, and nothing of
    // the libraries, one of which sends these spans.
    let spans = tracer.map(|tracer| {
        let ours = |of: &tracing::Metadata<'_>| of.is_span() && of.target().starts_with("troupe");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_filter(filter_fn(ours).with_max_level_hint(LevelFilter::DEBUG))
    });
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(spans)
        .try_init()
        .map_err(|error| LogError::Twice(Box::new(error)))?;
    trace::set_collected(collecting.is_some());
    panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("(no text)");
        let (file, line) = info.location().map_or(("", 0), |place| (place.file(), place.line()));
        let thread = std::thread::current().name().unwrap_or("").to_owned();
        tracing::error!(text, file, line, thread, "panic");
    }));
    Ok(collecting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_makes_no_sense_is_refused_and_the_default_is_not() {
        let bad = LogOptions { filter: "a=b=c".to_owned(), ..LogOptions::default() };
        assert!(matches!(init(&bad), Err(LogError::Filter(_))));
        init(&LogOptions { json: true, ..LogOptions::default() }).unwrap();
        assert!(matches!(init(&LogOptions::default()), Err(LogError::Twice(_))));
    }
}
