use std::collections::BTreeMap;

use serde_json::json;
use troupe_llm::{
    AuthStyle, ErrorType, Message, ModelConfig, ModelEvent, Part, ProviderKind, Reach, Request,
    SecretText, StopReason, Thinking,
};
use troupe_testkit::{Answer, FakeModel, Gate, Piece, Rule, Script, wait_until};

use crate::support::{
    DEADLINE, KEY, KINDS, ask, config, llm, options, provider, run, serve, texts, tool,
};

#[tokio::test]
async fn text_and_thinking_stream_and_add_up() {
    for kind in KINDS {
        for size in [1, 3, 1_000] {
            let text = "Hello 你好 👩‍👩‍👧, request {request}";
            let fake = serve(Answer::text(text).thinking("hm, 想一想").chunked(size)).await;
            let (events, completion) = run(&*provider(kind, &fake), ask("hi")).await;
            let completion = completion.unwrap();
            assert_eq!(texts(&events), "Hello 你好 👩‍👩‍👧, request 1");
            assert_eq!(completion.text(), texts(&events));
            assert_eq!(completion.stop, StopReason::EndTurn);
            assert!(completion.usage.input > 0 && completion.usage.output > 0);
            assert_eq!(completion.model, "fake-model");
            assert!(completion.response_id.is_some());
            let Part::Thinking { text, signature } = &completion.message.parts[0] else {
                panic!("{completion:?}")
            };
            assert_eq!(text, "hm, 想一想");
            assert_eq!(signature.is_some(), kind == ProviderKind::Claude);
            let first = events.iter().find(|event| !matches!(event, ModelEvent::Usage(_)));
            assert!(matches!(first, Some(ModelEvent::Thinking(_))), "{first:?}");
            assert!(events.iter().any(|event| matches!(event, ModelEvent::Stop { .. })));
        }
    }
}

/// The server refuses a signature that is not its own and a result that belongs to no call.
#[tokio::test]
async fn a_tool_loop_with_signed_thinking_goes_round() {
    let script = || {
        Script::rules(vec![
            Rule::any()
                .human("add")
                .then(
                    Answer::new(vec![
                        Piece::Thinking("two numbers".into()),
                        Piece::RedactedThinking("opaque".into()),
                        Piece::Text("I will add.".into()),
                        Piece::Tool { name: "add".into(), args: json!({"a": 1, "b": [2, "你"]}) },
                        Piece::Tool { name: "add".into(), args: json!({}) },
                        Piece::Tool { name: "not-on-offer".into(), args: json!({}) },
                    ])
                    .chunked(3),
                )
                .then(Answer::text("The sum is 3.").thinking("done")),
        ])
    };
    for kind in KINDS {
        let fake = FakeModel::start(script()).await.unwrap();
        let provider = provider(kind, &fake);
        let mut request = Request { tools: vec![tool("add")], ..ask("please add") };
        let (events, step) = run(&*provider, request.clone()).await;
        let step = step.unwrap();
        assert_eq!(step.stop, StopReason::ToolUse);
        let calls: Vec<_> = step.tool_calls().map(|(_, name, args)| (name, args.clone())).collect();
        assert_eq!(calls, [("add", json!({"a": 1, "b": [2, "你"]})), ("add", json!({}))]);
        let ends = events.iter().filter_map(|event| match event {
            ModelEvent::ToolCallEnd { index, id, args, .. } => {
                Some((*index, id.clone(), args.clone()))
            }
            _ => None,
        });
        let ends: Vec<_> = ends.collect();
        assert_eq!((ends[0].0, &ends[0].2), (0, &calls[0].1));
        let streamed: String = events
            .iter()
            .filter_map(|event| match event {
                ModelEvent::ToolCallArgs { index: 0, delta } => Some(delta.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(streamed, calls[0].1.to_string());

        // Through its form on disk, as a journal would.
        let disk = serde_json::to_string(&step).unwrap();
        let step: troupe_llm::Completion = serde_json::from_str(&disk).unwrap();
        request.messages.push(step.message);
        let result =
            |(n, (_, id, _)): (usize, &(usize, String, serde_json::Value))| Part::ToolResult {
                id: id.clone(),
                content: if n == 0 { "3".into() } else { String::new() },
                is_error: false,
                unknown: n == 1,
            };
        request.messages.push(Message::results(ends.iter().enumerate().map(result).collect()));
        let (_, last) = run(&*provider, request.clone()).await;
        assert_eq!(last.unwrap().text(), "The sum is 3.", "{:?}", fake.requests().last());

        if kind == ProviderKind::Claude {
            let Part::Thinking { text, .. } = &mut request.messages[1].parts[0] else { panic!() };
            text.push('!');
            let (_, refused) = run(&*provider, request).await;
            let refused = refused.unwrap_err();
            assert_eq!(refused.kind(), ErrorType::InvalidParameter);
            assert!(refused.text().contains("Invalid `signature`"), "{}", refused.text());
        }
    }
}

#[tokio::test]
async fn the_prompt_is_cached() {
    for kind in KINDS {
        let fake = serve(Answer::text("ok")).await;
        let provider = provider(kind, &fake);
        let mut request = Request { system: Some("Be brief. ".repeat(40)), ..ask("one") };
        let (_, first) = run(&*provider, request.clone()).await;
        let first = first.unwrap();
        assert_eq!(first.usage.cached_read, 0);
        request.messages.push(first.message);
        request.messages.push(Message::user("two"));
        let (_, second) = run(&*provider, request).await;
        let usage = second.unwrap().usage;
        assert!(usage.cached_read > 90 && usage.cached_read < usage.input, "{usage:?}");
    }
}

#[tokio::test]
async fn keys_and_headers_are_sent_and_never_shown() {
    for (kind, auth) in [
        (ProviderKind::Claude, AuthStyle::Default),
        (ProviderKind::Claude, AuthStyle::Bearer),
        (ProviderKind::OpenAi, AuthStyle::Default),
    ] {
        let fake = serve(Answer::text("ok")).await;
        fake.require_key(KEY);
        let headers = BTreeMap::from([
            ("x-team".to_owned(), SecretText::new("blue-team")),
            ("User-Agent".to_owned(), SecretText::new("own-agent")),
        ]);
        let good = ModelConfig { auth, headers, ..config(kind, &fake) };
        assert!(!format!("{good:?}").contains(KEY));
        let model = llm(options()).provider(good.clone(), Reach::Loopback).unwrap();
        assert!(!format!("{model:?}").contains(KEY));
        assert!(run(&*model, ask("hi")).await.1.is_ok());
        let sent = &fake.requests()[0].headers;
        assert_eq!(
            (sent["x-team"].as_str(), sent["user-agent"].as_str()),
            ("blue-team", "own-agent")
        );
        let name = if auth == AuthStyle::Bearer { "authorization" } else { "x-api-key" };
        assert_eq!(sent.contains_key(name), kind == ProviderKind::Claude);

        let bad = ModelConfig { api_key: Some(SecretText::new("sk-wrong-key-42")), ..good };
        let model = llm(options()).provider(bad, Reach::Loopback).unwrap();
        let (events, refused) = run(&*model, ask("hi")).await;
        assert_eq!((events.len(), refused.unwrap_err().kind()), (0, ErrorType::PermissionDenied));
    }
}

#[tokio::test]
async fn options_of_a_model_reach_the_wire() {
    let fake = serve(Answer::text("ok")).await;
    let config = ModelConfig {
        max_output_tokens: Some(3_000),
        thinking: Thinking::Budget(2_000),
        temperature: Some(0.3),
        ..config(ProviderKind::Claude, &fake)
    };
    let model = llm(options()).provider(config, Reach::Loopback).unwrap();
    assert_eq!((model.name(), model.model()), ("claude", "fake-model"));
    run(&*model, ask("hi")).await.1.unwrap();
    let body = &fake.requests()[0].body;
    assert_eq!(body["max_tokens"], 3_000);
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 2_000}));
    assert!(body.get("temperature").is_none());
}

