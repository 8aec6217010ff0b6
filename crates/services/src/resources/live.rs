//! The declarative API over Namespace entities.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_api::{
    Problem,
    auth::UserRole,
    resource::{ApplyAnswer, ApplyResult, NamespaceVersion, WatchItem},
};
use troupe_domain::namespace::{
    Apply, Change, Item, Key, Operation, Outcome, Precondition, Target,
};
use troupe_entities::namespace::NamespaceAddress;
use troupe_llm::Sealer;
use troupe_resources::{
    Kind, Resource,
    parse::{Located, ParseOptions, Source, parse},
    public,
    reference::references,
    resource::{DEFAULT_NAMESPACE, Owner},
    secret::take_secrets,
    syntax::Format,
};
use troupe_sharding::Router;
use troupe_types::{NamespaceId, Seq};

use super::{
    ApplyOptions, Resources,
    labels::LabelSelector,
    problems::{namespace_problem, rejected, rejected_with},
    visible::Kept,
};
use crate::caller::Caller;

/// The namespace that administrators write public resources in.
pub const PUBLIC_NAMESPACE: &str = "public";

/// The declarative API.
#[derive(Clone, Debug)]
pub struct LiveResources {
    router: Router,
    sealer: Arc<Sealer>,
    pub(super) kept: Arc<Kept>,
}

/// A Namespace as a caller means it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) owner: Owner,
    /// As the caller calls it.
    pub(super) name: String,
    pub(super) id: NamespaceId,
}

/// The Namespace entity of an owner.
#[must_use]
pub fn namespace_id(owner: &Owner) -> NamespaceId {
    NamespaceId::derived(&[&owner.to_string()])
}

/// What is authenticated with a sealed secret, so that it opens only where it belongs.
#[must_use]
pub fn seal_path(owner: &Owner, kind: Kind, name: &str, path: &str) -> String {
    format!("{owner}/{kind}/{name}/{path}")
}

impl LiveResources {
    /// Over the entities behind `router`.
    #[must_use]
    pub fn new(router: Router, sealer: Arc<Sealer>) -> Self {
        Self { router, sealer, kept: Arc::default() }
    }

    pub(super) fn address(&self, place: &Place) -> NamespaceAddress {
        NamespaceAddress::new(self.router.clone(), place.id)
    }

    /// The one access check of Namespaces. Foreign is answered as unknown.
    pub(super) fn place(caller: &Caller, namespace: &str, write: bool) -> Result<Place, Problem> {
        let owner = match namespace {
            DEFAULT_NAMESPACE => Owner::User(caller.user),
            PUBLIC_NAMESPACE if write && caller.role != UserRole::Admin => {
                return Err(Problem::forbidden(
                    "only an administrator may write public resources; ask one, or use the \
                     namespace `default`",
                ));
            }
            PUBLIC_NAMESPACE => Owner::Public,
            _ => return Err(Problem::not_found("namespace")),
        };
        let id = namespace_id(&owner);
        Ok(Place { owner, name: namespace.to_owned(), id })
    }

    fn parse(body: &[u8], options: &ApplyOptions) -> Result<(Vec<Located>, Warnings), Problem> {
        let parse_options = ParseOptions {
            ignore_unknown: options.ignore_unknown,
            namespace: options.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        };
        let source = Source { name: &options.file, bytes: body, format: Format::Auto };
        let (documents, warnings) =
            parse(&[source], &parse_options).into_result().map_err(|r| rejected(&r.problems))?;
        if let Some(wanted) = &options.namespace
            && let Some(other) = documents.iter().find(|d| d.resource.metadata.namespace != *wanted)
        {
            let message = format!("this call writes namespace `{wanted}` alone");
            let code = troupe_resources::problem::Code::Conflict;
            return Err(rejected(&[other.problem("metadata.namespace", code, message)]));
        }
        Ok((documents, warnings))
    }

