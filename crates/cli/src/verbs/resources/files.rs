//! Files of documents as one body, and from its lines back to those of the files.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use troupe_api::{FieldError, resource::ApplyAnswer};
use troupe_types::limits;

use crate::{
    client::{Client, segment},
    error::CliError,
};

/// What a node takes at once.
const BYTES_MAX: usize = limits::PAYLOAD_BYTES_MAX;
/// Stands between two files: it ends the one whatever it holds, and the other begins as if it
/// stood alone, with directives of its own or as JSON.
const BETWEEN: &[u8] = b"---\n...\n";
/// A mark that editors put in front of UTF-8.
const BOM: &[u8] = "\u{feff}".as_bytes();
/// Files that are named when they are too large together.
const NAMED_MAX: usize = 20;

/// Files that are sent together.
#[derive(Debug, Default)]
pub(super) struct Files {
    body: Vec<u8>,
    parts: Vec<Part>,
    /// Lines of the body so far.
    lines: u32,
}

#[derive(Debug)]
struct Part {
    /// As the user calls it.
    name: String,
    /// The line of the body before its first one.
    before: u32,
    /// What it has, or at least has.
    bytes: u64,
}

impl Files {
    /// Reads files, directories (their .yaml, .yml and .json files by name) and standard input.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, CliError> {
        let mut files = Self::default();
        for path in paths {
            if path.as_os_str() == "-" {
                let fail = |e| CliError::local("standard input cannot be read", e);
                files.add("-", 0, io::stdin()).map_err(fail)?;
            } else if path.is_dir() {
                list(path)?.iter().try_for_each(|file| files.add_file(file))?;
            } else {
                files.add_file(path)?;
            }
        }
        if files.body.len() > BYTES_MAX { Err(files.too_large()) } else { Ok(files) }
    }

    fn add_file(&mut self, path: &Path) -> Result<(), CliError> {
        let fail = |e| CliError::local(format!("cannot read {}", path.display()), e);
        let file = File::open(path).map_err(fail)?;
        let bytes = file.metadata().map_err(fail)?.len();
        self.add(&path.display().to_string(), bytes, file).map_err(fail)
    }

    /// Adds a file; of what is too much together, only the size.
    fn add(&mut self, name: &str, bytes: u64, source: impl Read) -> io::Result<()> {
        if !self.parts.is_empty() {
            let ends = self.body.ends_with(b"\n");
            self.append(if ends { b"" } else { b"\n" });
            self.append(BETWEEN);
        }
        let room = (BYTES_MAX + 1).saturating_sub(self.body.len());
        let mut text = Vec::new();
        let read = source.take(room as u64).read_to_end(&mut text)?;
        let (name, before, bytes) = (name.to_owned(), self.lines, bytes.max(read as u64));
        self.parts.push(Part { name, before, bytes });
        self.append(text.strip_prefix(BOM).unwrap_or(&text));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        self.lines = self.lines.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.body.extend_from_slice(bytes);
    }

    fn too_large(mut self) -> CliError {
        self.parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        let rest = self.parts.len().saturating_sub(NAMED_MAX);
        let mut text = match &self.parts[..] {
            [_] => format!("a node takes {BYTES_MAX} bytes at once, this is more:"),
            all => format!(
                "a node takes {BYTES_MAX} bytes at once, these {} files are more: send fewer at a \
                 time",
                all.len()
            ),
        };
        for part in self.parts.iter().take(NAMED_MAX) {
            text.push_str(&format!("\n  {}: {} bytes", part.name, part.bytes));
        }
        if rest > 0 {
            text.push_str(&format!("\n  and {rest} smaller ones"));
        }
        CliError::Usage(text)
    }

    /// Sends the files to a path that has a query; what is told of them names their own lines.
    pub(super) async fn send(
        mut self,
        client: &Client,
        mut path: String,
    ) -> Result<ApplyAnswer, CliError> {
        if let [only] = &self.parts[..] {
            path.push_str(&format!("&file={}", segment(&only.name)));
        }
        let body = std::mem::take(&mut self.body);
        match client.post_text::<ApplyAnswer>(&path, body).await {
            Ok(mut answer) => {
                answer.warnings.iter_mut().for_each(|warning| self.place(warning));
                Ok(answer)
            }
            Err(CliError::Problem(mut problem)) => {
                if let [one] = &mut problem.errors[..]
                    && one.message == problem.detail
                {
                    self.place(one);
                    problem.detail.clone_from(&one.message);
                } else {
                    problem.errors.iter_mut().for_each(|error| self.place(error));
                }
                Err(CliError::Problem(problem))
            }
            Err(error) => Err(error),
        }
    }

    /// Names file and line as the user knows them, in the words too.
    fn place(&self, error: &mut FieldError) {
        const FIRST: &str = "first at line ";
        let [_, _, ..] = self.parts[..] else { return }; // The node knows the only one's name.
        if let Some((part, line)) = error.line.and_then(|line| self.at(line)) {
            (error.file, error.line) = (Some(part.name.clone()), Some(line));
        }
        let first = error.message.rsplit_once(FIRST);
        let first = first.and_then(|(words, line)| Some((words, self.at(line.parse().ok()?)?)));
        if let Some((words, (part, line))) = first {
            error.message = format!("{words}first at {}:{line}", part.name);
        }
    }

    fn at(&self, line: u32) -> Option<(&Part, u32)> {
        let part = self.parts.iter().rfind(|part| part.before < line)?;
        Some((part, line - part.before))
    }
}

