//! Packages of Skills: ZIP archives, in and out.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use troupe_services::{PACKAGE_BYTES_MAX, Problem, SkillUpload};

use super::{
    answer::Refusal,
    body::{Asked, Parted, Who, read_at_most},
    multipart,
    route::{Access, Route, any},
};
use crate::gateway::Shared;

/// What stands around a package in a form.
const FORM_BYTES: usize = 64 * 1024;
/// How long a package may take to arrive: ten megabytes at 300 kbit/s.
pub(super) const PACKAGE_TIME_MAX: Duration = Duration::from_secs(300);
/// Packages that come in, and go out, at once: each is in memory meanwhile.
const AT_ONCE: usize = 16;
static COMING: Semaphore = Semaphore::const_new(AT_ONCE);
static GOING: Semaphore = Semaphore::const_new(AT_ONCE);
/// Bytes of a package that are handed to the socket at once.
const PIECE_BYTES: usize = 64 * 1024;
const ZIP_TYPES: [&str; 3] =
    ["application/zip", "application/x-zip-compressed", "application/octet-stream"];
const DEFAULT_NAMESPACE: &str = "default";

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        "POST",
        "/api/v1/kinds/skills/upload",
        "upload_skill",
        "Makes a Skill from its package, or replaces the one of this name. A form with the fields \
         `file`, `name` and `namespace`, or the ZIP itself with a query; 400 `bad_package` names \
         the file that is at fault.",
        || post(upload),
    )
    .by(Access::Namespace)
    .query(&[
        ("name", "Of the Skill; without it, the package's folder."),
        ("namespace", "Where; without it, `default`."),
    ])
    .takes_package()
    .gives(any)
    .status(201),
    Route::new("GET", "/api/v1/kinds/skills/{id}", "get_skill", "A Skill by its `uid`.", || {
        get(read)
    })
    .by(Access::Owner)
    .gives(any),
    Route::new(
        "PUT",
        "/api/v1/kinds/skills/{id}",
        "replace_skill",
        "Another package for a Skill; name and namespace stay.",
        || put(replace),
    )
    .by(Access::Owner)
    .takes_package()
    .gives(any),
    Route::new(
        "DELETE",
        "/api/v1/kinds/skills/{id}",
        "delete_skill",
        "Deletes a Skill; 409 with the list of users if others refer to it.",
        || delete(remove),
    )
    .by(Access::Owner)
    .status(204),
    Route::new(
        "GET",
        "/api/v1/kinds/skills/{id}/download",
        "download_skill",
        "The package of a Skill as it was uploaded; its `ETag` is its SHA-256.",
        || get(download),
    )
    .by(Access::Owner)
    .gives_zip(),
];

#[derive(Debug, Default, Deserialize)]
struct Target {
    name: Option<String>,
    namespace: Option<String>,
}

async fn upload(
    State(shared): State<Shared>,
    Who(who): Who,
    Asked(target): Asked<Target>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let _coming = place(&COMING)?;
    let (given, bytes) = package(request).await?;
    let namespace = given.namespace.or(target.namespace);
    let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let name = given.name.or(target.name);
    let upload = SkillUpload { id: None, namespace, name, bytes };
    let made = shared.state.resources.upload_skill(&who, upload).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn read(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(shared.state.resources.skill(&who, &id).await?))
}

async fn replace(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let resources = &shared.state.resources;
    // Nobody sends ten megabytes to hear that there is no such Skill.
    resources.skill(&who, &id).await?;
    let _coming = place(&COMING)?;
    let (_, bytes) = package(request).await?;
    let (namespace, name) = (DEFAULT_NAMESPACE.to_owned(), None);
    let upload = SkillUpload { id: Some(id), namespace, name, bytes };
    Ok(Json(resources.upload_skill(&who, upload).await?))
}

async fn remove(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
) -> Result<StatusCode, Refusal> {
    shared.state.resources.delete_skill(&who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn download(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
) -> Result<Response, Refusal> {
    let going = place(&GOING)?;
    let package = shared.state.resources.skill_package(&who, &id).await?;
    // A name may have any letters, a header may not.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = package.name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.zip\"")),
        (header::ETAG, format!("\"{}\"", package.hash)),
    ];
    let size = package.bytes.len();
    let pieces = (0..size).step_by(PIECE_BYTES).map(move |from| {
        // The place is taken until the last piece is.
        let _going = &going;
        Ok::<_, Infallible>(package.bytes.slice(from..(from + PIECE_BYTES).min(size)))
    });
    let length = [(header::CONTENT_LENGTH, size.to_string())];
    Ok((headers, length, Body::from_stream(stream::iter(pieces))).into_response())
}

/// One of few places, or the word to come again.
fn place(of: &'static Semaphore) -> Result<SemaphorePermit<'static>, Problem> {
    of.try_acquire().map_err(|_| {
        let detail = "Too many packages are under way at this node: try again.";
        Problem { retry_after: Some(2), ..Problem::new(503, "overloaded", detail) }
    })
}

/// The package, and what a form says of it.
async fn package(request: Request) -> Result<(Target, Bytes), Refusal> {
    let kind = content_type(request.headers());
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_form = essence == "multipart/form-data";
    if !is_form && !ZIP_TYPES.contains(&&*essence) {
        let detail = "Send the package as multipart/form-data or application/zip.";
        return Err(Problem::new(415, "unsupported_media_type", detail).into());
    }
    let bytes =
        read_at_most(request.into_body(), PACKAGE_BYTES_MAX + FORM_BYTES, PACKAGE_TIME_MAX).await?;
    if !is_form {
        return Ok((Target::default(), bytes));
    }
    let fields = multipart::fields(bytes, &kind).await?;
    let value = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, v)| v);
    let text = |name: &str| value(name).map(|bytes| utf8(name, bytes)).transpose();
    let target = Target { name: text("name")?, namespace: text("namespace")? };
    let file = value("file").cloned();
    let file = file.ok_or_else(|| Problem::invalid("file", "The form has no field `file`."))?;
    Ok((target, file))
}

fn content_type(headers: &HeaderMap) -> String {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    given.unwrap_or_default().to_owned()
}

fn utf8(name: &str, bytes: &Bytes) -> Result<String, Problem> {
    let text = std::str::from_utf8(bytes);
    Ok(text.map_err(|_| Problem::invalid(name, "It is not UTF-8."))?.to_owned())
}
