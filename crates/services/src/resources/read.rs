//! Reads, which may demand a version: who writes reads their own writes through any gateway.

use std::time::Duration;

use serde_json::{Value, json};
use troupe_api::Problem;
use troupe_domain::namespace::Key;
use troupe_entities::namespace::{Listed, NamespaceAddress, NamespaceError};
use troupe_resources::{
    Kind, public,
    resource::{DEFAULT_NAMESPACE, Owner},
};
use troupe_types::Seq;

use super::{
    documents::{outside, shipped_outside},
    labels::LabelSelector,
    live::{LiveResources, PUBLIC_NAMESPACE, Place},
    problems::namespace_problem,
};
use crate::caller::Caller;

/// How long a read waits for the version that it wants.
const VERSION_WAIT: Duration = Duration::from_secs(3);

/// What is read of a Namespace.
enum Wanted {
    Named(Key),
    All(Kind),
}

impl Wanted {
    async fn of(&self, address: &NamespaceAddress) -> Result<Listed, NamespaceError> {
        match self {
            Self::Named(key) => address.get(vec![key.clone()]).await,
            Self::All(kind) => address.list(Some(*kind)).await,
        }
    }
}

impl LiveResources {
    /// Answers at or above `min`; waits a moment for it.
    async fn read(
        &self,
        place: &Place,
        wanted: &Wanted,
        min: Option<Seq>,
    ) -> Result<Listed, Problem> {
        let address = self.address(place);
        let min = min.unwrap_or(Seq::ZERO);
        let mut reached = Seq::ZERO;
        let reading = async {
            loop {
                let listed = wanted.of(&address).await.map_err(|e| namespace_problem(&e, &[]))?;
                reached = listed.version;
                if reached >= min {
                    return Ok(Some(listed));
                }
                let (events, _) =
                    address.watch(reached).await.map_err(|e| namespace_problem(&e, &[]))?;
                if events.is_empty() {
                    return Ok(None);
                }
            }
        };
        if min == Seq::ZERO {
            return reading.await.map(Option::unwrap_or_default);
        }
        match tokio::time::timeout(VERSION_WAIT, reading).await {
            Ok(Err(problem)) => Err(problem),
            Ok(Ok(Some(listed))) => Ok(listed),
            Ok(Ok(None)) | Err(_) => Err(behind(place, reached, min)),
        }
    }

    pub(super) async fn read_one(
        &self,
        caller: &Caller,
        namespace: &str,
        (kind, name): (Kind, &str),
        min: Option<Seq>,
    ) -> Result<Value, Problem> {
        let wanted = Wanted::Named(Key::new(kind, name));
        let mut places = vec![(Self::place(caller, namespace, false)?, min)];
        if namespace == DEFAULT_NAMESPACE {
            places.push((Self::place(caller, PUBLIC_NAMESPACE, false)?, None));
        }
        for (place, min) in &places {
            let listed = self.read(place, &wanted, *min).await?;
            if let Some((_, item)) = listed.items.first() {
                return Ok(outside(item, &place.owner));
            }
        }
        let shipped = public::get(kind, name).map(|r| shipped_outside(r));
        shipped.ok_or_else(|| Problem::not_found(&format!("{kind} `{name}`")))
    }

    pub(super) async fn read_all(
        &self,
        caller: &Caller,
        namespace: Option<&str>,
        kind: Kind,
        selector: Option<&str>,
        min: Option<Seq>,
    ) -> Result<Value, Problem> {
        let selector = selector.map(LabelSelector::parse).transpose()?;
        if namespace.is_none() && min.is_some() {
            let message = "a version is of one namespace: list that one";
            return Err(Problem::invalid("min_version", message));
        }
        let namespaces = match namespace {
            Some(namespace) => vec![namespace],
            None => vec![DEFAULT_NAMESPACE, PUBLIC_NAMESPACE],
        };
        let (mut items, mut version) = (Vec::new(), Seq::ZERO);
        for namespace in namespaces {
            let place = Self::place(caller, namespace, false)?;
            let listed = self.read(&place, &Wanted::All(kind), min).await?;
            items.extend(visible_of(&listed, &place.owner, kind));
            version = version.max(listed.version);
        }
        if let Some(selector) = selector {
            items.retain(|item| selector.chooses(item));
        }
        Ok(json!({
            "apiVersion": "agent.wecode.io/v1",
            "kind": kind.list_name(),
            "metadata": {"resourceVersion": version},
            "items": items,
        }))
    }
}

/// What a caller sees of a kind in a Namespace, outside form.
fn visible_of(listed: &Listed, owner: &Owner, kind: Kind) -> Vec<Value> {
    let mut items: Vec<Value> = listed.items.iter().map(|(_, item)| outside(item, owner)).collect();
    if *owner == Owner::Public {
        let named = |name: &str| listed.items.iter().any(|(key, _)| key.name == name);
        let shipped = public::all().iter().filter(|r| r.kind == kind);
        items.extend(shipped.filter(|r| !named(&r.metadata.name)).map(|r| shipped_outside(r)));
    }
    items
}

fn behind(place: &Place, reached: Seq, min: Seq) -> Problem {
    let detail = format!(
        "namespace `{}` is at version {reached} here, {min} is wanted: repeat in a moment",
        place.name
    );
    let mut problem = Problem::new(503, "version_not_reached", detail);
    problem.retry_after = Some(1);
    problem
}
