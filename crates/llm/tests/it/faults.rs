use std::time::{Duration, Instant};

use serde_json::json;
use troupe_llm::{
    CancellationToken, ErrorType, ModelError, ModelEvent, Part, ProviderKind, Request, StopReason,
    TimeoutPhase,
};
use troupe_testkit::{Answer, FakeModel, Fault, Piece, wait_until};

use crate::support::{
    DEADLINE, KEY, KINDS, ask, options, provider, provider_with, retries, run, serve, texts, tool,
};

#[tokio::test]
async fn error_answers_are_sorted_and_repeated_where_it_helps() {
    use ErrorType as T;
    let table = [
        (Fault::rate_limit(Some("0.01")), T::RateLimit, 4),
        (Fault::overloaded(), T::ModelUnavailable, 4),
        (Fault::server_error(), T::ProviderError, 4),
        (Fault::quota(), T::QuotaExceeded, 1),
        (Fault::context_length(), T::ContextLengthExceeded, 1),
        (Fault::status(403, "permission_error", "no", None), T::Forbidden, 1),
        (Fault::status(404, "not_found_error", "model: x", None), T::ModelUnavailable, 1),
        (Fault::status(413, "request_too_large", "big", None), T::PayloadTooLarge, 1),
        (Fault::WebPage, T::ModelProtocolError, 1),
    ];
    for kind in KINDS {
        for (fault, want, tries) in &table {
            let fake = serve(Answer::fault(fault.clone())).await;
            let (events, error) = run(&*provider(kind, &fake), ask("hi")).await;
            let error = error.unwrap_err();
            assert_eq!((error.kind(), fake.request_count()), (*want, *tries), "{fault:?} {error}");
            assert_eq!(retries(&events) as u64, tries - 1);
            if let Fault::Status { message, status, .. } = fault {
                assert_eq!(error.summary().text, *message);
                assert_eq!(error.summary().status, Some(*status));
            }
        }
    }
}

#[tokio::test]
async fn retry_after_is_honoured_and_told() {
    for kind in KINDS {
        let fault = Fault::rate_limit(Some("0.4"));
        let fake = serve(Answer::text("ok").failing(fault).only_first(1)).await;
        let start = Instant::now();
        let (events, completion) = run(&*provider(kind, &fake), ask("hi")).await;
        assert_eq!(completion.unwrap().text(), "ok");
        assert!(start.elapsed() >= Duration::from_millis(400));
        let ModelEvent::Retrying { after, attempt: 2, error } = &events[0] else {
            panic!("{events:?}")
        };
        assert!(*after >= Duration::from_millis(400) && *after < Duration::from_millis(500));
        assert_eq!((error.kind, error.status), (ErrorType::RateLimit, Some(429)));
        assert_eq!(error.text, "Rate limit reached");
    }
}

#[tokio::test]
async fn a_cut_is_repeated_only_while_nothing_was_seen() {
    for kind in KINDS {
        let text = "one two three four five six";
        let cut = |after| Answer::text(text).failing(Fault::Cut { after });
        let fake = serve(cut(1).only_first(2)).await;
        let (events, completion) = run(&*provider(kind, &fake), ask("hi")).await;
        assert_eq!((completion.unwrap().text().as_str(), retries(&events)), (text, 2));

        let fake = serve(cut(5)).await;
        let (events, error) = run(&*provider(kind, &fake), ask("hi")).await;
        assert_eq!(error.unwrap_err().kind(), ErrorType::NetworkError);
        assert_eq!((retries(&events), fake.request_count()), (0, 1));
        assert!(text.starts_with(&texts(&events)) && !texts(&events).is_empty());
    }
}

#[tokio::test]
async fn a_quiet_end_in_the_middle_is_a_cut_too() {
    // The connection closes in order, but the answer is not complete.
    let body = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n\
                data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
    let url = raw_server(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let (events, error) = run(&*at(ProviderKind::Claude, &url.0), ask("hi")).await;
    assert!(matches!(error, Err(ModelError::Cut)), "{error:?}");
    assert_eq!(texts(&events), "a");
}

#[tokio::test]
async fn errors_within_the_stream_are_typed() {
    for kind in KINDS {
        let error = |after| Fault::Error { after, kind: "overloaded_error".into() };
        let fake = serve(Answer::text("abcdefghijklmnop").failing(error(1)).only_first(1)).await;
        let (events, completion) = run(&*provider(kind, &fake), ask("hi")).await;
        assert!(completion.is_ok());
        assert_eq!(retries(&events), 1);

        let fake = serve(Answer::text("abcdefghijklmnop").failing(error(4))).await;
        let (events, error) = run(&*provider(kind, &fake), ask("hi")).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorType::ModelUnavailable);
        assert_eq!((error.text().as_str(), retries(&events)), ("The script says so", 0));

        let fake =
            serve(Answer::text("abcdefghijklmnop").failing(Fault::Malformed { after: 4 })).await;
        let (_, error) = run(&*provider(kind, &fake), ask("hi")).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorType::ModelProtocolError);
        assert!(error.text().contains("malformed event"), "{}", error.text());
    }
}

