//! Any plan, any sequence of commands, runners that come and go: what must always hold.

use std::sync::Arc;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use troupe_domain::task::{
    AttemptState, CollaborationModel, Command, ContextPassing, LeaderDecision, MemberPlan, Output,
    QueueEdit, Refusal, RunEvent, TaskState, TeamPlan, Transcript,
};
use troupe_types::{
    Attempt, ErrorType, ExecutionId, FrameBody, MessageId, OutSeq, Place, Role, Status, Wait,
};

use crate::world::{World, choose, conclude, good_decision, member, plan_of, split, tool_block};

type Op = (u8, u8, u8);

fn a_plan() -> impl Strategy<Value = Arc<TeamPlan>> {
    let model = prop_oneof![
        Just(CollaborationModel::Solo),
        Just(CollaborationModel::Pipeline),
        Just(CollaborationModel::Route),
        Just(CollaborationModel::Coordinate),
        Just(CollaborationModel::Collaborate),
    ];
    let passing = prop_oneof![
        Just(ContextPassing::None),
        Just(ContextPassing::OriginalUser),
        Just(ContextPassing::PreviousBot),
        Just(ContextPassing::OriginalAndPrevious),
    ];
    let bot = (any::<bool>(), passing, 0usize..3).prop_map(|(gate, context_passing, name)| {
        MemberPlan { require_confirmation: gate, context_passing, ..member(["a", "b", "c"][name]) }
    });
    (model, prop::collection::vec(bot, 1..4), 0u32..3, 1u32..3).prop_map(
        |(model, members, leader, max_rounds)| {
            let leader = leader % u32::try_from(members.len()).expect("few members");
            Arc::new(TeamPlan { max_rounds, ..plan_of(model, members, leader) })
        },
    )
}

fn pick<T: Copy>(from: &[T], at: u8) -> Option<T> {
    (!from.is_empty()).then(|| from[usize::from(at) % from.len()])
}

/// One step of the world; refusals are fine, panics are not.
fn step(world: &mut World, plans: &[Arc<TeamPlan>], (op, a, b): Op) {
    let plan = if b < 200 { &plans[0] } else { &plans[usize::from(b) % plans.len()] };
    match op % 64 {
        0..=3 => drop(world.send(plan, &format!("request {a}\nline {b}"))),
        4 => repeat_key(world, a, b),
        5 => drop(world.ask(Command::Cancel)),
        6..=7 => {
            let rows: Vec<MessageId> = world.state.messages.iter().map(|m| m.message).collect();
            let broken: Vec<MessageId> = world
                .state
                .executions
                .iter()
                .filter(|e| e.can_retry())
                .map(|e| e.message)
                .collect();
            let from = if b < 128 && !broken.is_empty() { broken } else { rows };
            let Some(message) = pick(&from, a) else { return };
            let plan = (b.is_multiple_of(3)).then(|| Arc::clone(plan));
            drop(world.ask(Command::Retry { message, plan }));
        }
        8 => {
            let rows: Vec<MessageId> = world.state.messages.iter().map(|m| m.message).collect();
            let Some(message) = pick(&rows, a) else { return };
            let send = world.message(plan, &format!("edited {b}"));
            drop(world.ask(Command::Edit { message, send }));
        }
        9..=10 => edit_queue(world, a, b),
        11..=13 => drop(world.confirm((a < 64).then_some("go on like this"))),
        14 => {
            let (title, labels) = ((a < 200).then(|| format!("title {a}")), None);
            drop(world.ask(Command::Update { title, labels }));
        }
        15 if a < 20 => drop(world.ask(Command::Delete)),
        15..=17 => {
            let queued = world.state.queued_attempts();
            let Some((execution, attempt, _)) = queued.first().cloned() else { return };
            let wait =
                (b < 128).then(|| Wait { code: "team_slots".into(), args: Default::default() });
            drop(world.ask(Command::Waiting { execution, attempt, wait }));
        }
        18..=26 => world.start_all(),
        27..=28 => garbage(world, a, b),
        29..=30 => restart(world, b),
        31 => late(world, a),
        60..=63 => device(world, op, a, b),
        _ => runner(world, op, a, b),
    }
}

fn repeat_key(world: &mut World, a: u8, b: u8) {
    if world.acks.is_empty() {
        return;
    }
    let (command, ack) = world.acks[usize::from(a) % world.acks.len()].clone();
    let entries = world.entries.len();
    if b < 200 {
        assert_eq!(world.ask(command), Ok(ack), "the same key, the same answer");
    } else if let Command::Send(mut send) = command {
        send.content.push('!');
        assert_eq!(world.ask(Command::Send(send)), Err(Refusal::KeyReused));
    }
    assert_eq!(world.entries.len(), entries, "a repeated key writes nothing");
}

