//! What one field demands of another.

mod model;

use std::borrow::Cow;

use serde_json::{Map, Value};

pub(crate) use self::model::{PROTOCOLS, model};
use super::{Checker, form};
use crate::{
    kind::Kind,
    path::join,
    problem::{Code, Problem},
    schema::{Form, spec_of, unused},
    secret,
    syntax::Node,
};

/// Rounds of `collaborate` if a Team does not say.
pub(crate) const MAX_ROUNDS: i64 = 4;

/// Looks at one object after its fields were checked; may also replace old spellings.
pub(crate) type Rule = fn(&mut Scope<'_, '_>);

/// An object under a rule.
pub(crate) struct Scope<'a, 'p> {
    pub(super) checker: &'a mut Checker<'p>,
    pub(super) node: &'a Node,
    /// With defaults filled in; a field with a wrong value is `null`.
    pub(super) value: &'a mut Map<String, Value>,
    /// Whether a field of the object is wrong.
    pub(super) broken: bool,
}

impl Scope<'_, '_> {
    fn problem(&self, field: &str, code: Code, message: impl Into<String>) -> Problem {
        let path = &self.checker.path;
        let path = match (path.is_empty(), field.is_empty()) {
            (_, true) => Cow::Borrowed(path.as_str()),
            (true, _) => Cow::Borrowed(field),
            _ => Cow::Owned(format!("{path}.{field}")),
        };
        Problem::new(self.node.locate(field), &path, code, message)
    }

    fn error(&mut self, field: &str, code: Code, message: impl Into<String>) {
        let problem = self.problem(field, code, message);
        self.checker.problems.push(problem);
    }

    fn warn(&mut self, field: &str, message: impl Into<String>) {
        let problem = self.problem(field, Code::NoEffect, message).warning();
        self.checker.problems.push(problem);
    }

    fn has(&self, field: &str) -> bool {
        self.value.contains_key(field)
    }

    fn text(&self, field: &str) -> &str {
        self.value.get(field).and_then(Value::as_str).unwrap_or("")
    }

