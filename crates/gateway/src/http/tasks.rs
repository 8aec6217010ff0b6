//! Tasks: the same use cases as over the sockets, as requests.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    routing::{delete, get, patch, post},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use troupe_api::{
    chat::{ChatCancel, ChatEdit, ChatRetry, ChatSend, ChatSendAck, QueueOp, TaskJoin},
    device::AnswerBlock,
    task::{
        FramesPage, JoinAnswer, OpenAsks, Page, TaskLite, TaskPatch, TaskView, TurnsPage, WhyAnswer,
    },
};
use troupe_services::{Problem, TaskFilter};
use troupe_types::{FrameSeq, Ordinal, StageFrame, Status, TaskId, limits};

use super::{
    answer::Refusal,
    body::{Asked, Input, MaybeObject, Parted, Who, form, id},
    route::{Access, Route, of, page_of},
};
use crate::{
    gateway::Shared,
    live::{ops::CONFIRM, presence},
};

const TURNS_MAX: u32 = 100;
const TURNS_DEFAULT: u32 = 20;
const FRAMES_DEFAULT: u32 = 1_000;

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        "GET",
        "/api/v1/tasks",
        "list_tasks",
        "The caller's Tasks, newest activity first.",
        || get(list),
    )
    .query(&[
        ("status", "Only these, separated by commas."),
        ("text", "Only titles that hold this text."),
        ("asks", "true: only those whose agents wait for a person; false."),
        ("cursor", "From an earlier page."),
        ("limit", "1 to 100; 20."),
    ])
    .gives(page_of::<TaskLite>),
    Route::new(
        "GET",
        "/api/v1/asks",
        "list_asks",
        "Approvals and questions of all the caller's Tasks that wait for an answer.",
        || get(asks),
    )
    .gives(of::<OpenAsks>),
    Route::new(
        "POST",
        "/api/v1/tasks",
        "create_task",
        "Begins a Task with a message. A repeated client_message_id gets the same answer.",
        || post(create),
    )
    .takes(of::<ChatSend>)
    .gives(of::<ChatSendAck>)
    .status(201),
    Route::new("GET", "/api/v1/tasks/{id}", "get_task", "A Task without its transcript.", || {
        get(view)
    })
    .by(Access::Task)
    .gives(of::<TaskView>),
    Route::new("PATCH", "/api/v1/tasks/{id}", "patch_task", "Changes title or labels.", || {
        patch(change)
    })
    .by(Access::Task)
    .takes(of::<TaskPatch>)
    .gives(of::<TaskView>),
    Route::new("DELETE", "/api/v1/tasks/{id}", "delete_task", "Deletes a Task softly.", || {
        delete(remove)
    })
    .by(Access::Task)
    .status(204),
    Route::new(
        "POST",
        "/api/v1/tasks/{id}/messages",
        "send_message",
        "Sends a message; while a turn runs it is queued.",
        || post(send),
    )
    .by(Access::Task)
    .takes(of::<ChatSend>)
    .gives(of::<ChatSendAck>)
    .status(201),
    Route::new("POST", "/api/v1/tasks/{id}/cancel", "cancel_task", "Stops what runs.", || {
        post(cancel)
    })
    .by(Access::Task)
    .status(204),
    Route::new(
        "POST",
        "/api/v1/tasks/{id}/answer",
        "answer_block",
        "Answers an approval or a question of an agent; exactly one answer is taken.",
        || post(answer),
    )
    .by(Access::Task)
    .takes(of::<AnswerBlock>)
    .status(204),
    Route::new(
        "POST",
        "/api/v1/tasks/{id}/retry",
        "retry_message",
        "Tries a failed, cancelled or lost message of the last turn again.",
        || post(retry),
    )
    .by(Access::Task)
    .takes(of::<ChatRetry>)
    .status(204),
    Route::new(
        "POST",
        "/api/v1/tasks/{id}/edit",
        "edit_message",
        "Replaces an earlier message and all that follows it, and runs: one atomic step.",
        || post(edit),
    )
    .by(Access::Task)
    .takes(of::<ChatEdit>)
    .gives(of::<ChatSendAck>),
    Route::new(
        "POST",
        "/api/v1/tasks/{id}/confirm",
        "confirm_stage",
        "Passes the gate of a pipeline; a message replaces the hand-off.",
        || post(confirm),
    )
    .by(Access::Task)
    .takes(of::<ChatSend>)
    .gives(of::<ChatSendAck>),
    Route::new(
        "POST",
        "/api/v1/tasks/{id}/queue",
        "edit_queue",
        "Changes what waits behind the running turn.",
        || post(queue),
    )
    .by(Access::Task)
    .takes(of::<QueueOp>)
    .status(204),
    Route::new(
        "GET",
        "/api/v1/tasks/{id}/join",
        "join_task",
        "A Task with its newest turns, folded at `head`.",
        || get(join),
    )
    .by(Access::Task)
    .query(&[
        ("turns", "0 to 100; 20."),
        ("after_message_id", "Rows above this ordinal in `subtasks`."),
    ])
    .gives(of::<JoinAnswer>),
    Route::new(
        "GET",
        "/api/v1/tasks/{id}/turns",
        "list_turns",
        "Turns before another one (absent: the newest).",
        || get(turns),
    )
    .by(Access::Task)
    .query(&[("before", "A turn."), ("limit", "1 to 100; 20.")])
    .gives(of::<TurnsPage>),
    Route::new(
        "GET",
        "/api/v1/tasks/{id}/frames",
        "list_frames",
        "Frames after a seq, of any age, at most 4 MiB.",
        || get(frames),
    )
    .by(Access::Task)
    .query(&[("after", "A seq; 0."), ("limit", "1 to 2000; 1000.")])
    .gives(of::<FramesPage>),
    Route::new(
        "GET",
        "/api/v1/tasks/{id}/why",
        "why_task",
        "Why it waits, or what it does, in words.",
        || get(why),
    )
    .by(Access::Task)
    .gives(of::<WhyAnswer>),
    Route::new(
        "GET",
        "/api/v1/tasks/{id}/pipeline-stage-info",
        "get_stage",
        "Position of a pipeline; 404 for other Tasks.",
        || get(stage),
    )
    .by(Access::Task)
    .gives(of::<StageFrame>),
];

