//! Tools whose calls are counted.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use troupe_chat::{Tool, ToolContext, ToolError, ToolOutput, ToolRegistry};
use troupe_domain::task::StepRecord;

use crate::{log::Log, world::lock};

/// The tools of tests. `count` has a side effect; its calls are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter {
    /// Idempotency keys, in the order of the calls.
    pub(crate) keys: Arc<Mutex<Vec<String>>>,
    /// Calls under way now, and at most.
    pub(crate) active: Arc<(AtomicUsize, AtomicUsize)>,
    /// Where to look whether a call is committed.
    pub(crate) log: Arc<Mutex<Option<Arc<Log>>>>,
}

#[derive(Debug)]
pub(crate) struct TestTool {
    name: &'static str,
    counter: Counter,
}

#[async_trait]
impl Tool for TestTool {
    fn name(&self) -> &str {
        self.name
    }

    fn description(&self) -> &str {
        "for tests"
    }

    fn schema(&self) -> Value {
        json!({"type": "object", "properties": {}})
    }

    fn read_only(&self) -> bool {
        self.name != "count" && self.name != "hang"
    }

    fn timeout(&self) -> Option<Duration> {
        (self.name == "patient").then_some(Duration::from_secs(180))
    }

    async fn call(
        &self,
        args: Map<String, Value>,
        context: ToolContext,
    ) -> Result<ToolOutput, ToolError> {
        let key = context.idempotency_key.clone();
        let id = key.rsplit(':').next().unwrap_or_default().to_owned();
        if let Some(log) = &*lock(&self.counter.log) {
            let asked = log.steps().iter().any(|step| match step {
                StepRecord::Model { calls, .. } => calls.iter().any(|c| c.tool_use_id == id),
                StepRecord::Tool { .. } => false,
            });
            assert!(asked, "{id} is called before its call is committed");
            assert_eq!(log.result(&id), None, "{id} has a recorded result");
        }
        lock(&self.counter.keys).push(key);
        let (active, most) = &*self.counter.active;
        let now = active.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(now, Ordering::SeqCst);
        let ended = self.work(args).await;
        active.fetch_sub(1, Ordering::SeqCst);
        ended
    }
}

impl TestTool {
    async fn work(&self, args: Map<String, Value>) -> Result<ToolOutput, ToolError> {
        match self.name {
            "hang" | "look_hang" | "patient" => std::future::pending().await,
            "look" => {
                // Whoever is called with it is called before this one ends.
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                Ok(ToolOutput::text("seen"))
            }
            "big" => Ok(ToolOutput::text("x".repeat(1_000_000))),
            "break" => Err(ToolError::Failed { text: "it broke".into() }),
            "complain" => Ok(ToolOutput { text: "no".into(), is_error: true }),
            _ => Ok(ToolOutput::text(format!("counted {}", Value::Object(args)))),
        }
    }
}

impl Counter {
    pub(crate) fn registry(&self) -> ToolRegistry {
        let names = ["count", "hang", "look_hang", "patient", "look", "big", "break", "complain"];
        let tool = |name| TestTool { name, counter: self.clone() };
        names.into_iter().fold(ToolRegistry::new(), |all, name| all.with(tool(name)))
    }

    pub(crate) fn calls(&self) -> usize {
        lock(&self.keys).len()
    }
}
