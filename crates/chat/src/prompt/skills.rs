//! How a member is told of its Skills.

use troupe_domain::task::{MemberPlan, SkillPlan};

/// Characters of a description in the list of Skills.
const DESCRIPTION_CHARS_MAX: usize = 1_024;

/// A Skill that stands in the prompt from the start.
#[must_use]
pub fn preloaded(skill: &SkillPlan) -> String {
    format!("Skill `{}`:\n\n{}", skill.name, skill.text.trim())
}

/// The Skills that a model loads when it needs them.
pub fn on_offer(member: &MemberPlan) -> impl Iterator<Item = &SkillPlan> {
    member.skill_texts.iter().filter(|skill| !skill.preload && !skill.text.trim().is_empty())
}

/// The system prompt's part about Skills: the preloaded ones, then, if they can be `loadable`,
/// a line for each of the others.
pub(crate) fn section(member: &MemberPlan, loadable: bool) -> String {
    let preloaded = member.skill_texts.iter().filter(|skill| skill.preload).map(preloaded);
    let mut parts: Vec<String> = preloaded.collect();
    let lines: Vec<String> = on_offer(member).map(line).collect();
    if loadable && !lines.is_empty() {
        parts.push(format!(
            "Skills on offer. When one fits what you are to do, load its instructions with the \
             tool `load_skill` before you begin:\n{}",
            lines.join("\n")
        ));
    }
    parts.join("\n\n")
}

fn line(skill: &SkillPlan) -> String {
    let words = skill.description.split_whitespace().collect::<Vec<_>>().join(" ");
    let more = if words.chars().count() > DESCRIPTION_CHARS_MAX { "…" } else { "" };
    let words: String = words.chars().take(DESCRIPTION_CHARS_MAX).collect();
    format!("- `{}`: {words}{more}", skill.name)
}
