//! What clients did and saw, what was done to the cluster, in one order on one monotonic clock.
//!
//! Kept in memory for the checkers and written line by line (JSON) to a file of the run.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher},
    io::{BufWriter, Write as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::Value;

/// Records of one run; a run that makes more fails, it does not forget.
const RECORDS_MAX: usize = 4_000_000;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Record {
    /// Microseconds since the run began.
    pub(crate) at: u64,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub(crate) enum What {
    /// A command leaves its client for a node; again with the same key if it had no answer.
    Sent { key: String, node: String, verb: &'static str, task: Option<String> },
    /// It was acknowledged.
    Acked { key: String, node: String, task: String, body: Value },
    /// It was refused.
    Refused { key: String, node: String, status: u16, code: String },
    /// Nobody knows what became of it.
    NoAnswer { key: String, node: String, why: String },
    /// A viewer has a stream that begins above `after`.
    Opened { viewer: String, node: String, task: String, after: u64 },
    /// A viewer was told to start over at `to`, as one that is far behind.
    Jumped { viewer: String, task: String, to: u64 },
    /// A viewer was shown a frame.
    Shown { viewer: String, task: String, seq: u64, digest: u64 },
    /// A viewer's stream is over.
    Closed { viewer: String, task: String, why: String },
    /// Somebody who may not see a Task asked a node for it.
    Peeked { node: String, task: String, how: &'static str, status: u16 },
    /// Resident memory of a node's process, in KiB.
    Memory { node: String, pid: u32, kib: u64 },
    /// Something is done to the cluster, or undone.
    Fault { scenario: String, text: String },
    /// A figure that a scenario measured.
    Measured { scenario: String, text: String },
}

/// The history of a run.
#[derive(Debug)]
pub(crate) struct History {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    records: Vec<Arc<Record>>,
    file: BufWriter<File>,
    trouble: Option<String>,
}

impl History {
    /// An empty one; its file is made anew.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
        let inner = Inner { records: Vec::new(), file: BufWriter::new(file), trouble: None };
        Ok(Self { began: Instant::now(), inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since it began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Adds a record. Trouble with the file or the bound shows in [`records`](Self::records).
    pub(crate) fn add(&self, what: What) {
        let mut inner = self.lock();
        // Under the lock, so that the order of the records is the order of their times.
        let record = Record { at: self.now(), what };
        if inner.records.len() >= RECORDS_MAX {
            inner.trouble = Some(format!("more than {RECORDS_MAX} records"));
            return;
        }
        let written = serde_json::to_writer(&mut inner.file, &record).map_err(|e| e.to_string());
        let written = written.and_then(|()| inner.file.write_all(b"\n").map_err(|e| e.to_string()));
        if let Err(error) = written {
            inner.trouble = Some(error);
        }
        inner.records.push(Arc::new(record));
    }

    /// All records so far, oldest first.
    ///
    /// # Errors
    /// If any could not be kept.
    pub(crate) fn records(&self) -> Result<Vec<Arc<Record>>> {
        let mut inner = self.lock();
        inner.file.flush().context("write the history")?;
        if let Some(trouble) = &inner.trouble {
            bail!("the history is not whole: {trouble}");
        }
        Ok(inner.records.clone())
    }
}

/// The same number for the same event, in whatever order its fields come.
pub(crate) fn digest(name: &str, data: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hash_value(data, &mut hasher);
    hasher.finish()
}

fn hash_value(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            hasher.write_u8(1);
            hasher.write_usize(fields.len());
            for (name, value) in fields {
                name.hash(hasher);
                hash_value(value, hasher);
            }
        }
        Value::Array(items) => {
            hasher.write_u8(2);
            hasher.write_usize(items.len());
            items.iter().for_each(|item| hash_value(item, hasher));
        }
        other => {
            hasher.write_u8(3);
            other.to_string().hash(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_fields_is_no_difference_and_all_else_is() {
        let one: Value = serde_json::from_str(r#"{"a": 1, "b": {"c": [1, 2], "d": "x"}}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"b": {"d": "x", "c": [1, 2]}, "a": 1}"#).unwrap();
        assert_eq!(digest("chat:chunk", &one), digest("chat:chunk", &two));
        for other in [
            json!({"a": 1, "b": {"c": [2, 1], "d": "x"}}),
            json!({"a": 1, "b": {"c": [1, 2], "d": "y"}}),
            json!({"a": "1", "b": {"c": [1, 2], "d": "x"}}),
        ] {
            assert_ne!(digest("chat:chunk", &one), digest("chat:chunk", &other));
        }
        assert_ne!(digest("chat:chunk", &one), digest("chat:done", &one));
    }

    #[test]
    fn records_come_back_in_order_and_lie_in_the_file() {
        let path = std::env::temp_dir().join(format!("chaos-history-{}", std::process::id()));
        let history = History::create(&path).unwrap();
        for kib in 0..3 {
            history.add(What::Memory { node: "n1".into(), pid: 7, kib });
        }
        let records = history.records().unwrap();
        assert!(records.windows(2).all(|pair| pair[0].at <= pair[1].at));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.starts_with("{\"at\":"), "{text}");
        std::fs::remove_file(path).unwrap();
    }
}
