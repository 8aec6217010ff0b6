//! The fold of frames by itself.

use proptest::prelude::*;
use troupe_domain::task::{CollaborationModel, Command, TaskState, Transcript};
use troupe_types::{BlockKind, BlockStatus, Frame, Status};

use crate::world::{World, team};

#[test]
fn pieces_of_one_sort_share_a_block_until_something_comes_between() {
    let mut world = World::begun(&team(CollaborationModel::Solo, 1));
    world.start_all();
    let e = world.last();
    world.think(e);
    world.think(e);
    world.text(e);
    world.text(e);
    world.model_step(e, 1);
    world.tool_result(e);
    world.text(e);
    world.model_step(e, 0);
    world.text(e);
    let transcript = world.transcript();
    let view = transcript.message(world.execution(e).message).unwrap();
    let shape: Vec<(&str, BlockStatus)> = view
        .blocks
        .iter()
        .map(|b| match &b.kind {
            BlockKind::Text { .. } => ("text", b.status),
            BlockKind::Thinking { .. } => ("thinking", b.status),
            BlockKind::Tool { tool_output, .. } => {
                assert_eq!(tool_output.as_deref(), Some("ok"));
                ("tool", b.status)
            }
            _ => ("other", b.status),
        })
        .collect();
    assert_eq!(
        shape,
        [
            ("thinking", BlockStatus::Done),
            ("text", BlockStatus::Done),
            ("tool", BlockStatus::Done),
            ("text", BlockStatus::Done),
            ("text", BlockStatus::Streaming),
        ]
    );
    assert_eq!(view.usage.as_ref().unwrap().calls, 2);
    assert_eq!(view.usage.as_ref().unwrap().input_tokens, 6);
    let streaming = transcript.streaming().unwrap();
    assert_eq!(streaming.offset, world.execution(e).offset);
    world.done(e, None);
    let done = world.transcript();
    assert!(done.messages().all(|m| m.blocks.iter().all(|b| b.status.is_final())));
    assert!(done.streaming().is_none());
}

#[test]
fn what_was_open_when_a_person_stopped_it_is_unknown() {
    let mut world = World::begun(&team(CollaborationModel::Solo, 1));
    world.start_all();
    let e = world.last();
    world.model_step(e, 1);
    world.ask(Command::Cancel).unwrap();
    let transcript = world.transcript();
    let view = transcript.message(world.execution(e).message).unwrap();
    assert_eq!(view.status, Status::Cancelled);
    assert_eq!(view.attempts[0].status, Status::Cancelled);
    assert_eq!(view.blocks[0].status, BlockStatus::Unknown);
}

#[test]
fn doubles_change_nothing() {
    let mut world = World::begun(&team(CollaborationModel::Collaborate, 2));
    world.settle();
    let doubled = world.frames().flat_map(|f| [f, f]);
    assert_eq!(Transcript::of(doubled), world.transcript());
}

proptest! {
    /// Neither fold falls over what does not belong together.
    #[test]
    fn folds_are_total(order in prop::collection::vec(any::<prop::sample::Index>(), 1..200)) {
        let mut world = World::begun(&team(CollaborationModel::Coordinate, 3));
        world.start_all();
        let e = world.last();
        world.text(e);
        world.model_step(e, 1);
        world.lose(e, false);
        world.settle();
        let message = world.state.messages[0].message;
        let plan = team(CollaborationModel::Pipeline, 2);
        let send = world.message(&plan, "other");
        world.ask(Command::Edit { message, send }).unwrap();
        world.settle();
        world.ask(Command::Delete).unwrap();
        let mut state = TaskState::default();
        let mut transcript = Transcript::new();
        let frames: Vec<Frame> = world.frames().cloned().collect();
        for at in order {
            state.apply(&world.entries[at.index(world.entries.len())]);
            transcript.fold(&frames[at.index(frames.len())]);
        }
        let text = serde_json::to_string(&state).unwrap();
        prop_assert_eq!(serde_json::from_str::<TaskState>(&text).unwrap(), state);
        let _ = transcript.into_turns();
    }
}
