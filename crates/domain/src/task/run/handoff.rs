//! What a pipeline stage hands to the next one.

use crate::task::{
    plan::{ContextPassing, TeamPlan},
    text::{json_len, json_prefix},
};

/// A hand-off takes at most this many bytes once it is encoded.
pub(in crate::task) const HANDOFF_BYTES_MAX: usize = 200 * 1024;
/// Room for the note at a cut.
const NOTE_BYTES: usize = 200;

/// The automatic hand-off after a stage, by its `contextPassing`.
pub(in crate::task) fn text(plan: &TeamPlan, stage: u32, original: &str, previous: &str) -> String {
    let passing = plan.member(stage).map_or(ContextPassing::None, |m| m.context_passing);
    let request = || format!("## Original request\n\n{original}");
    let result = || format!("## Result of {}\n\n{previous}", plan.name_of(stage));
    match passing {
        ContextPassing::None => String::new(),
        ContextPassing::OriginalUser => capped(request()),
        ContextPassing::PreviousBot => capped(result()),
        ContextPassing::OriginalAndPrevious => capped(format!("{}\n\n{}", request(), result())),
    }
}

/// Cuts what is too long, and says so at the cut.
fn capped(text: String) -> String {
    if text.len() <= HANDOFF_BYTES_MAX / 6 || json_len(&text) <= HANDOFF_BYTES_MAX {
        return text;
    }
    let kept = json_prefix(&text, HANDOFF_BYTES_MAX - NOTE_BYTES);
    let left_out = text.len() - kept.len();
    format!("{kept}\n\n[Cut here: a hand-off is limited in length; {left_out} bytes are left out.]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_handoff_says_where_it_was_cut() {
        let long = capped("\"".repeat(HANDOFF_BYTES_MAX));
        assert!(json_len(&long) <= HANDOFF_BYTES_MAX);
        assert!(long.ends_with("bytes are left out.]"));
        assert_eq!(capped("short".to_owned()), "short");
    }
}
