//! Resources as YAML, in the order of the tables, so that what is read can be applied again.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::{
    problem::is_invisible,
    resource::Resource,
    schema::{self, METADATA, Object, Type},
};

/// A resource as one YAML document, without a marker.
#[must_use]
pub fn to_yaml(resource: &Resource) -> String {
    let value = serde_json::to_value(resource).expect("a resource has text keys only");
    let mut printer = Printer { out: String::new() };
    let empty = Map::new();
    let fields = value.as_object().unwrap_or(&empty);
    for (name, object) in [
        ("apiVersion", None),
        ("kind", None),
        ("metadata", Some(&METADATA)),
        ("spec", Some(schema::spec_of(resource.kind))),
        ("status", Some(schema::status_of(resource.kind))),
    ] {
        if let Some(value) = fields.get(name) {
            printer.entry(name, value, object.map(Type::Object).as_ref(), 0);
        }
    }
    printer.out
}

/// Several resources as YAML documents with markers between them.
#[must_use]
pub fn to_yaml_documents<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> String {
    resources.into_iter().map(to_yaml).collect::<Vec<_>>().join("---\n")
}

/// Any JSON value as YAML.
#[must_use]
pub fn value_to_yaml(value: &Value) -> String {
    let mut printer = Printer { out: String::new() };
    match value {
        Value::Object(fields) if !fields.is_empty() => printer.map(fields, None, 0),
        Value::Array(items) if !items.is_empty() => printer.list(items, None, 0),
        other => {
            printer.scalar(other, 0);
            printer.out.push('\n');
        }
    }
    printer.out
}

struct Printer {
    out: String,
}

impl Printer {
    fn indent(&mut self, level: usize) {
        for _ in 0..level {
            self.out.push_str("  ");
        }
    }

    fn map(&mut self, fields: &Map<String, Value>, object: Option<&'static Object>, level: usize) {
        let known = |name: &str| object.is_some_and(|object| object.field(name).is_some());
        for field in object.map_or(&[][..], |object| object.fields) {
            if let Some(value) = fields.get(field.name) {
                self.indent(level);
                self.entry(field.name, value, Some(&field.ty), level);
            }
        }
        for (name, value) in fields.iter().filter(|(name, _)| !known(name)) {
            self.indent(level);
            self.entry(name, value, None, level);
        }
    }

    fn free_map(&mut self, fields: &Map<String, Value>, ty: Option<&Type>, level: usize) {
        for (name, value) in fields {
            self.indent(level);
            self.entry(name, value, ty, level);
        }
    }

    /// After the indent: a key and its value, to the end of the line.
    fn entry(&mut self, name: &str, value: &Value, ty: Option<&Type>, level: usize) {
        // YAML reads a key of at most 1,024 characters without a mark, its escapes written out.
        let printed: usize = name.chars().map(|c| if is_invisible(c) { 10 } else { 2 }).sum();
        if printed > 1_000 {
            self.out.push_str("? ");
            self.quoted(name);
            self.out.push('\n');
            self.indent(level);
        } else {
            self.text(name);
        }
        self.out.push(':');
        self.value(value, ty, level);
    }

