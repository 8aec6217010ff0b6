//! Logging and the collecting of traces, as the configuration wants them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use troupe_actor::spawn_task;
use troupe_telemetry::{LogOptions, TraceOptions, Traces};

use crate::config::Config;

/// How long the last spans may take at the end of the process.
const FINISH_IN: Duration = Duration::from_secs(3);

/// The collecting of this process, if it is on.
#[derive(Debug)]
pub(crate) struct Collecting(Option<Traces>);

/// Sets up logging, and traces if they have somewhere to go. Once per process, after the metrics
/// recorder. `node`: what traces call this process.
pub(crate) fn start(config: &Config, node: &str) -> Result<Collecting> {
    let log = LogOptions { json: config.log.json, filter: config.log.filter.clone() };
    let traces = config.traces.endpoint.as_ref().map(|endpoint| TraceOptions {
        endpoint: endpoint.clone(),
        sample_ratio: config.traces.sample_ratio,
        instance: node.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    let started = troupe_telemetry::init_with_traces(&log, traces.as_ref()).context("logging")?;
    Ok(Collecting(started.map(|(traces, export)| {
        // It ends with what is collected.
        drop(spawn_task("trace-export", export.run()));
        traces
    })))
}

impl Collecting {
    /// Sends what is left. The last thing that a process does.
    pub(crate) async fn finish(self) {
        if let Some(traces) = self.0 {
            traces.finish(FINISH_IN).await;
        }
    }
}