fn edit_queue(world: &mut World, a: u8, b: u8) {
    let ids: Vec<MessageId> = world.state.queue.iter().map(|q| q.message).collect();
    let message = pick(&ids, a).unwrap_or_else(|| MessageId::derived(&["none"]));
    let change = match b % 4 {
        0 => QueueEdit::Remove { message },
        1 => QueueEdit::Replace { message, content: format!("replaced {a}") },
        2 => QueueEdit::Reorder { order: ids.into_iter().rev().collect() },
        _ => QueueEdit::Resume,
    };
    drop(world.ask(Command::Queue(change)));
}

/// What happens on devices, or between them and a person.
fn device(world: &mut World, op: u8, a: u8, b: u8) {
    let queued = world.state.queued_attempts().first().map(|(e, attempt, _)| (*e, *attempt));
    match (op % 64, queued) {
        (60..=61, Some((execution, _))) => world.start_on_device(execution),
        (62, _) => {
            let Some((execution, attempt)) = pick(&world.state.live_attempts(), a) else { return };
            let text = "the device is gone".to_owned();
            drop(world.ask(Command::DeviceLost {
                execution,
                attempt,
                error: ErrorType::Lost,
                text,
                anew: b.is_multiple_of(2),
            }));
            world.runners.remove(&execution);
        }
        _ => {
            let live: Vec<ExecutionId> =
                world.live().into_iter().filter(|e| world.runners.contains_key(e)).collect();
            let Some(execution) = pick(&live, a) else { return };
            match a % 4 {
                0 => world.asks_too_long(execution, b),
                _ => world.asks(execution, b),
            }
        }
    }
}

/// Commands about things that are not there, or not so.
fn garbage(world: &mut World, a: u8, b: u8) {
    let known: Vec<ExecutionId> = world.state.executions.iter().map(|e| e.id).collect();
    let execution = pick(&known, a).unwrap_or_else(|| ExecutionId::derived(&["none"]));
    let attempt = Attempt(u32::from(b % 5) + if b > 250 { u32::MAX - 4 } else { 0 });
    let current = world.state.execution(execution).is_some_and(|e| e.is_open(attempt));
    if current {
        return;
    }
    let out_seq = OutSeq(u64::from(a));
    let event = match a % 4 {
        0 => RunEvent::Failed { error: ErrorType::GenericError, text: "x".into() },
        1 => RunEvent::Done { answer: "x".into(), stop_reason: None, decision: None },
        2 => {
            RunEvent::Output { pieces: vec![Output::Text("stray".into()), Output::Text("".into())] }
        }
        _ => RunEvent::Block { block: tool_block("stray"), name: "stray".into() },
    };
    drop(world.ask(Command::Run { execution, attempt, out_seq, event }));
    drop(world.ask(Command::Start { execution, attempt, place: Place::Cluster }));
    drop(world.ask(Command::Lost {
        execution,
        attempt,
        retry_at: None,
        planned: b.is_multiple_of(2),
    }));
}

/// The process died: the snapshot is read again, runners are gone.
fn restart(world: &mut World, b: u8) {
    let text = serde_json::to_string(&world.state).expect("a state encodes");
    let again: TaskState = serde_json::from_str(&text).expect("a state decodes");
    assert_eq!(again, world.state);
    world.state = again;
    for execution in world.live() {
        world.lose(execution, b.is_multiple_of(4));
    }
}

/// Output of an attempt that is over.
fn late(world: &mut World, a: u8) {
    let over: Vec<(ExecutionId, Attempt)> = world
        .state
        .executions
        .iter()
        .filter(|e| e.state.is_terminal() || e.attempt.0 > 1)
        .map(|e| (e.id, if e.state.is_terminal() { e.attempt } else { Attempt(e.attempt.0 - 1) }))
        .collect();
    let Some((execution, attempt)) = pick(&over, a) else { return };
    let out_seq = OutSeq(1_000 + u64::from(a));
    let event = RunEvent::Output { pieces: vec![Output::Text("too late".into())] };
    drop(world.ask(Command::Run { execution, attempt, out_seq, event }));
}

fn runner(world: &mut World, op: u8, a: u8, b: u8) {
    let live: Vec<ExecutionId> =
        world.live().into_iter().filter(|e| world.runners.contains_key(e)).collect();
    let Some(execution) = pick(&live, a) else { return };
    match op % 64 {
        32..=37 => world.text(execution),
        38..=39 => world.think(execution),
        40..=43 => world.model_step(execution, usize::from(b % 3)),
        44..=47 => drop(world.tool_result(execution)),
        48..=50 => world.lose(execution, b < 30),
        51 => world.fail(execution),
        52 => {
            let event = RunEvent::Done {
                answer: "not what was streamed".into(),
                stop_reason: None,
                decision: None,
            };
            world.run(execution, event);
            assert_eq!(
                world.state.execution(execution).map(|e| e.state),
                Some(AttemptState::Failed)
            );
        }
        _ => {
            let plan = world.state.plan().expect("a plan").clone();
            let good = good_decision(&plan, world.execution(execution));
            let decision = match b % 8 {
                0 => None,
                1 => Some(choose("nobody")),
                2 => Some(LeaderDecision::Invalid { error: "no json".into() }),
                3 => Some(conclude(true)),
                4 => Some(split(&plan.choices())),
                _ => good,
            };
            world.done(execution, decision);
        }
    }
}

