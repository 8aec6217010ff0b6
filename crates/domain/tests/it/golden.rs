//! The record format on disk: every fact and every frame as JSON, pinned.
//!
//! What is in the files must stay readable; a new field needs a default. After a deliberate
//! change: `cargo test -p troupe-domain --test it bless -- --ignored`.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use troupe_domain::{
    namespace::{Item, ItemChange, Key, NamespaceEntry, NamespaceState, Target},
    task::{
        Ack, AttemptEnd, CollaborationModel, ContextPassing, LeaderDecision, MemberPlan, ModelPlan,
        OpenCall, StepRecord, TaskEvent, TaskState, Work, WorkItem,
    },
};
use troupe_resources::Kind;
use troupe_types::{
    Attempt, Block, BlockCreatedFrame, BlockKind, BlockPatch, BlockStatus, BlockUpdatedFrame,
    CancelledFrame, DoneFrame, EditedFrame, ErrorFrame, ErrorType, ExecutionId, Frame, FrameBody,
    FrameSeq, LogId, MessageFrame, MessageId, MessageKind, Ordinal, OutSeq, Place, QueueFrame,
    QueuedMessage, Reasoning, Role, RunStep, Sender, Seq, StartedFrame, Status, StatusFrame,
    TaskFrame, TaskId, TextFrame, ThinkingFrame, Timestamp, TurnId, UsageFrame, Uuid, Wait,
};

use crate::world::{World, ann, choose, conclude, member, plan_of, team};

fn message() -> MessageId {
    MessageId::derived(&["m"])
}

fn execution() -> ExecutionId {
    ExecutionId::derived(&["e"])
}

fn turn() -> TurnId {
    TurnId::derived(&["t"])
}

fn key() -> Uuid {
    Uuid::from_u128(7)
}

fn at() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_123)
}

fn a_person() -> Sender {
    Sender::User { user_id: ann(), user_name: "ann".into() }
}

fn a_wait() -> Wait {
    let args = json!({"running": 10}).as_object().expect("an object").clone();
    Wait { code: "team_slots".into(), args }
}

fn a_plan() -> troupe_domain::task::TeamPlan {
    let model = ModelPlan {
        name: "demo".into(),
        provider: "demo".into(),
        model_id: "demo-1".into(),
        base_url: Some("http://127.0.0.1:1".into()),
        headers: BTreeMap::from([("x-a".into(), "b".into())]),
        sealed_key: Some("sealed:v1:k:c".into()),
        bearer: false,
        small_model: None,
        context_window: 100_000,
        max_output_tokens: Some(4_096),
        thinking: None,
        trusted: true,
    };
    let full = MemberPlan {
        prompt: "plan".into(),
        require_confirmation: true,
        context_passing: ContextPassing::OriginalAndPrevious,
        on: Some("os=linux".into()),
        model: Some(model),
        mcp_servers: BTreeMap::from([("files".into(), json!({"type": "stdio"}))]),
        skills: vec!["review".into()],
        ..member("a")
    };
    plan_of(CollaborationModel::Pipeline, vec![full, member("b")], 0)
}

/// The name in the file, and the proof that no variant is forgotten.
fn event_name(event: &TaskEvent) -> &'static str {
    match event {
        TaskEvent::Created { .. } => "created",
        TaskEvent::KeyUsed { .. } => "key_used",
        TaskEvent::TeamResolved { .. } => "team_resolved",
        TaskEvent::TurnPlanned { .. } => "turn_planned",
        TaskEvent::MessagePlanned { .. } => "message_planned",
        TaskEvent::ExecutionPlanned { .. } => "execution_planned",
        TaskEvent::AttemptQueued { .. } => "attempt_queued",
        TaskEvent::WaitChanged { .. } => "wait_changed",
        TaskEvent::AttemptStarted { .. } => "attempt_started",
        TaskEvent::DeviceAssigned { .. } => "device_assigned",
        TaskEvent::BlockAnswered { .. } => "block_answered",
        TaskEvent::AskExpired { .. } => "ask_expired",
        TaskEvent::StepFinished { .. } => "step_finished",
        TaskEvent::BlockNamed { .. } => "block_named",
        TaskEvent::OutputMarked { .. } => "output_marked",
        TaskEvent::AttemptEnded { .. } => "attempt_ended",
        TaskEvent::TurnEnded { .. } => "turn_ended",
        TaskEvent::TurnResumed { .. } => "turn_resumed",
        TaskEvent::StageChanged { .. } => "stage_changed",
        TaskEvent::MessageQueued { .. } => "message_queued",
        TaskEvent::Edited { .. } => "edited",
        TaskEvent::Updated { .. } => "updated",
        TaskEvent::Deleted => "deleted",
    }
}
const EVENTS: usize = 23;

