//! Sizes, unfinished work, paths of one machine, addresses of registries.

use anyhow::Result;

use super::{
    Finding, Tree,
    rust::{functions, mask},
};

const FILE_LINES_WARN: usize = 500;
const FILE_LINES_MAX: usize = 800;
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const FUNCTION_LINES_MAX: usize = 70;
/// "path function lines" of functions that are longer; the list may only shrink.
pub(super) const LONG_FUNCTIONS: &str = "crates/xtask/long-functions.txt";

// The words that this file looks for are put together, so that it does not find itself.
const UNFINISHED_MACROS: [&str; 2] = [concat!("to", "do!"), concat!("unimple", "mented!")];
const IGNORED: &str = "#[ignore";
const SLEEP: &str = "sleep(";
const PAUSED: &str = "start_paused = true";
const UNFINISHED_WORDS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
const MACHINE_PATHS: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/fa", "rm/"),
    concat!("/tmp/", "brief"),
    concat!("../", "shared"),
    concat!(".lib", "rary/"),
];
const REGISTRY_HOSTS: [&str; 9] = [
    concat!("registry.", "npmjs.org"),
    concat!("registry.", "yarnpkg.com"),
    concat!("py", "pi.org"),
    concat!("python", "hosted.org"),
    concat!("crates", ".io"),
    concat!("proxy.", "golang.org"),
    concat!("repo1.", "maven.org"),
    concat!("repo.maven.", "apache.org"),
    concat!("deb.", "debian.org"),
];
/// Names the registry by its index, which is how cargo writes it.
const LOCK_FILE: &str = "Cargo.lock";
/// Comments of these files are not told from their content.
const OTHER_SOURCES: [&str; 9] = ["ts", "tsx", "js", "mjs", "css", "py", "sh", "yaml", "toml"];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) -> Result<()> {
    let mut long_functions = LongFunctions::read(tree)?;
    for file in &tree.files {
        let bytes = tree.root.join(file).metadata().map_or(0, |found| found.len());
        if bytes > FILE_BYTES_MAX {
            findings.push(Finding::error(file, format!("{bytes} bytes: too big to be kept")));
        }
        let Some(text) = tree.text(file)? else { continue };
        check_places(file, &text, findings);
        if is_rust(file) {
            check_rust(file, &text, &mut long_functions, findings);
        } else if OTHER_SOURCES.iter().any(|extension| has_extension(file, extension)) {
            check_words(file, &text, findings);
        }
        if ["rs", "ts", "tsx"].iter().any(|extension| has_extension(file, extension)) {
            check_length(file, &text, findings);
        }
    }
    long_functions.close(findings);
    Ok(())
}

fn has_extension(file: &str, extension: &str) -> bool {
    file.strip_suffix(extension).is_some_and(|stem| stem.ends_with('.'))
}

fn is_rust(file: &str) -> bool {
    has_extension(file, "rs")
}

fn check_length(file: &str, text: &str, findings: &mut Vec<Finding>) {
    match text.lines().count() {
        lines if lines > FILE_LINES_MAX => {
            let what = format!("{lines} lines, at most {FILE_LINES_MAX}: split it");
            findings.push(Finding::error(file, what));
        }
        lines if lines > FILE_LINES_WARN => {
            findings.push(Finding::warning(file, format!("{lines} lines; 300 read better")));
        }
        _ => (),
    }
}

/// Paths of one machine and addresses of registries, in any text file.
fn check_places(file: &str, text: &str, findings: &mut Vec<Finding>) {
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{file}:{}", number + 1);
        if let Some(path) = MACHINE_PATHS.iter().find(|path| line.contains(**path)) {
            findings.push(Finding::error(place(), format!("`{path}` is a path of one machine")));
        }
        let host = REGISTRY_HOSTS.iter().find(|host| line.contains(**host));
        if let Some(host) = host.filter(|_| file != LOCK_FILE) {
            let what = format!("names the registry {host}: its client knows where it is");
            findings.push(Finding::error(place(), what));
        }
    }
}

fn check_words(file: &str, text: &str, findings: &mut Vec<Finding>) {
    for (number, line) in text.lines().enumerate() {
        for word in UNFINISHED_WORDS {
            if contains_word(line, word) {
                let what = format!("{word}: do it, or write down the decision not to");
                findings.push(Finding::error(format!("{file}:{}", number + 1), what));
            }
        }
    }
}

fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_word(before) && !is_word(after)
    })
}

