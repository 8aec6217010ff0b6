//! What every document has around its spec.

use super::{
    Default, Field, Object, Type,
    common::{NAME, NAMESPACE, TIME, TITLE, choice, map, text},
};

/// The one value of `apiVersion`.
pub(crate) const API_VERSION: &str = "agent.wecode.io/v1";

const KINDS: &[&str] = &[
    "Ghost",
    "Model",
    "Shell",
    "Bot",
    "Team",
    "Skill",
    "Workspace",
    "Task",
    "Device",
    "KnowledgeBase",
    "Retriever",
    "Subscription",
    "Template",
    "SkillBinding",
];

const COUNTER: Type = Type::Int { min: 0, max: i64::MAX };

pub(super) static DOCUMENT: Object = Object::new(
    "Resource",
    "A resource: what it is, what it is called, what it shall be, how it is.",
    &[
        Field::new("apiVersion", choice(&[API_VERSION]), "Version of the document's form.")
            .or(Default::Text(API_VERSION)),
        Field::new("kind", choice(KINDS), "What it is.").required(),
        Field::new("metadata", Type::Free, "What it is called.").required(),
        Field::new("spec", Type::Free, "What it shall be; each kind has its own.").required(),
        Field::new("status", Type::Free, "How it is; written by the system."),
    ],
);

pub(crate) static METADATA: Object = Object::new(
    "Metadata",
    "What a resource is called.",
    &[
        Field::new(
            "name",
            NAME,
            "Unique for its owner, kind and namespace: letters, digits, `-`, `_` and `.`.",
        )
        .required(),
        Field::new(
            "namespace",
            NAMESPACE,
            "`default` is personal; anything else is a group, which may lie in another one.",
        )
        .or(Default::Text("default")),
        Field::new("displayName", TITLE, "Name for people."),
        Field::new("labels", map(&text(0, 4_000), 64), "Free labels; the system reads some."),
        Field::new(
            "resourceVersion",
            COUNTER,
            "Grows with each change of the namespace; a write with another one is refused.",
        ),
        Field::new("generation", COUNTER, "Grows with each change of the spec."),
        Field::new("uid", text(1, 100), "Given once, when the resource was made."),
        Field::new("createdAt", TIME, "When it was made."),
        Field::new("updatedAt", TIME, "When it was last changed."),
    ],
);

pub(super) const STATE: Field =
    Field::new("state", choice(&["Available", "Unavailable"]), "Whether it can be used.")
        .or(Default::Text("Available"));
pub(super) const MESSAGE: Field = Field::new("message", text(0, 10_000), "Why, for people.");

pub(super) static STATUS: Object = Object::new("Status", "How it is.", &[STATE, MESSAGE]);
