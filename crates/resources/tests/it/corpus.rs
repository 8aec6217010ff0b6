//! A hundred and more documents that are wrong, with what has to be said about each.
//!
//! `cargo test -p troupe-resources --test it -- --ignored rewrite` writes the expected files
//! anew; read the difference before you keep it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use troupe_resources::{Format, ParseOptions, Parsed, Problem, Source, parse};

/// Files that hold good documents beside the bad one.
const GOOD_BESIDE: [&str; 4] = ["among-good", "envelope-same", "with-a-bad-item", "second-value"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn documents() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.to_string_lossy().ends_with(".expected.json"))
        .collect();
    files.sort();
    files
}

fn expected_file(document: &Path) -> PathBuf {
    let name = document.file_name().unwrap().to_string_lossy();
    document.with_file_name(format!("{name}.expected.json"))
}

fn read(document: &Path) -> Parsed {
    let name = document.file_name().unwrap().to_string_lossy();
    let bytes = fs::read(document).unwrap();
    let source = Source { name: &name, bytes: &bytes, format: Format::of_file(&name) };
    parse(&[source], &ParseOptions::default())
}

/// What is compared: all but the wording, and the (long) list of allowed fields.
fn told(problem: &Problem) -> Value {
    let mut told = json!({
        "at": format!("{}:{}", problem.at.line, problem.at.column),
        "path": problem.path,
        "code": problem.code,
        "severity": problem.severity,
    });
    if let Some(found) = &problem.found {
        told["found"] = found.as_str().into();
    }
    if let Some(suggestion) = &problem.suggestion {
        told["suggestion"] = suggestion.as_str().into();
    }
    told
}

fn actual(document: &Path) -> Value {
    read(document).problems.iter().map(told).collect()
}

#[test]
fn every_problem_is_told_with_its_place() {
    let mut wrong = Vec::new();
    for document in documents() {
        let expected = fs::read_to_string(expected_file(&document)).unwrap_or_default();
        let expected: Value = serde_json::from_str(&expected).unwrap_or_default();
        let actual = actual(&document);
        if actual != expected {
            wrong.push(format!("{}\n{actual:#}\nexpected {expected:#}", document.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_document_is_refused() {
    let documents = documents();
    assert!(documents.len() >= 100, "{}", documents.len());
    for document in documents {
        let parsed = read(&document);
        assert!(parsed.has_errors(), "{}", document.display());
        let name = document.file_name().unwrap().to_string_lossy().into_owned();
        let has_good_ones = GOOD_BESIDE.iter().any(|part| name.contains(part));
        assert_eq!(!parsed.documents.is_empty(), has_good_ones, "{name}");
        assert!(parsed.into_result().is_err());
    }
}

#[test]
fn no_problem_quotes_a_secret() {
    for document in documents() {
        let name = document.file_name().unwrap().to_string_lossy().into_owned();
        for problem in read(&document).problems {
            let text = format!("{problem} {problem:?}");
            for secret in [
                "9876543210",
                "1234567890",
                "12345678",
                "7777777",
                "Bearer sk",
                "sk-top-",
                "tok:en",
            ] {
                let shown = text.contains(secret);
                assert!(!shown, "{name} shows {secret}: {text}");
            }
        }
    }
}

#[test]
#[ignore = "rewrites the expected problems"]
fn rewrite() {
    for document in documents() {
        let text = format!("{:#}\n", actual(&document));
        fs::write(expected_file(&document), text).unwrap();
    }
}