#[tokio::test]
async fn nothing_hangs() {
    let short = Duration::from_millis(80);
    for kind in KINDS {
        for (fault, phase) in [
            (Fault::HangBeforeHead, TimeoutPhase::FirstByte),
            (Fault::Hang { after: 0 }, TimeoutPhase::FirstByte),
            (Fault::Hang { after: 4 }, TimeoutPhase::Idle),
        ] {
            let fake = serve(Answer::text("abcdefghijklmnopqrst").failing(fault)).await;
            // Only the wait under test is short: a slow machine must not meet the other one.
            let options = match phase {
                TimeoutPhase::Idle => troupe_llm::LlmOptions { idle_timeout: short, ..options() },
                _ => troupe_llm::LlmOptions { first_byte_timeout: short, ..options() },
            };
            let (_, error) = run(&*provider_with(kind, &fake, options), ask("hi")).await;
            match error {
                Err(ModelError::Timeout { phase: found, after }) => {
                    assert_eq!((found, after), (phase, short));
                }
                other => panic!("{other:?}"),
            }
            wait_until(DEADLINE, || async { fake.client_gone() == 1 }).await;
        }
        let slow = Answer::text("abcdefghijklmnopqrstuvwxyz").chunked(1);
        let fake = serve(slow.slow(Duration::from_millis(30))).await;
        let options = troupe_llm::LlmOptions { total_timeout: short, ..options() };
        let (_, error) = run(&*provider_with(kind, &fake, options), ask("hi")).await;
        let total = matches!(error, Err(ModelError::Timeout { phase: TimeoutPhase::Total, .. }));
        assert!(total, "{error:?}");
    }
}

#[tokio::test]
async fn nothing_is_read_without_end() {
    let small = || troupe_llm::LlmOptions {
        event_bytes_max: 100_000,
        answer_bytes_max: 300_000,
        wire_bytes_max: 2_000_000,
        ..options()
    };
    for kind in KINDS {
        for fault in [Fault::Huge { bytes: 1_000_000 }, Fault::HugeEvent { bytes: 200_000 }] {
            let fake = serve(Answer::text("ok").failing(fault)).await;
            let (_, error) = run(&*provider_with(kind, &fake, small()), ask("hi")).await;
            assert!(matches!(error, Err(ModelError::TooLarge { .. })), "{error:?}");
        }
        let options = troupe_llm::LlmOptions { answer_bytes_max: usize::MAX, ..small() };
        let fake = serve(Answer::text("ok").failing(Fault::Huge { bytes: 4_000_000 })).await;
        let (_, error) = run(&*provider_with(kind, &fake, options), ask("hi")).await;
        assert!(matches!(error, Err(ModelError::TooLarge { what: "a stream", .. })), "{error:?}");
    }
}

