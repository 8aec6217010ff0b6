//! `/api/v1/admin`: nodes, shards, actors, queues, dead letters, the doctor; for administrators.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde::Deserialize;
use troupe_api::{
    admin::{
        ActorTreeView, AdminWhy, AuditEntry, Begun, ContainersView, DeadLetterView, DiscardLetter,
        DoctorReport, EntityOutcome, MoveShard, NodeList, QueuesView, Rebalance, RetriedLetter,
        ShardList, ShardMove, ShardView,
    },
    task::Page,
};
use troupe_services::Problem;
use troupe_types::{EntityId, SHARDS_GENERAL, SHARDS_KNOWLEDGE, ShardId, TaskId, Uuid};

use super::{
    answer::Refusal,
    body::{Admin, Asked, Input, MaybeObject, Parted, id},
    route::{Access, Route, of, page_of},
};
use crate::gateway::Shared;

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;

const PAGE: &[(&str, &str)] = &[("cursor", "From an earlier page."), ("limit", "1 to 200; 50.")];
const NODE: &[(&str, &str)] = &[("node", "Of which node; of the one that answers.")];

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        "GET",
        "/api/v1/admin/nodes",
        "admin_nodes",
        "Every node with its lease, incarnation, build and load.",
        || get(nodes),
    )
    .by(Access::Admin)
    .gives(of::<NodeList>),
    Route::new(
        "POST",
        "/api/v1/admin/nodes/{id}/drain",
        "admin_drain_node",
        "Begins to hand over all shards of a node, which takes no new ones; runs stop at the end \
         of their step and go on elsewhere.",
        || post(drain),
    )
    .by(Access::Admin)
    .gives(of::<Begun>)
    .status(202),
    Route::new(
        "GET",
        "/api/v1/admin/shards",
        "admin_shards",
        "Every shard with its owner, epoch and entities in memory.",
        || get(shards),
    )
    .by(Access::Admin)
    .gives(of::<ShardList>),
    Route::new(
        "GET",
        "/api/v1/admin/shards/{id}",
        "admin_shard",
        "One shard, as the node has it that knows best: all living nodes are asked.",
        || get(one_shard),
    )
    .by(Access::Admin)
    .gives(of::<ShardView>),
    Route::new(
        "POST",
        "/api/v1/admin/shards/{id}/move",
        "admin_move_shard",
        "Begins to hand one shard to another node; a refusal says why by its code.",
        || post(move_shard),
    )
    .by(Access::Admin)
    .takes(of::<MoveShard>)
    .gives(of::<ShardMove>)
    .status(202),
    Route::new(
        "POST",
        "/api/v1/admin/rebalance",
        "admin_rebalance",
        "Has shards move by themselves or not, for the whole cluster and until it is decided \
         anew; or at once.",
        || post(rebalance),
    )
    .by(Access::Admin)
    .takes(of::<Rebalance>)
    .gives(of::<Begun>)
    .status(202),
    Route::new(
        "GET",
        "/api/v1/admin/actors",
        "admin_actors",
        "The live supervision tree of a node, with queues, restarts and last errors.",
        || get(actors),
    )
    .by(Access::Admin)
    .query(NODE)
    .gives(of::<ActorTreeView>),
    Route::new(
        "POST",
        "/api/v1/admin/actors/{id}/restart",
        "admin_restart_entity",
        "Begins an entity anew (`task%2F..`, or the id of a Task) from its journal.",
        || post(restart),
    )
    .by(Access::Admin)
    .gives(of::<EntityOutcome>),
    Route::new(
        "POST",
        "/api/v1/admin/actors/{id}/passivate",
        "admin_passivate_entity",
        "Unloads an idle entity; one that is not idle stays, and the answer says so.",
        || post(passivate),
    )
    .by(Access::Admin)
    .gives(of::<EntityOutcome>),
    Route::new(
        "GET",
        "/api/v1/admin/queues",
        "admin_queues",
        "The queues of a node: by kind, and the deepest ones.",
        || get(queues),
    )
    .by(Access::Admin)
    .query(NODE)
    .gives(of::<QueuesView>),
    Route::new(
        "GET",
        "/api/v1/admin/containers",
        "admin_containers",
        "Containers of Tasks and the pools that make them; wishes too.",
        || get(containers),
    )
    .by(Access::Admin)
    .gives(of::<ContainersView>),
    Route::new(
        "GET",
        "/api/v1/admin/dead-letters",
        "admin_dead_letters",
        "Messages that were given up, oldest first; `total` counts up to 1,000.",
        || get(letters),
    )
    .by(Access::Admin)
    .query(PAGE)
    .gives(page_of::<DeadLetterView>),
    Route::new(
        "GET",
        "/api/v1/admin/dead-letters/{id}",
        "admin_dead_letter",
        "One of them with the form of its message; what persons wrote is not shown.",
        || get(letter),
    )
    .by(Access::Admin)
    .gives(of::<DeadLetterView>),
    Route::new(
        "POST",
        "/api/v1/admin/dead-letters/{id}/retry",
        "admin_retry_dead_letter",
        "Gives it to its entity again.",
        || post(retry),
    )
    .by(Access::Admin)
    .gives(of::<RetriedLetter>),
    Route::new(
        "POST",
        "/api/v1/admin/dead-letters/{id}/discard",
        "admin_discard_dead_letter",
        "Throws it away, for a reason that goes into the audit log.",
        || post(discard),
    )
    .by(Access::Admin)
    .takes(of::<DiscardLetter>)
    .status(204),
    Route::new(
        "GET",
        "/api/v1/admin/doctor",
        "admin_doctor",
        "Checks what can be checked; each check says what was found and what to do.",
        || get(doctor),
    )
    .by(Access::Admin)
    .gives(of::<DoctorReport>),
    Route::new(
        "GET",
        "/api/v1/admin/tasks/{id}/why",
        "admin_why_task",
        "Why a Task of anybody waits or what it does, and where it lives.",
        || get(why),
    )
    .by(Access::Admin)
    .gives(of::<AdminWhy>),
    Route::new(
        "POST",
        "/api/v1/admin/backup",
        "admin_backup",
        "A copy of everything, made while the cluster works; whole only if its end is there.",
        || post(backup),
    )
    .by(Access::Admin)
    .gives_bytes(),
    Route::new(
        "GET",
        "/api/v1/admin/audit",
        "admin_audit",
        "What administrators did by these operations, the newest first.",
        || get(audit),
    )
    .by(Access::Admin)
    .query(PAGE)
    .gives(page_of::<AuditEntry>),
];