fn frame_name(body: &FrameBody) -> &'static str {
    match body {
        FrameBody::Message(_) => "message",
        FrameBody::Started(_) => "started",
        FrameBody::Text(_) => "text",
        FrameBody::Thinking(_) => "thinking",
        FrameBody::BlockCreated(_) => "block_created",
        FrameBody::BlockUpdated(_) => "block_updated",
        FrameBody::Status(_) => "status",
        FrameBody::Usage(_) => "usage",
        FrameBody::Done(_) => "done",
        FrameBody::Error(_) => "error",
        FrameBody::Cancelled(_) => "cancelled",
        FrameBody::Edited(_) => "edited",
        FrameBody::Stage(_) => "stage",
        FrameBody::Queue(_) => "queue",
        FrameBody::Task(_) => "task",
    }
}
const FRAMES: usize = 15;

fn task_events() -> Vec<TaskEvent> {
    let labels = BTreeMap::from([("type".to_owned(), "online".to_owned())]);
    let sent = Ack::Sent(troupe_domain::task::SendAck {
        task_id: TaskId::derived(&["task"]),
        message: message(),
        ordinal: Some(Ordinal(1)),
        turn: Some(turn()),
        queued: false,
    });
    let confirmed =
        Ack::Confirmed { current_stage: 1, total_stages: 2, next_stage_name: Some("b".into()) };
    let used = |ack| TaskEvent::KeyUsed { key: key(), body: "ab".repeat(16), ack };
    vec![
        TaskEvent::Created {
            task: TaskId::derived(&["task"]),
            owner: ann(),
            owner_name: "ann".into(),
            log: LogId::derived(&["log"]),
            title: "title".into(),
            labels: labels.clone(),
            team: ("default".into(), "team".into()),
        },
        used(sent),
        used(confirmed),
        TaskEvent::TeamResolved { plan: Arc::new(a_plan()) },
        TaskEvent::TurnPlanned { turn: turn(), message: message(), plan: "h".into(), stage: 1 },
        TaskEvent::MessagePlanned {
            message: message(),
            ordinal: Ordinal(2),
            turn: turn(),
            role: Role::Assistant,
            kind: MessageKind::Answer,
            step: Some(RunStep::Item(0)),
        },
        TaskEvent::MessageQueued { message: message(), plan: "h".into() },
        TaskEvent::TurnEnded { turn: turn(), status: Status::PendingConfirmation },
        TaskEvent::TurnResumed { turn: turn(), plan: None },
        TaskEvent::TurnResumed { turn: turn(), plan: Some("h".into()) },
        TaskEvent::StageChanged { stage: 1 },
        TaskEvent::Edited { removed: vec![message()] },
        TaskEvent::Updated { title: Some("new".into()), labels: Some(labels) },
        TaskEvent::Deleted,
    ]
}

