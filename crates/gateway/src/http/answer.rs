//! Answers: JSON, and refusals as `application/problem+json`.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use troupe_services::{AuthError, Problem};

/// Media type of every refusal.
const PROBLEM_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A refusal on its way out; the guard gives it its request id and writes it.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Box<Problem>);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        Problem::from(error).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status(&self.0);
        response.extensions_mut().insert(Told(self.0));
        response
    }
}

/// Travels in the response until the guard writes it.
#[derive(Clone, Debug)]
struct Told(Box<Problem>);

fn status(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Writes a refusal's body, with the id under which it stands in the log.
pub(super) fn finish(mut response: Response, request_id: &str) -> Response {
    let Some(Told(mut problem)) = response.extensions_mut().remove::<Told>() else {
        return response;
    };
    problem.request_id = Some(request_id.to_owned());
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let retry_after = problem.retry_after;
    let mut written = Response::new(Body::from(body));
    *written.status_mut() = status(&problem);
    *written.headers_mut() = std::mem::take(response.headers_mut());
    let headers = written.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, PROBLEM_TYPE);
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if problem.status == 401 {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    written
}

pub(super) async fn method_not_allowed() -> Refusal {
    Problem::new(405, "method_not_allowed", "This path does not take this method.").into()
}

pub(super) fn no_such_path() -> Refusal {
    Problem::new(404, "not_found", "There is no such path.").into()
}
