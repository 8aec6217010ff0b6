//! Messages, queue, cancel, retry, edit, delete, losses.

use std::{collections::BTreeMap, sync::Arc};

use troupe_domain::task::{
    Ack, AttemptState, CollaborationModel, Command, CreateTask, Output, QueueEdit, Refusal,
    Repeated, RunEvent, TaskEvent, TeamPlan,
    decide::{EDIT_ROWS_MAX, QUEUE_BYTES_MAX},
    execution::LATE_FRAMES_MAX,
};
use troupe_types::{
    Attempt, BlockPatch, BlockStatus, ErrorType, FrameBody, FrameSeq, MessageId, OutSeq, Place,
    Status, StatusFrame, TaskId, Timestamp, UserId, Uuid, Wait,
    limits::{MESSAGE_BYTES_MAX, QUEUED_MESSAGES_MAX},
};

use crate::world::{World, ann, member, plan_of, team, tool_block};

fn solo() -> Arc<TeamPlan> {
    team(CollaborationModel::Solo, 1)
}

fn invalid_field(answer: Result<Ack, Refusal>) -> String {
    match answer {
        Err(Refusal::Invalid { field, .. }) => field,
        other => panic!("not refused as invalid: {other:?}"),
    }
}

#[test]
fn a_new_task_needs_what_it_is_made_with() {
    let mut world = World::new();
    let mut send = world.message(&solo(), "hello");
    send.create = None;
    assert_eq!(world.ask(Command::Send(send)), Err(Refusal::NotFound));
    assert_eq!(world.ask(Command::Cancel), Err(Refusal::NotFound));

    let long = "word ".repeat(30);
    let mut send = world.message(&solo(), &long);
    send.create = Some(CreateTask {
        task: TaskId::derived(&["other"]),
        owner: ann(),
        owner_name: "ann".into(),
        title: "  ".into(),
        labels: BTreeMap::from([("type".into(), "online".into())]),
    });
    world.ask(Command::Send(send)).unwrap();
    assert_eq!(world.state.title.chars().count(), 50, "49 without the space, and the ellipsis");
    assert!(world.state.title.ends_with("word…"));
    assert_eq!(world.state.turns[0].excerpt.chars().count(), 79);
    assert_eq!(world.state.view().unwrap().labels["type"], "online");
}

#[test]
fn texts_have_bounds() {
    let mut world = World::begun(&solo());
    for bad in ["", " \n\t", &"x".repeat(MESSAGE_BYTES_MAX + 1), &"\u{1}".repeat(50_000)] {
        assert_eq!(invalid_field(world.send(&solo(), bad)), "message");
    }
    world.send(&solo(), &"漢".repeat(MESSAGE_BYTES_MAX / 3)).unwrap();
    let empty = Arc::new(plan_of(CollaborationModel::Solo, Vec::new(), 0));
    assert_eq!(invalid_field(world.send(&empty, "x")), "team");
    let headless = Arc::new(plan_of(CollaborationModel::Solo, vec![member("a")], 7));
    assert_eq!(invalid_field(world.send(&headless, "x")), "team");
    let title = Some("x".repeat(300));
    assert_eq!(invalid_field(world.ask(Command::Update { title, labels: None })), "title");
}

#[test]
fn the_same_key_gives_the_same_answer() {
    let mut world = World::begun(&solo());
    let send = world.message(&solo(), "later");
    let ack = world.ask(Command::Send(send.clone())).unwrap();
    assert!(matches!(&ack, Ack::Sent(sent) if sent.queued && sent.ordinal.is_none()));
    world.settle();
    let entries = world.entries.len();
    assert_eq!(world.ask(Command::Send(send.clone())), Ok(ack), "also once it has run");
    let mut other = send;
    other.content = "another".into();
    assert_eq!(world.ask(Command::Send(other)), Err(Refusal::KeyReused));
    assert_eq!(world.entries.len(), entries);
}

