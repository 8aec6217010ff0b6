//! Skills: preloaded, on offer, loaded.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use troupe_chat::RunEnd;
use troupe_domain::task::{SkillPlan, StepRecord, Work};
use troupe_types::BlockStatus;

use crate::world::{World, ask, lock, say};

fn skill(name: &str, preload: bool, text: &str) -> SkillPlan {
    let description = format!("About {name}\nand more.");
    SkillPlan { name: name.into(), description, text: text.into(), preload, package: None }
}

fn with_skills(mut world: World, skills: Vec<SkillPlan>) -> World {
    let mut plan = (*world.run.plan).clone();
    for member in &mut plan.members {
        member.skill_texts.clone_from(&skills);
        member.mcp_servers = BTreeMap::new();
    }
    world.run.plan = Arc::new(plan);
    world
}

fn skills() -> Vec<SkillPlan> {
    vec![
        skill("tone", true, "Write like Hemingway.\n"),
        skill("sql", false, "Join first, then filter."),
        skill("empty", false, " "),
        skill("git", false, "Rebase, never merge."),
    ]
}

#[tokio::test]
async fn preloaded_texts_stand_in_the_prompt_and_others_are_listed() {
    let world = with_skills(World::steps(vec![say("hello")]), skills());
    let (_, ended) = world.go().await;
    assert_eq!(ended, RunEnd::Done);
    let request = &world.requests()[0];
    assert_eq!(
        request.system.as_deref().unwrap(),
        "I am ann.\n\nSkill `tone`:\n\nWrite like Hemingway.\n\nSkills on offer. When one fits what \
         you are to do, load its instructions with the tool `load_skill` before you begin:\n\
         - `sql`: About sql and more.\n- `git`: About git and more."
    );
    let tool = request.tools.iter().find(|tool| tool.name == "load_skill").unwrap();
    assert_eq!(tool.input_schema["properties"]["skill_name"]["enum"], json!(["sql", "git"]));
    let without = World::steps(vec![say("hello")]);
    without.go().await;
    let request = &without.requests()[0];
    assert_eq!(request.system.as_deref(), Some("I am ann."));
    assert!(request.tools.iter().all(|tool| tool.name != "load_skill"));
}

#[tokio::test]
async fn a_skill_is_loaded_by_its_name_in_bounds() {
    let mut all = skills();
    all.push(skill("long", false, &"x".repeat(200_000)));
    let calls = ask("load_skill", json!({"skill_name": "sql"}))
        .and("load_skill", json!({"skill_name": "tone"}))
        .and("load_skill", json!({"skill_name": "long"}))
        .and("load_skill", json!({}));
    let world = with_skills(World::steps(vec![calls, say("done")]), all);
    let (log, ended) = world.go().await;
    assert_eq!(ended, RunEnd::Done);
    assert_eq!(log.result("call_0").unwrap(), ("Join first, then filter.".into(), false, false));
    let (text, is_error, unknown) = log.result("call_1").unwrap();
    assert_eq!(text, "there is no Skill `tone`; there are: sql, git, long");
    assert!(is_error && !unknown);
    let (text, is_error, _) = log.result("call_2").unwrap();
    assert!(!is_error && text.len() < 61_000 && text.contains("left out"), "{}", text.len());
    assert!(log.result("call_3").unwrap().1);
    assert_eq!(log.block_states("call_0").last(), Some(&BlockStatus::Done));
}

#[tokio::test]
async fn what_was_loaded_is_not_loaded_again() {
    let answers = vec![ask("load_skill", json!({"skill_name": "git"})), say("done")];
    let mut world = with_skills(World::steps(answers), skills());
    let (log, _) = world.go().await;
    let first = world.requests();
    let steps = log.steps();
    assert!(matches!(steps[1], StepRecord::Tool { unknown: false, .. }), "{steps:?}");
    // Another attempt, after the result was recorded.
    world.run.conversation.resume = steps[..2].to_vec();
    world.run.attempt = world.run.attempt.next();
    lock(&world.model.requests).clear();
    let (log, ended) = world.go().await;
    assert_eq!((ended, log.steps().len()), (RunEnd::Done, 1));
    let again = world.requests();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].messages, first[1].messages);
    assert_eq!((&again[0].tools, &again[0].system), (&first[1].tools, &first[1].system));
}

#[tokio::test]
async fn a_leader_that_only_decides_is_offered_none() {
    let choice = ask("choose_member", json!({"member": "bob", "reason": "He knows."}));
    let world = World::steps(vec![choice]).working(Work::Choose, &["ann", "bob"]);
    let world = with_skills(world, skills());
    let (_, ended) = world.go().await;
    assert_eq!(ended, RunEnd::Done);
    let request = &world.requests()[0];
    assert_eq!(request.tools.len(), 1);
    let system = request.system.as_deref().unwrap();
    assert!(system.contains("Hemingway") && !system.contains("load_skill"), "{system}");
}
