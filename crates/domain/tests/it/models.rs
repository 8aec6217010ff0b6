//! Each team model, step by step.

use std::sync::Arc;

use troupe_domain::task::{
    Ack, CollaborationModel, Command, ContextPassing, LeaderDecision, MemberPlan, TeamPlan, Work,
};
use troupe_types::{FrameBody, MessageKind, RunStep, Sender, StageStatus, Status};

use crate::world::{World, choose, conclude, member, plan_of, split, team};

/// Kind, member and step of every row after the person's.
fn rows(world: &World) -> Vec<(MessageKind, Option<u32>, Option<RunStep>)> {
    world
        .transcript()
        .messages()
        .filter(|m| m.kind != MessageKind::User)
        .map(|m| {
            let member = match &m.sender {
                Sender::Member { member, .. } => Some(*member),
                _ => None,
            };
            (m.kind, member, m.step)
        })
        .collect()
}

fn five_stages() -> Arc<TeamPlan> {
    let stage = |name: &str, gate: bool, passing| MemberPlan {
        require_confirmation: gate,
        context_passing: passing,
        ..member(name)
    };
    let members = vec![
        stage("plan", true, ContextPassing::OriginalAndPrevious),
        stage("build", false, ContextPassing::PreviousBot),
        stage("check", false, ContextPassing::OriginalUser),
        stage("write", true, ContextPassing::None),
        stage("plan", false, ContextPassing::None),
    ];
    Arc::new(plan_of(CollaborationModel::Pipeline, members, 0))
}

/// Everything is dropped but the snapshot; runners are lost.
fn restart(world: &mut World) {
    let text = serde_json::to_string(&world.state).expect("a state encodes");
    world.state = serde_json::from_str(&text).expect("a state decodes");
    for execution in world.live() {
        world.lose(execution, false);
    }
}

#[test]
fn solo_answers_once() {
    let mut world = World::begun(&team(CollaborationModel::Solo, 1));
    assert_eq!(world.state.status, Status::Pending);
    world.start_all();
    assert_eq!(world.state.status, Status::Running);
    world.answer(None);
    assert_eq!(world.state.status, Status::Completed);
    assert_eq!(rows(&world), [(MessageKind::Answer, Some(0), None)]);
    assert_eq!(world.transcript().title(), Some("first request"));
}

#[test]
fn five_stages_with_two_gates_survive_a_restart_between_any_two_steps() {
    let mut world = World::begun(&five_stages());
    restart(&mut world);
    world.start_all();
    restart(&mut world);
    world.answer(None);
    assert_eq!(world.state.status, Status::PendingConfirmation);
    let stage = world.state.stage_frame().unwrap();
    assert!(stage.is_pending_confirmation);
    assert_eq!(stage.stages[0].status, StageStatus::PendingConfirmation);
    restart(&mut world);
    let ack = world.confirm(None).unwrap();
    let next_stage_name = Some("build".into());
    assert_eq!(ack, Ack::Confirmed { current_stage: 1, total_stages: 5, next_stage_name });
    for _ in 1..4 {
        restart(&mut world);
        world.start_all();
        restart(&mut world);
        world.answer(None);
    }
    assert_eq!(world.state.status, Status::PendingConfirmation);
    assert_eq!(world.state.stage, 3);
    restart(&mut world);
    world.confirm(Some("my own words")).unwrap();
    world.answer(None);
    assert_eq!(world.state.status, Status::Completed);

    let texts: Vec<String> = world
        .transcript()
        .messages()
        .filter(|m| m.kind == MessageKind::Handoff)
        .map(|m| m.content.clone())
        .collect();
    assert_eq!(texts.len(), 4);
    assert_eq!(
        texts[0],
        "## Original request\n\nfirst request\n\n## Result of plan\n\nprevious answer"
    );
    assert!(texts[1].starts_with("## Result of build\n\n<"), "{}", texts[1]);
    assert_eq!(texts[2], "## Original request\n\nfirst request");
    assert_eq!(texts[3], "my own words");
    assert_eq!(world.state.turns.len(), 1, "all of it is one turn");
    assert_eq!(
        rows(&world)[7..],
        [
            (MessageKind::Handoff, None, Some(RunStep::Stage(4))),
            (MessageKind::Answer, Some(4), Some(RunStep::Stage(4))),
        ]
    );
}