#[derive(Debug, Deserialize)]
struct PageQuery {
    cursor: Option<String>,
    limit: Option<usize>,
}

impl PageQuery {
    fn limit(&self) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if (1..=LIMIT_MAX).contains(&limit) {
            return Ok(limit);
        }
        Err(Problem::invalid("limit", format!("It lies between 1 and {LIMIT_MAX}.")))
    }
}

#[derive(Debug, Deserialize)]
struct NodeQuery {
    node: Option<String>,
}

impl NodeQuery {
    fn name(&self) -> Option<&str> {
        self.node.as_deref().filter(|name| !name.is_empty())
    }
}

fn shard(text: &str) -> Result<ShardId, Refusal> {
    let number: u16 = id(text, "shard")?;
    if number < SHARDS_GENERAL + SHARDS_KNOWLEDGE {
        return Ok(ShardId(number));
    }
    Err(Problem::not_found("shard").into())
}

async fn nodes(State(shared): State<Shared>, Admin(who): Admin) -> Result<Json<NodeList>, Refusal> {
    Ok(Json(shared.state.operations.nodes(&who).await?))
}

async fn drain(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(node): Parted<String>,
    MaybeObject(_): MaybeObject,
) -> Result<(StatusCode, Json<Begun>), Refusal> {
    let begun = shared.state.operations.drain(&who, &node).await?;
    Ok((StatusCode::ACCEPTED, Json(begun)))
}

async fn shards(
    State(shared): State<Shared>,
    Admin(who): Admin,
) -> Result<Json<ShardList>, Refusal> {
    Ok(Json(shared.state.operations.shards(&who).await?))
}

