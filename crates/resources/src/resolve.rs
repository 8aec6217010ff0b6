//! A Team as one turn uses it: everything looked up once, so that replay and every attempt use
//! the same, whatever the resources become meanwhile.
//!
//! Invariant: a [`ResolvedTeam`] holds no secret, only where secrets are ([`SecretRef`]).

mod model;
mod plan;

use std::collections::BTreeMap;

use thiserror::Error;

pub use plan::{
    DifyPlan, ResolvedMcpServer, ResolvedMember, ResolvedModel, ResolvedShell, ResolvedSkill,
    ResolvedTeam, SecretRef,
};

use crate::{
    kind::Kind,
    lookup::{Caller, Found, Lookup, find},
    path::join,
    resource::{Owner, ResourceKey, SpecError},
    secret,
    spec::{GhostSpec, McpServer, Member, NameRef, SkillRef},
};

/// The `path` of what no document names: the Task's own choice of a Model.
pub const CHOICE: &str = "force_override_bot_model";

/// What a Task says about the models of its Team.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolveOptions {
    /// The Task's choice, as the caller names it: for Bots that name no Model.
    pub model: Option<NameRef>,
    /// Whether the choice also replaces the Models of Bots that name one.
    pub force_model: bool,
}

/// A Team cannot be used as it is.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// A reference leads nowhere, or to something that the caller may not see.
    #[error("{by} names {missing} at {path}, which does not exist or is not visible")]
    Missing {
        /// Who names it.
        by: Box<ResourceKey>,
        /// What is named.
        missing: Box<ResourceKey>,
        /// Where, as `spec.members[1].botRef.name`, or [`CHOICE`].
        path: String,
    },
    /// The Shell does not accept Models of this provider.
    #[error("{shell} of {by} does not accept {model} of the provider {provider}")]
    ModelNotSupported {
        /// Whose Model and Shell they are.
        by: Box<ResourceKey>,
        /// Where the Model is named, as in `Missing`.
        path: String,
        /// The Shell.
        shell: Box<ResourceKey>,
        /// The Model.
        model: Box<ResourceKey>,
        /// Its provider.
        provider: String,
        /// What the Shell accepts.
        allowed: Vec<String>,
    },
    /// The Model does something else than writing text.
    #[error("{model} of {by} does not write text, it is for {model_type}")]
    ModelType {
        /// Whose Model it is.
        by: Box<ResourceKey>,
        /// Where it is named, as in `Missing`.
        path: String,
        /// The Model.
        model: Box<ResourceKey>,
        /// What it is for.
        model_type: String,
    },
    /// A Team without members.
    #[error("{team} has no members")]
    NoMembers {
        /// The Team.
        team: Box<ResourceKey>,
    },
    /// Something was stored without a check.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// Looks up everything that a turn of this Team uses.
///
/// References are followed as their own resource means them: what a shared Team of somebody
/// else names is looked for among that owner's resources.
///
/// # Errors
/// If anything that is named does not exist, or does not fit together.
pub fn resolve_team(
    lookup: &dyn Lookup,
    caller: Caller,
    team: &Found,
    options: &ResolveOptions,
) -> Result<ResolvedTeam, ResolveError> {
    let resolver = Resolver { lookup, caller, options };
    let spec = team.resource.team()?;
    if spec.members.is_empty() {
        return Err(ResolveError::NoMembers { team: team.resource.key().into() });
    }
    let mut names = Names::default();
    let mut members = Vec::with_capacity(spec.members.len());
    for (index, member) in (0_u32..).zip(&spec.members) {
        let mut resolved = resolver.member(team, index, member)?;
        resolved.name = names.unique(&resolved.bot);
        members.push(resolved);
    }
    let needs_workspace = members.iter().any(|member| member.shell.requires_workspace);
    let metadata = &team.resource.metadata;
    Ok(ResolvedTeam {
        owner: team.owner.clone(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        display_name: metadata.shown_name().to_owned(),
        collaboration_model: spec.collaboration_model,
        max_rounds: spec.max_rounds.max(1),
        max_concurrent_tasks: spec.max_concurrent_tasks.max(1),
        requires_workspace: spec.requires_workspace.unwrap_or(needs_workspace),
        leader: u32::try_from(spec.leader()).unwrap_or(0),
        members,
    })
}

/// Gives each member a name of its own, because the leader chooses members by name.
#[derive(Default)]
struct Names(BTreeMap<String, u32>);

impl Names {
    fn unique(&mut self, name: &str) -> String {
        let mut candidate = name.to_owned();
        while self.0.contains_key(&candidate) {
            let count = self.0.entry(name.to_owned()).or_insert(1);
            *count += 1;
            candidate = format!("{name}-{count}");
        }
        self.0.insert(candidate.clone(), 1);
        candidate
    }
}

struct Resolver<'a> {
    lookup: &'a dyn Lookup,
    caller: Caller,
    options: &'a ResolveOptions,
}

