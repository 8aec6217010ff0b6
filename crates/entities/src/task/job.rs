//! The job of an attempt on a device, from the plan and the conversation. Pure.

mod servers;

use std::collections::BTreeMap;

use troupe_chat::{Conversation, prompt};
use troupe_domain::task::{
    CollaborationModel, Execution, MemberPlan, SkillPlan, TaskState, TeamPlan,
};
use troupe_executor::{
    CommandSpec, Job, Limits, ModelAccess, Permissions, Prompt, RuntimeKind, SkillText,
    WorkspaceSource, WorkspaceSpec,
};
use troupe_llm::{Part, Role as Speaker};
use troupe_types::{Role, Status, TaskId, TurnId};

use self::servers::servers;
use crate::git::GitTokenRow;

/// Earlier conversation that a job carries, in bytes: its end.
const HISTORY_BYTES_MAX: usize = 96 * 1024;
/// The name of the model's key among the secrets.
const MODEL_KEY: &str = "model_key";
/// The name of the token for a private repository.
const GIT_TOKEN: &str = "git_token";

/// A job and its sealed secrets by name.
pub(super) type JobAndSecrets = (Job, BTreeMap<String, String>);

/// What a job is made from, besides the conversation.
pub(super) struct Asked<'a> {
    pub(super) task: TaskId,
    pub(super) turn: Option<TurnId>,
    pub(super) previous: Option<TurnId>,
    pub(super) plan: &'a TeamPlan,
    pub(super) execution: &'a Execution,
    pub(super) shell: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) grants: &'a [serde_json::Value],
    /// Its owner's token for the host that its files come from.
    pub(super) git_token: Option<&'a GitTokenRow>,
}

/// The turn right before the last one, if it is one Bot's alone and was answered.
pub(super) fn previous(state: &TaskState) -> Option<TurnId> {
    if state.plan()?.model != CollaborationModel::Solo {
        return None;
    }
    let [.., before, _] = state.turns.as_slice() else { return None };
    let mut answers = state.messages.iter().filter(|row| row.role == Role::Assistant);
    let answer = answers.rfind(|row| row.turn == before.turn)?;
    (answer.status == Status::Completed).then_some(before.turn)
}

pub(super) fn job(asked: &Asked<'_>, conversation: Conversation) -> Result<JobAndSecrets, String> {
    let Asked { task, turn, previous, plan, execution, shell, labels, grants, git_token } = *asked;
    let member = plan.member(execution.member).ok_or("the team has no such member any more")?;
    let turn = turn.ok_or("the task has no turn")?;
    let runtime: RuntimeKind = serde_json::from_value(shell.into()).map_err(|e| e.to_string())?;
    let asked = conversation.items.iter().rev().find_map(|item| match item {
        troupe_chat::HistoryItem::Person { text, .. } => Some(text.clone()),
        troupe_chat::HistoryItem::Handoff { text } => Some(text.clone()),
        _ => None,
    });
    let messages = prompt::history(plan, execution.member, &execution.work, &conversation.items);
    let mut texts: Vec<String> = messages.iter().map(text_of).collect();
    let prompt = texts.pop().map(|text| strip_role(&text)).unwrap_or_default();
    let mut history = texts.join("\n\n");
    if history.len() > HISTORY_BYTES_MAX {
        let from = history.ceil_char_boundary(history.len() - HISTORY_BYTES_MAX);
        history = format!("[earlier messages are left out]\n{}", &history[from..]);
    }
    let command = match runtime {
        RuntimeKind::Command => Some(command(&asked.unwrap_or_default())?),
        _ => None,
    };
    let (model, mut secrets) = model(member);
    let mcp_servers = servers(member, &mut secrets);
    let workspace = workspace(labels, git_token, &mut secrets);
    let job = Job {
        task,
        turn,
        execution: execution.id,
        attempt: execution.attempt,
        bot: member.name.clone(),
        runtime,
        instructions: prompt::system(plan, execution.member, &execution.work),
        prompt: Prompt::text(prompt),
        history,
        previous,
        session: None,
        model,
        permissions: Permissions::Ask,
        // One that this version does not read is asked for again.
        grants: grants.iter().filter_map(|g| serde_json::from_value(g.clone()).ok()).collect(),
        mcp_servers,
        skills: Vec::new(),
        skill_texts: member.skill_texts.iter().map(skill).collect(),
        workspace,
        command,
        members: Vec::new(),
        env: BTreeMap::new(),
        limits: Limits::default(),
    };
    Ok((job, secrets))
}

