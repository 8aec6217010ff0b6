//! `instantiate`, and what a SkillBinding does to a turn.

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{at, node};
use crate::node::Home;

const TEMPLATE: &str = "kind: Template
metadata: {name: standup, namespace: NAMESPACE}
spec:
  category: reports
  ghosts: {standup: {systemPrompt: Five lines.}}
  bots: {standup: {ghostRef: {name: standup}, shellRef: {name: Chat}}}
  teams: {standup: {collaborationModel: solo, members: [{botRef: {name: standup}}]}}
";

#[tokio::test]
async fn a_template_is_made_ones_own() -> Result<()> {
    let home = Home::new()?;
    let (node, who) = node(&home).await?;
    let template = TEMPLATE.replace("NAMESPACE", "public").into_bytes();
    let body = Some(("application/yaml", template));
    let applied = node.raw("POST", "/api/v1/apply", Some(&who), body).await?;
    assert_eq!(applied.status, 200, "{}", applied.text);
    let me = at(&home, &node);
    me.login().await?;
    assert!(me.say(&["get", "templates", "-o", "name"]).await?.ok().contains("standup"));

    let dry = me.say(&["instantiate", "standup", "--dry-run"]).await?.ok();
    assert!(dry.contains("team/standup created (dry run)"), "{dry}");
    me.say(&["get", "team", "standup"]).await?.fails(3);
    let made = me.say(&["instantiate", "standup", "-o", "name"]).await?.ok();
    assert_eq!(made, "ghost/standup\nbot/standup\nteam/standup\n");
    let run = me.say(&["run", "What was done?", "--team", "standup"]).await?.ok();
    assert!(!run.trim().is_empty(), "it answers");

    // What a person changed since is theirs.
    node.apply(&who, "kind: Ghost\nmetadata: {name: standup}\nspec: {systemPrompt: Three.}\n")
        .await?;
    let twice = me.say(&["instantiate", "standup"]).await?.fails(5);
    assert!(twice.contains("exists already"), "{twice}");
    let ghost = me.say(&["get", "ghost", "standup", "-o", "yaml"]).await?.ok();
    assert!(ghost.contains("Three."), "{ghost}");

    me.say(&["instantiate", "stand-up"]).await?.fails(3);
    let other = "/api/v1/namespaces/default/teams/standup/instantiate";
    let refused = node.call("POST", other, Some(&who), Some(&json!({}))).await?;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let secret = TEMPLATE.replace("NAMESPACE", "default").replace(
        "Five lines.}",
        "x, mcpServers: {m: {url: \"http://127.0.0.1:9\", headers: {X-Token: abc}}}}",
    );
    let refused = node.apply(&who, &secret).await.err().context("it holds a secret")?;
    let refused = format!("{refused:#}");
    assert!(refused.contains("spec.ghosts.standup.mcpServers.m.headers.X-Token"), "{refused}");
    assert!(!refused.contains("abc"), "{refused}");
    let wrong = TEMPLATE.replace("NAMESPACE", "default").replace("name: Chat", "name: Chatt");
    let refused = node.apply(&who, &wrong).await.err().context("the Shell is not there")?;
    assert!(format!("{refused:#}").contains("spec.bots.standup.shellRef"), "{refused:#}");
    Ok(())
}