#[tokio::test]
async fn calls_run_side_by_side() {
    let gate = Gate::closed();
    let fake = serve(Answer::text("ok").held_by(&gate, 3)).await;
    let provider = provider(ProviderKind::OpenAi, &fake);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..12 {
        let provider = provider.clone();
        calls.spawn(async move { run(&*provider, ask(&format!("call {n}"))).await.1 });
    }
    wait_until(DEADLINE, || async { fake.active() == 12 }).await;
    gate.open();
    while let Some(done) = calls.join_next().await {
        assert_eq!(done.unwrap().unwrap().text(), "ok");
    }
    assert_eq!(fake.active_max(), 12);
    wait_until(DEADLINE, || async { fake.finished() == 12 }).await;
    assert_eq!(fake.client_gone(), 0);
}

#[tokio::test]
async fn the_standard_script_speaks_to_every_format() {
    for kind in KINDS {
        let fake = FakeModel::start(Script::standard()).await.unwrap();
        let provider = provider(kind, &fake);
        let one = run(&*provider, ask("hello")).await.1.unwrap().text();
        let two = run(&*provider, ask("hello")).await.1.unwrap().text();
        assert_ne!(one, two, "texts differ per request");
        let human = "[[fake tool=echo rounds=2 think=a_thought args={\"text\":\"x\"}]]";
        let request = Request { tools: vec![tool("echo")], ..ask(human) };
        let step = run(&*provider, request).await.1.unwrap();
        assert_eq!(step.tool_calls().next().unwrap().2, &json!({"text": "x"}));
        let member = json!({"type": "string", "enum": ["ann", "bob"]});
        let mut leader = tool("choose_member");
        leader.input_schema = json!({"type": "object", "properties": {"member": member}});
        let request = Request { tools: vec![leader], ..ask("let bob do it") };
        let step = run(&*provider, request).await.1.unwrap();
        assert_eq!(step.tool_calls().next().unwrap().2["member"], "bob");
    }
}
