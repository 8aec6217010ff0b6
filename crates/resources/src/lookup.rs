//! Where a reference is looked for, and what is found.
//!
//! | The reference names | Searched, first match wins |
//! |---|---|
//! | `default` | the own resources of whoever owns the referring resource, then public ones |
//! | a group | the group's resources, if the caller is a member, else what is shared with the caller; then public ones |
//!
//! A public resource refers to public ones only: nobody's own resource can slip into it. What a
//! group's resource names in `default` is looked for among the caller's own resources.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use troupe_types::UserId;

use crate::{
    kind::Kind,
    resource::{DEFAULT_NAMESPACE, Owner, Resource},
    spec::ModelType,
};

/// Label of the Model that a user's Bots use if they name none: `default: "true"`.
pub const DEFAULT_LABEL: &str = "default";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub UserId);

/// A resource and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Whose it is.
    pub owner: Owner,
    /// The resource.
    pub resource: Arc<Resource>,
}

/// Resources at hand, without waiting. All of it is as the caller may see it.
pub trait Lookup {
    /// The resource that this owner holds; a user's and the public ones are in `default`, a
    /// group's in the namespace of its name.
    fn get(&self, owner: &Owner, kind: Kind, name: &str) -> Option<Arc<Resource>>;

    /// Whether the caller is a member of the group.
    fn is_member(&self, group: &str) -> bool;

    /// A resource of somebody else that is shared with the caller directly.
    fn shared(&self, kind: Kind, namespace: &str, name: &str) -> Option<Found>;

    /// Among the caller's own Models, the one for Bots that name none; see [`default_model`].
    fn default_model(&self) -> Option<Found>;

    /// The SkillBindings of an owner, in the order of their names.
    fn skill_bindings(&self, owner: &Owner) -> Vec<Found>;
}

/// Finds what a resource of `from` means by this name in this namespace.
#[must_use]
pub fn find(
    lookup: &dyn Lookup,
    caller: Caller,
    from: &Owner,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Option<Found> {
    let held =
        |owner: Owner| lookup.get(&owner, kind, name).map(|resource| Found { owner, resource });
    let near = match (from, namespace) {
        (Owner::Public, _) => None,
        (Owner::User(owner), DEFAULT_NAMESPACE) => held(Owner::User(*owner)),
        (Owner::Group(_), DEFAULT_NAMESPACE) => held(Owner::User(caller.0)),
        (_, group) if lookup.is_member(group) => held(Owner::Group(group.to_owned())),
        _ => lookup.shared(kind, namespace, name),
    };
    near.or_else(|| held(Owner::Public))
}

/// What a person means by this name: their own, their groups', what is shared, public ones.
#[must_use]
pub fn find_for(
    lookup: &dyn Lookup,
    caller: Caller,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Option<Found> {
    find(lookup, caller, &Owner::User(caller.0), kind, namespace, name)
        .or_else(|| lookup.shared(kind, namespace, name))
}

/// Which of a user's Models is for Bots that name none: the one with the label
/// `default: "true"`, else the oldest one that writes text.
#[must_use]
pub fn default_model<'a>(
    models: impl IntoIterator<Item = &'a Arc<Resource>>,
) -> Option<&'a Arc<Resource>> {
    let writes_text = |model: &&Arc<Resource>| {
        model.kind == Kind::Model
            && model.model().is_ok_and(|spec| {
                spec.model_type == ModelType::Llm && spec.model_config.env.provider.is_some()
            })
    };
    models.into_iter().filter(writes_text).min_by_key(|model| {
        let marked = model.label(DEFAULT_LABEL) == Some("true");
        (!marked, model.metadata.created_at, model.metadata.name.clone())
    })
}

/// Resources in memory, as one caller sees them: for tests, and for answers that were fetched
/// before something is resolved.
#[derive(Clone, Debug)]
pub struct ResourceSet {
    caller: Caller,
    held: BTreeMap<(Owner, Kind, String), Arc<Resource>>,
    groups: BTreeSet<String>,
    shared: BTreeMap<(Kind, String, String), Found>,
}

impl ResourceSet {
    /// The public resources, and nothing else yet.
    #[must_use]
    pub fn new(caller: Caller) -> Self {
        let mut set = Self {
            caller,
            held: BTreeMap::new(),
            groups: BTreeSet::new(),
            shared: BTreeMap::new(),
        };
        for resource in crate::public::all() {
            set.insert(Owner::Public, Arc::clone(resource));
        }
        set
    }

    /// Adds a resource, or replaces it.
    pub fn insert(&mut self, owner: Owner, resource: Arc<Resource>) {
        let key = (owner, resource.kind, resource.metadata.name.clone());
        self.held.insert(key, resource);
    }

    /// Makes the caller a member of a group.
    pub fn join(&mut self, group: &str) {
        self.groups.insert(group.to_owned());
    }

    /// Shares a resource with the caller.
    pub fn share(&mut self, owner: Owner, resource: Arc<Resource>) {
        let key =
            (resource.kind, resource.metadata.namespace.clone(), resource.metadata.name.clone());
        self.shared.insert(key, Found { owner, resource });
    }

    /// Who sees it.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller
    }
}

impl Lookup for ResourceSet {
    fn get(&self, owner: &Owner, kind: Kind, name: &str) -> Option<Arc<Resource>> {
        self.held.get(&(owner.clone(), kind, name.to_owned())).cloned()
    }

    fn is_member(&self, group: &str) -> bool {
        self.groups.contains(group)
    }

    fn shared(&self, kind: Kind, namespace: &str, name: &str) -> Option<Found> {
        self.shared.get(&(kind, namespace.to_owned(), name.to_owned())).cloned()
    }

    fn default_model(&self) -> Option<Found> {
        let owner = Owner::User(self.caller.0);
        let own = self
            .held
            .iter()
            .filter(|((held_by, kind, _), _)| *held_by == owner && *kind == Kind::Model);
        let resource = Arc::clone(default_model(own.map(|(_, model)| model))?);
        Some(Found { owner, resource })
    }

    fn skill_bindings(&self, owner: &Owner) -> Vec<Found> {
        let held = self
            .held
            .iter()
            .filter(|((held_by, kind, _), _)| held_by == owner && *kind == Kind::SkillBinding);
        held.map(|(_, resource)| Found { owner: owner.clone(), resource: Arc::clone(resource) })
            .collect()
    }
}
