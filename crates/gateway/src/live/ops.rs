//! The operations of Socket.IO and the stream: each exists once, in one table.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};
use tracing::{Instrument as _, Span, debug_span, field::Empty};
use troupe_api::{
    chat::{
        AuthToken, ChatCancel, ChatEdit, ChatResume, ChatResumeAck, ChatRetry, ChatSend,
        HistorySync, QueueOp, TaskJoin, TaskRef,
    },
    device::AnswerBlock,
    task::JoinAnswer,
};
use troupe_services::{Caller, Problem};
use troupe_telemetry::trace;
use troupe_types::{Attempt, MessageId, limits};

use super::{
    connection::Connection,
    encoded::{Encoded, raw},
    lanes::{Job, Submitted},
    peer::Ack,
    viewing::{self, Begin},
};
use crate::{
    gateway::Shared,
    http::{
        body::{check_value_depth, form},
        route::{Access, SchemaOf, of},
    },
};

/// `action` of `chat:send` that passes the gate of a pipeline.
pub(crate) const CONFIRM: &str = "pipeline:confirm";
/// How long an operation may take.
const OP_MAX: Duration = Duration::from_secs(30);
/// How long an ack may wait for room.
const ACK_PATIENCE: Duration = Duration::from_secs(10);
/// The same for an operation that was not even taken in.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(250);
/// Turns in which the contract's resume looks for its row.
const RESUME_TURNS: u32 = 100;

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// Name of the event, and `op` of the stream.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Who may ask for it.
    pub access: Access,
    pub(crate) schema: SchemaOf,
}

const fn op(name: &'static str, access: Access, schema: SchemaOf, summary: &'static str) -> Op {
    Op { name, summary, access, schema }
}

/// All operations.
pub const OPS: &[Op] = &[
    op("chat:send", Access::Task, of::<ChatSend>, "Sends a message; without task_id, a new Task."),
    op("chat:cancel", Access::Task, of::<ChatCancel>, "Stops what runs."),
    op(
        "chat:resume",
        Access::Task,
        of::<ChatResume>,
        "Sends the frames after a seq, then live ones; or the text of a row after an offset.",
    ),
    op("chat:retry", Access::Task, of::<ChatRetry>, "Tries a message again."),
    op("chat:edit", Access::Task, of::<ChatEdit>, "Replaces a message and what follows; runs."),
    op("chat:answer", Access::Task, of::<AnswerBlock>, "Answers an approval or a question."),
    op("task:join", Access::Task, of::<TaskJoin>, "The folded Task; frames above `head` follow."),
    op("task:leave", Access::Caller, of::<TaskRef>, "Stops the frames of a Task."),
    op("queue:edit", Access::Task, of::<QueueOp>, "Changes what waits behind the running turn."),
    op("auth:refresh", Access::Proof, of::<AuthToken>, "A newer token of the same user."),
    op("history:sync", Access::Task, of::<HistorySync>, "Rows above an ordinal."),
];

/// An operation that went well.
struct Done {
    ack: Answer,
    then: Then,
}

/// What goes into the ack.
enum Answer {
    Ready(Box<RawValue>),
    /// Who looks is filled in when the connection has its seat.
    Join(Box<JoinAnswer>),
}

/// What follows the ack.
enum Then {
    Nothing,
    Follow(Begin),
    /// The contract's text of a row, then the Task from its head on.
    Text(Box<RawValue>, Begin),
}

/// Takes in an operation of a connection. Whoever gets a lane runs it with [`run_lane`].
pub(super) fn submit(connection: &Connection, job: Job) -> Result<Option<String>, Box<Job>> {
    match connection.lanes.submit(job) {
        Submitted::Run(lane) => Ok(Some(lane)),
        Submitted::Queued => Ok(None),
        Submitted::Refused(job) => Err(Box::new(job)),
    }
}

/// Runs the operations of a lane in order until there is none.
pub(super) async fn run_lane(shared: Shared, connection: Arc<Connection>, lane: String) {
    while let Some(job) = connection.lanes.next(&lane) {
        run(&shared, &connection, job).await;
    }
}

