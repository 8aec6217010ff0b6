//! What is said when an attempt goes on after the agent was started anew. Pure.

use troupe_domain::task::RunEvent;
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

#[cfg(test)]
mod tests {
    use super::*;

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
