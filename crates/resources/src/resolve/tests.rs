use std::sync::Arc;

use troupe_types::UserId;

use super::*;
use crate::{
    lookup::ResourceSet,
    parse::{ParseOptions, parse_bytes},
    public,
    resource::Resource,
    spec::{CollaborationModel, Provider, ShellType},
};

fn user(name: &str) -> UserId {
    UserId::derived(&[name])
}

/// What Ada sees.
fn ada() -> ResourceSet {
    ResourceSet::new(Caller(user("ada")))
}

fn add(set: &mut ResourceSet, owner: &Owner, text: &str) -> Vec<Arc<Resource>> {
    let parsed = parse_bytes(text.as_bytes(), &ParseOptions::default());
    assert!(!parsed.has_errors(), "{:?}", parsed.problems);
    let added: Vec<_> =
        parsed.documents.into_iter().map(|document| Arc::new(document.resource)).collect();
    added.iter().for_each(|resource| set.insert(owner.clone(), Arc::clone(resource)));
    added
}

fn public_team(name: &str) -> Found {
    let resource = Arc::clone(public::get(Kind::Team, name).unwrap());
    Found { owner: Owner::Public, resource }
}

fn resolve(set: &ResourceSet, team: &Found) -> Result<ResolvedTeam, ResolveError> {
    resolve_team(set, set.caller(), team, &ResolveOptions::default())
}

const CLAUDE: &str = "{kind: Model, metadata: {name: mine}, spec: {modelConfig: {env: {model: claude, \
    model_id: opus, api_key: sk-0123456789abcdefwxyz, custom_headers: {X-Api-Key: abc, X-Team: core}}}}}";

#[test]
fn public_teams_run_on_the_demo_model_until_there_is_another() {
    let mut set = ada();
    let team = resolve(&set, &public_team("plan-then-build")).unwrap();
    assert_eq!(team.collaboration_model, CollaborationModel::Pipeline);
    assert_eq!((team.max_rounds, team.max_concurrent_tasks, team.leader), (4, 10, 0));
    assert!(team.members[0].require_confirmation && !team.members[1].require_confirmation);
    for member in &team.members {
        let model = member.model.as_ref().unwrap();
        assert_eq!((model.provider, model.owner.clone()), (Some(Provider::Demo), Owner::Public));
        assert_eq!(member.shell.shell_type, ShellType::Chat);
    }
    add(&mut set, &Owner::User(user("ada")), CLAUDE);
    let team = resolve(&set, &public_team("assistant")).unwrap();
    let model = team.members[0].model.as_ref().unwrap();
    assert_eq!((model.name.as_str(), model.protocol.as_str()), ("mine", "claude"));
    assert_eq!(model.context_window, 128_000);
}

#[test]
fn a_device_runtime_brings_its_own_model() {
    let mut set = ada();
    add(&mut set, &Owner::User(user("ada")), CLAUDE);
    let team = resolve(&set, &public_team("dev-team")).unwrap();
    assert_eq!((team.members[0].model.as_ref(), team.requires_workspace), (None, true));
    assert_eq!(team.members[0].on.as_ref().unwrap().to_string(), "tool=claude");
}

#[test]
fn a_plan_holds_no_secret_and_says_where_they_are() {
    let mut set = ada();
    let owner = Owner::User(user("ada"));
    let added = add(
        &mut set,
        &owner,
        &format!(
            "{CLAUDE}\n---\n{{kind: Ghost, metadata: {{name: g}}, spec: {{systemPrompt: x, skills: [s], \
             mcpServers: {{issues: {{url: 'https://a', headers: {{Authorization: 'Bearer topsecret00000000', \
             X-Team: core}}}}}}}}}}\n---\n\
             {{kind: Skill, metadata: {{name: s}}, spec: {{description: d, bindShells: [Chat]}}}}\n---\n\
             {{kind: Bot, metadata: {{name: b}}, spec: {{ghostRef: {{name: g}}, shellRef: {{name: Chat}}, \
             modelRef: {{name: mine}}}}}}\n---\n\
             {{kind: Team, metadata: {{name: t}}, spec: {{collaborationModel: solo, members: [{{botRef: {{name: b}}}}]}}}}"
        ),
    );
    let team = Found { owner: owner.clone(), resource: Arc::clone(added.last().unwrap()) };
    let plan = resolve(&set, &team).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert!(
        !text.contains("topsecret") && !text.contains("0123456789") && !text.contains("***"),
        "{text}"
    );
    let member = &plan.members[0];
    let model = member.model.as_ref().unwrap();
    assert_eq!(model.api_key.as_ref().unwrap().path, "spec.modelConfig.env.api_key");
    assert_eq!(model.api_key.as_ref().unwrap().owner, owner);
    assert_eq!(model.headers, [("X-Team".to_owned(), "core".to_owned())].into());
    assert!(model.secret_headers.contains_key("X-Api-Key"));
    let issues = &member.mcp_servers["issues"];
    assert_eq!(
        issues.secret_headers["Authorization"].path,
        "spec.mcpServers.issues.headers.Authorization"
    );
    assert_eq!(member.skills[0].name, "s");
    assert_eq!(serde_json::from_str::<ResolvedTeam>(&text).unwrap(), plan);
}

