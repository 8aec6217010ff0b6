//! From the first start to the last stop of a node.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use troupe_testkit::{Answer, FakeModel, Fault, Gate, Script, wait_until};

use crate::{
    node::{Home, Node, NodeOptions, PASSWORD, PATIENCE, Person},
    scene::{self, Pace, team},
};

#[tokio::test]
async fn the_setup_link_works_once() -> Result<()> {
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let meta = node.call("GET", "/api/v1/meta", None, None).await?;
    assert_eq!(meta.body["setup_needed"], true, "{}", meta.text);
    let token = node.setup_token.clone().context("a new node has a setup token")?;
    let wrong = json!({"token": "nonsense", "password": PASSWORD});
    node.call("POST", "/api/v1/setup", None, Some(&wrong)).await?.assert_problem(&[401, 403, 410]);
    let short = json!({"token": token, "password": "short"});
    node.call("POST", "/api/v1/setup", None, Some(&short)).await?.assert_problem(&[422]);
    let who = node.setup().await?;
    assert_eq!(who.name, "admin");
    let again = json!({"token": token, "password": "another-password"});
    node.call("POST", "/api/v1/setup", None, Some(&again)).await?.assert_problem(&[410]);
    let needed = node.call("GET", "/api/v1/setup", None, None).await?;
    assert_eq!(needed.body["needed"], false);
    assert_eq!(node.terminate().await?, Some(0));
    let node = Node::start(&home).await?;
    assert_eq!(node.setup_token, None, "there is an administrator");
    node.call("POST", "/api/v1/setup", None, Some(&again)).await?.assert_problem(&[410]);
    node.login("admin").await?;
    assert!(
        !home.log().contains(&token) || home.log().matches(&token).count() == 1,
        "the token is told where it belongs, and not in every line"
    );
    assert!(!home.log().contains(PASSWORD), "no password in the log");
    Ok(())
}

