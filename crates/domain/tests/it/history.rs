//! What each member is told.

use troupe_domain::task::{
    CollaborationModel, Command, Conversation, HistoryItem, StepRecord, TaskEntry,
    history::conversation,
};
use troupe_types::{ExecutionId, MessageKind};

use crate::world::{World, choose, conclude, split, team};

fn told(world: &World, execution: ExecutionId) -> Conversation {
    let entries: Vec<&TaskEntry> = world.entries.iter().collect();
    let plan = world.state.plan().expect("a plan");
    conversation(entries, plan, execution).expect("a known execution")
}

/// One word per item.
fn words(told: &Conversation) -> Vec<String> {
    told.items
        .iter()
        .map(|item| match item {
            HistoryItem::Person { name, text } => format!("{name}: {text}"),
            HistoryItem::Member { name, kind, text, .. } => {
                let text = text.find('[').map_or("text", |at| &text[at..]);
                format!("{name} {kind:?} {text}")
            }
            HistoryItem::Handoff { text } => format!("handoff {text}"),
            HistoryItem::OwnSteps { steps, .. } => format!("own {}", steps.len()),
        })
        .collect()
}

#[test]
fn own_answers_are_told_as_they_were_made() {
    let plan = team(CollaborationModel::Solo, 1);
    let mut world = World::begun(&plan);
    world.start_all();
    let e = world.last();
    world.model_step(e, 1);
    world.tool_result(e);
    world.text(e);
    world.model_step(e, 0);
    world.done(e, None);
    world.send(&plan, "and now?").unwrap();
    let next = world.last();
    assert_eq!(words(&told(&world, next)), ["ann: first request", "own 3", "ann: and now?"]);
    world.start_all();
    world.text(next);
    world.ask(Command::Cancel).unwrap();
    world.send(&plan, "go on").unwrap();
    let last = words(&told(&world, world.last()));
    assert_eq!(last[3], "a Answer [This answer was stopped before it was complete.]");
}

#[test]
fn finished_steps_of_lost_attempts_are_resumed() {
    let plan = team(CollaborationModel::Solo, 1);
    let mut world = World::begun(&plan);
    world.start_all();
    let e = world.last();
    world.text(e);
    world.model_step(e, 1);
    world.lose(e, false);
    world.start(e);
    let resumed = told(&world, e);
    assert_eq!(resumed.kept_text, "<2.1 1> 漢🙂 ");
    assert!(matches!(
        resumed.resume.as_slice(),
        [StepRecord::Model { .. }, StepRecord::Tool { unknown: true, .. }]
    ));
    world.fail(e);
    let message = world.execution(e).message;
    world.ask(Command::Retry { message, plan: None }).unwrap();
    world.start(e);
    assert_eq!(told(&world, e).resume, []);
    assert_eq!(told(&world, e).kept_text, "");
}

#[test]
fn routing_is_not_part_of_what_members_read() {
    let plan = team(CollaborationModel::Route, 3);
    let mut world = World::begun(&plan);
    world.answer(Some(choose("b")));
    let b = world.answer(None);
    assert_eq!(words(&told(&world, b)), ["ann: first request"]);
    world.send(&plan, "again").unwrap();
    let leader = world.last();
    assert_eq!(words(&told(&world, leader)), ["ann: first request", "b Answer text", "ann: again"]);
}

#[test]
fn items_read_the_plan_and_the_merge_reads_the_items() {
    let plan = team(CollaborationModel::Coordinate, 3);
    let mut world = World::begun(&plan);
    world.answer(Some(split(&["b".into(), "c".into()])));
    world.start_all();
    let items = world.live();
    let told_b = told(&world, items[0]);
    assert_eq!(words(&told_b)[..2], ["ann: first request", "a Plan text"]);
    assert_eq!(words(&told_b)[2..], ["handoff part of b"]);
    let HistoryItem::Member { text, .. } = &told_b.items[1] else { panic!("the plan") };
    assert!(text.ends_with("- b: part of b\n- c: part of c"), "{text}");
    world.text(items[0]);
    world.done(items[0], None);
    world.fail(items[1]);
    let merge = words(&told(&world, world.last()));
    assert_eq!(merge[2..], ["b Answer text", "c Answer [This answer failed: broken]"]);
    world.answer(None);
    world.send(&plan, "more").unwrap();
    let later = words(&told(&world, world.last()));
    assert_eq!(later.len(), 5, "a failed answer without text is left out: {later:?}");
}

#[test]
fn a_discussion_reads_what_was_said_so_far() {
    let plan = team(CollaborationModel::Collaborate, 2);
    let mut world = World::begun(&plan);
    world.answer(Some(conclude(true)));
    world.start_all();
    let second = world.last();
    assert_eq!(words(&told(&world, second)), ["ann: first request", "a Answer text"]);
    world.done(second, Some(conclude(true)));
    let last = told(&world, world.last());
    let HistoryItem::Member { text, kind, .. } = &last.items[2] else { panic!("a contribution") };
    assert_eq!((text.as_str(), *kind), ("settled", MessageKind::Answer), "the summary");
}

#[test]
fn a_stage_reads_its_handoff_and_its_own_earlier_talk() {
    let plan = team(CollaborationModel::Pipeline, 2);
    let mut world = World::begun(&plan);
    world.answer(None);
    let second = world.last();
    assert_eq!(words(&told(&world, second)), ["handoff "]);
    world.answer(None);
    world.send(&plan, "to stage two").unwrap();
    let again = words(&told(&world, world.last()));
    assert_eq!(again, ["handoff ", "b Answer text", "ann: to stage two"]);
}

#[test]
fn removed_rows_are_out() {
    let plan = team(CollaborationModel::Solo, 1);
    let mut world = World::begun(&plan);
    world.answer(None);
    let message = world.state.messages[0].message;
    let send = world.message(&plan, "better");
    world.ask(Command::Edit { message, send }).unwrap();
    assert_eq!(words(&told(&world, world.last())), ["ann: better"]);
}
