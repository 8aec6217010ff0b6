//! The words by which a member is told its place in the Team.

use troupe_domain::task::{CollaborationModel, MemberPlan, TeamPlan, Work};

use super::{label, plain};

/// Characters of a member's role that a leader is told.
const ROLE_CHARS_MAX: usize = 300;

/// The system prompt: the member's own role and rules, the Team's instruction for it, and what
/// it is asked for now.
#[must_use]
pub fn system(plan: &TeamPlan, member: u32, work: &Work) -> String {
    let own = plan.member(member);
    let own = |text: fn(&MemberPlan) -> &str| own.map_or("", text).trim().to_owned();
    let parts = [own(|m| &m.system_prompt), own(|m| &m.prompt), rules(plan, member, work)];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n\n")
}

const MARKS: &str = "A message that is not yours may begin with its author in square brackets: \
    `[person: NAME]`, `[member: NAME]`, or `[task]` for what you are asked to do. Do not begin \
    your own messages so.";

fn rules(plan: &TeamPlan, member: u32, work: &Work) -> String {
    let team = if plan.display_name.is_empty() { &plan.name } else { &plan.display_name };
    let me = plain(&label(plan, member, plan.name_of(member)));
    let (own, leader) = (format!("You are `{me}`"), plan.leader == member);
    match work {
        Work::Answer if plan.size() == 1 => String::new(),
        Work::Answer if plan.runs_as_one() => format!(
            "{own}, the leader of the team `{team}`. Give its members the parts of the last request \
             that are theirs: each part needs all that it takes to do it. Read what they say, and \
             write the answer for the person: one text, not a report of who did what. {MARKS}"
        ),
        Work::Answer => {
            format!("{own}, a member of the team `{team}`. Answer the last request. {MARKS}")
        }
        Work::Stage { stage } => stage_rules(plan, team, &own, *stage),
        Work::Choose => format!(
            "{own}, the leader of the team `{team}`. Do not answer the last request yourself: \
             choose the member that answers it, by one call of the tool `choose_member`. {MARKS}\n\
             \nMembers to choose from:\n{}",
            roster(plan, plan.leader)
        ),
        Work::Split => format!(
            "{own}, the leader of the team `{team}`. Do not answer the last request yourself: \
             give its parts to members, by one call of the tool `split_work`. They work at the \
             same time and do not see each other's parts, so each part needs all that it takes \
             to do it; a member may get more than one. Use as few parts as make sense. {MARKS}\n\
             \nMembers to give work to:\n{}",
            roster(plan, plan.leader)
        ),
        Work::Item { .. } => format!(
            "{own}, a member of the team `{team}`. The leader split a request into parts that \
             members do at the same time. Do your part only, and say what you found or did: the \
             leader reads it and answers the person. {MARKS}"
        ),
        Work::Merge => format!(
            "{own}, the leader of the team `{team}`. You split the last request into parts, and \
             members did them. You write the answer. {MARKS}"
        ),
        Work::Discuss { .. } => {
            let role = if leader { "the leader" } else { "a member" };
            format!(
                "{own}, {role} of the team `{team}`, which discusses the last request in rounds. \
                 Say what you have to add, briefly; take up what others said instead of saying it \
                 again. When you have nothing further to add, call the tool `conclude` with \
                 `done: true` and your position. {MARKS}\n\nOthers in the discussion:\n{}",
                roster(plan, member)
            )
        }
        Work::Conclusion => format!(
            "{own}, the leader of the team `{team}`, which discussed the last request. You write \
             the conclusion. {MARKS}"
        ),
    }
}

/// Names of other stages are left out: a stage reads what it was handed, no more.
fn stage_rules(plan: &TeamPlan, team: &str, own: &str, stage: u32) -> String {
    let (at, all) = (stage.saturating_add(1), plan.size());
    if plan.model != CollaborationModel::Pipeline || all == 1 {
        return String::new();
    }
    let before = if stage == 0 {
        "You get the person's request."
    } else {
        "What the stages before yours pass on begins with `[hand-off]`."
    };
    let after = if at >= all {
        "Your answer is the result."
    } else {
        "Your answer is passed on to the stage after yours: do your stage's work, not theirs."
    };
    format!("{own}, stage {at} of {all} of the team `{team}`. {before} {after}")
}

/// What stands at the end of the conversation.
pub(super) fn ask(plan: &TeamPlan, work: &Work) -> Option<String> {
    Some(match work {
        Work::Merge => "[task] The parts are done, or failed where it says so. Write the answer \
            to the last request for the person who asked: one text, not a report of who did what."
            .to_owned(),
        Work::Conclusion => "[task] The discussion is over. Write its conclusion for the person \
            who asked: the answer to the request, and where opinions still differ."
            .to_owned(),
        Work::Discuss { round } => {
            format!("[task] Round {round} of at most {}: it is your turn.", plan.max_rounds)
        }
        Work::Answer | Work::Stage { .. } | Work::Choose | Work::Split | Work::Item { .. } => {
            return None;
        }
    })
}

/// All members but one, a line each.
fn roster(plan: &TeamPlan, but: u32) -> String {
    let others = (0_u32..).zip(&plan.members).filter(|(index, _)| *index != but);
    let line = |(index, member): (u32, &MemberPlan)| {
        let name = plain(&label(plan, index, &member.name));
        let role = role(member);
        format!("- `{name}`: {role}")
    };
    others.map(line).collect::<Vec<_>>().join("\n")
}

/// What a member is good for, in a line for its leader.
#[must_use]
pub fn role(member: &MemberPlan) -> String {
    let role = if member.prompt.trim().is_empty() {
        member.system_prompt.clone()
    } else {
        format!("{} {}", member.prompt, member.system_prompt)
    };
    let role = role.split_whitespace().collect::<Vec<_>>().join(" ");
    let more = if role.chars().count() > ROLE_CHARS_MAX { "…" } else { "" };
    let role: String = role.chars().take(ROLE_CHARS_MAX).collect();
    format!("{role}{more}")
}