#[tokio::test]
async fn sessions_rotate_end_and_stay_ended() -> Result<()> {
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let admin = node.setup().await?;
    let wrong = |name: &str| json!({"user_name": name, "password": "not-the-password"});
    let known = node.call("POST", "/api/v1/auth/login", None, Some(&wrong("admin"))).await?;
    known.assert_problem(&[401]);
    let unknown = node.call("POST", "/api/v1/auth/login", None, Some(&wrong("nobody"))).await?;
    assert_eq!(unknown.body["detail"], known.body["detail"], "the same answer for an unknown user");

    let refresh = |token: &str| json!({"refresh_token": token});
    let path = "/api/v1/auth/refresh";
    let next = Person::of(&node.post(path, None, &refresh(&admin.refresh)).await?)?;
    assert_ne!(next.refresh, admin.refresh, "it rotates");
    node.get("/api/v1/users/me", &next).await?;
    let second = node.login("ADMIN").await.context("names know no case")?;
    let logout = "/api/v1/auth/logout";
    let answer = node.call("POST", logout, None, Some(&refresh(&next.refresh))).await?;
    assert_eq!(answer.status, 204, "{}", answer.text);
    node.call("POST", path, None, Some(&refresh(&next.refresh))).await?.assert_problem(&[401]);
    // Revocations are read again every few seconds, and at once where they were made.
    let me = "/api/v1/users/me";
    wait_until(PATIENCE, async || {
        node.call("GET", me, Some(&next), None).await.is_ok_and(|a| a.status == 401)
    })
    .await;
    node.get(me, &second).await.context("another session of the same user goes on")?;
    node.kill().await?;
    let node = Node::start(&home).await?;
    node.call("GET", me, Some(&next), None).await?.assert_problem(&[401]);
    node.call("POST", path, None, Some(&refresh(&next.refresh))).await?.assert_problem(&[401]);
    node.get(me, &second).await.context("tokens outlive a restart")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains_and_a_running_answer_goes_on_after_the_restart() -> Result<()> {
    let pace = Pace { words: 60, gap: Duration::from_millis(20) };
    let fake = FakeModel::start(scene::load_script(pace)).await?;
    let home = Home::new()?;
    let options = NodeOptions::default().env("TROUPE__SHUTDOWN__DRAIN_SECONDS", 2);
    let node = Node::start_with(&home, &options).await?;
    let who = with_a_team_of_one(&node, &fake).await?;
    let task = node.run(&who, "alone", "A long answer, please.").await?;
    let shown = async |node: &Node| {
        let frames = node.frames(&who, &task, 0).await.unwrap_or_default();
        frames.iter().filter(|e| e.name == "chat:chunk").count()
    };
    wait_until(PATIENCE, async || shown(&node).await > 5).await;
    let before = node.frames(&who, &task, 0).await?;
    node.ask_to_stop().await?;
    // While it drains: no new work, but it says so.
    wait_until(PATIENCE, async || {
        node.call("GET", "/ready", None, None).await.map_or(true, |a| a.status == 503)
    })
    .await;
    let body = json!({"team_id": "alone", "message": "One more."});
    if let Ok(answer) = node.call("POST", "/api/v1/tasks", Some(&who), Some(&body)).await {
        answer.assert_problem(&[503]);
    }
    assert_eq!(node.ended().await?, Some(0), "{}", home.log());
    let node = Node::start_with(&home, &options).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    let fold = node.assert_fold(&who, &task).await?;
    let after = node.frames(&who, &task, 0).await?;
    assert_eq!(after[..before.len()], before[..], "what was shown is still there");
    let row = &fold.rows()[1];
    assert_eq!(scene::whole_answers(&row.text()), Ok(1), "attempts are not mixed");
    let attempts = row.attempts();
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(attempts[0].1, "FAILED");
    let lost = after.iter().find(|e| e.name == "chat:error").context("nothing was lost")?;
    assert_eq!((&lost.data["type"], &lost.data["continues"]), (&json!("lost"), &json!(true)));
    Ok(())
}

/// Somebody with a Team `alone` whose one member asks the fake model.
async fn with_a_team_of_one(node: &Node, fake: &FakeModel) -> Result<Person> {
    let who = node.with_key(&node.setup().await?).await?;
    let yaml = format!("{}{}", scene::cast(fake, None), team("alone", "solo", &["ann"]));
    node.apply(&who, &yaml).await?;
    Ok(who)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_a_step_end() -> Result<()> {
    let pace = Pace { words: 12, gap: Duration::from_millis(20) };
    let fake = FakeModel::start(scene::load_script(pace)).await?;
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let who = with_a_team_of_one(&node, &fake).await?;
    let task = node.run(&who, "alone", "A short answer, please.").await?;
    wait_until(PATIENCE, async || fake.active() == 1).await;
    assert_eq!(node.terminate().await?, Some(0), "{}", home.log());
    let asked = fake.request_count();
    let node = Node::start(&home).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    let fold = node.assert_fold(&who, &task).await?;
    assert_eq!(scene::whole_answers(&fold.rows()[1].text()), Ok(1));
    assert_eq!(fake.request_count(), asked, "the step had ended: the model is not asked again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_does_not_wait_for_a_run_that_waits_for_its_provider() -> Result<()> {
    let limit = Answer::text("late").failing(Fault::rate_limit(Some("600")));
    let fake = FakeModel::start(Script::always(limit)).await?;
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let who = with_a_team_of_one(&node, &fake).await?;
    let task = node.run(&who, "alone", "Tell me.").await?;
    let limits = async |node: &Node| {
        let frames = node.frames(&who, &task, 0).await.unwrap_or_default();
        frames.iter().filter(|e| e.data["wait"]["code"] == "rate_limit").count()
    };
    wait_until(PATIENCE, async || limits(&node).await == 1).await;
    let began = tokio::time::Instant::now();
    assert_eq!(node.terminate().await?, Some(0), "{}", home.log());
    // A step has 45 seconds to end.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let node = Node::start(&home).await?;
    wait_until(PATIENCE, async || limits(&node).await == 2).await;
    let frames = node.frames(&who, &task, 0).await?;
    let lost = frames.iter().find(|e| e.name == "chat:error").context("nothing was lost")?;
    assert_eq!((&lost.data["type"], &lost.data["continues"]), (&json!("lost"), &json!(true)));
    assert_eq!(fake.request_count(), 1, "nor is it asked earlier");
    Ok(())
}

#[tokio::test]
async fn a_team_without_a_device_waits_and_says_how_to_go_on() -> Result<()> {
    let home = Home::new()?;
    // The machine itself is none, so there is none at all.
    let options = NodeOptions::default().env("TROUPE__DEVICE__ENABLED", false);
    let node = Node::start_with(&home, &options).await?;
    let who = node.setup().await?;
    let task = node.run(&who, "dev-team", "Fix the build.").await?;
    let waits = async |node: &Node| {
        let view = node.task(&who, &task).await.unwrap_or_default();
        view["wait"]["code"] == "no_device"
    };
    wait_until(PATIENCE, async || waits(&node).await).await;
    let why = node.get(&format!("/api/v1/tasks/{task}/why"), &who).await?;
    let text = why.to_string();
    assert!(text.contains("device") && text.contains("claude"), "{text}");
    assert!(why["next_steps"].as_array().is_some_and(|s| !s.is_empty()), "{text}");
    node.kill().await?;
    let node = Node::start_with(&home, &options).await?;
    wait_until(PATIENCE, async || waits(&node).await).await;
    node.post(&format!("/api/v1/tasks/{task}/cancel"), Some(&who), &json!({})).await?;
    node.settled(&who, &task, "CANCELLED").await?;
    node.assert_fold(&who, &task).await?;
    node.assert_well(&who).await
}

/// While it is said, once it is said, and after a restart that remembers none of its text.
#[tokio::test]
async fn lists_show_what_was_said_last() -> Result<()> {
    let gate = Gate::closed();
    let answer = Answer::text("I look around.\n\n```sh\nls 你好\n```\n").held_by(&gate, 4);
    let fake = FakeModel::start(Script::always(answer)).await?;
    let home = Home::new()?;
    let options = NodeOptions::default().env("TROUPE__TASKS__SNAPSHOT_ENTRIES", 1);
    let node = Node::start_with(&home, &options).await?;
    let who = node.setup().await?;
    let yaml = format!("{}{}", scene::cast(&fake, None), team("alone", "solo", &["ann"]));
    node.apply(&who, &yaml).await?;
    let task = node.run(&who, "alone", "Look around.").await?;
    let listed = async |node: &Node| {
        let page = node.get("/api/v1/tasks", &who).await.unwrap_or_default();
        let row = page["items"].as_array().into_iter().flatten().find(|row| row["id"] == *task);
        row.cloned().unwrap_or_default()
    };
    wait_until(PATIENCE, async || {
        let row = listed(&node).await;
        let said = row["last_line"].as_str().is_some_and(|line| line.starts_with('I'));
        said && row["status"] == "RUNNING"
    })
    .await;
    gate.open();
    let says_all = async |node: &Node| {
        let row = listed(node).await;
        row["last_line"] == "ls 你好" && row["status"] == "COMPLETED"
    };
    wait_until(PATIENCE, async || says_all(&node).await).await;
    node.kill().await?;
    let node = Node::start_with(&home, &options).await?;
    let title = json!({"title": "Looked around"});
    node.call("PATCH", &format!("/api/v1/tasks/{task}"), Some(&who), Some(&title)).await?;
    wait_until(PATIENCE, async || listed(&node).await["title"] == "Looked around").await;
    assert!(says_all(&node).await, "{}", listed(&node).await);
    Ok(())
}
