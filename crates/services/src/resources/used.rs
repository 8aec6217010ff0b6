//! Who refers to a resource, as far as the caller sees them.

use troupe_api::{
    Problem,
    resource::{ResourceUser, UsedBy},
};
use troupe_domain::namespace::{Item, Key};
use troupe_entities::namespace::Listed;
use troupe_resources::{Kind, public, references, resource::DEFAULT_NAMESPACE};

use super::{
    live::{LiveResources, PUBLIC_NAMESPACE},
    problems::namespace_problem,
};
use crate::caller::Caller;

impl LiveResources {
    pub(super) async fn users_of(
        &self,
        caller: &Caller,
        namespace: &str,
        (kind, name): (Kind, &str),
    ) -> Result<UsedBy, Problem> {
        // Also says that there is none, as a read does.
        self.read_one(caller, namespace, (kind, name), None).await?;
        let key = Key::new(kind, name);
        let own = self.all_of(caller, DEFAULT_NAMESPACE).await?;
        // The caller's own one of the name stands before the public one.
        let hidden = own.items.iter().any(|(there, _)| *there == key);
        if namespace == DEFAULT_NAMESPACE && hidden {
            return Ok(UsedBy { used_by: users(&own, DEFAULT_NAMESPACE, &[key]) });
        }
        let public = self.all_of(caller, PUBLIC_NAMESPACE).await?;
        let by_namespace = Key::new(kind, format!("{PUBLIC_NAMESPACE}/{name}"));
        let meant = if hidden { vec![by_namespace] } else { vec![key.clone(), by_namespace] };
        let mut used_by = users(&own, DEFAULT_NAMESPACE, &meant);
        used_by.extend(users(&public, PUBLIC_NAMESPACE, std::slice::from_ref(&key)));
        used_by.extend(shipped_users(&public, &key));
        Ok(UsedBy { used_by })
    }

    async fn all_of(&self, caller: &Caller, namespace: &str) -> Result<Listed, Problem> {
        let place = Self::place(caller, namespace, false)?;
        self.address(&place).list(None).await.map_err(|e| namespace_problem(&e, &[]))
    }
}

/// Those of a Namespace with a reference that is written as one of `meant`.
fn users(of: &Listed, namespace: &str, meant: &[Key]) -> Vec<ResourceUser> {
    let user = |(key, item): &(Key, Item)| {
        let targets = item.references.iter().filter(|target| meant.contains(&target.key));
        user(key, namespace, targets.map(|target| target.path.clone()).collect())
    };
    of.items.iter().filter_map(user).collect()
}

/// Those that every node brings along, but for the ones that were applied over.
fn shipped_users(public: &Listed, meant: &Key) -> Vec<ResourceUser> {
    let shipped = public::all().iter().filter_map(|resource| {
        let key = Key::new(resource.kind, &resource.metadata.name);
        if public.items.iter().any(|(there, _)| *there == key) {
            return None;
        }
        let found = references(resource).into_iter();
        let meant = found.filter(|r| r.kind == meant.kind && r.name == meant.name);
        user(&key, PUBLIC_NAMESPACE, meant.map(|reference| reference.path).collect())
    });
    shipped.collect()
}

/// `None` if it refers nowhere.
fn user(key: &Key, namespace: &str, paths: Vec<String>) -> Option<ResourceUser> {
    let (kind, name) = (key.kind.to_string(), key.name.clone());
    (!paths.is_empty()).then(|| ResourceUser { kind, name, namespace: namespace.to_owned(), paths })
}
