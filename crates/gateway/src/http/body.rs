//! What comes in: bodies, queries, path parts and who is asking, each with its bounds.

use std::{net::IpAddr, str::FromStr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{HeaderMap, header, request::Parts},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use troupe_services::{Auth, Caller, Problem};
use troupe_telemetry::{TraceParent, trace};

use super::answer::Refusal;
use crate::gateway::Shared;

/// How deep JSON may be nested.
pub(crate) const DEPTH_MAX: usize = 64;
/// What is read and dropped of a body that is too large, so that its sender sees the answer.
const DISCARD_MAX: usize = 32 * 1024 * 1024;
const DISCARD_FOR: Duration = Duration::from_secs(5);

/// Whoever shows a valid token or key; 401 otherwise.
#[derive(Debug)]
pub(super) struct Who(pub(super) Caller);

impl FromRequestParts<Shared> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let token = bearer(&parts.headers)
            .ok_or_else(|| Problem::unauthorized("Log in, or give an API key."))?;
        let caller = shared.state.auth.verify(token).await?;
        // Only now: a stranger decides nothing about what is collected.
        if let Some(parent) = trace_of(&parts.headers) {
            trace::adopt(parent);
        }
        Ok(Self(caller))
    }
}

/// Where in a trace of their own the caller stands.
fn trace_of(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get("traceparent")?.to_str().ok()?.parse().ok()
}

/// The token of `Authorization: Bearer`, or the key of `X-API-Key`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let key = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    bearer.or(key)
}

/// An administrator; 403 for others.
#[derive(Debug)]
pub(super) struct Admin(pub(super) Caller);

impl FromRequestParts<Shared> for Admin {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let Who(caller) = Who::from_request_parts(parts, shared).await?;
        if caller.is_admin() {
            return Ok(Self(caller));
        }
        let path = parts.uri.path();
        tracing::info!(target: "audit", action = path, by = %caller.user, outcome = "denied");
        Err(Problem::forbidden("Only an administrator may do this.").into())
    }
}

/// A JSON body of a known form.
#[derive(Debug)]
pub(super) struct Input<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Input<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Refusal> {
        check_type(request.headers(), &["application/json"])?;
        let bytes = read(request.into_body(), shared).await?;
        Ok(Self(parse_object(&bytes)?))
    }
}

/// A JSON object, or nothing at all.
#[derive(Debug)]
pub(super) struct MaybeObject(pub(super) serde_json::Map<String, Value>);

impl FromRequest<Shared> for MaybeObject {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Refusal> {
        let typed = check_type(request.headers(), &["application/json"]);
        let bytes = read(request.into_body(), shared).await?;
        if bytes.is_empty() {
            return Ok(Self(serde_json::Map::new()));
        }
        typed?;
        Ok(Self(parse_object(&bytes)?))
    }
}

/// YAML or JSON documents, untouched.
#[derive(Debug)]
pub(super) struct Documents(pub(super) Bytes);

impl FromRequest<Shared> for Documents {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Refusal> {
        const TYPES: &[&str] = &[
            "application/json",
            "application/yaml",
            "application/x-yaml",
            "text/yaml",
            "text/x-yaml",
        ];
        check_type(request.headers(), TYPES)?;
        Ok(Self(read(request.into_body(), shared).await?))
    }
}

/// A query of a known form; what is unknown in it is ignored.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Refusal> {
        let Query(query) = Query::try_from_uri(&parts.uri)
            .map_err(|error| Problem::invalid("query", sentence(&error.body_text())))?;
        Ok(Self(query))
    }
}

/// Parts of the path, decoded.
#[derive(Debug)]
pub(super) struct Parted<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Parted<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, shared).await;
        let axum::extract::Path(parted) = path.map_err(|_| super::answer::no_such_path())?;
        Ok(Self(parted))
    }
}

/// An id in a path. What is no id is not found, like an id of nothing.
pub(super) fn id<T: FromStr>(text: &str, what: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| Problem::not_found(what).into())
}

fn check_type(headers: &HeaderMap, allowed: &[&str]) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.map(|g| g.split(';').next().unwrap_or_default().trim());
    if essence.is_some_and(|e| allowed.iter().any(|a| e.eq_ignore_ascii_case(a))) {
        return Ok(());
    }
    let detail = format!("Send the body as {}.", allowed.join(" or "));
    Err(Problem::new(415, "unsupported_media_type", detail).into())
}

async fn read(body: Body, shared: &Shared) -> Result<Bytes, Refusal> {
    let options = shared.options();
    read_at_most(body, options.payload_max, options.body_timeout).await
}

/// The same with bounds of its own.
pub(super) async fn read_at_most(
    body: Body,
    bytes_max: usize,
    time_max: Duration,
) -> Result<Bytes, Refusal> {
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::new();
    let reading = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| {
                Problem::new(400, "bad_request", "The body ended before it was whole.")
            })?;
            if whole.len() + chunk.len() > bytes_max {
                let discarding = discard(&mut chunks, chunk.len());
                let _ = tokio::time::timeout(DISCARD_FOR, discarding).await;
                let detail = format!("A body has at most {bytes_max} bytes.");
                return Err(Problem::new(413, "payload_too_large", detail));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(())
    };
    let slow = |_| Problem::new(408, "body_timeout", "The body took too long to arrive.");
    tokio::time::timeout(time_max, reading).await.map_err(slow)??;
    Ok(whole.freeze())
}