fn skill(skill: &SkillPlan) -> SkillText {
    let SkillPlan { name, description, text } = skill.clone();
    SkillText { name, description, text }
}

fn text_of(message: &troupe_llm::Message) -> String {
    let parts = message.parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        _ => None,
    });
    let text: String = parts.collect();
    match message.role {
        Speaker::Assistant => format!("You: {text}"),
        _ => format!("Person: {text}"),
    }
}

fn strip_role(text: &str) -> String {
    text.strip_prefix("Person: ").unwrap_or(text).to_owned()
}

/// Label of a Task: where its files come from, a URL or a directory of the device.
pub const REPO_LABEL: &str = "troupe.repo";
/// Label of a Task: the branch that it starts from.
pub const BRANCH_LABEL: &str = "troupe.branch";
/// Label of a Task: it works in a git worktree of its own.
pub const WORKTREE_LABEL: &str = "troupe.worktree";

/// Label of a Task whose workspace and container are not taken away while nobody uses them.
const KEEP_LABEL: &str = "preserveExecutor";

/// Whether a Task's workspace and container stay while nobody uses them.
pub(super) fn is_kept(labels: &BTreeMap<String, String>) -> bool {
    labels.get(KEEP_LABEL).is_some_and(|value| value == "true")
}

fn workspace(
    labels: &BTreeMap<String, String>,
    git_token: Option<&GitTokenRow>,
    secrets: &mut BTreeMap<String, String>,
) -> WorkspaceSpec {
    let source = match labels.get(REPO_LABEL) {
        None => WorkspaceSource::Empty,
        Some(path) if path.starts_with('/') => WorkspaceSource::Existing { path: path.into() },
        Some(url) => {
            let token = git_token.map(|row| {
                secrets.insert(GIT_TOKEN.to_owned(), row.sealed_text());
                GIT_TOKEN.to_owned()
            });
            let user = git_token.and_then(|row| row.user.clone());
            WorkspaceSource::Clone { url: url.clone(), token, user }
        }
    };
    let branch = labels.get(BRANCH_LABEL).cloned();
    let keep = is_kept(labels);
    WorkspaceSpec { source, branch, worktree: labels.contains_key(WORKTREE_LABEL), keep }
}

/// A message to a command runtime is a command line: words with quotes, nothing expanded.
fn command(line: &str) -> Result<CommandSpec, String> {
    let words = shlex::split(line.trim());
    let mut words = words.ok_or("the command line has a quote that does not end")?.into_iter();
    let program = words.next().ok_or("the command line is empty")?;
    Ok(CommandSpec { program, args: words.collect(), stdin: String::new() })
}

/// The model of a member, and its key as a secret. Without a key of ours, and for the scripted
/// demo, the runtime uses the login of the device.
fn model(member: &MemberPlan) -> (Option<ModelAccess>, BTreeMap<String, String>) {
    let Some(plan) = member.model.as_ref().filter(|plan| plan.provider != "demo") else {
        return (None, BTreeMap::new());
    };
    let mut secrets = BTreeMap::new();
    let key = plan.sealed_key.as_ref().map(|sealed| {
        secrets.insert(MODEL_KEY.to_owned(), sealed.clone());
        MODEL_KEY.to_owned()
    });
    let access = ModelAccess {
        model: plan.model_id.clone(),
        small_model: None,
        base_url: plan.base_url.clone(),
        key,
        bearer: false,
        retries: 4,
    };
    (Some(access), secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_words_and_nothing_else() {
        let spec = command("git log -n 1 '--format=%H $HOME; ls'").unwrap();
        assert_eq!(spec.program, "git");
        assert_eq!(spec.args, ["log", "-n", "1", "--format=%H $HOME; ls"]);
        assert!(command("echo 'open").is_err());
        assert!(command("   ").is_err());
    }
}
