//! Where log lines go, and which.

use std::{
    error::Error,
    io::{self, IsTerminal as _},
    panic,
};

use thiserror::Error;
use tracing_subscriber::{
    EnvFilter, Layer, filter::ParseError, layer::SubscriberExt, util::SubscriberInitExt,
};

/// House code from INFO on; libraries that talk much from WARN on.
pub const DEFAULT_FILTER: &str =
    "info,ractor=warn,hyper=warn,h2=warn,rustls=warn,engineioxide=warn,socketioxide=warn";

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
    /// Something else in this process has set it up.
    #[error("logging is set up already")]
    Twice(#[source] Box<dyn Error + Send + Sync>),
}

/// Logs to standard error from now on, panics included. Once per process.
///
/// # Errors
/// See [`LogError`].
pub fn init(options: &LogOptions) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&options.filter).map_err(LogError::Filter)?;
    // Colours are for people; a file gets plain text.
    let colours = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours);
    let lines = if options.json { lines.json().boxed() } else { lines.boxed() };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|error| LogError::Twice(Box::new(error)))?;
    panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("(no text)");
        let (file, line) = info.location().map_or(("", 0), |place| (place.file(), place.line()));
        let thread = std::thread::current().name().unwrap_or("").to_owned();
        tracing::error!(text, file, line, thread, "panic");
    }));
    Ok(())
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
