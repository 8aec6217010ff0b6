//! The resources that a caller's references may lead to, kept in memory by version.
//!
//! Every message resolves its Team, so a look at two Namespaces must be cheap: each is asked
//! for its version (a `Get` of nothing), and is listed again only if that is another one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use troupe_api::Problem;
use troupe_domain::namespace::Key;
use troupe_entities::namespace::NamespaceAddress;
use troupe_resources::{
    Resource,
    lookup::{self, ResourceSet},
    resource::{DEFAULT_NAMESPACE, Owner},
};
use troupe_types::{NamespaceId, Seq, UserId};

use super::{
    live::{LiveResources, PUBLIC_NAMESPACE, Place},
    problems::namespace_problem,
};
use crate::caller::Caller;

/// Namespaces, and callers, that are kept; beyond that all are forgotten.
const KEPT_MAX: usize = 1_000;

pub(super) type Sealed = BTreeMap<String, String>;

/// A Namespace at one version.
pub(super) struct Listing {
    version: Seq,
    resources: Vec<Arc<Resource>>,
    secrets: BTreeMap<Key, Sealed>,
}

impl Listing {
    pub(super) fn keys(&self) -> BTreeSet<Key> {
        self.resources.iter().map(|r| Key::new(r.kind, &r.metadata.name)).collect()
    }
}

/// Resources as one caller sees them, and the sealed secrets beside them.
pub(super) struct Visible {
    pub(super) set: ResourceSet,
    of: Vec<(Owner, Arc<Listing>)>,
}

impl Visible {
    /// The sealed secrets of a resource, by path.
    pub(super) fn secrets(&self, owner: &Owner, key: &Key) -> Option<&Sealed> {
        let (_, listing) = self.of.iter().find(|(of, _)| of == owner)?;
        listing.secrets.get(key)
    }

    fn is_made_of(&self, of: &[(Owner, Arc<Listing>)]) -> bool {
        self.of.len() == of.len()
            && self.of.iter().zip(of).all(|((_, a), (_, b))| Arc::ptr_eq(a, b))
    }
}

impl fmt::Debug for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visible").finish_non_exhaustive()
    }
}

/// What was listed and put together before.
#[derive(Default)]
pub(super) struct Kept(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    listings: HashMap<NamespaceId, Arc<Listing>>,
    views: HashMap<UserId, Arc<Visible>>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listing(&self, id: NamespaceId, version: Seq) -> Option<Arc<Listing>> {
        self.lock().listings.get(&id).filter(|kept| kept.version == version).cloned()
    }

    fn keep_listing(&self, id: NamespaceId, listing: &Arc<Listing>) {
        let mut inner = self.lock();
        if inner.listings.len() >= KEPT_MAX {
            inner.listings.clear();
        }
        inner.listings.insert(id, Arc::clone(listing));
    }

    fn view(&self, user: UserId, of: &[(Owner, Arc<Listing>)]) -> Option<Arc<Visible>> {
        self.lock().views.get(&user).filter(|kept| kept.is_made_of(of)).cloned()
    }

    fn keep_view(&self, user: UserId, view: &Arc<Visible>) {
        let mut inner = self.lock();
        if inner.views.len() >= KEPT_MAX {
            inner.views.clear();
        }
        inner.views.insert(user, Arc::clone(view));
    }
}

impl LiveResources {
    /// The resources that a caller's references may lead to, as of now.
    pub(super) async fn visible(&self, caller: &Caller) -> Result<Arc<Visible>, Problem> {
        let public = Self::place(caller, PUBLIC_NAMESPACE, false)?;
        let own = Self::place(caller, DEFAULT_NAMESPACE, false)?;
        let (shared, private) = tokio::try_join!(self.listing(&public), self.listing(&own))?;
        let of = vec![(public.owner, shared), (own.owner, private)];
        if let Some(view) = self.kept.view(caller.user, &of) {
            return Ok(view);
        }
        let mut set = ResourceSet::new(lookup::Caller(caller.user));
        for (owner, listing) in &of {
            for resource in &listing.resources {
                set.insert(owner.clone(), Arc::clone(resource));
            }
        }
        let view = Arc::new(Visible { set, of });
        self.kept.keep_view(caller.user, &view);
        Ok(view)
    }

