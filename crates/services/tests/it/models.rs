//! What a Model says reaches the call.

use serde_json::{Value, json};
use troupe_api::chat::{ChatCancel, ChatEdit, ChatRetry, ChatSend};
use troupe_domain::task::ThinkingPlan;
use troupe_services::Tasks as _;
use troupe_testkit::{Answer, FakeModel, Fault, Script, wait_until};
use troupe_types::Status;

use crate::host::{Node, PATIENCE, admin, ann, is_over, send, team};

fn model(key: &str, more: &str, url: &str) -> String {
    format!(
        "{{kind: Model, metadata: {{name: m}}, spec: {{modelConfig: {{env: {{ANTHROPIC_MODEL: \
         claude-x, {key}: a-long-secret-token-1234, ANTHROPIC_BASE_URL: '{url}', \
         ANTHROPIC_DEFAULT_HAIKU_MODEL: claude-small}}{more}}}}}}}\n"
    )
}

#[tokio::test]
async fn thinking_and_the_small_model_are_in_the_plan() {
    let node = Node::start().await;
    let url = "https://models.example";
    node.applied(&ann(), &model("ANTHROPIC_API_KEY", "", url)).await;
    node.applied(&ann(), &team("t", ", modelRef: {name: m}")).await;
    for (more, wanted) in [
        ("", None),
        (", thinking: high", Some(ThinkingPlan::High)),
        (", thinking_tokens: 5000, max_output_tokens: 9000", Some(ThinkingPlan::Tokens(5_000))),
    ] {
        node.applied(&ann(), &model("ANTHROPIC_API_KEY", more, url)).await;
        let plan = node.plan(&ann(), "t").await.unwrap();
        let model = plan.members[0].model.as_ref().unwrap();
        assert_eq!(model.thinking, wanted, "{more}");
        assert_eq!(model.small_model.as_deref(), Some("claude-small"));
    }
}

#[tokio::test]
async fn an_auth_token_is_sent_as_a_bearer_token() {
    let fake = FakeModel::start(Script::always(Answer::text("ok"))).await.unwrap();
    let node = Node::start().await;
    node.applied(&admin(), &model("ANTHROPIC_API_KEY", "", &fake.url())).await;
    node.applied(&admin(), &team("t", ", modelRef: {name: m}")).await;
    let call = async |document: &str| {
        node.applied(&admin(), document).await;
        let asked = ChatSend { team_id: Some("t".to_owned()), ..send(None, "hi", None) };
        let task = node.tasks.send(&admin(), asked).await.unwrap().task_id;
        node.until(&admin(), task, is_over).await;
        let request = fake.requests().pop().unwrap();
        let mut names: Vec<String> = request.headers.into_keys().collect();
        names.retain(|name| ["authorization", "x-api-key"].contains(&name.as_str()));
        (names, request.body["thinking"].clone())
    };
    let [key, token] = ["x-api-key", "authorization"].map(|name| vec![name.to_owned()]);
    let low = json!({"type": "enabled", "budget_tokens": 2_048});
    let document = model("ANTHROPIC_AUTH_TOKEN", ", thinking: low", &fake.url());
    assert_eq!(call(&document).await, (token.clone(), low.clone()));
    // As it is printed, it is applied again.
    let mut printed = node.get(&admin(), "model", "m").await.unwrap();
    printed["metadata"] = json!({"name": "m"});
    assert_eq!(printed["spec"]["modelConfig"]["env"]["auth"], "bearer");
    assert_eq!(call(&printed.to_string()).await, (token, low));
    let document = model("ANTHROPIC_API_KEY", "", &fake.url());
    assert_eq!(call(&document).await, (key, Value::Null));
}

