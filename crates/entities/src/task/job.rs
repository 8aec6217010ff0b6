//! The job of an attempt on a device, from the plan and the conversation. Pure.

mod members;
mod servers;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use troupe_chat::{Conversation, decision::LeaderTool, prompt};
use troupe_domain::task::{CollaborationModel, Execution, MemberPlan, TaskState, TeamPlan};
use troupe_executor::{
    CommandSpec, Job, Limits, ModelAccess, Permissions, Prompt, RuntimeKind, WorkspaceSource,
    WorkspaceSpec,
};
use troupe_llm::{Part, Role as Speaker};
use troupe_types::{Role, Status, TaskId, TurnId, limits::JOB_SECRETS_MAX};

use self::{
    members::{members, skill_texts},
    servers::servers,
};
use crate::git::GitTokenRow;

/// Earlier conversation that a job carries, in bytes: its end.
const HISTORY_BYTES_MAX: usize = 96 * 1024;
/// Instructions with preloaded Skills, in bytes: Claude Code has them as one argument, and Linux
/// takes none of 128 KiB.
const INSTRUCTIONS_BYTES_MAX: usize = 96 * 1024;
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
    pub(super) grants: &'a [Value],
    /// What its MCP entries may refer to.
    pub(super) variables: &'a Map<String, Value>,
    /// Its owner's token for the host that its files come from.
    pub(super) git_token: Option<&'a GitTokenRow>,
}

/// The turn right before the last one, if it is one run's alone and was answered.
pub(super) fn previous(state: &TaskState) -> Option<TurnId> {
    let plan = state.plan()?;
    if plan.model != CollaborationModel::Solo && !plan.runs_as_one() {
        return None;
    }
    let [.., before, _] = state.turns.as_slice() else { return None };
    let mut answers = state.messages.iter().filter(|row| row.role == Role::Assistant);
    let answer = answers.rfind(|row| row.turn == before.turn)?;
    (answer.status == Status::Completed).then_some(before.turn)
}