    /// After a key: the value, on this line or below it.
    fn value(&mut self, value: &Value, ty: Option<&Type>, level: usize) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                self.out.push('\n');
                self.inner_map(fields, ty, level + 1);
            }
            Value::Array(items) if !items.is_empty() => {
                self.out.push('\n');
                self.list(items, ty, level + 1);
            }
            scalar => {
                self.out.push(' ');
                self.scalar(scalar, level);
                self.out.push('\n');
            }
        }
    }

    fn inner_map(&mut self, fields: &Map<String, Value>, ty: Option<&Type>, level: usize) {
        match ty {
            Some(Type::Object(object)) => self.map(fields, Some(object), level),
            Some(Type::Map(map)) => self.free_map(fields, Some(map.value), level),
            _ => self.free_map(fields, None, level),
        }
    }

    fn list(&mut self, items: &[Value], ty: Option<&Type>, level: usize) {
        let ty = match ty {
            Some(Type::List(list)) => Some(list.item),
            _ => None,
        };
        for item in items {
            self.indent(level);
            self.out.push('-');
            match item {
                Value::Object(fields) if !fields.is_empty() => {
                    // The first key stands beside the dash.
                    let start = self.out.len();
                    self.inner_map(fields, ty, level + 1);
                    let indent = (level + 1) * 2;
                    self.out.replace_range(start..start + indent, " ");
                }
                other => self.value(other, ty, level),
            }
        }
    }

    fn scalar(&mut self, value: &Value, level: usize) {
        match value {
            Value::String(text) if fits_block(text) => self.block(text, level),
            Value::String(text) => self.text(text),
            Value::Array(_) => self.out.push_str("[]"),
            Value::Object(_) => self.out.push_str("{}"),
            other => write!(self.out, "{other}").expect("writing to a String never fails"),
        }
    }

    fn text(&mut self, text: &str) {
        if fits_plain(text) {
            self.out.push_str(text);
        } else {
            self.quoted(text);
        }
    }

    fn quoted(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\t' => self.out.push_str("\\t"),
                '\r' => self.out.push_str("\\r"),
                c if is_invisible(c) => {
                    write!(self.out, "\\U{:08X}", u32::from(c))
                        .expect("writing to a String never fails");
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    /// Lines as they are, after `|`.
    fn block(&mut self, text: &str, level: usize) {
        self.out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            self.out.push('\n');
            if !line.is_empty() {
                self.indent(level + 1);
                self.out.push_str(line);
            }
        }
    }
}

/// Whether text can stand without quotes and is read back as the same text.
fn fits_plain(text: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '+' | '@');
    let inner = |c: char| word(c) || matches!(c, ' ' | ',' | '(' | ')' | ';' | '=' | '\'');
    // In front of a flow of words there is no comma, and digits may be read as a number or a time.
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && text.chars().all(inner)
        && text.ends_with(|c: char| word(c) || matches!(c, ')' | ';'))
        && text.len() <= 500
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        )
}

/// Whether text of several lines reads back unchanged from a literal block.
fn fits_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    text.contains('\n')
        && !body.is_empty()
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\n', '\t'])
        && !text.chars().any(|c| c != '\n' && is_invisible(c))
        && !body.split('\n').any(|line| line.trim().is_empty() && !line.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        problem::Problems,
        syntax::{self, Format},
    };

    fn read_back(yaml: &str) -> Value {
        let mut problems = Problems::default();
        let trees = syntax::read(yaml.as_bytes(), Format::Yaml, &mut problems);
        assert_eq!(problems.into_sorted(), [], "{yaml}");
        trees.first().map_or(Value::Null, |tree| tree.root.to_value())
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            4 => "(?s).{0,12}",
            2 => "[a-z :#\\-\\[\\]{}&*!|>'\"%@`,?\n\t]{0,20}",
            1 => prop::sample::select(vec!["yes", "~", "1.0", "0x1", "- a", "a: b", "---", "...", "<<", "=", "1:2"])
                .prop_map(str::to_owned),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn what_is_printed_reads_back(value in any_value()) {
            let yaml = value_to_yaml(&value);
            prop_assert_eq!(read_back(&yaml), value, "{}", yaml);
        }
    }

    #[test]
    fn long_keys_read_back() {
        let mut map = Map::new();
        map.insert("\u{1a}".repeat(120), json!({"found by": "fuzzing"}));
        map.insert("k".repeat(3000), json!([{"x".repeat(2000): {"y": 1}}]));
        let value = Value::Object(map);
        assert_eq!(read_back(&value_to_yaml(&value)), value);
    }

    #[test]
    fn it_reads_well() {
        let value = json!({
            "list": [{"a": 1, "b": ["x", "y z"]}, [], "true"],
            "prompt": "First line.\n\n  Second line.\n",
            "empty": {},
        });
        let wanted = "empty: {}\nlist:\n  - a: 1\n    b:\n      - x\n      - y z\n  - []\n  - \"true\"\n\
                      prompt: |\n  First line.\n\n    Second line.\n";
        assert_eq!(value_to_yaml(&value), wanted);
    }
}
