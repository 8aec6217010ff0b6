//! A witness: frames folded by the rules that clients are told, in code of its own.
//!
//! Works piece by piece where the product works block by block, and finds fault with every frame
//! that does not fit what came before it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A frame as a viewer gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub seq: u64,
    pub name: String,
    pub data: Value,
}

impl Event {
    pub fn new(name: &str, data: Value) -> Result<Self> {
        let seq = data["seq"].as_u64().with_context(|| format!("{name} without a seq: {data}"))?;
        Ok(Self { seq, name: name.to_owned(), data })
    }
}

/// One piece of text or thinking, or one other block.
#[derive(Clone, Debug)]
struct Part {
    id: String,
    attempt: u64,
    text: Option<String>,
    thinking: bool,
    /// Of its last change.
    seq: u64,
    /// Code points of the answer after it.
    offset: u64,
    /// Of a block that is neither text nor thinking: status, and where it became final.
    status: String,
    ended: Option<u64>,
    output: Value,
}

impl Part {
    /// Its attempt is over: a call without a result may have run.
    fn settle(&mut self) {
        if self.text.is_none() && self.ended.is_none() {
            self.status = "unknown".to_owned();
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Try {
    number: u64,
    status: String,
    ended: bool,
    interrupted: Vec<Part>,
}

/// One row of the transcript.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    pub ordinal: u64,
    pub turn: String,
    pub kind: String,
    pub status: String,
    pub key: Option<String>,
    given: String,
    parts: Vec<Part>,
    tries: Vec<Try>,
}

impl Row {
    /// A person's or hand-off text; of an answer: all of its valid text.
    pub fn text(&self) -> String {
        if self.tries.is_empty() {
            return self.given.clone();
        }
        self.pieces().collect()
    }

    fn pieces(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter(|p| !p.thinking).filter_map(|p| p.text.as_deref())
    }

    /// Number and status of its attempts.
    pub fn attempts(&self) -> Vec<(u64, String)> {
        self.tries.iter().map(|t| (t.number, t.status.clone())).collect()
    }
}

/// The fold.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    head: u64,
    rows: Vec<Row>,
    faults: Vec<String>,
    ordinals: BTreeSet<u64>,
    pub queue: Value,
}

const ENDS: [(&str, &str); 3] =
    [("chat:done", "COMPLETED"), ("chat:error", "FAILED"), ("chat:cancelled", "CANCELLED")];

impl Fold {
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut fold = Self::default();
        events.into_iter().for_each(|event| fold.push(event));
        fold
    }

    pub fn head(&self) -> u64 {
        self.head
    }

