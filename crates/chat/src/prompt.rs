//! What a model is sent: the system prompt, and the conversation as one member sees it. Pure.
//!
//! The member's own messages are the assistant's; everything else is a user's. Where more than
//! one voice speaks, each message that is not the member's own begins with its author in square
//! brackets, and the system prompt says so. What a member is asked for stands in the system
//! prompt; what must come last (a part of the work, a merge) is added to the last message, so
//! that senders alternate.

mod budget;
mod rules;
mod skills;
mod summary;

use troupe_domain::task::{HistoryItem, TeamPlan, Work};
use troupe_llm::{Message, Part, Role};
use troupe_types::MessageKind;

use crate::record::past_messages;

pub use budget::{Compaction, Fitted, Window, fit, fits};
pub use rules::{role, system};
pub(crate) use skills::section;
pub use skills::{on_offer, preloaded};
pub(crate) use summary::{Summary, Told, instructions};

/// Longest name in a mark, in characters.
const NAME_CHARS_MAX: usize = 60;

/// The conversation as `member` sees it, ready for its work. The last message is a user's.
#[must_use]
pub fn history(plan: &TeamPlan, member: u32, work: &Work, items: &[HistoryItem]) -> Vec<Message> {
    let marked = has_voices(member, items);
    let mut messages = Vec::new();
    for item in items {
        match item {
            HistoryItem::Person { name, text } => {
                let mark =
                    if marked { format!("[person: {}] ", plain(name)) } else { String::new() };
                push(&mut messages, Message::user(format!("{mark}{text}")));
            }
            HistoryItem::Member { index, text, .. } if *index == member => {
                push(&mut messages, Message::assistant(text.clone()));
            }
            HistoryItem::Member { name, index, kind, text } => {
                let mark = format!("[{}: {}]", word(*kind), plain(&label(plan, *index, name)));
                push(&mut messages, Message::user(format!("{mark} {text}")));
            }
            HistoryItem::Handoff { text } => {
                push(&mut messages, Message::user(handoff(work, text)));
            }
            HistoryItem::OwnSteps { steps, .. } => messages.extend(past_messages(steps)),
        }
    }
    let ask = rules::ask(plan, work);
    match messages.last_mut() {
        Some(last) if last.role == Role::User => {
            last.parts.extend(ask.map(|text| Part::Text { text: format!("\n\n{text}") }));
        }
        _ => messages.push(Message::user(ask.unwrap_or_else(|| "[task] Go on.".to_owned()))),
    }
    messages
}

/// Whether more than one voice besides the member's own speaks.
pub(crate) fn has_voices(member: u32, items: &[HistoryItem]) -> bool {
    let mut person = None;
    items.iter().any(|item| match item {
        HistoryItem::Person { name, .. } => *person.get_or_insert(name) != name,
        HistoryItem::Member { index, .. } => *index != member,
        HistoryItem::Handoff { .. } | HistoryItem::OwnSteps { .. } => false,
    })
}

fn push(messages: &mut Vec<Message>, message: Message) {
    if !message.text().trim().is_empty() {
        messages.push(message);
    }
}

fn handoff(work: &Work, text: &str) -> String {
    match work {
        Work::Item { .. } => format!("[task] Your part of this work:\n{text}"),
        _ if text.trim().is_empty() => {
            "[hand-off] Nothing was handed over. Begin with your instructions.".to_owned()
        }
        _ => format!("[hand-off]\n{text}"),
    }
}

/// A name that cannot be taken for the end of a mark.
fn plain(name: &str) -> String {
    let clean = name.chars().filter(|c| !c.is_control() && !matches!(c, '[' | ']'));
    clean.take(NAME_CHARS_MAX).collect()
}

/// How a member is called: its Bot's name, with its index where the Bot occurs twice.
fn label(plan: &TeamPlan, index: u32, name: &str) -> String {
    let twice = plan.members.iter().filter(|m| m.name == name).count() > 1;
    if twice { format!("{name}#{index}") } else { name.to_owned() }
}

const fn word(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Plan => "split of the work, member",
        MessageKind::Merge | MessageKind::Conclusion => "final answer, member",
        _ => "member",
    }
}

#[cfg(test)]
pub(crate) mod tests;