#[test]
fn a_message_at_a_gate_goes_to_the_same_stage_and_the_gate_applies_again() {
    let plan = five_stages();
    let mut world = World::begun(&plan);
    world.answer(None);
    world.send(&plan, "shorter, please").unwrap();
    assert_eq!(world.state.status, Status::Pending);
    assert_eq!(world.execution(world.last()).work, Work::Stage { stage: 0 });
    world.answer(None);
    assert_eq!(world.state.status, Status::PendingConfirmation);
    world.confirm(None).unwrap();
    let handoff = world.transcript();
    let handoff = handoff.messages().find(|m| m.kind == MessageKind::Handoff).unwrap();
    assert!(handoff.content.contains("first request"), "the request that began the pipeline");
    assert_eq!(handoff.turn, world.state.turns[1].turn, "the same turn goes on");
}

#[test]
fn the_confirmation_of_the_last_stage_completes() {
    let members = vec![MemberPlan { require_confirmation: true, ..member("only") }];
    let plan = Arc::new(plan_of(CollaborationModel::Pipeline, members, 0));
    let mut world = World::begun(&plan);
    world.answer(None);
    assert_eq!(world.state.status, Status::PendingConfirmation);
    let ack = world.confirm(None).unwrap();
    assert_eq!(ack, Ack::Confirmed { current_stage: 0, total_stages: 1, next_stage_name: None });
    assert_eq!(world.state.status, Status::Completed);
    assert_eq!(world.state.stage_frame().unwrap().stages[0].status, StageStatus::Completed);
    world.confirm(None).unwrap_err();
}

#[test]
fn a_handoff_without_content_is_still_a_row() {
    let plan = team(CollaborationModel::Pipeline, 2);
    let mut world = World::begun(&plan);
    world.answer(None);
    assert_eq!(
        rows(&world)[1..],
        [
            (MessageKind::Handoff, None, Some(RunStep::Stage(1))),
            (MessageKind::Answer, Some(1), Some(RunStep::Stage(1))),
        ]
    );
    assert_eq!(world.transcript().messages().nth(2).unwrap().content, "");
    world.answer(None);
    assert_eq!(world.state.status, Status::Completed);
}

#[test]
fn a_failed_stage_fails_the_turn_and_a_retry_runs_it_again() {
    let plan = team(CollaborationModel::Pipeline, 3);
    let mut world = World::begun(&plan);
    world.answer(None);
    let failed = world.fail_next();
    assert_eq!((world.state.status, world.state.stage), (Status::Failed, 1));
    assert_eq!(world.state.stage_frame().unwrap().stages[1].status, StageStatus::Failed);
    let message = world.execution(failed).message;
    world.ask(Command::Retry { message, plan: None }).unwrap();
    assert_eq!(world.state.status, Status::Pending);
    world.answer(None);
    world.answer(None);
    assert_eq!(world.state.status, Status::Completed);
}

#[test]
fn route_takes_the_chosen_member_or_else_the_leader() {
    let plan = team(CollaborationModel::Route, 3);
    let mut world = World::begun(&plan);
    world.answer(Some(choose("c")));
    world.answer(None);
    assert_eq!(
        rows(&world),
        [(MessageKind::Routing, Some(0), None), (MessageKind::Answer, Some(2), None)]
    );
    assert!(world.fallbacks().is_empty());

    let bad = [None, Some(choose("nobody")), Some(choose("a")), Some(conclude(true))];
    for decision in bad {
        let mut world = World::begun(&plan);
        world.answer(decision);
        assert_eq!(world.fallbacks(), ["route_leader_answers"]);
        assert_eq!(rows(&world)[1], (MessageKind::Answer, Some(0), None));
        world.answer(None);
        assert_eq!(world.state.status, Status::Completed);
    }
}

