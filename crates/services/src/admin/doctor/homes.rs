//! I3: each entity is at work on one node at most, and on the one that owns its shard.
//!
//! Nodes are asked one after another in time, and shards move meanwhile: what looks wrong counts
//! only if it looks the same a moment later.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::Duration,
};

use futures::future::join_all;
use troupe_api::admin::Check;
use troupe_types::{EntityId, Epoch, ShardId};

use super::{Verdict, check, some};
use crate::admin::{EntityPlace, Operations};

/// Before what looks wrong is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Suspect {
    /// At work on two nodes.
    Twice(EntityId, String, String),
    /// At work on a node that says itself that it does not own it.
    Stray(EntityId, String),
    /// Two nodes that both say that they own a shard.
    TwoOwners(ShardId, String, String),
    /// A journal that was claimed under an epoch that no node knows of.
    Ahead(EntityId, Epoch),
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice(entity, a, b) => write!(f, "{entity} is at work on {a} and on {b}"),
            Self::Stray(entity, on) => {
                write!(f, "{entity} is at work on {on}, which does not own it")
            }
            Self::TwoOwners(shard, a, b) => write!(f, "shard {shard} is owned by {a} and by {b}"),
            Self::Ahead(entity, epoch) => {
                write!(f, "{entity} was claimed under epoch {epoch}, which no node knows")
            }
        }
    }
}

/// What all nodes said about the same entities.
#[derive(Debug, Default)]
pub(super) struct Told {
    by_node: BTreeMap<String, Vec<EntityPlace>>,
    /// Who did not answer, and why.
    silent: Vec<String>,
}

impl Told {
    /// Everything that must not be, as far as the nodes answered.
    pub(super) fn suspects(&self) -> BTreeSet<Suspect> {
        let mut found = BTreeSet::new();
        let (mut at_work, mut owners) = (HashMap::new(), HashMap::new());
        for (node, places) in &self.by_node {
            for place in places {
                let is_owner = place.node.as_ref() == Some(node);
                let shard = place.entity.shard();
                if is_owner
                    && let Some(other) = owners.insert(shard, node)
                    && other != node
                {
                    found.insert(Suspect::TwoOwners(shard, other.clone(), node.clone()));
                }
                if place.live.as_ref().is_none_or(|live| live.state != "live") {
                    continue;
                }
                if let Some(other) = at_work.insert(place.entity, node) {
                    found.insert(Suspect::Twice(place.entity, other.clone(), node.clone()));
                } else if !is_owner {
                    found.insert(Suspect::Stray(place.entity, node.clone()));
                }
            }
        }
        found
    }

    /// Journals that are ahead of all nodes. Known only if all nodes said what they know.
    pub(super) fn ahead(&self, claimed: &[(EntityId, Epoch)]) -> BTreeSet<Suspect> {
        if !self.silent.is_empty() {
            return BTreeSet::new();
        }
        let mut newest: HashMap<ShardId, u64> = HashMap::new();
        for place in self.by_node.values().flatten() {
            let epoch = newest.entry(place.entity.shard()).or_default();
            *epoch = place.epoch.max(*epoch);
        }
        let is_ahead = |(entity, epoch): &&(EntityId, Epoch)| {
            newest.get(&entity.shard()).is_some_and(|newest| *newest > 0 && epoch.0 > *newest)
        };
        claimed.iter().filter(is_ahead).map(|(e, epoch)| Suspect::Ahead(*e, *epoch)).collect()
    }

    fn at_work(&self) -> usize {
        let places = self.by_node.values().flatten();
        places.filter(|place| place.live.as_ref().is_some_and(|live| live.state == "live")).count()
    }
}

/// What was found of entities and their homes.
#[derive(Debug, Default)]
pub(super) struct Homes {
    looked_at: usize,
    told: Told,
    /// What looked wrong twice.
    wrong: BTreeSet<Suspect>,
    /// The same of epochs.
    pub(super) ahead: BTreeSet<Suspect>,
}

impl Homes {
    /// Who did not answer.
    pub(super) fn silent(&self) -> &[String] {
        &self.told.silent
    }

    pub(super) fn check(&self) -> Check {
        let check = check("activations", "Each entity is at work on one node, its owner").of("I3");
        let told = &self.told;
        let asked =
            format!("{} entities asked for on {} node(s)", self.looked_at, told.by_node.len());
        if !self.wrong.is_empty() {
            let wrong: Vec<&Suspect> = self.wrong.iter().collect();
            let fix = "What the older one does cannot be committed (I2), but it may act outside. \
                       End the process of the node that does not own the shard (troupe admin \
                       shards --all), its launcher starts it anew; and report this.";
            return check.fail(format!("{}: {}", wrong.len(), some(&wrong)), fix);
        }
        if !told.silent.is_empty() {
            let silent = some(&told.silent);
            return check.unknown(format!("{asked}, all well there; not checked on {silent}"));
        }
        check.ok(format!("{asked}, {} at work", told.at_work()))
    }
}

