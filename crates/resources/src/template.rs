//! Templates: bundles of resources that a person makes their own.

use serde_json::Value;

use crate::{
    kind::Kind,
    reference::Reference,
    resource::{DEFAULT_NAMESPACE, Metadata, Resource, SpecError},
    schema::API_VERSION,
};

/// What a Template may hold, in the order in which it is made, and the field of the spec.
pub(crate) const BUNDLES: [(Kind, &str); 4] = [
    (Kind::Ghost, "ghosts"),
    (Kind::Bot, "bots"),
    (Kind::Team, "teams"),
    (Kind::Subscription, "subscriptions"),
];

/// A resource of a Template, where the Template is.
pub(crate) fn part(template: &Resource, kind: Kind, name: &str, spec: &Value) -> Resource {
    let namespace = template.metadata.namespace.clone();
    Resource {
        api_version: API_VERSION.to_owned(),
        kind,
        metadata: Metadata { name: name.to_owned(), namespace, ..Metadata::default() },
        spec: spec.clone(),
        status: Value::Null,
    }
}

/// Whether the Template with this spec makes what is named.
pub(crate) fn holds(spec: &Value, reference: &Reference) -> bool {
    let bundle = BUNDLES.iter().find(|(kind, _)| *kind == reference.kind);
    reference.namespace == DEFAULT_NAMESPACE
        && bundle.is_some_and(|(_, field)| spec[field].get(&reference.name).is_some())
}

/// The resources of a Template, as they are applied to the personal namespace. They know by
/// the label `template` what they were made from.
///
/// # Errors
/// If it is no Template, or was stored without a check.
pub fn instantiate(template: &Resource) -> Result<Vec<Resource>, SpecError> {
    template.template()?;
    let mut made = Vec::new();
    for (kind, field) in BUNDLES {
        for (name, spec) in template.spec[field].as_object().into_iter().flatten() {
            let mut resource = part(template, kind, name, spec);
            DEFAULT_NAMESPACE.clone_into(&mut resource.metadata.namespace);
            let labels = &mut resource.metadata.labels;
            labels.insert("template".to_owned(), template.metadata.name.clone());
            made.push(resource);
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        parse::{ParseOptions, parse_bytes},
        references,
    };

    fn template(text: &str) -> Resource {
        let parsed = parse_bytes(text.as_bytes(), &ParseOptions::default());
        assert!(!parsed.has_errors(), "{:?}", parsed.problems);
        parsed.documents.into_iter().next().unwrap().resource
    }

    #[test]
    fn what_is_made_is_valid_and_refers_to_what_is_made() {
        let template = template(
            "{kind: Template, metadata: {name: t, namespace: system}, spec: {
  ghosts: {soul: {systemPrompt: x, skills: [tables]}},
  bots: {one: {ghostRef: {name: soul}, shellRef: {name: Chat}, modelRef: {name: m, namespace: finance}},
         two: {ghostRef: {name: elsewhere}, shellRef: {name: Chat}}},
  teams: {pair: {collaborationModel: route, members: [{botRef: {name: one}}, {botRef: {name: two}}]}}}}",
        );
        let named: Vec<_> = references(&template)
            .iter()
            .map(|found| format!("{} at {}", found.key(), found.path))
            .collect();
        assert_eq!(
            named,
            [
                "Skill system/tables at spec.ghosts.soul.skills[0]",
                "Shell default/Chat at spec.bots.one.shellRef",
                "Model finance/m at spec.bots.one.modelRef",
                "Ghost default/elsewhere at spec.bots.two.ghostRef",
                "Shell default/Chat at spec.bots.two.shellRef",
            ]
        );
        let made = instantiate(&template).unwrap();
        let keys: Vec<_> = made.iter().map(|resource| resource.key().to_string()).collect();
        let wanted =
            ["Ghost default/soul", "Bot default/one", "Bot default/two", "Team default/pair"];
        assert_eq!(keys, wanted);
        assert!(made.iter().all(|resource| resource.label("template") == Some("t")));
        let printed = crate::to_yaml_documents(&made);
        let parsed = parse_bytes(printed.as_bytes(), &ParseOptions::default());
        assert!(!parsed.has_errors(), "{:?}", parsed.problems);
        assert!(instantiate(&made[0]).is_err());
    }
}