impl Resolver<'_> {
    fn find(
        &self,
        from: &Found,
        kind: Kind,
        (namespace, name): (&str, &str),
        path: &str,
    ) -> Result<Found, ResolveError> {
        find(self.lookup, self.caller, &from.owner, kind, namespace, name).ok_or_else(|| {
            ResolveError::Missing {
                by: from.resource.key().into(),
                missing: Box::new(ResourceKey {
                    kind,
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                }),
                path: path.to_owned(),
            }
        })
    }

    fn named(
        &self,
        from: &Found,
        kind: Kind,
        reference: &NameRef,
        path: &str,
    ) -> Result<Found, ResolveError> {
        self.find(from, kind, (&reference.namespace, &reference.name), path)
    }

    fn member(
        &self,
        team: &Found,
        index: u32,
        member: &Member,
    ) -> Result<ResolvedMember, ResolveError> {
        let path = format!("spec.members[{index}].botRef.name");
        let bot = self.named(team, Kind::Bot, &member.bot_ref, &path)?;
        let spec = bot.resource.bot()?;
        let ghost = self.named(&bot, Kind::Ghost, &spec.ghost_ref, "spec.ghostRef.name")?;
        let shell_found = self.named(&bot, Kind::Shell, &spec.shell_ref, "spec.shellRef.name")?;
        let shell = self.shell(&shell_found)?;
        let model = self.model(&bot, spec.model_ref.as_ref(), &shell_found)?;
        let persona = ghost.resource.ghost()?;
        let metadata = &bot.resource.metadata;
        Ok(ResolvedMember {
            index,
            name: metadata.name.clone(),
            display_name: metadata.shown_name().to_owned(),
            bot: metadata.name.clone(),
            bot_namespace: metadata.namespace.clone(),
            role: member.role,
            prompt: member.prompt.clone(),
            require_confirmation: member.require_confirmation,
            context_passing: member.context_passing,
            on: member.on.clone(),
            system_prompt: persona.system_prompt.clone(),
            mcp_servers: mcp_servers(&ghost, &persona.mcp_servers),
            skills: self.skills(team, &ghost, &persona, &shell)?,
            knowledge_bases: persona.default_knowledge_base_refs.clone(),
            shell,
            model,
        })
    }

    fn shell(&self, found: &Found) -> Result<ResolvedShell, ResolveError> {
        let spec = found.resource.shell()?;
        let base_image = match (&spec.base_image, &spec.base_shell_ref) {
            (Some(image), _) => Some(image.clone()),
            (None, Some(base)) => self
                .lookup
                .get(&Owner::Public, Kind::Shell, base)
                .and_then(|base| base.shell().ok()?.base_image),
            (None, None) => None,
        };
        Ok(ResolvedShell {
            namespace: found.resource.metadata.namespace.clone(),
            name: found.resource.metadata.name.clone(),
            shell_type: spec.shell_type,
            base_image,
            requires_workspace: spec.needs_workspace(),
        })
    }

    /// The Ghost's Skills that work in this Shell, each once; then those that are on by default
    /// for the caller, for all, and for the group whose Team it is.
    fn skills(
        &self,
        team: &Found,
        ghost: &Found,
        persona: &GhostSpec,
        shell: &ResolvedShell,
    ) -> Result<Vec<ResolvedSkill>, ResolveError> {
        let mut skills: Vec<ResolvedSkill> = Vec::new();
        let lists = [
            (&persona.skills, &persona.skill_refs, "spec.skills"),
            (&persona.preload_skills, &persona.preload_skill_refs, "spec.preload_skills"),
        ];
        for (names, pins, path) in lists {
            for (index, name) in names.iter().enumerate() {
                if skills.iter().any(|skill| skill.name == *name) {
                    continue;
                }
                let path = format!("{path}[{index}]");
                let found = self.skill(ghost, name, pins.get(name), &path)?;
                let preload = persona.preload_skills.contains(name);
                skills.extend(resolved_skill(&found, name, preload, shell)?);
            }
        }
        self.bound_skills(team, shell, &mut skills)?;
        Ok(skills)
    }

    /// One that leads nowhere is left out: no document of the Team names it.
    fn bound_skills(
        &self,
        team: &Found,
        shell: &ResolvedShell,
        skills: &mut Vec<ResolvedSkill>,
    ) -> Result<(), ResolveError> {
        let group = matches!(team.owner, Owner::Group(_)).then(|| team.owner.clone());
        for owner in [Owner::User(self.caller.0), Owner::Public].into_iter().chain(group) {
            for binding in self.lookup.skill_bindings(&owner) {
                let spec = binding.resource.skill_binding()?;
                let (namespace, name) = (&spec.skill_ref.namespace, &spec.skill_ref.name);
                if !spec.enabled {
                    continue;
                }
                if let Some(there) = skills.iter_mut().find(|skill| skill.name == *name) {
                    there.preload |= spec.preload;
                    continue;
                }
                let (of, kind) = (&binding.owner, Kind::Skill);
                if let Some(found) = find(self.lookup, self.caller, of, kind, namespace, name) {
                    skills.extend(resolved_skill(&found, name, spec.preload, shell)?);
                }
            }
        }
        Ok(())
    }

    fn skill(
        &self,
        ghost: &Found,
        name: &str,
        pin: Option<&SkillRef>,
        path: &str,
    ) -> Result<Found, ResolveError> {
        let beside = ghost.resource.metadata.namespace.as_str();
        match pin {
            Some(pin) if pin.is_public => {
                let public = Found { owner: Owner::Public, resource: ghost.resource.clone() };
                self.find(&public, Kind::Skill, (&pin.namespace, name), path)
            }
            Some(pin) => self.find(ghost, Kind::Skill, (&pin.namespace, name), path),
            None => self.find(ghost, Kind::Skill, (beside, name), path),
        }
    }
}

