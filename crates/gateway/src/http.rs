//! REST: one table of routes, from which the router and the OpenAPI document are made.

mod admin;
mod answer;
pub(crate) mod body;
mod console;
mod devices;
mod guard;
mod kinds;
pub mod openapi;
mod people;
pub mod route;
mod session;
mod system;
mod tasks;

use std::sync::Arc;

use axum::{Router, middleware, routing::get};
use socketioxide::layer::SocketIoLayer;

pub(crate) use answer::Refusal;
pub use route::{Access, Route};

use crate::{gateway::Shared, live};

/// All routes, by tag.
#[must_use]
pub fn routes() -> Vec<&'static Route> {
    [
        session::ROUTES,
        people::ROUTES,
        tasks::ROUTES,
        devices::ROUTES,
        kinds::ROUTES,
        admin::ROUTES,
        system::ROUTES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Everything that is asked over HTTP, Socket.IO and the stream included.
pub(crate) fn router(shared: &Shared, sockets: SocketIoLayer) -> Router {
    let mut router = Router::new();
    for route in routes() {
        router = router.route(route.path, (route.handler)());
    }
    router
        .route(live::STREAM_PATH, get(live::stream::upgrade))
        .fallback(console::page)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .with_state(Arc::clone(shared))
        .layer(sockets)
        .layer(middleware::from_fn_with_state(Arc::clone(shared), guard::guard))
}
