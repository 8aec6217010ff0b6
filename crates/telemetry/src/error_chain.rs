//! An error with all its causes, in one line.

use std::error::Error;

/// Causes that are printed at most.
const CAUSES_MAX: usize = 16;

/// `what: why: why`. For the one place where an error is handled and logged; a house error's
/// own text never repeats its source.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    for _ in 0..CAUSES_MAX {
        let Some(cause) = next else { return text };
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    if next.is_some() {
        text.push_str(": ...");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Nested(usize, Option<Box<Nested>>);

    impl fmt::Display for Nested {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "e{}", self.0)
        }
    }

    impl Error for Nested {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &dyn Error)
        }
    }

    fn nested(depth: usize) -> Nested {
        (0..depth).rev().fold(Nested(depth, None), |inner, n| Nested(n, Some(Box::new(inner))))
    }

    #[test]
    fn all_causes_are_told_once() {
        assert_eq!(error_chain(&nested(0)), "e0");
        assert_eq!(error_chain(&nested(2)), "e0: e1: e2");
    }

    #[test]
    fn an_endless_chain_ends() {
        let text = error_chain(&nested(100));
        assert!(text.ends_with("e16: ..."), "{text}");
    }
}