#[tokio::test]
async fn a_message_is_thought_through_if_its_person_wants_it_and_the_next_one_is_not() {
    let fake = FakeModel::start(Script::new(|turn| match (turn.human.as_str(), &*turn.model) {
        ("fails at first", "claude-x") => Answer::fault(Fault::quota()),
        _ => Answer::text("ok"),
    }));
    let fake = fake.await.unwrap();
    let (node, admin) = (Node::start().await, admin());
    let other = model("ANTHROPIC_API_KEY", "", &fake.url());
    let other = other.replace("name: m", "name: n").replace("claude-x", "claude-y");
    for text in [model("ANTHROPIC_API_KEY", "", &fake.url()), other] {
        node.applied(&admin, &text).await;
    }
    node.applied(&admin, &team("t", ", modelRef: {name: m}")).await;
    let thought = || fake.requests().pop().unwrap().body["thinking"].clone();
    let say = async |task, message: &str, deep| {
        let team_id = Some("t".to_owned());
        let asked = send(task, message, None);
        let asked = ChatSend { team_id, enable_deep_thinking: deep, ..asked };
        let ack = node.tasks.send(&admin, asked).await.unwrap();
        node.until(&admin, ack.task_id, is_over).await;
        ack
    };
    let high = json!({"type": "enabled", "budget_tokens": 16_384});
    let ack = say(None, "one", Some(true)).await;
    assert_eq!(thought(), high);
    let task = ack.task_id;
    say(Some(task), "two", None).await;
    assert_eq!(thought(), Value::Null);
    let ack = say(Some(task), "three", Some(false)).await;
    assert_eq!(thought(), Value::Null);
    let edit = ChatEdit {
        task_id: task,
        subtask_id: ack.message.unwrap(),
        message: "four".to_owned(),
        client_message_id: None,
        enable_deep_thinking: Some(true),
    };
    node.tasks.edit(&admin, edit).await.unwrap();
    node.until(&admin, task, is_over).await;
    assert_eq!(thought(), high);
    // Another Model takes over in the middle of the turn, and thinks as well.
    say(Some(task), "fails at first", Some(true)).await;
    let page = node.tasks.turns(&admin, task, None, 1).await.unwrap();
    let subtask_id = page.turns[0].messages.last().unwrap().message;
    let retry = |model: Option<&str>| ChatRetry {
        task_id: task,
        subtask_id,
        force_override_bot_model: model.map(str::to_owned),
    };
    node.tasks.retry(&admin, retry(None)).await.unwrap();
    node.until(&admin, task, is_over).await;
    assert_eq!(thought(), high);
    node.tasks.retry(&admin, retry(Some("n"))).await.unwrap();
    node.until(&admin, task, |status| status == Status::Completed).await;
    let last = fake.requests().pop().unwrap().body;
    assert_eq!((last["model"].as_str(), &last["thinking"]), (Some("claude-y"), &high));
    // What the Model says stays.
    let low = model("ANTHROPIC_API_KEY", ", thinking: low", &fake.url());
    node.applied(&admin, &low).await;
    say(Some(task), "five", Some(true)).await;
    assert_eq!(thought(), json!({"type": "enabled", "budget_tokens": 2_048}));
}

/// One request, and then nothing for as long as the provider wants; a person need not wait.
#[tokio::test]
async fn a_provider_is_not_asked_before_the_time_that_it_said() {
    let limited = Script::new(|turn| match turn.human.as_str() {
        "long" => Answer::fault(Fault::rate_limit(Some("300"))),
        _ => Answer::fault(Fault::rate_limit(Some("7200"))),
    });
    let fake = FakeModel::start(limited).await.unwrap();
    let (node, admin) = (Node::start().await, admin());
    node.applied(&admin, &model("ANTHROPIC_API_KEY", "", &fake.url())).await;
    node.applied(&admin, &team("t", ", modelRef: {name: m}")).await;
    let say = async |text: &str| {
        let asked = ChatSend { team_id: Some("t".to_owned()), ..send(None, text, None) };
        node.tasks.send(&admin, asked).await.unwrap().task_id
    };
    let task = say("long").await;
    let waits = async || node.tasks.view(&admin, task).await.is_ok_and(|view| view.wait.is_some());
    wait_until(PATIENCE, waits).await;
    let view = node.tasks.view(&admin, task).await.unwrap();
    let wait = view.wait.unwrap();
    assert_eq!((view.status, wait.code.as_str()), (Status::Running, "rate_limit"));
    let at = wait.args["retry_at"].as_str().unwrap();
    let why = node.tasks.why(&admin, task).await.unwrap();
    assert!(why.summary.contains(at), "{why:?}");
    let cancel = ChatCancel { task_id: Some(task), subtask_id: None };
    node.tasks.cancel(&admin, cancel).await.unwrap();
    node.until(&admin, task, |status| status == Status::Cancelled).await;
    assert_eq!(node.tasks.view(&admin, task).await.unwrap().wait, None);

    let task = say("longer").await;
    node.until(&admin, task, |status| status == Status::Failed).await;
    let page = node.tasks.turns(&admin, task, None, 1).await.unwrap();
    let error = serde_json::to_value(page.turns[0].messages.last()).unwrap().to_string();
    assert!(error.contains("Rate limit reached (asks to wait 2 h, and 1 h is"), "{error}");
    assert_eq!(fake.request_count(), 2);
}