fn run_events() -> Vec<TaskEvent> {
    let (execution, attempt) = (execution(), Attempt(2));
    let planned =
        |work| TaskEvent::ExecutionPlanned { execution, message: message(), member: 1, work };
    let step = |record| TaskEvent::StepFinished { execution, attempt, record };
    let ended = |end| TaskEvent::AttemptEnded { execution, attempt, end };
    let decided = |decision| ended(AttemptEnd::Done { decision: Some(decision) });
    let items = vec![WorkItem { member: "b".into(), instructions: "x".into() }];
    let calls = vec![OpenCall { tool_use_id: "call".into(), block_id: "2.1.1".into() }];
    let mut events: Vec<TaskEvent> = [
        Work::Answer,
        Work::Stage { stage: 1 },
        Work::Choose,
        Work::Split,
        Work::Item { item: 0, instructions: "x".into() },
        Work::Merge,
        Work::Discuss { round: 1 },
        Work::Conclusion,
    ]
    .into_iter()
    .map(planned)
    .collect();
    events.extend([
        TaskEvent::AttemptQueued { execution, attempt, keep: true, lost_in_a_row: 1 },
        TaskEvent::WaitChanged { execution, wait: Some(a_wait()) },
        TaskEvent::AttemptStarted { execution, attempt },
        step(StepRecord::Model { message: json!({"role": "assistant"}), calls }),
        step(StepRecord::Tool { tool_use_id: "call".into(), result: json!("ok"), unknown: false }),
        TaskEvent::BlockNamed { execution, attempt, name: "call".into(), block_id: "2.1.1".into() },
        TaskEvent::OutputMarked { execution, attempt, out_seq: OutSeq(9) },
        ended(AttemptEnd::Done { decision: None }),
        decided(choose("b")),
        decided(LeaderDecision::SplitWork { items }),
        decided(conclude(true)),
        decided(LeaderDecision::Invalid { error: "no".into() }),
        ended(AttemptEnd::Failed { error: ErrorType::RateLimit }),
        ended(AttemptEnd::Cancelled),
        ended(AttemptEnd::Lost),
        TaskEvent::DeviceAssigned {
            execution,
            attempt,
            device: troupe_types::DeviceId::from_uuid(troupe_types::Uuid::nil()),
            token: "cd".repeat(4),
            restored: None,
        },
        TaskEvent::BlockAnswered {
            execution,
            attempt,
            block_id: "2.1.1".into(),
            input: troupe_types::Uuid::nil(),
            answer: troupe_domain::task::Answer::Allow,
        },
        TaskEvent::AskExpired {
            execution,
            attempt,
            block_id: "2.1.2".into(),
            input: troupe_types::Uuid::nil(),
        },
    ]);
    events
}

fn a_block(kind: BlockKind) -> FrameBody {
    FrameBody::BlockCreated(BlockCreatedFrame {
        message: message(),
        attempt: Attempt(1),
        block: Block {
            id: "2.1.1".into(),
            kind,
            status: BlockStatus::GeneratingArguments,
            timestamp: 5,
            parent_tool_use_id: Some("parent".into()),
        },
        late: false,
    })
}

fn output_frames() -> Vec<FrameBody> {
    let (message, attempt) = (message(), Attempt(1));
    let other = json!({"type": "diff", "path": "a"}).as_object().expect("an object").clone();
    let block_id = || "2.1.1".to_owned();
    vec![
        FrameBody::Text(TextFrame {
            message,
            attempt,
            block_id: block_id(),
            content: "漢🙂".into(),
            offset: 3,
            late: false,
        }),
        FrameBody::Thinking(ThinkingFrame {
            message,
            attempt,
            block_id: block_id(),
            result: Reasoning { reasoning_chunk: "hm".into() },
            late: true,
        }),
        a_block(BlockKind::Tool {
            tool_use_id: "call".into(),
            tool_name: "lookup".into(),
            display_name: Some("Look up".into()),
            tool_input: json!({"q": 1}),
            tool_output: None,
            server_label: Some("files".into()),
        }),
        a_block(BlockKind::Confirmation { stage: 0, handoff: "x".into() }),
        a_block(BlockKind::Other(other)),
        FrameBody::BlockUpdated(BlockUpdatedFrame {
            message,
            attempt,
            block_id: block_id(),
            patch: BlockPatch {
                status: Some(BlockStatus::Done),
                content: None,
                tool_input: Some(json!({})),
                tool_output: Some("ok".into()),
            },
            late: false,
        }),
    ]
}