#[test]
fn the_queue_moves_on_after_done_only() {
    let plan = solo();
    let mut world = World::begun(&plan);
    world.send(&plan, "second").unwrap();
    world.send(&plan, "third").unwrap();
    assert_eq!(world.transcript().queue().len(), 2);
    world.answer(None);
    assert_eq!(world.state.turns.len(), 2, "the second started by itself");
    world.fail_next();
    assert_eq!((world.state.status, world.state.queue.len()), (Status::Failed, 1));
    let Ok(Ack::Sent(fourth)) = world.send(&plan, "fourth") else { panic!("sent") };
    assert!(fourth.queued, "the third goes first");
    assert_eq!(world.state.turns[2].excerpt, "third");
    assert_eq!(world.state.queue[0].message, fourth.message);
    world.ask(Command::Cancel).unwrap();
    world.ask(Command::Queue(QueueEdit::Resume)).unwrap();
    assert_eq!(world.state.turns[3].excerpt, "fourth");
    assert_eq!(world.state.message(fourth.message).unwrap().ordinal.0, 7);
    world.ask(Command::Queue(QueueEdit::Resume)).unwrap_err();
}

#[test]
fn a_queued_message_keeps_the_plan_it_was_sent_for() {
    let route = team(CollaborationModel::Route, 2);
    let mut world = World::begun(&solo());
    world.send(&route, "for two").unwrap();
    world.answer(None);
    assert_eq!(world.state.plan(), Some(&route));
    assert_eq!(world.state.plans.len(), 1, "plans that nothing uses are dropped");
}

#[test]
fn the_queue_is_changed_by_its_ids() {
    let plan = solo();
    let mut world = World::begun(&plan);
    for text in ["one", "two", "three"] {
        world.send(&plan, text).unwrap();
    }
    let ids: Vec<MessageId> = world.state.queue.iter().map(|q| q.message).collect();
    let order = vec![ids[2], ids[0], ids[1]];
    world.ask(Command::Queue(QueueEdit::Reorder { order: order.clone() })).unwrap();
    world.ask(Command::Queue(QueueEdit::Remove { message: ids[0] })).unwrap();
    let content = "TWO".to_owned();
    world.ask(Command::Queue(QueueEdit::Replace { message: ids[1], content })).unwrap();
    let texts: Vec<_> = world.transcript().queue().iter().map(|q| q.content.clone()).collect();
    assert_eq!(texts, ["three", "TWO"]);
    for order in [vec![ids[2]], vec![ids[2], ids[2]], order] {
        let answer = world.ask(Command::Queue(QueueEdit::Reorder { order }));
        assert_eq!(invalid_field(answer), "order");
    }
    let gone = Command::Queue(QueueEdit::Remove { message: ids[0] });
    assert_eq!(world.ask(gone), Err(Refusal::MessageNotFound));
}

#[test]
fn the_queue_has_bounds() {
    let plan = solo();
    let mut world = World::begun(&plan);
    for _ in 0..QUEUED_MESSAGES_MAX {
        world.send(&plan, "more").unwrap();
    }
    assert_eq!(invalid_field(world.send(&plan, "more")), "queue");
    let mut world = World::begun(&plan);
    world.send(&plan, &"x".repeat(QUEUE_BYTES_MAX / 2 - 500)).unwrap();
    world.send(&plan, &"x".repeat(QUEUE_BYTES_MAX / 2 - 500)).unwrap();
    assert_eq!(invalid_field(world.send(&plan, &"x".repeat(1_000))), "queue");
}

#[test]
fn cancel_ends_every_attempt_and_the_turn() {
    let plan = team(CollaborationModel::Coordinate, 3);
    let mut world = World::begun(&plan);
    world.answer(Some(crate::world::split(&["b".into(), "c".into()])));
    let first = world.state.executions[1].id;
    world.start(first);
    world.text(first);
    world.ask(Command::Cancel).unwrap();
    assert_eq!(world.state.status, Status::Cancelled);
    assert_eq!(world.statuses()[2..], [Status::Cancelled, Status::Cancelled], "the queued one too");
    let entries = world.entries.len();
    world.ask(Command::Cancel).unwrap();
    assert_eq!(world.entries.len(), entries, "a second cancel changes nothing");
    let mut world = World::begun(&solo());
    world.answer(None);
    assert!(matches!(world.ask(Command::Cancel), Err(Refusal::WrongState { .. })));
}