    fn list(&self, field: &str) -> &[Value] {
        self.value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn require(&mut self, field: &str, why: &str) {
        if !self.has(field) {
            self.error(field, Code::MissingField, format!("`{field}` is required {why}"));
        }
    }

    fn useless(&mut self, fields: &[&str], why: &str) {
        for field in fields {
            if self.has(field) {
                self.warn(field, format!("this has no effect {why}"));
            }
        }
    }
}

pub(crate) fn mcp_server(scope: &mut Scope<'_, '_>) {
    if !scope.has("type") {
        let inferred = if scope.has("command") { "stdio" } else { "streamable-http" };
        if !scope.has("command") && !scope.has("url") {
            scope.error("url", Code::MissingField, "`url` or `command` is required");
            return;
        }
        scope.value.insert("type".to_owned(), inferred.into());
    }
    match scope.text("type") {
        "stdio" => {
            scope.require("command", "for `stdio`");
            scope.useless(&["url", "headers"], "for `stdio`");
        }
        "streamable-http" => {
            scope.require("url", "for `streamable-http`");
            scope.useless(&["command", "args", "env"], "for `streamable-http`");
        }
        _ => {}
    }
}

pub(crate) fn ghost(scope: &mut Scope<'_, '_>) {
    let extra: Vec<String> = {
        let skills = scope.list("skills");
        let loaded = scope.list("preload_skills").iter().enumerate();
        loaded
            .filter(|(_, skill)| skill.is_string() && !skills.contains(skill))
            .map(|(index, _)| format!("preload_skills[{index}]"))
            .collect()
    };
    for path in extra {
        let problem = scope.problem(&path, Code::NoEffect, "the Skill is not among `skills`");
        scope.checker.problems.push(problem.warning());
    }
}

pub(crate) fn team(scope: &mut Scope<'_, '_>) {
    let members = scope.list("members").to_vec();
    let collaboration = scope.text("collaborationModel").to_owned();
    let leaders: Vec<usize> = (0..members.len())
        .filter(|index| members[*index].get("role").is_some_and(|role| role == "leader"))
        .collect();
    for index in leaders.iter().skip(1) {
        let message = format!("members[{}] leads already; a Team has one leader", leaders[0]);
        scope.error(&format!("members[{index}].role"), Code::Conflict, message);
    }
    match collaboration.as_str() {
        "solo" if members.len() > 1 => {
            let lead = leaders.first().copied().unwrap_or(0);
            let message = format!("`solo` uses members[{lead}] only");
            scope.warn("members", message);
        }
        "pipeline" if members.len() == 1 => {
            scope.warn("members", "a `pipeline` of one stage is a `solo` Team");
        }
        "route" | "coordinate" | "collaborate" if members.len() == 1 => {
            let message = format!("`{collaboration}` needs two members at least");
            scope.error("members", Code::TooShort, message);
        }
        _ => {}
    }
    if collaboration != "pipeline" && !collaboration.is_empty() {
        warn_of_stages(scope, &members, &collaboration);
    } else if let Some(last) = members.len().checked_sub(1).filter(|last| *last > 0)
        && members[last]["contextPassing"].as_str().is_some_and(|passing| passing != "none")
    {
        scope.warn(&format!("members[{last}].contextPassing"), "no stage follows the last one");
    }
    // The default is no statement: it is written out when a resource is printed.
    let rounds = scope.value.get("maxRounds").and_then(Value::as_i64).unwrap_or(MAX_ROUNDS);
    if collaboration != "collaborate" && rounds != MAX_ROUNDS {
        scope.warn("maxRounds", "this has an effect in `collaborate` only");
    }
}

fn warn_of_stages(scope: &mut Scope<'_, '_>, members: &[Value], collaboration: &str) {
    for (index, member) in members.iter().enumerate() {
        let message = format!("this has an effect in `pipeline` only, not in `{collaboration}`");
        if member["requireConfirmation"] == true {
            scope.warn(&format!("members[{index}].requireConfirmation"), message.clone());
        }
        if member["contextPassing"].as_str().is_some_and(|passing| passing != "none") {
            scope.warn(&format!("members[{index}].contextPassing"), message);
        }
    }
}

/// A Template's keys become names of resources.
pub(crate) fn template(scope: &mut Scope<'_, '_>) {
    const BUNDLES: [&str; 4] = ["ghosts", "bots", "teams", "subscriptions"];
    let mut is_empty = true;
    for field in BUNDLES {
        let specs = scope.value.get(field).and_then(Value::as_object);
        let names: Vec<String> =
            specs.map(|specs| specs.keys().cloned().collect()).unwrap_or_default();
        is_empty &= names.is_empty();
        for name in names {
            // What no key may be is told already.
            if form::check_key(&name).is_ok()
                && let Err(why) = form::check(&name, Form::Name)
            {
                scope.error(&join(field, &name), Code::BadFormat, why);
            }
        }
    }
    if is_empty && !scope.broken {
        scope.error("", Code::TooShort, "a Template needs one resource at least");
    }
    // Nobody is given somebody else's: it could never be made one's own.
    let value = Value::Object(scope.value.clone());
    for path in secret::places(&value, spec_of(Kind::Template)) {
        let message = "a Template holds no secrets: whoever makes it their own gives theirs";
        scope.error(&path, Code::Unsupported, message);
    }
    let runs = scope.value.get("subscriptions").and_then(Value::as_object);
    if runs.is_some_and(|runs| !runs.is_empty())
        && let Some(instead) = unused(Kind::Subscription)
    {
        scope.warn("subscriptions", format!("nothing uses this yet: {instead}"));
    }
}

pub(crate) fn hybrid_weights(scope: &mut Scope<'_, '_>) {
    if scope.broken {
        return;
    }
    let weight = |field: &str| scope.value.get(field).and_then(Value::as_f64).unwrap_or(0.0);
    let sum = weight("vector_weight") + weight("keyword_weight");
    if (sum - 1.0).abs() > 1e-6 {
        let message = "`vector_weight` and `keyword_weight` must sum to 1";
        let problem = scope.problem("", Code::Conflict, message);
        scope.checker.problems.push(problem.with_found(&format!("{sum:.4}")));
    }
}

pub(crate) fn knowledge_base(scope: &mut Scope<'_, '_>) {
    let number = |field: &str| scope.value.get(field).and_then(Value::as_i64);
    if let (Some(exempt), Some(most)) =
        (number("exemptCallsBeforeCheck"), number("maxCallsPerConversation"))
        && exempt >= most
    {
        // Point at the field that somebody wrote.
        let field = ["exemptCallsBeforeCheck", "maxCallsPerConversation"]
            .into_iter()
            .find(|field| scope.node.entry(field).is_some())
            .unwrap_or("exemptCallsBeforeCheck");
        let message = format!(
            "`exemptCallsBeforeCheck` ({exempt}) must be lower than `maxCallsPerConversation` ({most})"
        );
        scope.error(field, Code::Conflict, message);
    }
}

pub(crate) fn index_strategy(scope: &mut Scope<'_, '_>) {
    match scope.text("mode") {
        "fixed" => scope.require("fixedName", "for `fixed`"),
        "rolling" => scope.require("rollingStep", "for `rolling`"),
        _ => {}
    }
}

pub(crate) fn retriever(scope: &mut Scope<'_, '_>) {
    let storage = scope.value.get("storageConfig").cloned().unwrap_or_default();
    let backend = storage["type"].as_str().unwrap_or("").to_owned();
    let there = |field: &str| storage.get(field).is_some();
    if backend == "embedded" {
        for field in ["url", "username", "password", "apiKey", "indexStrategy"] {
            if there(field) {
                scope.warn(&format!("storageConfig.{field}"), "this has no effect for `embedded`");
            }
        }
    } else if !backend.is_empty() {
        for field in ["url", "indexStrategy"] {
            if !there(field) {
                let message = format!("`{field}` is required for `{backend}`");
                scope.error(&format!("storageConfig.{field}"), Code::MissingField, message);
            }
        }
    }
    for (method, weight) in [("vector", 0.7), ("keyword", 0.3), ("hybrid", 1.0)] {
        let Some(config) = scope
            .value
            .get_mut("retrievalMethods")
            .and_then(|methods| methods.get_mut(method))
            .and_then(Value::as_object_mut)
        else {
            continue;
        };
        if method != "hybrid" && !config.contains_key("defaultWeight") {
            config.insert("defaultWeight".to_owned(), weight.into());
        }
        if backend == "qdrant" && method != "vector" && config["enabled"] == true {
            let path = format!("retrievalMethods.{method}");
            scope.error(&path, Code::Unsupported, "`qdrant` searches by `vector` only");
        }
    }
}

pub(crate) fn event_trigger(scope: &mut Scope<'_, '_>) {
    match scope.text("event_type") {
        "git_push" => scope.require("git_push", "for `git_push`"),
        "" => {}
        _ => scope.useless(&["git_push"], "for this event"),
    }
}

pub(crate) fn trigger(scope: &mut Scope<'_, '_>) {
    let kind = scope.text("type").to_owned();
    if kind.is_empty() {
        return;
    }
    scope.require(&kind, &format!("for `{kind}`"));
    for other in ["cron", "interval", "one_time", "event"] {
        if other != kind {
            scope.useless(&[other], &format!("for `{kind}`"));
        }
    }
}
