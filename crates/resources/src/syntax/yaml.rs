//! One YAML document to a tree, from the parser's events.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use serde_json::Number;

use super::{
    ALIAS_BYTES_MAX, DEPTH_MAX, Data, Entry, Node, Tree, VALUES_MAX, split::Chunk, too_deep,
    too_many_values,
};
use crate::{
    path::{join, push_index, push_key},
    problem::{Code, Position, Problem, Problems},
};

/// Keys beyond which a mapping's duplicates are looked up in a set.
const LINEAR_KEYS_MAX: usize = 16;

/// Reads the documents of a chunk (one, unless old-style line ends hide a marker).
pub(super) fn read(chunk: &Chunk<'_>, problems: &mut Problems, documents: &mut Vec<Tree>) {
    let mut errors_before = problems.errors();
    let mut builder = Builder::new(chunk.line, problems);
    let mut parser = Parser::new_from_str(chunk.text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((Event::DocumentEnd, _)) => {
                let broken = builder.problems.errors() > errors_before;
                documents.extend(builder.finish().map(|root| Tree { root, broken }));
                errors_before = builder.problems.errors();
                Ok(())
            }
            Ok((event, span)) => builder.on(event, span.start),
            Err(error) => Err(syntax_error(&error, chunk).into()),
        };
        if let Err(problem) = step {
            builder.problems.push(*problem);
            return;
        }
    }
}

fn syntax_error(error: &ScanError, chunk: &Chunk<'_>) -> Problem {
    let at = position(*error.marker(), chunk.line);
    // The scanner has a limit of its own and looks ahead of the events that are counted here.
    if error.info().contains("recursion limit") {
        return too_deep(at, "");
    }
    let line = chunk.text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or("");
    let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    if indent.contains('\t') {
        let message = "a tab is used for indentation; YAML wants spaces";
        return Problem::new(at, "", Code::Syntax, message);
    }
    Problem::new(at, "", Code::Syntax, format!("this is not valid YAML: {}", error.info()))
}

fn position(marker: Marker, first_line: u32) -> Position {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = number(marker.line().max(1)) - 1;
    Position::new(first_line.saturating_add(line), number(marker.col()).saturating_add(1))
}

enum Key {
    Named(String, Position),
    /// A key that is no text; its value is dropped.
    Bad,
}

enum Open {
    List {
        at: Position,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        at: Position,
        anchor: usize,
        entries: Vec<Entry>,
        key: Option<Key>,
        seen: HashSet<String>,
    },
}

/// Boxed: a problem is large and an error is rare.
type Step = Result<(), Box<Problem>>;

struct Builder<'p> {
    problems: &'p mut Problems,
    first_line: u32,
    stack: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    values: usize,
    copied_bytes: usize,
}

impl<'p> Builder<'p> {
    fn new(first_line: u32, problems: &'p mut Problems) -> Self {
        Self {
            problems,
            first_line,
            stack: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            values: 0,
            copied_bytes: 0,
        }
    }

    /// The document, unless it is empty; ready for the next one.
    fn finish(&mut self) -> Option<Node> {
        self.anchors.clear();
        (self.values, self.copied_bytes) = (0, 0);
        self.root.take().filter(|node| node.data != Data::Null)
    }