#[test]
fn coordinate_works_side_by_side_and_merges() {
    let plan = team(CollaborationModel::Coordinate, 3);
    let mut world = World::begun(&plan);
    world.answer(Some(split(&["b".into(), "c".into(), "b".into()])));
    world.start_all();
    let items = world.live();
    assert_eq!(items.len(), 3, "items run at once");
    for (n, item) in items.iter().enumerate() {
        world.text(*item);
        if n == 1 { world.fail(*item) } else { world.done(*item, None) }
    }
    let merge = world.last();
    assert_eq!(world.execution(merge).work, Work::Merge);
    world.answer(None);
    assert_eq!(world.state.status, Status::Completed);
    assert_eq!(
        rows(&world),
        [
            (MessageKind::Plan, Some(0), None),
            (MessageKind::Answer, Some(1), Some(RunStep::Item(0))),
            (MessageKind::Answer, Some(2), Some(RunStep::Item(1))),
            (MessageKind::Answer, Some(1), Some(RunStep::Item(2))),
            (MessageKind::Merge, Some(0), None),
        ]
    );
    let failed = world.state.executions[2].message;
    world.ask(Command::Retry { message: failed, plan: None }).unwrap_err();
}

#[test]
fn coordinate_falls_back_to_the_first_other_member() {
    let plan = team(CollaborationModel::Coordinate, 3);
    let nine: Vec<String> = vec!["b".into(); 9];
    for decision in [None, Some(split(&[])), Some(split(&nine)), Some(split(&["a".into()]))] {
        let mut world = World::begun(&plan);
        world.answer(decision);
        assert_eq!(world.fallbacks(), ["coordinate_one_member"]);
        assert_eq!(world.execution(world.last()).member, 1);
        world.answer(None);
        world.answer(None);
        assert_eq!(world.state.status, Status::Completed);
    }
}

#[test]
fn coordinate_fails_if_every_item_does_and_a_retried_item_brings_it_back() {
    let plan = team(CollaborationModel::Coordinate, 3);
    let mut world = World::begun(&plan);
    world.answer(Some(split(&["b".into(), "c".into()])));
    world.start_all();
    for item in world.live() {
        world.fail(item);
    }
    assert_eq!(world.state.status, Status::Failed);
    let message = world.state.executions[1].message;
    world.ask(Command::Retry { message, plan: None }).unwrap();
    world.answer(None);
    assert_eq!(world.execution(world.last()).work, Work::Merge);
    world.answer(None);
    assert_eq!(world.state.status, Status::Completed);
}

#[test]
fn a_failed_item_is_retried_while_others_work() {
    let mut world = World::begun(&team(CollaborationModel::Coordinate, 3));
    world.answer(Some(split(&["b".into(), "c".into()])));
    world.start_all();
    let items = world.live();
    world.fail(items[0]);
    let message = world.execution(items[0]).message;
    world.ask(Command::Retry { message, plan: None }).unwrap();
    assert_eq!(world.state.status, Status::Running);
    world.start(items[0]);
    world.done(items[1], None);
    world.done(items[0], None);
    assert_eq!(world.execution(world.last()).work, Work::Merge);
}

/// Agno has teams of its own; one that is not Agno's alone, or works at several places, is ours.
#[test]
fn coordinate_of_agno_bots_at_one_place_is_one_answer_of_the_leader() {
    let agno = |name: &str, on: Option<&str>| MemberPlan {
        shell_type: "Agno".into(),
        on: on.map(str::to_owned),
        ..member(name)
    };
    let here = || vec![agno("hand", Some("os=linux")), agno("lead", Some("os=linux"))];
    let plan = |model, members| Arc::new(plan_of(model, members, 1));
    let mut world = World::begun(&plan(CollaborationModel::Coordinate, here()));
    restart(&mut world);
    world.start_all();
    world.answer(None);
    assert_eq!(world.state.status, Status::Completed);
    assert_eq!(rows(&world), [(MessageKind::Answer, Some(1), None)]);
    let mut mixed = here();
    mixed[0].shell_type = "Codex".into();
    let apart = vec![agno("hand", Some("os=macos")), agno("lead", Some("os=linux"))];
    for (model, members) in [
        (CollaborationModel::Coordinate, mixed),
        (CollaborationModel::Coordinate, apart),
        (CollaborationModel::Coordinate, vec![agno("lead", None)]),
        (CollaborationModel::Route, here()),
        (CollaborationModel::Solo, here()),
    ] {
        assert!(!plan(model, members.clone()).runs_as_one(), "{model:?} {members:?}");
    }
}

