//! The write path: documents become changes of a Namespace, all or nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use troupe_api::{
    Problem,
    resource::{ApplyAnswer, NamespaceVersion},
};
use troupe_domain::namespace::{Apply, Change, Fault, Key, Outcome, Precondition, Target};
use troupe_entities::namespace::{NamespaceError, NamespaceRefusal};
use troupe_resources::{
    Resource,
    parse::{Located, ParseOptions, Parsed, Refused, Source, parse},
    problem::Code,
    public,
    reference::references,
    resource::{DEFAULT_NAMESPACE, Owner},
    secret::take_secrets,
    syntax::Format,
};
use troupe_types::Seq;

use super::{
    ApplyOptions, Resources,
    documents::{by_namespace, internal, parse_kind, results, sealed_lookalikes, strip},
    live::{LiveResources, PUBLIC_NAMESPACE, Place, seal_path},
    problems::{fault_error, field_error, namespace_problem, rejected, rejected_with},
};
use crate::caller::Caller;

pub(super) type Warnings = Vec<troupe_resources::problem::Problem>;

/// Documents, and what is wrong in themselves.
struct Read {
    documents: Vec<Located>,
    warnings: Warnings,
    errors: Vec<troupe_resources::problem::Problem>,
    refused: Refused,
}

/// Whether what lacks its target has it once the documents that were refused are right.
fn mended_by(fault: &Fault, refused: &Refused) -> bool {
    let Fault::BrokenReference { target, .. } = fault else { return false };
    let name = target.key.name.rsplit_once('/').map_or(&*target.key.name, |(_, name)| name);
    refused.may_be(target.key.kind, name)
}

/// What public documents may be referred to, as of now.
#[derive(Debug, Default)]
pub(super) struct Shared(BTreeSet<Key>);

impl Shared {
    fn has(&self, key: &Key) -> bool {
        public::get(key.kind, &key.name).is_some() || self.0.contains(key)
    }
}

impl LiveResources {
    /// Reads documents with all that is wrong in themselves.
    fn documents(body: &[u8], options: &ApplyOptions, names_only: bool) -> Read {
        let parse_options = ParseOptions {
            ignore_unknown: options.ignore_unknown,
            namespace: options.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            names_only,
        };
        let source =
            Source { name: &options.file, bytes: body, format: Format::of_file(&options.file) };
        let Parsed { documents, problems, refused } = parse(&[source], &parse_options);
        let (mut errors, warnings): (Vec<_>, Vec<_>) =
            problems.into_iter().partition(troupe_resources::problem::Problem::is_error);
        for document in &documents {
            if let Some(wanted) = &options.namespace
                && document.resource.metadata.namespace != *wanted
            {
                let message = format!("this call writes namespace `{wanted}` alone");
                errors.push(document.problem("metadata.namespace", Code::Conflict, message));
            }
            errors.extend(sealed_lookalikes(&document.resource).iter().map(|path| {
                let message = "text that begins with `sealed:` is not allowed here";
                document.problem(path, Code::NotAllowed, message)
            }));
        }
        Read { documents, warnings, errors, refused }
    }

    pub(super) fn parse(
        body: &[u8],
        options: &ApplyOptions,
        names_only: bool,
    ) -> Result<(Vec<Located>, Warnings), Problem> {
        let Read { documents, warnings, errors, .. } = Self::documents(body, options, names_only);
        if errors.is_empty() { Ok((documents, warnings)) } else { Err(rejected(&errors)) }
    }

    /// What is wrong with documents of which some cannot be taken: also what the others lack.
    async fn all_faults(&self, caller: &Caller, read: Read) -> Problem {
        let mut problem = rejected(&read.errors);
        // Whoever may not write them is told what can be told without a look at what is there.
        for (place, documents) in places(caller, read.documents).unwrap_or_default() {
            let Ok(apply) = self.changes(caller, &place, &documents, None).await else { continue };
            let apply = Apply { dry_run: true, ..apply };
            let refused = self.address(&place).apply(apply).await;
            if let Err(NamespaceError::Refused(NamespaceRefusal::Faults { faults })) = refused {
                let told = faults.iter().filter(|fault| !mended_by(fault, &read.refused));
                problem.errors.extend(told.map(|fault| fault_error(fault, &documents)));
            }
        }
        problem.errors.sort_by_key(|error| (error.line, error.column));
        if let many @ 2.. = problem.errors.len() {
            problem.detail = format!("{many} errors in the documents; nothing was changed");
        }
        problem
    }