fn check_rust(file: &str, text: &str, long: &mut LongFunctions, findings: &mut Vec<Finding>) {
    if file.ends_with("/mod.rs") {
        let what = "no mod.rs: use the file beside the directory";
        findings.push(Finding::error(file, what));
    }
    let masked = mask(text);
    check_words(file, &masked.comments, findings);
    for (number, line) in masked.code.lines().enumerate() {
        let place = || format!("{file}:{}", number + 1);
        if let Some(word) = UNFINISHED_MACROS.iter().find(|word| line.contains(**word)) {
            findings.push(Finding::error(place(), format!("{word}() is unfinished work")));
        }
    }
    for (at, _) in masked.code.match_indices(IGNORED) {
        let reason = text[at + IGNORED.len()..].trim_start().strip_prefix('=');
        let reason = reason.and_then(|rest| rest.trim_start().strip_prefix('"'));
        if reason.is_none_or(|reason| reason.starts_with('"')) {
            let line = 1 + text[..at].matches('\n').count();
            let what = "an ignored test says why: #[ignore = \"..\"]";
            findings.push(Finding::error(format!("{file}:{line}"), what));
        }
    }
    check_sleeps(file, &masked.code, findings);
    for function in functions(&masked.code) {
        if function.body_lines > FUNCTION_LINES_MAX {
            long.meet(file, &function.name, function.line, function.body_lines, findings);
        }
    }
}

/// A test that sleeps is slow on a fast machine and fails on a slow one: it waits for a
/// condition, with a deadline. Paused time costs none, and the `.sleep(` of a simulation is
/// its own.
fn check_sleeps(file: &str, code: &str, findings: &mut Vec<Finding>) {
    let whole = is_test_file(file).then_some(0..code.len());
    for region in whole.map_or_else(|| test_modules(code), |all| vec![all]) {
        for (at, _) in code[region.clone()].match_indices(SLEEP) {
            let at = region.start + at;
            let called = code[..at].chars().next_back();
            let is_other = called.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
            if is_other || code[..at].ends_with("fn ") {
                continue;
            }
            let test = code[..at].rfind("#[tokio::test").map_or("", |test| &code[test..at]);
            if test.lines().next().is_some_and(|attribute| attribute.contains(PAUSED)) {
                continue;
            }
            let line = 1 + code[..at].matches('\n').count();
            let what = "a test does not sleep: wait for a condition (wait_until of testkit)";
            findings.push(Finding::error(format!("{file}:{line}"), what));
        }
    }
}

fn is_test_file(file: &str) -> bool {
    let folders = file.rsplit_once('/').map_or("", |(folders, _)| folders);
    file.ends_with("/tests.rs") || folders.split('/').any(|folder| folder == "tests")
}

/// Where the inline modules for tests stand in masked code.
fn test_modules(code: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    for (at, marker) in code.match_indices("#[cfg(test)]") {
        let start = at + marker.len();
        let item = code[start..].trim_start();
        let open = code[start..].find('{').map(|open| start + open);
        let Some(open) = open.filter(|_| item.starts_with("mod ")) else { continue };
        if code[start..open].contains(';') {
            continue; // A module in a file of its own.
        }
        let mut depth = 0_usize;
        let end = code[open..].char_indices().find(|(_, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        found.push(open..end.map_or(code.len(), |(end, _)| open + end));
    }
    found
}

/// The ratchet for long functions.
#[derive(Debug)]
struct LongFunctions {
    /// (file, function, lines, met)
    allowed: Vec<(String, String, usize, bool)>,
}

impl LongFunctions {
    fn read(tree: &Tree) -> Result<Self> {
        let text = match tree.files.iter().any(|file| file == LONG_FUNCTIONS) {
            true => tree.text(LONG_FUNCTIONS)?.unwrap_or_default(),
            false => String::new(),
        };
        let mut allowed = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [file, function, lines] = words[..] else {
                anyhow::bail!("{LONG_FUNCTIONS}: `{line}` is not `path function lines`");
            };
            allowed.push((file.to_owned(), function.to_owned(), lines.parse()?, false));
        }
        Ok(Self { allowed })
    }

    fn meet(
        &mut self,
        file: &str,
        name: &str,
        line: usize,
        lines: usize,
        findings: &mut Vec<Finding>,
    ) {
        let place = format!("{file}:{line}");
        let entry = self.allowed.iter_mut().find(|(f, n, ..)| f == file && n == name);
        let Some((.., allowed, met)) = entry else {
            let what = format!("{name} has {lines} lines, at most {FUNCTION_LINES_MAX}");
            findings.push(Finding::error(place, what));
            return;
        };
        *met = true;
        if lines > *allowed {
            let what = format!("{name} grew to {lines} lines, {LONG_FUNCTIONS} has {allowed}");
            findings.push(Finding::error(place, what));
        } else if lines < *allowed {
            let what = format!("{name} shrank to {lines} lines: say so in {LONG_FUNCTIONS}");
            findings.push(Finding::error(place, what));
        }
    }

    /// An entry that nothing needs any more has to go.
    fn close(self, findings: &mut Vec<Finding>) {
        for (file, name, ..) in self.allowed.into_iter().filter(|(.., met)| !met) {
            let what = format!("{file} has no long function {name} any more: drop the line");
            findings.push(Finding::error(LONG_FUNCTIONS, what));
        }
    }
}
