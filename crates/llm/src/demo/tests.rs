use serde_json::json;

use super::*;
use crate::message::{Completion, StopReason, ToolDef};

fn tool(name: &str, input_schema: serde_json::Value) -> ToolDef {
    ToolDef { name: name.into(), description: String::new(), input_schema }
}

fn ask(human: &str) -> Request {
    Request { messages: vec![Message::user(human)], attempt: 1, ..Request::default() }
}

async fn events(model: &str, request: Request) -> (Vec<ModelEvent>, Option<ModelError>) {
    let policy = RetryPolicy { wait_first: Duration::ZERO, ..RetryPolicy::default() };
    let provider = DemoProvider::new(model, 0).with_retry(policy);
    let mut stream = provider.stream(request, CancellationToken::new());
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => events.push(event),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

async fn answer(request: Request) -> Completion {
    let provider = DemoProvider::new("demo", 0);
    provider.stream(request, CancellationToken::new()).completion().await.unwrap()
}

#[tokio::test]
async fn the_same_prompt_and_attempt_give_the_same_text_and_another_attempt_another() {
    for human in ["Hello there", "你好，请介绍一下自己 🙂", "🙂"] {
        let first = answer(ask(human)).await;
        assert_eq!(first, answer(ask(human)).await);
        assert!(first.text().contains("demo model"), "{}", first.text());
        assert!(first.text().contains(human));
        let mut texts = vec![first.text()];
        for attempt in 2..6 {
            let text = answer(Request { attempt, ..ask(human) }).await.text();
            assert!(!texts.contains(&text), "{text}");
            texts.push(text);
        }
    }
    assert!(answer(ask("你好")).await.text().contains("演示模型"));
}

#[tokio::test]
async fn it_thinks_first_and_what_streamed_is_what_is_kept() {
    let (events, error) = events("demo", ask("Hello 你好 👩‍👩‍👧 there")).await;
    assert!(error.is_none());
    assert!(matches!(events[0], ModelEvent::Thinking(_)));
    let text: String = events
        .iter()
        .filter_map(|event| match event {
            ModelEvent::Text(piece) => Some(piece.as_str()),
            _ => None,
        })
        .collect();
    let Some(ModelEvent::Completed(completion)) = events.last() else { panic!("{events:?}") };
    assert_eq!(completion.text(), text);
    assert!(text.contains("👩‍👩‍👧") && events.len() > 20);
    assert!(matches!(&completion.message.parts[0], Part::Thinking { signature: Some(_), .. }));
}

#[tokio::test]
async fn it_calls_a_tool_when_asked_and_tells_its_result() {
    let clock = tool(
        "mcp__demo__clock",
        json!({"type": "object", "properties": {"timezone": {"type": "string"}}, "required": ["timezone"]}),
    );
    let mut request = Request { tools: vec![clock], ..ask("现在几点？") };
    let step = answer(request.clone()).await;
    assert_eq!(step.stop, StopReason::ToolUse);
    let calls: Vec<_> =
        step.tool_calls().map(|(id, n, a)| (id.to_owned(), n.to_owned(), a.clone())).collect();
    assert_eq!(
        (calls[0].1.as_str(), &calls[0].2),
        ("mcp__demo__clock", &json!({"timezone": "UTC"}))
    );
    request.messages.push(step.message);
    request.messages.push(Message::results(vec![Part::ToolResult {
        id: calls[0].0.clone(),
        content: "12:34".into(),
        is_error: false,
        unknown: false,
    }]));
    let last = answer(request.clone()).await;
    assert_eq!(last.stop, StopReason::EndTurn);
    assert!(last.text().contains("12:34"));
    request.messages.truncate(1);
    request.messages[0] = Message::user("Hello, any news?");
    assert_eq!(answer(request).await.tool_calls().count(), 0);

    let add = tool(
        "add",
        json!({"properties": {"a": {"type": "integer"}, "b": {"type": "number"}}, "required": ["a", "b"]}),
    );
    let request = Request { tools: vec![add.clone()], ..ask("Please add 3 and 4.5") };
    assert_eq!(answer(request).await.tool_calls().next().unwrap().2, &json!({"a": 3, "b": 4.5}));
    let request = Request { tools: vec![add], ..ask("[[demo calls=3 tool=add args={\"a\":7}]]") };
    let step = answer(request).await;
    assert_eq!(step.tool_calls().map(|call| call.2["a"].clone()).collect::<Vec<_>>(), [7, 7, 7]);
    let ids: std::collections::HashSet<_> = step.tool_calls().map(|call| call.0).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn it_leads_and_plans() {
    let member = json!({"type": "string", "enum": ["writer", "coder"]});
    let choose = tool("choose_member", json!({"properties": {"member": member}}));
    let request = Request { tools: vec![choose], ..ask("The Coder should do this") };
    let step = answer(request).await;
    assert_eq!(step.tool_calls().next().unwrap().2["member"], "coder");

    let split = tool(
        "split_work",
        json!({"properties": {"items": {"items": {"properties": {"member": member}}}}}),
    );
    let step = answer(Request { tools: vec![split], ..ask("build it") }).await;
    let items = step.tool_calls().next().unwrap().2["items"].clone();
    assert_eq!(items.as_array().unwrap().len(), 2);
    assert_eq!(items[1]["member"], "coder");

    let step = answer(Request { tools: vec![tool("conclude", json!({}))], ..ask("done?") }).await;
    assert_eq!(step.tool_calls().next().unwrap().2["done"], true);

    let system = Some("You are the planner of the team.".to_owned());
    let plan = answer(Request { system, ..ask("a website") }).await.text();
    assert!(plan.starts_with("## Plan (demo model") && plan.contains("a website"), "{plan}");
}

#[tokio::test]
async fn directives_make_it_a_load_generator() {
    let (events, _) = events("demo-fast", ask("[[demo chunks=500 size=12]]")).await;
    let pieces: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            ModelEvent::Text(piece) => Some(piece.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(pieces.len(), 500);
    assert!(pieces.iter().all(|piece| piece.len() == 12));
    assert!(!events.iter().any(|event| matches!(event, ModelEvent::Thinking(_))));
}

#[tokio::test]
async fn it_fails_when_told() {
    let (seen, error) = events("demo", ask("[[demo fail=quota_exceeded]]")).await;
    assert!(seen.is_empty());
    assert_eq!(error.unwrap().kind(), ErrorType::QuotaExceeded);

    let (seen, error) = events("demo", ask("[[demo fail=rate_limit fail_tries=2]] hi")).await;
    assert!(error.is_none());
    assert_eq!(seen.iter().filter(|e| matches!(e, ModelEvent::Retrying { .. })).count(), 2);

    let (seen, error) =
        events("demo", ask("[[demo fail=network_error fail_after=3 chunks=9]]")).await;
    assert_eq!((seen.len(), error.unwrap().kind()), (3, ErrorType::NetworkError));

    let human = "[[demo fail=provider_error fail_after=1 fail_attempts=1]] hi";
    assert!(events("demo", ask(human)).await.1.is_some());
    assert!(events("demo", Request { attempt: 2, ..ask(human) }).await.1.is_none());
}

#[tokio::test(start_paused = true)]
async fn it_keeps_its_pace_and_can_be_cancelled() {
    let provider = DemoProvider::new("demo", 30);
    let start = Instant::now();
    let stream = provider.stream(ask("[[demo chunks=61]]"), CancellationToken::new());
    stream.completion().await.unwrap();
    assert_eq!(start.elapsed().as_millis().div_euclid(100), 20);

    let cancel = CancellationToken::new();
    let mut stream = provider.stream(ask("[[demo hang=1 chunks=1]]"), cancel.clone());
    assert!(matches!(stream.next().await, Some(Ok(ModelEvent::Text(_)))));
    cancel.cancel();
    assert!(matches!(stream.next().await, Some(Err(ModelError::Cancelled))));
    assert!(stream.next().await.is_none());
}
