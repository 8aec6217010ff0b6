//! Metrics of the process, rendered in Prometheus' text form on demand.

use std::fmt;

use metrics::{Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use thiserror::Error;

use crate::process;

const RESIDENT: &str = "troupe_telemetry_resident_bytes";
const OPEN_FILES: &str = "troupe_telemetry_open_files";

/// Upper bounds of histograms whose names end in `_seconds`.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// The same of what people and models take their time for.
const LONG_SECONDS: [f64; 15] =
    [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3_600.0];
/// Histograms with these bounds; whole names, as those win over what a name ends in.
const LONG: [&str; 6] = [
    "troupe_chat_first_token_seconds",
    "troupe_chat_model_call_seconds",
    "troupe_chat_tool_call_seconds",
    "troupe_entities_attempt_seconds",
    "troupe_entities_first_text_seconds",
    "troupe_entities_turn_seconds",
];
/// Upper bounds of histograms whose names end in `_bytes`.
const BYTES: [f64; 6] = [256.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

/// Why metrics were not set up.
#[derive(Debug, Error)]
#[error("the metrics recorder was not installed")]
pub struct MetricsError(#[source] BuildError);

/// Renders the metrics of this process. Cheap to clone.
#[derive(Clone)]
pub struct MetricsHandle(PrometheusHandle);

impl fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsHandle")
    }
}

/// Installs the recorder. Once per process and before anything that keeps metric handles.
///
/// # Errors
/// [`MetricsError`]: there is one already.
pub fn install() -> Result<MetricsHandle, MetricsError> {
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    let builder = LONG.iter().try_fold(PrometheusBuilder::new(), |builder, name| {
        builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), &LONG_SECONDS)
    });
    let handle = builder
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_seconds"), &SECONDS))
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_bytes"), &BYTES))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(MetricsError)?;
    describe_gauge!(RESIDENT, Unit::Bytes, "resident memory of this process");
    describe_gauge!(OPEN_FILES, "open file descriptors of this process");
    Ok(MetricsHandle(handle))
}

impl MetricsHandle {
    /// Everything, in Prometheus' text form. Reads a few files of `/proc`.
    #[must_use]
    pub fn render(&self) -> String {
        if let Some(bytes) = process::resident_bytes() {
            #[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB")]
            gauge!(RESIDENT).set(bytes as f64);
        }
        if let Some(files) = process::open_files() {
            gauge!(OPEN_FILES).set(f64::from(u32::try_from(files).unwrap_or(u32::MAX)));
        }
        self.0.render()
    }

    /// Folds what histograms have gathered; call it every 5 s or so, else they grow until
    /// somebody renders.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, histogram};

    use super::*;

    #[test]
    fn what_is_counted_is_rendered() {
        let handle = install().unwrap();
        assert!(install().is_err());
        counter!("troupe_test_things_total", "kind" => "one").increment(2);
        histogram!("troupe_test_wait_seconds").record(0.003);
        histogram!("troupe_entities_turn_seconds").record(100.0);
        handle.upkeep();
        let text = handle.render();
        for line in [
            "troupe_test_things_total{kind=\"one\"} 2",
            "troupe_test_wait_seconds_bucket{le=\"0.005\"} 1",
            "troupe_test_wait_seconds_bucket{le=\"0.0025\"} 0",
            "troupe_entities_turn_seconds_bucket{le=\"120\"} 1",
            "troupe_entities_turn_seconds_bucket{le=\"60\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let resident =
            text.lines().find_map(|l| l.strip_prefix("troupe_telemetry_resident_bytes "));
        assert!(resident.unwrap().parse::<f64>().unwrap() > 1e6);
        let files = text.lines().find_map(|l| l.strip_prefix("troupe_telemetry_open_files "));
        assert!(files.unwrap().parse::<f64>().unwrap() >= 3.0);
    }
}