impl Operations {
    /// Asks all nodes about these entities, a second time if something looks wrong.
    pub(super) async fn homes(
        &self,
        nodes: &[String],
        silent: &[String],
        entities: &[EntityId],
        claimed: &[(EntityId, Epoch)],
    ) -> Homes {
        let looked_at = entities.len();
        let told = self.ask_homes(nodes, silent, entities).await;
        let (wrong, ahead) = (told.suspects(), told.ahead(claimed));
        if wrong.is_empty() && ahead.is_empty() {
            return Homes { looked_at, told, wrong, ahead };
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let told = self.ask_homes(nodes, silent, entities).await;
        let both = |first: BTreeSet<Suspect>, then: BTreeSet<Suspect>| &first & &then;
        let (wrong, ahead) = (both(wrong, told.suspects()), both(ahead, told.ahead(claimed)));
        Homes { looked_at, told, wrong, ahead }
    }

    async fn ask_homes(&self, nodes: &[String], silent: &[String], of: &[EntityId]) -> Told {
        let mut told = Told { silent: silent.to_vec(), ..Told::default() };
        let asked = nodes.iter().map(|node| self.operator().places_on(node, of));
        for (node, places) in nodes.iter().zip(join_all(asked).await) {
            match places {
                Ok(places) => {
                    told.by_node.insert(node.clone(), places);
                }
                Err(error) => told.silent.push(format!("{node} ({error})")),
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use troupe_api::admin::{CheckState, EntityView};
    use troupe_types::TaskId;

    use super::*;

    fn task() -> EntityId {
        EntityId::from(TaskId::derived(&["x"]))
    }

    fn place(owner: Option<&str>, state: Option<&str>) -> EntityPlace {
        let live = |state: &str| EntityView { state: state.to_owned(), ..EntityView::default() };
        EntityPlace {
            entity: task(),
            node: owner.map(str::to_owned),
            epoch: 5,
            live: state.map(live),
        }
    }

    fn told(a: EntityPlace, b: EntityPlace) -> Told {
        let by_node = [("a".to_owned(), vec![a]), ("b".to_owned(), vec![b])].into();
        Told { by_node, silent: Vec::new() }
    }

    #[test]
    fn one_home_is_well_whatever_the_others_believe() {
        let here = || place(Some("a"), Some("live"));
        for other in [place(Some("a"), None), place(None, None), place(Some("c"), Some("closing"))]
        {
            let told = told(here(), other);
            assert_eq!(told.suspects(), BTreeSet::new());
            let homes = Homes { told, looked_at: 1, ..Homes::default() };
            let check = homes.check();
            assert_eq!(check.state, CheckState::Ok, "{check:?}");
            assert!(check.found.contains("1 at work"), "{check:?}");
        }
    }

    #[test]
    fn two_homes_two_owners_and_strays_are_found() {
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let twice = Suspect::Twice(task(), a.clone(), b.clone());
        let found = told(place(Some("a"), Some("live")), place(Some("a"), Some("live"))).suspects();
        assert_eq!(found, [twice].into());
        let stray = Suspect::Stray(task(), b.clone());
        let found = told(place(Some("a"), None), place(Some("a"), Some("live"))).suspects();
        assert_eq!(found, [stray].into());
        let owners = Suspect::TwoOwners(task().shard(), a, b);
        let found = told(place(Some("a"), None), place(Some("b"), None)).suspects();
        assert_eq!(found, [owners.clone()].into());
        let check = Homes { wrong: [owners].into(), ..Homes::default() }.check();
        assert_eq!((check.state, check.fix.is_some()), (CheckState::Fail, true));
    }

    #[test]
    fn a_silent_node_is_named_and_never_taken_for_well() {
        let told = Told { silent: vec!["c (late)".to_owned()], ..Told::default() };
        assert_eq!(told.ahead(&[(task(), Epoch(9))]), BTreeSet::new(), "c may know it");
        let check = Homes { told, ..Homes::default() }.check();
        assert_eq!(check.state, CheckState::Warn);
        assert!(check.found.contains("not checked on c (late)"), "{check:?}");
    }

    #[test]
    fn a_journal_ahead_of_every_node_is_found() {
        let told = told(place(Some("a"), None), place(Some("a"), None));
        assert_eq!(told.ahead(&[(task(), Epoch(5))]), BTreeSet::new());
        let ahead = Suspect::Ahead(task(), Epoch(6));
        assert_eq!(told.ahead(&[(task(), Epoch(6))]), [ahead].into());
    }
}