/// Refuses an operation that was not taken in, if there is room for the answer.
pub(super) async fn refuse(connection: &Connection, job: &Job) {
    let detail = "Too many operations of this connection are under way: wait for their acks.";
    let problem = Problem::new(429, "overloaded", detail);
    // With little patience: a flood of refusals must not pile up. Who floods misses acks.
    let _ = connection.peer.ack(&job.ack, &refusal(&problem), REFUSAL_PATIENCE).await;
}

async fn run(shared: &Shared, connection: &Arc<Connection>, job: Job) {
    if !connection.has_entered().await || connection.is_closing() {
        return;
    }
    let (span, payload) = traced(&job.name, job.payload);
    // Without what follows the ack: a viewing lasts, and would keep the span.
    let performing = perform(shared, connection, &job.name, payload).instrument(span.clone());
    let late = |_| {
        let detail = "It took too long: look whether it happened, or repeat it with the same key.";
        Problem::new(504, "timeout", detail)
    };
    let done = tokio::time::timeout(OP_MAX, performing).await.map_err(late).flatten();
    span.record("outcome", done.as_ref().map_or_else(|problem| problem.code.as_str(), |_| "done"));
    drop(span);
    match done {
        Ok(done) => follow_up(shared, connection, &job.ack, done).await,
        Err(problem) => {
            tracing::debug!(op = job.name, code = problem.code, "an operation was refused");
            answer(connection, &job.ack, &refusal(&problem)).await;
        }
    }
}

/// The span of an operation. Its payload may say in `traceparent` what it is a part of, as a
/// header of a request does; whoever has a connection has shown who they are.
fn traced(name: &str, payload: Result<Value, Problem>) -> (Span, Result<Value, Problem>) {
    let mut payload = payload;
    let parent = match &mut payload {
        Ok(Value::Object(fields)) => fields.remove("traceparent"),
        _ => None,
    };
    // What is no operation has no name of ours.
    let op = OPS.iter().find(|op| op.name == name).map_or("unknown", |op| op.name);
    let make =
        || debug_span!("operation", otel.kind = "server", otel.name = op, op, outcome = Empty);
    let parent = parent.as_ref().and_then(Value::as_str).and_then(|text| text.parse().ok());
    let span = match parent {
        Some(parent) => trace::child_of(Some(parent), make),
        None => make(),
    };
    (span, payload)
}

/// The ack first, then what belongs after it.
async fn follow_up(shared: &Shared, connection: &Arc<Connection>, ack: &Ack, done: Done) {
    let (text, begin) = match done.then {
        Then::Nothing => (None, None),
        Then::Follow(begin) => (None, Some(begin)),
        Then::Text(text, begin) => (Some(text), Some(begin)),
    };
    let seat = match &begin {
        Some(begin) => Some(viewing::take_seat(shared, connection, begin).await),
        None => None,
    };
    let written = match done.ack {
        Answer::Ready(ack) => ack,
        Answer::Join(mut join) => {
            join.viewers = seat.as_ref().map(|seat| seat.room.named()).unwrap_or_default();
            match written(&join) {
                Ok(ack) => ack,
                Err(problem) => refusal(&problem),
            }
        }
    };
    answer(connection, ack, &written).await;
    let (Some(seat), Some(begin)) = (seat, begin) else { return };
    if let Some(text) = text {
        let patience = shared.options().slow_after;
        if connection.peer.event("chat:chunk", &text, patience).await.is_err() {
            return;
        }
    }
    viewing::start(shared, connection, seat, begin);
}

async fn answer(connection: &Connection, ack: &Ack, data: &RawValue) {
    if let Err(why) = connection.peer.ack(ack, data, ACK_PATIENCE).await {
        tracing::debug!(?why, "an ack was not delivered");
    }
}

/// `{error, code, problem}`.
fn refusal(problem: &Problem) -> Box<RawValue> {
    let error = match problem.code.as_str() {
        "invalid" | "malformed" | "too_deep" => match problem.errors.first() {
            Some(fault) if !fault.path.is_empty() => {
                format!("Invalid payload: {}: {}", fault.path, fault.message)
            }
            _ => format!("Invalid payload: {}", problem.detail),
        },
        _ => problem.detail.clone(),
    };
    raw(&json!({ "error": error, "code": problem.code, "problem": problem }))
        .unwrap_or_else(|| RawValue::NULL.to_owned())
}

