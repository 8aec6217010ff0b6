//! Label selectors: `tier=fast,team!=core,reviewed`.

use serde_json::Value;
use troupe_api::Problem;

/// All terms must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabelSelector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Is(String, String),
    IsNot(String, String),
    Has(String),
}

impl LabelSelector {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let terms = text.split(',').map(str::trim).filter(|t| !t.is_empty());
        terms.map(term).collect::<Result<_, _>>().map(Self)
    }

    /// Whether it chooses a resource, by its labels.
    pub(super) fn chooses(&self, resource: &Value) -> bool {
        let labels = resource["metadata"]["labels"].as_object();
        self.matches(|key| labels?.get(key)?.as_str())
    }

    /// `label` gives the value of a label, if there is one.
    fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|term| match term {
            Term::Is(key, value) => label(key) == Some(value),
            Term::IsNot(key, value) => label(key) != Some(value),
            Term::Has(key) => label(key).is_some(),
        })
    }
}

fn term(text: &str) -> Result<Term, Problem> {
    let pair = |(key, value): (&str, &str)| (key.trim().to_owned(), value.trim().to_owned());
    let term = if let Some(split) = text.split_once("!=") {
        let (key, value) = pair(split);
        Term::IsNot(key, value)
    } else if let Some(split) = text.replace("==", "=").split_once('=') {
        let (key, value) = pair(split);
        Term::Is(key, value)
    } else {
        Term::Has(text.to_owned())
    };
    let (Term::Is(key, _) | Term::IsNot(key, _) | Term::Has(key)) = &term;
    if key.is_empty() || key.contains(char::is_whitespace) {
        let message = format!("`{text}` is no term of a selector; write label=value,other!=value");
        return Err(Problem::invalid("labelSelector", message));
    }
    Ok(term)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_terms_must_hold() {
        let selector = LabelSelector::parse("a=1, b!=2,c").unwrap();
        let labels = |pairs: &'static [(&str, &str)]| {
            move |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
        };
        assert!(selector.matches(labels(&[("a", "1"), ("c", "")])));
        assert!(!selector.matches(labels(&[("a", "1"), ("b", "2"), ("c", "")])));
        assert!(!selector.matches(labels(&[("a", "1")])));
        assert!(LabelSelector::parse("=x").is_err());
    }
}
