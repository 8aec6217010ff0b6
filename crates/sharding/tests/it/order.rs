//! Order under random crashes, as a property.

use std::time::Duration;

use proptest::prelude::*;
use troupe_actor::TaskHandle;
use troupe_sharding::AskError;
use troupe_types::EntityId;

use crate::counter::{Fixture, entity, start};

/// One step of a scenario.
#[derive(Clone, Debug)]
enum Step {
    /// Adds the step's number.
    Add { to: u8 },
    /// The same, with so many crashes before it works; some of them after the append.
    Fragile { to: u8, crashes: usize },
    /// Makes the entity crash by itself.
    InternalCrash { to: u8 },
    /// Answers, then crashes.
    AnswerCrash { to: u8 },
    /// Lets all idle ones passivate.
    Idle,
    /// The next activations fail.
    FailActivations(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let to = 0..3_u8;
    prop_oneof![
        6 => to.clone().prop_map(|to| Step::Add { to }),
        4 => (to.clone(), 0..5_usize).prop_map(|(to, crashes)| Step::Fragile { to, crashes }),
        1 => to.clone().prop_map(|to| Step::InternalCrash { to }),
        1 => to.prop_map(|to| Step::AnswerCrash { to }),
        1 => Just(Step::Idle),
        1 => (0..2_usize).prop_map(Step::FailActivations),
    ]
}

fn target(to: u8) -> EntityId {
    entity(u128::from(to) + 1)
}

type Sent = (EntityId, String, TaskHandle<Result<String, AskError>>);

/// Sends everything without waiting for answers; each ask is admitted before the next one.
async fn send(f: &Fixture, steps: &[Step]) -> Vec<Sent> {
    let mut sent = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        let (to, command, word) = match step {
            Step::Add { to } => (*to, format!("add {n}"), n.to_string()),
            Step::Fragile { to, crashes } => {
                f.world.fragile.lock().unwrap().insert(n.to_string(), *crashes);
                (*to, format!("fragile {n}"), n.to_string())
            }
            Step::InternalCrash { to } => (*to, "internal-crash".to_owned(), String::new()),
            Step::AnswerCrash { to } => (*to, "answer-crash".to_owned(), String::new()),
            Step::Idle => {
                f.clock.advance(Duration::from_secs(121));
                continue;
            }
            Step::FailActivations(count) => {
                f.world.fail_activations.store(*count, std::sync::atomic::Ordering::SeqCst);
                continue;
            }
        };
        let ask = f.ask_later(target(to), &command);
        // The runtime has one thread and runs tasks in order: the ask is admitted now.
        tokio::task::yield_now().await;
        sent.push((target(to), word, ask));
    }
    sent
}

async fn scenario(steps: Vec<Step>) {
    let f = start().await;
    let mut expected: Vec<(EntityId, String, bool)> = Vec::new();
    for (to, word, ask) in send(&f, &steps).await {
        let answer = ask.await.unwrap();
        let certain = match &answer {
            Ok(_) => true,
            Err(AskError::Failed(why)) => {
                assert_eq!(why.code, "poisoned");
                false
            }
            // An answered message whose activation went down with it, or never came up.
            Err(AskError::OutcomeUnknown | AskError::NotDelivered) => false,
            Err(AskError::Overloaded) => panic!("never that many"),
        };
        if !word.is_empty() {
            expected.push((to, word, certain));
        }
    }
    f.world.fail_activations.store(0, std::sync::atomic::Ordering::SeqCst);
    for to in (0..3).map(target) {
        let words = f.ask(to, "get").await.unwrap();
        let words: Vec<_> = words.split_whitespace().collect();
        let numbers: Vec<usize> = words.iter().map(|word| word.parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "in order and once: {numbers:?}");
        for (_, word, certain) in expected.iter().filter(|(id, ..)| *id == to) {
            assert!(!certain || words.contains(&word.as_str()), "{word} was acked: {words:?}");
        }
    }
    f.no_overlap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn messages_take_effect_in_order_and_acked_ones_stay(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(scenario(steps));
    }
}
