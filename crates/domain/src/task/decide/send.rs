//! A person's message: a new Task, a new turn, or a place in the queue.

use troupe_types::{LogId, MessageId, MessageKind, QueuedMessage, Role, TaskFrame, TurnId, Uuid};

use super::{check, key, queue};
use crate::task::{
    command::{Ack, Context, CreateTask, Decision, Refusal, SendAck, SendMessage},
    draft::{Draft, Row},
    entry::TaskEvent,
    labels::with_model,
    run,
    state::TaskState,
    text,
};

/// Characters of the message that make the title of a new Task.
const AUTO_TITLE_CHARS: usize = 50;

pub(super) fn send(
    state: &TaskState,
    send: SendMessage,
    ctx: &mut Context<'_>,
) -> Result<Decision, Refusal> {
    check::message(&send.content)?;
    check::plan(&send.plan)?;
    let (key, body) = (send.key, key::send_body(&send));
    let mut d = Draft::new(state, ctx);
    if !state.exists() {
        let Some(create) = &send.create else { return Err(Refusal::NotFound) };
        created(&mut d, create, &send)?;
    } else {
        choose(&mut d, &send)?;
    }
    let message = MessageId::from_uuid(d.id());
    let waits = state.is_active() || !state.queue.is_empty();
    if waits {
        let ack = queued_ack(&d, message);
        d.event(TaskEvent::KeyUsed { key, body, ack: ack.clone() });
        d.resolve(&send.plan);
        let mut all = d.state.queue.to_vec();
        all.push(queued(message, &send));
        queue::check(&all)?;
        d.event(TaskEvent::MessageQueued { message, plan: send.plan.hash.clone() });
        d.set_queue(all);
        if !d.state.is_active() {
            run::start_next(&mut d);
        }
        return d.finish_bounded(ack, "message");
    }
    let ack = start(&mut d, message, key, body, &send);
    d.finish_bounded(ack, "message")
}

/// Starts a turn with a message that need not wait.
pub(super) fn start(
    d: &mut Draft<'_, '_>,
    message: MessageId,
    key: Uuid,
    body: String,
    send: &SendMessage,
) -> Ack {
    let turn = TurnId::from_uuid(d.id());
    let ack = Ack::Sent(SendAck {
        task_id: d.state.task_id(),
        message,
        ordinal: Some(d.state.next_ordinal),
        turn: Some(turn),
        queued: false,
    });
    d.event(TaskEvent::KeyUsed { key, body, ack: ack.clone() });
    d.resolve(&send.plan);
    run::begin_turn(d, turn, queued(message, send), &send.plan.hash);
    ack
}

fn queued(message: MessageId, send: &SendMessage) -> QueuedMessage {
    QueuedMessage {
        message,
        sender: send.sender.clone(),
        content: send.content.clone(),
        client_message_id: Some(send.key),
    }
}

fn queued_ack(d: &Draft<'_, '_>, message: MessageId) -> Ack {
    let task_id = d.state.task_id();
    Ack::Sent(SendAck { task_id, message, ordinal: None, turn: None, queued: true })
}

fn created(d: &mut Draft<'_, '_>, create: &CreateTask, send: &SendMessage) -> Result<(), Refusal> {
    let model = send.model.as_deref().unwrap_or_default();
    let labels = with_model(&create.labels, model).unwrap_or_else(|| create.labels.clone());
    check::labels(&labels)?;
    let title = if create.title.trim().is_empty() {
        text::title(&send.content, AUTO_TITLE_CHARS)
    } else {
        check::title(&create.title)?;
        create.title.clone()
    };
    let log = LogId::from_uuid(d.id());
    d.event(TaskEvent::Created {
        task: create.task,
        owner: create.owner,
        owner_name: create.owner_name.clone(),
        log,
        title: title.clone(),
        labels: labels.clone(),
        team: (send.plan.namespace.clone(), send.plan.name.clone()),
    });
    let (title, labels) = (Some(title), Some(labels));
    d.tell_task(TaskFrame { title, labels, status: None });
    Ok(())
}

/// A Model that is chosen with a message stays the Task's.
fn choose(d: &mut Draft<'_, '_>, send: &SendMessage) -> Result<(), Refusal> {
    let Some(model) = &send.model else { return Ok(()) };
    let Some(labels) = with_model(&d.state.labels, model) else { return Ok(()) };
    check::labels(&labels)?;
    d.event(TaskEvent::Updated { title: None, labels: Some(labels.clone()) });
    d.tell_task(TaskFrame { title: None, labels: Some(labels), status: None });
    Ok(())
}

/// The row of a person's message.
pub(in crate::task) fn person_row(turn: TurnId, message: QueuedMessage) -> Row {
    let QueuedMessage { message, sender, content, client_message_id } = message;
    Row {
        message,
        turn,
        role: Role::User,
        kind: MessageKind::User,
        sender,
        content,
        step: None,
        key: client_message_id,
    }
}