async fn perform(
    shared: &Shared,
    connection: &Arc<Connection>,
    name: &str,
    payload: Result<Value, Problem>,
) -> Result<Done, Problem> {
    if !OPS.iter().any(|op| op.name == name) {
        return Err(Problem::new(404, "unknown_event", "There is no such operation."));
    }
    let payload = payload?;
    check_value_depth(&payload)?;
    if name == "auth:refresh" {
        return refresh(shared, connection, parse(payload)?).await;
    }
    let caller = allowed(shared, connection).await?;
    let tasks = &shared.state.tasks;
    match name {
        "chat:send" => done(&tasks.send(&caller, parse(payload)?).await?),
        "chat:cancel" => success(tasks.cancel(&caller, parse::<ChatCancel>(payload)?).await),
        "chat:retry" => success(tasks.retry(&caller, parse::<ChatRetry>(payload)?).await),
        "chat:edit" => done(&tasks.edit(&caller, parse::<ChatEdit>(payload)?).await?),
        "chat:answer" => success(tasks.answer(&caller, parse::<AnswerBlock>(payload)?).await),
        "queue:edit" => success(tasks.queue(&caller, parse::<QueueOp>(payload)?).await),
        "task:join" => join(shared, &caller, parse(payload)?).await,
        "task:leave" => {
            let task = parse::<TaskRef>(payload)?.task_id;
            // Dropped after the lock is gone.
            let viewing = connection.viewings().remove(&task);
            drop(viewing);
            success(Ok(()))
        }
        "chat:resume" => {
            let resume: ChatResume = parse(payload)?;
            match resume.subtask_id {
                Some(row) => resume_text(shared, connection, &caller, resume, row).await,
                None => resume_frames(shared, &caller, resume).await,
            }
        }
        "history:sync" => history(shared, &caller, parse(payload)?).await,
        _ => Err(Problem::new(404, "unknown_event", "There is no such operation.")),
    }
}

/// Whoever speaks, if they still may.
async fn allowed(shared: &Shared, connection: &Connection) -> Result<Caller, Problem> {
    if shared.is_draining() {
        let problem = Problem::new(503, "draining", "This node is being stopped: try again.");
        return Err(Problem { retry_after: Some(2), ..problem });
    }
    let session = connection.session().clone();
    let now = shared.state.clock.now();
    if session.caller.expires_at.is_some_and(|at| at <= now) {
        return Err(troupe_services::AuthError::Expired.into());
    }
    Ok(shared.state.auth.recheck(&session.caller).await?)
}

fn parse<T: DeserializeOwned>(payload: Value) -> Result<T, Problem> {
    form(payload)
}

fn done<T: Serialize>(ack: &T) -> Result<Done, Problem> {
    Ok(Done { ack: Answer::Ready(written(ack)?), then: Then::Nothing })
}

fn success(outcome: Result<(), Problem>) -> Result<Done, Problem> {
    outcome?;
    done(&json!({ "success": true }))
}

fn written<T: Serialize>(ack: &T) -> Result<Box<RawValue>, Problem> {
    raw(ack).ok_or_else(|| Problem::new(500, "internal", "The answer could not be written."))
}

async fn refresh(
    shared: &Shared,
    connection: &Connection,
    token: AuthToken,
) -> Result<Done, Problem> {
    let caller = shared.state.auth.verify(&token.token).await?;
    if caller.user != connection.user {
        return Err(Problem::forbidden("This token is another user's: open another connection."));
    }
    let expires_at = caller.expires_at;
    {
        let mut session = connection.session();
        session.caller = caller;
        session.expired_at = None;
    }
    done(&json!({ "success": true, "expires_at": expires_at }))
}

async fn join(shared: &Shared, caller: &Caller, join: TaskJoin) -> Result<Done, Problem> {
    let task = join.task_id;
    let answer = shared.state.tasks.join(caller, join).await?;
    let (log, head) = (answer.log, answer.head);
    let begin = Begin { task, log, head, backlog: Vec::new(), next: head.next() };
    Ok(Done { ack: Answer::Join(Box::new(answer)), then: Then::Follow(begin) })
}