/// A Skill as a turn uses it; nothing if it does not work in this Shell.
fn resolved_skill(
    found: &Found,
    name: &str,
    preload: bool,
    shell: &ResolvedShell,
) -> Result<Option<ResolvedSkill>, ResolveError> {
    let spec = found.resource.skill()?;
    if !spec.bind_shells.contains(&shell.shell_type) {
        return Ok(None);
    }
    let servers = spec.mcp_servers.as_ref();
    Ok(Some(ResolvedSkill {
        mcp_servers: servers.map(|servers| mcp_servers(found, servers)).unwrap_or_default(),
        owner: found.owner.clone(),
        namespace: found.resource.metadata.namespace.clone(),
        name: name.to_owned(),
        description: spec.description,
        preload,
        prompt: spec.prompt,
        version: spec.version,
        package_hash: found.resource.skill_status()?.file_hash,
    }))
}

/// Takes the secrets out of a mapping: what is left, and where each secret is.
fn split_secrets(
    found: &Found,
    masks: &BTreeMap<String, String>,
    path: &str,
    entries: &BTreeMap<String, String>,
) -> (BTreeMap<String, String>, BTreeMap<String, SecretRef>) {
    let (mut plain, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    for (key, value) in entries {
        let path = join(path, key);
        if masks.contains_key(&path) {
            secrets.insert(key.clone(), secret_ref(found, path));
        } else {
            plain.insert(key.clone(), value.clone());
        }
    }
    (plain, secrets)
}

fn secret_ref(found: &Found, path: String) -> SecretRef {
    SecretRef { owner: found.owner.clone(), resource: found.resource.key(), path }
}

fn mcp_servers(
    found: &Found,
    servers: &BTreeMap<String, McpServer>,
) -> BTreeMap<String, ResolvedMcpServer> {
    let masks = secret::masks(&found.resource);
    let resolve = |(name, server): (&String, &McpServer)| {
        let path = join("spec.mcpServers", name);
        let (headers, secret_headers) =
            split_secrets(found, &masks, &join(&path, "headers"), &server.headers);
        let (env, secret_env) = split_secrets(found, &masks, &join(&path, "env"), &server.env);
        let server = McpServer { headers, env, ..server.clone() };
        let owner = found.owner.clone();
        (name.clone(), ResolvedMcpServer { owner, server, secret_headers, secret_env })
    };
    servers.iter().map(resolve).collect()
}

#[cfg(test)]
mod tests;
