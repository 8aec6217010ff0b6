//! The node's own tools.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use troupe_types::Clock;

use super::{Tool, ToolContext, ToolError, ToolOutput};

/// `current_time {timezone?}`.
#[derive(Debug)]
pub struct CurrentTime {
    clock: Arc<dyn Clock>,
}

impl CurrentTime {
    /// Tells the time of this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }
}

#[async_trait]
impl Tool for CurrentTime {
    fn name(&self) -> &'static str {
        "current_time"
    }

    fn description(&self) -> &'static str {
        "Tells the current date and time, in UTC and in a time zone."
    }

    fn schema(&self) -> Value {
        json!({"type": "object", "properties": {
            "timezone": {"type": "string", "description": "IANA name, as Europe/Berlin; UTC if absent."},
        }})
    }

    fn read_only(&self) -> bool {
        true
    }

    async fn call(
        &self,
        args: Map<String, Value>,
        _: ToolContext,
    ) -> Result<ToolOutput, ToolError> {
        let failed = |text: String| ToolError::Failed { text };
        let name = args.get("timezone").and_then(Value::as_str).unwrap_or("UTC").trim();
        let now = jiff::Timestamp::from_millisecond(self.clock.now().as_millis())
            .map_err(|_| failed("the clock is out of range".to_owned()))?;
        let zone = match name {
            "" | "UTC" | "Z" | "utc" => TimeZone::UTC,
            name => TimeZone::get(name)
                .map_err(|_| failed(format!("there is no time zone `{name}` here; try UTC")))?,
        };
        let local = now.to_zoned(zone);
        let text = json!({
            "utc": format!("{now:.0}"),
            "local": local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            "weekday": local.strftime("%A").to_string(),
            "timezone": name,
        });
        Ok(ToolOutput::text(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;
    use troupe_types::{ManualClock, Timestamp};

    use super::*;

    #[tokio::test]
    async fn it_tells_the_time_of_its_clock() {
        let clock = ManualClock::at(Timestamp::from_millis(1_795_000_000_007));
        let tool = CurrentTime::new(Arc::new(clock));
        let context = || ToolContext {
            idempotency_key: "k".into(),
            cancel: CancellationToken::new(),
            result_tokens_max: 100,
        };
        let told = tool.call(Map::new(), context()).await.unwrap().text;
        assert!(told.contains("2026-11-18T11:06:40Z"), "{told}");
        assert!(told.contains("Wednesday"), "{told}");
        let args = Map::from_iter([("timezone".to_owned(), json!("Moon/Sea"))]);
        assert!(matches!(tool.call(args, context()).await, Err(ToolError::Failed { .. })));
    }
}