    /// A wanted change of one document: secrets sealed, references found.
    fn put(
        &self,
        place: &Place,
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
        let mut secrets = std::collections::BTreeMap::new();
        for (path, secret) in &taken.secrets {
            let at = seal_path(&place.owner, resource.kind, &resource.metadata.name, path);
            let sealed = self.sealer.seal(&at, secret.expose()).map_err(|error| {
                tracing::error!(%error, "a secret could not be sealed");
                Problem::new(500, "internal", "a secret could not be sealed; see the node's log")
            })?;
            secrets.insert(path.clone(), sealed);
        }
        let (targets, external) = targets(place, &resource);
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

    async fn write(
        &self,
        place: &Place,
        apply: Apply,
        documents: &[Located],
    ) -> Result<(Vec<Outcome>, Seq), Problem> {
        let answer = self.address(place).apply(apply).await;
        answer.map_err(|error| namespace_problem(&error, documents))
    }

    async fn one(
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
        let (documents, _) = Self::parse(body, &options)?;
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
        let (change, external) = self.put(&place, document, only_if)?;
        let apply = Apply { changes: vec![change], external, dry_run: false };
        self.write(&place, apply, &documents).await?;
        self.get(caller, namespace, kind.plural(), &found.metadata.name).await
    }

    /// What a caller sees of a kind in a Namespace, outside form.
    async fn items(&self, place: &Place, kind: Kind) -> Result<(Vec<Value>, Seq), Problem> {
        let listed =
            self.address(place).list(Some(kind)).await.map_err(|e| namespace_problem(&e, &[]))?;
        let mut items: Vec<Value> =
            listed.items.iter().map(|(_, item)| outside(item, &place.owner)).collect();
        if place.owner == Owner::Public {
            let named = |name: &str| listed.items.iter().any(|(key, _)| key.name == name);
            let shipped = public::all().iter().filter(|r| r.kind == kind);
            items.extend(shipped.filter(|r| !named(&r.metadata.name)).map(|r| shipped_outside(r)));
        }
        Ok((items, listed.version))
    }
}

type Warnings = Vec<troupe_resources::problem::Problem>;

/// What a document may say but the system decides.
fn strip(resource: &mut Resource) {
    let metadata = &mut resource.metadata;
    metadata.resource_version = None;
    metadata.generation = None;
    metadata.uid = None;
    metadata.created_at = None;
    metadata.updated_at = None;
    resource.status = Value::Null;
}

/// References inside the own Namespace are checked there; what is public counts as there.
fn targets(place: &Place, resource: &Resource) -> (Vec<Target>, BTreeSet<Key>) {
    let mut external = BTreeSet::new();
    let mut targets = Vec::new();
    for reference in references(resource) {
        let key = Key::new(reference.kind, &reference.name);
        if public::get(reference.kind, &reference.name).is_some() {
            external.insert(key.clone());
        }
        let own = reference.namespace == place.name || reference.namespace == DEFAULT_NAMESPACE;
        let path = reference.path;
        // A namespace that nobody of this caller's has cannot hold the target: it stays broken.
        let key = if own {
            key
        } else {
            Key::new(key.kind, format!("{}/{}", reference.namespace, key.name))
        };
        targets.push(Target { key, path });
    }
    (targets, external)
}

/// A stored resource as people read it.
fn outside(item: &Item, owner: &Owner) -> Value {
    let mut value = item.document.clone();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), json!(item.version));
        metadata.insert("generation".into(), json!(item.generation));
        metadata.insert("uid".into(), json!(item.uid));
        metadata.insert("createdAt".into(), json!(item.created_at));
        metadata.insert("updatedAt".into(), json!(item.updated_at));
        metadata.insert("owner".into(), json!(owner));
    }
    if value.get("status").is_none_or(Value::is_null) {
        value["status"] = json!({"state": "Available"});
    }
    value
}

fn shipped_outside(resource: &Resource) -> Value {
    let mut value = serde_json::to_value(resource).unwrap_or_default();
    value["metadata"]["owner"] = json!(Owner::Public);
    value["status"] = json!({"state": "Available"});
    value
}

fn parse_kind(kind: &str) -> Result<Kind, Problem> {
    kind.parse::<Kind>().map_err(|unknown| {
        let mut problem = Problem::new(404, "unknown_kind", unknown.to_string());
        if let Some(suggestion) = unknown.suggestion {
            problem.detail = format!("{}; did you mean `{suggestion}`?", problem.detail);
        }
        problem
    })
}

