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
use troupe_services::Problem;

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

/// Everything that is asked over HTTP, Socket.IO and the stream included; on a node that serves no
/// people, what supervisors and scrapers ask.
pub(crate) fn router(shared: &Shared, sockets: SocketIoLayer) -> Router {
    let router = if shared.options().serves_people {
        with_routes(routes())
            .route(live::STREAM_PATH, get(live::stream::upgrade))
            .fallback(console::page)
            .with_state(Arc::clone(shared))
            .layer(sockets)
    } else {
        let probes = system::ROUTES.iter().filter(|route| guard::ALWAYS.contains(&route.path));
        with_routes(probes).fallback(elsewhere).with_state(Arc::clone(shared))
    };
    router.layer(middleware::from_fn_with_state(Arc::clone(shared), guard::guard))
}

fn with_routes(routes: impl IntoIterator<Item = &'static Route>) -> Router<Shared> {
    let router = Router::new().method_not_allowed_fallback(answer::method_not_allowed);
    routes.into_iter().fold(router, |router, route| router.route(route.path, (route.handler)()))
}

async fn elsewhere() -> Refusal {
    let detail = "This node has not the role `gateway`: ask one that has (`troupe admin nodes`).";
    Problem::new(421, "not_a_gateway", detail).into()
}
