//! A Team as a turn uses it, found the way its user means it.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_api::{FieldError, Problem};
use troupe_domain::{
    namespace::Key,
    task::{
        CollaborationModel, ContextPassing, MemberPlan, ModelPlan, SkillPlan, TeamPlan,
        ThinkingPlan,
    },
};
use troupe_entities::models::{looks_sealed, sealed_at};
use troupe_resources::{
    Kind,
    lookup::{self, Found, find_for},
    resolve::{
        ResolveError, ResolveOptions, ResolvedMcpServer, ResolvedMember, ResolvedModel,
        ResolvedSkill, ResolvedTeam, SecretRef, resolve_team,
    },
    resource::{DEFAULT_NAMESPACE, Owner},
    spec::{NameRef, Thinking},
};
use troupe_types::limits;

use super::{
    live::{LiveResources, seal_path},
    visible::Visible,
};
use crate::{caller::Caller, tasks::TeamResolver};

/// Largest plan of a Team: it travels in one journal entry beside a message.
const PLAN_BYTES_MAX: usize = limits::ENTRY_BYTES_MAX - limits::MESSAGE_BYTES_MAX - 32 * 1024;

#[async_trait]
impl TeamResolver for LiveResources {
    async fn resolve(
        &self,
        caller: &Caller,
        team: &str,
        model: Option<&str>,
    ) -> Result<Arc<TeamPlan>, Problem> {
        let visible = self.visible(caller).await?;
        let who = lookup::Caller(caller.user);
        let (namespace, name) = split_name(team);
        let found = find_for(&visible.set, who, Kind::Team, namespace, name).ok_or_else(|| {
            let mut problem = Problem::not_found(&format!("team `{team}`"));
            problem.detail.push_str("; see: troupe get teams");
            problem
        })?;
        let options = ResolveOptions { model: model.map(name_ref), force_model: model.is_some() };
        let resolved =
            resolve_team(&visible.set, who, &found, &options).map_err(|e| resolve_problem(&e))?;
        let plan = Planner { caller, visible: &visible }.plan(&resolved, &found, namespace);
        let bytes = serde_json::to_vec(&plan).map_or(0, |b| b.len());
        if bytes > PLAN_BYTES_MAX {
            let message = format!(
                "the prompts, Skills and servers of team `{team}` are {} KiB, {} KiB are allowed",
                bytes / 1024,
                PLAN_BYTES_MAX / 1024
            );
            return Err(Problem::invalid("spec.members", message));
        }
        Ok(Arc::new(plan))
    }
}

/// `name`, `namespace/name` or `namespace#name`.
fn split_name(text: &str) -> (&str, &str) {
    text.rsplit_once(['#', '/']).unwrap_or((DEFAULT_NAMESPACE, text))
}

