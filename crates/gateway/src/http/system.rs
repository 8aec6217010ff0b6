//! Health, metrics, the OpenAPI document, what a node says about itself.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use troupe_api::meta::{Health, Meta};
use troupe_services::Problem;

use super::{
    answer::Refusal,
    body::{bearer, is_scrape_token},
    openapi,
    route::{Access, Route, any, of},
};
use crate::gateway::Shared;

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        "GET",
        "/health",
        "health",
        "Whether the process works; 200 while draining.",
        || get(health),
    )
    .by(Access::Open)
    .gives(of::<Health>),
    Route::new("GET", "/ready", "ready", "Whether it takes work; 503 otherwise.", || get(ready))
        .by(Access::Open)
        .gives(of::<Health>),
    Route::new("GET", "/startup", "startup", "Whether it has started; 503 before.", || {
        get(startup)
    })
    .by(Access::Open)
    .gives(of::<Health>),
    Route::new("GET", "/metrics", "metrics", "Metrics in Prometheus' text form.", || get(render))
        .by(Access::Scrape)
        .gives_text(),
    Route::new("GET", "/api/v1/meta", "get_meta", "What a client needs before a login.", || {
        get(meta)
    })
    .by(Access::Open)
    .gives(of::<Meta>),
    Route::new("GET", "/api/v1/openapi.json", "get_openapi", "This document.", || get(document))
        .by(Access::Open)
        .gives(any),
];

async fn health(State(shared): State<Shared>) -> Json<Health> {
    let shutting_down = shared.is_draining();
    let message = degraded(&shared);
    Json(Health { status: "healthy".to_owned(), shutting_down, message })
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, Json<Health>) {
    let shutting_down = shared.is_draining();
    let cut_off = shared.is_cut_off();
    let (code, status) = match (shutting_down, shared.is_started() && !cut_off) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
        (false, true) => (StatusCode::OK, "ready"),
    };
    let why = "this node does not reach the store, others do";
    let message = cut_off.then(|| why.to_owned()).or_else(|| degraded(&shared));
    (code, Json(Health { status: status.to_owned(), shutting_down, message }))
}

/// What works in part only. Such a node still takes work: without soft state nothing is lost.
fn degraded(shared: &Shared) -> Option<String> {
    let health = shared.state.soft.health();
    let health = health.borrow();
    health.reason().map(|why| format!("soft state is degraded: {why}"))
}

async fn startup(State(shared): State<Shared>) -> (StatusCode, Json<Health>) {
    let shutting_down = shared.is_draining();
    let (code, status) = if shared.is_started() {
        (StatusCode::OK, "started")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting")
    };
    (code, Json(Health { status: status.to_owned(), shutting_down, message: None }))
}

async fn render(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, Refusal> {
    let token = bearer(&headers)
        .ok_or_else(|| Problem::unauthorized("Show the scrape token, or log in."))?;
    if !is_scrape_token(&shared, token) && !shared.state.auth.verify(token).await?.is_admin() {
        return Err(Problem::forbidden("Only an administrator may read metrics.").into());
    }
    let text = shared.state.metrics.as_ref().map(troupe_telemetry::MetricsHandle::render);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, text.unwrap_or_default()).into_response())
}

async fn meta(State(shared): State<Shared>) -> Result<Json<Meta>, Refusal> {
    Ok(Json(Meta {
        name: "troupe".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster_id: shared.state.auth.cluster_id().to_string(),
        setup_needed: shared.state.auth.setup_needed().await?,
        demo: shared.options().demo,
    }))
}

async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::TEXT.as_str())
}
