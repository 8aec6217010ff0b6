//! What went wrong with a Task, as a problem for people.

use troupe_api::Problem;
use troupe_domain::task::Refusal;
use troupe_entities::task::TaskError;
use troupe_sharding::AskError;
use troupe_store::ReadError;

pub(crate) fn task_problem(error: &TaskError) -> Problem {
    match error {
        TaskError::Refused(refusal) => refusal_problem(refusal),
        TaskError::Ask(fate) => ask_problem(fate),
        TaskError::Protocol => Problem::new(500, "internal", "the task's answer made no sense"),
    }
}

fn refusal_problem(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::NotFound => Problem::not_found("task"),
        Refusal::MessageNotFound => Problem::not_found("message"),
        Refusal::KeyReused => Problem::new(
            409,
            "key_reused",
            "this client_message_id was already used with another body; use a new one",
        ),
        Refusal::WrongState { message, .. } => Problem::new(409, "wrong_state", message.clone()),
        Refusal::Invalid { field, message } => Problem::invalid(field, message.clone()),
    }
}

/// What became of an ask, with what to do about it.
pub(crate) fn ask_problem(fate: &AskError) -> Problem {
    let after = |mut problem: Problem, seconds| {
        problem.retry_after = Some(seconds);
        problem
    };
    match fate {
        AskError::Overloaded => after(
            Problem::new(429, "overloaded", "too many requests wait for this; repeat in a moment"),
            1,
        ),
        AskError::NotDelivered => {
            after(Problem::new(503, "not_delivered", "nothing happened; repeat in a moment"), 1)
        }
        AskError::OutcomeUnknown => after(
            Problem::new(
                503,
                "outcome_unknown",
                "it may or may not have happened; repeat with the same client_message_id",
            ),
            1,
        ),
        AskError::Failed(failed) if failed.code == "store" => {
            after(Problem::new(503, "store", failed.message.clone()), 5)
        }
        AskError::Failed(failed) => Problem::new(500, &failed.code, failed.message.clone()),
    }
}

pub(super) fn read_problem(error: &ReadError) -> Problem {
    tracing::warn!(%error, "a list could not be read");
    let mut problem = Problem::new(503, "store", "the store is not available; repeat later");
    problem.retry_after = Some(5);
    problem
}