#[test]
fn output_after_the_end_is_kept_aside() {
    let mut world = World::begun(&solo());
    world.start_all();
    let e = world.last();
    world.text(e);
    world.ask(Command::Cancel).unwrap();
    let message = world.execution(e).message;
    let before = world.transcript().message(message).unwrap().clone();
    for n in 0..LATE_FRAMES_MAX + 20 {
        let event = RunEvent::Output { pieces: vec![Output::Text("late ".into())] };
        let out_seq = OutSeq(u64::from(100 + n));
        let attempt = Attempt::FIRST;
        world.ask(Command::Run { execution: e, attempt, out_seq, event }).unwrap();
    }
    let after = world.transcript().message(message).unwrap().clone();
    assert_eq!((&after.content, after.status), (&before.content, Status::Cancelled));
    assert_eq!(after.blocks, before.blocks);
    assert_eq!(after.attempts[0].interrupted.len(), 1);
    let late = world.frames().filter(|f| matches!(&f.body, FrameBody::Text(t) if t.late)).count();
    assert_eq!(late, usize::try_from(LATE_FRAMES_MAX).unwrap());
}

#[test]
fn a_repeated_piece_is_dropped() {
    let mut world = World::begun(&solo());
    world.start_all();
    let execution = world.last();
    let attempt = Attempt::FIRST;
    for out_seq in [1, 2, 2, 1, 3] {
        let event = RunEvent::Output { pieces: vec![Output::Text("x".into())] };
        let out_seq = OutSeq(out_seq);
        world.ask(Command::Run { execution, attempt, out_seq, event }).unwrap();
    }
    assert_eq!(world.execution(execution).offset, 3);
}

#[test]
fn a_retry_keeps_nothing_and_may_change_the_plan() {
    let plan = solo();
    let mut world = World::begun(&plan);
    world.start_all();
    let e = world.last();
    world.text(e);
    world.model_step(e, 0);
    world.fail(e);
    let message = world.execution(e).message;
    let mut other = TeamPlan::clone(&plan);
    other.hash = "other".into();
    other.members[0].shell_type = "ClaudeCode".into();
    let retry = Command::Retry { message, plan: Some(Arc::new(other)) };
    world.ask(retry).unwrap();
    assert_eq!(world.statuses()[1], Status::Pending);
    world.start(e);
    let started = world.frames().filter_map(|f| match &f.body {
        FrameBody::Started(s) => Some(s.clone()),
        _ => None,
    });
    let started = started.last().unwrap();
    assert_eq!((started.keeps.0, started.offset, started.attempt), (0, 0, Attempt(2)));
    assert_eq!(started.shell_type, "ClaudeCode");
    let view = world.transcript().message(message).unwrap().clone();
    assert_eq!(view.content, "");
    assert_eq!(view.attempts[0].interrupted.len(), 1);

    let bigger = Command::Retry { message, plan: Some(team(CollaborationModel::Solo, 2)) };
    world.fail(e);
    assert_eq!(invalid_field(world.ask(bigger)), "plan");
}

#[test]
fn a_turn_to_be_thought_through_stays_so_with_another_model() {
    let deep = Arc::new(solo().with_deep_thinking());
    assert_ne!(deep.hash, solo().hash);
    let mut world = World::begun(&deep);
    let e = world.fail_next();
    let message = world.execution(e).message;
    let other = Arc::new(plan_of(CollaborationModel::Solo, vec![member("other")], 0));
    world.ask(Command::Retry { message, plan: Some(Arc::clone(&other)) }).unwrap();
    let plan = world.state.plan().unwrap();
    assert!(plan.deep_thinking && plan.hash != other.hash && plan.name_of(0) == "other");
    // Later ones are as they are sent.
    world.answer(None);
    world.send(&other, "next").unwrap();
    assert!(!world.state.plan().unwrap().deep_thinking);
}

#[test]
fn only_a_broken_message_of_the_last_turn_is_retried() {
    let plan = solo();
    let mut world = World::begun(&plan);
    world.fail_next();
    let first = world.state.messages[1].message;
    let person = world.state.messages[0].message;
    world.send(&plan, "next").unwrap();
    world.answer(None);
    let done = world.state.messages[3].message;
    for message in [first, person, done] {
        let answer = world.ask(Command::Retry { message, plan: None });
        assert!(matches!(answer, Err(Refusal::WrongState { .. })));
    }
    let message = MessageId::derived(&["unknown"]);
    let answer = world.ask(Command::Retry { message, plan: None });
    assert_eq!(answer, Err(Refusal::MessageNotFound));
}

