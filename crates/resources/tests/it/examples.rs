//! One valid document of each kind, as the contract writes them, in our own values.

use troupe_resources::{
    Code, Kind, ParseOptions, Parsed, Problem, Resource, explain, parse_bytes,
    spec::{
        Auth, CollaborationModel, ContextPassing, IndexMode, Provider, RetrievalMode, ShellType,
        StorageType, TriggerType,
    },
    take_secrets,
};

const EXAMPLES: &str = include_str!("examples.yaml");

/// All but what is kept and not used yet.
fn wrong(parsed: &Parsed) -> Vec<&Problem> {
    parsed.problems.iter().filter(|problem| problem.code != Code::NoEffect).collect()
}

fn examples() -> Vec<Resource> {
    let parsed = parse_bytes(EXAMPLES.as_bytes(), &ParseOptions::default());
    assert_eq!(wrong(&parsed), Vec::<&Problem>::new());
    parsed.documents.into_iter().map(|document| document.resource).collect()
}

fn example(kind: Kind) -> Resource {
    examples().into_iter().find(|resource| resource.kind == kind).unwrap()
}

#[test]
fn every_kind_is_there_without_a_problem() {
    let mut kinds: Vec<Kind> = examples().iter().map(|resource| resource.kind).collect();
    kinds.dedup();
    assert_eq!(kinds, Kind::ALL);
}

#[test]
fn typed_access_gives_what_was_written() {
    let ghost = example(Kind::Ghost).ghost().unwrap();
    assert_eq!(ghost.mcp_servers["tickets"].headers["X-Team"], "billing");
    let model = example(Kind::Model).model().unwrap();
    assert_eq!(model.model_config.env.provider, Some(Provider::Claude));
    assert_eq!(model.model_config.context_window, Some(180_000));
    let shell = example(Kind::Shell).shell().unwrap();
    assert_eq!((shell.shell_type, shell.needs_workspace()), (ShellType::ClaudeCode, true));
    assert_eq!(example(Kind::Bot).bot().unwrap().ghost_ref.namespace, "default");
    let team = example(Kind::Team).team().unwrap();
    assert_eq!(team.collaboration_model, CollaborationModel::Pipeline);
    assert_eq!(team.members[0].context_passing, ContextPassing::OriginalAndPrevious);
    assert_eq!((team.max_rounds, team.max_concurrent_tasks, team.leader()), (4, 10, 0));
    assert_eq!(example(Kind::Skill).skill().unwrap().version.as_deref(), Some("0.9.1"));
    let workspace = example(Kind::Workspace).workspace().unwrap().repository.unwrap();
    assert_eq!(workspace.git_repo_id, Some(12));
    let task = example(Kind::Task);
    assert_eq!(task.task().unwrap().current_stage, 0);
    assert_eq!(task.task_status().unwrap().progress, 0);
    assert!(example(Kind::Device).device().unwrap().is_default);
    let knowledge = example(Kind::KnowledgeBase).knowledge_base().unwrap();
    assert_eq!(knowledge.retrieval_config.unwrap().retrieval_mode, RetrievalMode::Hybrid);
    let retriever = example(Kind::Retriever).retriever().unwrap();
    assert_eq!(retriever.storage_config.storage, StorageType::Elasticsearch);
    assert_eq!(retriever.storage_config.index_strategy.unwrap().mode, IndexMode::PerDataset);
    let subscription = example(Kind::Subscription).subscription().unwrap();
    assert_eq!(subscription.trigger.kind, TriggerType::Cron);
    assert_eq!(subscription.timeout_seconds, 1200);
    let template = example(Kind::Template).template().unwrap();
    assert_eq!(template.bots["standup"].ghost_ref.name, "standup");
    let binding = example(Kind::SkillBinding).skill_binding().unwrap();
    assert_eq!(
        (binding.skill_ref.name.as_str(), binding.preload, binding.enabled),
        ("table-maker", true, true)
    );
}