#[tokio::test]
async fn a_cancel_closes_the_wire() {
    for kind in KINDS {
        // In the middle of an answer, by the token.
        let fake = serve(Answer::text("abcdefghijklmnop").failing(Fault::Hang { after: 4 })).await;
        let cancel = CancellationToken::new();
        let mut stream = provider(kind, &fake).stream(ask("hi"), cancel.clone());
        while !matches!(stream.next().await, Some(Ok(ModelEvent::Text(_)))) {}
        assert_eq!(fake.client_gone(), 0);
        cancel.cancel();
        let end = loop {
            match stream.next().await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert!(matches!(end, Some(Err(ModelError::Cancelled))), "{end:?}");
        // The stream itself is still held: the cancel alone closed the connection.
        wait_until(DEADLINE, || async { fake.client_gone() == 1 }).await;
        drop(stream);

        // In the middle of an answer, by dropping the stream.
        let mut stream = provider(kind, &fake).stream(ask("hi"), CancellationToken::new());
        while !matches!(stream.next().await, Some(Ok(ModelEvent::Text(_)))) {}
        drop(stream);
        wait_until(DEADLINE, || async { fake.client_gone() == 2 }).await;

        // Before the head of the answer.
        let fake = serve(Answer::fault(Fault::HangBeforeHead)).await;
        let cancel = CancellationToken::new();
        let mut stream = provider(kind, &fake).stream(ask("hi"), cancel.clone());
        let (end, ()) = tokio::join!(stream.next(), async {
            wait_until(DEADLINE, || async { fake.active() == 1 }).await;
            cancel.cancel();
        });
        assert!(matches!(end, Some(Err(ModelError::Cancelled))), "{end:?}");
        wait_until(DEADLINE, || async { fake.client_gone() == 1 }).await;

        // While it waits for the next try.
        let fake = serve(Answer::fault(Fault::rate_limit(Some("50")))).await;
        let cancel = CancellationToken::new();
        let mut stream = provider(kind, &fake).stream(ask("hi"), cancel.clone());
        assert!(matches!(stream.next().await, Some(Ok(ModelEvent::Retrying { .. }))));
        cancel.cancel();
        assert!(matches!(stream.next().await, Some(Err(ModelError::Cancelled))));
        assert!(stream.next().await.is_none());
        assert_eq!(fake.request_count(), 1);
    }
}

#[tokio::test]
async fn a_key_that_comes_back_is_taken_out() {
    for kind in KINDS {
        let message = format!("the key {KEY} is not allowed to do this");
        let fake = serve(Answer::fault(Fault::status(400, "x", &message, None))).await;
        let (_, error) = run(&*provider(kind, &fake), ask("hi")).await;
        let error = error.unwrap_err();
        assert_eq!(error.text(), "the key [key] is not allowed to do this");
        assert!(!format!("{error:?}").contains(KEY));
        let long = "长".repeat(5_000);
        let fake = serve(Answer::fault(Fault::status(400, "x", &long, None))).await;
        let (_, error) = run(&*provider(kind, &fake), ask("hi")).await;
        assert_eq!(error.unwrap_err().text().len(), 2_046);
    }
}

#[tokio::test]
async fn broken_arguments_and_odd_ends_are_told_as_they_are() {
    for kind in KINDS {
        let broken = Piece::Tool { name: "add".into(), args: json!("{\"a\": 1,") };
        let fake = serve(Answer::new(vec![broken])).await;
        let request = Request { tools: vec![tool("add")], ..ask("hi") };
        let (_, step) = run(&*provider(kind, &fake), request).await;
        let step = step.unwrap();
        let Part::ToolCall { args, .. } = &step.message.parts[0] else { panic!("{step:?}") };
        assert_eq!(args, &json!("{\"a\": 1,"));

        let claude = kind == ProviderKind::Claude;
        for (words, want) in [
            (["max_tokens", "length"], StopReason::MaxTokens),
            (["refusal", "content_filter"], StopReason::Refusal),
            (["new_reason", "new_reason"], StopReason::Other("new_reason".into())),
        ] {
            let fake = serve(Answer::text("abc").stopping(words[usize::from(!claude)])).await;
            let (_, completion) = run(&*provider(kind, &fake), ask("hi")).await;
            assert_eq!(completion.unwrap().stop, want);
        }
    }
}

#[tokio::test]
async fn nobody_there_is_a_network_error() {
    let fake = serve(Answer::text("ok")).await;
    let provider = provider(ProviderKind::OpenAi, &fake);
    fake.stop().await;
    let (events, error) = run(&*provider, ask("hi")).await;
    assert_eq!((error.unwrap_err().kind(), retries(&events)), (ErrorType::NetworkError, 3));
}

#[tokio::test]
async fn redirects_do_not_carry_the_key_away() {
    let other = serve(Answer::text("stolen")).await;
    let location = format!("{}/v1/messages", other.url());
    let (url, _server) = raw_server(format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    let (_, error) = run(&*at(ProviderKind::Claude, &url), ask("hi")).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorType::Forbidden, "{}", error.text());
    assert_eq!(other.request_count(), 0);
}

fn at(kind: ProviderKind, url: &str) -> std::sync::Arc<dyn troupe_llm::Provider> {
    let config = troupe_llm::ModelConfig {
        base_url: Some(url.to_owned()),
        ..troupe_llm::ModelConfig::new(kind, "m")
    };
    crate::support::llm(options()).provider(config, troupe_llm::Reach::Loopback).unwrap()
}

/// A server that answers every connection with these bytes, whatever was asked.
async fn raw_server(answer: String) -> (String, tokio::task::JoinSet<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 16 * 1024];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(answer.as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    (url, tasks)
}

#[tokio::test]
async fn the_fake_server_speaks_without_streaming_too() {
    let fake: FakeModel = serve(Answer::text("whole")).await;
    // Through a plain connection: the providers here always stream.
    let url = fake.url();
    let body =
        json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]});
    let client = troupe_llm::Egress::new(troupe_llm::EgressPolicy::default())
        .with_loopback()
        .client(&troupe_llm::ClientOptions::default())
        .unwrap();
    let call = client.post(format!("{url}/v1/messages")).header("anthropic-version", "2023-06-01");
    let text = call.body(body.to_string()).send().await.unwrap().text().await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["content"][0]["text"], "whole");
    let call = client.post(format!("{url}/v1/chat/completions")).body(body.to_string());
    let text = call.send().await.unwrap().text().await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "whole");
}