#[test]
fn an_edit_is_one_entry_and_takes_a_pipeline_back() {
    let plan = team(CollaborationModel::Pipeline, 2);
    let mut world = World::begun(&plan);
    world.settle();
    world.send(&plan, "to the last stage").unwrap();
    world.settle();
    assert_eq!(world.state.stage, 1);
    let message = world.state.messages[0].message;
    let send = world.message(&plan, "first, better");
    let entries = world.entries.len();
    let edit = Command::Edit { message, send };
    let ack = world.ask(edit.clone()).unwrap();
    assert_eq!(world.entries.len(), entries + 1);
    assert_eq!(world.ask(edit), Ok(ack));
    assert_eq!(world.state.stage, 0);
    assert_eq!(&*world.state.original, "first, better");
    let turns = world.transcript().turns();
    assert_eq!(turns.len(), 1);
    assert_eq!(turns[0].messages[0].content, "first, better");
    assert_eq!(turns[0].messages[0].ordinal.0, 7, "ordinals are never used again");
    let send = world.message(&plan, "while it runs");
    let message = turns[0].messages[0].message;
    let answer = world.ask(Command::Edit { message, send });
    assert!(matches!(answer, Err(Refusal::WrongState { .. })));
}

#[test]
fn an_edit_is_refused_for_answers_and_while_messages_wait() {
    let plan = solo();
    let mut world = World::begun(&plan);
    world.send(&plan, "waits").unwrap();
    world.fail_next();
    let rows: Vec<MessageId> = world.state.messages.iter().map(|m| m.message).collect();
    for message in rows {
        let send = world.message(&plan, "new");
        let answer = world.ask(Command::Edit { message, send });
        assert!(matches!(answer, Err(Refusal::WrongState { .. })));
    }
    let send = world.message(&plan, "new");
    let message = MessageId::derived(&["unknown"]);
    assert_eq!(world.ask(Command::Edit { message, send }), Err(Refusal::MessageNotFound));
}

#[test]
fn an_edit_of_very_much_is_refused() {
    let plan = solo();
    let mut world = World::begun(&plan);
    world.settle();
    for _ in 0..EDIT_ROWS_MAX / 2 {
        world.send(&plan, "x").unwrap();
        world.ask(Command::Cancel).unwrap();
    }
    let edit = |world: &mut World, at: usize| {
        let message = world.state.messages[at].message;
        let send = world.message(&plan, "new");
        world.ask(Command::Edit { message, send })
    };
    assert_eq!(invalid_field(edit(&mut world, 0)), "message");
    edit(&mut world, 2).unwrap();
    assert_eq!(world.state.messages.len(), 4);
}

#[test]
fn a_deleted_task_answers_only_to_known_keys() {
    let plan = solo();
    let mut world = World::new();
    let send = world.message(&plan, "hello");
    let ack = world.ask(Command::Send(send.clone())).unwrap();
    world.start_all();
    world.ask(Command::Delete).unwrap();
    assert_eq!(world.state.status, Status::Delete);
    assert_eq!(world.transcript().status(), Some(Status::Delete));
    assert!(world.state.view().is_none());
    assert_eq!(world.ask(Command::Send(send)), Ok(ack));
    let again = world.message(&plan, "hello again");
    for command in [Command::Send(again), Command::Cancel, Command::Delete] {
        assert_eq!(world.ask(command), Err(Refusal::NotFound));
    }
}

#[test]
fn a_repeat_answers_its_owner_alone_and_does_nothing() {
    let plan = solo();
    let mut world = World::new();
    let send = world.message(&plan, "hello");
    let ack = world.ask(Command::Send(send.clone())).unwrap();
    world.settle();
    let edited = world.message(&plan, "hello!");
    let message = world.state.messages[0].message;
    let edit = world.ask(Command::Edit { message, send: edited.clone() }).unwrap();
    let sent = |key, content: &str| Repeated::Send {
        key,
        sender: send.sender.clone(),
        content: content.into(),
    };
    let of_edit = Repeated::Edit {
        key: edited.key,
        message,
        sender: edited.sender.clone(),
        content: edited.content.clone(),
    };
    for deleted in [false, true] {
        if deleted {
            world.ask(Command::Delete).unwrap();
        }
        let before = world.entries.len();
        let by = ann();
        let mut ask = |by, what| world.ask(Command::Repeat { by, what });
        assert_eq!(ask(by, sent(send.key, "hello")), Ok(ack.clone()));
        assert_eq!(ask(by, of_edit.clone()), Ok(edit.clone()));
        assert_eq!(ask(by, sent(send.key, "other")), Err(Refusal::KeyReused));
        assert_eq!(ask(by, sent(Uuid::from_u128(9), "hello")), Err(Refusal::NotFound));
        let confirm = Repeated::Confirm { key: Uuid::from_u128(9), message: None };
        assert_eq!(ask(by, confirm), Err(Refusal::NotFound));
        let bob = UserId::derived(&["bob"]);
        assert_eq!(ask(bob, sent(send.key, "hello")), Err(Refusal::NotFound));
        assert_eq!(ask(bob, sent(send.key, "other")), Err(Refusal::NotFound));
        assert_eq!(world.entries.len(), before, "nothing is written");
    }
    let what = sent(send.key, "hello");
    assert_eq!(World::new().ask(Command::Repeat { by: ann(), what }), Err(Refusal::NotFound));
}