fn attempt_frames() -> Vec<FrameBody> {
    let (message, ordinal, attempt) = (message(), Ordinal(2), Attempt(2));
    let started = |place| {
        FrameBody::Started(StartedFrame {
            message,
            ordinal,
            attempt,
            keeps: FrameSeq(9),
            offset: 4,
            bot_name: "a".into(),
            shell_type: "Chat".into(),
            model: Some("demo".into()),
            place,
        })
    };
    let error = |kind, continues, retry_at| {
        let error = "broken".to_owned();
        FrameBody::Error(ErrorFrame { message, ordinal, attempt, error, kind, continues, retry_at })
    };
    vec![
        started(Place::Cluster),
        started(Place::Device { id: "dev".into(), name: "laptop".into() }),
        started(Place::Container { id: "c".into() }),
        FrameBody::Status(StatusFrame {
            message: Some(message),
            phase: "waiting".into(),
            wait: Some(a_wait()),
            retry_at: Some(at()),
            text: Some("waits".into()),
            context_metrics: Some(json!({"used": 1})),
            compaction: Some(json!({"removed": 1})),
        }),
        FrameBody::Usage(UsageFrame {
            message: Some(message),
            model: "demo".into(),
            input_tokens: 1,
            output_tokens: 2,
            cached_tokens: 3,
            cost: Some(0.5),
        }),
        FrameBody::Done(DoneFrame {
            message,
            ordinal,
            attempt,
            offset: 5,
            sha256: "00".repeat(32),
            stop_reason: Some("end_turn".into()),
        }),
        error(ErrorType::Lost, true, Some(at())),
        error(ErrorType::ContextLengthExceeded, false, None),
        FrameBody::Cancelled(CancelledFrame { message, ordinal, attempt }),
    ]
}

fn task_frames() -> Vec<FrameBody> {
    let stage = World::begun(&Arc::new(a_plan())).state.stage_frame().expect("a pipeline");
    let queued = QueuedMessage {
        message: message(),
        sender: a_person(),
        content: "later".into(),
        client_message_id: Some(key()),
    };
    let row = |sender, kind, role, status, step| {
        FrameBody::Message(MessageFrame {
            message: message(),
            ordinal: Ordinal(1),
            turn: turn(),
            role,
            kind,
            sender,
            content: "hello".into(),
            step,
            status,
            client_message_id: Some(key()),
        })
    };
    let stage_one = Some(RunStep::Stage(1));
    let a_member = Sender::Member { member: 0, name: "a".into() };
    vec![
        row(a_person(), MessageKind::User, Role::User, Status::Completed, None),
        row(Sender::Team, MessageKind::Handoff, Role::User, Status::Completed, stage_one),
        row(
            a_member,
            MessageKind::Conclusion,
            Role::Assistant,
            Status::Pending,
            Some(RunStep::Round(1)),
        ),
        FrameBody::Edited(EditedFrame {
            ordinal: Ordinal(1),
            removed: vec![message()],
            stage: Some(0),
        }),
        FrameBody::Stage(stage),
        FrameBody::Queue(QueueFrame { queue: vec![queued] }),
        FrameBody::Task(TaskFrame {
            title: Some("title".into()),
            labels: Some(BTreeMap::from([("type".into(), "online".into())])),
            status: Some(Status::Running),
        }),
    ]
}

fn events() -> Vec<TaskEvent> {
    [task_events(), run_events()].concat()
}

fn frames() -> Vec<Frame> {
    let bodies = [task_frames(), attempt_frames(), output_frames()].concat();
    (1..).zip(bodies).map(|(seq, body)| Frame { seq: FrameSeq(seq), at: at(), body }).collect()
}

