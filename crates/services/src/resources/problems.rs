//! What went wrong with resources, as a problem for people: every fault with its place.

use serde_json::Value;
use troupe_api::{FieldError, Problem, resource::NamespaceVersion};
use troupe_domain::namespace::{Fault, Key};
use troupe_entities::namespace::{NamespaceError, NamespaceRefusal};
use troupe_resources::{Kind, parse::Located, problem::Problem as Found};

use crate::tasks::ask_problem;

pub(super) fn field_error(problem: &Found) -> FieldError {
    FieldError {
        file: Some(problem.file.clone()).filter(|f| !f.is_empty()),
        line: Some(problem.at.line),
        column: Some(problem.at.column),
        path: problem.path.clone(),
        found: problem.found.clone(),
        allowed: problem.allowed.clone(),
        message: problem.message.clone(),
        suggestion: problem.suggestion.clone(),
    }
}

/// 422 with everything that is wrong.
pub(super) fn rejected(problems: &[Found]) -> Problem {
    let errors: Vec<FieldError> =
        problems.iter().filter(|p| p.is_error()).map(field_error).collect();
    let detail = match &errors[..] {
        [one] => one.message.clone(),
        many => format!("{} errors in the documents; nothing was changed", many.len()),
    };
    let mut problem = Problem::new(422, "invalid", detail);
    problem.errors = errors;
    problem
}

/// The answer must say what was done already when a later Namespace is refused.
pub(super) fn rejected_with(mut problem: Problem, written: &[NamespaceVersion]) -> Problem {
    if !written.is_empty() {
        let names: Vec<&str> = written.iter().map(|n| n.namespace.as_str()).collect();
        let done = format!(" (already written: namespace {})", names.join(", "));
        problem.detail.push_str(&done);
    }
    problem
}

pub(super) fn namespace_problem(error: &NamespaceError, documents: &[Located]) -> Problem {
    match error {
        NamespaceError::Refused(NamespaceRefusal::Faults { faults }) => {
            faults_problem(faults, documents)
        }
        NamespaceError::Refused(NamespaceRefusal::Trimmed { oldest }) => Problem::new(
            410,
            "gone",
            format!("the log begins after version {oldest}: list anew, then watch from there"),
        ),
        NamespaceError::Ask(troupe_sharding::AskError::Failed(failed))
            if failed.code == "too_large" =>
        {
            Problem::new(413, "payload_too_large", failed.message.clone())
        }
        NamespaceError::Ask(fate) => ask_problem(fate),
        NamespaceError::Protocol => {
            Problem::new(500, "internal", "the namespace's answer made no sense")
        }
    }
}

/// The gravest fault decides the status; all are told.
fn faults_problem(faults: &[Fault], documents: &[Located]) -> Problem {
    let (status, code) = faults.iter().map(status_of).min().unwrap_or((500, "internal"));
    let errors: Vec<FieldError> = faults.iter().map(|f| fault_error(f, documents)).collect();
    let detail = match &errors[..] {
        [one] => one.message.clone(),
        many => format!("{} faults; nothing was changed", many.len()),
    };
    let mut problem = Problem::new(status, code, detail);
    problem.errors = errors;
    problem
}

fn status_of(fault: &Fault) -> (u16, &'static str) {
    match fault {
        Fault::Missing { .. } => (404, "not_found"),
        Fault::BrokenReference { .. } => (404, "reference_not_found"),
        Fault::Exists { .. } => (409, "exists"),
        Fault::Conflict { .. } => (409, "conflict"),
        Fault::InUse { .. } => (409, "in_use"),
        Fault::LostSecrets { .. } => (422, "invalid"),
        Fault::TooMany { .. } => (413, "payload_too_large"),
    }
}

pub(super) fn fault_error(fault: &Fault, documents: &[Located]) -> FieldError {
    let (key, path, message) = match fault {
        Fault::Missing { key } | Fault::Exists { key } => (key, "metadata.name", fault.to_string()),
        Fault::Conflict { key, .. } => (
            key,
            "metadata.resourceVersion",
            format!("{fault}: read it again, and apply your change to what is there now"),
        ),
        Fault::BrokenReference { key, target } => (key, target.path.as_str(), fault.to_string()),
        Fault::InUse { key, users } => (
            key,
            "metadata.name",
            format!("{fault} by {}: change or delete those first", names(users)),
        ),
        Fault::LostSecrets { key, paths } => (
            key,
            paths.first().map_or("spec", String::as_str),
            format!("{fault}: write the secret itself"),
        ),
        Fault::TooMany { .. } => {
            return FieldError { message: fault.to_string(), ..FieldError::default() };
        }
    };
    let located = documents
        .iter()
        .find(|d| d.resource.kind == key.kind && d.resource.metadata.name == key.name);
    let at = located.map(|d| d.position(path));
    let allowed = match fault {
        Fault::InUse { users, .. } => users.iter().map(name).collect(),
        _ => Vec::new(),
    };
    FieldError {
        file: located.map(|d| d.file.clone()).filter(|f| !f.is_empty()),
        line: at.map(|at| at.line),
        column: at.map(|at| at.column),
        path: path.to_owned(),
        allowed,
        message,
        ..FieldError::default()
    }
}

fn name(key: &Key) -> String {
    format!("{} {}", key.kind, key.name)
}

fn names(keys: &[Key]) -> String {
    keys.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The fields at a path of a kind.
pub(super) fn explain(kind: Kind, path: Option<&str>) -> Result<Value, Problem> {
    let query = match path {
        Some(path) if !path.is_empty() => format!("{}.{path}", kind.singular()),
        _ => kind.singular().to_owned(),
    };
    match troupe_resources::explain::explain(&query) {
        Ok(explained) => Ok(serde_json::to_value(explained).unwrap_or_default()),
        Err(error) => Err(Problem::new(404, "unknown_field", error.to_string())),
    }
}
