//! One failing example per rule, in a directory of its own.

use std::{fs, process::Command};

use tempfile::TempDir;

use super::{Finding, Tree, graph, prose, sources};
use crate::workspace::Workspace;

struct Sandbox(TempDir);

impl Sandbox {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Self(dir)
    }

    fn tree(&self, files: &[(&str, &str)]) -> Tree {
        let mut files: Vec<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        files.sort();
        Tree { root: self.0.path().to_owned(), files }
    }
}

fn errors(findings: Vec<Finding>) -> Vec<String> {
    findings
        .into_iter()
        .filter(|finding| finding.is_error)
        .map(|finding| format!("{}: {}", finding.place, finding.what))
        .collect()
}

fn in_sources(files: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    sources::check(&Sandbox::new(files).tree(files), &mut findings).unwrap();
    errors(findings)
}

fn in_prose(files: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    let sandbox = Sandbox::new(files);
    prose::check(&sandbox.tree(files), &mut findings).unwrap();
    errors(findings)
}

#[track_caller]
fn assert_one(found: &[String], part: &str) {
    assert!(found.len() == 1 && found[0].contains(part), "wanted one `{part}`, found {found:#?}");
}

/// A workspace of path dependencies: (directory, lines of its dependency tables).
fn in_graph(crates: &[(&str, &str)]) -> Vec<String> {
    let outside = ["ractor", "tokio", "rustls"];
    let mut files = vec![(
        "Cargo.toml".to_owned(),
        "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\nexclude = [\"outside\"]\n"
            .to_owned(),
    )];
    let mut page = String::new();
    for (dir, dependencies) in crates {
        let manifest = format!(
            "[package]\nname = \"troupe-{dir}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             [dependencies]\n{dependencies}\n"
        );
        files.push((format!("crates/{dir}/Cargo.toml"), manifest));
        files.push((format!("crates/{dir}/src/lib.rs"), String::new()));
        page.push_str(&format!("`crates/{dir}`\n"));
    }
    for name in outside {
        let manifest = format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\n");
        files.push((format!("outside/{name}/Cargo.toml"), manifest));
        files.push((format!("outside/{name}/src/lib.rs"), String::new()));
    }
    files.push(("docs/ARCHITECTURE.md".to_owned(), page));
    let files: Vec<(&str, &str)> =
        files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
    let sandbox = Sandbox::new(&files);
    let root = sandbox.0.path().to_owned();
    let ws = Workspace { target: root.join("target"), root };
    assert!(
        Command::new("cargo")
            .args(["generate-lockfile", "--offline", "--quiet"])
            .current_dir(&ws.root)
            .status()
            .unwrap()
            .success()
    );
    let mut graph = graph::Graph::read(&ws).unwrap();
    graph.forget_paths_of(&outside);
    let mut findings = Vec::new();
    graph::check(&sandbox.tree(&files), &graph, &mut findings);
    errors(findings)
}

#[test]
fn a_crate_depends_only_on_crates_above_it() {
    let domain = ("domain", "");
    let up = ("store", "troupe-domain = { path = \"../domain\" }");
    assert_eq!(in_graph(&[domain, up]), [""; 0]);
    let store = ("store", "");
    let down = ("domain", "troupe-store = { path = \"../store\" }");
    assert_one(&in_graph(&[down, store]), "depends on `store`, which does not stand above");
    let hidden = ("domain", "[dev-dependencies]\ntroupe-store = { path = \"../store\" }");
    assert_one(&in_graph(&[hidden, store]), "depends on `store`");
}

#[test]
fn test_crates_are_for_tests_only() {
    let testkit = ("testkit", "troupe-domain = { path = \"../domain\" }");
    let for_tests = ("domain", "[dev-dependencies]\ntroupe-testkit = { path = \"../testkit\" }");
    assert_eq!(in_graph(&[for_tests, testkit]), [""; 0]);
    let alone = ("testkit", "");
    let normal = ("domain", "troupe-testkit = { path = \"../testkit\" }");
    assert_one(&in_graph(&[normal, alone]), "`testkit` is for tests only");
}