/// A snapshot with something in every corner.
fn states() -> Vec<TaskState> {
    let mut world = World::begun(&team(CollaborationModel::Coordinate, 3));
    world.answer(Some(crate::world::split(&["b".into(), "c".into()])));
    world.start_all();
    let live = world.live();
    world.text(live[0]);
    world.model_step(live[0], 1);
    world.lose(live[0], false);
    world.think(live[1]);
    world.model_step(live[1], 1);
    world.send(&team(CollaborationModel::Solo, 1), "later").expect("queued");
    let mut pipeline = World::begun(&Arc::new(a_plan()));
    pipeline.answer(None);
    vec![TaskState::default(), world.state, pipeline.state]
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(file: &str, all: &[T]) {
    let text = std::fs::read_to_string(path(file)).expect("a golden file");
    let kept: Vec<Value> = serde_json::from_str(&text).expect("an array");
    assert_eq!(kept.len(), all.len(), "{file}");
    for (kept, now) in kept.into_iter().zip(all) {
        assert_eq!(kept, serde_json::to_value(now).expect("encodes"), "{file}: what is written");
        let read: T = serde_json::from_value(kept).expect("decodes");
        assert_eq!(&read, now, "{file}: what is read");
    }
}

fn an_item(version: u64) -> Box<Item> {
    let reference = Key::new(Kind::Ghost, "g");
    Box::new(Item {
        document: json!({"kind": "Bot", "metadata": {"name": "b"}, "spec": {"k": "***"}}),
        secrets: BTreeMap::from([("spec.k".into(), "sealed:v1:k:c".into())]),
        uid: key(),
        version: Seq(version),
        generation: 2,
        created_at: at(),
        updated_at: at(),
        references: vec![Target { key: reference, path: "spec.ghostRef.name".into() }],
    })
}

/// Every change of a Namespace; the second entry belongs to the same apply.
fn namespace_entries() -> Vec<NamespaceEntry> {
    let bot = |name| Key::new(Kind::Bot, name);
    let written = |name, version| ItemChange::Written { key: bot(name), item: an_item(version) };
    let removed = |name, purge| ItemChange::Removed { key: bot(name), purge };
    vec![
        NamespaceEntry { at: at(), changes: vec![written("b", 1), written("c", 1)] },
        NamespaceEntry { at: at(), changes: vec![written("d", 2)] },
        NamespaceEntry { at: at(), changes: vec![removed("b", false), removed("c", true)] },
    ]
}

fn namespaces() -> Vec<NamespaceState> {
    let mut state = NamespaceState::default();
    let fold = |entry: &NamespaceEntry| {
        state.apply(entry);
        state.clone()
    };
    namespace_entries().iter().map(fold).collect()
}

#[test]
fn namespaces_are_written_and_read_as_ever() {
    check("namespace-entries.json", &namespace_entries());
    check("namespaces.json", &namespaces());
}

#[test]
fn facts_are_written_and_read_as_ever() {
    let all = events();
    let names: std::collections::BTreeSet<_> = all.iter().map(event_name).collect();
    assert_eq!(names.len(), EVENTS);
    check("events.json", &all);
}

#[test]
fn frames_are_written_and_read_as_ever() {
    let all = frames();
    let names: std::collections::BTreeSet<_> = all.iter().map(|f| frame_name(&f.body)).collect();
    assert_eq!(names.len(), FRAMES);
    check("frames.json", &all);
}

#[test]
fn snapshots_are_written_and_read_as_ever() {
    check("states.json", &states());
}

#[test]
#[ignore = "rewrites the golden files"]
fn bless() {
    let write = |file: &str, text: Result<String, serde_json::Error>| {
        std::fs::write(path(file), text.expect("encodes") + "\n").expect("a writable file");
    };
    write("events.json", serde_json::to_string_pretty(&events()));
    write("frames.json", serde_json::to_string_pretty(&frames()));
    write("states.json", serde_json::to_string_pretty(&states()));
    write("namespace-entries.json", serde_json::to_string_pretty(&namespace_entries()));
    write("namespaces.json", serde_json::to_string_pretty(&namespaces()));
}