    pub(super) async fn listing(&self, place: &Place) -> Result<Arc<Listing>, Problem> {
        let address = self.address(place);
        let now = address.get(Vec::new()).await.map_err(|e| namespace_problem(&e, &[]))?;
        if let Some(kept) = self.kept.listing(place.id, now.version) {
            return Ok(kept);
        }
        let listing = Arc::new(list(&address).await?);
        self.kept.keep_listing(place.id, &listing);
        Ok(listing)
    }
}

async fn list(address: &NamespaceAddress) -> Result<Listing, Problem> {
    let listed = address.list(None).await.map_err(|e| namespace_problem(&e, &[]))?;
    let (mut resources, mut secrets) = (Vec::new(), BTreeMap::new());
    for (key, item) in listed.items {
        match serde_json::from_value::<Resource>(item.document) {
            Ok(resource) => resources.push(Arc::new(resource)),
            Err(error) => tracing::warn!(%key.kind, key.name, %error, "a resource is unreadable"),
        }
        if !item.secrets.is_empty() {
            secrets.insert(key, item.secrets);
        }
    }
    Ok(Listing { version: listed.version, resources, secrets })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(version: u64) -> Arc<Listing> {
        let (resources, secrets) = (Vec::new(), BTreeMap::new());
        Arc::new(Listing { version: Seq(version), resources, secrets })
    }

    fn view(user: UserId, of: &[(Owner, Arc<Listing>)]) -> Arc<Visible> {
        let set = ResourceSet::new(lookup::Caller(user));
        Arc::new(Visible { set, of: of.to_vec() })
    }

    #[test]
    fn a_listing_is_used_at_its_own_version_only() {
        let kept = Kept::default();
        let id = |n: usize| NamespaceId::derived(&[&n.to_string()]);
        let one = listing(3);
        kept.keep_listing(id(1), &one);
        assert!(Arc::ptr_eq(&kept.listing(id(1), Seq(3)).unwrap(), &one), "nothing is copied");
        for (of, version) in [(1, 2), (1, 4), (2, 3)] {
            assert!(kept.listing(id(of), Seq(version)).is_none(), "{of} at {version}");
        }
        kept.keep_listing(id(1), &listing(4));
        assert!(kept.listing(id(1), Seq(3)).is_none() && kept.listing(id(1), Seq(4)).is_some());
        (0..5 * KEPT_MAX).for_each(|n| kept.keep_listing(id(n), &one));
        assert!(kept.lock().listings.len() <= KEPT_MAX);
    }

    #[test]
    fn a_view_is_used_while_both_listings_are_the_very_same() {
        let kept = Kept::default();
        let user = |n: usize| UserId::derived(&[&n.to_string()]);
        let of = |public: &Arc<Listing>, own: &Arc<Listing>| {
            let own = (Owner::User(user(1)), Arc::clone(own));
            vec![(Owner::Public, Arc::clone(public)), own]
        };
        let (public, own) = (listing(1), listing(1));
        let first = view(user(1), &of(&public, &own));
        kept.keep_view(user(1), &first);
        let found = kept.view(user(1), &of(&public, &own)).expect("nothing changed");
        assert!(Arc::ptr_eq(&found, &first));
        // Another listing is another state, whatever its number.
        assert!(kept.view(user(1), &of(&listing(1), &own)).is_none());
        assert!(kept.view(user(1), &of(&public, &listing(2))).is_none());
        assert!(kept.view(user(2), &of(&public, &own)).is_none(), "each sees their own");
        (0..5 * KEPT_MAX).for_each(|n| kept.keep_view(user(n), &first));
        assert!(kept.lock().views.len() <= KEPT_MAX);
    }
}
