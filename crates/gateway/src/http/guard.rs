//! What every request passes: its id, the host it names, draining, a deadline, headers.

use std::{net::IpAddr, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::{Instrument as _, Span, debug_span, field::Empty};
use troupe_services::Problem;
use troupe_types::{Clock, RequestId};

use super::{
    answer::{self, Refusal},
    body,
    route::{Route, Takes},
    skills::{self, PACKAGE_TIME_MAX},
};
use crate::gateway::Shared;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_CHARS_MAX: usize = 64;
/// Paths that every node answers, whatever its roles, while it drains, and to whatever name they are
/// asked under: probes come by address.
pub(super) const ALWAYS: [&str; 4] = ["/health", "/ready", "/startup", "/metrics"];

/// A package may take its time to arrive.
fn is_package(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let is_it = |route: &Route| route.method == request.method().as_str() && route.path == path;
    skills::ROUTES.iter().any(|route| matches!(route.takes, Takes::Package) && is_it(route))
}

pub(super) async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers(), &*shared.state.clock);
    let is_api = !is_page(request.uri().path());
    let response = match check(&shared, &request) {
        Ok(()) => {
            let mut limit = shared.options().request_timeout;
            if is_package(&request) {
                limit += PACKAGE_TIME_MAX;
            }
            let span = if is_api { span_of(&request, &id) } else { Span::none() };
            let answering = next.run(request).instrument(span.clone());
            let response = match tokio::time::timeout(limit, answering).await {
                Ok(response) => response,
                Err(_) => timed_out().into_response(),
            };
            let status = response.status();
            span.record("http.response.status_code", status.as_u16());
            if status.is_server_error() {
                span.record("otel.status_code", "ERROR");
            }
            response
        }
        Err(refusal) => refusal.into_response(),
    };
    let mut response = answer::finish(response, &id);
    let class = match response.status().as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    metrics::counter!("troupe_gateway_requests_total", "status" => class).increment(1);
    metrics::histogram!("troupe_gateway_request_seconds").record(began.elapsed().as_secs_f64());
    if response.status().is_server_error() {
        tracing::warn!(request = %id, status = response.status().as_u16(), "a request failed");
    }
    add_headers(response.headers_mut(), &id, is_api, &shared);
    response
}

/// The span of a request, with the route and not the path: ids and queries are the caller's.
fn span_of(request: &Request, id: &str) -> Span {
    if ALWAYS.contains(&request.uri().path()) {
        return Span::none();
    }
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let method = request.method().as_str();
    debug_span!(
        "http request",
        otel.kind = "server",
        otel.name = format!("{method} {route}"),
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        request = id
    )
}

fn timed_out() -> Refusal {
    let detail = "The answer took too long: look whether it happened, or try again.";
    Problem { retry_after: Some(1), ..Problem::new(504, "timeout", detail) }.into()
}

fn check(shared: &Shared, request: &Request) -> Result<(), Refusal> {
    if ALWAYS.contains(&request.uri().path()) {
        return Ok(());
    }
    check_host(shared, request)?;
    if shared.is_draining() {
        let problem = Problem::new(503, "draining", "This node is being stopped: try again.");
        return Err(Problem { retry_after: Some(2), ..problem }.into());
    }
    Ok(())
}

/// A name that is not ours means that somebody's page was pointed at us (DNS rebinding).
fn check_host(shared: &Shared, request: &Request) -> Result<(), Refusal> {
    let named = host(request.headers(), request.uri());
    let local = body::peer(request.extensions()).and_then(|peer| peer.local);
    if named.as_deref().is_some_and(|name| is_ours(shared, name, local.map(|l| l.ip()))) {
        return Ok(());
    }
    let detail = "This node does not answer to that host name: add it to the public hosts.";
    Err(Problem::new(421, "misdirected", detail).into())
}

/// The host without port, in lower case.
fn host(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let named = match headers.get(header::HOST) {
        Some(value) => value.to_str().ok()?,
        None => uri.authority()?.as_str(),
    };
    let name = match named.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => named.split(':').next()?,
    };
    Some(name.trim_end_matches('.').to_ascii_lowercase())
}

fn is_ours(shared: &Shared, name: &str, local: Option<IpAddr>) -> bool {
    let options = shared.options();
    if name == "localhost" || name.ends_with(".localhost") {
        return true;
    }
    if options.public_hosts.iter().any(|known| is_called(known, name)) {
        return true;
    }
    name.parse::<IpAddr>().is_ok_and(|ip| {
        let ip = ip.to_canonical();
        let is = |known: IpAddr| known.to_canonical() == ip;
        ip.is_loopback() || local.is_some_and(is) || options.listen.iter().copied().any(is)
    })
}

/// Whether a name is meant; `*.` stands for one label, as in certificates.
fn is_called(known: &str, name: &str) -> bool {
    match known.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => known == name,
    }
}

fn request_id(headers: &HeaderMap, clock: &dyn Clock) -> String {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let usable = |text: &&str| {
        (1..=REQUEST_ID_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match given.filter(usable) {
        Some(text) => text.to_owned(),
        None => RequestId::new(clock.now()).to_string(),
    }
}

/// Whether a path belongs to the console.
pub(super) fn is_page(path: &str) -> bool {
    let api = path.starts_with("/api/") || path == "/api" || path.starts_with("/socket.io");
    !api && !ALWAYS.contains(&path)
}

fn add_headers(headers: &mut HeaderMap, id: &str, is_api: bool, shared: &Shared) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if is_api {
        set(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    } else if let Ok(value) = HeaderValue::from_str(&page_policy(shared)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, value);
    }
}

/// Own scripts only, no eval; inline ones by the hashes that the console's build gives.
fn page_policy(shared: &Shared) -> String {
    let mut scripts = String::from("'self'");
    for hash in shared.state.assets.script_hashes() {
        if hash.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=-".contains(&b)) {
            scripts.push_str(" '");
            scripts.push_str(&hash);
            scripts.push('\'');
        }
    }
    format!(
        "default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; \
         img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; worker-src 'self'; \
         manifest-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'"
    )
}
