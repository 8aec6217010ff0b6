//! A Team as a turn uses it, found the way its user means it.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_api::Problem;
use troupe_domain::{
    namespace::Key,
    task::{CollaborationModel, ContextPassing, MemberPlan, ModelPlan, TeamPlan},
};
use troupe_entities::models::sealed_at;
use troupe_resources::{
    Kind,
    lookup::{self, Found, find_for},
    resolve::{
        ResolveError, ResolveOptions, ResolvedMcpServer, ResolvedMember, ResolvedModel,
        ResolvedTeam, SecretRef, resolve_team,
    },
    resource::{DEFAULT_NAMESPACE, Owner},
    spec::NameRef,
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
        let plan = plan(&resolved, &found, namespace, &visible);
        let bytes = serde_json::to_vec(&plan).map_or(0, |b| b.len());
        if bytes > PLAN_BYTES_MAX {
            let message = format!(
                "the prompts and servers of team `{team}` are {} KiB, {} KiB are allowed",
                bytes / 1024,
                PLAN_BYTES_MAX / 1024
            );
            return Err(Problem::invalid("team_id", message));
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

fn resolve_problem(error: &ResolveError) -> Problem {
    match error {
        ResolveError::Missing { path, .. } => {
            let mut problem = Problem::new(404, "reference_not_found", error.to_string());
            problem.errors.push(troupe_api::FieldError {
                path: path.clone(),
                message: error.to_string(),
                ..troupe_api::FieldError::default()
            });
            problem
        }
        ResolveError::ModelNotSupported { .. }
        | ResolveError::ModelType { .. }
        | ResolveError::NoMembers { .. }
        | ResolveError::Spec(_) => Problem::invalid("team_id", error.to_string()),
    }
}

fn plan(team: &ResolvedTeam, found: &Found, namespace: &str, visible: &Visible) -> TeamPlan {
    // What the plan seals differs with each write of a key, so the hash covers the sealed texts.
    let members: Vec<MemberPlan> = team.members.iter().map(|m| member(m, visible)).collect();
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
    };
    plan.hash = plan.content_hash();
    plan
}

/// The same word in another crate's enum.
fn word<T: serde::de::DeserializeOwned>(value: &impl serde::Serialize) -> Option<T> {
    serde_json::from_value(serde_json::to_value(value).ok()?).ok()
}

fn member(member: &ResolvedMember, visible: &Visible) -> MemberPlan {
    MemberPlan {
        name: member.name.clone(),
        shell_type: word(&member.shell.shell_type).unwrap_or_default(),
        system_prompt: member.system_prompt.clone(),
        prompt: member.prompt.clone(),
        require_confirmation: member.require_confirmation,
        context_passing: word(&member.context_passing).unwrap_or(ContextPassing::None),
        on: member.on.as_ref().map(ToString::to_string),
        model: member.model.as_ref().map(|m| model(m, visible)),
        mcp_servers: member
            .mcp_servers
            .iter()
            .map(|(name, server)| (name.clone(), mcp_server(server, visible)))
            .collect(),
        skills: member.skills.iter().map(|s| s.name.clone()).collect(),
    }
}

fn model(model: &ResolvedModel, visible: &Visible) -> ModelPlan {
    let mut headers = model.headers.clone();
    headers.extend(sealed_values(&model.secret_headers, visible));
    ModelPlan {
        name: model.name.clone(),
        provider: model.provider.map_or_else(|| "dify".to_owned(), |p| p.as_str().to_owned()),
        model_id: model.model_id.clone(),
        base_url: model.base_url.clone(),
        headers,
        sealed_key: model.api_key.as_ref().and_then(|key| sealed_value(key, visible)),
        context_window: model.context_window,
        max_output_tokens: model.max_output_tokens,
        trusted: model.owner == Owner::Public,
    }
}

fn mcp_server(server: &ResolvedMcpServer, visible: &Visible) -> Value {
    let mut value = serde_json::to_value(&server.server).unwrap_or_default();
    for (field, secrets) in [("headers", &server.secret_headers), ("env", &server.secret_env)] {
        for (name, sealed) in sealed_values(secrets, visible) {
            if value[field].is_null() {
                value[field] = json!({});
            }
            value[field][name] = sealed.into();
        }
    }
    value
}

fn sealed_values(
    secrets: &BTreeMap<String, SecretRef>,
    visible: &Visible,
) -> BTreeMap<String, String> {
    let sealed =
        |(name, at): (&String, &SecretRef)| Some((name.clone(), sealed_value(at, visible)?));
    secrets.iter().filter_map(sealed).collect()
}

fn sealed_value(at: &SecretRef, visible: &Visible) -> Option<String> {
    let key = Key::new(at.resource.kind, &at.resource.name);
    let sealed = visible.secrets(&at.owner, &key)?.get(&at.path)?;
    Some(sealed_at(sealed, &seal_path(&at.owner, at.resource.kind, &at.resource.name, &at.path)))
}
