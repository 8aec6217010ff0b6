//! The gateway of a node: what it is made of, and its life.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use troupe_actor::{TaskHandle, spawn_task};
use troupe_services::{Auth, Devices, GitTokens, Operations, Resources, Tasks};
use troupe_soft_state::SoftState;
use troupe_telemetry::MetricsHandle;
use troupe_types::Clock;

use crate::{
    assets::Assets,
    http,
    live::{self, Hub},
    options::GatewayOptions,
};

/// How long closing the sockets may take.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What a gateway stands on.
#[derive(Clone, Debug)]
pub struct GatewayState {
    /// Use cases of Tasks.
    pub tasks: Arc<dyn Tasks>,
    /// Use cases of devices.
    pub devices: Arc<dyn Devices>,
    /// Use cases of the declarative API.
    pub resources: Arc<dyn Resources>,
    /// Use cases of administrators.
    pub operations: Arc<Operations>,
    /// Git tokens of people.
    pub git_tokens: Arc<GitTokens>,
    /// Who is who.
    pub auth: Arc<Auth>,
    /// Presence, and notices to users.
    pub soft: Arc<dyn SoftState>,
    /// The console.
    pub assets: Arc<dyn Assets>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Rendered under `/metrics`.
    pub metrics: Option<MetricsHandle>,
    /// Settings.
    pub options: GatewayOptions,
}

/// What all handlers share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) state: GatewayState,
    pub(crate) hub: Hub,
    started: AtomicBool,
    draining: AtomicBool,
    cut_off: AtomicBool,
}

pub(crate) type Shared = Arc<Inner>;

impl Inner {
    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Acquire)
    }

    pub(crate) fn options(&self) -> &GatewayOptions {
        &self.state.options
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("troupe_gateway_requests_total", "requests answered, by class of status");
    describe_histogram!(
        "troupe_gateway_request_seconds",
        Unit::Seconds,
        "from a request to the beginning of its answer"
    );
    describe_gauge!("troupe_gateway_sockets", "open sockets, Socket.IO and stream together");
    describe_counter!("troupe_gateway_frames_sent_total", "frames handed to sockets");
    describe_counter!("troupe_gateway_resyncs_total", "viewers told to join anew");
}

/// A running gateway. Dropping it ends its background work, not its open connections.
#[derive(Debug)]
pub struct Gateway {
    inner: Shared,
    io: socketioxide::SocketIo,
    router: Router,
    // Aborted with the gateway.
    _tasks: Vec<TaskHandle>,
}

impl Gateway {
    /// Starts what runs beside requests: the sweeper of sockets, notices, presence, revocations. It
    /// is
    /// not ready until [`set_ready`](Self::set_ready).
    #[must_use]
    pub fn new(state: GatewayState) -> Self {
        describe();
        let inner = Arc::new(Inner {
            hub: Hub::new(&state),
            state,
            started: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
        });
        let (layer, io) = live::socketio::build(&inner);
        let router = http::router(&inner, layer);
        let tasks = vec![
            spawn_task("gateway-sweep", live::sweep::run(Arc::downgrade(&inner))).abort_on_drop(),
            spawn_task("gateway-notices", live::sweep::notices(Arc::downgrade(&inner)))
                .abort_on_drop(),
            spawn_task("gateway-presence", live::presence::run(Arc::downgrade(&inner)))
                .abort_on_drop(),
            spawn_task("gateway-revocations", live::sweep::revocations(Arc::downgrade(&inner)))
                .abort_on_drop(),
        ];
        Self { inner, io, router, _tasks: tasks }
    }

    /// The service to be served; see [`serve`](crate::serve).
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// From now on `/ready` says so.
    pub fn set_ready(&self) {
        self.inner.started.store(true, Ordering::Release);
    }

    /// Whether this node alone does not reach the store: `/ready` says so, and balancers send
    /// people to the others. What comes nonetheless is tried.
    pub fn set_cut_off(&self, is_cut_off: bool) {
        self.inner.cut_off.store(is_cut_off, Ordering::Release);
    }

    /// From now on new work is refused with 503; health is told, and frames still flow.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::Release);
    }

    /// Closes all sockets; clients come back, to another node or to the next start.
    pub async fn close(&self) {
        self.drain();
        self.inner.hub.close_all();
        let withdrawing = live::presence::withdraw(&self.inner);
        if tokio::time::timeout(CLOSE_MAX, withdrawing).await.is_err() {
            tracing::debug!("who looked is forgotten by the others in time");
        }
        if tokio::time::timeout(CLOSE_MAX, self.io.close()).await.is_err() {
            tracing::warn!("sockets did not close in time");
        }
    }

    /// Open sockets, Socket.IO and stream together.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.inner.hub.connections.len()
    }

    /// Rooms with at least one viewer.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.inner.hub.rooms.len()
    }

    /// The OpenAPI document.
    #[must_use]
    pub fn openapi() -> utoipa::openapi::OpenApi {
        http::openapi::document()
    }
}
