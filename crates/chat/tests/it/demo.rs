//! The model that every newcomer meets, in every place of a team.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use troupe_chat::{HistoryItem, ModelFactory, NoSecrets, RunEnd, ToolRegistry};
use troupe_domain::task::{LeaderDecision, ModelPlan, RunEvent, Work};
use troupe_llm::{DemoProvider, ModelError, Provider};
use troupe_types::MessageKind;

use crate::world::{Log, chat_run, clock, services, team};

#[derive(Debug)]
struct Demo;

impl ModelFactory for Demo {
    fn provider(&self, _: &ModelPlan) -> Result<Arc<dyn Provider>, ModelError> {
        Ok(Arc::new(DemoProvider::new("demo-fast", 0)))
    }
}

async fn go(work: Work, text: &str) -> (Arc<Log>, String, Option<LeaderDecision>) {
    let services = services(Arc::new(Demo), ToolRegistry::standard(clock()), Arc::new(NoSecrets));
    let mut run = chat_run();
    run.plan = Arc::new(team(&["lead", "ann", "bob"]));
    let person = HistoryItem::Person { name: "Eve".into(), text: text.into() };
    let (name, kind) = ("ann".to_owned(), MessageKind::Answer);
    let member = HistoryItem::Member { name, index: 1, kind, text: "my part".into() };
    run.conversation.items = match work {
        Work::Merge | Work::Conclusion => vec![person, member],
        _ => vec![person],
    };
    run.work = work;
    let log = Log::new(usize::MAX);
    let ended = troupe_chat::run(run, &services, &*log, CancellationToken::new()).await;
    assert_eq!(ended, RunEnd::Done, "{:?}", log.failed());
    let Some(RunEvent::Done { answer, decision, .. }) = log.done() else { panic!() };
    assert_eq!(answer, log.text(false));
    (log, answer, decision)
}

#[tokio::test]
async fn it_fills_every_place_of_a_team() {
    let (_, answer, decision) = go(Work::Choose, "ask bob").await;
    assert!(answer.contains("bob"), "{answer}");
    assert!(
        matches!(decision, Some(LeaderDecision::ChooseMember { member, .. }) if member == "bob")
    );
    let (_, answer, decision) = go(Work::Split, "build it").await;
    assert!(matches!(decision, Some(LeaderDecision::SplitWork { items }) if items.len() == 2));
    assert!(answer.contains("**ann**"), "{answer}");
    let (_, _, decision) = go(Work::Discuss { round: 1 }, "what now").await;
    assert!(matches!(decision, Some(LeaderDecision::Conclude { done: true, .. })));
    for work in [Work::Answer, Work::Stage { stage: 0 }, Work::Merge, Work::Conclusion] {
        let (_, answer, decision) = go(work, "你好").await;
        assert!(!answer.is_empty() && decision.is_none());
    }
}

#[tokio::test]
async fn it_calls_the_clock_when_asked_for_the_time() {
    let (log, answer, _) = go(Work::Answer, "what time is it?").await;
    assert_eq!(log.steps().len(), 3);
    assert!(answer.contains("2026-11-18"), "{answer}");
}
