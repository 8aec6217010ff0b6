//! Rules that no compiler checks. Each rule is a function over a [`Tree`] that reports
//! findings; each has a failing example in the tests.

mod graph;
mod prose;
mod rust;
mod sources;
#[cfg(test)]
mod tests;

use std::{fmt, fs, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// The files under examination.
#[derive(Debug)]
struct Tree {
    root: PathBuf,
    /// Relative to the root, sorted.
    files: Vec<String>,
}

impl Tree {
    /// Content of a text file; `None` if it is not UTF-8.
    fn text(&self, file: &str) -> Result<Option<String>> {
        let bytes = fs::read(self.root.join(file)).with_context(|| format!("read {file}"))?;
        Ok(String::from_utf8(bytes).ok())
    }

    fn with_extension<'a>(&'a self, any_of: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
        self.files.iter().map(String::as_str).filter(|file| {
            file.rsplit_once('.').is_some_and(|(_, extension)| any_of.contains(&extension))
        })
    }
}

/// One violated rule.
#[derive(Debug)]
struct Finding {
    place: String,
    what: String,
    is_error: bool,
}

impl Finding {
    fn error(place: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { place: place.to_string(), what: what.into(), is_error: true }
    }

    fn warning(place: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { place: place.to_string(), what: what.into(), is_error: false }
    }
}

pub(crate) fn tidy(ws: &Workspace) -> Result<()> {
    let tree = Tree { root: ws.root.clone(), files: ws.files(".")? };
    let mut findings = Vec::new();
    graph::check(&tree, &graph::Graph::read(ws)?, &mut findings);
    sources::check(&tree, &mut findings)?;
    prose::check(&tree, &mut findings)?;
    for Finding { place, what, is_error } in &findings {
        println!("{}: {place}: {what}", if *is_error { "error" } else { "warning" });
    }
    let errors = findings.iter().filter(|finding| finding.is_error).count();
    println!(
        "tidy: {} files, {errors} errors, {} warnings",
        tree.files.len(),
        findings.len() - errors
    );
    if errors > 0 {
        bail!("the tree is not tidy");
    }
    Ok(())
}