    /// The changes that documents of one Namespace ask for.
    async fn changes(
        &self,
        caller: &Caller,
        place: &Place,
        documents: &[Located],
        only_if: Option<Precondition>,
    ) -> Result<Apply, Problem> {
        let shared = self.shared(caller, place).await?;
        let mut apply = Apply::default();
        for document in documents {
            let (change, external) = self.put(place, &shared, document, only_if)?;
            apply.changes.push(change);
            apply.external.extend(external);
        }
        Ok(apply)
    }

    /// A wanted change of one document: secrets sealed, references found.
    pub(super) fn put(
        &self,
        place: &Place,
        shared: &Shared,
        located: &Located,
        only_if: Option<Precondition>,
    ) -> Result<(Change, BTreeSet<Key>), Problem> {
        let mut resource = located.resource.clone();
        let only_if = only_if.unwrap_or_else(|| {
            let version = resource.metadata.resource_version;
            version.map_or(Precondition::Any, |v| Precondition::Version(Seq(v)))
        });
        strip(&mut resource);
        let taken = take_secrets(&mut resource);
        let mut secrets = BTreeMap::new();
        for (path, secret) in &taken.secrets {
            let at = seal_path(&place.owner, resource.kind, &resource.metadata.name, path);
            let sealed = self.sealer.seal(&at, secret.expose()).map_err(|error| {
                tracing::error!(%error, "a secret could not be sealed");
                Problem::new(500, "internal", "a secret could not be sealed; see the node's log")
            })?;
            secrets.insert(path.clone(), sealed);
        }
        let (targets, external) = targets(place, shared, &resource);
        let document = serde_json::to_value(&resource).map_err(|_| internal())?;
        let change = Change::Put {
            key: Key::new(resource.kind, &resource.metadata.name),
            document,
            secrets,
            unchanged: taken.unchanged,
            references: targets,
            only_if,
        };
        Ok((change, external))
    }

    /// Public resources that the documents of this Namespace may refer to.
    pub(super) async fn shared(&self, caller: &Caller, place: &Place) -> Result<Shared, Problem> {
        if place.owner == Owner::Public {
            // They stand in the Namespace itself.
            return Ok(Shared::default());
        }
        let public = Self::place(caller, PUBLIC_NAMESPACE, false)?;
        Ok(Shared(self.listing(&public).await?.keys()))
    }

    pub(super) async fn write(
        &self,
        place: &Place,
        apply: Apply,
        documents: &[Located],
    ) -> Result<(Vec<Outcome>, Seq), Problem> {
        let answer = self.address(place).apply(apply).await;
        answer.map_err(|error| namespace_problem(&error, documents))
    }

    pub(super) async fn one(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        body: &[u8],
        name: Option<&str>,
    ) -> Result<Value, Problem> {
        let kind = parse_kind(kind)?;
        let place = Self::place(caller, namespace, true)?;
        let options =
            ApplyOptions { namespace: Some(namespace.to_owned()), ..ApplyOptions::default() };
        let (documents, _) = Self::parse(body, &options, false)?;
        let [document] = &documents[..] else {
            return Err(Problem::invalid("", "give exactly one document"));
        };
        let found = &document.resource;
        if found.kind != kind || name.is_some_and(|n| n != found.metadata.name) {
            let what = name.map_or_else(|| kind.to_string(), |n| format!("{kind} `{n}`"));
            let message = format!("the path names {what}, the document is {}", found.key());
            return Err(Problem::invalid("metadata.name", message));
        }
        let only_if = match name {
            None => Some(Precondition::Absent),
            Some(_) if found.metadata.resource_version.is_none() => Some(Precondition::Present),
            Some(_) => None,
        };
        let shared = self.shared(caller, &place).await?;
        let (change, external) = self.put(&place, &shared, document, only_if)?;
        let apply = Apply { changes: vec![change], external, dry_run: false };
        let (_, version) = self.write(&place, apply, &documents).await?;
        let name = &found.metadata.name;
        self.get(caller, namespace, kind.plural(), name, Some(version)).await
    }