    /// What did not fit.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn push(&mut self, event: &Event) {
        if event.seq != self.head + 1 {
            self.fault(event, format!("follows {}", self.head));
        }
        self.head = event.seq;
        let end = ENDS.iter().find(|(name, _)| *name == event.name);
        match (event.name.as_str(), end) {
            (_, Some((_, status))) => self.end(event, status),
            ("chat:message", _) => self.message(event),
            ("chat:start", _) => self.start(event),
            ("chat:chunk", _) => self.chunk(event),
            ("chat:block_created", _) => self.block(event),
            ("chat:block_updated", _) => self.patch(event),
            ("chat:status_updated", _) => self.status(event),
            ("chat:edited", _) => self.edited(event),
            ("task:queue", _) => self.queue = event.data["queue"].clone(),
            ("chat:usage" | "task:stage" | "task:updated", _) => {}
            _ => self.fault(event, "is no event of the table".to_owned()),
        }
    }

    fn fault(&mut self, event: &Event, what: String) {
        let Event { seq, name, data } = event;
        let data: String = data.to_string().chars().take(300).collect();
        self.faults.push(format!("frame {seq} {name} {what}: {data}"));
    }

    fn place(&self, event: &Event) -> Option<usize> {
        let id = event.data["subtask_id"].as_str()?;
        self.rows.iter().position(|row| row.id == id)
    }

    fn message(&mut self, event: &Event) {
        let data = &event.data;
        let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
        let row = Row {
            id: text("subtask_id"),
            ordinal: data["message_id"].as_u64().unwrap_or(0),
            turn: text("turn_id"),
            kind: text("kind"),
            status: text("status"),
            key: data["client_message_id"].as_str().map(str::to_owned),
            given: text("content"),
            parts: Vec::new(),
            tries: Vec::new(),
        };
        let last = self.ordinals.last().copied().unwrap_or(0);
        if row.ordinal != last + 1 {
            self.fault(event, format!("has not the ordinal after {last}"));
        }
        self.ordinals.insert(row.ordinal);
        if self.place(event).is_some() {
            self.fault(event, "is there twice".to_owned());
            return;
        }
        self.rows.push(row);
    }

    fn start(&mut self, event: &Event) {
        let Some(place) = self.place(event) else {
            return self.fault(event, "is about no row".to_owned());
        };
        let number = |field: &str| event.data[field].as_u64().unwrap_or(u64::MAX);
        let (attempt, keeps, offset) = (number("attempt"), number("keeps"), number("offset"));
        let row = &mut self.rows[place];
        let before = row.tries.last().map_or(0, |t| t.number);
        let open = row.tries.last().is_some_and(|t| !t.ended);
        let (kept, left): (Vec<Part>, Vec<Part>) =
            std::mem::take(&mut row.parts).into_iter().partition(|part| match part.text {
                Some(_) if part.thinking => part.seq <= keeps,
                Some(_) => part.seq <= keeps && part.offset <= offset,
                None => part.ended.is_some_and(|ended| ended <= keeps),
            });
        row.parts = kept;
        for mut part in left {
            part.settle();
            if let Some(made) = row.tries.iter_mut().rfind(|t| t.number == part.attempt) {
                made.interrupted.push(part);
            }
        }
        row.status = "RUNNING".to_owned();
        row.tries.push(Try { number: attempt, status: "RUNNING".into(), ..Try::default() });
        let points: u64 = row.pieces().map(points).sum();
        if attempt != before + 1 || open {
            self.fault(event, format!("follows attempt {before} (open: {open})"));
        }
        if keeps >= event.seq || points != offset {
            self.fault(event, format!("keeps {points} code points"));
        }
    }

    /// The row of a frame of an attempt, if that attempt is the current one and not over.
    fn live(&mut self, event: &Event) -> Option<usize> {
        let Some(place) = self.place(event) else {
            self.fault(event, "is about no row".to_owned());
            return None;
        };
        let number = event.data["attempt"].as_u64().unwrap_or(0);
        let current = self.rows[place].tries.last();
        if current.is_some_and(|t| t.number == number && !t.ended) {
            return Some(place);
        }
        self.fault(event, "is not of the attempt that runs".to_owned());
        None
    }

    fn late(&mut self, event: &Event, part: Part) {
        let tried = self.place(event).and_then(|place| {
            let tries = &mut self.rows[place].tries;
            tries.iter_mut().rfind(|t| t.number == part.attempt && t.ended)
        });
        match tried {
            Some(tried) => tried.interrupted.push(part),
            None => self.fault(event, "is late, but of no attempt that is over".to_owned()),
        }
    }

    fn chunk(&mut self, event: &Event) {
        let data = &event.data;
        let thinking = data["content"].is_null();
        let text = if thinking { &data["result"]["reasoning_chunk"] } else { &data["content"] };
        let text = text.as_str().unwrap_or_default().to_owned();
        let before = data["offset"].as_u64().unwrap_or(0);
        let part = Part {
            id: data["block_id"].as_str().unwrap_or_default().to_owned(),
            attempt: data["attempt"].as_u64().unwrap_or(0),
            offset: before + points(&text),
            thinking,
            seq: event.seq,
            status: String::new(),
            ended: None,
            output: Value::Null,
            text: Some(text),
        };
        if data["late"] == true {
            return self.late(event, part);
        }
        let Some(place) = self.live(event) else { return };
        let valid: u64 = self.rows[place].pieces().map(points).sum();
        self.rows[place].parts.push(part);
        if !thinking && valid != before {
            self.fault(event, format!("begins at {before}, but there are {valid} code points"));
        }
    }

    fn block(&mut self, event: &Event) {
        let block = &event.data["block"];
        let status = block["status"].as_str().unwrap_or_default().to_owned();
        let part = Part {
            id: block["id"].as_str().unwrap_or_default().to_owned(),
            attempt: event.data["attempt"].as_u64().unwrap_or(0),
            text: None,
            thinking: false,
            seq: event.seq,
            offset: 0,
            ended: is_final(&status).then_some(event.seq),
            status,
            output: block["tool_output"].clone(),
        };
        if event.data["late"] == true {
            return self.late(event, part);
        }
        if let Some(place) = self.live(event) {
            self.rows[place].parts.push(part);
        }
    }

    fn patch(&mut self, event: &Event) {
        let Some(place) = self.place(event) else {
            return self.fault(event, "is about no row".to_owned());
        };
        let id = event.data["block_id"].as_str().unwrap_or_default();
        let row = &mut self.rows[place];
        let kept = row.parts.iter_mut().rfind(|p| p.id == id);
        let left = row.tries.iter_mut().flat_map(|t| &mut t.interrupted).rfind(|p| p.id == id);
        let Some(part) = kept.or(left) else {
            return self.fault(event, "is about no block".to_owned());
        };
        let was_final = is_final(&part.status);
        if let Some(status) = event.data["status"].as_str() {
            part.status = status.to_owned();
        }
        if !event.data["tool_output"].is_null() {
            part.output = event.data["tool_output"].clone();
        }
        part.seq = event.seq;
        part.ended = is_final(&part.status).then_some(part.ended.unwrap_or(event.seq));
        if was_final && part.ended.is_none() {
            self.fault(event, "reopens a block that had ended".to_owned());
        }
    }

    fn status(&mut self, event: &Event) {
        let Some(place) = self.place(event) else { return };
        let row = &mut self.rows[place];
        let over = ["FAILED", "CANCELLED"].contains(&row.status.as_str());
        if event.data["phase"] == "queued" && over {
            row.status = "PENDING".to_owned();
        }
    }

    fn end(&mut self, event: &Event, status: &str) {
        let data = &event.data;
        let Some(place) = self.place(event) else {
            return self.fault(event, "is about no row".to_owned());
        };
        let row = &mut self.rows[place];
        // An attempt that never started may be cancelled.
        let started = row.tries.last().map(|t| t.number);
        let number = data["attempt"].as_u64();
        let continues = data["continues"] == true;
        if !continues {
            row.status = status.to_owned();
        }
        match row.tries.last_mut().filter(|t| Some(t.number) == number && !t.ended) {
            Some(current) => {
                current.ended = true;
                current.status = status.to_owned();
            }
            None if status == "CANCELLED" && started.is_none_or(|s| Some(s + 1) == number) => {}
            None => self.fault(event, "ends no attempt that runs".to_owned()),
        }
        let row = &mut self.rows[place];
        if !continues {
            row.parts.iter_mut().for_each(Part::settle);
        }
        let text = row.text();
        let digest = Sha256::digest(text.as_bytes());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let measured = data["offset"] == points(&text) && data["sha256"] == hex;
        if event.name == "chat:done" && !measured {
            self.fault(event, format!("measures another answer than {text:?}"));
        }
    }

    fn edited(&mut self, event: &Event) {
        let gone: Vec<&str> = event.data["removed"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !gone.iter().all(|id| self.rows.iter().any(|row| row.id == *id)) {
            self.fault(event, "removes what is not there".to_owned());
        }
        self.rows.retain(|row| !gone.contains(&row.id.as_str()));
    }

    /// Where `GET turns` at the same head says something else.
    pub fn differences(&self, turns: &[Value]) -> Vec<String> {
        let told: Vec<&Value> =
            turns.iter().flat_map(|t| t["messages"].as_array().into_iter().flatten()).collect();
        let mut found = Vec::new();
        if told.len() != self.rows.len() {
            found.push(format!("{} rows are told, {} were folded", told.len(), self.rows.len()));
        }
        let by_id: BTreeMap<&str, &Value> =
            told.iter().filter_map(|m| Some((m["subtask_id"].as_str()?, *m))).collect();
        for row in &self.rows {
            match by_id.get(row.id.as_str()) {
                Some(told) => row.compare(told, &mut found),
                None => found.push(format!("{} is not told", row.id)),
            }
        }
        found
    }
}

