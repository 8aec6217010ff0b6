//! Skills of a Bot on a machine: as texts, and as packages with files of their own.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Result, ensure};
use serde_json::json;
use troupe_testkit::{Answer, Rule, try_until};

use super::kit::{Machine, answer, asked_now, model, node, runtimes, team};
use crate::{
    cli::Terminal,
    node::{Home, Node, PATIENCE, Person},
};

/// A Team of one whose Ghost has the Skill `house-style`.
fn styled_team(url: &str, more: &str) -> String {
    let rules = "spec: {systemPrompt: You are dev.}\n";
    let skilled = "spec: {systemPrompt: You are dev., skills: [house-style]}\n";
    team("ClaudeCode", url).replace(rules, &format!("{skilled}{more}"))
}

/// Until a Task is over; what is asked meanwhile is allowed.
async fn allowed_to_its_end(node: &Node, who: &Person, task: &str) -> Result<()> {
    let done = try_until(PATIENCE, async || {
        if let Ok(block) = asked_now(node, who, task).await {
            let _ = answer(node, who, task, &block, json!({"answer": "allow"})).await;
        }
        let path = format!("/api/v1/tasks/{task}");
        node.get(&path, who).await.is_ok_and(|view| view["status"] == "COMPLETED")
    });
    ensure!(done.await, "it did not end: {:?}", node.turns(who, task).await);
    Ok(())
}

/// A Skill of its Ghost is on offer to the runtime, and its instructions come when they are asked
/// for.
#[tokio::test]
async fn the_skills_of_a_bot_are_the_runtimes_too() -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let load = Answer::tool("Skill", json!({"skill": "house-style"}));
    let rule = Rule::any().human("the job").then(load).then(Answer::text("As the house says."));
    let fake = model(vec![rule]).await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let text = "---\nkind: Skill\nmetadata: {name: house-style}\nspec:\n  \
        description: \"How the \\\"house\\\" writes: short\"\n  \
        prompt: |\n    Sentences have seven words at most.\n";
    node.apply(&who, &styled_team(&fake.url(), text)).await?;
    let mut machine = Machine::new(Some(&runtimes))?;
    machine.join(&node, &who).await?;
    let task = node.run(&who, "devs", "the job").await?;
    allowed_to_its_end(&node, &who, &task).await?;
    let seen = fake.requests().into_iter().map(|request| request.body.to_string());
    let seen: Vec<String> = seen.collect();
    assert!(seen[0].contains("house-style"), "it is on offer: {}", seen[0]);
    assert!(!seen[0].contains("seven words"), "its instructions are not there before");
    assert!(seen.iter().any(|body| body.contains("seven words at most")), "they come: {seen:?}");
    Ok(())
}

/// A folder that was uploaded is on the machine, whole and with its modes: its program runs, and a
/// file that does not fit into one frame is there byte by byte. It comes back as it was sent.
#[tokio::test]
async fn a_skill_brings_its_files_along() -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let count = "../bots/dev/claude/skills/house-style/bin/count > counted.txt";
    let bash = Answer::tool("Bash", json!({"command": count, "description": "counts"}));
    let load = Answer::tool("Skill", json!({"skill": "house-style"}));
    // What a Skill says comes as a person's words.
    let fake = model(vec![
        Rule::any().human("Run bin/count").then(bash).then(Answer::text("Counted.")),
        Rule::any().human("the job").then(load),
    ])
    .await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let skill = home.path().join("house-style");
    fs::create_dir_all(skill.join("bin"))?;
    let main = "---\ndescription: How the house counts\nallowed-tools: Bash\n---\nRun bin/count.\n";
    fs::write(skill.join("SKILL.md"), main)?;
    fs::write(skill.join("bin/count"), "#!/bin/sh\nwc -c < \"$(dirname \"$0\")/../words\"\n")?;
    fs::set_permissions(skill.join("bin/count"), fs::Permissions::from_mode(0o755))?;
    let words: Vec<u8> =
        (0..700_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(skill.join("words"), &words)?;
    let me = Terminal { home: &home, url: node.url.clone() };
    me.login().await?;
    me.say(&["skill", "upload", "house-style"]).await?.ok();
    node.apply(&who, &styled_team(&fake.url(), "")).await?;
    let mut machine = Machine::new(Some(&runtimes))?;
    machine.join(&node, &who).await?;
    let task = node.run(&who, "devs", "the job").await?;
    allowed_to_its_end(&node, &who, &task).await?;
    assert_eq!(machine.worked("counted.txt").as_deref().map(str::trim), Some("700000"));
    assert!(machine.bytes("words") == Some(words), "the file is another one");
    let told = machine.worked("SKILL.md").unwrap_or_default();
    assert!(told.contains("Run bin/count.") && !told.contains("allowed-tools"), "{told}");

    me.say(&["skill", "download", "house-style"]).await?.ok();
    me.say(&["skill", "download", "house-style"]).await?.fails(2);
    let sent = fs::read(home.path().join("house-style.zip"))?;
    let skill = me.say(&["get", "skill", "house-style", "-o", "json"]).await?.ok();
    let skill: serde_json::Value = serde_json::from_str(&skill)?;
    assert_eq!(skill["status"]["fileSize"], sent.len());
    Ok(())
}
