//! The console's files, with its shell for every path that is a page of it.

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use troupe_services::Problem;

use super::{
    answer::{Refusal, no_such_path},
    guard::is_page,
};
use crate::{
    assets::{Asset, NO_CONSOLE_PAGE},
    gateway::Shared,
};

const SHELL: &str = "index.html";
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

pub(super) async fn page(
    State(shared): State<Shared>,
    request: Request,
) -> Result<Response, Refusal> {
    let path = request.uri().path();
    if !is_page(path) {
        return Err(no_such_path());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let detail = "This path does not take this method.";
        return Err(Problem::new(405, "method_not_allowed", detail).into());
    }
    let assets = &shared.state.assets;
    let file = path.trim_start_matches('/');
    if let Some(asset) = assets.get(if file.is_empty() { SHELL } else { file }) {
        return Ok(answer(&asset, request.headers()));
    }
    // A path with a dot in its last part is a file that is not there, not a page.
    if file.rsplit('/').next().is_some_and(|last| last.contains('.')) {
        return Err(no_such_path());
    }
    Ok(match assets.get(SHELL) {
        Some(shell) => answer(&shell, request.headers()),
        None => ([(header::CONTENT_TYPE, HTML)], NO_CONSOLE_PAGE).into_response(),
    })
}

fn answer(asset: &Asset, asked: &HeaderMap) -> Response {
    let text = |name: header::HeaderName| asked.get(name).and_then(|v| v.to_str().ok());
    let etag = format!("\"{}\"", asset.etag);
    let known = text(header::IF_NONE_MATCH)
        .is_some_and(|known| known.split(',').any(|k| k.trim().trim_start_matches("W/") == etag));
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    let cache = if asset.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(value) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, value);
    }
    if let Ok(value) = HeaderValue::from_str(&asset.content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let takes_brotli = text(header::ACCEPT_ENCODING).is_some_and(|encodings| {
        encodings.split(',').any(|e| e.split(';').next().unwrap_or_default().trim() == "br")
    });
    let bytes = match &asset.brotli {
        Some(brotli) if takes_brotli => {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
            brotli.clone()
        }
        _ => asset.bytes.clone(),
    };
    *response.body_mut() = Body::from(bytes);
    response
}
