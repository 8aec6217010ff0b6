//! The standard script, and the directives by which a prompt steers it.

use std::time::Duration;

use serde_json::{Value, json};

use super::script::{Answer, Fault, Piece, Turn};

/// What the standard script answers; `Script::standard` lists the directives.
pub(super) fn default_answer(turn: &Turn) -> Answer {
    let told = Told::of(&turn.human);
    let mut answer = told.calls(turn).or_else(|| leads(turn)).unwrap_or_else(|| told.text(turn));
    if let Some(thought) = told.get("think") {
        answer = answer.thinking(thought.replace('_', " "));
    }
    if let Some(size) = told.number("size") {
        answer = answer.chunked(size.clamp(1, 65_536));
    }
    answer = answer.slow(told.millis("ms")).late(told.millis("first"));
    if let Some(fault) = told.fault() {
        answer = answer.failing(fault);
    }
    match told.number("tries") {
        Some(tries) => answer.only_first(tries as u64),
        None => answer,
    }
}

struct Told {
    pairs: Vec<(String, String)>,
    args: Option<Value>,
    rest: String,
}

impl Told {
    fn of(human: &str) -> Self {
        let mut told = Self { pairs: Vec::new(), args: None, rest: human.to_owned() };
        while let Some((before, after)) = told.rest.split_once("[[fake") {
            let Some((inside, behind)) = after.split_once("]]") else { break };
            let (keys, args) = inside.split_once("args=").unwrap_or((inside, ""));
            let pairs = keys.split_whitespace().filter_map(|pair| pair.split_once('='));
            told.pairs.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
            told.args = serde_json::from_str(args.trim()).ok().or(told.args);
            told.rest = format!("{}{}", before.trim_end(), behind);
        }
        told
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.get(key)?.parse().ok()
    }

    fn millis(&self, key: &str) -> Duration {
        Duration::from_millis(self.number(key).unwrap_or(0) as u64)
    }

    fn calls(&self, turn: &Turn) -> Option<Answer> {
        let tool = self.get("tool")?;
        if turn.step >= self.number("rounds").unwrap_or(1) || !turn.offers(tool) {
            return None;
        }
        let args = self.args.clone().unwrap_or_else(|| json!({}));
        let call = Piece::Tool { name: tool.to_owned(), args };
        Some(Answer::new(vec![call; self.number("calls").unwrap_or(1).clamp(1, 16)]))
    }

    fn text(&self, turn: &Turn) -> Answer {
        if let Some(chunks) = self.number("chunks") {
            let size = self.number("size").unwrap_or(12).clamp(1, 65_536);
            let letters = ('a'..='z').cycle().take(chunks.min(1_000_000) * size);
            return Answer::text(letters.collect::<String>());
        }
        let results: Vec<&str> = turn.results.iter().map(|r| r.content.as_str()).collect();
        let results = if results.is_empty() {
            String::new()
        } else {
            format!(" Results: {}.", results.join(" | "))
        };
        Answer::text(format!("Fake answer to request {}: {}.{results}", turn.number, self.rest))
    }

    fn fault(&self) -> Option<Fault> {
        let retry_after = self.get("retry_after");
        if let Some(kind) = self.get("fail") {
            return Some(match kind {
                "429" => Fault::rate_limit(retry_after),
                "529" => Fault::overloaded(),
                "500" => Fault::server_error(),
                "401" => Fault::status(401, "authentication_error", "invalid x-api-key", None),
                "quota" => Fault::quota(),
                "context" => Fault::context_length(),
                other => Fault::status(400, other, "The script says so", retry_after),
            });
        }
        if self.get("hang") == Some("head") {
            return Some(Fault::HangBeforeHead);
        }
        let after = |key| self.number(key);
        after("cut")
            .map(|after| Fault::Cut { after })
            .or_else(|| after("malformed").map(|after| Fault::Malformed { after }))
            .or_else(|| {
                after("error").map(|after| Fault::Error { after, kind: "overloaded_error".into() })
            })
            .or_else(|| after("hang").map(|after| Fault::Hang { after }))
            .or_else(|| after("huge").map(|bytes| Fault::Huge { bytes }))
    }
}

/// Sensible decisions of a leader, when a leader's tools are on offer.
fn leads(turn: &Turn) -> Option<Answer> {
    if turn.step > 0 {
        return None;
    }
    let schema = |name: &str| turn.tools.iter().find(|t| t.name == name).map(|t| &t.schema);
    let names = |property: &Value| -> Vec<String> {
        let names = property["enum"].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if let Some(schema) = schema("choose_member") {
        let members = names(&schema["properties"]["member"]);
        let named = members.iter().find(|name| turn.human.contains(name.as_str()));
        let member = named.or(members.first())?;
        let args = json!({"member": member, "reason": format!("request {}", turn.number)});
        return Some(Answer::tool("choose_member", args));
    }
    if let Some(schema) = schema("split_work") {
        let items = &schema["properties"]["items"]["items"]["properties"]["member"];
        let items: Vec<Value> = names(items)
            .iter()
            .take(8)
            .map(|name| json!({"member": name, "instructions": format!("Part of {name}")}))
            .collect();
        return Some(Answer::tool("split_work", json!({"items": items})));
    }
    schema("conclude")?;
    let summary = format!("Summary of request {}", turn.number);
    Some(Answer::tool("conclude", json!({"done": true, "summary": summary})))
}
