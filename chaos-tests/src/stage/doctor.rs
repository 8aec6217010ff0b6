//! What the cluster's own doctor says in the end.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Stage;
use crate::check::{Invariant, Violation};

/// It reads a sample of journals; on a busy machine that takes a while.
const PATIENCE: Duration = Duration::from_secs(120);
const TRIES: u32 = 4;
const BETWEEN: Duration = Duration::from_secs(5);

/// What a report comes to.
#[derive(Debug, PartialEq, Eq)]
struct Judged {
    figure: String,
    within: bool,
    violations: Vec<Violation>,
}

impl Stage {
    /// Asks any node: what fails is a violation, what it warns of exceeds a bound.
    pub(super) async fn ask_the_doctor(&mut self) {
        let mut asked = self.doctor().await;
        // Shards may still be on their way home.
        for _ in 1..TRIES {
            if asked.as_ref().is_ok_and(|judged| judged.within) {
                break;
            }
            self.cluster.watch(BETWEEN).await;
            asked = self.doctor().await;
        }
        let judged = match asked {
            Ok(judged) => judged,
            Err(error) => {
                self.violates(Invariant::I6, format!("the doctor does not answer: {error:#}"));
                return;
            }
        };
        self.figure(judged.figure, Some(judged.within));
        self.keep(judged.violations);
    }

    async fn doctor(&self) -> Result<Judged> {
        let rest = self.any_rest()?.patient(PATIENCE);
        judge(&rest.get("/api/v1/admin/doctor", &self.admin).await?)
    }
}

fn judge(report: &Value) -> Result<Judged> {
    let checks = report["checks"].as_array().filter(|checks| !checks.is_empty());
    let checks = checks.context("a report without checks")?;
    let told = |check: &Value| {
        let text = |field: &str| check[field].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("name"), text("found"))
    };
    let (mut warned, mut violations) = (Vec::new(), Vec::new());
    for check in checks {
        match check["state"].as_str() {
            Some("ok") => {}
            Some("warn") => warned.push(told(check)),
            _ => {
                let name = check["invariant"].as_str().unwrap_or_default();
                let known = Invariant::ALL.into_iter().find(|one| one.to_string() == name);
                let what = format!("the doctor finds {}", told(check));
                violations.push(Violation::new(known.unwrap_or(Invariant::I6), what));
            }
        }
    }
    let well = checks.len() - warned.len() - violations.len();
    let figure = if warned.is_empty() && violations.is_empty() {
        format!("the doctor's {well} checks went well")
    } else {
        format!("{well} of the doctor's {} checks went well; {}", checks.len(), warned.join("; "))
    };
    Ok(Judged { figure, within: warned.is_empty(), violations })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_warning_exceeds_a_bound_and_a_failure_is_a_violation() {
        let check = |name: &str, state: &str, invariant: Option<&str>| json!({"name": name, "state": state, "found": "3", "invariant": invariant});
        let well = judge(&json!({"checks": [check("a", "ok", None)]})).unwrap();
        assert_eq!((well.within, well.violations.len()), (true, 0));
        let report = json!({"checks": [
            check("a", "warn", None), check("b", "fail", Some("I2")), check("c", "new word", None),
        ]});
        let judged = judge(&report).unwrap();
        assert!(!judged.within && judged.figure.contains("a: 3"), "{judged:?}");
        let found: Vec<_> = judged.violations.iter().map(|one| one.invariant).collect();
        assert_eq!(found, [Invariant::I2, Invariant::I6]);
        assert!(judge(&json!({"checks": []})).is_err());
    }
}
