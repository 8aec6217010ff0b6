//! Frames as lines of a terminal: answers on standard output, everything else on standard error.
#![expect(clippy::print_stdout, reason = "a client prints")]
#![expect(clippy::print_stderr, reason = "what is not the answer goes to standard error")]

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;
use troupe_api::WaitWords;
use troupe_resources::print::value_to_yaml;
use troupe_types::FrameSeq;

use crate::args::Format;

/// Characters of a command or a path in a note.
const WORDS_MAX: usize = 100;
/// Files of a diff that are named.
const FILES_MAX: usize = 5;

/// Prints frames as they come.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    /// Escape codes are welcome on standard error.
    colour: bool,
    /// The row whose text was printed last, and whether its line is open.
    row: Option<(String, u64)>,
    open: bool,
    thinking: bool,
    lost: bool,
}

impl Printer {
    /// For a format.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let colour = std::io::stderr().is_terminal();
        Self { format, colour, row: None, open: false, thinking: false, lost: false }
    }

    /// The link broke; said once.
    pub fn link_lost(&mut self, after: FrameSeq) {
        if !std::mem::replace(&mut self.lost, true) {
            self.note(&format!("connection lost at {after}; the task goes on, trying again"));
        }
    }

    /// The link is there (again).
    pub fn link_found(&mut self, after: FrameSeq, head: FrameSeq) {
        if std::mem::replace(&mut self.lost, false) {
            let missed = head.0.saturating_sub(after.0);
            self.note(&format!("nothing lost: resumed at {after} (+{missed})"));
        }
    }

    /// One frame.
    pub fn frame(&mut self, event: &str, data: &Value) {
        match self.format {
            Format::Json | Format::Yaml => print!("{}", written(self.format, event, data)),
            Format::Name => {}
            Format::Table => self.tell(event, data),
        }
    }

    /// The turn has ended.
    pub fn finish(&mut self) {
        self.end_line();
    }

    fn tell(&mut self, event: &str, data: &Value) {
        match event {
            "chat:start" => self.started(data),
            "chat:chunk" => self.chunk(data),
            "chat:block_created" => self.block(&data["block"]),
            "chat:block_updated" => self.block_changed(data),
            "chat:message" => self.message(data),
            "chat:status_updated" => self.status(data),
            "chat:error" => self.error(data),
            "chat:cancelled" => self.note("cancelled"),
            "task:stage" if data["is_pending_confirmation"] == true => {
                let name = data["current_stage_name"].as_str().unwrap_or_default();
                self.note(&format!("stage {name} is ready and waits for confirmation"));
            }
            _ => {}
        }
    }

    fn started(&mut self, data: &Value) {
        let bot = data["bot_name"].as_str().unwrap_or_default();
        let model = data["model"].as_str().map(|m| format!(" ({m})")).unwrap_or_default();
        match data["attempt"].as_u64() {
            Some(n) if n > 1 && data["keeps"].as_u64() > Some(0) => {
                self.note(&format!(
                    "{bot}{model} goes on, attempt {n}; text of the interrupted \
                                    step above is replaced"
                ));
            }
            Some(n) if n > 1 => self.note(&format!("{bot}{model} starts again, attempt {n}")),
            _ => self.note(&format!("{bot}{model}")),
        }
    }

    fn chunk(&mut self, data: &Value) {
        if let Some(text) = data["content"].as_str() {
            let row = (
                data["subtask_id"].as_str().unwrap_or_default().to_owned(),
                data["attempt"].as_u64().unwrap_or(1),
            );
            if self.thinking || self.row.as_ref() != Some(&row) {
                self.end_line();
                self.row = Some(row);
                self.thinking = false;
            }
            self.open = !text.ends_with('\n');
            print!("{}", printable(text));
            let _ = std::io::stdout().flush();
        } else if let Some(text) = data["result"]["reasoning_chunk"].as_str() {
            if !self.thinking {
                self.end_line();
                self.thinking = true;
                self.row = None;
            }
            self.open = true;
            let text = printable(text);
            if self.colour { eprint!("\x1b[2m{text}\x1b[0m") } else { eprint!("{text}") }
        }
    }

    fn block(&mut self, block: &Value) {
        if block["type"] == "tool" {
            self.note(&tool(block));
        } else if block["type"] == "diff" {
            self.note(&changed(block));
        } else if let Some(text) = asks(block) {
            self.note(&text);
        }
    }

    fn block_changed(&mut self, data: &Value) {
        match data["status"].as_str() {
            Some("error") => self.note("tool failed"),
            Some("unknown") => self.note("tool outcome unknown: it may have run"),
            Some("running") if data["tool_output"] == "expired" => {
                self.note("expired: nobody answered in time");
            }
            _ => {}
        }
    }

    fn message(&mut self, data: &Value) {
        if data["kind"] == "handoff" {
            self.note("handed to the next stage");
        } else if data["kind"] == "user" {
            self.end_line();
            let text = data["content"].as_str().unwrap_or_default();
            self.note(&format!("> {}", printable(text)));
        }
    }

    fn status(&mut self, data: &Value) {
        if let Some(text) = data["text"].as_str() {
            self.note(text);
        } else if let Ok(wait) = serde_json::from_value(data["wait"].clone()) {
            let WaitWords { summary, next } = WaitWords::of(&wait, "");
            self.note(&next.map_or(summary.clone(), |next| format!("{summary} ({next})")));
        }
    }

    fn error(&mut self, data: &Value) {
        let text = data["error"].as_str().unwrap_or_default();
        let kind = data["type"].as_str().unwrap_or_default();
        if data["continues"] == true {
            self.note(&format!("interrupted ({kind}); it goes on by itself"));
        } else {
            self.note(&format!("failed ({kind}): {text}"));
        }
    }

    fn end_line(&mut self) {
        if std::mem::replace(&mut self.open, false) {
            if self.thinking { eprintln!() } else { println!() }
        }
    }

    fn note(&mut self, text: &str) {
        if matches!(self.format, Format::Json | Format::Yaml) {
            return;
        }
        self.end_line();
        self.row = None;
        let text = printable(text);
        if self.colour { eprintln!("\x1b[36m-- {text}\x1b[0m") } else { eprintln!("-- {text}") }
    }
}

