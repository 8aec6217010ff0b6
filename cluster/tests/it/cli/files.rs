//! `apply` and `delete` with several files: one request, one answer, the user's own lines.

use std::fs;

use anyhow::Result;

use super::{at, node};
use crate::node::Home;

const GHOST: &str = "kind: Ghost\nmetadata: {name: gus}\nspec: {systemPrompt: You are Gus.}\n";
const MODEL: &str = "{\"kind\": \"Model\", \"metadata\": {\"name\": \"m\", \"displayName\": \
    \"\\ud83d\\ude42\"},\n \"spec\": {\"modelConfig\": {\"env\": {\"model\": \"openai\", \
    \"model_id\": \"x\", \"api_key\": \"k\"}}}}\n";
const BOT: &str = "# Before what it refers to.\n---\nkind: Bot\nmetadata: {name: bob}\nspec:\n  \
    ghostRef: {name: gus}\n  shellRef: {name: Chat}\n  modelRef: {name: m}\n";

#[tokio::test]
async fn files_are_applied_together_or_not_at_all() -> Result<()> {
    let home = Home::new()?;
    let (node, _) = node(&home).await?;
    let me = at(&home, &node);
    me.login().await?;
    let all = home.path().join("all");
    fs::create_dir(&all)?;
    for (name, text) in [("1-bot.yaml", BOT), ("2-ghost.yml", GHOST), ("3-model.json", MODEL)] {
        fs::write(all.join(name), text)?;
    }
    let good = ["bot/bob created", "ghost/gus created", "model/m created"];

    // What is wrong in the last file keeps the first one from being written.
    let wrong = "kind: Ghost\nmetadata: {name: gil}\nspec:\n  systemPromt: x\n";
    fs::write(all.join("4-wrong.yaml"), wrong)?;
    let told = me.say(&["apply", "-f", "all"]).await?.fails(1);
    assert!(told.contains("all/4-wrong.yaml:4:3: ") && told.contains("systemPrompt"), "{told}");
    fs::write(all.join("4-wrong.yaml"), format!("\n{GHOST}"))?;
    let told = me.say(&["apply", "-f", "all"]).await?.fails(1);
    assert!(told.contains("first at all/2-ghost.yml:2"), "{told}");
    assert!(told.contains("all/4-wrong.yaml:3:"), "{told}");
    fs::write(all.join("4-wrong.yaml"), BOT.replace("bob", "ben").replace("gus", "nobody"))?;
    let told = me.say(&["apply", "-f", "all"]).await?.fails(3);
    assert!(told.contains("all/4-wrong.yaml:6:"), "{told}");
    fs::remove_file(all.join("4-wrong.yaml"))?;
    me.say(&["get", "bot", "bob"]).await?.fails(3);

    let dry = me.say(&["apply", "-f", "all", "--dry-run"]).await?.ok();
    let lines: Vec<String> = good.iter().map(|line| format!("{line} (dry run)")).collect();
    assert_eq!(dry.lines().collect::<Vec<_>>(), lines);
    me.say(&["get", "bot", "bob"]).await?.fails(3);
    let one_by_one =
        ["apply", "-f", "all/1-bot.yaml", "-f", "-", "-f", "all/3-model.json", "-o", "json"];
    let json = me.pipe(&one_by_one, GHOST).await?.ok();
    let answer: serde_json::Value = serde_json::from_str(&json)?;
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(3), "{json}");
    assert_eq!(answer["namespaces"].as_array().map(Vec::len), Some(1), "{json}");
    let model = me.say(&["get", "model", "m", "-o", "json"]).await?.ok();
    assert!(model.contains("\"displayName\": \"🙂\""), "{model}");

    // In any order, too: the Bot uses the others.
    let told = me.say(&["delete", "-f", "all/2-ghost.yml", "-f", "all/3-model.json"]).await?;
    assert!(told.fails(5).contains("Bot bob"));
    me.say(&["delete", "-f", "all"]).await?.ok();
    me.say(&["get", "ghost", "gus"]).await?.fails(3);

    fs::write(all.join("large.yaml"), format!("# {}\n{GHOST}", "x".repeat(1024 * 1024)))?;
    let told = me.say(&["apply", "-f", "all"]).await?.fails(2);
    for part in ["1048576", "all/large.yaml: 10486", "all/3-model.json: "] {
        assert!(told.contains(part), "{part} in {told}");
    }
    Ok(())
}

/// A folder and its ZIP are one Skill; what is no package is refused here, in words, and changes
/// nothing.
#[tokio::test]
async fn a_folder_becomes_a_skill_and_a_file_again() -> Result<()> {
    let home = Home::new()?;
    let (node, _) = node(&home).await?;
    let me = at(&home, &node);
    me.login().await?;
    let dir = home.path().join("review");
    fs::create_dir_all(dir.join("docs"))?;
    fs::write(dir.join("docs/rules.md"), "Be kind.\n")?;
    let told = me.say(&["skill", "upload", "review"]).await?.fails(2);
    assert!(told.contains("there is no `review/SKILL.md`"), "{told}");
    fs::write(dir.join("SKILL.md"), "---\ndescriptoin: reviews\n---\nReview.\n")?;
    let told = me.say(&["skill", "upload", "review"]).await?.fails(1);
    assert!(told.contains("SKILL.md") && told.contains("description"), "{told}");
    me.say(&["get", "skill", "review"]).await?.fails(3);

    let main = "---\ndescription: reviews\nbindShells: [Chat]\n---\nReview.\n";
    fs::write(dir.join("SKILL.md"), main)?;
    assert_eq!(me.say(&["skill", "upload", "review", "-o", "name"]).await?.ok(), "skill/review\n");
    let file = ["skill", "download", "review", "--file", "out.zip", "-o", "json"];
    let answer: serde_json::Value = serde_json::from_str(&me.say(&file).await?.ok())?;
    let zip = fs::read(home.path().join("out.zip"))?;
    assert_eq!(answer["bytes"], zip.len());
    let told = me.say(&file).await?.fails(2);
    assert!(told.contains("out.zip is there; --force replaces it"), "{told}");
    me.say(&[&file[..], &["--force"]].concat()).await?.ok();

    me.say(&["skill", "upload", "out.zip", "--name", "other"]).await?.ok();
    let other = me.say(&["get", "skill", "other", "-o", "json"]).await?.ok();
    let other: serde_json::Value = serde_json::from_str(&other)?;
    assert_eq!(other["status"]["fileHash"], answer["sha256"], "the same bytes");
    assert_eq!(other["spec"]["prompt"], "Review.");
    let plain = "kind: Skill\nmetadata: {name: plain}\nspec: {description: d, prompt: p}\n";
    me.pipe(&["apply", "-f", "-"], plain).await?.ok();
    let told = me.say(&["skill", "download", "plain"]).await?.fails(3);
    assert!(told.contains("package"), "{told}");
    Ok(())
}
