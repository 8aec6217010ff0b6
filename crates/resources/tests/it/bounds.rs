//! Sizes that would make the corpus large are made here.

use std::time::Instant;

use troupe_resources::{Code, Format, ParseOptions, Parsed, Source, parse, parse_bytes};

const MIB: usize = 1024 * 1024;

fn read(text: &str) -> Parsed {
    parse_bytes(text.as_bytes(), &ParseOptions::default())
}

#[track_caller]
fn first(text: &str, wanted: Code) {
    let parsed = read(text);
    assert_eq!(parsed.problems.first().map(|problem| problem.code), Some(wanted), "{:.200}", text);
    assert!(parsed.has_errors());
}

fn ghost(name: &str, prompt: &str) -> String {
    format!("kind: Ghost\nmetadata: {{name: {name}}}\nspec:\n  systemPrompt: {prompt}\n")
}

#[test]
fn documents_of_two_mebibytes() {
    first(&ghost("g", &"x".repeat(2 * MIB)), Code::TooLarge);
    let json = format!("{{\"kind\": \"{}\"}}", "x".repeat(2 * MIB));
    first(&json, Code::TooLarge);
    first(&"a".repeat(17 * MIB), Code::TooLarge);
}

#[test]
fn a_large_document_leaves_its_neighbours() {
    let text = format!(
        "{}---\n{}---\n{}",
        ghost("a", "x"),
        ghost("b", &"x".repeat(2 * MIB)),
        ghost("c", "x")
    );
    let parsed = read(&text);
    let names: Vec<&str> =
        parsed.documents.iter().map(|document| document.resource.metadata.name.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
    assert_eq!((parsed.problems[0].code, parsed.problems[0].at.line), (Code::TooLarge, 5));
}

#[test]
fn texts_at_their_limits() {
    assert!(!read(&ghost("g", &"x".repeat(100_000))).has_errors());
    first(&ghost("g", &"x".repeat(100_001)), Code::TooLong);
    // Characters and bytes are bounded apart.
    let task = |prompt: &str| {
        format!(
            "kind: Task\nmetadata: {{name: t}}\nspec: {{title: a, teamRef: {{name: t}}, workspaceRef: {{name: w}}, prompt: {prompt}}}"
        )
    };
    assert!(!read(&task(&"é".repeat(30_000))).has_errors());
    first(&task(&"é".repeat(30_001)), Code::TooLong);
    let name = "é".repeat(100);
    assert!(!read(&ghost(&name, "x")).has_errors());
    first(&ghost(&format!("{name}e"), "x"), Code::TooLong);
}

#[test]
fn more_than_a_thousand_documents() {
    let many =
        |n: usize| (0..n).map(|i| ghost(&format!("g{i}"), "x")).collect::<Vec<_>>().join("---\n");
    let parsed = read(&many(1000));
    assert_eq!((parsed.documents.len(), parsed.has_errors()), (1000, false));
    let parsed = read(&many(1001));
    assert_eq!(parsed.problems[0].code, Code::TooManyDocuments);
    assert!(parsed.into_result().is_err());
}

#[test]
fn nesting_without_end() {
    for open in ["[", "{a: ", "- ", "? ", "{\"a\":", "[["] {
        let text = format!("kind: Skill\nspec: {}", open.repeat(100_000));
        assert!(read(&text).has_errors(), "{open}");
        assert!(read(&open.repeat(100_000)).has_errors(), "{open}");
    }
}

#[test]
fn values_without_end() {
    let list =
        format!("kind: Ghost\nmetadata: {{name: g}}\nspec: {{skills: [{}]}}", "a,".repeat(120_000));
    first(&list, Code::TooManyValues);
    let json = format!("{{\"kind\": [{}1]}}", "1,".repeat(120_000));
    first(&json, Code::TooManyValues);
}

#[test]
fn problems_without_end_are_cut() {
    let fields: String = (0..20_000).map(|i| format!("f{i}: 1\n")).collect();
    let parsed = read(&format!("kind: Ghost\n{fields}"));
    assert_eq!(parsed.problems.len(), 500);
    assert_eq!(parsed.problems.last().unwrap().code, Code::TooManyProblems);
    let docs = "kind: Ghosty\n---\n".repeat(900);
    assert!(read(&docs).problems.len() <= 500);
}

#[test]
fn the_same_resource_in_two_files() {
    let text = ghost("g", "x");
    let source = |name| Source { name, bytes: text.as_bytes(), format: Format::Yaml };
    let parsed = parse(&[source("a.yaml"), source("b.yaml")], &ParseOptions::default());
    assert_eq!(parsed.problems.len(), 1);
    let problem = &parsed.problems[0];
    assert_eq!((problem.file.as_str(), problem.code), ("b.yaml", Code::DuplicateDocument));
    assert!(problem.message.contains("a.yaml:2"), "{problem}");
}

/// Far from exact, but a quadratic step would show.
#[test]
fn a_usual_document_is_read_quickly() {
    let text = "
apiVersion: agent.wecode.io/v1
kind: Team
metadata:
  name: plan-then-build
  labels: {a: b}
spec:
  collaborationModel: pipeline
  bind_mode: [code]
  description: Plans, then builds.
  members:
    - botRef: {name: planner, namespace: research}
      role: leader
      requireConfirmation: true
      contextPassing: original_and_previous
    - botRef: {name: builder}
      prompt: Carry out the plan.
      on: os=linux, tool=claude>=2
  quick_phrases: [Do this, Do that]
  maxRounds: 4
";
    let rounds = 200;
    let start = Instant::now();
    for _ in 0..rounds {
        let parsed = read(text);
        assert_eq!(parsed.documents.len(), 1);
    }
    let each = start.elapsed() / rounds;
    println!("{each:?} for each document");
    assert!(each.as_millis() < 50, "{each:?}");
}
