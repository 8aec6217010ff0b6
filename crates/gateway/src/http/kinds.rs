//! The declarative API: kinds in namespaces. What a namespace, a kind or a name may be is
//! decided in `services`.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use troupe_api::resource::{ApplyAnswer, UsedBy, WatchItem};
use troupe_services::{ApplyOptions, Caller, Problem, Removal};
use troupe_types::Seq;

use super::{
    answer::Refusal,
    body::{Asked, Documents, Parted, Who, share},
    route::{Access, Route, any, of},
};
use crate::gateway::Shared;

/// A watch ends after so long; clients go on from the last version.
const WATCH_ROUNDS_MAX: u32 = 360;
/// How long one round may take; services answer after about 10 s without news.
const WATCH_ROUND_MAX: Duration = Duration::from_secs(30);

const DRY_RUN: (&str, &str) = ("dry-run", "true: decide, but write nothing.");
const IGNORE_UNKNOWN: (&str, &str) = ("ignore-unknown", "true: unknown fields are warnings.");
const FILE: (&str, &str) = ("file", "Name of the file, for error messages.");
const SELECTOR: (&str, &str) = ("labelSelector", "`label=value,other!=value`.");
const MIN_VERSION: (&str, &str) = (
    "min_version",
    "The namespace's version after a write: what is answered is not older. 503 \
     `version_not_reached` if it does not get there within 3 s.",
);
/// The namespace's version after a delete, which has no body.
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-resource-version");

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        "POST",
        "/api/v1/apply",
        "apply",
        "Applies documents of any namespaces: all or nothing per namespace, one after the other.",
        || post(apply),
    )
    .by(Access::Namespace)
    .query(&[DRY_RUN, IGNORE_UNKNOWN, FILE])
    .takes_documents()
    .gives(of::<ApplyAnswer>),
    Route::new(
        "POST",
        "/api/v1/namespaces/{namespace}/apply",
        "apply_in",
        "Applies documents of one namespace, all or nothing.",
        || post(apply_in),
    )
    .by(Access::Namespace)
    .query(&[DRY_RUN, IGNORE_UNKNOWN, FILE])
    .takes_documents()
    .gives(of::<ApplyAnswer>),
    Route::new(
        "POST",
        "/api/v1/namespaces/{namespace}/delete",
        "delete_in",
        "Deletes what the documents name (kind and metadata are enough), all or nothing.",
        || post(delete_in),
    )
    .by(Access::Namespace)
    .query(&[DRY_RUN, FILE])
    .takes_documents()
    .gives(of::<ApplyAnswer>),
    Route::new(
        "GET",
        "/api/v1/namespaces/{namespace}/watch",
        "watch",
        "Changes of a namespace after a version, one JSON object a line, until the client ends \
         it; 410 when the log does not reach back that far. With a selector, a resource that \
         changes and is not chosen comes as `DELETE`.",
        || get(watch),
    )
    .by(Access::Namespace)
    .query(&[("since", "A resourceVersion of the namespace."), SELECTOR])
    .gives_lines(of::<WatchItem>),
    Route::new(
        "GET",
        "/api/v1/namespaces/{namespace}/{plural}",
        "list_in",
        "Resources of one kind in a namespace.",
        || get(list_in),
    )
    .by(Access::Namespace)
    .query(&[SELECTOR, MIN_VERSION])
    .gives(any),
    Route::new(
        "POST",
        "/api/v1/namespaces/{namespace}/{plural}",
        "create_in",
        "Makes a resource; 409 if it exists.",
        || post(create),
    )
    .by(Access::Namespace)
    .takes_documents()
    .gives(any)
    .status(201),
    Route::new(
        "GET",
        "/api/v1/namespaces/{namespace}/{plural}/{name}",
        "get_resource",
        "One resource; secrets are masked.",
        || get(read),
    )
    .by(Access::Namespace)
    .query(&[MIN_VERSION])
    .gives(any),
    Route::new(
        "GET",
        "/api/v1/namespaces/{namespace}/{plural}/{name}/used-by",
        "get_used_by",
        "Resources that refer to this one, as far as the caller sees them.",
        || get(used_by),
    )
    .by(Access::Namespace)
    .gives(of::<UsedBy>),
    Route::new(
        "PUT",
        "/api/v1/namespaces/{namespace}/{plural}/{name}",
        "replace_resource",
        "Replaces a resource; 409 if its resourceVersion is another one.",
        || put(replace),
    )
    .by(Access::Namespace)
    .takes_documents()
    .gives(any),
    Route::new(
        "DELETE",
        "/api/v1/namespaces/{namespace}/{plural}/{name}",
        "delete_resource",
        "Deletes a resource; 409 with the list of users if others refer to it. The header \
         `X-Resource-Version` is the namespace's version after it. It can be restored for 30 days.",
        || delete(remove),
    )
    .by(Access::Namespace)
    .query(&[
        ("resourceVersion", "Only if this is its version."),
        ("purge", "true: for good, its secrets with it, also if it is deleted already."),
    ])
    .status(204),
    Route::new(
        "GET",
        "/api/v1/namespaces/{namespace}/deleted",
        "list_deleted",
        "What was deleted in a namespace and can be restored, of all kinds.",
        || get(deleted),
    )
    .by(Access::Namespace)
    .gives(any),
    Route::new(
        "POST",
        "/api/v1/namespaces/{namespace}/{plural}/{name}/restore",
        "restore_resource",
        "Brings a deleted resource back as it was, secrets included; 409 if there is another one \
         of its name by now.",
        || post(restore),
    )
    .by(Access::Namespace)
    .gives(any),
    Route::new(
        "POST",
        "/api/v1/namespaces/{namespace}/{plural}/{name}/instantiate",
        "instantiate_template",
        "Makes what a template holds in the caller's personal namespace, all or nothing; 409 if \
         something of a name is there already.",
        || post(instantiate),
    )
    .by(Access::Namespace)
    .query(&[DRY_RUN])
    .gives(of::<ApplyAnswer>),
    Route::new(
        "GET",
        "/api/v1/explain/{kind}",
        "explain",
        "Fields of a kind with types, defaults and words.",
        || get(explain),
    )
    .query(&[("path", "Only this one, as `spec.members`.")])
    .gives(any),
    Route::new("GET", "/api/v1/schema/{kind}", "schema", "JSON Schema of a kind.", || get(schema))
        .gives(any),
    Route::new(
        "GET",
        "/api/v1/{plural}",
        "list_all",
        "Resources of one kind in all namespaces that the caller sees, public ones included.",
        || get(list_all),
    )
    .by(Access::Namespace)
    .query(&[SELECTOR])
    .gives(any),
];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ApplyQuery {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    ignore_unknown: bool,
    file: Option<String>,
}

