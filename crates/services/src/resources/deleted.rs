//! What was deleted: listed, and brought back.

use serde_json::{Value, json};
use troupe_api::Problem;
use troupe_domain::namespace::{Apply, Change, Key};
use troupe_resources::{Kind, Resource};

use super::{
    documents::{internal, outside},
    live::{LiveResources, Place},
    problems::namespace_problem,
    write::targets,
};
use crate::caller::Caller;

impl LiveResources {
    pub(super) async fn deleted_in(
        &self,
        caller: &Caller,
        namespace: &str,
    ) -> Result<Value, Problem> {
        // Who may not bring it back has no use for it.
        let place = Self::place(caller, namespace, true)?;
        let kept = self.address(&place).deleted().await;
        let (kept, version) = kept.map_err(|error| namespace_problem(&error, &[]))?;
        let item = |(_, gone): &(Key, troupe_domain::namespace::Deleted)| {
            let mut value = outside(&gone.item, &place.owner);
            value["metadata"]["deletedAt"] = json!(gone.at);
            value["status"] = json!({"state": "Deleted"});
            value
        };
        Ok(json!({
            "apiVersion": "agent.wecode.io/v1",
            "kind": "List",
            "metadata": {"resourceVersion": version},
            "items": kept.iter().map(item).collect::<Vec<_>>(),
        }))
    }

    pub(super) async fn bring_back(
        &self,
        caller: &Caller,
        namespace: &str,
        (kind, name): (Kind, &str),
    ) -> Result<Value, Problem> {
        let place = Self::place(caller, namespace, true)?;
        let key = Key::new(kind, name);
        let external = self.external(caller, &place, &key).await?;
        let changes = vec![Change::Restore { key }];
        let apply = Apply { changes, external, dry_run: false };
        let (_, version) = self.write(&place, apply, &[]).await?;
        self.read_one(caller, namespace, (kind, name), Some(version)).await
    }

    /// What is public of that which a deleted resource refers to.
    async fn external(
        &self,
        caller: &Caller,
        place: &Place,
        key: &Key,
    ) -> Result<std::collections::BTreeSet<Key>, Problem> {
        let kept = self.address(place).deleted().await;
        let (kept, _) = kept.map_err(|error| namespace_problem(&error, &[]))?;
        // The Namespace says what is wrong if there is none.
        let Some((_, gone)) = kept.into_iter().find(|(kept, _)| kept == key) else {
            return Ok(Default::default());
        };
        let resource: Resource =
            serde_json::from_value(gone.item.document).map_err(|_| internal())?;
        let shared = self.shared(caller, place).await?;
        Ok(targets(place, &shared, &resource).1)
    }
}