#[test]
fn collaborate_stops_when_all_are_done_or_after_the_last_round() {
    let plan = team(CollaborationModel::Collaborate, 2);
    let mut world = World::begun(&plan);
    for done in [true, false, true, true] {
        world.answer(Some(conclude(done)));
    }
    let conclusion = world.answer(None);
    assert_eq!(world.execution(conclusion).work, Work::Conclusion);
    assert_eq!(world.state.status, Status::Completed);
    assert_eq!(
        rows(&world),
        [
            (MessageKind::Answer, Some(0), Some(RunStep::Round(1))),
            (MessageKind::Answer, Some(1), Some(RunStep::Round(1))),
            (MessageKind::Answer, Some(0), Some(RunStep::Round(2))),
            (MessageKind::Answer, Some(1), Some(RunStep::Round(2))),
            (MessageKind::Conclusion, Some(0), None),
        ]
    );

    let mut world = World::begun(&plan);
    for _ in 0..6 {
        world.answer(None);
    }
    assert_eq!(world.execution(world.last()).work, Work::Conclusion, "three rounds at most");
}

#[test]
fn an_invalid_conclude_ends_the_round() {
    let plan = team(CollaborationModel::Collaborate, 3);
    let mut world = World::begun(&plan);
    world.answer(Some(conclude(true)));
    world.answer(Some(LeaderDecision::Invalid { error: "done is missing".into() }));
    assert_eq!(world.fallbacks(), ["collaborate_round_ends"]);
    assert_eq!(world.execution(world.last()).work, Work::Discuss { round: 2 });
    assert_eq!(world.execution(world.last()).member, 0);
}

#[test]
fn a_failed_member_is_left_out_of_its_round() {
    let plan = team(CollaborationModel::Collaborate, 2);
    let mut world = World::begun(&plan);
    world.fail_next();
    assert_eq!(world.fallbacks(), ["collaborate_left_out"]);
    world.answer(Some(conclude(true)));
    assert_eq!(world.execution(world.last()).work, Work::Conclusion, "all who spoke are done");
    world.answer(None);
    assert_eq!(world.state.status, Status::Completed);

    let mut world = World::begun(&plan);
    world.fail_next();
    world.fail_next();
    assert_eq!(world.state.status, Status::Failed, "nobody spoke at all");
}

#[test]
fn a_team_of_one_answers_by_itself() {
    for model in
        [CollaborationModel::Route, CollaborationModel::Coordinate, CollaborationModel::Collaborate]
    {
        let mut world = World::begun(&team(model, 1));
        assert_eq!(world.fallbacks(), ["single_member"]);
        world.answer(None);
        assert_eq!(world.state.status, Status::Completed);
        assert_eq!(rows(&world), [(MessageKind::Answer, Some(0), None)]);
    }
}

#[test]
fn the_status_of_a_task_is_told_at_every_change() {
    let mut world = World::begun(&five_stages());
    world.answer(None);
    world.confirm(None).unwrap();
    world.fail_next();
    let told: Vec<Status> = world
        .frames()
        .filter_map(|f| match &f.body {
            FrameBody::Task(t) => t.status,
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            Status::Pending,
            Status::Running,
            Status::PendingConfirmation,
            Status::Pending,
            Status::Running,
            Status::Failed
        ]
    );
}
