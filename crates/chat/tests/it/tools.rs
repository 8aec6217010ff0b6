//! How tool calls are run, bounded and told.

use std::sync::atomic::Ordering;

use serde_json::json;
use troupe_chat::{RunEnd, caps::SHOWN_BYTES_MAX};
use troupe_domain::task::RunEvent;
use troupe_llm::{StopReason, ToolChoice};
use troupe_types::{BlockKind, BlockStatus};

use crate::world::{World, ask, lock, say};

#[tokio::test]
async fn a_call_is_told_from_its_first_letter_to_its_result() {
    let world = World::steps(vec![say("I count.").and("count", json!({"n": 1})), say("done")]);
    let (log, ended) = world.go().await;
    assert_eq!(ended, RunEnd::Done);
    let (kind, name) = log
        .events()
        .into_iter()
        .find_map(|event| match event {
            RunEvent::Block { block, name } => {
                assert_eq!(block.status, BlockStatus::GeneratingArguments);
                Some((block.kind, name))
            }
            _ => None,
        })
        .unwrap();
    let BlockKind::Tool { tool_use_id, tool_name, tool_input, .. } = kind else { panic!() };
    assert_eq!(
        (name, tool_use_id.as_str(), tool_name.as_str()),
        ("call_1".into(), "call_1", "count")
    );
    assert!(tool_input.is_null());
    let patches = log.patches("call_1");
    assert_eq!(
        log.block_states("call_1"),
        [BlockStatus::Pending, BlockStatus::Running, BlockStatus::Done]
    );
    assert_eq!(patches[0].tool_input, Some(json!({"n": 1})));
    assert_eq!(patches[2].tool_output.as_deref(), Some("counted {\"n\":1}"));
    let key = lock(&world.counter.keys)[0].clone();
    assert_eq!(key, format!("{}:call_1", world.run.execution));
}

#[tokio::test]
async fn usage_is_told_with_each_model_step() {
    let world = World::steps(vec![ask("look", json!({})), say("done")]);
    let (log, _) = world.go().await;
    let usages: Vec<_> = lock(&log.said)
        .iter()
        .filter_map(|said| match said {
            crate::world::Said::Step(_, usage) => usage.clone(),
            crate::world::Said::Event(_) => None,
        })
        .collect();
    assert_eq!(usages.len(), 2);
    assert_eq!(
        (usages[0].input_tokens, usages[0].output_tokens, usages[0].cached_tokens),
        (10, 5, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_hangs_is_left() {
    let all = ask("hang", json!({})).and("look_hang", json!({})).and("patient", json!({}));
    let world = World::steps(vec![all, say("done")]);
    let start = tokio::time::Instant::now();
    let (log, ended) = world.go().await;
    assert_eq!((ended, start.elapsed().as_secs()), (RunEnd::Done, 60 + 180));
    let (text, is_error, unknown) = log.result("call_0").unwrap();
    assert_eq!(text, "outcome unknown: it may have run: no answer within 60 s");
    assert!(is_error && unknown);
    assert_eq!(log.block_states("call_0").last(), Some(&BlockStatus::Unknown));
    let (text, is_error, unknown) = log.result("call_1").unwrap();
    assert_eq!((text.as_str(), is_error, unknown), ("no answer within 60 s", true, false));
    assert_eq!(log.result("call_2").unwrap().0, "no answer within 180 s");
}

#[tokio::test]
async fn results_are_capped_for_models_and_people() {
    let world = World::steps(vec![ask("big", json!({})), say("done")]);
    let (log, _) = world.go().await;
    let (text, is_error, _) = log.result("call_0").unwrap();
    assert!(!is_error && text.len() > 60_000 && text.len() < 60_100, "{}", text.len());
    assert!(text.contains("[... 940000 characters left out ...]"));
    let shown = log.patches("call_0").pop().unwrap().tool_output.unwrap();
    assert!(shown.len() <= SHOWN_BYTES_MAX && shown.len() > 60_000);
}

#[tokio::test]
async fn what_goes_wrong_is_told_to_the_model() {
    let answer = ask("count", json!("{\"n\": "))
        .and("no_such_tool", json!({}))
        .and("break", json!({}))
        .and("complain", json!({}));
    let world = World::steps(vec![answer, say("done")]);
    let (log, ended) = world.go().await;
    assert_eq!((ended, world.counter.calls()), (RunEnd::Done, 2));
    let told = |n: usize| log.result(&format!("call_{n}")).unwrap();
    assert_eq!(told(0).0, "the arguments are not a JSON object; nothing was run");
    assert!(told(1).0.starts_with("there is no tool `no_such_tool`; there are: count, "));
    assert_eq!((told(2).0.as_str(), told(3).0.as_str()), ("it broke", "no"));
    assert!((0..4).all(|n| told(n).1 && !told(n).2));
    let next = world.requests().pop().unwrap();
    assert_eq!(next.messages.last().unwrap().parts.len(), 4);
}

#[tokio::test]
async fn read_only_tools_run_together_and_others_alone() {
    let looks = (0..8).fold(ask("look", json!({})), |all, _| all.and("look", json!({})));
    let world = World::steps(vec![looks, say("done")]);
    world.go().await;
    let most = world.counter.active.1.load(Ordering::SeqCst);
    assert!(most > 1 && most <= 8, "{most}");
    let mixed = ask("look", json!({})).and("count", json!({})).and("look", json!({}));
    let world = World::steps(vec![mixed.and("count", json!({})), say("done")]);
    let (log, _) = world.go().await;
    assert_eq!(world.counter.active.1.load(Ordering::SeqCst), 1);
    assert_eq!(log.steps().len(), 6);
}

#[tokio::test]
async fn the_loop_is_bounded() {
    let world = World::new(|request, _| {
        Ok(match request.tool_choice {
            ToolChoice::None => say("what I know"),
            _ => ask("look", json!({})),
        })
    });
    let (log, ended) = world.go().await;
    assert_eq!((ended, world.requests().len()), (RunEnd::Done, 31));
    assert_eq!(log.text(false), "what I know");
    let last = world.requests().pop().unwrap();
    assert!(last.messages.last().unwrap().text().contains("used all your tool calls"));
    assert!(!last.tools.is_empty(), "calls in the conversation want their tools defined");

    let stubborn = World::new(|_, _| Ok(ask("look", json!({}))));
    let (log, ended) = stubborn.go().await;
    assert_eq!((ended, stubborn.requests().len()), (RunEnd::Failed, 31));
    let (kind, text) = log.failed().unwrap();
    assert!(kind == "generic_error" && text.contains("30 model calls"), "{text}");
    assert_eq!(stubborn.counter.calls(), 30);
}

#[tokio::test]
async fn a_paused_answer_goes_on_and_arguments_are_bounded() {
    let world = World::steps(vec![say("half").stopping(StopReason::Pause), say("whole")]);
    let (log, ended) = world.go().await;
    assert_eq!((ended, log.text(false).as_str()), (RunEnd::Done, "half\n\nwhole"));
    let huge = ask("count", json!({"text": "x".repeat(300_000)}));
    let world = World::steps(vec![huge]);
    let (log, ended) = world.go().await;
    assert_eq!((ended, world.counter.calls()), (RunEnd::Failed, 0));
    assert_eq!(log.failed().unwrap().0, "payload_too_large");
}
