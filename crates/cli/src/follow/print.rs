//! Frames as lines of a terminal: answers on standard output, everything else on standard error.
#![expect(clippy::print_stdout, reason = "a client prints")]
#![expect(clippy::print_stderr, reason = "what is not the answer goes to standard error")]

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;
use troupe_resources::print::value_to_yaml;
use troupe_types::FrameSeq;

use crate::args::Format;

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
            let name = block["tool_name"].as_str().unwrap_or("tool");
            self.note(&format!("tool {name}"));
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
        } else if let Some(code) = data["wait"]["code"].as_str() {
            self.note(&format!("waits: {code} {}", data["wait"]["args"]));
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
