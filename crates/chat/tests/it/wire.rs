//! Whole turns over both wire formats, against a server that checks what real ones check.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use troupe_chat::{ModelFactory, NoSecrets, RunEnd, ToolRegistry};
use troupe_domain::task::{ModelPlan, RunEvent};
use troupe_llm::{
    Egress, EgressPolicy, Llm, LlmOptions, ModelConfig, ModelError, Provider, ProviderKind, Reach,
    RetryPolicy, SecretText,
};
use troupe_testkit::{Answer, FakeModel, Fault, Piece, Script, wait_until};

use crate::world::{Counter, Log, chat_run, clock, services};

#[derive(Debug)]
struct Models {
    llm: Llm,
    config: ModelConfig,
}

impl ModelFactory for Models {
    fn provider(&self, _: &ModelPlan) -> Result<Arc<dyn Provider>, ModelError> {
        self.llm.provider(self.config.clone(), Reach::Loopback)
    }
}

fn models(server: &FakeModel, kind: ProviderKind) -> Arc<Models> {
    let base_url = match kind {
        ProviderKind::Claude => server.url(),
        _ => server.openai_url(),
    };
    let mut config = ModelConfig::new(kind, "fake");
    config.base_url = Some(base_url);
    config.api_key = Some(SecretText::new("key"));
    let wait_first = Duration::from_millis(5);
    let retry = RetryPolicy { wait_first, ..RetryPolicy::default() };
    let options = LlmOptions { retry, ..LlmOptions::default() };
    let llm = Llm::new(Egress::new(EgressPolicy::default()), options, clock());
    Arc::new(Models { llm, config })
}

async fn go(server: &FakeModel, kind: ProviderKind) -> (Arc<Log>, RunEnd, Counter) {
    let counter = Counter::default();
    let services = services(models(server, kind), counter.registry(), Arc::new(NoSecrets));
    let log = Log::new(usize::MAX);
    let cancel = CancellationToken::new();
    let ended = troupe_chat::run(chat_run(), &services, &*log, cancel).await;
    (log, ended, counter)
}

const BOTH: [ProviderKind; 2] = [ProviderKind::Claude, ProviderKind::OpenAi];

#[tokio::test]
async fn a_turn_with_thinking_and_tools() {
    for kind in BOTH {
        let server = FakeModel::start(Script::new(|turn| match turn.step {
            0 => Answer::text("I count.")
                .thinking("let me see")
                .and(Piece::Tool { name: "count".into(), args: json!({"n": 1}) }),
            1 => Answer::tool("count", json!("{not json")).thinking("again"),
            _ => Answer::text("完成 🙂"),
        }))
        .await
        .unwrap();
        let (log, ended, counter) = go(&server, kind).await;
        assert_eq!(ended, RunEnd::Done, "{:?}", log.failed());
        assert_eq!((counter.calls(), server.request_count()), (1, 3));
        let Some(RunEvent::Done { answer, .. }) = log.done() else { panic!() };
        assert_eq!(answer, "I count.\n\n完成 🙂");
        assert_eq!(answer, log.text(false));
        assert_eq!(log.steps().len(), 5);
    }
}

#[tokio::test]
async fn a_retry_is_shown() {
    for kind in BOTH {
        let server = FakeModel::start(Script::new(|turn| match turn.repeat {
            0 => Answer::fault(Fault::overloaded()),
            _ => Answer::text("late"),
        }))
        .await
        .unwrap();
        let (log, ended, _) = go(&server, kind).await;
        assert_eq!((ended, log.text(false).as_str()), (RunEnd::Done, "late"));
        let status = log.statuses("retrying").remove(0);
        let wait = status.wait.expect("it says why");
        assert_eq!(wait.code, "model_retry");
        assert_eq!(wait.args["retry_at"], status.retry_at.unwrap().to_string());
        assert!(status.text.unwrap().contains("Overloaded"));
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_fails_and_keeps_what_was_said() {
    for (fault, kind) in [
        (Fault::Cut { after: 6 }, "network_error"),
        (Fault::Malformed { after: 6 }, "model_protocol_error"),
        (Fault::Error { after: 6, kind: "overloaded_error".into() }, "model_unavailable"),
    ] {
        let answer = Answer::text("one two three four five six seven").chunked(4).failing(fault);
        let server = FakeModel::start(Script::always(answer)).await.unwrap();
        let (log, ended, _) = go(&server, ProviderKind::Claude).await;
        assert_eq!(ended, RunEnd::Failed);
        assert_eq!(log.failed().unwrap().0, kind);
        assert!(log.text(false).starts_with("one") && log.steps().is_empty());
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_said_so() {
    let answer = Answer::fault(Fault::context_length());
    let server = FakeModel::start(Script::always(answer)).await.unwrap();
    let (log, ended, _) = go(&server, ProviderKind::Claude).await;
    assert_eq!((ended, server.request_count()), (RunEnd::Failed, 1));
    let (kind, text) = log.failed().unwrap();
    assert!(kind == "context_length_exceeded" && text.contains("too long"), "{text}");
}

#[tokio::test]
async fn a_cancel_closes_the_wire() {
    let answer = Answer::text("one two three four").chunked(4).failing(Fault::Hang { after: 6 });
    let server = FakeModel::start(Script::always(answer)).await.unwrap();
    let models = models(&server, ProviderKind::Claude);
    let services = services(models, ToolRegistry::new(), Arc::new(NoSecrets));
    let log = Log::new(usize::MAX);
    let cancel = CancellationToken::new();
    let stop = async {
        let seen = || std::future::ready(log.text(false).starts_with("one"));
        wait_until(Duration::from_secs(10), seen).await;
        cancel.cancel();
    };
    let run = troupe_chat::run(chat_run(), &services, &*log, cancel.clone());
    let (ended, ()) = tokio::join!(run, stop);
    assert_eq!(ended, RunEnd::Cancelled);
    let gone = || std::future::ready(server.client_gone() == 1 && server.active() == 0);
    wait_until(Duration::from_secs(10), gone).await;
    assert!(log.failed().is_none());
}
