//! Bytes to resources: everything that is wrong is told at once, each with its place.

use std::collections::HashMap;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    kind::Kind,
    problem::{Code, Position, Problem, Problems},
    resource::{Metadata, Resource, ResourceKey},
    schema,
    syntax::{self, Data, Entry, Format, Node, Tree},
    validate::Checker,
};

/// One text to read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// For problems; may be empty.
    pub name: &'a str,
    /// YAML or JSON in UTF-8, at most 16 MiB.
    pub bytes: &'a [u8],
    /// How it is written.
    pub format: Format,
}

/// How documents are read.
#[derive(Clone, Debug)]
pub struct ParseOptions {
    /// Unknown fields are warnings, and left out.
    pub ignore_unknown: bool,
    /// The namespace of documents that name none.
    pub namespace: String,
    /// Kind and metadata are enough, as for a delete: whatever else is there is left out.
    pub names_only: bool,
}

impl Default for ParseOptions {
    fn default() -> Self {
        Self {
            ignore_unknown: false,
            namespace: crate::resource::DEFAULT_NAMESPACE.to_owned(),
            names_only: false,
        }
    }
}

/// A resource that was read, and where.
#[derive(Clone, Debug)]
pub struct Located {
    /// What was read.
    pub resource: Resource,
    /// Name of its source.
    pub file: String,
    node: Node,
}

impl Located {
    /// Where a field stands, or the nearest thing around it; `""` is the document.
    #[must_use]
    pub fn position(&self, path: &str) -> Position {
        self.node.locate(path)
    }

    /// A problem with this document that was found later, such as a missing reference.
    #[must_use]
    pub fn problem(&self, path: &str, code: Code, message: impl Into<String>) -> Problem {
        let mut problem = Problem::new(self.position(path), path, code, message);
        problem.file.clone_from(&self.file);
        problem
    }
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The documents without errors, in order.
    pub documents: Vec<Located>,
    /// Errors and warnings, in the order of the texts.
    pub problems: Vec<Problem>,
    /// What the documents with errors say they are.
    pub refused: Refused,
}

/// What documents with errors say they are.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    keys: Vec<ResourceKey>,
    /// Some do not say it, or were not even found.
    nameless: bool,
}

impl Refused {
    /// Whether one of them may be of this kind and name, in whatever namespace.
    #[must_use]
    pub fn may_be(&self, kind: Kind, name: &str) -> bool {
        self.nameless || self.keys.iter().any(|key| key.kind == kind && key.name == name)
    }
}

/// Documents that were refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{} in the documents", count(problems))]
pub struct Rejected {
    /// Errors and warnings.
    pub problems: Vec<Problem>,
}

fn count(problems: &[Problem]) -> String {
    match problems.iter().filter(|problem| problem.is_error()).count() {
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    }
}

impl Parsed {
    /// Whether anything is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }

    /// All documents and the warnings.
    ///
    /// # Errors
    /// If anything is refused: all or nothing.
    pub fn into_result(self) -> Result<(Vec<Located>, Vec<Problem>), Rejected> {
        if self.has_errors() {
            Err(Rejected { problems: self.problems })
        } else {
            Ok((self.documents, self.problems))
        }
    }
}

/// Reads one text without a name, YAML or JSON.
#[must_use]
pub fn parse_bytes(bytes: &[u8], options: &ParseOptions) -> Parsed {
    parse(&[Source { name: "", bytes, format: Format::Auto }], options)
}

