//! REST: one table of routes, from which the router and the OpenAPI document are made.

mod admin;
mod answer;
pub(crate) mod body;
mod console;
mod devices;
mod guard;
mod kinds;
mod multipart;
pub mod openapi;
mod people;
pub mod route;
mod session;
mod skills;
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
        skills::ROUTES,
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
    // It is told of routes that are there already, so it comes last.
    let whole = |router: Router<Shared>| {
        router
            .method_not_allowed_fallback(answer::method_not_allowed)
            .with_state(Arc::clone(shared))
    };
    let router = if shared.options().serves_people {
        let routes = with_routes(routes()).route(live::STREAM_PATH, get(live::stream::upgrade));
        whole(routes.fallback(console::page)).layer(sockets)
    } else {
        let probes = system::ROUTES.iter().filter(|route| guard::ALWAYS.contains(&route.path));
        whole(with_routes(probes).fallback(elsewhere))
    };
    router.layer(middleware::from_fn_with_state(Arc::clone(shared), guard::guard))
}

fn with_routes(routes: impl IntoIterator<Item = &'static Route>) -> Router<Shared> {
    let add = |router: Router<_>, route: &Route| router.route(route.path, (route.handler)());
    routes.into_iter().fold(Router::new(), add)
}

async fn elsewhere() -> Refusal {
    let detail = "This node has not the role `gateway`: ask one that has (`troupe admin nodes`).";
    Problem::new(421, "not_a_gateway", detail).into()
}