fn internal() -> Problem {
    Problem::new(500, "internal", "a document could not be encoded")
}

fn operation_word(operation: Operation) -> &'static str {
    match operation {
        Operation::Created => "created",
        Operation::Updated => "updated",
        Operation::Unchanged => "unchanged",
        Operation::Deleted => "deleted",
    }
}

/// Documents by Namespace, in the order of their first one.
fn by_namespace(documents: Vec<Located>) -> Vec<(String, Vec<Located>)> {
    let mut groups: Vec<(String, Vec<Located>)> = Vec::new();
    for document in documents {
        let namespace = document.resource.metadata.namespace.clone();
        match groups.iter_mut().find(|(name, _)| *name == namespace) {
            Some((_, group)) => group.push(document),
            None => groups.push((namespace, vec![document])),
        }
    }
    groups
}

#[async_trait]
impl Resources for LiveResources {
    async fn apply(
        &self,
        caller: &Caller,
        body: &[u8],
        options: ApplyOptions,
    ) -> Result<ApplyAnswer, Problem> {
        let (documents, warnings) = Self::parse(body, &options)?;
        let warnings = warnings.iter().map(super::problems::field_error).collect();
        let mut answer = ApplyAnswer {
            success: true,
            dry_run: options.dry_run,
            warnings,
            ..ApplyAnswer::default()
        };
        let groups = by_namespace(documents);
        // Every Namespace is checked before the first one is written.
        let places = groups
            .iter()
            .map(|(namespace, _)| Self::place(caller, namespace, true))
            .collect::<Result<Vec<_>, _>>()?;
        for ((namespace, documents), place) in groups.iter().zip(&places) {
            let mut apply = Apply { dry_run: options.dry_run, ..Apply::default() };
            for document in documents {
                let (change, external) = self.put(place, document, None)?;
                apply.changes.push(change);
                apply.external.extend(external);
            }
            let written = self.write(place, apply, documents).await;
            let (outcomes, version) =
                written.map_err(|problem| rejected_with(problem, &answer.namespaces))?;
            answer.results.extend(results(outcomes, namespace));
            let namespace = namespace.clone();
            answer.namespaces.push(NamespaceVersion { namespace, resource_version: version.0 });
        }
        Ok(answer)
    }

