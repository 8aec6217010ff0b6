//! What a Model says reaches the call.

use serde_json::{Value, json};
use troupe_api::chat::ChatSend;
use troupe_domain::task::ThinkingPlan;
use troupe_services::Tasks as _;
use troupe_testkit::{Answer, FakeModel, Script};

use crate::host::{Node, admin, ann, is_over, send, team};

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