    fn on(&mut self, event: Event<'_>, marker: Marker) -> Step {
        let at = position(marker, self.first_line);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(at, 1)?;
                let data = self.scalar(&text, style, tag.as_deref(), at);
                self.complete(Node { at, data }, anchor, Some(&text))
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_collection_tag(tag.as_deref(), "seq", at);
                self.open(at, Open::List { at, anchor, items: Vec::new() })
            }
            Event::MappingStart(anchor, tag) => {
                self.check_collection_tag(tag.as_deref(), "map", at);
                let (entries, seen) = (Vec::new(), HashSet::new());
                self.open(at, Open::Map { at, anchor, entries, key: None, seen })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open::List { at, anchor, items }) => {
                    self.complete(Node { at, data: Data::List(items) }, anchor, None)
                }
                Some(Open::Map { at, anchor, entries, .. }) => {
                    self.complete(Node { at, data: Data::Map(entries) }, anchor, None)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => self.alias(anchor, at),
            _ => Ok(()),
        }
    }

    fn open(&mut self, at: Position, open: Open) -> Step {
        self.count(at, 1)?;
        if self.stack.len() == DEPTH_MAX {
            return Err(too_deep(at, &self.path()).into());
        }
        self.stack.push(open);
        Ok(())
    }

    fn count(&mut self, at: Position, values: usize) -> Step {
        self.values += values;
        if self.values > VALUES_MAX {
            return Err(too_many_values(at, format!("more than {VALUES_MAX} values")).into());
        }
        Ok(())
    }

    /// Copies what an anchor names; the copies are counted like values written out.
    fn copied(&mut self, node: &Node, at: Position) -> Step {
        let (values, bytes) = node.weight();
        self.copied_bytes += bytes;
        if self.copied_bytes > ALIAS_BYTES_MAX || self.values + values > VALUES_MAX {
            let message = "anchors and aliases expand to too much".to_owned();
            return Err(too_many_values(at, message).into());
        }
        self.count(at, values)
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Step {
        let Some(mut node) = self.anchors.get(&anchor).cloned() else {
            let path = self.path();
            let message = "an alias inside the value that it names";
            return Err(Problem::new(at, &path, Code::Unsupported, message).into());
        };
        self.copied(&node, at)?;
        if self.stack.len() + depth(&node) > DEPTH_MAX {
            return Err(too_deep(at, &self.path()).into());
        }
        node.at = at;
        let key = node.as_text().map(str::to_owned);
        self.complete(node, 0, key.as_deref())
    }

    fn complete(&mut self, node: Node, anchor: usize, key: Option<&str>) -> Step {
        if anchor != 0 {
            self.copied(&node, node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.attach(node, key);
        Ok(())
    }

    /// Puts a value where it belongs; `key` is its text if it can be a key.
    fn attach(&mut self, node: Node, text: Option<&str>) {
        let Some(top) = self.stack.last_mut() else {
            self.root = Some(node);
            return;
        };
        match top {
            Open::List { items, .. } => items.push(node),
            Open::Map { entries, key, seen, .. } => match key.take() {
                None => {
                    *key = Some(match text {
                        Some(text) => Key::Named(text.to_owned(), node.at),
                        None => Key::Bad,
                    });
                    if text.is_none() {
                        let path = self.path();
                        let message = "a key must be text";
                        self.problems.push(
                            Problem::new(node.at, &path, Code::WrongType, message)
                                .with_found(node.type_name()),
                        );
                    }
                }
                Some(Key::Bad) => {}
                Some(Key::Named(name, at)) => {
                    if is_new(entries, seen, &name) {
                        entries.push(Entry { key: name, at, value: node });
                    } else {
                        let path = join(&self.path(), &name);
                        let message = "the key is there twice";
                        self.problems.push(Problem::new(at, &path, Code::DuplicateKey, message));
                    }
                }
            },
        }
    }

    /// Where the builder stands.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.stack {
            match open {
                Open::List { items, .. } => push_index(&mut path, items.len()),
                Open::Map { key: Some(Key::Named(name, _)), .. } => push_key(&mut path, name),
                Open::Map { .. } => {}
            }
        }
        path
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Position) -> Data {
        let plain = style == ScalarStyle::Plain;
        let Some(tag) = tag else {
            return if plain { self.plain(text, at) } else { Data::Text(text.to_owned()) };
        };
        let wanted = match core_tag(tag) {
            Some("str") => return Data::Text(text.to_owned()),
            Some(name @ ("int" | "float" | "bool" | "null")) => name,
            _ => {
                self.bad_tag(tag, at);
                return Data::Bad;
            }
        };
        let data = self.plain(text, at);
        let fits = match (&data, wanted) {
            (Data::Bad, _) => true,
            (Data::Null, "null") | (Data::Bool(_), "bool") | (Data::Number { .. }, "float") => true,
            (Data::Number { value, .. }, "int") => !value.is_f64(),
            _ => false,
        };
        if !fits {
            let path = self.path();
            let message = format!("this is no `!!{wanted}`");
            self.problems.push(Problem::new(at, &path, Code::WrongType, message));
            return Data::Bad;
        }
        data
    }

    /// A scalar without quotes, by the core schema of YAML 1.2.
    fn plain(&mut self, text: &str, at: Position) -> Data {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Data::Null,
            "true" | "True" | "TRUE" => Data::Bool(true),
            "false" | "False" | "FALSE" => Data::Bool(false),
            _ => match number(text) {
                Numeric::No => Data::Text(text.to_owned()),
                Numeric::Value(value) => Data::Number { value, raw: text.into() },
                Numeric::TooLarge => {
                    let path = self.path();
                    let message = "the number does not fit; put it in quotes if it is text";
                    // Not quoted: it may be a key that somebody forgot to put in quotes.
                    self.problems.push(Problem::new(at, &path, Code::OutOfRange, message));
                    Data::Bad
                }
            },
        }
    }

    fn check_collection_tag(&mut self, tag: Option<&Tag>, wanted: &str, at: Position) {
        if let Some(tag) = tag
            && core_tag(tag) != Some(wanted)
        {
            self.bad_tag(tag, at);
        }
    }

    fn bad_tag(&mut self, tag: &Tag, at: Position) {
        let path = self.path();
        let found = format!("`{}{}`", tag.handle, tag.suffix);
        let message = "this tag is not supported";
        self.problems.push(Problem::new(at, &path, Code::Unsupported, message).with_found(&found));
    }
}