    async fn create(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<Value, Problem> {
        self.one(caller, namespace, kind, body, None).await
    }

    async fn replace(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
        body: &[u8],
    ) -> Result<Value, Problem> {
        self.one(caller, namespace, kind, body, Some(name)).await
    }

    async fn get(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<Value, Problem> {
        let kind = parse_kind(kind)?;
        let mut places = vec![Self::place(caller, namespace, false)?];
        if namespace == DEFAULT_NAMESPACE {
            places.push(Self::place(caller, PUBLIC_NAMESPACE, false)?);
        }
        for place in &places {
            let listed = self
                .address(place)
                .get(vec![Key::new(kind, name)])
                .await
                .map_err(|e| namespace_problem(&e, &[]))?;
            if let Some((_, item)) = listed.items.first() {
                return Ok(outside(item, &place.owner));
            }
        }
        let shipped = public::get(kind, name).map(|r| shipped_outside(r));
        shipped.ok_or_else(|| Problem::not_found(&format!("{kind} `{name}`")))
    }

    async fn list(
        &self,
        caller: &Caller,
        namespace: Option<&str>,
        kind: &str,
        selector: Option<&str>,
    ) -> Result<Value, Problem> {
        let kind = parse_kind(kind)?;
        let selector = selector.map(LabelSelector::parse).transpose()?;
        let namespaces = match namespace {
            Some(namespace) => vec![namespace],
            None => vec![DEFAULT_NAMESPACE, PUBLIC_NAMESPACE],
        };
        let (mut items, mut version) = (Vec::new(), Seq::ZERO);
        for namespace in namespaces {
            let place = Self::place(caller, namespace, false)?;
            let (found, at) = self.items(&place, kind).await?;
            items.extend(found);
            version = version.max(at);
        }
        if let Some(selector) = selector {
            items.retain(|item| {
                let labels = item["metadata"]["labels"].as_object();
                selector.matches(|key| labels?.get(key)?.as_str())
            });
        }
        Ok(json!({
            "apiVersion": "agent.wecode.io/v1",
            "kind": kind.list_name(),
            "metadata": {"resourceVersion": version},
            "items": items,
        }))
    }

    async fn delete(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
        if_version: Option<&str>,
    ) -> Result<(), Problem> {
        let kind = parse_kind(kind)?;
        let place = Self::place(caller, namespace, true)?;
        let only_if = match if_version {
            None => Precondition::Present,
            Some(text) => Precondition::Version(parse_version("resourceVersion", text)?),
        };
        let changes = vec![Change::Delete { key: Key::new(kind, name), only_if }];
        let apply = Apply { changes, ..Apply::default() };
        self.write(&place, apply, &[]).await.map(|_| ())
    }

    async fn delete_many(
        &self,
        caller: &Caller,
        body: &[u8],
        options: ApplyOptions,
    ) -> Result<ApplyAnswer, Problem> {
        let (documents, _) = Self::parse(body, &options)?;
        let mut answer =
            ApplyAnswer { success: true, dry_run: options.dry_run, ..ApplyAnswer::default() };
        let groups = by_namespace(documents);
        let places = groups
            .iter()
            .map(|(namespace, _)| Self::place(caller, namespace, true))
            .collect::<Result<Vec<_>, _>>()?;
        for ((namespace, documents), place) in groups.into_iter().zip(places) {
            let delete = |d: &Located| Change::Delete {
                key: Key::new(d.resource.kind, &d.resource.metadata.name),
                only_if: Precondition::Present,
            };
            let changes = documents.iter().map(delete).collect();
            let apply = Apply { changes, dry_run: options.dry_run, ..Apply::default() };
            let written = self.write(&place, apply, &documents).await;
            let (outcomes, version) =
                written.map_err(|problem| rejected_with(problem, &answer.namespaces))?;
            answer.results.extend(results(outcomes, &namespace));
            answer.namespaces.push(NamespaceVersion { namespace, resource_version: version.0 });
        }
        Ok(answer)
    }

    async fn watch(
        &self,
        caller: &Caller,
        namespace: &str,
        since: &str,
    ) -> Result<Vec<WatchItem>, Problem> {
        let place = Self::place(caller, namespace, false)?;
        let since = parse_version("since", since)?;
        let (events, version) =
            self.address(&place).watch(since).await.map_err(|e| namespace_problem(&e, &[]))?;
        let mut items: Vec<WatchItem> = events
            .into_iter()
            .map(|event| {
                let (kind, resource) = match &event.item {
                    Some(item) => ("PUT", outside(item, &place.owner)),
                    None => (
                        "DELETE",
                        json!({
                            "apiVersion": "agent.wecode.io/v1",
                            "kind": event.key.kind,
                            "metadata": {"name": event.key.name, "namespace": place.name},
                        }),
                    ),
                };
                WatchItem { kind: kind.into(), resource, resource_version: event.version.0 }
            })
            .collect();
        if items.is_empty() {
            items.push(WatchItem {
                kind: "BOOKMARK".into(),
                resource: Value::Null,
                resource_version: version.0,
            });
        }
        Ok(items)
    }

    fn explain(&self, kind: &str, path: Option<&str>) -> Result<Value, Problem> {
        super::problems::explain(parse_kind(kind)?, path)
    }

    fn schema(&self, kind: &str) -> Result<Value, Problem> {
        Ok(troupe_resources::json_schema::json_schema(parse_kind(kind)?))
    }
}

fn results(outcomes: Vec<Outcome>, namespace: &str) -> impl Iterator<Item = ApplyResult> {
    outcomes.into_iter().map(move |outcome| ApplyResult {
        kind: outcome.key.kind.to_string(),
        name: outcome.key.name,
        namespace: namespace.to_owned(),
        operation: operation_word(outcome.operation).to_owned(),
        success: true,
    })
}

fn parse_version(field: &str, text: &str) -> Result<Seq, Problem> {
    let parsed = text.trim_matches('"').parse().map(Seq);
    parsed.map_err(|_| Problem::invalid(field, "a resourceVersion is a whole number"))
}