impl Row {
    fn compare(&self, told: &Value, found: &mut Vec<String>) {
        let mut same = |what: &str, told: &Value, folded: Value| {
            if *told != folded {
                found.push(format!("{} {what}: told {told}, folded {folded}", self.id));
            }
        };
        same("message_id", &told["message_id"], self.ordinal.into());
        same("turn_id", &told["turn_id"], self.turn.clone().into());
        same("kind", &told["kind"], self.kind.clone().into());
        same("status", &told["status"], self.status.clone().into());
        same("content", &told["content"], self.text().into());
        let attempts = told["attempts"].as_array().cloned().unwrap_or_default();
        let numbers = |a: &Value| Value::from(vec![a["attempt"].clone(), a["status"].clone()]);
        let folded =
            self.attempts().into_iter().map(|(n, s)| Value::from(vec![n.into(), Value::from(s)]));
        same("attempts", &attempts.iter().map(numbers).collect(), folded.collect());
        same("blocks", &summary(&told["blocks"]), summary_of(&self.parts));
        for (told, tried) in attempts.iter().zip(&self.tries) {
            let folded = summary_of(&tried.interrupted);
            same("interrupted", &summary(&told["interrupted"]), folded);
        }
    }
}

/// Ids in order, with text, or status and output.
fn summary(blocks: &Value) -> Value {
    let blocks = blocks.as_array().into_iter().flatten();
    let line = |b: &Value| match b["type"].as_str() {
        Some("text" | "thinking") => Value::from(vec![b["id"].clone(), b["content"].clone()]),
        _ => Value::from(vec![b["id"].clone(), b["status"].clone(), b["tool_output"].clone()]),
    };
    blocks.map(line).collect()
}

fn summary_of(parts: &[Part]) -> Value {
    let mut lines: Vec<(String, Vec<Value>)> = Vec::new();
    for part in parts {
        let known = lines.iter_mut().find(|(id, _)| *id == part.id);
        match (&part.text, known) {
            (Some(text), Some((_, line))) => {
                line[1] = format!("{}{text}", line[1].as_str().unwrap_or_default()).into();
            }
            (Some(text), None) => {
                lines.push((part.id.clone(), vec![part.id.clone().into(), text.clone().into()]));
            }
            (None, _) => {
                let line =
                    vec![part.id.clone().into(), part.status.clone().into(), part.output.clone()];
                lines.push((part.id.clone(), line));
            }
        }
    }
    lines.into_iter().map(|(_, line)| Value::from(line)).collect()
}

fn is_final(status: &str) -> bool {
    ["done", "error", "unknown"].contains(&status)
}

fn points(text: &str) -> u64 {
    text.chars().count() as u64
}

#[cfg(test)]
mod tests;