#[test]
fn a_lost_attempt_goes_on_at_its_last_finished_step() {
    let mut world = World::begun(&solo());
    world.start_all();
    let e = world.last();
    world.text(e);
    world.think(e);
    world.model_step(e, 2);
    world.tool_result(e);
    world.text(e);
    world.lose(e, false);
    assert_eq!(world.state.status, Status::Running, "nobody is bothered");
    assert_eq!(world.statuses()[1], Status::Running);
    assert_eq!(world.execution(e).wait.as_ref().unwrap().code, "resuming");
    world.start(e);
    let last = world.entries.last().unwrap().clone();
    let closed =
        last.events.iter().filter(|ev| matches!(ev, TaskEvent::StepFinished { .. })).count();
    assert_eq!(closed, 1, "the call without a result is unknown");
    let FrameBody::Started(started) = &last.frames.last().unwrap().body else { panic!("a start") };
    assert_eq!(started.keeps.0, last.frames.last().unwrap().seq.0 - 1, "S covers the closing");
    let view = world.transcript().message(world.execution(e).message).unwrap().clone();
    assert_eq!(view.content.chars().count() as u64, started.offset);
    let kinds: Vec<_> = view.blocks.iter().map(|b| b.id.as_str()).collect();
    assert_eq!(kinds, ["2.1.1", "2.1.2", "2.1.3", "2.1.4"]);
    assert_eq!(view.attempts[0].interrupted.len(), 1, "text of the unfinished step");
    assert_eq!(view.attempts[0].interrupted[0].id, "2.1.5");
    world.text(e);
    world.done(e, None);
    assert_eq!(world.state.status, Status::Completed);
}

#[test]
fn what_a_provider_asked_for_is_the_reason_to_wait_and_outlives_the_attempt() {
    let mut world = World::begun(&solo());
    world.start_all();
    let e = world.last();
    let at = Timestamp::from_millis(1_700_000_300_000);
    let held = |world: &mut World| {
        let wait = Wait { code: "rate_limit".into(), args: serde_json::Map::new() };
        let status = StatusFrame {
            phase: "retrying".into(),
            wait: Some(wait),
            retry_at: Some(at),
            ..StatusFrame::default()
        };
        world.run(e, RunEvent::Status(status));
    };
    let code = |world: &World| world.state.wait().map(|wait| wait.code.clone());
    held(&mut world);
    assert_eq!((world.state.status, code(&world)), (Status::Running, Some("rate_limit".into())));
    assert_eq!(world.execution(e).retry_at, Some(at));
    // The next attempt is told, and waits by itself.
    world.lose(e, true);
    assert_eq!(code(&world), Some("resuming".into()));
    assert_eq!(world.state.wait().unwrap().args["retry_at"], at.to_string());
    world.start_all();
    assert_eq!((world.execution(e).retry_at, code(&world)), (Some(at), None));
    assert_eq!(world.execution(e).retry_code.as_deref(), Some("rate_limit"), "and knows why");
    held(&mut world);
    world.text(e);
    assert_eq!((world.execution(e).retry_at, code(&world)), (None, None), "it went on");
    assert_eq!(world.execution(e).retry_code, None);
    // A person who does not want to wait need not.
    held(&mut world);
    world.fail(e);
    assert_eq!(code(&world), None);
    let message = world.execution(e).message;
    world.ask(Command::Retry { message, plan: None }).unwrap();
    assert_eq!(world.execution(e).retry_at, None);
}