#[test]
fn the_hash_is_of_the_content() {
    let set = ada();
    let plan = resolve(&set, &public_team("assistant")).unwrap();
    let mut other = plan.clone();
    assert_eq!((plan.content_hash().len(), plan.content_hash()), (64, other.content_hash()));
    other.members[0].prompt.push('x');
    assert_ne!(plan.content_hash(), other.content_hash());
}

#[test]
fn nobodys_own_bot_slips_into_a_public_team() {
    let mut set = ada();
    let own = "{kind: Ghost, metadata: {name: assistant}, spec: {systemPrompt: evil}}\n---\n\
        {kind: Bot, metadata: {name: assistant}, spec: {ghostRef: {name: assistant}, shellRef: {name: Chat}}}";
    add(&mut set, &Owner::User(user("ada")), own);
    let plan = resolve(&set, &public_team("assistant")).unwrap();
    assert_ne!(plan.members[0].system_prompt, "evil");
}

#[test]
fn a_shared_team_uses_its_owners_bots() {
    let mut set = ada();
    let bob = Owner::User(user("bob"));
    let bot = |prompt: &str| {
        format!(
            "{{kind: Ghost, metadata: {{name: g}}, spec: {{systemPrompt: {prompt}}}}}\n---\n\
             {{kind: Bot, metadata: {{name: b}}, spec: {{ghostRef: {{name: g}}, shellRef: {{name: Chat}}}}}}\n---\n\
             {{kind: Team, metadata: {{name: t}}, spec: {{collaborationModel: solo, members: [{{botRef: {{name: b}}}}]}}}}"
        )
    };
    let team = add(&mut set, &bob, &bot("bobs")).pop().unwrap();
    add(&mut set, &Owner::User(user("ada")), &bot("adas"));
    let plan = resolve(&set, &Found { owner: bob, resource: team }).unwrap();
    assert_eq!(plan.members[0].system_prompt, "bobs");
}

#[test]
fn groups_are_for_members() {
    let mut set = ada();
    let group = Owner::Group("research".into());
    let team = add(
        &mut set,
        &group,
        "{kind: Ghost, metadata: {name: g, namespace: research}, spec: {systemPrompt: x}}\n---\n\
         {kind: Bot, metadata: {name: b, namespace: research}, spec: {ghostRef: {name: g, namespace: research}, \
         shellRef: {name: Chat, namespace: research}}}\n---\n\
         {kind: Team, metadata: {name: t, namespace: research}, spec: {collaborationModel: solo, \
         members: [{botRef: {name: b, namespace: research}}]}}",
    )
    .pop()
    .unwrap();
    let team = Found { owner: group, resource: team };
    let Err(ResolveError::Missing { missing, path, .. }) = resolve(&set, &team) else {
        panic!("Ada is no member");
    };
    assert_eq!(
        (missing.to_string().as_str(), path.as_str()),
        ("Bot research/b", "spec.members[0].botRef.name")
    );
    set.join("research");
    // The Shell is found among the public ones.
    assert_eq!(resolve(&set, &team).unwrap().members[0].system_prompt, "x");
}

#[test]
fn the_tasks_choice() {
    let mut set = ada();
    let owner = Owner::User(user("ada"));
    let added = add(
        &mut set,
        &owner,
        "{kind: Model, metadata: {name: m1}, spec: {modelConfig: {env: {model: openai, model_id: a}}}}\n---\n\
         {kind: Model, metadata: {name: m2, labels: {default: 'true'}}, spec: {modelConfig: {env: {model: openai, model_id: b}}, apiFormat: responses}}\n---\n\
         {kind: Model, metadata: {name: emb}, spec: {modelType: embedding, modelConfig: {env: {model: openai, model_id: e}}}}\n---\n\
         {kind: Bot, metadata: {name: fixed}, spec: {ghostRef: {name: assistant}, shellRef: {name: Chat}, modelRef: {name: m1}}}\n---\n\
         {kind: Bot, metadata: {name: open}, spec: {ghostRef: {name: assistant}, shellRef: {name: Chat}}}\n---\n\
         {kind: Team, metadata: {name: t}, spec: {collaborationModel: coordinate, \
         members: [{botRef: {name: fixed}}, {botRef: {name: open}, role: leader}, {botRef: {name: open}}]}}",
    );
    let team = Found { owner, resource: Arc::clone(added.last().unwrap()) };
    let models = |options: &ResolveOptions| {
        let plan = resolve_team(&set, set.caller(), &team, options)?;
        let names = plan.members.iter().map(|member| member.model.as_ref().unwrap().name.clone());
        Ok::<_, ResolveError>(names.collect::<Vec<_>>())
    };
    let choice = |name: &str, force_model| {
        let model = Some(NameRef { name: name.into(), namespace: "default".into() });
        ResolveOptions { model, force_model }
    };
    assert_eq!(models(&ResolveOptions::default()).unwrap(), ["m1", "m2", "m2"]);
    assert_eq!(models(&choice("demo", false)).unwrap(), ["m1", "demo", "demo"]);
    assert_eq!(models(&choice("demo", true)).unwrap(), ["demo", "demo", "demo"]);
    assert!(matches!(models(&choice("emb", true)), Err(ResolveError::ModelType { .. })));
    assert!(matches!(models(&choice("none", false)), Err(ResolveError::Missing { .. })));
    let plan = resolve(&set, &team).unwrap();
    let names: Vec<&str> = plan.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!((names, plan.leader), (vec!["fixed", "open", "open-2"], 1));
    assert_eq!(plan.members[1].model.as_ref().unwrap().protocol, "openai-responses");
}

