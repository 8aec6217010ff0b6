//! Labels of a Task. Those that begin with [`SYSTEM`] are the platform's: where it works, on
//! which device, with which Model. Persons see them, and set them only by what they mean.

use std::collections::BTreeMap;

use super::command::Refusal;

/// How the platform's own labels begin.
pub const SYSTEM: &str = "troupe.";
/// The Model that was chosen for the Task.
pub const MODEL: &str = "troupe.model";

type Labels = BTreeMap<String, String>;

/// What a person's labels make of a Task's: the platform's stay.
pub(super) fn replaced(old: &Labels, given: Labels) -> Result<Labels, Refusal> {
    let own = |name: &str| name.starts_with(SYSTEM);
    if let Some((name, _)) = given.iter().find(|(n, value)| own(n) && old.get(*n) != Some(value)) {
        let message = format!("`{name}` is set by the platform: leave it out, or as it is");
        return Err(Refusal::Invalid { field: "labels".to_owned(), message });
    }
    let mut labels = given;
    labels.extend(old.iter().filter(|(n, _)| own(n)).map(|(n, value)| (n.clone(), value.clone())));
    Ok(labels)
}

/// The Model that a person names; `None`: the Bots' own.
#[must_use]
pub fn choice(model: &str) -> Option<&str> {
    Some(model.trim()).filter(|name| !name.is_empty())
}

/// The labels with another [`choice`] of Model. `None`: nothing changes.
pub(super) fn with_model(old: &Labels, model: &str) -> Option<Labels> {
    let (is, model) = (old.get(MODEL), choice(model));
    if is.map(String::as_str) == model {
        return None;
    }
    let mut labels = old.clone();
    match model {
        Some(model) => labels.insert(MODEL.to_owned(), model.to_owned()),
        None => labels.remove(MODEL),
    };
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_person_neither_sets_nor_loses_what_is_the_platforms() {
        let old = labels(&[("troupe.repo", "https://x/y"), ("sprint", "11")]);
        let sprint = |n: &str| labels(&[("sprint", n)]);
        let new = labels(&[("troupe.repo", "https://x/y"), ("sprint", "12")]);
        assert_eq!(replaced(&old, sprint("12")), Ok(new.clone()));
        assert_eq!(replaced(&old, new.clone()), Ok(new), "read, changed and written back");
        for name in ["troupe.repo", "troupe.on"] {
            let refused = replaced(&old, labels(&[(name, "https://me:token@x/z")]));
            assert!(matches!(refused, Err(Refusal::Invalid { field, .. }) if field == "labels"));
        }
    }

    #[test]
    fn a_model_is_chosen_and_given_up() {
        let old = labels(&[("sprint", "11")]);
        let chosen = with_model(&old, " claude ").unwrap();
        assert_eq!(chosen[MODEL], "claude");
        assert_eq!(with_model(&chosen, "claude"), None);
        assert_eq!(with_model(&chosen, ""), Some(old.clone()));
        assert_eq!(with_model(&old, ""), None);
    }
}
