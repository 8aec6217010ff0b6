//! What the demo model does with a request: pure, from the request alone.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use crate::message::{Message, Part, Request, Role, ToolDef};

use super::{
    directive::Directive,
    text::{self, dice, is_chinese, pieces},
};

/// Blocks of tool calls are numbered from here.
const CALL_BLOCKS: u64 = 2;

/// One thing that the model does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Beat {
    Think(String),
    Sign(String),
    Say(String),
    /// `left` pieces of filler, the next one is number `at`.
    Run {
        left: u32,
        size: u32,
        at: u32,
    },
    Call {
        block: u64,
        id: String,
        name: String,
    },
    Args {
        block: u64,
        piece: String,
    },
    EndCall {
        block: u64,
    },
}

/// What the request asks, taken apart.
#[derive(Debug)]
pub(super) struct Prompt {
    /// The last human text without directives.
    pub human: String,
    /// What its directives say.
    pub directive: Directive,
    /// Assistant messages since then.
    steps: u32,
    /// Tool results since then.
    results: Vec<String>,
}

impl Prompt {
    pub(super) fn of(request: &Request) -> Self {
        let said = |message: &&Message| message.role == Role::User && !message.text().is_empty();
        let at = request.messages.iter().rposition(|message| said(&message));
        let since = at.map_or(&[][..], |at| &request.messages[at + 1..]);
        let human = at.map(|at| request.messages[at].text()).unwrap_or_default();
        let (human, directive) = Directive::take(&human);
        let steps = since.iter().filter(|message| message.role == Role::Assistant).count();
        let results =
            since.iter().flat_map(|message| &message.parts).filter_map(|part| match part {
                Part::ToolResult { content, .. } => Some(content.clone()),
                _ => None,
            });
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        Self { human, directive, steps, results: results.collect() }
    }
}

/// All that the model does in this step.
pub(super) fn beats(prompt: &Prompt, request: &Request, thinks: bool) -> VecDeque<Beat> {
    let attempt = request.attempt.max(1);
    let calls = calls(prompt, request);
    let mut beats = VecDeque::new();
    think(prompt, attempt, thinks, &mut beats);
    if !calls.is_empty() {
        for (n, (name, args)) in (0_u64..).zip(&calls) {
            let block = CALL_BLOCKS + n;
            // The place in the conversation keeps ids apart when a prompt comes again.
            let place = request.messages.len().to_string();
            let dice = dice(&[&prompt.human, &attempt.to_string(), &place]);
            let id = format!("demo_{:08x}_{n}", dice & 0xffff_ffff);
            beats.push_back(Beat::Call { block, id, name: name.clone() });
            let args = pieces(&args.to_string());
            beats.extend(args.into_iter().map(|piece| Beat::Args { block, piece }));
            beats.push_back(Beat::EndCall { block });
        }
        return beats;
    }
    if let Some(left) = prompt.directive.chunks {
        if left > 0 {
            beats.push_back(Beat::Run { left, size: prompt.directive.size, at: 0 });
        }
        return beats;
    }
    let system = request.system.as_deref().unwrap_or_default();
    let text = if is_planner(system) && prompt.results.is_empty() {
        text::plan(&prompt.human, attempt)
    } else {
        text::answer(&prompt.human, attempt, &prompt.results)
    };
    beats.extend(pieces(&text).into_iter().map(Beat::Say));
    beats
}

fn think(prompt: &Prompt, attempt: u32, thinks: bool, beats: &mut VecDeque<Beat>) {
    let thought = text::thought(&prompt.human, attempt);
    let parts = pieces(&thought);
    let count = match prompt.directive.think {
        Some(count) => usize::try_from(count).unwrap_or(0),
        None if thinks && prompt.directive.chunks.is_none() => parts.len(),
        None => 0,
    };
    if count == 0 {
        return;
    }
    beats.extend(parts.iter().cycle().take(count).cloned().map(Beat::Think));
    beats.push_back(Beat::Sign(format!("demo-{:016x}", dice(&[&thought]))));
}

fn is_planner(system: &str) -> bool {
    let system = system.to_lowercase();
    let words = ["planner", "write a plan", "make a plan", "short plan", "you plan"];
    words
        .iter()
        .chain(&["写计划", "制定计划", "做计划", "规划师"])
        .any(|word| system.contains(word))
}

/// The tools that it calls in this step.
fn calls(prompt: &Prompt, request: &Request) -> Vec<(String, Value)> {
    let offered = |name: &str| request.tools.iter().find(|tool| tool.name == name);
    if prompt.steps == 0 {
        for (name, lead) in LEADERS {
            if let Some(tool) = offered(name) {
                return vec![((*name).to_owned(), lead(prompt, tool, request))];
            }
        }
    }
    let directive = &prompt.directive;
    if let Some(tool) = directive.tool.as_deref() {
        let Some(tool) = offered(tool).filter(|_| prompt.steps < directive.rounds) else {
            return Vec::new();
        };
        let args = directive.args.clone().unwrap_or_else(|| fill(tool, prompt));
        return (0..directive.calls).map(|_| (tool.name.clone(), args.clone())).collect();
    }
    if prompt.steps > 0 {
        return Vec::new();
    }
    let asked = request.tools.iter().find(|tool| asks_for(&prompt.human, &tool.name));
    asked.map(|tool| (tool.name.clone(), fill(tool, prompt))).into_iter().collect()
}

