use troupe_llm::{
    Egress, EgressPolicy, ErrorType, Llm, ModelConfig, ModelError, ProviderKind, Reach,
};
use troupe_testkit::Answer;
use troupe_types::SystemClock;

use crate::support::{KINDS, ask, config, llm, options, run, serve};

#[tokio::test]
async fn loopback_is_closed_unless_opened() {
    let fake = serve(Answer::text("ok")).await;
    let by_name = fake.url().replace("127.0.0.1", "localhost");
    for kind in KINDS {
        let closed = llm(options()).provider(config(kind, &fake), Reach::Public);
        assert!(matches!(closed, Err(ModelError::Egress(_))));
        assert_eq!(closed.unwrap_err().kind(), ErrorType::Forbidden);

        // By name the address is known only when it is resolved: the call fails.
        let named = ModelConfig { base_url: Some(by_name.clone()), ..config(kind, &fake) };
        let model = llm(options()).provider(named.clone(), Reach::Public).unwrap();
        let (events, error) = run(&*model, ask("hi")).await;
        let error = error.unwrap_err();
        assert_eq!((events.len(), error.kind()), (0, ErrorType::Forbidden), "{}", error.text());
        assert!(error.text().contains("egress.allow"), "{}", error.text());
        let model = llm(options()).provider(named, Reach::Loopback).unwrap();
        assert!(run(&*model, ask("hi")).await.1.is_ok());

        let allow = vec![fake.addr().to_string().parse().unwrap()];
        let egress = Egress::new(EgressPolicy { allow, allow_loopback: false });
        let listed = Llm::new(egress, options(), SystemClock::shared());
        let model = listed.provider(config(kind, &fake), Reach::Public).unwrap();
        assert!(run(&*model, ask("hi")).await.1.is_ok());
    }
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let llm = llm(options());
    let base = |url: &str| ModelConfig {
        base_url: Some(url.to_owned()),
        ..ModelConfig::new(ProviderKind::OpenAi, "m")
    };
    let headers = [("bad name", "x"), ("x-team", "line\nbreak")].map(|(name, value)| ModelConfig {
        headers: [(name.to_owned(), troupe_llm::SecretText::new(value))].into(),
        ..ModelConfig::new(ProviderKind::OpenAi, "m")
    });
    let bad = [
        ModelConfig::new(ProviderKind::Demo, ""),
        base("not a url"),
        base("ftp://example.org"),
        base("http://169.254.169.254/v1"),
        base("http://user:secret@example.org/v1"),
    ];
    for config in bad.into_iter().chain(headers) {
        let error = llm.provider(config.clone(), Reach::Public).unwrap_err();
        assert!(!error.text().contains("secret"), "{config:?} {}", error.text());
    }
    assert!(llm.provider(ModelConfig::new(ProviderKind::Demo, "demo"), Reach::Public).is_ok());
}

/// Calls of a process whose environment names proxies that are not there, and no certificates.
#[test]
fn proxies_of_the_environment_are_ignored_and_missing_certificates_do_not_stop_local_models() {
    let nowhere = "http://127.0.0.1:9";
    let ran = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "answers::text_and_thinking_stream_and_add_up"])
        .envs(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, nowhere)))
        .envs([("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")])
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && told.contains("1 passed"), "{told}");
}
