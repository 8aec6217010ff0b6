use std::{sync::Arc, time::Duration};

use troupe_llm::{
    CancellationToken, Completion, Egress, EgressPolicy, Llm, LlmOptions, Message, ModelConfig,
    ModelError, ModelEvent, Provider, ProviderKind, Reach, Request, RetryPolicy, SecretText,
    ToolDef,
};
use troupe_testkit::{Answer, FakeModel, Script};
use troupe_types::SystemClock;

pub(crate) const KINDS: [ProviderKind; 2] = [ProviderKind::Claude, ProviderKind::OpenAi];
pub(crate) const KEY: &str = "sk-test-0123456789";
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits that suit a test: no more than a few milliseconds between tries.
pub(crate) fn options() -> LlmOptions {
    let wait = Duration::from_millis(5);
    let retry = RetryPolicy { wait_first: wait, wait_max: wait, ..RetryPolicy::default() };
    LlmOptions { retry, seed: Some(7), demo_pace: 0, ..LlmOptions::default() }
}

pub(crate) fn llm(options: LlmOptions) -> Llm {
    Llm::new(Egress::new(EgressPolicy::default()), options, SystemClock::shared())
}

pub(crate) fn config(kind: ProviderKind, fake: &FakeModel) -> ModelConfig {
    ModelConfig {
        api_key: Some(SecretText::new(KEY)),
        base_url: Some(fake.url()),
        ..ModelConfig::new(kind, "fake-model")
    }
}

pub(crate) fn provider_with(
    kind: ProviderKind,
    fake: &FakeModel,
    options: LlmOptions,
) -> Arc<dyn Provider> {
    llm(options).provider(config(kind, fake), Reach::Loopback).unwrap()
}

pub(crate) fn provider(kind: ProviderKind, fake: &FakeModel) -> Arc<dyn Provider> {
    provider_with(kind, fake, options())
}

pub(crate) async fn serve(answer: Answer) -> FakeModel {
    FakeModel::start(Script::always(answer)).await.unwrap()
}

pub(crate) fn ask(text: &str) -> Request {
    Request { messages: vec![Message::user(text)], attempt: 1, ..Request::default() }
}

pub(crate) fn tool(name: &str) -> ToolDef {
    ToolDef {
        name: name.into(),
        description: format!("The tool {name}."),
        input_schema: serde_json::json!({"type": "object", "properties": {}}),
    }
}

pub(crate) async fn run(
    provider: &dyn Provider,
    request: Request,
) -> (Vec<ModelEvent>, Result<Completion, ModelError>) {
    let mut stream = provider.stream(request, CancellationToken::new());
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(ModelEvent::Completed(completion)) => {
                assert!(stream.next().await.is_none(), "nothing follows the whole answer");
                return (events, Ok(*completion));
            }
            Ok(event) => events.push(event),
            Err(error) => {
                assert!(stream.next().await.is_none(), "nothing follows an error");
                return (events, Err(error));
            }
        }
    }
    panic!("the stream ended without an answer or an error: {events:?}");
}

pub(crate) fn texts(events: &[ModelEvent]) -> String {
    let texts = events.iter().filter_map(|event| match event {
        ModelEvent::Text(piece) => Some(piece.as_str()),
        _ => None,
    });
    texts.collect()
}

pub(crate) fn retries(events: &[ModelEvent]) -> usize {
    events.iter().filter(|event| matches!(event, ModelEvent::Retrying { .. })).count()
}
