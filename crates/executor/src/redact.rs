//! Hides secrets in what a runtime says, before anybody else sees it (I11).
//!
//! A secret that a runtime tells piece by piece over several events is not found: runtimes are
//! therefore set up to keep keys from the programs that they run.

use serde_json::Value;

use crate::{
    event::{RuntimeEvent, TurnEnd},
    secret::Secrets,
};

/// The event with every secret replaced.
pub(crate) fn redact(secrets: &Secrets, mut event: RuntimeEvent) -> RuntimeEvent {
    if secrets.iter().next().is_none() {
        return event;
    }
    let hide = |text: &mut String| *text = secrets.redact(text);
    match &mut event {
        RuntimeEvent::Text { text, .. }
        | RuntimeEvent::Thinking { text, .. }
        | RuntimeEvent::ToolOutput { text, .. }
        | RuntimeEvent::ToolEnded { output: text, .. }
        | RuntimeEvent::Retry { text, .. }
        | RuntimeEvent::Notice { text, .. }
        | RuntimeEvent::SubagentStarted { title: text, .. }
        | RuntimeEvent::Unknown { raw: text, .. }
        | RuntimeEvent::TurnEnded(TurnEnd::Failed { text, .. }) => hide(text),
        RuntimeEvent::ToolStarted(call) => {
            call.title.iter_mut().for_each(hide);
            in_value(secrets, &mut call.input);
        }
        RuntimeEvent::ToolInput { input, .. } => in_value(secrets, input),
        RuntimeEvent::Diff(diff) => hide(&mut diff.patch),
        RuntimeEvent::Approval(request) => {
            hide(&mut request.title);
            request.reason.iter_mut().for_each(hide);
            in_value(secrets, &mut request.input);
            // What would be granted is kept, so a command with a secret in it is not on offer.
            request.always = request.always.take().filter(|grant| {
                grant.command.as_ref().is_none_or(|line| secrets.redact(line) == *line)
            });
        }
        RuntimeEvent::Question(request) => {
            request.questions.iter_mut().for_each(|question| hide(&mut question.text));
        }
        RuntimeEvent::Session(_)
        | RuntimeEvent::TurnStarted
        | RuntimeEvent::ModelDone { .. }
        | RuntimeEvent::SubagentEnded { .. }
        | RuntimeEvent::Granted { .. }
        | RuntimeEvent::Closed { .. }
        | RuntimeEvent::Usage(_)
        | RuntimeEvent::TurnEnded(_)
        | RuntimeEvent::Exited(_) => {}
    }
    event
}

fn in_value(secrets: &Secrets, value: &mut Value) {
    match value {
        Value::String(text) => *text = secrets.redact(text),
        Value::Array(all) => all.iter_mut().for_each(|value| in_value(secrets, value)),
        Value::Object(all) => all.values_mut().for_each(|value| in_value(secrets, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
