//! Users and API keys.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    routing::{delete, get, patch, post, put},
};
use serde::Deserialize;
use troupe_api::{
    auth::{ApiKeyView, CreateApiKey, CreateUser, CreatedApiKey, UserPatch, UserView},
    git::{GitTokenView, PutGitToken},
    task::Page,
};

use super::{
    answer::Refusal,
    body::{Admin, Asked, Input, Parted, Who, id},
    route::{Access, Route, of, page_of},
};
use crate::gateway::Shared;

pub(super) const ROUTES: &[Route] = &[
    Route::new("GET", "/api/v1/users/me", "get_me", "The caller.", || get(me))
        .gives(of::<UserView>),
    Route::new(
        "PATCH",
        "/api/v1/users/me",
        "patch_me",
        "Changes the caller's e-mail, preferences (16 KiB) or password; a new password needs the \
         current one and ends all other sessions.",
        || patch(patch_me),
    )
    .takes(of::<UserPatch>)
    .gives(of::<UserView>),
    Route::new(
        "GET",
        "/api/v1/users/me/git",
        "list_git_tokens",
        "The caller's git tokens by host, masked: what devices clone private repositories with.",
        || get(git_tokens),
    )
    .gives(page_of::<GitTokenView>),
    Route::new(
        "PUT",
        "/api/v1/users/me/git/{host}",
        "put_git_token",
        "Sets the caller's git token for a host (`HOST` or `HOST:PORT`).",
        || put(put_git_token),
    )
    .takes(of::<PutGitToken>)
    .gives(of::<GitTokenView>),
    Route::new(
        "DELETE",
        "/api/v1/users/me/git/{host}",
        "delete_git_token",
        "Takes the caller's git token for a host away.",
        || delete(delete_git_token),
    )
    .by(Access::Owner)
    .status(204),
    Route::new("GET", "/api/v1/users", "list_users", "All users, oldest first.", || {
        get(list_users)
    })
    .by(Access::Admin)
    .query(&[("cursor", "From an earlier page."), ("limit", "1 to 100; 20.")])
    .gives(page_of::<UserView>),
    Route::new("POST", "/api/v1/users", "create_user", "Makes a user.", || post(create_user))
        .by(Access::Admin)
        .takes(of::<CreateUser>)
        .gives(of::<UserView>)
        .status(201),
    Route::new("GET", "/api/v1/users/{id}", "get_user", "One user.", || get(user))
        .by(Access::Admin)
        .gives(of::<UserView>),
    Route::new(
        "PATCH",
        "/api/v1/users/{id}",
        "patch_user",
        "Changes a user. Deactivation and a new password end all their sessions; nobody \
         deactivates or demotes themselves or the last administrator.",
        || patch(patch_user),
    )
    .by(Access::Admin)
    .takes(of::<UserPatch>)
    .gives(of::<UserView>),
    Route::new(
        "DELETE",
        "/api/v1/users/{id}",
        "deactivate_user",
        "Deactivates a user; their things stay.",
        || delete(deactivate),
    )
    .by(Access::Admin)
    .status(204),
    Route::new("GET", "/api/v1/api-keys", "list_api_keys", "The caller's API keys.", || {
        get(api_keys)
    })
    .gives(page_of::<ApiKeyView>),
    Route::new(
        "POST",
        "/api/v1/api-keys",
        "create_api_key",
        "Makes an API key; its secret is in this answer only.",
        || post(create_api_key),
    )
    .takes(of::<CreateApiKey>)
    .gives(of::<CreatedApiKey>)
    .status(201),
    Route::new(
        "DELETE",
        "/api/v1/api-keys/{id}",
        "delete_api_key",
        "Deletes an API key; it stops working at once.",
        || delete(delete_api_key),
    )
    .by(Access::Owner)
    .status(204),
];

#[derive(Debug, Deserialize)]
struct PageQuery {
    cursor: Option<String>,
    #[serde(default)]
    limit: u32,
}

async fn me(State(shared): State<Shared>, Who(who): Who) -> Result<Json<UserView>, Refusal> {
    Ok(Json(shared.state.auth.me(&who).await?))
}

async fn patch_me(
    State(shared): State<Shared>,
    Who(who): Who,
    Input(patch): Input<UserPatch>,
) -> Result<Json<UserView>, Refusal> {
    Ok(Json(shared.state.auth.patch_me(&who, patch).await?))
}

async fn git_tokens(
    State(shared): State<Shared>,
    Who(who): Who,
) -> Result<Json<Page<GitTokenView>>, Refusal> {
    let items = shared.state.git_tokens.list(&who).await?;
    let total = u64::try_from(items.len()).unwrap_or(u64::MAX);
    Ok(Json(Page { total, items, next: None }))
}

async fn put_git_token(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(host): Parted<String>,
    Input(request): Input<PutGitToken>,
) -> Result<Json<GitTokenView>, Refusal> {
    Ok(Json(shared.state.git_tokens.put(&who, &host, request).await?))
}

async fn delete_git_token(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(host): Parted<String>,
) -> Result<StatusCode, Refusal> {
    shared.state.git_tokens.remove(&who, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_users(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<UserView>>, Refusal> {
    Ok(Json(shared.state.auth.list_users(&who, page.cursor.as_deref(), page.limit).await?))
}

async fn create_user(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Input(request): Input<CreateUser>,
) -> Result<(StatusCode, Json<UserView>), Refusal> {
    Ok((StatusCode::CREATED, Json(shared.state.auth.create_user(&who, request).await?)))
}

async fn user(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(user): Parted<String>,
) -> Result<Json<UserView>, Refusal> {
    Ok(Json(shared.state.auth.user(&who, id(&user, "User")?).await?))
}

async fn patch_user(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(user): Parted<String>,
    Input(patch): Input<UserPatch>,
) -> Result<Json<UserView>, Refusal> {
    Ok(Json(shared.state.auth.patch_user(&who, id(&user, "User")?, patch).await?))
}

async fn deactivate(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(user): Parted<String>,
) -> Result<StatusCode, Refusal> {
    shared.state.auth.deactivate(&who, id(&user, "User")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn api_keys(
    State(shared): State<Shared>,
    Who(who): Who,
) -> Result<Json<Page<ApiKeyView>>, Refusal> {
    let items = shared.state.auth.api_keys(&who).await?;
    Ok(Json(Page { total: items.len() as u64, items, next: None }))
}

async fn create_api_key(
    State(shared): State<Shared>,
    Who(who): Who,
    Input(request): Input<CreateApiKey>,
) -> Result<(StatusCode, Json<CreatedApiKey>), Refusal> {
    Ok((StatusCode::CREATED, Json(shared.state.auth.create_api_key(&who, request).await?)))
}

async fn delete_api_key(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(key): Parted<String>,
) -> Result<StatusCode, Refusal> {
    shared.state.auth.delete_api_key(&who, id(&key, "API key")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
