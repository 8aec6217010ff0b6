//! The doctor: what can be checked is checked, and each check says what to do.
//!
//! Nothing is repaired here, and nothing is activated by looking. A check that cannot be made
//! says so; it never passes for one that went well.

mod endings;
mod homes;
mod journals;
mod machine;
mod nodes;
mod orphans;
mod sample;
mod stores;
mod work;

use std::time::Duration;

use troupe_api::{
    Problem,
    admin::{Check, CheckState, DoctorReport, Unchecked},
};

use super::{Operations, admin};
use crate::caller::Caller;

/// For one call to the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// A check that is to be made.
fn check(name: &str, title: &str) -> Check {
    Check { name: name.to_owned(), title: title.to_owned(), ..Check::default() }
}

/// How a check went.
trait Verdict: Sized {
    fn of(self, invariant: &str) -> Self;
    fn ok(self, found: impl Into<String>) -> Self;
    fn warn(self, found: impl Into<String>, fix: &str) -> Self;
    fn fail(self, found: impl Into<String>, fix: &str) -> Self;
    /// It could not be made.
    fn unknown(self, why: impl std::fmt::Display) -> Self;
}

impl Verdict for Check {
    fn of(self, invariant: &str) -> Self {
        Self { invariant: Some(invariant.to_owned()), ..self }
    }

    fn ok(self, found: impl Into<String>) -> Self {
        Self { state: CheckState::Ok, found: found.into(), fix: None, ..self }
    }

    fn warn(self, found: impl Into<String>, fix: &str) -> Self {
        let fix = Some(fix.to_owned());
        Self { state: CheckState::Warn, found: found.into(), fix, ..self }
    }

    fn fail(self, found: impl Into<String>, fix: &str) -> Self {
        let fix = Some(fix.to_owned());
        Self { state: CheckState::Fail, found: found.into(), fix, ..self }
    }

    fn unknown(self, why: impl std::fmt::Display) -> Self {
        let fix = "See the other checks: what keeps this one from being made stands there.";
        self.warn(format!("could not be checked: {why}"), fix)
    }
}

/// At most five of many, in one line.
fn some<T: ToString>(items: &[T]) -> String {
    let shown: Vec<String> = items.iter().take(5).map(ToString::to_string).collect();
    let more = items.len().saturating_sub(shown.len());
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}

impl Operations {
    /// Checks everything that can be checked; takes some seconds, half a minute at most if nodes or
    /// the store do not answer.
    ///
    /// # Errors
    /// 403.
    pub async fn doctor(&self, caller: &Caller) -> Result<DoctorReport, Problem> {
        admin(caller, "doctor")?;
        let begun = self.parts.clock.mono();
        // Boxed: together they would be a large future.
        let (cluster, journals, work, stores, machine, own) = tokio::join!(
            Box::pin(self.check_cluster()),
            Box::pin(self.check_journals()),
            Box::pin(self.check_work()),
            Box::pin(self.check_stores()),
            Box::pin(self.check_machine()),
            self.operator().checks(),
        );
        let checks: Vec<Check> =
            [cluster, own, journals, work, stores, machine].into_iter().flatten().collect();
        let state = checks.iter().map(|check| check.state).max().unwrap_or_default();
        let took = self.parts.clock.mono().since(begun);
        Ok(DoctorReport {
            state,
            at: self.parts.clock.now(),
            node: self.operator().name().to_owned(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            checks,
            unchecked: unchecked(),
        })
    }
}

/// What nobody sees of a running cluster from outside.
fn unchecked() -> Vec<Unchecked> {
    let lines = [
        (
            "I4",
            "that nothing acknowledged was lost: who was told what is known to clients alone; \
                gaps and damage are seen by `frames` and `fences`",
        ),
        ("I8", "processes on machines: each is seen by its own agent alone (troupe-edge doctor)"),
        ("I10", "what one person may see of another: every call is checked where it is made"),
        (
            "I11",
            "logs and frames are not searched for secrets: of them only key files are looked at",
        ),
    ];
    let line = |(invariant, why): (&str, &str)| Unchecked {
        invariant: invariant.to_owned(),
        why: why.to_owned(),
    };
    lines.map(line).into()
}