impl ApplyQuery {
    fn options(self, namespace: Option<String>) -> ApplyOptions {
        // The name comes back in messages; a line break in it would forge lines there.
        let file: String = self.file.unwrap_or_default();
        let file = file.chars().filter(|c| !c.is_control()).take(256).collect();
        let (dry_run, ignore_unknown) = (self.dry_run, self.ignore_unknown);
        ApplyOptions { file, dry_run, ignore_unknown, namespace }
    }
}

async fn apply(
    State(shared): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<ApplyQuery>,
    Documents(body): Documents,
) -> Result<Json<ApplyAnswer>, Refusal> {
    Ok(Json(shared.state.resources.apply(&who, &body, query.options(None)).await?))
}

async fn apply_in(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(namespace): Parted<String>,
    Asked(query): Asked<ApplyQuery>,
    Documents(body): Documents,
) -> Result<Json<ApplyAnswer>, Refusal> {
    let options = query.options(Some(namespace));
    Ok(Json(shared.state.resources.apply(&who, &body, options).await?))
}

async fn delete_in(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(namespace): Parted<String>,
    Asked(query): Asked<ApplyQuery>,
    Documents(body): Documents,
) -> Result<Json<ApplyAnswer>, Refusal> {
    let options = query.options(Some(namespace));
    Ok(Json(shared.state.resources.delete_many(&who, &body, options).await?))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    label_selector: Option<String>,
    #[serde(rename = "min_version")]
    min_version: Option<Seq>,
}

#[derive(Debug, Deserialize)]
struct ReadQuery {
    min_version: Option<Seq>,
}