fn name_ref(text: &str) -> NameRef {
    let (namespace, name) = split_name(text);
    NameRef { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// 404 for what is not there, 422 for what does not fit; with the path of the reference in the
/// document that holds it, which the message names.
fn resolve_problem(error: &ResolveError) -> Problem {
    let message = error.to_string();
    let (status, code) = match error {
        ResolveError::Missing { .. } => (404, "reference_not_found"),
        _ => (422, "invalid"),
    };
    let mut fault = FieldError { message: message.clone(), ..FieldError::default() };
    match error {
        ResolveError::Missing { path, missing, .. } => {
            fault.path.clone_from(path);
            fault.found = Some(missing.to_string());
        }
        ResolveError::ModelNotSupported { path, model, allowed, .. } => {
            fault.path.clone_from(path);
            fault.found = Some(model.to_string());
            fault.allowed.clone_from(allowed);
        }
        ResolveError::ModelType { path, model, .. } => {
            fault.path.clone_from(path);
            fault.found = Some(model.to_string());
            fault.allowed.push("llm".to_owned());
        }
        ResolveError::NoMembers { .. } => fault.path.push_str("spec.members"),
        ResolveError::Spec(_) => fault.path.push_str("spec"),
    }
    let mut problem = Problem::new(status, code, message);
    problem.errors.push(fault);
    problem
}

/// For whom a plan is made, of what.
struct Planner<'a> {
    caller: &'a Caller,
    visible: &'a Visible,
}

impl Planner<'_> {
    fn plan(&self, team: &ResolvedTeam, found: &Found, namespace: &str) -> TeamPlan {
        // What the plan seals differs with each write of a key, so the hash covers the sealed
        // texts.
        let members: Vec<MemberPlan> = team.members.iter().map(|m| self.member(m)).collect();
        let mut plan = TeamPlan {
            hash: String::new(),
            name: team.name.clone(),
            namespace: if found.owner == Owner::Public { DEFAULT_NAMESPACE } else { namespace }
                .to_owned(),
            display_name: team.display_name.clone(),
            model: word(&team.collaboration_model).unwrap_or(CollaborationModel::Solo),
            max_rounds: team.max_rounds,
            max_concurrent_tasks: team.max_concurrent_tasks,
            members,
            leader: team.leader,
            deep_thinking: false,
        };
        plan.hash = plan.content_hash();
        plan
    }

    fn member(&self, member: &ResolvedMember) -> MemberPlan {
        MemberPlan {
            name: member.name.clone(),
            shell_type: word(&member.shell.shell_type).unwrap_or_default(),
            system_prompt: member.system_prompt.clone(),
            prompt: member.prompt.clone(),
            require_confirmation: member.require_confirmation,
            context_passing: word(&member.context_passing).unwrap_or(ContextPassing::None),
            on: member.on.as_ref().map(ToString::to_string),
            base_image: member.shell.base_image.clone(),
            model: member.model.as_ref().map(|m| self.model(m)),
            mcp_servers: self.mcp_servers(member),
            skills: member.skills.iter().map(|s| s.name.clone()).collect(),
            skill_texts: member.skills.iter().filter_map(skill).collect(),
        }
    }

    /// An administrator applied it: what is public, and their own. Such a resource may lead to
    /// loopback addresses of the node.
    fn is_trusted(&self, owner: &Owner) -> bool {
        *owner == Owner::Public
            || (self.caller.is_admin() && *owner == Owner::User(self.caller.user))
    }

    fn model(&self, model: &ResolvedModel) -> ModelPlan {
        let mut headers = model.headers.clone();
        headers.retain(|_, value| !looks_sealed(value));
        headers.extend(self.sealed_values(&model.secret_headers));
        ModelPlan {
            name: model.name.clone(),
            provider: model.provider.map_or_else(|| "dify".to_owned(), |p| p.as_str().to_owned()),
            model_id: model.model_id.clone(),
            base_url: model.base_url.clone(),
            headers,
            sealed_key: model.api_key.as_ref().and_then(|key| self.sealed_value(key)),
            bearer: model.bearer,
            small_model: model.haiku_model.clone(),
            context_window: model.context_window,
            max_output_tokens: model.max_output_tokens,
            thinking: thinking(model),
            trusted: self.is_trusted(&model.owner),
        }
    }

    /// The Ghost's servers and those of its Skills. A Skill's server whose name means another
    /// one already is `SKILL_NAME`.
    fn mcp_servers(&self, member: &ResolvedMember) -> BTreeMap<String, Value> {
        let own = member.mcp_servers.iter();
        let mut all: BTreeMap<_, _> = own.map(|(n, s)| (n.clone(), self.mcp_server(s))).collect();
        for skill in &member.skills {
            for (name, server) in &skill.mcp_servers {
                let server = self.mcp_server(server);
                let mut name = name.clone();
                while all.get(&name).is_some_and(|there| *there != server) {
                    name = format!("{}_{name}", skill.name);
                }
                all.insert(name, server);
            }
        }
        all
    }

    fn mcp_server(&self, server: &ResolvedMcpServer) -> Value {
        let mut plain = server.server.clone();
        plain.headers.retain(|_, value| !looks_sealed(value));
        plain.env.retain(|_, value| !looks_sealed(value));
        let mut value = serde_json::to_value(&plain).unwrap_or_default();
        for (field, secrets) in [("headers", &server.secret_headers), ("env", &server.secret_env)] {
            for (name, sealed) in self.sealed_values(secrets) {
                if value[field].is_null() {
                    value[field] = json!({});
                }
                value[field][name] = sealed.into();
            }
        }
        value["trusted"] = self.is_trusted(&server.owner).into();
        value
    }

    fn sealed_values(&self, secrets: &BTreeMap<String, SecretRef>) -> BTreeMap<String, String> {
        let sealed =
            |(name, at): (&String, &SecretRef)| Some((name.clone(), self.sealed_value(at)?));
        secrets.iter().filter_map(sealed).collect()
    }

    fn sealed_value(&self, at: &SecretRef) -> Option<String> {
        let key = Key::new(at.resource.kind, &at.resource.name);
        let sealed = self.visible.secrets(&at.owner, &key)?.get(&at.path)?;
        Some(sealed_at(
            sealed,
            &seal_path(&at.owner, at.resource.kind, &at.resource.name, &at.path),
        ))
    }
}

fn thinking(model: &ResolvedModel) -> Option<ThinkingPlan> {
    let word = model.thinking.map(|word| match word {
        Thinking::Low => ThinkingPlan::Low,
        Thinking::Medium => ThinkingPlan::Medium,
        Thinking::High => ThinkingPlan::High,
    });
    word.or_else(|| model.thinking_tokens.map(ThinkingPlan::Tokens))
}

/// The same word in another crate's enum.
fn word<T: serde::de::DeserializeOwned>(value: &impl serde::Serialize) -> Option<T> {
    serde_json::from_value(serde_json::to_value(value).ok()?).ok()
}

/// A Skill that has instructions, files beside them, or both.
fn skill(skill: &ResolvedSkill) -> Option<SkillPlan> {
    let (name, description) = (skill.name.clone(), skill.description.clone());
    let package = skill.package_hash.clone();
    let text = skill.prompt.clone().or_else(|| package.as_ref().map(|_| String::new()))?;
    Some(SkillPlan { name, description, text, preload: skill.preload, package })
}