/// A frame for programs: a line of JSON, or a document of YAML.
fn written(format: Format, event: &str, data: &Value) -> String {
    let frame = serde_json::json!({"event": event, "data": data});
    if format == Format::Yaml {
        return format!("---\n{}", value_to_yaml(&frame));
    }
    format!("{frame}\n")
}

/// A tool call: its name, and what a person knows it by.
fn tool(block: &Value) -> String {
    let name = block["tool_name"].as_str().unwrap_or("tool");
    let input = &block["tool_input"];
    let what = ["title", "display_name"].iter().find_map(|field| block[*field].as_str());
    let known = ["command", "file_path", "path", "pattern", "url", "query"];
    let what = what.or_else(|| known.iter().find_map(|field| input[*field].as_str()));
    match what.filter(|what| *what != name) {
        Some(what) => format!("tool {name}: {}", shortened(what)),
        None => format!("tool {name}"),
    }
}

/// The files of a diff.
fn changed(block: &Value) -> String {
    let files = block["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    let file = |file: &Value| {
        let count = |field: &str| file[field].as_u64().unwrap_or_default();
        let path = file["path"].as_str().unwrap_or_default();
        format!("{} (+{} -{})", shortened(path), count("added"), count("removed"))
    };
    let named: Vec<String> = files.iter().take(FILES_MAX).map(file).collect();
    let more = files.len().saturating_sub(FILES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("changed {}{more}; see: troupe diff", named.join(", "))
}

/// The first line, as far as it fits.
fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

/// What an agent asks, and how to answer it.
fn asks(block: &Value) -> Option<String> {
    let id = block["id"].as_str().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match block["type"].as_str()? {
        "approval" => {
            let (tool, title) = (text(&block["tool_name"]), text(&block["title"]));
            Some(format!("may {tool} do this? {title} (troupe approve or deny, block {id})"))
        }
        "question" => {
            let question = text(&block["questions"][0]["text"]);
            Some(format!("asks: {question} (troupe answer, block {id})"))
        }
        _ => None,
    }
}

/// Without escape sequences: what a model writes must not drive the terminal.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_hears_what_is_asked() {
        let approval = serde_json::json!({"id": "2.1.1", "type": "approval", "tool_name": "Bash",
            "title": "touch x"});
        let words = "may Bash do this? touch x (troupe approve or deny, block 2.1.1)";
        assert_eq!(asks(&approval).as_deref(), Some(words));
        assert_eq!(asks(&serde_json::json!({"type": "tool"})), None);
    }

    #[test]
    fn tools_and_diffs_say_what_they_are_about() {
        let bash = serde_json::json!({"tool_name": "Bash", "tool_input": {"command": "make\nx"}});
        assert_eq!(tool(&bash), "tool Bash: make");
        let titled = serde_json::json!({"tool_name": "shell", "title": "x".repeat(200)});
        assert_eq!(tool(&titled), format!("tool shell: {}...", "x".repeat(WORDS_MAX)));
        assert_eq!(
            tool(&serde_json::json!({"tool_name": "Read", "tool_input": null})),
            "tool Read"
        );
        let file = serde_json::json!({"path": "a.rs", "added": 2, "removed": 1});
        let diff = serde_json::json!({"type": "diff", "files": vec![file; FILES_MAX + 1]});
        let words = changed(&diff);
        assert!(
            words.starts_with("changed a.rs (+2 -1), a.rs") && words.contains("and 1 more"),
            "{words}"
        );
    }

    #[test]
    fn frames_for_programs_stand_apart() {
        let data = serde_json::json!({"seq": 7, "content": "a\nb"});
        let json = written(Format::Json, "chat:chunk", &data);
        assert_eq!(json.lines().count(), 1, "{json}");
        let yaml = written(Format::Yaml, "chat:chunk", &data).repeat(2);
        assert_eq!(yaml.lines().filter(|line| *line == "---").count(), 2, "{yaml}");
        for part in ["event:", "chat:chunk", "seq: 7"] {
            assert!(yaml.contains(part), "{part} in {yaml}");
        }
    }

    #[test]
    fn a_model_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2J\u{9b}b\r\nc\td"), "a[2Jb\nc\td");
    }
}