async fn list_in(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted((namespace, plural)): Parted<(String, String)>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Value>, Refusal> {
    let resources = &shared.state.resources;
    let (selector, min) = (query.label_selector.as_deref(), query.min_version);
    Ok(Json(resources.list(&who, Some(&namespace), &plural, selector, min).await?))
}

async fn list_all(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(plural): Parted<String>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Value>, Refusal> {
    let (selector, min) = (query.label_selector.as_deref(), query.min_version);
    Ok(Json(shared.state.resources.list(&who, None, &plural, selector, min).await?))
}

async fn create(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted((namespace, plural)): Parted<(String, String)>,
    Documents(body): Documents,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let made = shared.state.resources.create(&who, &namespace, &plural, &body).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn read(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted((namespace, plural, name)): Parted<(String, String, String)>,
    Asked(query): Asked<ReadQuery>,
) -> Result<Json<Value>, Refusal> {
    let min = query.min_version;
    Ok(Json(shared.state.resources.get(&who, &namespace, &plural, &name, min).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct InstantiateQuery {
    #[serde(default)]
    dry_run: bool,
}

async fn instantiate(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted((namespace, plural, name)): Parted<(String, String, String)>,
    Asked(query): Asked<InstantiateQuery>,
) -> Result<Json<ApplyAnswer>, Refusal> {
    let of = (&*plural, &*name);
    let made = shared.state.resources.instantiate(&who, &namespace, of, query.dry_run).await?;
    Ok(Json(made))
}

async fn used_by(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted((namespace, plural, name)): Parted<(String, String, String)>,
) -> Result<Json<UsedBy>, Refusal> {
    Ok(Json(shared.state.resources.used_by(&who, &namespace, &plural, &name).await?))
}

async fn replace(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted((namespace, plural, name)): Parted<(String, String, String)>,
    Documents(body): Documents,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(shared.state.resources.replace(&who, &namespace, &plural, &name, &body).await?))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeleteQuery {
    resource_version: Option<String>,
    #[serde(default)]
    purge: bool,
}

async fn remove(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted((namespace, plural, name)): Parted<(String, String, String)>,
    Asked(query): Asked<DeleteQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let if_match = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
    let if_version = query.resource_version.as_deref().or(if_match).map(|v| v.trim_matches('"'));
    let removal = Removal { if_version, purge: query.purge };
    let resources = &shared.state.resources;
    let version = resources.delete(&who, &namespace, &plural, &name, removal).await?;
    let header = [(VERSION_HEADER, version.to_string())];
    Ok((StatusCode::NO_CONTENT, header).into_response())
}

async fn deleted(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(namespace): Parted<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(shared.state.resources.deleted(&who, &namespace).await?))
}

async fn restore(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted((namespace, plural, name)): Parted<(String, String, String)>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(shared.state.resources.restore(&who, &namespace, &plural, &name).await?))
}

#[derive(Debug, Deserialize)]
struct ExplainQuery {
    path: Option<String>,
}

async fn explain(
    State(shared): State<Shared>,
    Who(_): Who,
    Parted(kind): Parted<String>,
    Asked(query): Asked<ExplainQuery>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(shared.state.resources.explain(&kind, query.path.as_deref())?))
}

async fn schema(
    State(shared): State<Shared>,
    Who(_): Who,
    Parted(kind): Parted<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(shared.state.resources.schema(&kind)?))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchQuery {
    #[serde(default)]
    since: String,
    label_selector: Option<String>,
}

/// A watch under way.
struct Watching {
    shared: Shared,
    who: Caller,
    namespace: String,
    since: String,
    selector: Option<String>,
    first: Option<Vec<WatchItem>>,
    rounds: u32,
}

async fn watch(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(namespace): Parted<String>,
    Asked(query): Asked<WatchQuery>,
) -> Result<Response, Refusal> {
    // The first round decides the status; later faults end the lines.
    let mut watching = Watching {
        shared: share(&shared),
        who,
        namespace,
        since: query.since,
        selector: query.label_selector,
        first: None,
        rounds: 0,
    };
    watching.first = Some(watching.round().await?);
    let lines = futures::stream::unfold(Some(watching), |watching| async move {
        next_lines(watching?)
            .await
            .map(|(lines, next)| (Ok::<_, std::convert::Infallible>(lines), next))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

impl Watching {
    async fn round(&self) -> Result<Vec<WatchItem>, Problem> {
        let selector = self.selector.as_deref();
        let resources = &self.shared.state.resources;
        let watch = resources.watch(&self.who, &self.namespace, &self.since, selector);
        let late = |_| Problem::new(504, "timeout", "The namespace did not answer in time.");
        tokio::time::timeout(WATCH_ROUND_MAX, watch).await.map_err(late)?
    }
}

async fn next_lines(mut watching: Watching) -> Option<(Bytes, Option<Watching>)> {
    watching.rounds += 1;
    let now = watching.shared.state.clock.now();
    let over = watching.rounds > WATCH_ROUNDS_MAX
        || watching.shared.is_draining()
        || watching.who.expires_at.is_some_and(|at| at <= now);
    if over {
        return None;
    }
    let items = match watching.first.take() {
        Some(first) => Ok(first),
        None => match watching.shared.state.auth.recheck(&watching.who).await {
            Ok(who) => {
                watching.who = who;
                watching.round().await
            }
            Err(error) => Err(error.into()),
        },
    };
    match items {
        Ok(items) => {
            if let Some(last) = items.last() {
                watching.since = last.resource_version.to_string();
            }
            let mut lines = Vec::new();
            for item in &items {
                serde_json::to_writer(&mut lines, item).ok()?;
                lines.push(b'\n');
            }
            Some((lines.into(), Some(watching)))
        }
        Err(problem) => {
            let line = serde_json::json!({ "type": "ERROR", "resource": problem });
            Some((format!("{line}\n").into(), None))
        }
    }
}
