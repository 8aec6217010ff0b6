//! How a place inside a document is written: `spec.members[1].botRef.name`.
//!
//! A key that is no plain word stands as `["a.b"]`, so that two places never look alike.

use std::borrow::Cow;

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

pub(crate) fn push_key(path: &mut String, key: &str) {
    if key.is_empty() || key.contains(['.', '[', ']', '"', '\\']) {
        path.push('[');
        path.push_str(&serde_json::Value::from(key).to_string());
        path.push(']');
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

pub(crate) fn push_index(path: &mut String, index: usize) {
    use std::fmt::Write as _;
    write!(path, "[{index}]").expect("writing to a String never fails");
}

/// `path` with one key more.
pub(crate) fn join(path: &str, key: &str) -> String {
    let mut path = path.to_owned();
    push_key(&mut path, key);
    path
}

/// The steps of a path; what cannot be read ends them.
pub(crate) fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let Some((step, tail)) = first_step(rest) else { break };
        steps.push(step);
        rest = tail;
    }
    steps
}

fn first_step(path: &str) -> Option<(Step<'_>, &str)> {
    if let Some(inner) = path.strip_prefix('[') {
        if inner.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(inner).into_iter::<String>();
            let key = values.next()?.ok()?;
            let tail = inner.get(values.byte_offset()..)?.strip_prefix(']')?;
            return Some((Step::Key(Cow::Owned(key)), tail));
        }
        let (index, tail) = inner.split_once(']')?;
        return Some((Step::Index(index.parse().ok()?), tail));
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let end = path.find(['.', '[']).unwrap_or(path.len());
    Some((Step::Key(Cow::Borrowed(&path[..end])), &path[end..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_path_leads_back_to_its_steps(keys in prop::collection::vec("(?s).{0,8}", 0..5)) {
            let mut path = String::new();
            let mut wanted = Vec::new();
            for (index, key) in keys.iter().enumerate() {
                push_key(&mut path, key);
                push_index(&mut path, index);
                wanted.extend([Step::Key(Cow::Borrowed(key.as_str())), Step::Index(index)]);
            }
            prop_assert_eq!(steps(&path), wanted);
        }
    }

    #[test]
    fn usual_paths_read_well() {
        let path = join(&join("spec.members[1]", "botRef"), "name");
        assert_eq!(path, "spec.members[1].botRef.name");
        assert_eq!(join("a", "b.c"), "a[\"b.c\"]");
    }
}