#[test]
fn what_was_added_to_the_contract_is_accepted() {
    let text = "
{kind: Model, metadata: {name: d}, spec: {modelConfig: {env: {model: demo}}}}
---
{kind: Shell, metadata: {name: codex}, spec: {shellType: Codex}}
---
{kind: Shell, metadata: {name: acp}, spec: {shellType: ACP}}
---
{kind: Shell, metadata: {name: cmd}, spec: {runtime: Command}}
---
{kind: Team, metadata: {name: t}, spec: {collaborationModel: collaborate, maxConcurrentTasks: 3, maxRounds: 2,
  members: [{botRef: {name: a}, on: 'os=linux, tool=claude>=2, label:gpu'}, {botRef: {name: a}}]}}
---
{kind: Device, metadata: {name: d}, spec: {deviceId: d, connectionMode: quic}}
---
{kind: Retriever, metadata: {name: r}, spec: {storageConfig: {type: embedded}}}
---
{kind: Ghost, metadata: {name: g}, spec: {systemPrompt: x, mcpServers: {a: {type: http, url: 'http://a'}, b: {command: b}}}}
";
    let parsed = parse_bytes(text.as_bytes(), &ParseOptions::default());
    assert_eq!(wrong(&parsed), Vec::<&Problem>::new());
    let ghost = &parsed.documents.last().unwrap().resource;
    assert_eq!(ghost.spec["mcpServers"]["a"]["type"], "streamable-http");
    assert_eq!(ghost.spec["mcpServers"]["b"]["type"], "stdio");
    assert_eq!(parsed.documents[3].resource.spec["shellType"], "Command");
}

#[test]
fn old_spellings_are_replaced() {
    let text = "{kind: Model, metadata: {name: m}, spec: {contextWindow: 9000, modelConfig: {env: {
        ANTHROPIC_MODEL: sonnet, ANTHROPIC_AUTH_TOKEN: a-long-secret-token-1234, ANTHROPIC_BASE_URL: 'https://a'}}}}";
    let parsed = parse_bytes(text.as_bytes(), &ParseOptions::default());
    assert_eq!(parsed.problems, []);
    let mut resource = parsed.documents[0].resource.clone();
    let spec = resource.model().unwrap();
    assert_eq!(spec.model_config.context_window, Some(9000));
    assert_eq!(spec.model_config.env.provider, Some(Provider::Claude));
    assert_eq!(spec.model_config.env.model_id.as_deref(), Some("sonnet"));
    assert_eq!(spec.model_config.env.auth, Some(Auth::Bearer));
    let taken = take_secrets(&mut resource);
    assert_eq!(taken.secrets[0].0, "spec.modelConfig.env.api_key");
}

#[test]
fn unknown_fields_may_be_warnings() {
    let text =
        "{kind: Ghost, metadata: {name: g, owner: me}, spec: {systemPrompt: x, colour: red}}";
    assert!(parse_bytes(text.as_bytes(), &ParseOptions::default()).has_errors());
    let options = ParseOptions { ignore_unknown: true, ..ParseOptions::default() };
    let (documents, warnings) = parse_bytes(text.as_bytes(), &options).into_result().unwrap();
    assert_eq!(warnings.len(), 2);
    assert_eq!(documents[0].resource.spec.get("colour"), None);
}

#[test]
fn the_namespace_may_come_from_outside() {
    let text = "{kind: Ghost, metadata: {name: g}, spec: {systemPrompt: x}}\n---\n\
                {kind: Ghost, metadata: {name: g, namespace: own}, spec: {systemPrompt: x}}";
    let options = ParseOptions { namespace: "team/a".into(), ..ParseOptions::default() };
    let parsed = parse_bytes(text.as_bytes(), &options);
    let namespaces: Vec<&str> = parsed
        .documents
        .iter()
        .map(|document| document.resource.metadata.namespace.as_str())
        .collect();
    assert_eq!(namespaces, ["team/a", "own"]);
}

#[test]
fn a_printed_list_can_be_applied() {
    let items: Vec<_> = examples().iter().map(|r| serde_json::to_value(r).unwrap()).collect();
    let list =
        serde_json::json!({"apiVersion": "agent.wecode.io/v1", "kind": "List", "items": items});
    let parsed = parse_bytes(list.to_string().as_bytes(), &ParseOptions::default());
    assert_eq!(wrong(&parsed), Vec::<&Problem>::new());
    let again: Vec<Resource> = parsed.documents.into_iter().map(|d| d.resource).collect();
    assert_eq!(again, examples());
}

#[test]
fn a_place_can_be_asked_later() {
    let parsed = parse_bytes(
        b"kind: Bot\nmetadata: {name: b}\nspec:\n  ghostRef: {name: g}\n  shellRef:\n    name: Chat\n",
        &ParseOptions::default(),
    );
    let document = &parsed.documents[0];
    let references = troupe_resources::references(&document.resource);
    let lines: Vec<u32> =
        references.iter().map(|reference| document.position(&reference.path).line).collect();
    assert_eq!(lines, [4, 5]);
    let problem = document.problem("spec.shellRef.name", Code::NotFound, "gone");
    assert_eq!((problem.at.line, problem.at.column), (6, 5));
}

#[test]
fn explaining_reads_well() {
    let text = explain("team.spec.members.on").unwrap().to_string();
    assert!(text.starts_with("team.spec.members.on <device selector>"), "{text}");
}
