//! The resources that everybody has: shells, the `demo` model, and five teams to begin with.
//!
//! They are ordinary documents, read and checked like anybody's; a test shows that they hold
//! no problem and that every reference leads somewhere. Their Bots name no Model.

use std::sync::{Arc, LazyLock};

use crate::{
    kind::Kind,
    parse::{ParseOptions, Source, parse},
    resource::Resource,
    syntax::Format,
};

/// The files: name and text.
pub const FILES: [(&str, &str); 7] = [
    ("shells.yaml", include_str!("../public/shells.yaml")),
    ("models.yaml", include_str!("../public/models.yaml")),
    ("assistant.yaml", include_str!("../public/assistant.yaml")),
    ("translator.yaml", include_str!("../public/translator.yaml")),
    ("plan-then-build.yaml", include_str!("../public/plan-then-build.yaml")),
    ("dev-team.yaml", include_str!("../public/dev-team.yaml")),
    ("command.yaml", include_str!("../public/command.yaml")),
];

/// Name of the scripted Model that needs no key.
pub const DEMO_MODEL: &str = "demo";

static ALL: LazyLock<Vec<Arc<Resource>>> = LazyLock::new(|| {
    let sources =
        FILES.map(|(name, text)| Source { name, bytes: text.as_bytes(), format: Format::Yaml });
    let (documents, _) = parse(&sources, &ParseOptions::default())
        .into_result()
        .expect("the public resources are checked by a test");
    documents.into_iter().map(|document| Arc::new(document.resource)).collect()
});

/// All of them.
#[must_use]
pub fn all() -> &'static [Arc<Resource>] {
    &ALL
}

/// One of them.
#[must_use]
pub fn get(kind: Kind, name: &str) -> Option<&'static Arc<Resource>> {
    ALL.iter().find(|resource| resource.kind == kind && resource.metadata.name == name)
}
