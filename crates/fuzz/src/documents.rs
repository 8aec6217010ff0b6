//! YAML and JSON documents, as `apply` reads them.

use troupe_resources::{ParseOptions, Parsed, Problem, parse_bytes, to_yaml_documents};

/// Reads documents strictly and leniently, and prints what was read.
///
/// # Panics
/// If a problem lies outside the text, if what is accepted strictly is refused leniently, or
/// if accepted documents do not read again once printed.
pub fn run(bytes: &[u8]) {
    let strict = parse_bytes(bytes, &ParseOptions::default());
    let lenient =
        parse_bytes(bytes, &ParseOptions { ignore_unknown: true, ..ParseOptions::default() });
    check_places(bytes, &strict);
    check_places(bytes, &lenient);
    if strict.has_errors() {
        return;
    }
    assert!(!lenient.has_errors(), "ignoring unknown fields made an error: {:?}", lenient.problems);
    let resources: Vec<_> = strict.documents.iter().map(|doc| doc.resource.clone()).collect();
    let printed = to_yaml_documents(&resources);
    let again = parse_bytes(printed.as_bytes(), &ParseOptions::default());
    assert!(!again.has_errors(), "printed and refused: {:?}\n{printed}", again.problems);
    let twice: Vec<_> = again.documents.iter().map(|doc| doc.resource.clone()).collect();
    assert_eq!(resources, twice, "printing changed the documents");
}

fn check_places(bytes: &[u8], parsed: &Parsed) {
    let lines = 1 + bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    for Problem { at, .. } in &parsed.problems {
        let line = usize::try_from(at.line).unwrap_or(usize::MAX);
        assert!((1..=lines + 1).contains(&line), "line {line} of {lines}");
    }
}
