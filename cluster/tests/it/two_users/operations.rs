//! What a node itself says that can be asked of it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use troupe_testkit::client::rest::{Answer, Person, Rest};

use super::rows::{Call, Check, LiveRow, Row};

/// An operation of the OpenAPI document.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) id: String,
    pub(super) method: String,
    path: String,
    /// Who may call it, by the node's own word.
    pub(super) access: String,
    pub(super) takes: bool,
}

pub(super) struct Operations {
    pub(super) rest: Vec<Operation>,
    /// Of Socket.IO and of the stream, by name.
    live: BTreeSet<String>,
}

impl Operations {
    pub(super) async fn of(node: &Rest) -> Result<Self> {
        let document = node.call("GET", "/api/v1/openapi.json", None, None).await?.body;
        let mut rest = Vec::new();
        for (path, item) in document["paths"].as_object().context("no paths")? {
            for (method, operation) in item.as_object().context("no operations")? {
                let text = |field: &str| {
                    let text = operation[field].as_str().map(str::to_owned);
                    text.with_context(|| format!("{method} {path} has no {field}"))
                };
                let (id, access) = (text("operationId")?, text("x-access")?);
                let (method, path) = (method.to_uppercase(), path.clone());
                let takes = !operation["requestBody"].is_null();
                rest.push(Operation { id, method, path, access, takes });
            }
        }
        let live = document["x-live-operations"].as_array().context("no live operations")?;
        let name = |op: &Value| op["name"].as_str().map(str::to_owned).context("no name");
        let live = live.iter().map(name).collect::<Result<BTreeSet<_>>>()?;
        let events = troupe_api::chat::CLIENT_EVENTS.iter().map(|event| (*event).to_owned());
        ensure!(live == events.collect(), "the table of events is another one: {live:?}");
        ensure!(rest.len() > 70 && live.len() > 10, "that cannot be all");
        Ok(Self { rest, live })
    }

    pub(super) fn named(&self, id: &str) -> &Operation {
        let found = self.rest.iter().find(|operation| operation.id == id);
        found.unwrap_or_else(|| panic!("there is no operation {id}"))
    }

    /// Each has a row, each row is of one, and each row asks what such an operation must be asked.
    pub(super) fn assert_covered(&self, rows: &[Row], live: &[LiveRow]) {
        let told: BTreeSet<&str> =
            self.rest.iter().map(|operation| operation.id.as_str()).collect();
        assert_same("operations", &told, rows.iter().map(|row| row.id).collect());
        let told: BTreeSet<&str> = self.live.iter().map(String::as_str).collect();
        assert_same("live operations", &told, live.iter().map(|(name, _)| *name).collect());
        for row in rows {
            let operation = self.named(row.id);
            let asks = |wanted: fn(&Check) -> bool| row.checks.iter().any(wanted);
            let enough = match operation.access.as_str() {
                "open" | "proof" | "caller" => !row.checks.is_empty(),
                "task" | "owner" | "namespace" => {
                    let lists = operation.id == "list_all";
                    asks(|c| matches!(c, Check::Hidden { .. })) || lists
                }
                "admin" | "scrape" => asks(|c| matches!(c, Check::Forbidden(_))),
                other => panic!("{}: nobody knows the access `{other}`", row.id),
            };
            assert!(enough, "{}: its row does not ask enough for {}", row.id, operation.access);
        }
    }
}

fn assert_same(what: &str, told: &BTreeSet<&str>, rows: Vec<&str>) {
    let known: BTreeSet<&str> = rows.iter().copied().collect();
    assert_eq!(known.len(), rows.len(), "{what} have one row each");
    let missing: Vec<_> = told.difference(&known).collect();
    assert!(missing.is_empty(), "{what} without a row: {missing:?}");
    let dangling: Vec<_> = known.difference(told).collect();
    assert!(dangling.is_empty(), "rows without one of the {what}: {dangling:?}");
}

impl Operation {
    /// Its path, with the names of its parts filled in.
    fn at(&self, call: &Call) -> String {
        let mut parts = call.parts.iter();
        let fill = |segment: &str| match segment.starts_with('{') {
            true => encoded(parts.next().unwrap_or_else(|| panic!("{}: {call:?}", self.path))),
            false => segment.to_owned(),
        };
        let path: Vec<String> = self.path.split('/').map(fill).collect();
        assert!(parts.next().is_none(), "{} has fewer parts than {call:?}", self.path);
        let query = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
        path.join("/") + &query
    }

    pub(super) async fn ask(
        &self,
        node: &Rest,
        who: Option<&Person>,
        call: &Call,
    ) -> Result<Answer> {
        node.raw(&self.method, &self.at(call), who, call.body.clone()).await
    }

    /// The same with the parts of its path filled with nonsense.
    pub(super) fn of_garbage(&self) -> Call {
        let count = self.path.matches('{').count();
        let body = self.takes.then(|| ("application/json", b"{}".to_vec()));
        Call { parts: vec!["x".to_owned(); count], body, ..Call::default() }
    }
}

/// As one segment of a path.
fn encoded(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    part.bytes().map(encode).collect()
}