    pub(super) async fn apply_all(
        &self,
        caller: &Caller,
        body: &[u8],
        options: ApplyOptions,
        only_if: Option<Precondition>,
    ) -> Result<ApplyAnswer, Problem> {
        let read = Self::documents(body, &options, false);
        if !read.errors.is_empty() {
            return Err(self.all_faults(caller, read).await);
        }
        let mut answer = ApplyAnswer {
            success: true,
            dry_run: options.dry_run,
            warnings: read.warnings.iter().map(field_error).collect(),
            ..ApplyAnswer::default()
        };
        for (place, documents) in places(caller, read.documents)? {
            let changes = self.changes(caller, &place, &documents, only_if).await;
            let changes = changes.map_err(|problem| rejected_with(problem, &answer.namespaces))?;
            let apply = Apply { dry_run: options.dry_run, ..changes };
            self.write_one(&place, apply, &documents, &mut answer).await?;
        }
        Ok(answer)
    }

    pub(super) async fn delete_all(
        &self,
        caller: &Caller,
        body: &[u8],
        options: ApplyOptions,
    ) -> Result<ApplyAnswer, Problem> {
        let (documents, _) = Self::parse(body, &options, true)?;
        let mut answer =
            ApplyAnswer { success: true, dry_run: options.dry_run, ..ApplyAnswer::default() };
        for (place, documents) in places(caller, documents)? {
            let delete = |d: &Located| Change::Delete {
                key: Key::new(d.resource.kind, &d.resource.metadata.name),
                only_if: Precondition::Present,
                purge: false,
            };
            let changes = documents.iter().map(delete).collect();
            let apply = Apply { changes, dry_run: options.dry_run, ..Apply::default() };
            self.write_one(&place, apply, &documents, &mut answer).await?;
        }
        Ok(answer)
    }

    /// Writes one Namespace of several, and tells of those before it if this one is refused.
    async fn write_one(
        &self,
        place: &Place,
        apply: Apply,
        documents: &[Located],
        answer: &mut ApplyAnswer,
    ) -> Result<(), Problem> {
        let written = self.write(place, apply, documents).await;
        let (outcomes, version) =
            written.map_err(|problem| rejected_with(problem, &answer.namespaces))?;
        answer.results.extend(results(outcomes, &place.name));
        let namespace = place.name.clone();
        answer.namespaces.push(NamespaceVersion { namespace, resource_version: version.0 });
        Ok(())
    }
}

/// Every Namespace is checked before the first one is written.
fn places(caller: &Caller, documents: Vec<Located>) -> Result<Vec<(Place, Vec<Located>)>, Problem> {
    let groups = by_namespace(documents).into_iter();
    groups
        .map(|(namespace, documents)| {
            Ok((LiveResources::place(caller, &namespace, true)?, documents))
        })
        .collect()
}

/// References inside the own Namespace are checked there; what is public counts as there.
pub(super) fn targets(
    place: &Place,
    shared: &Shared,
    resource: &Resource,
) -> (Vec<Target>, BTreeSet<Key>) {
    let mut external = BTreeSet::new();
    let mut targets = Vec::new();
    for reference in references(resource) {
        let key = Key::new(reference.kind, &reference.name);
        let own = reference.namespace == place.name || reference.namespace == DEFAULT_NAMESPACE;
        let is_shared = (own || reference.namespace == PUBLIC_NAMESPACE) && shared.has(&key);
        // A namespace that nobody of this caller's has cannot hold the target: it stays broken.
        let key = if own {
            key
        } else {
            Key::new(key.kind, format!("{}/{}", reference.namespace, key.name))
        };
        if is_shared {
            external.insert(key.clone());
        }
        targets.push(Target { key, path: reference.path });
    }
    (targets, external)
}
