//! Who attaches to more than a stream sends again.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use troupe_testkit::{Answer, FakeModel, Script};

use super::{at, node};
use crate::{
    node::Home,
    scene::{self, team},
    stream::Socket,
};

/// Together more than one page of frames has, and more than a stream sends again.
const LINES: usize = 80_000;

fn line(number: usize) -> String {
    format!("{number:06} and on it goes, a line like all the others of it\n")
}

#[tokio::test]
async fn a_long_answer_is_read_to_its_end() -> Result<()> {
    let script = Script::new(|turn| {
        let long = turn.human.contains("long");
        let text = if long { (1..=LINES).map(line).collect() } else { "Quite so.".to_owned() };
        Answer::text(text).chunked(8_000)
    });
    let fake = FakeModel::start(script).await?;
    let home = Home::new()?;
    let (node, who) = node(&home).await?;
    let me = at(&home, &node);
    me.login().await?;
    let yaml = [scene::cast(&fake, None), team("alone", "solo", &["ann"])].concat();
    std::fs::write(home.path().join("team.yaml"), yaml)?;
    me.say(&["apply", "-f", "team.yaml"]).await?.ok();

    me.say(&["run", "a long answer", "--team", "alone"]).await?.ok();
    let ids = me.listed(&[]).await?;
    let id = ids.lines().next().context("no task is listed")?.to_owned();
    let mut stream = Socket::open(&node.url, &who.token).await?;
    let resumed = stream.call("chat:resume", json!({"task_id": id, "after": 0})).await?;
    assert_eq!(resumed["rejoin"], true, "{resumed}");
    let told = me.say(&["attach", &id]).await?.ok();
    assert_eq!(told.lines().count(), LINES);
    assert!(told.starts_with(&line(1)) && told.ends_with(&line(LINES)));

    // Of several turns, too: the end of an earlier one is not the end.
    me.say(&["send", &id, "Is that so?"]).await?.ok();
    let told = me.say(&["attach", &id, "--turns", "2"]).await?.ok();
    assert!(told.contains(&line(LINES)) && told.trim_end().ends_with("Quite so."));
    let json = me.say(&["attach", &id, "--turns", "2", "-o", "json"]).await?.ok();
    let frames = json.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>()?;
    let seqs: Vec<u64> =
        frames.iter().filter_map(|frame: &Value| frame["data"]["seq"].as_u64()).collect();
    let (first, last) = (seqs.first().context("no frame")?, seqs.last().context("no frame")?);
    assert_eq!(seqs, (*first..=*last).collect::<Vec<_>>(), "each once, in order");
    let yaml = me.say(&["attach", &id, "-o", "yaml"]).await?.ok();
    assert!(yaml.starts_with("---\n") && yaml.contains("\nevent: \"chat:chunk\"\n"), "{yaml}");
    Ok(())
}
