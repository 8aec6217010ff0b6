//! Documents that cannot rot: links, paths and tests that they name exist, and the index
//! of decision records is complete.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;

use super::{Finding, Tree, rust::mask};

/// A code span that starts with one of these is a path of this repository.
const OUR_PLACES: [&str; 10] = [
    "crates/",
    "cluster/",
    "edge-agent/",
    "chaos-tests/",
    "deploy/",
    "docs/",
    "fuzz/",
    ".ci/",
    ".cargo/",
    ".config/",
];
const ADR: &str = "docs/adr/";
const ADR_INDEX: &str = "docs/adr/README.md";
const ADR_TEMPLATE: &str = "docs/adr/template.md";
/// A paragraph with this word speaks of what does not exist yet.
const PLANNED: &str = "planned";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) -> Result<()> {
    for file in tree.with_extension(&["md"]) {
        let Some(text) = tree.text(file)? else { continue };
        for Block { line, text } in blocks(&text) {
            let place = format!("{file}:{line}");
            for target in links(&without_code(&text)) {
                if !link_exists(tree, file, target) {
                    let what = format!("the link to `{target}` leads nowhere");
                    findings.push(Finding::error(&place, what));
                }
            }
            if text.to_lowercase().contains(PLANNED) {
                continue;
            }
            for span in code_spans(&text) {
                if let Some(what) = path_trouble(tree, span)? {
                    findings.push(Finding::error(&place, what));
                }
            }
        }
    }
    check_decisions(tree, findings)
}

/// A paragraph, a list item or a table row; fenced code is left out.
#[derive(Debug)]
struct Block {
    /// Where it starts, counted from 1.
    line: usize,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let (mut in_fence, mut goes_on) = (false, false);
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let is_fence = trimmed.starts_with("```") || trimmed.starts_with("~~~");
        in_fence ^= is_fence;
        if in_fence || is_fence || trimmed.is_empty() {
            goes_on = false;
            continue;
        }
        let starts = ["- ", "* ", "|", "#", ">"].iter().any(|mark| trimmed.starts_with(mark));
        match found.last_mut().filter(|_| goes_on && !starts) {
            Some(block) => {
                block.text.push('\n');
                block.text.push_str(line);
            }
            None => found.push(Block { line: number + 1, text: line.to_owned() }),
        }
        goes_on = true;
    }
    found
}

/// What stands between single backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// Targets of `[text](target)` and `[name]: target`.
fn links(text: &str) -> Vec<&str> {
    let inline = text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split_once(')'));
    let mut targets: Vec<&str> = inline.map(|(target, _)| target).collect();
    let defined = text.lines().filter(|line| line.starts_with('['));
    targets.extend(defined.filter_map(|line| line.split_once("]: ")).map(|(_, target)| target));
    let first = |target: &'_ str| target.trim().split(' ').next().map(str::len);
    targets.into_iter().filter_map(|t| first(t).map(|end| &t.trim()[..end])).collect()
}

fn link_exists(tree: &Tree, from: &str, target: &str) -> bool {
    let is_elsewhere = target.contains("://") || target.starts_with("mailto:");
    let path = target.split('#').next().unwrap_or_default();
    if is_elsewhere || path.is_empty() {
        return true;
    }
    let here = Path::new(from).parent().unwrap_or(Path::new(""));
    tree.root.join(here).join(path).exists()
}

/// What is wrong with a code span that looks like a path of ours, `path::test` included.
fn path_trouble(tree: &Tree, span: &str) -> Result<Option<String>> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-:".contains(c);
    if !OUR_PLACES.iter().any(|ours| span.starts_with(ours)) || !span.chars().all(is_plain) {
        return Ok(None);
    }
    let (path, function) = match span.split_once("::") {
        Some((path, function)) => (path, Some(function)),
        None => (span, None),
    };
    if !tree.root.join(path).exists() {
        return Ok(Some(format!("`{path}` does not exist (and is not called planned)")));
    }
    let Some(function) = function else { return Ok(None) };
    let text = tree.text(path)?.unwrap_or_default();
    let text = if path.ends_with(".rs") { mask(&text).code } else { text };
    let name = function.rsplit("::").next().unwrap_or(function);
    // Tests of a macro or of another language are named in their own way.
    let is_there = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|w| w == name);
    Ok((!is_there).then(|| format!("`{path}` has no `{name}`")))
}

/// `NNNN-title.md`: numbered without gap or double, with a status, and in the index.
fn check_decisions(tree: &Tree, findings: &mut Vec<Finding>) -> Result<()> {
    let records: Vec<&str> = tree
        .files
        .iter()
        .filter(|file| file.starts_with(ADR) && !file.starts_with(ADR_INDEX))
        .filter(|file| *file != ADR_TEMPLATE && file.ends_with(".md"))
        .map(String::as_str)
        .collect();
    if records.is_empty() {
        return Ok(());
    }
    let index = tree.text(ADR_INDEX).ok().flatten().unwrap_or_default();
    let mut numbers: BTreeMap<u32, &str> = BTreeMap::new();
    for file in &records {
        let name = &file[ADR.len()..];
        let number = name.split_once('-').and_then(|(number, _)| number.parse::<u32>().ok());
        match number.filter(|_| name.find('-') == Some(4)) {
            Some(number) if !numbers.contains_key(&number) => drop(numbers.insert(number, file)),
            Some(_) => findings.push(Finding::error(file, "its number is taken")),
            None => findings.push(Finding::error(file, "is not called NNNN-title.md")),
        }
        if !index.contains(&format!("]({name})")) {
            findings.push(Finding::error(ADR_INDEX, format!("does not list {name}")));
        }
        if !tree.text(file)?.unwrap_or_default().contains("\n- Status: ") {
            findings.push(Finding::error(file, "has no `- Status: ` line"));
        }
    }
    for (wanted, (number, file)) in (1..).zip(&numbers) {
        if wanted != *number {
            findings.push(Finding::error(file, format!("there is no record {wanted:04}")));
            break;
        }
    }
    Ok(())
}
