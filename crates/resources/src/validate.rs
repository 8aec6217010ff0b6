//! Holds a tree against the tables of [`crate::schema`]: every problem with its place, and the
//! value with defaults filled in and old spellings replaced.

mod form;
pub(crate) mod rules;

use serde_json::{Map, Value};

use crate::{
    path::{push_index, push_key},
    problem::{Code, Problem, Problems, suggest},
    schema::{Choice, Field, Form, ListOf, MapOf, Object, Text, Type},
    secret::is_secret_key,
    syntax::{Data, Entry, Node},
};

/// Walks one document. `path` is where it stands.
pub(crate) struct Checker<'p> {
    pub(crate) problems: &'p mut Problems,
    pub(crate) ignore_unknown: bool,
    pub(crate) path: String,
}

impl Checker<'_> {
    /// Does something at a field.
    pub(crate) fn inside<T>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        push_key(&mut self.path, key);
        let result = work(self);
        self.path.truncate(length);
        result
    }

    /// Does something at an item of a list.
    pub(crate) fn at_item<T>(&mut self, index: usize, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        push_index(&mut self.path, index);
        let result = work(self);
        self.path.truncate(length);
        result
    }

    fn problem(&self, node: &Node, code: Code, message: impl Into<String>) -> Problem {
        Problem::new(node.at, &self.path, code, message)
    }

    fn wrong_type(&mut self, node: &Node, wanted: &str, hidden: bool) -> Problem {
        self.problem(node, Code::WrongType, format!("{wanted} is wanted here"))
            .with_found(&node.describe(hidden))
    }

    /// A mapping with named fields; nothing if it is no mapping.
    pub(crate) fn object(
        &mut self,
        node: &Node,
        object: &'static Object,
    ) -> Option<Map<String, Value>> {
        let Data::Map(entries) = &node.data else {
            let problem = self.wrong_type(node, "a mapping", object.holds_secret());
            self.problems.push(problem);
            return None;
        };
        let mut value = Map::new();
        let errors_before = self.problems.errors();
        let mut misspelt = Vec::new();
        for entry in entries {
            match object.field(&entry.key) {
                Some(field) => self.field(entry, field, &mut value),
                None => misspelt.extend(self.unknown(entry, object)),
            }
        }
        for field in object.fields {
            if value.contains_key(field.name) {
                continue;
            }
            if field.required {
                // One mistake, one problem: a misspelt field was told with its right name.
                if self.ignore_unknown || !misspelt.iter().any(|name| name == field.name) {
                    self.missing(node, field);
                }
            } else if let Some(default) = field.default.to_value() {
                value.insert(field.name.to_owned(), default);
            }
        }
        if let Some(rule) = object.rule {
            let broken = self.problems.errors() > errors_before;
            rule(&mut rules::Scope { checker: self, node, value: &mut value, broken });
        }
        Some(value)
    }

    fn field(&mut self, entry: &Entry, field: &'static Field, value: &mut Map<String, Value>) {
        // An explicit nothing is the same as no field.
        if entry.value.data == Data::Null {
            return;
        }
        let checked =
            self.inside(&entry.key, |this| this.value(&entry.value, &field.ty, field.secret));
        let already = value.contains_key(field.name);
        if already {
            let message = format!("the field is there twice, also as `{}`", field.name);
            self.inside(&entry.key, |this| {
                this.problems.push(Problem::new(entry.at, &this.path, Code::Conflict, message));
            });
        } else if let Some(checked) = checked {
            // The default is no statement: it is written out when a resource is printed.
            if let Some(instead) = field.unused
                && field.default.to_value().as_ref() != Some(&checked)
            {
                let message = format!("nothing uses this yet: {instead}");
                self.inside(&entry.key, |this| {
                    let problem = Problem::new(entry.at, &this.path, Code::NoEffect, message);
                    this.problems.push(problem.warning());
                });
            }
            value.insert(field.name.to_owned(), checked);
        } else {
            // Present but wrong: it shall not be reported as missing too.
            value.insert(field.name.to_owned(), Value::Null);
        }
    }

    /// Tells of an unknown field; which field was probably meant.
    fn unknown(&mut self, entry: &Entry, object: &Object) -> Option<String> {
        let message = if entry.key == "<<" {
            "merge keys are not supported; write the fields out"
        } else {
            "unknown field"
        };
        let names = || object.fields.iter().map(|field| field.name);
        let spellings = object.fields.iter().flat_map(|field| field.aliases.iter().copied());
        let meant = suggest(&entry.key, names().chain(spellings));
        let ignore = self.ignore_unknown;
        self.inside(&entry.key, |this| {
            let problem = Problem::new(entry.at, &this.path, Code::UnknownField, message)
                .with_allowed(names())
                .with_suggestion(meant.clone());
            this.problems.push(if ignore { problem.warning() } else { problem });
        });
        meant
    }

    fn missing(&mut self, node: &Node, field: &Field) {
        self.inside(field.name, |this| {
            let message = format!("`{}` is required", field.name);
            let problem = this.problem(node, Code::MissingField, message);
            this.problems.push(match field.ty {
                Type::Choice(choice) => problem.with_allowed(choice.values.iter().copied()),
                _ => problem,
            });
        });
    }

    /// Any value; nothing if it is wrong, which is then told.
    fn value(&mut self, node: &Node, ty: &Type, secret: bool) -> Option<Value> {
        if node.data == Data::Bad {
            return None;
        }
        match ty {
            Type::Text(rules) => self.text(node, rules, secret),
            Type::Choice(choice) => self.choice(node, choice),
            Type::Int { min, max } => self.int(node, *min, *max),
            Type::Number { min, max } => self.number(node, *min, *max),
            Type::Bool => self.bool(node),
            Type::Id => self.id(node),
            Type::Time => self.time(node),
            Type::Object(object) => self.object(node, object).map(Value::Object),
            Type::Map(map) => self.map(node, map),
            Type::List(list) => self.list(node, list),
            Type::Free if matches!(node.data, Data::Map(_)) => Some(node.to_value()),
            Type::Free => {
                let problem = self.wrong_type(node, "a mapping", true);
                self.problems.push(problem);
                None
            }
        }
    }

    fn text(&mut self, node: &Node, rules: &Text, secret: bool) -> Option<Value> {
        let Some(text) = node.as_text() else { return self.no_text(node, secret, true) };
        // Counting characters is only needed near the limit.
        let chars = if text.len() < rules.min || text.len() > rules.max {
            text.chars().count()
        } else {
            text.len()
        };
        let trouble = if chars < rules.min && text.is_empty() {
            Some((Code::TooShort, "this must not be empty".to_owned()))
        } else if chars < rules.min {
            Some((Code::TooShort, format!("at least {} characters are wanted", rules.min)))
        } else if chars > rules.max {
            Some((Code::TooLong, format!("at most {} characters, these are {chars}", rules.max)))
        } else if rules.bytes_max.is_some_and(|max| text.len() > max) {
            let max = rules.bytes_max.unwrap_or(0);
            Some((Code::TooLong, format!("at most {max} bytes, these are {}", text.len())))
        } else {
            form::check(text, rules.form).err().map(|message| (Code::BadFormat, message))
        };
        let Some((code, message)) = trouble else { return Some(text.into()) };
        let problem = self.problem(node, code, message);
        // Long text is not worth quoting; the form of a short one is. A URL may hold a password.
        let quotable = !matches!(rules.form, Form::Free | Form::Url | Form::GitUrl);
        let quote = !secret && code == Code::BadFormat && quotable;
        self.problems.push(if quote { problem.with_found(&node.describe(false)) } else { problem });
        None
    }

    /// Tells that this is no text; any scalar becomes text in quotes.
    fn no_text(&mut self, node: &Node, secret: bool, any_text_fits: bool) -> Option<Value> {
        let quoted = match &node.data {
            Data::Number { raw, .. } if !secret => Some(format!("\"{raw}\"")),
            Data::Bool(value) if !secret => Some(format!("\"{value}\"")),
            _ => None,
        };
        let scalar = matches!(node.data, Data::Number { .. } | Data::Bool(_));
        let wanted = if scalar && any_text_fits { "text (in quotes)" } else { "text" };
        let problem = self.wrong_type(node, wanted, secret);
        self.problems.push(problem.with_suggestion(quoted.filter(|_| any_text_fits)));
        None
    }

    fn choice(&mut self, node: &Node, choice: &Choice) -> Option<Value> {
        let Some(text) = node.as_text() else {
            let problem = self.wrong_type(node, "one of the known words", false);
            self.problems.push(problem.with_allowed(choice.values.iter().copied()));
            return None;
        };
        if choice.values.contains(&text) {
            return Some(text.into());
        }
        if let Some((_, word)) = choice.aliases.iter().find(|(other, _)| *other == text) {
            return Some((*word).into());
        }
        if let Some((_, reason)) = choice.refused.iter().find(|(word, _)| *word == text) {
            let problem = self.problem(node, Code::Unsupported, *reason);
            self.problems.push(
                problem
                    .with_found(&node.describe(false))
                    .with_allowed(choice.values.iter().copied()),
            );
            return None;
        }
        let problem = self
            .problem(node, Code::NotAllowed, "not one of the known values")
            .with_found(&format!("`{text}`"))
            .with_allowed(choice.values.iter().copied())
            .with_suggestion(suggest(text, choice.values.iter().copied()));
        if !choice.open {
            self.problems.push(problem);
            return None;
        }
        self.problems.push(problem.warning());
        (form::check(text, Form::Line).is_ok() && text.len() <= 200).then(|| text.into())
    }

    fn int(&mut self, node: &Node, min: i64, max: i64) -> Option<Value> {
        let Data::Number { value, .. } = &node.data else {
            return self.no_number(node, "a whole number");
        };
        match value.as_i64() {
            Some(n) if (min..=max).contains(&n) => Some(n.into()),
            None if value.is_f64() => self.no_number(node, "a whole number"),
            _ => {
                let bounds = if max == i64::MAX {
                    format!("at least {min}")
                } else {
                    format!("{min} to {max}")
                };
                self.out_of_range(node, &bounds)
            }
        }
    }

    fn number(&mut self, node: &Node, min: f64, max: f64) -> Option<Value> {
        let Data::Number { value, .. } = &node.data else {
            return self.no_number(node, "a number");
        };
        match value.as_f64() {
            Some(n) if n >= min && n <= max => Some(Value::Number(value.clone())),
            _ => self.out_of_range(node, &format!("{min} to {max}")),
        }
    }

    fn no_number(&mut self, node: &Node, wanted: &str) -> Option<Value> {
        let bare = node.as_text().filter(|text| text.parse::<i64>().is_ok());
        let problem = self.wrong_type(node, wanted, false).with_suggestion(bare.map(str::to_owned));
        self.problems.push(problem);
        None
    }

    fn out_of_range(&mut self, node: &Node, bounds: &str) -> Option<Value> {
        let problem = self
            .problem(node, Code::OutOfRange, "the number is out of range")
            .with_found(&node.describe(false))
            .with_allowed([bounds]);
        self.problems.push(problem);
        None
    }

    fn bool(&mut self, node: &Node) -> Option<Value> {
        if let Data::Bool(value) = node.data {
            return Some(value.into());
        }
        let meant = node.as_text().and_then(|text| match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "y" => Some("true".to_owned()),
            "no" | "off" | "false" | "n" => Some("false".to_owned()),
            _ => None,
        });
        let problem = self.wrong_type(node, "`true` or `false`", false).with_suggestion(meant);
        self.problems.push(problem);
        None
    }

    fn id(&mut self, node: &Node) -> Option<Value> {
        match &node.data {
            Data::Number { value, .. } if !value.is_f64() => Some(value.to_string().into()),
            _ => self.text(
                node,
                &Text { min: 1, max: 100, bytes_max: None, form: Form::Line },
                false,
            ),
        }
    }

    fn time(&mut self, node: &Node) -> Option<Value> {
        let Some(text) = node.as_text() else { return self.no_text(node, false, false) };
        if form::is_time(text) {
            return Some(text.into());
        }
        let message = "a time like `2030-01-31T08:00:00Z` is wanted";
        let problem = self.problem(node, Code::BadFormat, message);
        self.problems.push(problem.with_found(&node.describe(false)));
        None
    }

    fn map(&mut self, node: &Node, map: &MapOf) -> Option<Value> {
        let Data::Map(entries) = &node.data else {
            let hidden = map.secret_by_key || map.value.holds_secret();
            let problem = self.wrong_type(node, "a mapping", hidden);
            self.problems.push(problem);
            return None;
        };
        if entries.len() > map.max {
            let message = format!("at most {} entries, these are {}", map.max, entries.len());
            let problem = self.problem(node, Code::TooLong, message);
            self.problems.push(problem);
            return None;
        }
        let mut value = Map::new();
        for entry in entries {
            let secret = map.secret_by_key && is_secret_key(&entry.key);
            let checked = self.inside(&entry.key, |this| {
                if let Err(message) = form::check_key(&entry.key) {
                    let problem = Problem::new(entry.at, &this.path, Code::BadFormat, message);
                    this.problems.push(problem.with_found(&entry.key));
                }
                this.value(&entry.value, map.value, secret)
            });
            value.insert(entry.key.clone(), checked.unwrap_or(Value::Null));
        }
        Some(Value::Object(value))
    }

    fn list(&mut self, node: &Node, list: &ListOf) -> Option<Value> {
        let Data::List(items) = &node.data else {
            let problem = self.wrong_type(node, "a list", list.item.holds_secret());
            self.problems.push(problem);
            return None;
        };
        if items.len() < list.min {
            let message = format!("at least {} wanted, found {}", list.min, items.len());
            let problem = self.problem(node, Code::TooShort, message);
            self.problems.push(problem);
        } else if items.len() > list.max {
            let message = format!("at most {} items, these are {}", list.max, items.len());
            let problem = self.problem(node, Code::TooLong, message);
            self.problems.push(problem);
            return None;
        }
        let value = items.iter().enumerate().map(|(index, item)| {
            self.at_item(index, |this| this.value(item, list.item, false)).unwrap_or(Value::Null)
        });
        Some(Value::Array(value.collect()))
    }
}
