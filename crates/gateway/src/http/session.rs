//! Setup, login, refresh, logout. With transport `cookie` the refresh token stays out of reach
//! of scripts.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use troupe_api::{
    auth::{LoginRequest, RefreshRequest, RefreshTransport, SetupRequest, TokenAnswer},
    meta::SetupNeeded,
};
use troupe_services::{
    AuthError, Problem,
    auth::{Login, RefreshProof},
};

use super::{
    answer::Refusal,
    body::{From, Input, MaybeObject, form},
    route::{Access, Route, of},
};
use crate::gateway::Shared;

const PROOF_HEADER: &str = "x-troupe-proof";
const TRANSPORT_HEADER: &str = "x-troupe-transport";

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        "GET",
        "/api/v1/setup",
        "get_setup",
        "Whether there is no administrator yet.",
        || get(needed),
    )
    .by(Access::Open)
    .gives(of::<SetupNeeded>),
    Route::new(
        "POST",
        "/api/v1/setup",
        "setup",
        "Makes the first administrator, by the one-time token of the setup link.",
        || post(setup),
    )
    .by(Access::Proof)
    .takes(of::<SetupRequest>)
    .gives(of::<TokenAnswer>),
    Route::new(
        "POST",
        "/api/v1/auth/login",
        "login",
        "Changes name and password into an access token and a refresh token.",
        || post(login),
    )
    .by(Access::Proof)
    .takes(of::<LoginRequest>)
    .gives(of::<TokenAnswer>),
    Route::new(
        "POST",
        "/api/v1/auth/refresh",
        "refresh",
        "Changes a refresh token (in the body, or in the cookie with its proof in \
         X-Troupe-Proof) into new ones. The old one is good for 30 s more; a later reuse ends \
         the session.",
        || post(refresh),
    )
    .by(Access::Proof)
    .takes(of::<RefreshRequest>)
    .gives(of::<TokenAnswer>),
    Route::new(
        "POST",
        "/api/v1/auth/logout",
        "logout",
        "Ends the session of a refresh token; open sockets of it are closed.",
        || post(logout),
    )
    .by(Access::Proof)
    .takes(of::<RefreshRequest>)
    .status(204),
];

async fn needed(State(shared): State<Shared>) -> Result<Json<SetupNeeded>, Refusal> {
    Ok(Json(SetupNeeded { needed: shared.state.auth.setup_needed().await? }))
}

async fn setup(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Input(request): Input<SetupRequest>,
) -> Result<Response, Refusal> {
    let wants_cookie = headers.get(TRANSPORT_HEADER).is_some_and(|value| value == "cookie");
    let transport = if wants_cookie { RefreshTransport::Cookie } else { RefreshTransport::Body };
    let login = shared.state.auth.setup(request, transport).await?;
    Ok(answer(&shared, login))
}

async fn login(
    State(shared): State<Shared>,
    From(peer): From,
    Input(request): Input<LoginRequest>,
) -> Result<Response, Refusal> {
    let login = shared.state.auth.login(request, peer).await?;
    Ok(answer(&shared, login))
}

async fn refresh(
    State(shared): State<Shared>,
    headers: HeaderMap,
    MaybeObject(body): MaybeObject,
) -> Result<Response, Refusal> {
    let proof = proof(&shared, &headers, body)?;
    let login = shared.state.auth.refresh(proof).await?;
    Ok(answer(&shared, login))
}

async fn logout(
    State(shared): State<Shared>,
    headers: HeaderMap,
    MaybeObject(body): MaybeObject,
) -> Result<Response, Refusal> {
    let proof = proof(&shared, &headers, body)?;
    let by_cookie = matches!(proof, RefreshProof::Cookie { .. });
    shared.state.auth.logout(proof).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if by_cookie {
        set_cookie(&shared, &mut response, "", 0);
    }
    Ok(response)
}

fn proof(
    shared: &Shared,
    headers: &HeaderMap,
    body: serde_json::Map<String, serde_json::Value>,
) -> Result<RefreshProof, Problem> {
    let request: RefreshRequest = form(body.into())?;
    if let Some(token) = request.refresh_token {
        return Ok(RefreshProof::Body(token));
    }
    let name = shared.state.auth.cookie_name();
    let token = cookie(headers, &name).ok_or(AuthError::BadToken)?;
    let proof = headers.get(PROOF_HEADER).and_then(|value| value.to_str().ok());
    Ok(RefreshProof::Cookie { token, proof: proof.map(str::to_owned) })
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';'));
    pairs.find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then(|| value.to_owned())
    })
}

fn answer(shared: &Shared, login: Login) -> Response {
    let mut response = Json(login.answer).into_response();
    if let Some(token) = login.cookie {
        let seconds = shared.state.auth.cookie_for().as_secs();
        set_cookie(shared, &mut response, &token, seconds);
    }
    response
}

fn set_cookie(shared: &Shared, response: &mut Response, token: &str, seconds: u64) {
    let name = shared.state.auth.cookie_name();
    let secure = if shared.options().https { "; Secure" } else { "" };
    let cookie = format!(
        "{name}={token}; Path=/api/v1/auth; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"
    );
    if let Ok(mut value) = HeaderValue::from_str(&cookie) {
        value.set_sensitive(true);
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}