#[test]
fn a_shell_may_refuse_a_model() {
    let mut set = ada();
    let owner = Owner::User(user("ada"));
    let added = add(
        &mut set,
        &owner,
        "{kind: Bot, metadata: {name: b}, spec: {ghostRef: {name: assistant}, shellRef: {name: ClaudeCode}, \
         modelRef: {name: demo}}}\n---\n\
         {kind: Team, metadata: {name: t}, spec: {collaborationModel: solo, members: [{botRef: {name: b}}]}}",
    );
    let team = Found { owner, resource: Arc::clone(added.last().unwrap()) };
    let Err(ResolveError::ModelNotSupported { by, path, provider, allowed, .. }) =
        resolve(&set, &team)
    else {
        panic!("ClaudeCode takes no demo");
    };
    assert_eq!((provider.as_str(), allowed), ("demo", vec!["claude".to_owned()]));
    assert_eq!((by.to_string().as_str(), path.as_str()), ("Bot default/b", "spec.modelRef.name"));
}

#[test]
fn a_bound_skill_is_on_in_every_team_of_the_person() {
    let mut set = ada();
    let own = Owner::User(user("ada"));
    add(
        &mut set,
        &own,
        "{kind: Skill, metadata: {name: tables}, spec: {description: d, prompt: p, bindShells: [Chat]}}
---
{kind: Skill, metadata: {name: for-devices}, spec: {description: d}}
---
{kind: SkillBinding, metadata: {name: one}, spec: {skillRef: {name: tables}, preload: true}}
---
{kind: SkillBinding, metadata: {name: again}, spec: {skillRef: {name: tables}}}
---
{kind: SkillBinding, metadata: {name: other-shell}, spec: {skillRef: {name: for-devices}}}",
    );
    let skills = |set: &ResourceSet| -> Vec<(String, bool)> {
        let team = resolve(set, &public_team("assistant")).unwrap();
        let skills = team.members[0].skills.iter();
        skills.map(|skill| (skill.name.clone(), skill.preload)).collect()
    };
    // Once, and what one of two wants from the start is there from the start.
    assert_eq!(skills(&set), [("tables".to_owned(), true)]);
    let off = "{kind: SkillBinding, metadata: {name: one}, spec: {skillRef: {name: tables}, enabled: false}}";
    add(&mut set, &own, off);
    assert_eq!(skills(&set), [("tables".to_owned(), false)]);
    // A Ghost names it already.
    add(
        &mut set,
        &own,
        "{kind: Ghost, metadata: {name: g}, spec: {systemPrompt: x, skills: [tables]}}
---
{kind: SkillBinding, metadata: {name: again}, spec: {skillRef: {name: tables}, preload: true}}
---
{kind: Bot, metadata: {name: b}, spec: {ghostRef: {name: g}, shellRef: {name: Chat}}}",
    );
    let team = "{kind: Team, metadata: {name: t}, spec: {collaborationModel: solo, members: [{botRef: {name: b}}]}}";
    let resource = add(&mut set, &own, team).remove(0);
    let mine = resolve(&set, &Found { owner: own.clone(), resource }).unwrap();
    assert_eq!((mine.members[0].skills.len(), mine.members[0].skills[0].preload), (1, true));
    // Nobody else's.
    let mut other = ada();
    let bob = Owner::User(user("bob"));
    add(&mut other, &bob, "{kind: SkillBinding, metadata: {name: x}, spec: {skillRef: {name: y}}}");
    assert_eq!(skills(&other), []);
    // Of an administrator for all; and one that leads nowhere is left out.
    let all = "{kind: Skill, metadata: {name: s}, spec: {description: d, bindShells: [Chat]}}
---
{kind: SkillBinding, metadata: {name: s}, spec: {skillRef: {name: s}}}
---
{kind: SkillBinding, metadata: {name: x}, spec: {skillRef: {name: gone}}}";
    add(&mut other, &Owner::Public, all);
    assert_eq!(skills(&other), [("s".to_owned(), false)]);
}
