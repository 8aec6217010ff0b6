//! Garbage from the model: a clear error on the row, and the node and the Task go on.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use troupe_testkit::{Answer, FakeModel, Fault, Rule, Script, wait_until};

use crate::{
    node::{Home, Node, PATIENCE, Person},
    scene::{self, team, words},
};

struct Clinic {
    _home: Home,
    node: Node,
    who: Person,
    fake: FakeModel,
}

impl Clinic {
    async fn new() -> Result<Self> {
        let fake = FakeModel::start(Script::standard()).await?;
        let home = Home::new()?;
        let node = Node::start(&home).await?;
        let who = node.setup().await?;
        let teams = [team("with-ann", "solo", &["ann"]), team("with-oskar", "solo", &["oskar"])];
        node.apply(&who, &format!("{}{}", scene::cast(&fake, None), teams.concat())).await?;
        Ok(Self { _home: home, node, who, fake })
    }

    /// One turn; the last frame that ended its attempt, and the Task.
    async fn turn(&self, team: &str) -> Result<(String, Value)> {
        // A conversation of its own: faults are counted by conversation.
        let message = format!("Tell me, {}.", self.fake.request_count());
        let task = self.node.run(&self.who, team, &message).await?;
        self.node.rests(&self.who, &task).await?;
        self.node.assert_fold(&self.who, &task).await?;
        let frames = self.node.frames(&self.who, &task, 0).await?;
        let ends = ["chat:done", "chat:error"];
        let end = frames.iter().rfind(|e| ends.contains(&e.name.as_str())).context("no end")?;
        Ok((task, end.data.clone()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_that_stays_is_a_clear_error_and_a_retry_works() -> Result<()> {
    let clinic = Clinic::new().await?;
    let error = |after, kind: &str| Fault::Error { after, kind: kind.to_owned() };
    let unauthorised = Fault::status(401, "authentication_error", "invalid x-api-key", None);
    // Fault, the types that may be told, words that must be told.
    let cases: Vec<(Fault, &[&str], &str)> = vec![
        (Fault::Malformed { after: 4 }, &["model_protocol_error"], ""),
        (Fault::Cut { after: 6 }, &["network_error", "model_protocol_error"], ""),
        (error(5, "overloaded_error"), &["model_unavailable", "provider_error"], ""),
        (Fault::WebPage, &["model_protocol_error", "provider_error"], ""),
        (
            Fault::HugeEvent { bytes: 40_000_000 },
            &["model_protocol_error", "payload_too_large"],
            "",
        ),
        (Fault::context_length(), &["context_length_exceeded"], "too long"),
        (Fault::quota(), &["quota_exceeded"], "quota"),
        (unauthorised, &["permission_denied", "forbidden"], "key"),
        (
            Fault::status(400, "invalid_request_error", "No such parameter", None),
            &["invalid_parameter"],
            "No such parameter",
        ),
    ];
    for (fault, kinds, words_told) in cases {
        for team in ["with-ann", "with-oskar"] {
            let what = format!("{fault:?} {team}");
            clinic.fake.set_script(Script::always(Answer::text(words(20)).failing(fault.clone())));
            let (task, end) = clinic.turn(team).await.with_context(|| what.clone())?;
            let status = clinic.node.status(&clinic.who, &task).await?;
            assert_eq!(status, "FAILED", "{what}: {end}");
            let kind = end["type"].as_str().unwrap_or_default();
            assert!(kinds.contains(&kind), "{what}: {end}");
            let text = end["error"].as_str().unwrap_or_default();
            assert!(text.len() > 8 && text.contains(words_told), "{what}: {end}");
            assert!(!end.to_string().contains("sk-test"), "no key in an error: {end}");
            clinic.fake.set_script(Script::always(Answer::text(words(3))));
            retry(&clinic, &task).await.with_context(|| what)?;
        }
    }
    clinic.node.assert_well(&clinic.who).await
}

async fn retry(clinic: &Clinic, task: &str) -> Result<()> {
    let (_, turns) = clinic.node.turns(&clinic.who, task).await?;
    let row = turns[0]["messages"][1]["subtask_id"].clone();
    let path = format!("/api/v1/tasks/{task}/retry");
    clinic.node.post(&path, Some(&clinic.who), &json!({"subtask_id": row})).await?;
    clinic.node.settled(&clinic.who, task, "COMPLETED").await?;
    let fold = clinic.node.assert_fold(&clinic.who, task).await?;
    let row = &fold.rows()[1];
    assert_eq!(scene::whole_answers(&row.text()), Ok(1), "a retry keeps nothing");
    assert_eq!(row.attempts().len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_by_itself_is_waited_for() -> Result<()> {
    let clinic = Clinic::new().await?;
    for fault in [Fault::rate_limit(Some("1")), Fault::overloaded(), Fault::server_error()] {
        for team in ["with-ann", "with-oskar"] {
            let what = format!("{fault:?} {team}");
            clinic.fake.set_script(Script::always(
                Answer::text(words(3)).failing(fault.clone()).only_first(1),
            ));
            let began = tokio::time::Instant::now();
            let before = clinic.fake.request_count();
            let (_, end) = clinic.turn(team).await.with_context(|| what.clone())?;
            assert!(end["sha256"].is_string(), "{what}: {end}");
            assert!(clinic.fake.request_count() > before + 1, "{what} was tried again");
            if matches!(&fault, Fault::Status { retry_after: Some(_), .. }) {
                let waited = began.elapsed();
                assert!(waited >= Duration::from_millis(950), "{what} after {waited:?}");
            }
        }
    }
    clinic.node.assert_well(&clinic.who).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_closes_the_wire_of_a_model_that_hangs() -> Result<()> {
    let clinic = Clinic::new().await?;
    let hang = Answer::text(words(20)).failing(Fault::Hang { after: 8 });
    clinic.fake.set_script(Script::rules(vec![Rule::any().then(hang)]));
    let task = clinic.node.run(&clinic.who, "with-ann", "Tell me.").await?;
    wait_until(PATIENCE, async || clinic.fake.active() == 1).await;
    let path = format!("/api/v1/tasks/{task}/cancel");
    clinic.node.post(&path, Some(&clinic.who), &json!({})).await?;
    clinic.node.settled(&clinic.who, &task, "CANCELLED").await?;
    wait_until(PATIENCE, async || clinic.fake.client_gone() == 1).await;
    clinic.node.assert_fold(&clinic.who, &task).await?;
    clinic.node.assert_well(&clinic.who).await
}
