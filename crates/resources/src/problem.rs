//! What is wrong with a document, where, and what would be right.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most problems told about one call; the last one then says that there are more.
pub const PROBLEMS_MAX: usize = 500;

/// Longest piece of a document that is quoted back, in characters.
const FOUND_CHARS_MAX: usize = 80;

/// Stable word for a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The text is no YAML or JSON.
    Syntax,
    /// The bytes are no UTF-8.
    InvalidUtf8,
    /// The document is over 1 MiB, or the whole input is over its limit.
    TooLarge,
    /// Nested deeper than 64.
    TooDeep,
    /// More than 1,000 documents.
    TooManyDocuments,
    /// Too many values, or aliases that expand to too many.
    TooManyValues,
    /// More problems than are told.
    TooManyProblems,
    /// No document at all.
    Empty,
    /// The same key twice in one mapping.
    DuplicateKey,
    /// The same kind, namespace and name twice.
    DuplicateDocument,
    /// The kind has no such field.
    UnknownField,
    /// A required field is absent.
    MissingField,
    /// Text where a list is wanted, and so on.
    WrongType,
    /// Not one of the allowed values.
    NotAllowed,
    /// A number below or above the limits.
    OutOfRange,
    /// Fewer characters or items than wanted.
    TooShort,
    /// More characters or items than allowed.
    TooLong,
    /// A name, URL, time or expression of the wrong form.
    BadFormat,
    /// Two fields contradict each other.
    Conflict,
    /// Known, but not supported here.
    Unsupported,
    /// It is allowed and changes nothing (a warning).
    NoEffect,
    /// A referenced resource does not exist, or the caller may not see it.
    NotFound,
}

/// Whether a problem stops the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is accepted.
    Warning,
}

/// A place in a text.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

impl Position {
    /// A place; both from 1.
    #[must_use]
    pub const fn new(line: u32, column: u32) -> Self {
        Self { line, column }
    }
}

/// One thing that is wrong, with everything a person needs to put it right.
///
/// Never quotes a value of a field that holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Name of the file, as given by whoever asked; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Where in the text.
    #[serde(flatten)]
    pub at: Position,
    /// Field, as `spec.members[1].botRef.name`; empty for the document itself.
    #[serde(default)]
    pub path: String,
    /// Stable word.
    pub code: Code,
    /// English sentence fragment.
    pub message: String,
    /// What stands there, at most 80 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What may stand there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// What was probably meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// Whether it stops the document.
    pub severity: Severity,
}

impl Problem {
    /// An error at a place; the rest is added with the `with_` methods.
    #[must_use]
    pub fn new(at: Position, path: &str, code: Code, message: impl Into<String>) -> Self {
        Self {
            file: String::new(),
            at,
            path: path.to_owned(),
            code,
            message: message.into(),
            found: None,
            allowed: Vec::new(),
            suggestion: None,
            severity: Severity::Error,
        }
    }

    /// Says what stands there; cut to 80 characters.
    #[must_use]
    pub fn with_found(mut self, found: &str) -> Self {
        self.found = Some(shorten(found));
        self
    }

    /// Says what may stand there.
    #[must_use]
    pub fn with_allowed<T: Into<String>>(mut self, allowed: impl IntoIterator<Item = T>) -> Self {
        self.allowed = allowed.into_iter().map(Into::into).collect();
        self
    }

    /// Says what was probably meant.
    #[must_use]
    pub fn with_suggestion(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }

    /// Makes it a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Whether it stops the document.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    /// One line: `team.yaml:12:5: error: spec.members[0]: unknown field ..`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = if self.file.is_empty() { "input" } else { &self.file };
        let severity = if self.is_error() { "error" } else { "warning" };
        write!(f, "{file}:{}:{}: {severity}: ", self.at.line, self.at.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(found) = &self.found {
            write!(f, ", found {found}")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; did you mean `{suggestion}`?")
        } else if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed.join(", "))
        } else {
            Ok(())
        }
    }
}

/// Characters that a terminal acts on, or that nobody sees: controls, marks of direction, zero
/// widths, the line and paragraph separators.
pub(crate) fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Cuts a text for quoting: one line, at most 80 characters, nothing invisible.
#[must_use]
pub fn shorten(text: &str) -> String {
    let clean = |c: char| if is_invisible(c) { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(FOUND_CHARS_MAX).map(clean).collect();
    if text.chars().nth(FOUND_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// The candidate that `given` is probably a misspelling of.
///
/// Case, `-` and `_` do not count; otherwise one edit in three characters is near enough.
#[must_use]
pub fn suggest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // A long text is no misspelled word, and edit distance is quadratic.
    if given.len() > 64 {
        return None;
    }
    let bare = |s: &str| -> String {
        s.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
    };
    let wanted = bare(given);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let near = bare(candidate);
            let distance = strsim::osa_distance(&wanted, &near);
            let longest = wanted.chars().count().max(near.chars().count());
            (distance == 0 || distance * 3 <= longest).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Collects problems up to [`PROBLEMS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    errors: usize,
    dropped: bool,
}

impl Problems {
    pub(crate) fn push(&mut self, problem: Problem) {
        if self.dropped {
            // Nothing that is dropped may look like success.
            self.errors += usize::from(problem.is_error());
            return;
        }
        if self.list.len() + 1 == PROBLEMS_MAX {
            self.dropped = true;
            let more = "more problems follow; put these right first";
            self.list.push(Problem::new(problem.at, "", Code::TooManyProblems, more));
            self.errors += 1;
            return;
        }
        self.errors += usize::from(problem.is_error());
        self.list.push(problem);
    }

    /// How many errors there were so far, told or not.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn is_full(&self) -> bool {
        self.dropped
    }

    /// In the order of the text.
    pub(crate) fn into_sorted(mut self) -> Vec<Problem> {
        self.list.sort_by_key(|problem| (problem.code == Code::TooManyProblems, problem.at));
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling() {
        let fields = ["baseImage", "baseShellRef", "shellType"];
        assert_eq!(suggest("base_image", fields).as_deref(), Some("baseImage"));
        assert_eq!(suggest("shelType", fields).as_deref(), Some("shellType"));
        assert_eq!(suggest("colour", fields), None);
        assert_eq!(suggest(&"x".repeat(1000), fields), None);
    }

    #[test]
    fn one_line_says_it_all() {
        let mut problem =
            Problem::new(Position::new(3, 7), "spec.shellType", Code::NotAllowed, "not allowed")
                .with_found("`claudecode`")
                .with_suggestion(Some("ClaudeCode".into()));
        problem.file = "a.yaml".into();
        assert_eq!(
            problem.to_string(),
            "a.yaml:3:7: error: spec.shellType: not allowed, found `claudecode`; did you mean `ClaudeCode`?"
        );
    }

    #[test]
    fn quoting_is_bounded_and_clean() {
        assert_eq!(shorten("a\u{0}b"), "a\u{fffd}b");
        assert_eq!(shorten(&"é".repeat(500)).chars().count(), 81);
    }

    #[test]
    fn the_list_is_bounded_and_says_so() {
        let mut problems = Problems::default();
        for _ in 0..2000 {
            problems.push(Problem::new(Position::default(), "", Code::Syntax, "x"));
        }
        let list = problems.into_sorted();
        assert_eq!(list.len(), PROBLEMS_MAX);
        assert_eq!(list.last().unwrap().code, Code::TooManyProblems);
    }
}
