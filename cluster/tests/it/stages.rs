//! A pipeline of five stages with two confirmations, the node killed between any two steps.

use anyhow::{Context as _, Result};
use serde_json::Value;
use troupe_testkit::{Answer, FakeModel, Gate, Script, wait_until};
use troupe_types::Uuid;

use crate::{
    node::{Home, Node, PATIENCE, Person},
    scene::{self, team, words},
};

const MEMBERS: [&str; 5] = ["ann", "oskar!", "tim", "ann!", "oskar"];

async fn restart(node: Node, home: &Home) -> Result<Node> {
    node.kill().await?;
    Node::start(home).await
}

async fn answers(node: &Node, who: &Person, task: &str) -> Vec<(String, String)> {
    let Ok((_, turns)) = node.turns(who, task).await else { return Vec::new() };
    let rows = turns.iter().flat_map(|t| t["messages"].as_array().into_iter().flatten());
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    rows.filter(|m| m["kind"] == "answer")
        .map(|m| (text(&m["status"]), text(&m["content"])))
        .collect()
}

/// Each stage holds its answer until it is told to go on, so every step can be hit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_survives_a_kill_between_any_two_steps() -> Result<()> {
    let gates: Vec<Gate> = MEMBERS.iter().map(|_| Gate::closed()).collect();
    let script = {
        let gates = gates.clone();
        Script::new(move |turn| {
            // Each stage is handed the answer before it, and each answer tells its number.
            let after = |n: &usize| turn.human.contains(&format!("stage {n} is done"));
            let stage = (1..MEMBERS.len()).rfind(after).unwrap_or(0);
            let text = format!("{} stage {} is done", words(5), stage + 1);
            Answer::text(text).chunked(10).held_by(&gates[stage], 6)
        })
    };
    let fake = FakeModel::start(script).await?;
    let home = Home::new()?;
    let mut node = Node::start(&home).await?;
    let admin = node.setup().await?;
    let who = node.with_key(&admin).await?;
    let yaml = format!("{}{}", scene::cast(&fake, None), team("line", "pipeline", &MEMBERS));
    node.apply(&who, &yaml).await?;
    let task = node.run(&who, "line", "Five steps, please.").await?;
    for (stage, gate) in gates.iter().enumerate() {
        // In the middle of the answer: some of it was shown.
        wait_until(PATIENCE, async || {
            let told = answers(&node, &who, &task).await;
            told.get(stage).is_some_and(|(_, text)| !text.is_empty())
        })
        .await;
        let asked = fake.request_count();
        node = restart(node, &home).await?;
        wait_until(PATIENCE, async || fake.request_count() > asked).await;
        gate.open();
        wait_until(PATIENCE, async || {
            let told = answers(&node, &who, &task).await;
            told.get(stage).is_some_and(|(status, _)| status == "COMPLETED")
        })
        .await;
        // After the step, whatever has begun since.
        node = restart(node, &home).await?;
        if MEMBERS[stage].ends_with('!') {
            node = pass_gate(node, &home, &who, &task, stage).await?;
        }
        if stage + 1 < MEMBERS.len() {
            wait_until(PATIENCE, async || answers(&node, &who, &task).await.len() > stage + 1)
                .await;
        }
    }
    node.settled(&who, &task, "COMPLETED").await?;
    let fold = node.assert_fold(&who, &task).await?;
    let kinds: Vec<&str> = fold.rows().iter().map(|row| row.kind.as_str()).collect();
    let expected: Vec<&str> =
        ["user"].into_iter().chain(["answer", "handoff"].into_iter().cycle().take(9)).collect();
    assert_eq!(kinds, expected, "five answers and a hand-off between any two");
    for (stage, row) in fold.rows().iter().filter(|row| row.kind == "answer").enumerate() {
        let text = row.text();
        assert!(text.ends_with(&format!("stage {} is done", stage + 1)), "{text}");
        assert_eq!(scene::whole_answers(&text), Ok(1), "attempts are never mixed");
        assert!(row.attempts().len() > 1, "stage {stage} was interrupted: {:?}", row.attempts());
    }
    Ok(())
}

/// The gate stands across restarts, is passed once, and says the same when asked again.
async fn pass_gate(
    node: Node,
    home: &Home,
    who: &Person,
    task: &str,
    stage: usize,
) -> Result<Node> {
    node.settled(who, task, "PENDING_CONFIRMATION").await?;
    let info = node.get(&format!("/api/v1/tasks/{task}/pipeline-stage-info"), who).await?;
    assert_eq!(info["current_stage"], stage, "{info}");
    assert_eq!(info["total_stages"], MEMBERS.len(), "{info}");
    assert_eq!(info["is_pending_confirmation"], true, "{info}");
    let key = Uuid::new_v4();
    let ack = node.confirm(who, task, key).await?;
    assert_eq!(ack["current_stage"], stage + 1, "{ack}");
    let node = restart(node, home).await?;
    let again = node.confirm(who, task, key).await.context("the same confirmation again")?;
    assert_eq!(ack, again, "the same key, the same answer");
    Ok(node)
}
