//! `diff`: what the agents of a Task changed, as their runtimes told it.
#![expect(clippy::print_stderr, reason = "what is not the diff goes to standard error")]

use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::tasks::resolve;
use crate::{
    args::{DiffArgs, Format},
    client::Client,
    error::CliError,
    follow::printable,
    output,
};

/// Turns that are looked through for the last diff.
const PAGES_MAX: usize = 20;

pub(super) async fn show(client: &Client, format: Format, args: DiffArgs) -> Result<(), CliError> {
    let task = resolve(client, &args.task).await?;
    let path = format!("/api/v1/tasks/{task}/turns?limit=");
    let blocks = match args.turn {
        Some(number) => diffs(&turn(client, &path, &task.to_string(), number).await?),
        None => last(client, &path).await?,
    };
    if blocks.is_empty() {
        return Err(CliError::Usage(format!("{task} has told no changes of files")));
    }
    // For people who look; what goes into a file or to `git apply` stays as it is.
    let people = std::io::stdout().is_terminal();
    let colour = people && std::env::var_os("NO_COLOR").is_none();
    let text = || {
        let patches = blocks.iter().map(patch);
        patches.map(|patch| if people { shown(patch, colour) } else { whole(patch) }).collect()
    };
    output::print(format, &json!(blocks), text, || files(&blocks));
    if format == Format::Table && blocks.iter().any(|block| block["truncated"] == true) {
        eprintln!("the diff was too large: there is more than is shown here");
    }
    Ok(())
}

/// One turn by its number, from 1.
async fn turn(client: &Client, path: &str, task: &str, number: u32) -> Result<Value, CliError> {
    let joined: Value = client.get(&format!("/api/v1/tasks/{task}/join?turns=0")).await?;
    let outline = joined["outline"].as_array().map(Vec::as_slice).unwrap_or_default();
    let at = usize::try_from(number).unwrap_or(usize::MAX);
    if number == 0 || at > outline.len() {
        let message = format!("{task} has turns 1 to {}", outline.len());
        return Err(CliError::Usage(message));
    }
    let next = outline.get(at).and_then(|row| row["turn_id"].as_str());
    let before = next.map(|next| format!("&before={next}")).unwrap_or_default();
    let page: Value = client.get(&format!("{path}1{before}")).await?;
    Ok(page["turns"][0].clone())
}

/// Those of the newest turn that has some.
async fn last(client: &Client, path: &str) -> Result<Vec<Value>, CliError> {
    let mut before = String::new();
    for _ in 0..PAGES_MAX {
        let page: Value = client.get(&format!("{path}5{before}")).await?;
        let turns = page["turns"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(found) = turns.iter().rev().map(diffs).find(|found| !found.is_empty()) {
            return Ok(found);
        }
        let Some(next) = page["before"].as_str() else { break };
        before = format!("&before={next}");
    }
    Ok(Vec::new())
}

/// The diffs of a turn: of each answer the one over all of it, else those of its tools.
fn diffs(turn: &Value) -> Vec<Value> {
    let rows = turn["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |row: &Value| {
        let blocks = row["blocks"].as_array().cloned().unwrap_or_default();
        let (tools, whole): (Vec<Value>, Vec<Value>) = blocks
            .into_iter()
            .filter(|block| block["type"] == "diff")
            .partition(|block| block["tool_use_id"].is_string());
        whole.into_iter().next_back().map_or(tools, |whole| vec![whole])
    };
    rows.iter().flat_map(of).collect()
}

fn patch(block: &Value) -> &str {
    block["content"].as_str().unwrap_or_default()
}

fn whole(patch: &str) -> String {
    let end = if patch.is_empty() || patch.ends_with('\n') { "" } else { "\n" };
    format!("{patch}{end}")
}

fn files(blocks: &[Value]) -> Vec<String> {
    let all = blocks.iter().filter_map(|block| block["files"].as_array()).flatten();
    let mut names: Vec<String> =
        all.filter_map(|file| file["path"].as_str().map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    names
}

/// For a terminal: in colours, and without what a file could tell the terminal to do.
fn shown(patch: &str, colour: bool) -> String {
    let mut text = String::new();
    let (mut old, mut new) = (0u32, 0u32);
    for line in patch.lines() {
        let code = if let Some((a, b)) = hunk(line) {
            (old, new) = (a, b);
            "36"
        } else if old == 0 && new == 0 {
            "1"
        } else {
            // Inside of a hunk a line is what its sign says, also where it looks like a head.
            let (code, a, b) = match line.as_bytes().first() {
                Some(b'+') => ("32", 0, 1),
                Some(b'-') => ("31", 1, 0),
                Some(b'\\') => ("", 0, 0),
                _ => ("", 1, 1),
            };
            (old, new) = (old.saturating_sub(a), new.saturating_sub(b));
            code
        };
        let line = printable(line);
        match code {
            _ if !colour => text.push_str(&line),
            "" => text.push_str(&line),
            code => text.push_str(&format!("\x1b[{code}m{line}\x1b[0m")),
        }
        text.push('\n');
    }
    text
}

/// Lines of a hunk before and after, from its head.
fn hunk(line: &str) -> Option<(u32, u32)> {
    let (old, new) = line.strip_prefix("@@ -")?.split_once(" +")?;
    let (new, _) = new.split_once(" @@")?;
    let count = |range: &str| range.split_once(',').map_or(Some(1), |(_, n)| n.parse().ok());
    Some((count(old)?, count(new)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@ fn\n-- a list\n\
                         +\x1b[2Jnew\n same\n@@ -9 +9,0 @@\n-gone\ndiff --git a/y b/y\n";

    #[test]
    fn lines_are_coloured_by_their_place_and_control_the_terminal_never() {
        let lines: Vec<String> = shown(PATCH, true).lines().map(str::to_owned).collect();
        assert_eq!(lines[1], "\x1b[1m--- a/x\x1b[0m", "a head");
        assert_eq!(lines[3], "\x1b[36m@@ -1,2 +1,2 @@ fn\x1b[0m");
        assert_eq!(lines[4], "\x1b[31m-- a list\x1b[0m", "a line that looks like a head");
        assert_eq!(lines[5], "\x1b[32m+[2Jnew\x1b[0m");
        assert_eq!(lines[6], " same");
        assert_eq!(lines[8], "\x1b[31m-gone\x1b[0m");
        assert_eq!(lines[9], "\x1b[1mdiff --git a/y b/y\x1b[0m");
        assert!(!shown(PATCH, false).contains('\x1b'));
        assert_eq!(whole(PATCH), PATCH, "for programs it is what it is");
        assert_eq!(whole("x"), "x\n");
    }

    #[test]
    fn the_diff_over_all_of_an_answer_counts_else_those_of_its_tools() {
        let diff = |content: &str, tool: Option<&str>| {
            json!({"type": "diff", "content": content, "tool_use_id": tool,
                "files": [{"path": content}, {"path": "b"}]})
        };
        let one =
            json!({"blocks": [{"type": "text"}, diff("a", Some("t1")), diff("c", Some("t2"))]});
        let two = json!({"blocks": [diff("d", Some("t3")), diff("all", None)]});
        let found = diffs(&json!({"messages": [{"blocks": []}, one, two]}));
        let patches: Vec<&str> = found.iter().map(patch).collect();
        assert_eq!(patches, ["a", "c", "all"]);
        assert_eq!(files(&found), ["a", "all", "b", "c"]);
        assert!(diffs(&Value::Null).is_empty());
    }
}