/// The files of a directory that hold documents.
fn list(directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let fail = |e| CliError::local(format!("cannot read {}", directory.display()), e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let known = |e: &std::ffi::OsStr| e == "yaml" || e == "yml" || e == "json";
        if path.is_file() && path.extension().is_some_and(known) {
            files.push(path);
        }
    }
    if files.is_empty() {
        let shown = directory.display();
        return Err(CliError::Usage(format!("{shown} holds no .yaml, .yml or .json file")));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use troupe_resources::parse::{ParseOptions, parse_bytes};

    use super::*;

    fn files(given: &[(&str, &str)]) -> Files {
        let mut files = Files::default();
        for (name, text) in given {
            files.add(name, 0, text.as_bytes()).unwrap();
        }
        files
    }

    const ROLE: &str = "apiVersion: agent.wecode.io/v1\nkind: Ghost\nmetadata: {name: NAME}\n";

    fn ghost(name: &str, spec: &str) -> String {
        format!("{}spec:{spec}", ROLE.replace("NAME", name))
    }

    #[test]
    fn each_file_is_read_as_if_it_stood_alone() {
        let json = "{\"kind\": \"Ghost\", \"metadata\": {\"name\": \"two\"},\n\t\"spec\": \
                    {\"systemPrompt\": \"\\ud83d\\ude42\"}}\n{\"kind\": \"Ghost\", \"metadata\": \
                    {\"name\": \"three\"}, \"spec\": {\"systemPrompt\": \"x\"}}";
        let given = [
            ("open.yaml", ghost("one", "\n  systemPrompt: |\n    the last line of a text")),
            ("pair.json", json.to_owned()),
            ("empty.yaml", String::new()),
            (
                "marked.yaml",
                format!("\u{feff}%YAML 1.2\n---\n{}", ghost("four", " {systemPrompt: x}")),
            ),
            (
                "two.yaml",
                format!(
                    "{}\n---\n{}",
                    ghost("five", " {systemPrompt: x}\n..."),
                    ghost("six", " {systemPrompt: x}")
                ),
            ),
            ("last.json", json.replace("two", "seven").replace("three", "eight")),
        ];
        let given: Vec<(&str, &str)> = given.iter().map(|(n, t)| (*n, t.as_str())).collect();
        let files = files(&given);
        let parsed = parse_bytes(&files.body, &ParseOptions::default());
        assert_eq!(parsed.problems, []);
        let found: Vec<(&str, &str, u32)> = parsed
            .documents
            .iter()
            .map(|d| {
                let (part, line) = files.at(d.position("metadata.name").line).unwrap();
                (d.resource.metadata.name.as_str(), part.name.as_str(), line)
            })
            .collect();
        let expected = [
            ("one", "open.yaml", 3),
            ("two", "pair.json", 1),
            ("three", "pair.json", 3),
            ("four", "marked.yaml", 5),
            ("five", "two.yaml", 3),
            ("six", "two.yaml", 9),
            ("seven", "last.json", 1),
            ("eight", "last.json", 3),
        ];
        assert_eq!(found, expected);
        assert_eq!(parsed.documents[1].resource.spec["systemPrompt"], "🙂");
        assert_eq!(parsed.documents[0].resource.spec["systemPrompt"], "the last line of a text\n");
    }

    #[test]
    fn what_is_wrong_is_told_with_the_users_own_lines() {
        let good = ghost("one", " {systemPrompt: x}\n");
        let files = files(&[
            ("a.yaml", &good),
            ("b.yaml", &format!("# again\n{good}")),
            ("c.json", "{\"kind\": \"Ghost\",\n"),
            ("d.yaml", &ghost("two", "\n  systemPromt: x\n")),
        ]);
        let parsed = parse_bytes(&files.body, &ParseOptions::default());
        let mut told: Vec<String> = Vec::new();
        for problem in &parsed.problems {
            let (line, message) = (Some(problem.at.line), problem.message.clone());
            let mut error = FieldError { line, message, ..FieldError::default() };
            files.place(&mut error);
            let (file, line) = (error.file.unwrap(), error.line.unwrap());
            told.push(format!("{file}:{line} {}", error.message));
        }
        let has = |start: &str, end: &str| {
            told.iter().any(|line| line.starts_with(start) && line.ends_with(end))
        };
        assert!(has("b.yaml:4 ", "is there twice, first at a.yaml:3"), "{told:#?}");
        assert!(has("c.json:", ""), "{told:#?}");
        assert!(has("d.yaml:5 ", ""), "{told:#?}");
        assert!(!has("a.yaml", ""), "{told:#?}");
    }

    #[test]
    fn files_that_are_too_large_together_are_named_with_their_sizes() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: usize| {
            let path = directory.path().join(name);
            std::fs::write(&path, " ".repeat(bytes)).unwrap();
            path
        };
        let (small, large) = (write("small.yaml", 10), write("large.yaml", BYTES_MAX - 10));
        let far = write("far.json", 3 * BYTES_MAX);
        assert_eq!(Files::read(std::slice::from_ref(&large)).unwrap().parts.len(), 1);
        let error = Files::read(&[small.clone(), large.clone()]).unwrap_err().to_string();
        for part in ["1048576", "small.yaml: 10 bytes", "large.yaml: 1048566 bytes"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        let error = Files::read(&[large, far, small]).unwrap_err().to_string();
        assert!(error.contains("far.json: 3145728 bytes"), "{error}");
    }
}