async fn move_shard(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(number): Parted<String>,
    Input(body): Input<MoveShard>,
) -> Result<(StatusCode, Json<ShardMove>), Refusal> {
    let moved = shared.state.operations.move_shard(&who, shard(&number)?, &body.to).await?;
    Ok((StatusCode::ACCEPTED, Json(moved)))
}

async fn one_shard(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(number): Parted<String>,
) -> Result<Json<ShardView>, Refusal> {
    Ok(Json(shared.state.operations.shard(&who, shard(&number)?).await?))
}

async fn rebalance(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Input(body): Input<Rebalance>,
) -> Result<(StatusCode, Json<Begun>), Refusal> {
    let begun = shared.state.operations.rebalance(&who, body.action).await?;
    Ok((StatusCode::ACCEPTED, Json(begun)))
}

async fn actors(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Asked(query): Asked<NodeQuery>,
) -> Result<Json<ActorTreeView>, Refusal> {
    Ok(Json(shared.state.operations.actors(&who, query.name()).await?))
}

async fn restart(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(entity): Parted<String>,
    MaybeObject(_): MaybeObject,
) -> Result<Json<EntityOutcome>, Refusal> {
    let entity: EntityId = id(&entity, "entity")?;
    Ok(Json(shared.state.operations.restart_entity(&who, entity).await?))
}

async fn passivate(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(entity): Parted<String>,
    MaybeObject(_): MaybeObject,
) -> Result<Json<EntityOutcome>, Refusal> {
    let entity: EntityId = id(&entity, "entity")?;
    Ok(Json(shared.state.operations.passivate_entity(&who, entity).await?))
}

async fn queues(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Asked(query): Asked<NodeQuery>,
) -> Result<Json<QueuesView>, Refusal> {
    Ok(Json(shared.state.operations.queues(&who, query.name()).await?))
}

async fn containers(
    State(shared): State<Shared>,
    Admin(who): Admin,
) -> Result<Json<ContainersView>, Refusal> {
    Ok(Json(shared.state.operations.containers(&who).await?))
}

async fn letters(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<DeadLetterView>>, Refusal> {
    let limit = page.limit()?;
    Ok(Json(shared.state.operations.dead_letters(&who, page.cursor.as_deref(), limit).await?))
}

async fn letter(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(letter): Parted<String>,
) -> Result<Json<DeadLetterView>, Refusal> {
    let letter: Uuid = id(&letter, "dead letter")?;
    Ok(Json(shared.state.operations.dead_letter(&who, letter).await?))
}

async fn retry(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(letter): Parted<String>,
    MaybeObject(_): MaybeObject,
) -> Result<Json<RetriedLetter>, Refusal> {
    let letter: Uuid = id(&letter, "dead letter")?;
    Ok(Json(shared.state.operations.retry_dead_letter(&who, letter).await?))
}

async fn discard(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(letter): Parted<String>,
    Input(body): Input<DiscardLetter>,
) -> Result<StatusCode, Refusal> {
    let letter: Uuid = id(&letter, "dead letter")?;
    shared.state.operations.discard_dead_letter(&who, letter, &body.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn doctor(
    State(shared): State<Shared>,
    Admin(who): Admin,
) -> Result<Json<DoctorReport>, Refusal> {
    Ok(Json(shared.state.operations.doctor(&who).await?))
}

async fn why(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Parted(task): Parted<String>,
) -> Result<Json<AdminWhy>, Refusal> {
    let task: TaskId = id(&task, "task")?;
    Ok(Json(shared.state.operations.why(&who, task).await?))
}

async fn backup(
    State(shared): State<Shared>,
    Admin(who): Admin,
    MaybeObject(_): MaybeObject,
) -> Result<Response, Refusal> {
    let stream = shared.state.operations.backup(&who).await?;
    // A failure ends the connection before the body's end, so nobody takes it for a whole one.
    let pieces = futures::stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await.transpose()?;
        Some((piece.map_err(std::io::Error::other), stream))
    });
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, Body::from_stream(pieces)).into_response())
}

async fn audit(
    State(shared): State<Shared>,
    Admin(who): Admin,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Page<AuditEntry>>, Refusal> {
    let limit = page.limit()?;
    Ok(Json(shared.state.operations.audit(&who, page.cursor.as_deref(), limit).await?))
}