#[test]
fn three_losses_in_a_row_without_a_step_are_too_many() {
    let mut world = World::begun(&solo());
    let e = world.last();
    for planned in [false, true, false] {
        world.start(e);
        world.lose(e, planned);
        assert_eq!(world.execution(e).state, AttemptState::Queued);
    }
    world.start(e);
    world.model_step(e, 0);
    for _ in 0..2 {
        world.lose(e, false);
        world.start(e);
    }
    world.lose(e, false);
    assert_eq!(world.execution(e).state, AttemptState::Lost);
    assert_eq!(world.execution(e).error, Some(ErrorType::Lost));
    assert_eq!(world.state.status, Status::Failed);
    let continues: Vec<bool> = world
        .frames()
        .filter_map(|f| match &f.body {
            FrameBody::Error(e) => Some(e.continues),
            _ => None,
        })
        .collect();
    assert_eq!(continues, [true, true, true, true, true, false]);
    let message = world.execution(e).message;
    world.ask(Command::Retry { message, plan: None }).unwrap();
    world.start(e);
    world.lose(e, false);
    assert_eq!(world.execution(e).lost_in_a_row, 1, "a person's retry counts anew");
}

#[test]
fn what_ran_on_a_device_that_is_gone_begins_anew_elsewhere_within_bounds() {
    let mut world = World::begun(&solo());
    let execution = world.last();
    for goes_on in [true, true, false] {
        world.start_on_device(execution);
        let attempt = world.execution(execution).attempt;
        world.text(execution);
        let (error, text) = (ErrorType::Lost, "its node is gone".to_owned());
        let lost = Command::DeviceLost { execution, attempt, error, text, anew: true };
        world.ask(lost).unwrap();
        let (e, message) = (world.execution(execution).clone(), &world.state.messages[1]);
        let errors = world.frames().filter_map(|frame| match &frame.body {
            FrameBody::Error(error) => Some(error.continues),
            _ => None,
        });
        assert_eq!(errors.last(), Some(goes_on));
        if goes_on {
            assert_eq!((e.state, e.attempt.0), (AttemptState::Queued, attempt.0 + 1));
            assert_eq!((e.kept, e.kept_offset, e.device), (FrameSeq::ZERO, 0, None));
            assert_eq!((message.status, world.state.status), (Status::Running, Status::Running));
        } else {
            assert_eq!((e.state, world.state.status), (AttemptState::Lost, Status::Failed));
        }
    }
}

#[test]
fn a_stale_start_is_nothing() {
    let mut world = World::begun(&solo());
    let execution = world.last();
    for attempt in [Attempt(0), Attempt(2)] {
        let entries = world.entries.len();
        let start = Command::Start { execution, attempt, place: Place::Cluster };
        assert_eq!(world.ask(start), Ok(Ack::Ok));
        assert_eq!(world.entries.len(), entries);
    }
}

#[test]
fn an_answer_that_was_not_streamed_is_no_answer() {
    let mut world = World::begun(&solo());
    world.start_all();
    let e = world.last();
    world.text(e);
    let event = RunEvent::Done { answer: "other".into(), stop_reason: None, decision: None };
    world.run(e, event);
    assert_eq!(world.execution(e).error, Some(ErrorType::ModelProtocolError));
    assert_eq!(world.state.status, Status::Failed);
}

#[test]
fn a_late_word_does_not_reopen_a_block_that_ended() {
    let mut world = World::begun(&team(CollaborationModel::Solo, 1));
    world.start_all();
    let execution = world.last();
    let block = RunEvent::Block { block: tool_block("call-1"), name: "call-1".into() };
    world.run(execution, block);
    world.ask(Command::Cancel).unwrap();
    let cut = world.entries.len();
    let patch = |status| BlockPatch { status: Some(status), ..BlockPatch::default() };
    let change = |patch| RunEvent::BlockChanged { name: "call-1".into(), patch };
    world.run(execution, change(patch(BlockStatus::Running)));
    let later = world.entries[cut..].iter().flat_map(|entry| &entry.frames);
    let updates = later.filter(|frame| matches!(frame.body, FrameBody::BlockUpdated(_)));
    assert_eq!(updates.count(), 0, "it stays as the cancel left it");
}