pub(super) fn job(asked: &Asked<'_>, conversation: Conversation) -> Result<JobAndSecrets, String> {
    let Asked { task, turn, previous, plan, execution, shell, labels, grants, .. } = *asked;
    let member = plan.member(execution.member).ok_or("the team has no such member any more")?;
    let turn = turn.ok_or("the task has no turn")?;
    let runtime: RuntimeKind = serde_json::from_value(shell.into()).map_err(|e| e.to_string())?;
    let said = conversation.items.iter().rev().find_map(|item| match item {
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
        RuntimeKind::Command => Some(command(&said.unwrap_or_default())?),
        _ => None,
    };
    let mut rules = prompt::system(plan, execution.member, &execution.work);
    if let Some(tool) = LeaderTool::of(&execution.work) {
        rules = format!("{rules}\n\n{}", tool.in_text(plan));
    }
    let (model, key) = model(member, MODEL_KEY);
    let mut secrets = BTreeMap::from_iter(key);
    let mcp_servers = servers(member, asked.variables, &mut secrets);
    let others = members(plan, asked.variables, &mut secrets);
    let workspace = workspace(labels, asked.git_token, &mut secrets);
    if secrets.len() > JOB_SECRETS_MAX {
        let many = secrets.len();
        return Err(format!(
            "its members have {many} keys and tokens, {JOB_SECRETS_MAX} are allowed"
        ));
    }
    let job = Job {
        task,
        turn,
        execution: execution.id,
        attempt: execution.attempt,
        bot: member.name.clone(),
        runtime,
        instructions: instructions(member, rules),
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
        skill_texts: skill_texts(plan, member),
        workspace,
        command,
        members: others,
        env: BTreeMap::new(),
        limits: Limits::default(),
    };
    Ok((job, secrets))
}

/// The system prompt with the preloaded Skills. One that is too long for it is on the device
/// all the same, beside the others.
fn instructions(member: &MemberPlan, mut all: String) -> String {
    for skill in member.skill_texts.iter().filter(|skill| skill.preload) {
        let text = prompt::preloaded(skill);
        if all.len() + text.len() > INSTRUCTIONS_BYTES_MAX {
            tracing::warn!(member = %member.name, skill = %skill.name, "too long to be preloaded");
            continue;
        }
        let gap = if all.is_empty() { "" } else { "\n\n" };
        all = format!("{all}{gap}{text}");
    }
    all
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
pub const KEEP_LABEL: &str = "preserveExecutor";

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

/// The model of a member, and its key as a secret of this name. Without a key of ours, and for the
/// scripted demo, the runtime uses the login of the device; not with an address of the Model's own,
/// whose server would be shown it: a device refuses that.
fn model(member: &MemberPlan, secret: &str) -> (Option<ModelAccess>, Option<(String, String)>) {
    let Some(plan) = member.model.as_ref().filter(|plan| plan.provider != "demo") else {
        return (None, None);
    };
    let key = plan.sealed_key.as_ref().map(|sealed| (secret.to_owned(), sealed.clone()));
    let access = ModelAccess {
        model: plan.model_id.clone(),
        small_model: plan.small_model.clone(),
        base_url: plan.base_url.clone(),
        key: key.as_ref().map(|(name, _)| name.clone()),
        bearer: plan.bearer,
        retries: 4,
    };
    (Some(access), key)
}

#[cfg(test)]
mod tests {
    use troupe_domain::task::SkillPlan;

    use super::*;

    #[test]
    fn preloaded_skills_are_in_the_instructions_as_far_as_they_fit() {
        let skill = |name: &str, preload, bytes: usize| SkillPlan {
            name: name.to_owned(),
            description: "d".to_owned(),
            text: name.repeat(bytes),
            preload,
            package: None,
        };
        let member = serde_json::json!({"name": "a", "shell_type": "Codex", "system_prompt": "",
            "prompt": "", "require_confirmation": false, "context_passing": "none",
            "mcp_servers": {}, "skills": []});
        let mut member: MemberPlan = serde_json::from_value(member).unwrap();
        let (long, rules) = (skill("x", true, INSTRUCTIONS_BYTES_MAX), "Be kind.".to_owned());
        member.skill_texts = vec![skill("s", true, 3), skill("o", false, 3), long];
        member.skill_texts.push(skill("t", true, 5));
        let all = instructions(&member, rules);
        assert_eq!(all, "Be kind.\n\nSkill `s`:\n\nsss\n\nSkill `t`:\n\nttttt");
    }

    #[test]
    fn a_job_has_the_small_model_and_how_the_key_is_sent() {
        let member = serde_json::json!({"name": "a", "shell_type": "ClaudeCode",
            "system_prompt": "", "prompt": "", "require_confirmation": false,
            "context_passing": "none", "mcp_servers": {}, "skills": [], "model": {
                "name": "m", "provider": "claude", "model_id": "big", "headers": {},
                "sealed_key": "sealed:v1:k:c", "context_window": 1, "trusted": false}});
        let mut member: MemberPlan = serde_json::from_value(member).unwrap();
        let access = model(&member, MODEL_KEY).0.unwrap();
        assert_eq!((access.small_model, access.bearer), (None, false));
        let plan = member.model.as_mut().unwrap();
        (plan.small_model, plan.bearer) = (Some("small".to_owned()), true);
        let access = model(&member, MODEL_KEY).0.unwrap();
        assert_eq!((access.small_model.as_deref(), access.bearer), (Some("small"), true));
    }

    #[test]
    fn a_command_line_is_words_and_nothing_else() {
        let spec = command("git log -n 1 '--format=%H $HOME; ls'").unwrap();
        assert_eq!(spec.program, "git");
        assert_eq!(spec.args, ["log", "-n", "1", "--format=%H $HOME; ls"]);
        assert!(command("echo 'open").is_err());
        assert!(command("   ").is_err());
    }
}