/// Levels of nesting, this one included; bounded, as every built value is.
fn depth(node: &Node) -> usize {
    match &node.data {
        Data::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Data::Map(entries) => 1 + entries.iter().map(|e| depth(&e.value)).max().unwrap_or(0),
        _ => 0,
    }
}

fn core_tag(tag: &Tag) -> Option<&str> {
    match (tag.handle.as_str(), tag.suffix.as_str()) {
        ("tag:yaml.org,2002:", suffix) => Some(suffix),
        // `! 12` is text by the standard.
        ("!", "") | ("", "!") => Some("str"),
        _ => None,
    }
}

fn is_new(entries: &[Entry], seen: &mut HashSet<String>, name: &str) -> bool {
    if entries.len() < LINEAR_KEYS_MAX {
        return !entries.iter().any(|entry| entry.key == name);
    }
    if seen.is_empty() {
        seen.extend(entries.iter().map(|entry| entry.key.clone()));
    }
    seen.insert(name.to_owned())
}

enum Numeric {
    No,
    Value(Number),
    TooLarge,
}

/// Whether unquoted text is a number, and which.
fn number(text: &str) -> Numeric {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Numeric::No;
    }
    let radix = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix)
            .filter(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
            .map(|rest| u64::from_str_radix(rest, radix))
    };
    if let Some(parsed) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return parsed.map_or(Numeric::TooLarge, |n| Numeric::Value(n.into()));
    }
    if digits.chars().all(|c| c.is_ascii_digit()) {
        let bare = text.strip_prefix('+').unwrap_or(text);
        let small = bare.parse::<i64>().map(Number::from);
        let parsed = small.or_else(|_| bare.parse::<u64>().map(Number::from));
        return parsed.map_or(Numeric::TooLarge, Numeric::Value);
    }
    if matches!(digits, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Numeric::TooLarge;
    }
    if !is_float(digits) {
        return Numeric::No;
    }
    match text.parse::<f64>().ok().and_then(Number::from_f64) {
        Some(value) => Numeric::Value(value),
        None => Numeric::TooLarge,
    }
}

/// `[0-9]+(\.[0-9]*)?` or `\.[0-9]+`, then `([eE][-+]?[0-9]+)?`.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_fits =
        all_digits(whole) && all_digits(part) && !(whole.is_empty() && part.is_empty());
    let exponent_fits = exponent.is_none_or(|e| {
        let digits = e.strip_prefix(['-', '+']).unwrap_or(e);
        !digits.is_empty() && all_digits(digits)
    });
    mantissa_fits && exponent_fits
}
