//! Use cases in memory: Tasks whose frames a test pushes by hand, and a few resources.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use troupe_api::{
    FrameEvent, Problem,
    chat::{ChatCancel, ChatEdit, ChatRetry, ChatSend, ChatSendAck, QueueOp, TaskJoin},
    device::{
        AnswerBlock, DeviceInvitation, DevicePatch, DeviceView, InvitationView, InviteDevice,
    },
    resource::{ApplyAnswer, ResourceUser, UsedBy, WatchItem},
    task::{
        AttemptView, FrameItem, FramesPage, JoinAnswer, MessageView, OpenAsks, Page, TaskLite,
        TaskPatch, TaskView, TurnView, TurnsPage, WhyAnswer,
    },
};
use troupe_services::{
    ApplyOptions, Caller, Devices, Removal, Resources, SkillPackage, SkillUpload, TaskFilter,
    TaskStream, Tasks,
};
use troupe_sharding::StreamItem;
use troupe_types::{
    Attempt, Frame, FrameBody, FrameSeq, LogId, MessageFrame, MessageId, MessageKind, Ordinal,
    Place, Role, Sender, Seq, StartedFrame, Status, TaskId, TextFrame, Timestamp, TurnId, UserId,
};

const AT: Timestamp = Timestamp::from_millis(1_795_000_000_000);
/// Title of a Task whose agent waits.
const ASKS: &str = "May I?";
/// Batches that a subscriber may leave unread.
const STREAM_QUEUE: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct FakeTasks {
    tasks: Mutex<HashMap<TaskId, Task>>,
    /// Texts in the order in which they were sent.
    pub(crate) sent: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Task {
    owner: UserId,
    owner_name: String,
    title: String,
    log: LogId,
    frames: Vec<Frame>,
    sinks: Vec<mpsc::Sender<StreamItem>>,
    follows: usize,
}

impl Task {
    fn head(&self) -> FrameSeq {
        FrameSeq(self.frames.len() as u64)
    }

    fn push(&mut self, body: FrameBody) -> FrameSeq {
        let frame = Frame { seq: self.head().next(), at: AT, body };
        self.frames.push(frame.clone());
        let batch: Arc<[Frame]> = Arc::from(vec![frame]);
        self.sinks.retain(|sink| sink.try_send(StreamItem::Frames(Arc::clone(&batch))).is_ok());
        self.head()
    }

    fn view(&self, id: TaskId) -> TaskView {
        TaskView {
            id,
            user_id: self.owner,
            user_name: self.owner_name.clone(),
            title: self.title.clone(),
            labels: Default::default(),
            status: Status::Running,
            wait: None,
            team_namespace: "default".into(),
            team_name: "assistant".into(),
            collaboration_model: "solo".into(),
            stage: None,
            queue: Vec::new(),
            created_at: AT,
            updated_at: AT,
            log: self.log,
            head: self.head(),
        }
    }

    fn messages(&self) -> Vec<MessageView> {
        let mut rows: Vec<MessageView> = Vec::new();
        for frame in &self.frames {
            match &frame.body {
                FrameBody::Message(m) => rows.push(row(m)),
                FrameBody::Started(s) => {
                    if let Some(row) = rows.iter_mut().find(|row| row.message == s.message) {
                        row.content.clear();
                        row.attempts.push(attempt(s));
                    }
                }
                FrameBody::Text(t) => {
                    if let Some(row) = rows.iter_mut().find(|row| row.message == t.message) {
                        row.content.push_str(&t.content);
                    }
                }
                _ => {}
            }
        }
        rows
    }

    fn turns(&self) -> Vec<TurnView> {
        let messages = self.messages();
        let turn = messages.first().map(|m| m.turn);
        turn.map(|turn| TurnView { turn, messages }).into_iter().collect()
    }
}

fn row(m: &MessageFrame) -> MessageView {
    MessageView {
        message: m.message,
        ordinal: m.ordinal,
        turn: m.turn,
        role: m.role,
        kind: m.kind,
        sender: m.sender.clone(),
        step: m.step,
        status: m.status,
        content: m.content.clone(),
        blocks: Vec::new(),
        attempts: Vec::new(),
        usage: None,
        client_message_id: m.client_message_id,
        created_at: AT,
    }
}

fn attempt(s: &StartedFrame) -> AttemptView {
    AttemptView {
        attempt: s.attempt,
        status: Status::Running,
        place: Place::Cluster,
        bot_name: s.bot_name.clone(),
        shell_type: s.shell_type.clone(),
        model: None,
        error: None,
        interrupted: Vec::new(),
        started_at: AT,
        ended_at: None,
    }
}

impl FakeTasks {
    /// What a text frame of a Task's answer says.
    pub(crate) fn say(&self, task: TaskId, text: &str) -> FrameSeq {
        let mut tasks = self.tasks.lock().unwrap();
        let task_row = tasks.get_mut(&task).expect("the task is there");
        let offset = task_row
            .messages()
            .iter()
            .find(|m| m.message == answer_id(task))
            .map_or(0, |m| m.content.chars().count() as u64);
        task_row.push(text_frame(task, text, offset))
    }

    /// The same without a look at what is there: for many frames.
    pub(crate) fn say_fast(&self, task: TaskId, text: &str, offset: u64) -> FrameSeq {
        let mut tasks = self.tasks.lock().unwrap();
        tasks.get_mut(&task).expect("the task is there").push(text_frame(task, text, offset))
    }

    pub(crate) fn start(&self, task: TaskId, attempt: Attempt) -> FrameSeq {
        let mut tasks = self.tasks.lock().unwrap();
        tasks.get_mut(&task).unwrap().push(FrameBody::Started(StartedFrame {
            message: answer_id(task),
            ordinal: Ordinal(2),
            attempt,
            keeps: FrameSeq(0),
            offset: 0,
            bot_name: "bot".into(),
            shell_type: "Chat".into(),
            model: None,
            place: Place::Cluster,
        }))
    }

    /// Ends all subscriptions of a Task, as a crash of its owner does.
    pub(crate) fn break_streams(&self, task: TaskId, with: StreamItem) {
        let mut tasks = self.tasks.lock().unwrap();
        for sink in tasks.get_mut(&task).unwrap().sinks.drain(..) {
            let _ = sink.try_send(with.clone());
        }
    }

    /// Another history, as a restored backup has.
    pub(crate) fn restore(&self, task: TaskId) {
        let mut tasks = self.tasks.lock().unwrap();
        let task = tasks.get_mut(&task).unwrap();
        task.log = LogId::derived(&["restored"]);
        task.sinks.clear();
    }

    pub(crate) fn head(&self, task: TaskId) -> FrameSeq {
        self.tasks.lock().unwrap()[&task].head()
    }

    /// Live subscriptions of a Task.
    pub(crate) fn followers(&self, task: TaskId) -> usize {
        let tasks = self.tasks.lock().unwrap();
        tasks[&task].sinks.iter().filter(|sink| !sink.is_closed()).count()
    }

    /// Subscriptions of a Task ever made.
    pub(crate) fn follows(&self, task: TaskId) -> usize {
        self.tasks.lock().unwrap()[&task].follows
    }

    pub(crate) fn give_to(&self, task: TaskId, owner: UserId) {
        self.tasks.lock().unwrap().get_mut(&task).unwrap().owner = owner;
    }

    fn with<T>(
        &self,
        caller: &Caller,
        task: TaskId,
        f: impl FnOnce(&mut Task) -> T,
    ) -> Result<T, Problem> {
        let mut tasks = self.tasks.lock().unwrap();
        let found = tasks.get_mut(&task).filter(|t| t.owner == caller.user);
        found.map(f).ok_or_else(|| Problem::not_found("task"))
    }
}

pub(crate) fn answer_id(task: TaskId) -> MessageId {
    MessageId::derived(&["answer", &task.to_string()])
}

fn text_frame(task: TaskId, text: &str, offset: u64) -> FrameBody {
    FrameBody::Text(TextFrame {
        message: answer_id(task),
        attempt: Attempt::FIRST,
        block_id: "2.1.1".into(),
        content: text.into(),
        offset,
        late: false,
    })
}

fn message(task: TaskId, ordinal: u64, kind: MessageKind, content: &str) -> FrameBody {
    let role = if kind == MessageKind::User { Role::User } else { Role::Assistant };
    let id = match kind {
        MessageKind::User => MessageId::derived(&["user", &task.to_string()]),
        _ => answer_id(task),
    };
    FrameBody::Message(MessageFrame {
        message: id,
        ordinal: Ordinal(ordinal),
        turn: TurnId::derived(&[&task.to_string()]),
        role,
        kind,
        sender: Sender::System,
        content: content.into(),
        step: None,
        status: Status::Running,
        client_message_id: None,
    })
}

/// Nobody has a device.
#[derive(Debug, Default)]
pub(crate) struct NoDevices;

#[async_trait]
impl Devices for NoDevices {
    async fn invite(&self, _: &Caller, _: InviteDevice) -> Result<DeviceInvitation, Problem> {
        Err(Problem::new(503, "no_edge", "No devices come in here."))
    }

    async fn invitation(&self, _: &Caller, _: &str) -> Result<InvitationView, Problem> {
        Err(Problem::not_found("invitation"))
    }

    async fn list(&self, _: &Caller) -> Result<Page<DeviceView>, Problem> {
        Ok(Page { total: 0, items: Vec::new(), next: None })
    }

    async fn view(&self, _: &Caller, _: &str) -> Result<DeviceView, Problem> {
        Err(Problem::not_found("device"))
    }

    async fn change(&self, _: &Caller, _: &str, _: DevicePatch) -> Result<DeviceView, Problem> {
        Err(Problem::not_found("device"))
    }

    async fn revoke(&self, _: &Caller, _: &str) -> Result<(), Problem> {
        Err(Problem::not_found("device"))
    }
}

#[async_trait]
impl Tasks for FakeTasks {
    async fn answer(&self, caller: &Caller, answer: AnswerBlock) -> Result<(), Problem> {
        self.with(caller, answer.task_id, |_| ())
    }

    async fn send(&self, caller: &Caller, send: ChatSend) -> Result<ChatSendAck, Problem> {
        if send.message.len() > troupe_types::limits::MESSAGE_BYTES_MAX {
            return Err(Problem::new(413, "payload_too_large", "A message has 60,000 bytes."));
        }
        let ack = |task| ChatSendAck {
            task_id: task,
            message: None,
            ordinal: None,
            turn: None,
            queued: false,
            current_stage: None,
            total_stages: None,
            next_stage_name: None,
            pipeline_completed: None,
        };
        if let Some(task) = send.task_id {
            self.with(caller, task, |_| ())?;
            self.sent.lock().unwrap().push(send.message);
            return Ok(ack(task));
        }
        let key = send.client_message_id.map(|id| id.to_string());
        let count = self.tasks.lock().unwrap().len().to_string();
        let task = TaskId::derived(&[&caller.user.to_string(), key.as_deref().unwrap_or(&count)]);
        let mut tasks = self.tasks.lock().unwrap();
        let fresh = tasks.entry(task).or_insert_with(|| Task {
            owner: caller.user,
            owner_name: caller.name.clone(),
            title: send.title.unwrap_or_else(|| "A task".into()),
            log: LogId::derived(&["log"]),
            frames: Vec::new(),
            sinks: Vec::new(),
            follows: 0,
        });
        if fresh.frames.is_empty() {
            fresh.push(message(task, 1, MessageKind::User, &send.message));
            fresh.push(message(task, 2, MessageKind::Answer, ""));
        }
        drop(tasks);
        self.sent.lock().unwrap().push(send.message);
        Ok(ack(task))
    }

    async fn cancel(&self, caller: &Caller, cancel: ChatCancel) -> Result<(), Problem> {
        let by_row = || {
            let row = cancel.subtask_id?;
            let tasks = self.tasks.lock().unwrap();
            let mine = tasks.iter().filter(|(_, task)| task.owner == caller.user);
            let holds = |task: &Task| task.messages().iter().any(|m| m.message == row);
            mine.filter(|(_, task)| holds(task)).map(|(id, _)| *id).next()
        };
        let task = cancel.task_id.or_else(by_row).ok_or_else(|| Problem::not_found("Message"))?;
        self.with(caller, task, |_| ())
    }

    async fn retry(&self, caller: &Caller, retry: ChatRetry) -> Result<(), Problem> {
        self.with(caller, retry.task_id, |_| ())
    }

    async fn edit(&self, caller: &Caller, edit: ChatEdit) -> Result<ChatSendAck, Problem> {
        let send = ChatSend { task_id: Some(edit.task_id), ..ChatSend::default() };
        self.send(caller, send).await
    }

    async fn queue(&self, caller: &Caller, op: QueueOp) -> Result<(), Problem> {
        let (QueueOp::Remove { task_id, .. }
        | QueueOp::Replace { task_id, .. }
        | QueueOp::Reorder { task_id, .. }
        | QueueOp::Resume { task_id }) = op;
        self.with(caller, task_id, |_| ())
    }

    async fn patch(
        &self,
        caller: &Caller,
        task: TaskId,
        patch: TaskPatch,
    ) -> Result<TaskView, Problem> {
        self.with(caller, task, |t| {
            if let Some(title) = patch.title {
                t.title = title;
            }
            t.view(task)
        })
    }

    async fn delete(&self, caller: &Caller, task: TaskId) -> Result<(), Problem> {
        self.with(caller, task, |_| ())?;
        self.tasks.lock().unwrap().remove(&task);
        Ok(())
    }

    async fn view(&self, caller: &Caller, task: TaskId) -> Result<TaskView, Problem> {
        self.with(caller, task, |t| t.view(task))
    }

    async fn join(&self, caller: &Caller, join: TaskJoin) -> Result<JoinAnswer, Problem> {
        self.with(caller, join.task_id, |t| JoinAnswer {
            log: t.log,
            head: t.head(),
            task: t.view(join.task_id),
            turns: t.turns(),
            outline: Vec::new(),
            viewers: Vec::new(),
            streaming: None,
            subtasks: match join.after_message_id {
                Some(after) => t.messages().into_iter().filter(|m| m.ordinal > after).collect(),
                None => Vec::new(),
            },
        })
    }

    async fn turns(
        &self,
        caller: &Caller,
        task: TaskId,
        _before: Option<TurnId>,
        _limit: u32,
    ) -> Result<TurnsPage, Problem> {
        self.with(caller, task, |t| TurnsPage {
            log: t.log,
            head: t.head(),
            turns: t.turns(),
            before: None,
        })
    }

    async fn frames(
        &self,
        caller: &Caller,
        task: TaskId,
        after: FrameSeq,
        limit: u32,
    ) -> Result<FramesPage, Problem> {
        self.with(caller, task, |t| {
            let frames = t.frames.iter().filter(|frame| frame.seq > after).take(limit as usize);
            let frames = frames.map(|frame| {
                let event = FrameEvent::new(task, frame);
                FrameItem { event: event.name().to_owned(), data: event.to_value() }
            });
            FramesPage { log: t.log, head: t.head(), frames: frames.collect() }
        })
    }

    async fn follow(
        &self,
        caller: &Caller,
        task: TaskId,
        after: FrameSeq,
    ) -> Result<TaskStream, Problem> {
        self.with(caller, task, |t| {
            t.follows += 1;
            let (to, frames) = mpsc::channel(STREAM_QUEUE);
            let batch: Vec<Frame> =
                t.frames.iter().filter(|frame| frame.seq > after).cloned().collect();
            if !batch.is_empty() {
                to.try_send(StreamItem::Frames(Arc::from(batch))).unwrap();
            }
            t.sinks.push(to);
            TaskStream { log: t.log, head: t.head(), frames }
        })
    }

    async fn may_follow(&self, caller: &Caller, task: TaskId) -> Result<(), Problem> {
        self.with(caller, task, |_| ())
    }

    async fn list(&self, caller: &Caller, filter: TaskFilter) -> Result<Page<TaskLite>, Problem> {
        let tasks = self.tasks.lock().unwrap();
        let own = tasks.iter().filter(|(_, t)| t.owner == caller.user);
        let own =
            own.filter(|(_, t)| filter.text.as_deref().is_none_or(|text| t.title.contains(text)));
        let items: Vec<TaskLite> = own
            .map(|(id, t)| TaskLite {
                id: *id,
                user_id: t.owner,
                title: t.title.clone(),
                status: Status::Running,
                team_name: "assistant".into(),
                team_namespace: "default".into(),
                created_at: AT,
                updated_at: AT,
                completed_at: None,
                last_line: None,
                asks: u32::from(t.title == ASKS),
            })
            .filter(|lite| lite.asks > 0 || !filter.asks)
            .collect();
        Ok(Page { total: items.len() as u64, items, next: None })
    }

    async fn asks(&self, _: &Caller) -> Result<OpenAsks, Problem> {
        Ok(OpenAsks { asks: Vec::new(), more: true })
    }

    async fn why(&self, caller: &Caller, task: TaskId) -> Result<WhyAnswer, Problem> {
        self.with(caller, task, |_| WhyAnswer {
            task_id: task,
            status: Status::Running,
            summary: "It runs.".into(),
            details: Vec::new(),
            next_steps: Vec::new(),
            devices: Vec::new(),
        })
    }
}

/// Resources of a namespace `default` per user; anything else is not found.
#[derive(Debug, Default)]
pub(crate) struct FakeResources {
    rows: Mutex<HashMap<(UserId, String, String), Value>>,
}

fn own(namespace: &str) -> Result<(), Problem> {
    if namespace == "default" { Ok(()) } else { Err(Problem::not_found("Namespace")) }
}

/// Every namespace is here.
pub(crate) const VERSION: Seq = Seq(7);

fn reached(min: Option<Seq>) -> Result<(), Problem> {
    match min {
        Some(min) if min > VERSION => {
            Err(Problem::new(503, "version_not_reached", "Repeat in a moment."))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Resources for FakeResources {
    async fn apply(
        &self,
        _: &Caller,
        body: &[u8],
        options: ApplyOptions,
    ) -> Result<ApplyAnswer, Problem> {
        if let Some(namespace) = &options.namespace {
            own(namespace)?;
        }
        if body.is_empty() {
            return Err(Problem::invalid("", "There is no document."));
        }
        Ok(ApplyAnswer { success: true, dry_run: options.dry_run, ..ApplyAnswer::default() })
    }

    async fn create(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<Value, Problem> {
        own(namespace)?;
        let value: Value =
            serde_json::from_slice(body).map_err(|e| Problem::invalid("", format!("{e}.")))?;
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = (caller.user, kind.to_owned(), name);
        self.rows.lock().unwrap().insert(key, value.clone());
        Ok(value)
    }

    async fn replace(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
        _: &[u8],
    ) -> Result<Value, Problem> {
        self.get(caller, namespace, kind, name, None).await
    }

    async fn get(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
        min_version: Option<Seq>,
    ) -> Result<Value, Problem> {
        own(namespace)?;
        reached(min_version)?;
        let key = (caller.user, kind.to_owned(), name.to_owned());
        let found = self.rows.lock().unwrap().get(&key).cloned();
        found.ok_or_else(|| Problem::not_found("Resource"))
    }

    async fn list(
        &self,
        caller: &Caller,
        namespace: Option<&str>,
        kind: &str,
        _: Option<&str>,
        min_version: Option<Seq>,
    ) -> Result<Value, Problem> {
        own(namespace.unwrap_or("default"))?;
        reached(min_version)?;
        let rows = self.rows.lock().unwrap();
        let mine = rows.iter().filter(|((u, k, _), _)| *u == caller.user && k == kind);
        Ok(json!({ "kind": "List", "items": mine.map(|(_, v)| v).collect::<Vec<_>>() }))
    }

    async fn used_by(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<UsedBy, Problem> {
        self.get(caller, namespace, kind, name, None).await?;
        let (kind, name) = ("Team".to_owned(), "t".to_owned());
        let paths = vec!["spec.members[0].botRef".to_owned()];
        let user = ResourceUser { kind, name, namespace: namespace.to_owned(), paths };
        Ok(UsedBy { used_by: vec![user] })
    }

    async fn delete(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
        _: Removal<'_>,
    ) -> Result<Seq, Problem> {
        self.get(caller, namespace, kind, name, None).await?;
        let key = (caller.user, kind.to_owned(), name.to_owned());
        self.rows.lock().unwrap().remove(&key);
        Ok(VERSION)
    }

    async fn deleted(&self, _: &Caller, namespace: &str) -> Result<Value, Problem> {
        own(namespace)?;
        Ok(json!({ "kind": "List", "items": [] }))
    }

    async fn restore(
        &self,
        _: &Caller,
        namespace: &str,
        _: &str,
        _: &str,
    ) -> Result<Value, Problem> {
        own(namespace)?;
        Err(Problem::not_found("Resource"))
    }

    async fn instantiate(
        &self,
        _: &Caller,
        namespace: &str,
        _: (&str, &str),
        _: bool,
    ) -> Result<ApplyAnswer, Problem> {
        own(namespace)?;
        Err(Problem::not_found("Template"))
    }

    async fn delete_many(
        &self,
        caller: &Caller,
        body: &[u8],
        options: ApplyOptions,
    ) -> Result<ApplyAnswer, Problem> {
        self.apply(caller, body, options).await
    }

    async fn watch(
        &self,
        _: &Caller,
        namespace: &str,
        since: &str,
        _: Option<&str>,
    ) -> Result<Vec<WatchItem>, Problem> {
        own(namespace)?;
        if since == "trimmed" {
            return Err(Problem::new(410, "trimmed", "List anew."));
        }
        let version = since.parse::<u64>().unwrap_or(0) + 1;
        if version > 3 {
            return std::future::pending().await;
        }
        let kind = "BOOKMARK".to_owned();
        Ok(vec![WatchItem { kind, resource: Value::Null, resource_version: version }])
    }

    async fn upload_skill(&self, caller: &Caller, upload: SkillUpload) -> Result<Value, Problem> {
        own(&upload.namespace)?;
        if !upload.bytes.starts_with(b"PK") {
            return Err(Problem::new(400, "bad_package", "this is no ZIP archive"));
        }
        let name = upload.name.unwrap_or_else(|| "folder".to_owned());
        let id = upload.id.unwrap_or_else(|| format!("id-{name}"));
        let namespace = upload.namespace;
        let zip = String::from_utf8_lossy(&upload.bytes).into_owned();
        let metadata = json!({ "name": name, "uid": id, "namespace": namespace });
        let value = json!({ "kind": "Skill", "metadata": metadata, "zip": zip });
        let key = (caller.user, "skills".to_owned(), id);
        self.rows.lock().unwrap().insert(key, value.clone());
        Ok(value)
    }

    async fn skill(&self, caller: &Caller, id: &str) -> Result<Value, Problem> {
        self.get(caller, "default", "skills", id, None).await
    }

    async fn skill_package(&self, caller: &Caller, id: &str) -> Result<SkillPackage, Problem> {
        let skill = self.skill(caller, id).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (name, bytes) = (text(&skill["metadata"]["name"]), text(&skill["zip"]).into());
        Ok(SkillPackage { name, bytes, hash: "0".repeat(64) })
    }

    async fn delete_skill(&self, caller: &Caller, id: &str) -> Result<Seq, Problem> {
        self.delete(caller, "default", "skills", id, Removal::default()).await
    }

    fn explain(&self, kind: &str, path: Option<&str>) -> Result<Value, Problem> {
        Ok(json!({ "kind": kind, "path": path }))
    }

    fn schema(&self, kind: &str) -> Result<Value, Problem> {
        Ok(json!({ "title": kind }))
    }
}
