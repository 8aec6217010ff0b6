//! A Task that is longer than the window of its model.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use troupe_testkit::{Answer, FakeModel, Script};
use troupe_types::Uuid;

use crate::{
    node::{Home, Node, Person},
    scene::{self, team},
};

/// Tokens of prompt and answer together; prompts are cut above 3,600.
const WINDOW: u64 = 8_000;
/// What the model is told when it sums up.
const SUMS_UP: &str = "Write the summary alone";
const SUMMARY: &str = "Eve wants the code word to be swordfish.";

fn resources(fake: &FakeModel) -> String {
    let url = fake.url();
    let model = format!(
        "kind: Model\nmetadata: {{name: small}}\nspec:\n  modelConfig:\n    \
         context_window: {WINDOW}\n    env: {{model: claude, model_id: fake-1, \
         api_key: sk-test-0123456789, base_url: \"{url}\"}}\n---\n"
    );
    let bot = scene::bot("ann", "small", None);
    format!("{model}{bot}{}", team("alone", "solo", &["ann"]))
}

/// The n-th thing that a person says, of so many words besides.
fn request(n: usize, words: usize) -> String {
    format!("Request number {n}. {}", "many ".repeat(words))
}

/// A further turn; the bodies of the model calls that it made.
async fn turn(
    (node, who, task): (&Node, &Person, &str),
    fake: &FakeModel,
    (n, words): (usize, usize),
) -> Result<Vec<String>> {
    let before = fake.requests().len();
    let body = json!({"message": request(n, words), "client_message_id": Uuid::new_v4()});
    node.post(&format!("/api/v1/tasks/{task}/messages"), Some(who), &body).await?;
    node.settled(who, task, "COMPLETED").await?;
    let requests = fake.requests();
    Ok(requests[before..].iter().map(|request| request.body.to_string()).collect())
}

/// Checks that a model call has the summary in the place of the requests 2 and 3.
fn check(body: &str) -> Result<()> {
    ensure!(body.contains(SUMMARY) && !body.contains(SUMS_UP), "{body}");
    for n in [1, 4, 8] {
        ensure!(body.contains(&format!("Request number {n}.")), "{n} is told: {body}");
    }
    for n in [2, 3] {
        ensure!(!body.contains(&format!("Request number {n}.")), "{n} is summed up: {body}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_longer_than_its_window_goes_on_with_a_summary() -> Result<()> {
    let script = |turn: &troupe_testkit::Turn| match turn.system.contains(SUMS_UP) {
        true => Answer::text(SUMMARY),
        false => Answer::text("So be it."),
    };
    let fake = FakeModel::start(Script::new(script)).await?;
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let admin = node.setup().await?;
    let who = node.with_key(&admin).await?;
    node.apply(&who, &resources(&fake)).await?;
    let task = node.run(&who, "alone", &request(1, 1)).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    // Four words are five tokens: they fit, up to the eighth.
    for (n, words) in [(2, 800), (3, 800), (4, 1), (5, 1), (6, 1), (7, 1)] {
        let bodies = turn((&node, &who, &task), &fake, (n, words)).await?;
        ensure!(bodies.len() == 1 && !bodies[0].contains(SUMS_UP), "{bodies:?}");
    }
    let bodies = turn((&node, &who, &task), &fake, (8, 1_400)).await?;
    ensure!(bodies.len() == 2, "{bodies:?}");
    let asked = &bodies[0];
    ensure!(asked.contains(SUMS_UP) && !asked.contains("Request number 8."), "{asked}");
    for n in [2, 3] {
        ensure!(asked.contains(&format!("Request number {n}.")), "{asked}");
    }
    check(&bodies[1])?;
    // People saw it, its tokens count, and it is no part of an answer.
    let frames = node.frames(&who, &task, 0).await?;
    let told = |word: &str| frames.iter().filter(|e| e.data.to_string().contains(word)).count();
    assert_eq!((told("Summing up the earlier conversation."), told(SUMMARY)), (1, 0));
    assert_eq!(frames.iter().filter(|e| e.name == "chat:usage").count(), 9);
    node.assert_fold(&who, &task).await?;

    let bodies = turn((&node, &who, &task), &fake, (9, 1)).await?;
    ensure!(bodies.len() == 1, "the summary is not made again: {bodies:?}");
    check(&bodies[0])?;
    node.kill().await?;
    let node = Node::start(&home).await?;
    let bodies = turn((&node, &who, &task), &fake, (10, 1)).await?;
    ensure!(bodies.len() == 1, "nor after a restart: {bodies:?}");
    check(&bodies[0])?;
    edited(&node, &who, &task, &fake).await
}

/// A summary of what was said otherwise is not used.
async fn edited(node: &Node, who: &Person, task: &str, fake: &FakeModel) -> Result<()> {
    let (_, turns) = node.turns(who, task).await?;
    let row = turns.get(2).context("no third turn")?["messages"][0]["subtask_id"].clone();
    let edit = json!({"task_id": task, "subtask_id": row, "message": "Something else.",
        "client_message_id": Uuid::new_v4()});
    node.post(&format!("/api/v1/tasks/{task}/edit"), Some(who), &edit).await?;
    node.settled(who, task, "COMPLETED").await?;
    let last = fake.requests().last().context("no request")?.body.to_string();
    ensure!(last.contains("Something else.") && last.contains("Request number 2."), "{last}");
    ensure!(!last.contains(SUMMARY), "{last}");
    Ok(())
}