#[test]
fn outside_libraries_are_named_where_they_belong() {
    let ractor = "ractor = { path = \"../../outside/ractor\" }";
    assert_eq!(in_graph(&[("actor", ractor), ("entities", ractor)]), [""; 0]);
    assert_one(&in_graph(&[("store", ractor)]), "may not name `ractor`");
    let rustls = "rustls = { path = \"../../outside/rustls\" }";
    assert_one(&in_graph(&[("services", rustls)]), "may not name `rustls`");
    let in_tests = format!("[dev-dependencies]\n{ractor}");
    assert_eq!(in_graph(&[("store", &in_tests)]), [""; 0]);
}

#[test]
fn a_pure_crate_does_not_pull_tokio_in() {
    let tokio = "tokio = { path = \"../../outside/tokio\" }";
    let found = in_graph(&[("domain", tokio)]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("may not name `tokio`") && found[1].contains("pulls in `tokio`"));
    let through = ("domain", "troupe-api = { path = \"../api\" }");
    assert_one(&in_graph(&[through, ("api", tokio)]), "pulls in `tokio`");
}

#[test]
fn a_new_crate_needs_a_place_in_the_order() {
    assert_one(&in_graph(&[("surprise", "")]), "not in the order of crates");
}

#[test]
fn files_have_a_size() {
    let long = "// line\n".repeat(801);
    assert_one(&in_sources(&[("crates/a/src/a.rs", &long)]), "801 lines");
    assert_one(&in_sources(&[("web/a.tsx", &long)]), "801 lines");
    assert_eq!(in_sources(&[("crates/a/src/a.rs", &"// line\n".repeat(600))]), [""; 0]);
    let big = "x".repeat(1024 * 1024 + 1);
    assert_one(&in_sources(&[("a.txt", &big)]), "too big");
}

fn function_of(lines: usize) -> String {
    format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines))
}

#[test]
fn functions_fit_a_screen() {
    let file = "crates/a/src/a.rs";
    assert_eq!(in_sources(&[(file, &function_of(70))]), [""; 0]);
    assert_one(&in_sources(&[(file, &function_of(71))]), "long has 71 lines");
}

#[test]
fn the_list_of_long_functions_only_shrinks() {
    let file = "crates/a/src/a.rs";
    let list = (sources::LONG_FUNCTIONS, "# why\ncrates/a/src/a.rs long 80\n");
    assert_eq!(in_sources(&[(file, &function_of(80)), list]), [""; 0]);
    assert_one(&in_sources(&[(file, &function_of(81)), list]), "grew to 81");
    assert_one(&in_sources(&[(file, &function_of(79)), list]), "shrank to 79");
    assert_one(&in_sources(&[(file, &function_of(9)), list]), "drop the line");
}

#[test]
fn there_is_no_mod_rs() {
    assert_one(&in_sources(&[("crates/a/src/b/mod.rs", "")]), "no mod.rs");
}

#[test]
fn unfinished_work_is_found_in_code_and_comments_only() {
    let bang = concat!("fn f() { to", "do!() }\n");
    assert_one(&in_sources(&[("a.rs", bang)]), "unfinished work");
    let word = concat!("// TO", "DO: later\n");
    assert_one(&in_sources(&[("a.rs", word)]), "do it");
    assert_one(&in_sources(&[("a.ts", word)]), "do it");
    let in_text = concat!("const A: &str = \"to", "do!() TO", "DO\";\n");
    assert_eq!(in_sources(&[("a.rs", in_text)]), [""; 0]);
}

#[test]
fn an_ignored_test_says_why() {
    assert_one(&in_sources(&[("a.rs", "#[test]\n#[ignore]\nfn t() {}\n")]), "says why");
    assert_one(&in_sources(&[("a.rs", "#[ignore = \"\"]\nfn t() {}\n")]), "says why");
    assert_eq!(in_sources(&[("a.rs", "#[ignore = \"200 rounds\"]\nfn t() {}\n")]), [""; 0]);
}