async fn discard(chunks: &mut axum::body::BodyDataStream, mut read: usize) {
    while let Some(Ok(chunk)) = chunks.next().await {
        read += chunk.len();
        if read > DISCARD_MAX {
            return;
        }
    }
}

/// A JSON object as a known form. A form would also take an array of its fields in their order,
/// which nobody means.
fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(no_object());
    }
    parse(bytes)
}

fn no_object() -> Problem {
    Problem::invalid("", "It must be a JSON object.")
}

/// JSON as a known form; faults name the field.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    check_depth(bytes)?;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|e| field_problem(&e))?;
    json.end().map_err(|e| {
        let mut problem = Problem::invalid("", sentence(&e.to_string()));
        problem.code = "malformed".to_owned();
        problem
    })?;
    Ok(parsed)
}

/// A value as a known form; faults name the field.
pub(crate) fn form<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    if !value.is_object() {
        return Err(no_object());
    }
    serde_path_to_error::deserialize(value).map_err(|e| field_problem(&e))
}

fn field_problem(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let inner = error.inner();
    let path = match error.path().to_string().as_str() {
        "." => String::new(),
        path => path.to_owned(),
    };
    // Line and column have their own fields.
    let text = inner.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let mut problem = Problem::invalid(&path, sentence(text));
    if inner.is_syntax() || inner.is_eof() {
        problem.code = "malformed".to_owned();
    }
    if let (Some(fault), line) = (problem.errors.first_mut(), inner.line())
        && line > 0
    {
        fault.line = u32::try_from(line).ok();
        fault.column = u32::try_from(inner.column()).ok();
    }
    problem
}

/// Upper case at the front, a full stop at the end.
fn sentence(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn too_deep() -> Problem {
    Problem::new(422, "too_deep", format!("JSON is nested at most {DEPTH_MAX} levels deep."))
}

/// Refuses deep nesting before anything recursive looks at it.
fn check_depth(json: &[u8]) -> Result<(), Problem> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(too_deep());
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// The same for text that arrives over a socket.
pub(crate) fn parse_text<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    parse_object(text.as_bytes())
}

/// The same for a value that was read by somebody else (at most 128 levels).
pub(crate) fn check_value_depth(value: &Value) -> Result<(), Problem> {
    fn fits(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|item| fits(item, left - 1)),
            Value::Object(fields) => left > 0 && fields.values().all(|item| fits(item, left - 1)),
            _ => true,
        }
    }
    if fits(value, DEPTH_MAX) { Ok(()) } else { Err(too_deep()) }
}

/// Whether a token is the scrape token, if there is one.
pub(super) fn is_scrape_token(shared: &Shared, token: &str) -> bool {
    shared.options().scrape_token.as_deref().is_some_and(|known| Auth::same_secret(known, token))
}

/// The two ends of the connection, if the server told them.
pub(super) fn peer(parts: &axum::http::Extensions) -> Option<crate::serve::Peer> {
    parts.get::<axum::extract::ConnectInfo<crate::serve::Peer>>().map(|info| info.0)
}

/// Who a request comes from: the peer, or whom the proxy in front speaks for.
#[derive(Debug)]
pub(super) struct From(pub(super) Option<IpAddr>);

impl FromRequestParts<Shared> for From {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Shared,
    ) -> Result<Self, std::convert::Infallible> {
        let peer = peer(&parts.extensions).map(|peer| peer.remote.ip());
        Ok(Self(whose(&parts.headers, peer, shared.options().proxied)))
    }
}

fn whose(headers: &HeaderMap, peer: Option<IpAddr>, proxied: bool) -> Option<IpAddr> {
    proxied.then(|| forwarded_for(headers)).flatten().or(peer)
}

/// The last address: the proxy's own word. Those before it are what it was told.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// What handlers hold on to beyond their request.
pub(super) fn share(shared: &Shared) -> Shared {
    Arc::clone(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stranger writes there themselves counts for nothing.
    #[test]
    fn behind_a_proxy_the_last_address_it_names_is_whose_request_it_is() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let peer = ip("10.9.9.9");
        let mut headers = HeaderMap::new();
        assert_eq!(whose(&headers, peer, true), peer, "a proxy that says nothing");
        headers.append("x-forwarded-for", "1.1.1.1, 192.0.2.1".parse().unwrap());
        assert_eq!(whose(&headers, peer, true), ip("192.0.2.1"));
        assert_eq!(whose(&headers, peer, false), peer, "there is no proxy");
        headers.append("x-forwarded-for", "2001:db8::1".parse().unwrap());
        assert_eq!(whose(&headers, peer, true), ip("2001:db8::1"));
        headers.append("x-forwarded-for", "unknown".parse().unwrap());
        assert_eq!(whose(&headers, peer, true), peer);
    }
}