/// Whether a prompt asks for a tool: by its name, or for the time when it is a clock.
fn asks_for(human: &str, tool: &str) -> bool {
    let human = human.to_lowercase();
    let tool = tool.to_lowercase();
    let bare = tool.rsplit("__").next().unwrap_or(&tool);
    let word = |word: &str| {
        human.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').any(|w| w == word)
    };
    let clock = bare.contains("clock") || bare.contains("time");
    let asks_time = ["time", "clock", "date"].iter().any(|w| word(w))
        || ["时间", "几点", "日期"].iter().any(|w| human.contains(w));
    word(&tool) || word(bare) || (clock && asks_time)
}

/// Arguments that fit a schema: all that is required, from the prompt where it has something.
fn fill(tool: &ToolDef, prompt: &Prompt) -> Value {
    let schema = &tool.input_schema;
    let digits = |c: char| !c.is_ascii_digit() && c != '.' && c != '-';
    let mut numbers = prompt
        .human
        .split(digits)
        .filter_map(|word| word.parse::<f64>().ok())
        .collect::<VecDeque<_>>();
    let mut args = Map::new();
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let property = &schema["properties"][key];
        let value = match (property["enum"][0].clone(), property["type"].as_str()) {
            (choice @ (Value::String(_) | Value::Number(_) | Value::Bool(_)), _) => choice,
            (_, Some("integer")) => json!(whole(numbers.pop_front().unwrap_or(1.0))),
            (_, Some("number")) => json!(numbers.pop_front().unwrap_or(1.0)),
            (_, Some("boolean")) => json!(true),
            (_, Some("array")) => json!([]),
            (_, Some("object")) => json!({}),
            _ if key.contains("zone") || key == "tz" => json!("UTC"),
            _ => json!(text::excerpt(&prompt.human, 200)),
        };
        args.insert(key.to_owned(), value);
    }
    Value::Object(args)
}

#[expect(clippy::cast_possible_truncation, reason = "saturates, which is what is wanted")]
const fn whole(number: f64) -> i64 {
    number as i64
}

type Lead = fn(&Prompt, &ToolDef, &Request) -> Value;

/// The tools of a leader, and what it answers with.
const LEADERS: &[(&str, Lead)] =
    &[("choose_member", choose_member), ("split_work", split_work), ("conclude", conclude)];

fn choose_member(prompt: &Prompt, tool: &ToolDef, _: &Request) -> Value {
    let members = members(&tool.input_schema["properties"]["member"]);
    let human = prompt.human.to_lowercase();
    let named = members.iter().find(|member| human.contains(&member.to_lowercase()));
    let names: Vec<&str> = members.iter().map(String::as_str).collect();
    let member = named.map_or_else(|| text::pick(dice(&[&prompt.human]), &names), String::as_str);
    let reason = if is_chinese(&prompt.human) {
        format!("demo model 认为 {member} 最合适")
    } else {
        format!("the demo model thinks that {member} fits best")
    };
    json!({"member": member, "reason": reason})
}

fn split_work(prompt: &Prompt, tool: &ToolDef, _: &Request) -> Value {
    let items = &tool.input_schema["properties"]["items"];
    let members = members(&items["items"]["properties"]["member"]);
    let goal = text::excerpt(&prompt.human, 120);
    let chinese = is_chinese(&prompt.human);
    let part = |(n, member): (usize, &String)| {
        let instructions = if chinese {
            format!("第 {n} 部分：{goal}")
        } else {
            format!("Part {n} of: {goal}")
        };
        json!({"member": member, "instructions": instructions})
    };
    let parts: Vec<Value> = (1..).zip(members.iter().take(8)).map(part).collect();
    json!({"items": parts})
}

fn conclude(prompt: &Prompt, _: &ToolDef, _: &Request) -> Value {
    let goal = text::excerpt(&prompt.human, 120);
    let summary = if is_chinese(&prompt.human) {
        format!("demo model 的总结：{goal}")
    } else {
        format!("The demo model sums up: {goal}")
    };
    json!({"done": true, "summary": summary})
}

/// The names that a schema allows.
fn members(property: &Value) -> Vec<String> {
    let names = property["enum"].as_array().into_iter().flatten();
    let names: Vec<String> = names.filter_map(Value::as_str).map(str::to_owned).collect();
    if names.is_empty() { vec!["member".to_owned()] } else { names }
}
