//! What a provider says is what people are told.

use std::time::Duration;

use troupe_chat::RunEnd;
use troupe_llm::{ErrorType, ModelError, StopReason};

use crate::world::{Answer, World, say};

#[tokio::test]
async fn a_provider_error_ends_the_attempt_with_its_text() {
    let world = World::new(|_, _| {
        Err(ModelError::Provider {
            kind: ErrorType::QuotaExceeded,
            text: "no credit left".into(),
            status: Some(402),
            retry_after: Some(Duration::from_secs(1)),
            request_id: None,
            transient: false,
        })
    });
    let (log, ended) = world.go().await;
    assert_eq!(ended, RunEnd::Failed);
    assert_eq!(log.failed(), Some(("quota_exceeded".into(), "no credit left".into())));
    let world = World::new(|_, _| Err(ModelError::Cut));
    assert_eq!(world.go().await.0.failed().unwrap().0, "network_error");
}

#[tokio::test]
async fn an_answer_without_a_word_is_an_error_if_it_was_not_meant() {
    let silent = |stop| World::steps(vec![Answer::default().stopping(stop)]);
    for (stop, kind) in [
        (StopReason::Refusal, "content_filter"),
        (StopReason::MaxTokens, "invalid_parameter"),
        (StopReason::ContextWindow, "context_length_exceeded"),
    ] {
        assert_eq!(silent(stop).go().await.0.failed().unwrap().0, kind);
    }
    assert_eq!(silent(StopReason::EndTurn).go().await.1, RunEnd::Done);
    let world = World::steps(vec![say("half of it").stopping(StopReason::MaxTokens)]);
    assert_eq!(world.go().await.1, RunEnd::Done);
}

#[tokio::test]
async fn a_member_without_a_model_fails_clearly() {
    let mut world = World::steps(vec![]);
    let mut plan = (*world.run.plan).clone();
    plan.members[0].model = None;
    world.run.plan = plan.into();
    let (kind, text) = world.go().await.0.failed().unwrap();
    assert!(kind == "invalid_parameter" && text.contains("`ann` has no model"), "{text}");
    world.run.member = 7;
    assert!(world.go().await.0.failed().unwrap().1.contains("no such member"));
}