async fn resume_frames(
    shared: &Shared,
    caller: &Caller,
    resume: ChatResume,
) -> Result<Done, Problem> {
    let (task, after) = (resume.task_id, resume.after);
    let missing = || Problem::invalid("after", "Give `after`, or `subtask_id` with `offset`.");
    let after = after.ok_or_else(missing)?;
    let limit = u32::try_from(limits::RESUME_FRAMES_MAX).unwrap_or(u32::MAX);
    let page = shared.state.tasks.frames(caller, task, after, limit).await?;
    let (log, head) = (page.log, page.head);
    let backlog: Vec<_> = page.frames.into_iter().filter_map(Encoded::stored).collect();
    let end = backlog.last().map_or(after, |frame| frame.seq);
    let bytes: usize = backlog.iter().map(|frame| frame.bytes()).sum();
    let gapless = backlog.first().is_none_or(|frame| frame.seq == after.next());
    // Beyond the head is another history.
    if after > head || end < head || !gapless || bytes > limits::RESUME_BYTES_MAX {
        return done(&ChatResumeAck { success: false, head: Some(head), rejoin: Some(true) });
    }
    let ack = written(&ChatResumeAck { success: true, head: Some(head), rejoin: None })?;
    let begin = Begin { task, log, head, backlog, next: end.next() };
    Ok(Done { ack: Answer::Ready(ack), then: Then::Follow(begin) })
}

/// The contract's way: the text of a row after an offset in code points, as one chunk.
async fn resume_text(
    shared: &Shared,
    connection: &Connection,
    caller: &Caller,
    resume: ChatResume,
    row: MessageId,
) -> Result<Done, Problem> {
    let task = resume.task_id;
    let page = shared.state.tasks.turns(caller, task, None, RESUME_TURNS).await?;
    let (log, head) = (page.log, page.head);
    let mut rows = page.turns.into_iter().flat_map(|turn| turn.messages);
    let row =
        rows.find(|message| message.message == row).ok_or_else(|| Problem::not_found("Message"))?;
    let current = row.attempts.last().map_or(Attempt::FIRST, |attempt| attempt.attempt);
    if resume.attempt.unwrap_or(Attempt::FIRST) != current {
        let detail = format!("Attempt {current} is the current one: join the Task anew.");
        return Err(Problem::new(409, "attempt_changed", detail));
    }
    let offset = resume.offset.unwrap_or(0);
    let skip = usize::try_from(offset).unwrap_or(usize::MAX);
    let text: String = row.content.chars().skip(skip).collect();
    let ack = written(&ChatResumeAck { success: true, head: Some(head), rejoin: None })?;
    let chunk = (!text.is_empty())
        .then(|| {
            raw(&json!({
                "task_id": task, "subtask_id": row.message, "message_id": row.ordinal,
                "attempt": current, "content": text, "offset": offset,
            }))
        })
        .flatten();
    let is_there = connection.viewings().contains_key(&task);
    let begin = Begin { task, log, head, backlog: Vec::new(), next: head.next() };
    Ok(Done {
        ack: Answer::Ready(ack),
        then: match (chunk, is_there) {
            (None, true) => Then::Nothing,
            (None, false) => Then::Follow(begin),
            // The seat is taken anew at `head`: what is live follows the text.
            (Some(chunk), _) => Then::Text(chunk, begin),
        },
    })
}

async fn history(shared: &Shared, caller: &Caller, sync: HistorySync) -> Result<Done, Problem> {
    let (task_id, after) = (sync.task_id, sync.after_message_id);
    let join = TaskJoin { task_id, turns: Some(0), after_message_id: Some(after) };
    let answer = shared.state.tasks.join(caller, join).await?;
    let rows: Vec<Value> = answer
        .subtasks
        .iter()
        .map(|row| {
            json!({
                "subtask_id": row.message, "message_id": row.ordinal, "role": row.role,
                "content": row.content, "status": row.status, "created_at": row.created_at,
            })
        })
        .collect();
    done(&json!({ "messages": rows }))
}
