//! What is said when an attempt goes on after the agent was started anew. Pure.

use std::fmt::Write as _;

use troupe_domain::task::RunEvent;
use troupe_executor::Prompt;
use troupe_types::{BlockPatch, BlockStatus, StatusFrame};

use crate::outbox::Said;

/// Tools that never ended may have done something; questions are taken back, the runtime asks
/// them anew.
fn close(name: &str, is_tool: bool) -> RunEvent {
    let patch = if is_tool {
        BlockPatch { status: Some(BlockStatus::Unknown), ..BlockPatch::default() }
    } else {
        BlockPatch {
            status: Some(BlockStatus::Done),
            tool_output: Some("withdrawn".to_owned()),
            ..BlockPatch::default()
        }
    };
    RunEvent::BlockChanged { name: name.to_owned(), patch }
}

/// Closes what was open when the agent ended.
pub(super) fn closed(said: &Said) -> Vec<RunEvent> {
    said.open.iter().map(|(name, is_tool)| close(name, *is_tool)).collect()
}

/// The first words of an attempt that goes on.
pub(super) fn resumed(said: &Said) -> Vec<RunEvent> {
    let mut events = closed(said);
    let text = "the device's agent was started anew; the work goes on in the same session";
    events.push(RunEvent::Status(StatusFrame {
        phase: "resumed".to_owned(),
        text: Some(text.to_owned()),
        ..StatusFrame::default()
    }));
    events
}

/// What the runtime is told then. The request is said again: a session that was cut off may lack
/// it, either because the runtime had not kept it yet, or because it keeps whole turns only.
pub(super) fn prompt(request: &Prompt, said: &Said) -> Prompt {
    let mut text = "The program that drives you was started anew while you worked on the request \
                    below. Go on where you stopped; look first at what is done already, and do \
                    not repeat it."
        .to_owned();
    if !said.begun.is_empty() {
        text.push_str("\n\nWhat you had begun, the last is the latest:");
    }
    for call in &said.begun {
        let _ = write!(text, "\n- {} {}", call.tool, call.with);
    }
    let _ = write!(text, "\n\nThe request:\n\n{}", request.text);
    Prompt { text, images: request.images.clone() }
}

#[cfg(test)]
mod tests {
    use troupe_types::{Block, BlockKind};

    use super::*;

    #[test]
    fn what_was_asked_is_asked_again_with_what_was_begun() {
        let mut said = Said::default();
        let request = Prompt::text("Make it green.");
        let first = prompt(&request, &said).text;
        assert!(first.ends_with("The request:\n\nMake it green."), "{first}");
        assert!(!first.contains("begun"), "{first}");
        for n in 0..100 {
            let kind = BlockKind::Tool {
                tool_use_id: n.to_string(),
                tool_name: "Bash".to_owned(),
                display_name: Some("builds".to_owned()),
                tool_input: serde_json::Value::Null,
                tool_output: None,
                server_label: None,
            };
            let name = n.to_string();
            let block = Block {
                id: name.clone(),
                kind,
                status: BlockStatus::Running,
                timestamp: 0,
                parent_tool_use_id: None,
            };
            // Told twice: first while its arguments are written.
            for _ in 0..2 {
                said.apply(&RunEvent::Block { block: block.clone(), name: name.clone() });
            }
            let input = serde_json::json!({"command": format!("make {n}")});
            let patch = BlockPatch { tool_input: Some(input), ..BlockPatch::default() };
            said.apply(&RunEvent::BlockChanged { name, patch });
        }
        let then = prompt(&request, &said).text;
        let calls: Vec<&str> = then.lines().filter(|line| line.starts_with("- ")).collect();
        assert_eq!((calls.len(), calls[39]), (40, r#"- Bash {"command":"make 99"}"#), "{then}");
    }

    #[test]
    fn what_was_open_is_closed_as_what_it_is() {
        let mut said = Said::default();
        said.open.insert("toolu_1".to_owned(), true);
        said.open.insert("ask_1".to_owned(), false);
        let events = resumed(&said);
        for event in &events {
            said.apply(event);
        }
        assert!(said.open.is_empty(), "{events:?}");
        let unknown = |event: &RunEvent| match event {
            RunEvent::BlockChanged { name, patch } => {
                name == "toolu_1" && patch.status == Some(BlockStatus::Unknown)
            }
            _ => false,
        };
        assert!(events.iter().any(unknown), "{events:?}");
        assert!(matches!(events.last(), Some(RunEvent::Status(_))));
    }
}