fn check(world: &World) {
    let state = &world.state;
    replays(world);
    let whole = world.transcript();
    assert_eq!(whole.head(), state.head());
    if state.id.is_some() {
        assert_eq!(whole.status(), Some(state.status));
        assert_eq!(whole.title(), Some(state.title.as_str()));
        assert_eq!(whole.stage(), state.stage_frame().as_ref());
        assert_eq!(whole.queue(), state.queue.as_slice());
    }
    let rows: Vec<_> = state.messages.iter().map(|m| (m.message, m.ordinal, m.status)).collect();
    let seen: Vec<_> = whole.messages().map(|m| (m.message, m.ordinal, m.status)).collect();
    assert_eq!(rows, seen, "index and transcript agree");
    for view in whole.messages().filter(|m| m.role == Role::Assistant) {
        if let Some(e) = state.execution_of(view.message) {
            let counted = if e.state == AttemptState::Queued && e.attempt.0 > 1 {
                None
            } else {
                Some(e.offset)
            };
            let points = view.content.chars().count() as u64;
            assert!(counted.is_none_or(|c| c == points), "counted offset and text agree");
        }
        if view.status == Status::Completed {
            assert_eq!(world.answers.get(&view.message), Some(&view.content), "attempts not mixed");
            let told = world.frames().filter_map(|f| match &f.body {
                FrameBody::Done(d) if d.message == view.message => Some(d.sha256.clone()),
                _ => None,
            });
            let sha: String = Sha256::digest(view.content.as_bytes())
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            assert_eq!(told.last(), Some(sha));
        }
    }
    pages(world, &whole);
}

fn replays(world: &World) {
    let mut again = TaskState::default();
    let cut = world.entries.len() / 2;
    let mut snapshot = None;
    for (at, entry) in world.entries.iter().enumerate() {
        if at == cut {
            snapshot = Some(serde_json::to_vec(&again).expect("encodes"));
        }
        again.apply(entry);
    }
    assert_eq!(again, world.state, "replay equals live state");
    if let Some(bytes) = snapshot {
        let mut tail: TaskState = serde_json::from_slice(&bytes).expect("decodes");
        world.entries[cut..].iter().for_each(|e| tail.apply(e));
        assert_eq!(tail, world.state, "snapshot and tail equal full replay");
    }
}

fn pages(world: &World, whole: &Transcript) {
    let turns = whole.turns();
    assert_eq!(turns.len(), world.state.turns.len());
    for (place, row) in world.state.turns.iter().enumerate() {
        let page = Transcript::of(world.frames().filter(|f| f.seq >= row.first_frame));
        assert_eq!(page.turns(), turns[place..], "a page equals the tail of the whole");
        let excerpt: String = turns[place].messages[0].content.split_whitespace().collect();
        assert_eq!(row.excerpt.split_whitespace().collect::<String>(), excerpt);
    }
}

/// Lets the world run out: everything ends, or waits for something named.
fn run_out(world: &mut World) {
    world.settle();
    let state = &world.state;
    if state.id.is_none() {
        return;
    }
    assert!(
        matches!(
            state.status,
            Status::Completed
                | Status::Failed
                | Status::Cancelled
                | Status::PendingConfirmation
                | Status::Delete
        ),
        "ended, or waits for a person: {:?}",
        state.status
    );
    assert!(state.executions.iter().all(|e| e.state.is_terminal()));
    assert!(state.status != Status::Completed || state.queue.is_empty(), "the queue moves on");
    assert!(!state.wants_slot());
}

/// At any moment an attempt that is not over is live, or queued in a turn that is under way.
fn nothing_hangs(state: &TaskState) {
    let open = state.executions.iter().filter(|e| !e.state.is_terminal()).count();
    if state.is_active() {
        assert!(open > 0, "a turn under way has something under way");
        assert!(state.status == Status::Pending || state.status == Status::Running);
    } else {
        assert_eq!(open, 0, "an ended turn has nothing under way");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_life_of_a_task_holds_what_is_promised(
        plans in prop::collection::vec(a_plan(), 3),
        ops in prop::collection::vec(any::<Op>(), 1..120),
    ) {
        let mut world = World::new();
        for op in ops {
            step(&mut world, &plans, op);
            nothing_hangs(&world.state);
        }
        check(&world);
        run_out(&mut world);
        check(&world);
        for (command, ack) in world.acks.clone() {
            prop_assert_eq!(world.ask(command), Ok(ack));
        }
    }
}
