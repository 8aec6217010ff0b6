//! What was asked for of what a watch tells.

use std::collections::BTreeSet;

use serde_json::Value;

use super::plural;

/// One kind, some names of it or those that a selector chooses.
#[derive(Debug)]
pub(super) struct Changes {
    kind: &'static str,
    /// Empty: all.
    names: Vec<String>,
    /// Names that were told, if there is a selector: only they can be gone.
    told: Option<BTreeSet<String>>,
}

impl Changes {
    /// After `shown`, a list or one resource.
    pub(super) fn new(
        kind: &'static str,
        names: Vec<String>,
        selector: bool,
        shown: &Value,
    ) -> Self {
        Self { kind, names, told: selector.then(|| named(shown)) }
    }

    /// What there is, listed anew.
    pub(super) fn listed(&mut self, listed: &Value) -> Value {
        let mut listed = listed.clone();
        if let Some(items) = listed["items"].as_array_mut() {
            items.retain(|item| self.wants(item));
        }
        if let Some(told) = &mut self.told {
            *told = named(&listed);
        }
        listed
    }

    /// Whether a change is one to tell.
    pub(super) fn tells(&mut self, event: &Value) -> bool {
        let item = &event["resource"];
        let of = item["kind"].as_str().and_then(|kind| plural(kind).ok());
        if of != Some(self.kind) || !self.wants(item) {
            return false;
        }
        match &mut self.told {
            Some(told) if event["type"] == "DELETE" => told.remove(name(item)),
            Some(told) => {
                told.insert(name(item).to_owned());
                true
            }
            None => true,
        }
    }

    fn wants(&self, item: &Value) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name(item))
    }
}

/// Empty if it has none.
pub(super) fn name(item: &Value) -> &str {
    item["metadata"]["name"].as_str().unwrap_or_default()
}

fn named(listed: &Value) -> BTreeSet<String> {
    let items = listed["items"].as_array();
    items.into_iter().flatten().map(|item| name(item).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn team(name: &str) -> Value {
        json!({"kind": "Team", "metadata": {"name": name}})
    }

    fn event(change: &str, resource: &Value) -> Value {
        json!({"type": change, "resource": resource, "resourceVersion": 9})
    }

    #[test]
    fn with_a_selector_only_what_was_told_can_be_gone() {
        let shown = json!({"items": [team("a")]});
        let mut changes = Changes::new("teams", Vec::new(), true, &shown);
        let mut tells = |change, name| changes.tells(&event(change, &team(name)));
        assert!(!tells("DELETE", "b"), "it was never chosen");
        assert!(tells("PUT", "b") && tells("PUT", "b"));
        assert!(tells("DELETE", "b") && !tells("DELETE", "b"), "it is gone once");
        assert!(tells("DELETE", "a") && tells("PUT", "a"));
        let bot = json!({"kind": "Bot", "metadata": {"name": "a"}});
        assert!(!changes.tells(&event("PUT", &bot)));
        changes.listed(&json!({"items": [team("c")]}));
        assert!(!changes.tells(&event("DELETE", &team("a"))));
        assert!(changes.tells(&event("DELETE", &team("c"))));
    }

    #[test]
    fn names_are_told_whatever_their_labels() {
        let mut changes = Changes::new("teams", vec!["a".to_owned()], false, &team("a"));
        assert!(changes.tells(&event("DELETE", &team("a"))));
        assert!(!changes.tells(&event("PUT", &team("b"))));
    }
}
