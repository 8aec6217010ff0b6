//! What a resource refers to: checked when it is written, and asked when another one is deleted.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    kind::Kind,
    path::{join, push_index},
    resource::{DEFAULT_NAMESPACE, Resource, ResourceKey},
};

/// One resource names another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// What is named.
    pub kind: Kind,
    /// The namespace that is searched.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it is named, as `spec.members[1].botRef`.
    pub path: String,
}

impl Reference {
    /// What is named, as a key.
    #[must_use]
    pub fn key(&self) -> ResourceKey {
        ResourceKey { kind: self.kind, namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

/// Every reference of a resource, in the order of its fields.
///
/// A knowledge base that is named by its id is not among them: ids are given by the system and
/// looked up where they are used.
#[must_use]
pub fn references(resource: &Resource) -> Vec<Reference> {
    let mut found = Finder { resource, found: Vec::new() };
    let spec = &resource.spec;
    match resource.kind {
        Kind::Ghost => found.ghost(spec),
        Kind::Bot => {
            found.named(Kind::Ghost, spec, "ghostRef");
            found.named(Kind::Shell, spec, "shellRef");
            found.named(Kind::Model, spec, "modelRef");
            found.named(Kind::Model, spec, "secondaryModelRef");
        }
        Kind::Shell => {
            if let Some(name) = spec["baseShellRef"].as_str() {
                found.push(Kind::Shell, DEFAULT_NAMESPACE, name, "spec.baseShellRef".to_owned());
            }
        }
        Kind::Team => {
            for (index, member) in items(spec, "members") {
                found.named_at(Kind::Bot, &member["botRef"], join(&at("members", index), "botRef"));
            }
        }
        Kind::Task => found.task(spec),
        Kind::KnowledgeBase => found.knowledge_base(spec),
        Kind::Subscription => {
            found.named(Kind::Team, spec, "teamRef");
            found.named(Kind::Workspace, spec, "workspaceRef");
            found.named(Kind::Model, spec, "modelRef");
            found.knowledge_list(spec, "knowledgeBaseRefs");
            for (index, skill) in items(spec, "skillRefs") {
                if skill.get("skill_id").is_none() {
                    found.named_at(Kind::Skill, skill, at("skillRefs", index));
                }
            }
        }
        Kind::Template => found.template(spec),
        Kind::SkillBinding => found.named(Kind::Skill, spec, "skillRef"),
        Kind::Model | Kind::Skill | Kind::Workspace | Kind::Device | Kind::Retriever => {}
    }
    found.found
}

fn at(field: &str, index: usize) -> String {
    let mut path = format!("spec.{field}");
    push_index(&mut path, index);
    path
}

fn items<'v>(spec: &'v Value, field: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    spec[field].as_array().map_or(&[][..], Vec::as_slice).iter().enumerate()
}

struct Finder<'r> {
    resource: &'r Resource,
    found: Vec<Reference>,
}

impl Finder<'_> {
    fn push(&mut self, kind: Kind, namespace: &str, name: &str, path: String) {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.found.push(Reference { kind, namespace, name, path });
    }

    /// `{name, namespace}` in a field of the spec.
    fn named(&mut self, kind: Kind, spec: &Value, field: &str) {
        self.named_at(kind, &spec[field], format!("spec.{field}"));
    }

    fn named_at(&mut self, kind: Kind, reference: &Value, path: String) {
        if let Some(name) = reference["name"].as_str() {
            let namespace = reference["namespace"].as_str().unwrap_or(DEFAULT_NAMESPACE);
            self.push(kind, namespace, name, path);
        }
    }

    fn ghost(&mut self, spec: &Value) {
        for (field, pins) in [("skills", "skill_refs"), ("preload_skills", "preload_skill_refs")] {
            for (index, skill) in items(spec, field) {
                let Some(name) = skill.as_str() else { continue };
                let known = field == "preload_skills" && has_text(&spec["skills"], name);
                if !known {
                    let namespace = self.skill_namespace(&spec[pins], name);
                    self.push(Kind::Skill, &namespace, name, at(field, index));
                }
            }
        }
        self.knowledge_list(spec, "defaultKnowledgeBaseRefs");
    }

    /// Where a Skill is pinned to, else beside the Ghost.
    fn skill_namespace(&self, pins: &Value, name: &str) -> String {
        let pinned = pins[name]["namespace"].as_str();
        pinned.unwrap_or(&self.resource.metadata.namespace).to_owned()
    }

    fn knowledge_list(&mut self, spec: &Value, field: &str) {
        for (index, reference) in items(spec, field) {
            if let (None, Some(name)) = (reference.get("id"), reference["name"].as_str()) {
                let beside = self.resource.metadata.namespace.clone();
                let namespace = reference["namespace"].as_str().unwrap_or(&beside).to_owned();
                self.push(Kind::KnowledgeBase, &namespace, name, at(field, index));
            }
        }
    }

    /// What its specs name and it does not hold itself.
    fn template(&mut self, spec: &Value) {
        for (kind, field) in crate::template::BUNDLES {
            for (name, inner) in spec[field].as_object().into_iter().flatten() {
                let part = crate::template::part(self.resource, kind, name, inner);
                let at = join(&format!("spec.{field}"), name);
                for mut reference in references(&part) {
                    if !crate::template::holds(spec, &reference) {
                        reference.path = reference.path.replacen("spec", &at, 1);
                        self.found.push(reference);
                    }
                }
            }
        }
    }

    fn task(&mut self, spec: &Value) {
        self.named(Kind::Team, spec, "teamRef");
        self.named(Kind::Workspace, spec, "workspaceRef");
        self.knowledge_list(spec, "knowledgeBaseRefs");
        self.knowledge_list(spec, "knowledgeBaseScopes");
    }

    fn knowledge_base(&mut self, spec: &Value) {
        let retrieval = &spec["retrievalConfig"];
        for (kind, part, name, namespace, path) in [
            (
                Kind::Retriever,
                retrieval,
                "retriever_name",
                "retriever_namespace",
                "spec.retrievalConfig.retriever_name",
            ),
            (
                Kind::Model,
                &retrieval["embedding_config"],
                "model_name",
                "model_namespace",
                "spec.retrievalConfig.embedding_config",
            ),
        ] {
            if let Some(name) = part[name].as_str() {
                let namespace = part[namespace].as_str().unwrap_or(DEFAULT_NAMESPACE);
                self.push(kind, namespace, name, path.to_owned());
            }
        }
        self.named(Kind::Model, spec, "summaryModelRef");
    }
}

fn has_text(list: &Value, text: &str) -> bool {
    list.as_array().is_some_and(|items| items.iter().any(|item| item == text))
}