/// Reads texts; a resource may stand in them only once.
#[must_use]
pub fn parse(sources: &[Source<'_>], options: &ParseOptions) -> Parsed {
    let mut parsed = Parsed::default();
    let mut seen = HashMap::new();
    for source in sources {
        let mut problems = Problems::default();
        let trees = syntax::read(source.bytes, source.format, &mut problems);
        // What stands behind an error of the syntax may not have been read.
        parsed.refused.nameless |= problems.errors() > 0;
        if trees.is_empty() && problems.errors() == 0 {
            let message = "there is no document in it";
            problems.push(Problem::new(Position::new(1, 1), "", Code::Empty, message));
        }
        let (problems_now, refused) = (&mut problems, &mut parsed.refused);
        let mut reader =
            Reader { source, options, problems: problems_now, seen: &mut seen, refused };
        for tree in trees {
            reader.document_or_list(tree, &mut parsed.documents);
            if reader.problems.is_full() {
                reader.refused.nameless = true;
                break;
            }
        }
        parsed.problems.extend(problems.into_sorted().into_iter().map(|mut problem| {
            source.name.clone_into(&mut problem.file);
            problem
        }));
    }
    parsed
}

struct Reader<'a> {
    source: &'a Source<'a>,
    options: &'a ParseOptions,
    problems: &'a mut Problems,
    /// Where each resource was read first.
    seen: &'a mut HashMap<ResourceKey, String>,
    refused: &'a mut Refused,
}

