//! What holds for every input.

use proptest::prelude::*;
use serde_json::Value;
use troupe_resources::{
    Code, Format, Kind, ParseOptions, Parsed, Resource, Source, json_schema, mask, parse,
    parse_bytes, put_secrets, references, spec, take_secrets, to_yaml,
};

use crate::any::any_document;

fn read(bytes: &[u8]) -> Parsed {
    parse_bytes(bytes, &ParseOptions::default())
}

/// Reads its spec as the type of its kind and writes it again.
fn through_type(resource: &Resource) -> Result<Value, spec_error::Error> {
    Ok(match resource.kind {
        Kind::Ghost => serde_json::to_value(resource.ghost()?)?,
        Kind::Model => serde_json::to_value(resource.model()?)?,
        Kind::Shell => serde_json::to_value(resource.shell()?)?,
        Kind::Bot => serde_json::to_value(resource.bot()?)?,
        Kind::Team => serde_json::to_value(resource.team()?)?,
        Kind::Skill => serde_json::to_value(resource.skill()?)?,
        Kind::Workspace => serde_json::to_value(resource.workspace()?)?,
        Kind::Task => serde_json::to_value(resource.task()?)?,
        Kind::Device => serde_json::to_value(resource.device()?)?,
        Kind::KnowledgeBase => serde_json::to_value(resource.knowledge_base()?)?,
        Kind::Retriever => serde_json::to_value(resource.retriever()?)?,
        Kind::Subscription => serde_json::to_value(resource.subscription()?)?,
        Kind::Template => serde_json::to_value(resource.template()?)?,
        Kind::SkillBinding => serde_json::to_value(resource.skill_binding()?)?,
    })
}

mod spec_error {
    pub(crate) type Error = Box<dyn std::error::Error>;
}

/// The same without what says nothing: empty containers, `1.0` beside `1`, spaces in selectors.
fn bare(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), bare(value)))
            .filter(|(_, value)| *value != serde_json::json!({}) && *value != serde_json::json!([]))
            .collect(),
        Value::Array(items) => items.iter().map(bare).collect(),
        Value::Number(number) => number.as_f64().into(),
        other => other.clone(),
    }
}

/// Codes that only rules between fields give.
fn is_rule(code: Code) -> bool {
    matches!(
        code,
        Code::Conflict | Code::MissingField | Code::NoEffect | Code::Unsupported | Code::TooShort
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes);
        for format in [Format::Yaml, Format::Json] {
            let source = Source { name: "x", bytes: &bytes, format };
            prop_assert!(parse(&[source], &ParseOptions::default()).documents.is_empty());
        }
    }

    #[test]
    fn text_that_looks_like_yaml_never_panics(
        text in "([a-z]{1,3}|[-:?,\\[\\]{}#&*!|>'\"%@`~<=. \n\t]|kind: (Team|Ghost)\n|---\n|  ){0,60}"
    ) {
        let parsed = read(text.as_bytes());
        for problem in &parsed.problems {
            prop_assert!(problem.at.line >= 1 && problem.at.column >= 1, "{problem:?}");
        }
    }

    #[test]
    fn what_the_tables_allow_is_accepted_typed_and_printed(document in any_document()) {
        let parsed = read(document.to_string().as_bytes());
        let by_tables: Vec<_> =
            parsed.problems.iter().filter(|problem| !is_rule(problem.code)).collect();
        prop_assert!(by_tables.is_empty(), "{by_tables:?}\n{document:#}");
        let Some(located) = parsed.documents.first() else { return Ok(()) };
        let resource = &located.resource;

        let typed = through_type(resource).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(bare(&typed), bare(&resource.spec));

        let yaml = to_yaml(resource);
        let again = read(yaml.as_bytes());
        prop_assert!(!again.has_errors(), "{:?}\n{yaml}", again.problems);
        prop_assert_eq!(&again.documents[0].resource, resource, "{}", yaml);
        let json = serde_json::to_vec(resource).unwrap();
        prop_assert_eq!(&read(&json).documents[0].resource, resource);

        let mut taken_from = resource.clone();
        let taken = take_secrets(&mut taken_from);
        prop_assert_eq!(&mask(resource), &taken_from);
        let left = put_secrets(
            &mut taken_from,
            taken.secrets.iter().map(|(path, secret)| (path.as_str(), secret)),
        );
        prop_assert!(left.is_empty());
        prop_assert_eq!(&taken_from, resource);

        for reference in references(resource) {
            prop_assert!(reference.path.starts_with("spec."));
        }
    }

    #[test]
    fn a_misspelt_field_is_told_where_it_stands(document in any_document(), pick in any::<prop::sample::Index>()) {
        let Some(spec) = document["spec"].as_object().filter(|spec| !spec.is_empty()) else {
            return Ok(());
        };
        let name = pick.get(&spec.keys().cloned().collect::<Vec<_>>()).clone();
        let mut wrong = document.clone();
        let value = wrong["spec"].as_object_mut().unwrap().remove(&name).unwrap();
        wrong["spec"][format!("{name}Zz")] = value;
        let parsed = read(wrong.to_string().as_bytes());
        let path = format!("spec.{name}Zz");
        let told = parsed.problems.iter().find(|problem| problem.path == path);
        prop_assert_eq!(told.map(|problem| problem.code), Some(Code::UnknownField));
        prop_assert!(parsed.documents.is_empty());
    }
}

#[test]
fn every_schema_is_stable_json() {
    for kind in Kind::ALL {
        let schema = json_schema(kind);
        assert_eq!(schema["title"], kind.name());
        assert!(schema.to_string().len() < 64 * 1024, "{kind}");
    }
}

#[test]
fn the_words_of_types_and_tables_agree() {
    assert_eq!(spec::ShellType::Acp.as_str(), "ACP");
    assert_eq!(spec::CollaborationModel::Coordinate.to_string(), "coordinate");
}
