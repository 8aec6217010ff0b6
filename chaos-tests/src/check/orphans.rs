//! I8: nothing is left behind: no process, no model call, no effect that took place twice.

use std::collections::BTreeMap;

use super::{Invariant, Violation};

/// What was found when nothing should have been there any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leftovers {
    /// Processes in the places of the nodes after all nodes were ended.
    pub(crate) processes: Vec<String>,
    /// Model calls that are open although every Task is at rest.
    pub(crate) model_calls: usize,
    /// Idempotency keys of all tool calls with an effect.
    pub(crate) effects: Vec<Option<String>>,
}

pub(crate) fn check(left: &Leftovers) -> Vec<Violation> {
    let mut found: Vec<String> = Vec::new();
    if !left.processes.is_empty() {
        found.push(format!("still running: {}", left.processes.join(", ")));
    }
    if left.model_calls > 0 {
        found.push(format!("{} model calls are open, nobody waits for them", left.model_calls));
    }
    let mut keys: BTreeMap<&str, u32> = BTreeMap::new();
    for key in &left.effects {
        match key {
            Some(key) => *keys.entry(key).or_default() += 1,
            None => found.push("a tool with an effect was called without a key".to_owned()),
        }
    }
    for (key, count) in keys.iter().filter(|(_, count)| **count > 1) {
        found.push(format!("the tool call {key} took place {count} times"));
    }
    found.into_iter().map(|what| Violation::new(Invariant::I8, what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_found() {
        let keys = |keys: &[&str]| keys.iter().map(|key| Some((*key).to_owned())).collect();
        let clean = Leftovers { effects: keys(&["a", "b"]), ..Leftovers::default() };
        assert_eq!(check(&clean), []);
        for left in [
            Leftovers { processes: vec!["12 troupe".to_owned()], ..Leftovers::default() },
            Leftovers { model_calls: 1, ..Leftovers::default() },
            Leftovers { effects: keys(&["a", "b", "a"]), ..Leftovers::default() },
            Leftovers { effects: vec![None], ..Leftovers::default() },
        ] {
            assert_eq!(check(&left).len(), 1, "{left:?}");
        }
    }
}
