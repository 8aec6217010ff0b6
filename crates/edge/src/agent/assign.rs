//! Whether this device takes a job. Pure, but for the policy's look at directories.

use std::sync::Arc;

use troupe_executor::{Job, Secret, Secrets};
use troupe_wire::device::{Assignment, AssignmentRefusal, AttemptKey, NamedSecret};

use crate::{engine::Engine, outbox::Accepted, policy::Policy};

/// The name by which a job's headers and variables reach the attempt's token.
pub(super) const TOKEN_SECRET: &str = "TROUPE_TOKEN";

/// A job that may run.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) job: Job,
    pub(super) engine: Arc<dyn Engine>,
}

type Refusal = (AssignmentRefusal, String);

/// What decides about a job.
pub(super) fn check(
    key: AttemptKey,
    accepted: &Accepted,
    policy: &Policy,
    engines: &[Arc<dyn Engine>],
) -> Result<Checked, Refusal> {
    let job: Job = serde_json::from_str(&accepted.spec)
        .map_err(|error| (AssignmentRefusal::BadSpec, format!("the job does not read: {error}")))?;
    if (job.execution, job.attempt, job.task) != (key.execution, key.attempt, accepted.task) {
        let message = "the job is of another attempt than its assignment".to_owned();
        return Err((AssignmentRefusal::BadSpec, message));
    }
    let job = policy
        .check(&accepted.team, &accepted.user, job)
        .map_err(|refused| (AssignmentRefusal::Policy, refused.to_string()))?;
    let engine = engines.iter().find(|engine| engine.kind() == job.runtime).ok_or_else(|| {
        let message = format!("this device has no runtime {}", job.runtime);
        (AssignmentRefusal::NoRuntime, message)
    })?;
    Ok(Checked { job, engine: Arc::clone(engine) })
}

/// What of an assignment lies on the disk; `waits`: the cluster will say when it begins.
pub(super) fn accepted(assignment: &Assignment, waits: bool) -> Result<Accepted, Refusal> {
    let spec = std::str::from_utf8(&assignment.spec)
        .map_err(|_| (AssignmentRefusal::BadSpec, "the job is no UTF-8".to_owned()))?;
    Ok(Accepted {
        task: assignment.task,
        team: assignment.team.clone(),
        user: assignment.user.clone(),
        spec: spec.to_owned(),
        secrets: !assignment.secrets.is_empty() || spec.contains("${secret:"),
        waits,
    })
}

/// The secrets of an attempt, its token among them.
pub(super) fn secrets(token: String, named: Vec<NamedSecret>) -> Secrets {
    let mut secrets = Secrets::new().with(TOKEN_SECRET, token);
    for NamedSecret { name, value } in named {
        secrets.insert(name, Secret::new(value));
    }
    secrets
}
