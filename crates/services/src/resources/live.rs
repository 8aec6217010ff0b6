//! The declarative API over Namespace entities.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_api::{
    Problem,
    auth::UserRole,
    resource::{ApplyAnswer, UsedBy, WatchItem},
};
use troupe_domain::namespace::{Apply, Change, Key, Precondition};
use troupe_entities::namespace::{NamespaceAddress, WatchEvent};
use troupe_llm::Sealer;
use troupe_resources::{
    Kind,
    resource::{DEFAULT_NAMESPACE, Owner},
};
use troupe_sharding::Router;
use troupe_store::Blobs;
use troupe_types::{NamespaceId, Seq};

use super::{
    ApplyOptions, Removal, Resources, SkillPackage, SkillUpload,
    documents::{outside, parse_kind, parse_version},
    labels::LabelSelector,
    problems::namespace_problem,
    visible::Kept,
};
use crate::caller::Caller;

/// The namespace that administrators write public resources in.
pub const PUBLIC_NAMESPACE: &str = "public";

/// The declarative API.
#[derive(Clone, Debug)]
pub struct LiveResources {
    router: Router,
    pub(super) sealer: Arc<Sealer>,
    pub(super) kept: Arc<Kept>,
    pub(super) blobs: Arc<dyn Blobs>,
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
    /// Over the entities behind `router`; packages of Skills are kept in `blobs`.
    #[must_use]
    pub fn new(router: Router, sealer: Arc<Sealer>, blobs: Arc<dyn Blobs>) -> Self {
        Self { router, sealer, kept: Arc::default(), blobs }
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
}

#[async_trait]
impl Resources for LiveResources {
    async fn apply(
        &self,
        caller: &Caller,
        body: &[u8],
        options: ApplyOptions,
    ) -> Result<ApplyAnswer, Problem> {
        self.apply_all(caller, body, options, None).await
    }

    async fn instantiate(
        &self,
        caller: &Caller,
        namespace: &str,
        (kind, name): (&str, &str),
        dry_run: bool,
    ) -> Result<ApplyAnswer, Problem> {
        self.make_own(caller, namespace, (parse_kind(kind)?, name), dry_run).await
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
        min_version: Option<Seq>,
    ) -> Result<Value, Problem> {
        self.read_one(caller, namespace, (parse_kind(kind)?, name), min_version).await
    }

    async fn list(
        &self,
        caller: &Caller,
        namespace: Option<&str>,
        kind: &str,
        selector: Option<&str>,
        min_version: Option<Seq>,
    ) -> Result<Value, Problem> {
        self.read_all(caller, namespace, parse_kind(kind)?, selector, min_version).await
    }

    async fn used_by(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<UsedBy, Problem> {
        self.users_of(caller, namespace, (parse_kind(kind)?, name)).await
    }

    async fn delete(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
        removal: Removal<'_>,
    ) -> Result<Seq, Problem> {
        let kind = parse_kind(kind)?;
        let place = Self::place(caller, namespace, true)?;
        let Removal { if_version, purge } = removal;
        let only_if = match if_version {
            // What is to go for good may be deleted already.
            None if purge => Precondition::Any,
            None => Precondition::Present,
            Some(text) => Precondition::Version(parse_version("resourceVersion", text)?),
        };
        let changes = vec![Change::Delete { key: Key::new(kind, name), only_if, purge }];
        let apply = Apply { changes, ..Apply::default() };
        self.write(&place, apply, &[]).await.map(|(_, version)| version)
    }

    async fn delete_many(
        &self,
        caller: &Caller,
        body: &[u8],
        options: ApplyOptions,
    ) -> Result<ApplyAnswer, Problem> {
        self.delete_all(caller, body, options).await
    }

    async fn deleted(&self, caller: &Caller, namespace: &str) -> Result<Value, Problem> {
        self.deleted_in(caller, namespace).await
    }

    async fn restore(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<Value, Problem> {
        self.bring_back(caller, namespace, (parse_kind(kind)?, name)).await
    }

    async fn watch(
        &self,
        caller: &Caller,
        namespace: &str,
        since: &str,
        selector: Option<&str>,
    ) -> Result<Vec<WatchItem>, Problem> {
        let place = Self::place(caller, namespace, false)?;
        let since = parse_version("since", since)?;
        let selector = selector.map(LabelSelector::parse).transpose()?;
        let (events, version) =
            self.address(&place).watch(since).await.map_err(|e| namespace_problem(&e, &[]))?;
        if events.is_empty() {
            let (kind, resource_version) = ("BOOKMARK".into(), version.0);
            return Ok(vec![WatchItem { kind, resource: Value::Null, resource_version }]);
        }
        let told = |event| watch_item(event, &place, selector.as_ref());
        Ok(events.into_iter().map(told).collect())
    }

    async fn upload_skill(&self, caller: &Caller, upload: SkillUpload) -> Result<Value, Problem> {
        self.put_package(caller, upload).await
    }

    async fn skill(&self, caller: &Caller, id: &str) -> Result<Value, Problem> {
        self.skill_of(caller, id).await
    }

    async fn skill_package(&self, caller: &Caller, id: &str) -> Result<SkillPackage, Problem> {
        self.package_of(caller, id).await
    }

    async fn delete_skill(&self, caller: &Caller, id: &str) -> Result<Seq, Problem> {
        self.delete_by_id(caller, id).await
    }

    fn explain(&self, kind: &str, path: Option<&str>) -> Result<Value, Problem> {
        super::problems::explain(parse_kind(kind)?, path)
    }

    fn schema(&self, kind: &str) -> Result<Value, Problem> {
        Ok(troupe_resources::json_schema::json_schema(parse_kind(kind)?))
    }
}

fn watch_item(event: WatchEvent, place: &Place, selector: Option<&LabelSelector>) -> WatchItem {
    let WatchEvent { key, item, version } = event;
    let there = item.map(|item| outside(&item, &place.owner));
    let chosen = there.filter(|resource| selector.is_none_or(|s| s.chooses(resource)));
    let kind = if chosen.is_some() { "PUT" } else { "DELETE" };
    let gone = || {
        json!({
            "apiVersion": "agent.wecode.io/v1",
            "kind": key.kind,
            "metadata": {"name": key.name, "namespace": place.name},
        })
    };
    let resource = chosen.unwrap_or_else(gone);
    WatchItem { kind: kind.into(), resource, resource_version: version.0 }
}