#[test]
fn tests_do_not_sleep() {
    let sleeps = "async fn t() {\n    tokio::time::sleep(x).await;\n}\n";
    let found = in_sources(&[("crates/a/tests/it/b.rs", sleeps)]);
    assert_one(&found, "crates/a/tests/it/b.rs:2: a test does not sleep");
    assert_one(&in_sources(&[("crates/a/src/b/tests.rs", sleeps)]), "does not sleep");
    let inline = format!("{sleeps}#[cfg(test)]\nmod tests {{\n{sleeps}}}\n{sleeps}");
    assert_one(&in_sources(&[("crates/a/src/b.rs", &inline)]), "crates/a/src/b.rs:7: ");
    let elsewhere = format!("{sleeps}#[cfg(test)]\nmod tests;\n\n#[cfg(test)]\n{sleeps}");
    assert_eq!(in_sources(&[("crates/a/src/b.rs", &elsewhere)]), [""; 0]);
    let paused = format!("#[tokio::test(start_paused = true)]\n{sleeps}");
    assert_eq!(in_sources(&[("crates/a/tests/b.rs", &paused)]), [""; 0]);
    let later = format!("{paused}#[tokio::test]\n{sleeps}");
    assert_one(&in_sources(&[("crates/a/tests/b.rs", &later)]), "b.rs:7: ");
    let words = "// sleep(1)\nconst A: &str = \"sleep(1)\";\nfn sleep(x: u8) { world.sleep(1); oversleep(1) }\n";
    assert_eq!(in_sources(&[("crates/a/tests/b.rs", words)]), [""; 0]);
}

#[test]
fn no_file_knows_one_machine_or_a_registry() {
    let path = concat!("see /wo", "rk/main\n");
    assert_one(&in_sources(&[("a.md", path)]), "path of one machine");
    let host = concat!("url = registry.", "npmjs.org\n");
    assert_one(&in_sources(&[("package-lock.json", host)]), "names the registry");
    let index = concat!("source = \"registry+https://github.com/rust-lang/crates", ".io-index\"\n");
    assert_eq!(in_sources(&[("Cargo.lock", index)]), [""; 0]);
}

#[test]
fn links_lead_somewhere() {
    let page = "See [a](b.md), [c](../README.md#top), [d](https://example.com) and [e](#here).\n";
    let readme = ("README.md", "");
    assert_eq!(in_prose(&[("docs/a.md", page), ("docs/b.md", ""), readme]), [""; 0]);
    assert_one(&in_prose(&[("docs/a.md", page), readme]), "`b.md` leads nowhere");
    assert_eq!(in_prose(&[("docs/a.md", "`[a](b.md)`\n\n```\n[a](b.md)\n```\n")]), [""; 0]);
}

#[test]
fn paths_and_tests_in_documents_exist() {
    let source = ("crates/a/src/a.rs", "#[test]\nfn shows_it() {} // not_this\n");
    let page = |text: &'static str| [("README.md", text), source];
    assert_eq!(in_prose(&page("`crates/a/src/a.rs` and `crates/a/src/a.rs::shows_it`")), [""; 0]);
    assert_eq!(in_prose(&page("`crates/<name>` and `GET /docs/x` and `cargo xtask`")), [""; 0]);
    assert_one(&in_prose(&page("see `crates/b/`")), "`crates/b/` does not exist");
    assert_one(&in_prose(&page("`crates/a/src/a.rs::not_this`")), "has no `not_this`");
    assert_eq!(in_prose(&page("planned: `crates/b`")), [""; 0]);
    assert_one(&in_prose(&page("| planned |\n| `crates/b` |")), "does not exist");
}

#[test]
fn the_index_of_decisions_is_complete() {
    let record = "# 1. x\n\n- Status: accepted\n";
    let index = ("docs/adr/README.md", "- [x](0001-x.md)\n");
    assert_eq!(in_prose(&[index, ("docs/adr/0001-x.md", record)]), [""; 0]);
    assert_one(&in_prose(&[index, ("docs/adr/0001-x.md", "# x\n")]), "Status");
    let both = ("docs/adr/README.md", "- [x](0001-x.md)\n- [y](0003-y.md)\n");
    let gap = [both, ("docs/adr/0001-x.md", record), ("docs/adr/0003-y.md", record)];
    assert_one(&in_prose(&gap), "there is no record 0002");
    let unlisted = [index, ("docs/adr/0001-x.md", record), ("docs/adr/0002-y.md", record)];
    assert_one(&in_prose(&unlisted), "does not list 0002-y.md");
}