impl Reader<'_> {
    fn document_or_list(&mut self, tree: Tree, documents: &mut Vec<Located>) {
        let Tree { root, broken } = tree;
        let is_list = root
            .get("kind")
            .and_then(Node::as_text)
            .is_some_and(|kind| kind == "List" || Kind::from_list_name(kind).is_some());
        let Some(Node { data: Data::List(items), .. }) = root.get("items").filter(|_| is_list)
        else {
            documents.extend(self.document(root, "", broken));
            return;
        };
        // What `get` printed can be applied again.
        for (index, item) in items.iter().enumerate().take(syntax::DOCUMENTS_MAX) {
            documents.extend(self.document(item.clone(), &format!("items[{index}]"), broken));
        }
        if let Some(item) = items.get(syntax::DOCUMENTS_MAX) {
            let message = format!("more than {} documents", syntax::DOCUMENTS_MAX);
            self.problems.push(Problem::new(item.at, "items", Code::TooManyDocuments, message));
        }
    }

    /// One resource; nothing if it is wrong, which is then told, or was told before.
    fn document(&mut self, node: Node, path: &str, broken: bool) -> Option<Located> {
        let node = if self.options.names_only { without_spec(node) } else { node };
        let errors_before = self.problems.errors();
        let mut checker = Checker {
            problems: self.problems,
            ignore_unknown: self.options.ignore_unknown,
            path: path.to_owned(),
        };
        let Some(mut document) = checker.object(&node, schema::document()) else {
            self.refused.nameless = true;
            return None;
        };
        let kind = document.get("kind").and_then(Value::as_str).and_then(Kind::from_name);
        let metadata = part(&mut checker, &node, "metadata", &schema::METADATA);
        if let Some(kind) = kind.filter(|_| !self.options.names_only) {
            let spec = part(&mut checker, &node, "spec", schema::spec_of(kind));
            document.insert("spec".to_owned(), spec.map_or(Value::Null, Value::Object));
            let status = part(&mut checker, &node, "status", schema::status_of(kind));
            document.insert("status".to_owned(), status.map_or(Value::Null, Value::Object));
        }
        let metadata = metadata.map(|metadata| self.namespaced(metadata, &node));
        let key = kind.zip(metadata.as_ref()).and_then(|(kind, metadata)| key(kind, metadata));
        if let Some(key) = &key {
            self.once(key, &node, path);
            if key.kind == Kind::Shell {
                self.shell_label(&node, path);
            }
        }
        if broken || self.problems.errors() > errors_before {
            self.refused.nameless |= key.is_none();
            self.refused.keys.extend(key);
            return None;
        }
        if let Some((kind, instead)) = kind.and_then(|kind| Some((kind, schema::unused(kind)?))) {
            self.unused(kind, instead, &node, path);
        }
        let resource = Resource {
            api_version: schema::API_VERSION.to_owned(),
            kind: kind?,
            metadata: serde_json::from_value::<Metadata>(Value::Object(metadata?))
                .expect("the table of metadata and its type agree, as a test shows"),
            spec: document.remove("spec")?,
            status: document.remove("status").unwrap_or_default(),
        };
        Some(Located { resource, file: self.source.name.to_owned(), node })
    }

    /// Nothing uses documents of this kind yet.
    fn unused(&mut self, kind: Kind, instead: &str, node: &Node, path: &str) {
        if self.options.names_only {
            return;
        }
        let path = if path.is_empty() { "kind".to_owned() } else { format!("{path}.kind") };
        let message = format!("a {kind} is kept, and nothing uses it yet; {instead}");
        let problem = Problem::new(node.locate("kind"), &path, Code::NoEffect, message);
        self.problems.push(problem.warning());
    }

    fn namespaced(&self, mut metadata: Map<String, Value>, node: &Node) -> Map<String, Value> {
        let named = node.get("metadata").and_then(|metadata| metadata.get("namespace"));
        if named.is_none_or(|named| named.data == Data::Null) {
            metadata.insert("namespace".to_owned(), self.options.namespace.as_str().into());
        }
        metadata
    }

    fn once(&mut self, key: &ResourceKey, node: &Node, path: &str) {
        let at = node.locate("metadata.name");
        let here = format!("{}:{}", self.source.name, at.line);
        if let Some(first) = self.seen.get(key) {
            let path = if path.is_empty() { "metadata.name" } else { path };
            let first =
                first.strip_prefix(':').map_or(first.clone(), |line| format!("line {line}"));
            let message = format!("{key} is there twice, first at {first}");
            self.problems.push(Problem::new(at, path, Code::DuplicateDocument, message));
        } else {
            self.seen.insert(key.clone(), here);
        }
    }

    /// `labels.type` of a Shell says how it is run.
    fn shell_label(&mut self, node: &Node, path: &str) {
        const TYPES: [&str; 3] = ["local_engine", "external_api", "direct_chat"];
        let label = node.get("metadata").and_then(|m| m.get("labels")).and_then(|l| l.get("type"));
        let Some(given) = label.and_then(Node::as_text) else { return };
        if TYPES.contains(&given) {
            return;
        }
        let place = "metadata.labels.type";
        let path = if path.is_empty() { place.to_owned() } else { format!("{path}.{place}") };
        let problem =
            Problem::new(node.locate(place), &path, Code::NotAllowed, "not allowed for a Shell")
                .with_found(&format!("`{given}`"))
                .with_allowed(TYPES)
                .with_suggestion(crate::problem::suggest(given, TYPES));
        self.problems.push(problem);
    }
}

/// A part of the document that has a table of its own.
fn part(
    checker: &mut Checker<'_>,
    node: &Node,
    name: &'static str,
    object: &'static schema::Object,
) -> Option<Map<String, Value>> {
    let absent = Node { at: node.at, data: Data::Map(Vec::new()) };
    let inner = match node.get(name) {
        Some(inner) if matches!(inner.data, Data::Map(_)) => inner,
        // A status may be left out; whatever else is missing was told already.
        None | Some(Node { data: Data::Null, .. }) if name == "status" => &absent,
        _ => return None,
    };
    checker.inside(name, |checker| checker.object(inner, object))
}

/// The document with an empty spec and no status.
fn without_spec(mut node: Node) -> Node {
    if let Data::Map(entries) = &mut node.data {
        entries.retain(|entry| !matches!(entry.key.as_str(), "spec" | "status"));
        let value = Node { at: node.at, data: Data::Map(Vec::new()) };
        entries.push(Entry { key: "spec".to_owned(), at: node.at, value });
    }
    node
}

fn key(kind: Kind, metadata: &Map<String, Value>) -> Option<ResourceKey> {
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).map(str::to_owned);
    Some(ResourceKey { kind, namespace: text("namespace")?, name: text("name")? })
}
