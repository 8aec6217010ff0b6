//! Text to trees of values with positions: YAML 1.2 and JSON, bounded in every direction.
//!
//! One tree serves both formats, so everything after this module works on one form. A syntax
//! error ends its own document only; the documents beside it are still read.

mod json;
mod node;
mod split;
mod yaml;

pub(crate) use node::{Data, Entry, Node, Tree};

use crate::problem::{Code, Position, Problem, Problems};

/// Largest document.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// Largest input of one call, all documents together.
pub const INPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Deepest nesting; the document's own mapping is level 1.
pub const DEPTH_MAX: usize = 64;
/// Most documents of one call.
pub const DOCUMENTS_MAX: usize = 1_000;
/// Most values of one document, aliases expanded.
pub const VALUES_MAX: usize = 100_000;
/// Most bytes that the anchors and aliases of one document may copy. Printed, a document has its
/// copies written out and has to be read again: far below [`DOCUMENT_BYTES_MAX`].
pub const ALIAS_BYTES_MAX: usize = 256 * 1024;

/// How a text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON where a document is JSON, else YAML.
    #[default]
    Auto,
    /// YAML 1.2, documents separated by `---`.
    Yaml,
    /// JSON, several values one after another.
    Json,
}

impl Format {
    /// From the end of a file's name.
    #[must_use]
    pub fn of_file(name: &str) -> Self {
        let ends = |end: &str| {
            name.len() >= end.len() && {
                let tail = &name.as_bytes()[name.len() - end.len()..];
                tail.eq_ignore_ascii_case(end.as_bytes())
            }
        };
        if ends(".json") || ends(".jsonl") {
            Self::Json
        } else if ends(".yaml") || ends(".yml") {
            Self::Yaml
        } else {
            Self::Auto
        }
    }
}

/// Reads every document; what cannot be read is told in `problems`.
pub(crate) fn read(bytes: &[u8], format: Format, problems: &mut Problems) -> Vec<Tree> {
    if bytes.len() > INPUT_BYTES_MAX {
        let message = format!("the input is larger than {} MiB", INPUT_BYTES_MAX >> 20);
        problems.push(Problem::new(Position::new(1, 1), "", Code::TooLarge, message));
        return Vec::new();
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let at = position_after(&bytes[..error.valid_up_to()]);
            let found = format!("byte 0x{:02x}", bytes[error.valid_up_to()]);
            problems.push(
                Problem::new(at, "", Code::InvalidUtf8, "the text is not UTF-8").with_found(&found),
            );
            return Vec::new();
        }
    };
    let mut documents = Vec::new();
    match format {
        Format::Json => json::read(text, 1, problems, &mut documents),
        Format::Auto | Format::Yaml => {
            for chunk in split::split(text) {
                if documents.len() > DOCUMENTS_MAX || problems.is_full() {
                    break;
                }
                read_chunk(&chunk, format, problems, &mut documents);
            }
        }
    }
    if let Some(first_over) = documents.get(DOCUMENTS_MAX) {
        let message = format!("more than {DOCUMENTS_MAX} documents");
        problems.push(Problem::new(first_over.root.at, "", Code::TooManyDocuments, message));
        documents.truncate(DOCUMENTS_MAX);
    }
    documents
}

fn read_chunk(
    chunk: &split::Chunk<'_>,
    format: Format,
    problems: &mut Problems,
    documents: &mut Vec<Tree>,
) {
    if chunk.text.len() > DOCUMENT_BYTES_MAX {
        problems.push(too_large(Position::new(chunk.line, 1)));
        return;
    }
    if format == Format::Auto && chunk.text.trim_start().starts_with(['{', '[']) {
        // JSON escapes characters beyond the basic plane as surrogate pairs, which YAML refuses.
        let (mut quiet, mut found) = (Problems::default(), Vec::new());
        json::read(chunk.text, chunk.line, &mut quiet, &mut found);
        let quiet = quiet.into_sorted();
        if !quiet.iter().any(|problem| problem.code == Code::Syntax) {
            quiet.into_iter().for_each(|problem| problems.push(problem));
            documents.append(&mut found);
            return;
        }
    }
    yaml::read(chunk, problems, documents);
}

fn too_large(at: Position) -> Problem {
    let message = format!("the document is larger than {} MiB", DOCUMENT_BYTES_MAX >> 20);
    Problem::new(at, "", Code::TooLarge, message)
}

fn too_deep(at: Position, path: &str) -> Problem {
    // The whole path would be as deep as the document.
    let start: String = path.chars().take(120).collect();
    Problem::new(at, &start, Code::TooDeep, format!("nested deeper than {DEPTH_MAX} levels"))
}

fn too_many_values(at: Position, message: String) -> Problem {
    Problem::new(at, "", Code::TooManyValues, message)
}

/// Where the text goes on after these bytes.
fn position_after(bytes: &[u8]) -> Position {
    let line = 1 + bytes.iter().filter(|&&b| b == b'\n').count();
    let start = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
    let column = 1 + bytes[start..].iter().filter(|&&b| b & 0xc0 != 0x80).count();
    Position::new(
        u32::try_from(line).unwrap_or(u32::MAX),
        u32::try_from(column).unwrap_or(u32::MAX),
    )
}

#[cfg(test)]
mod tests;
