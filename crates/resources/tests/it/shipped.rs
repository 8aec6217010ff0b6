//! The public resources are ordinary documents without a problem.

use std::sync::Arc;

use troupe_resources::{
    Caller, Format, Found, Kind, Owner, ParseOptions, ResolveOptions, ResourceSet, Source, find,
    parse, public, references, resolve_team,
    spec::{CollaborationModel, Provider, ShellType},
    to_yaml_documents,
};
use troupe_types::UserId;

fn set() -> ResourceSet {
    ResourceSet::new(Caller(UserId::derived(&["anybody"])))
}

#[test]
fn there_is_no_problem_with_them() {
    for (name, text) in public::FILES {
        let source = Source { name, bytes: text.as_bytes(), format: Format::Yaml };
        assert_eq!(parse(&[source], &ParseOptions::default()).problems, []);
    }
}

#[test]
fn every_reference_leads_to_a_public_one() {
    let set = set();
    for resource in public::all() {
        assert_eq!(resource.metadata.namespace, "default");
        for reference in references(resource) {
            let found = find(
                &set,
                set.caller(),
                &Owner::Public,
                reference.kind,
                &reference.namespace,
                &reference.name,
            );
            let found = found.unwrap_or_else(|| panic!("{} {reference:?}", resource.key()));
            assert_eq!(found.owner, Owner::Public);
        }
    }
}

#[test]
fn they_are_the_ones_that_are_promised() {
    for shell in ["Chat", "ClaudeCode", "Codex", "Agno", "Command", "Dify"] {
        assert!(public::get(Kind::Shell, shell).is_some(), "{shell}");
    }
    let demo = public::get(Kind::Model, public::DEMO_MODEL).unwrap();
    assert_eq!(demo.model().unwrap().model_config.env.provider, Some(Provider::Demo));
    assert!(demo.metadata.shown_name().contains("Demo"));
    for (team, model, shell, members) in [
        ("assistant", CollaborationModel::Solo, ShellType::Chat, 1),
        ("translator", CollaborationModel::Solo, ShellType::Chat, 1),
        ("plan-then-build", CollaborationModel::Pipeline, ShellType::Chat, 2),
        ("dev-team", CollaborationModel::Solo, ShellType::ClaudeCode, 1),
        ("command", CollaborationModel::Solo, ShellType::Command, 1),
    ] {
        let set = set();
        let found = Found {
            owner: Owner::Public,
            resource: Arc::clone(public::get(Kind::Team, team).unwrap()),
        };
        let plan = resolve_team(&set, set.caller(), &found, &ResolveOptions::default()).unwrap();
        assert_eq!((plan.collaboration_model, plan.members.len()), (model, members));
        assert!(plan.members.iter().all(|member| member.shell.shell_type == shell));
    }
}

#[test]
fn printed_they_read_back() {
    let text = to_yaml_documents(public::all().iter().map(Arc::as_ref));
    let source = Source { name: "", bytes: text.as_bytes(), format: Format::Yaml };
    let parsed = parse(&[source], &ParseOptions::default());
    assert_eq!(parsed.problems, []);
    let again: Vec<_> = parsed.documents.into_iter().map(|document| document.resource).collect();
    let wanted: Vec<_> = public::all().iter().map(|resource| (**resource).clone()).collect();
    assert_eq!(again, wanted);
}