fn task(text: &str) -> Result<TaskId, Refusal> {
    id(text, "task")
}

/// A body about the Task of the path, which it may repeat but not contradict.
fn about(task: TaskId, mut body: Map<String, Value>) -> Result<Value, Problem> {
    let own = Value::String(task.to_string());
    if body.get("task_id").is_some_and(|given| !given.is_null() && *given != own) {
        return Err(Problem::invalid("task_id", "It is another Task than that of the path."));
    }
    body.insert("task_id".to_owned(), own);
    Ok(Value::Object(body))
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    status: Option<String>,
    text: Option<String>,
    #[serde(default)]
    asks: bool,
    cursor: Option<String>,
    #[serde(default)]
    limit: u32,
}

async fn list(
    State(shared): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page<TaskLite>>, Refusal> {
    let words = query.status.as_deref().unwrap_or_default().split(',').map(str::trim);
    let status = words
        .filter(|word| !word.is_empty())
        .map(|word| {
            serde_json::from_value::<Status>(Value::String(word.to_ascii_uppercase()))
                .map_err(|_| Problem::invalid("status", format!("There is no status `{word}`.")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if query.limit > 100 {
        return Err(Problem::invalid("limit", "A page has at most 100 Tasks.").into());
    }
    let ListQuery { text, asks, cursor, limit, .. } = query;
    let filter = TaskFilter { status, text, asks, cursor, limit };
    Ok(Json(shared.state.tasks.list(&who, filter).await?))
}

async fn asks(State(shared): State<Shared>, Who(who): Who) -> Result<Json<OpenAsks>, Refusal> {
    Ok(Json(shared.state.tasks.asks(&who).await?))
}

async fn create(
    State(shared): State<Shared>,
    Who(who): Who,
    Input(send): Input<ChatSend>,
) -> Result<(StatusCode, Json<ChatSendAck>), Refusal> {
    if send.task_id.is_some() {
        let detail = "Leave it out, or send to /api/v1/tasks/{id}/messages.";
        return Err(Problem::invalid("task_id", detail).into());
    }
    Ok((StatusCode::CREATED, Json(shared.state.tasks.send(&who, send).await?)))
}

async fn view(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
) -> Result<Json<TaskView>, Refusal> {
    Ok(Json(shared.state.tasks.view(&who, task(&id)?).await?))
}

async fn change(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    Input(patch): Input<TaskPatch>,
) -> Result<Json<TaskView>, Refusal> {
    Ok(Json(shared.state.tasks.patch(&who, task(&id)?, patch).await?))
}

async fn remove(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
) -> Result<StatusCode, Refusal> {
    shared.state.tasks.delete(&who, task(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn send(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    Input(body): Input<Map<String, Value>>,
) -> Result<(StatusCode, Json<ChatSendAck>), Refusal> {
    let send: ChatSend = form(about(task(&id)?, body)?)?;
    Ok((StatusCode::CREATED, Json(shared.state.tasks.send(&who, send).await?)))
}

async fn cancel(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    MaybeObject(_): MaybeObject,
) -> Result<StatusCode, Refusal> {
    let cancel = ChatCancel { task_id: Some(task(&id)?), subtask_id: None };
    shared.state.tasks.cancel(&who, cancel).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn answer(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    Input(body): Input<Map<String, Value>>,
) -> Result<StatusCode, Refusal> {
    let answer: AnswerBlock = form(about(task(&id)?, body)?)?;
    shared.state.tasks.answer(&who, answer).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn retry(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    Input(body): Input<Map<String, Value>>,
) -> Result<StatusCode, Refusal> {
    let retry: ChatRetry = form(about(task(&id)?, body)?)?;
    shared.state.tasks.retry(&who, retry).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn edit(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    Input(body): Input<Map<String, Value>>,
) -> Result<Json<ChatSendAck>, Refusal> {
    let edit: ChatEdit = form(about(task(&id)?, body)?)?;
    Ok(Json(shared.state.tasks.edit(&who, edit).await?))
}

async fn confirm(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    MaybeObject(body): MaybeObject,
) -> Result<Json<ChatSendAck>, Refusal> {
    let mut send: ChatSend = form(about(task(&id)?, body)?)?;
    send.action = Some(CONFIRM.to_owned());
    Ok(Json(shared.state.tasks.send(&who, send).await?))
}

async fn queue(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    Input(body): Input<Map<String, Value>>,
) -> Result<StatusCode, Refusal> {
    let op: QueueOp = form(about(task(&id)?, body)?)?;
    shared.state.tasks.queue(&who, op).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
struct JoinQuery {
    turns: Option<u32>,
    after_message_id: Option<Ordinal>,
}

async fn join(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    Asked(query): Asked<JoinQuery>,
) -> Result<Json<JoinAnswer>, Refusal> {
    let task_id = task(&id)?;
    let (turns, after_message_id) = (query.turns, query.after_message_id);
    let join = TaskJoin { task_id, turns, after_message_id };
    let mut answer = shared.state.tasks.join(&who, join).await?;
    answer.viewers = presence::viewers(&shared, task_id).await;
    Ok(Json(answer))
}

#[derive(Debug, Deserialize)]
struct TurnsQuery {
    before: Option<String>,
    limit: Option<u32>,
}

async fn turns(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    Asked(query): Asked<TurnsQuery>,
) -> Result<Json<TurnsPage>, Refusal> {
    let before = query.before.as_deref().map(str::parse).transpose();
    let before = before.map_err(|_| Problem::invalid("before", "It is no turn."))?;
    let limit = within("limit", query.limit.unwrap_or(TURNS_DEFAULT), TURNS_MAX)?;
    Ok(Json(shared.state.tasks.turns(&who, task(&id)?, before, limit).await?))
}

#[derive(Debug, Deserialize)]
struct FramesQuery {
    #[serde(default)]
    after: FrameSeq,
    limit: Option<u32>,
}

async fn frames(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
    Asked(query): Asked<FramesQuery>,
) -> Result<Json<FramesPage>, Refusal> {
    let max = u32::try_from(limits::RESUME_FRAMES_MAX).unwrap_or(u32::MAX);
    let limit = within("limit", query.limit.unwrap_or(FRAMES_DEFAULT), max)?;
    Ok(Json(shared.state.tasks.frames(&who, task(&id)?, query.after, limit).await?))
}

fn within(path: &str, limit: u32, max: u32) -> Result<u32, Problem> {
    if (1..=max).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::invalid(path, format!("It lies between 1 and {max}.")))
}

async fn why(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
) -> Result<Json<WhyAnswer>, Refusal> {
    Ok(Json(shared.state.tasks.why(&who, task(&id)?).await?))
}

async fn stage(
    State(shared): State<Shared>,
    Who(who): Who,
    Parted(id): Parted<String>,
) -> Result<Json<StageFrame>, Refusal> {
    let view = shared.state.tasks.view(&who, task(&id)?).await?;
    let none = || Problem::new(404, "no_pipeline", "This Task is no pipeline.");
    Ok(Json(view.stage.ok_or_else(none)?))
}
