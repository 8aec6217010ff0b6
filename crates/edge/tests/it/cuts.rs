//! Random cuts on the in-memory link: every output exactly once, in order.
//!
//! `cargo xtask test random_cuts --long` makes 100,000 of them; the default is what fits beside
//! the other tests.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use troupe_wire::device::EndedHow;

use crate::{
    engine::Script,
    owner::{SERVER, World, assignment, until},
};

/// Cuts of the short form.
const CUTS: u64 = 300;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

fn cuts() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "how long a test runs is told to the test")]
    let told = std::env::var("TROUPE_EDGE_CUTS");
    told.ok().and_then(|told| told.parse().ok()).unwrap_or(CUTS)
}

#[tokio::test(start_paused = true)]
async fn random_cuts_lose_nothing_and_double_nothing() {
    let cuts = cuts();
    let (world, engine) = (World::new(), Arc::new(Script::default()));
    // Syncs are not what is tested here.
    let dir = tempfile::Builder::new().tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let dir = dir.unwrap();
    let agent = world.agent(dir.path(), engine.clone()).await;
    let seed = 20_261_130;
    let mut dice = Dice(seed);
    let (mut done, mut total) = (0, 0_usize);
    let mut keys = Vec::new();
    let real = std::time::Instant::now();
    while done < cuts {
        for _ in 0..3 {
            let n = 20 + dice.roll(200);
            total += usize::try_from(n).unwrap();
            keys.push(world.owner.assign(assignment(&format!("say:{n}"))).await);
        }
        // Cut until all three are over.
        let open = |keys: &[_]| keys.iter().any(|key| !world.owner.kept().ended.contains_key(key));
        let begun = Instant::now();
        let mut here = 0;
        while open(&keys) || here < 10 {
            assert!(begun.elapsed() < Duration::from_secs(3_600), "seed {seed}: no end");
            let [from, more] = [3_000, 20_000].map(|most| Duration::from_micros(dice.roll(most)));
            world.hub.delay(&world.name(), SERVER, from, more, dice.roll(u64::MAX >> 34));
            sleep(Duration::from_micros(dice.roll(400_000))).await;
            if dice.roll(20) == 0 {
                world.hub.cut(&world.name(), SERVER, true);
                sleep(Duration::from_millis(dice.roll(6_000))).await;
                world.hub.cut(&world.name(), SERVER, false);
            } else {
                world.hub.sever(&world.name(), SERVER);
            }
            done += 1;
            here += 1;
            if done % 1_000 == 0 {
                println!("{done} of {cuts} cuts after {} s", real.elapsed().as_secs());
            }
        }
        for key in keys.drain(..) {
            let ended = world.owner.ended(key).await;
            assert_eq!(ended.how, EndedHow::Finished, "seed {seed}");
            let owner = world.owner.clone();
            until("all of it", || {
                let outputs = owner.kept().outputs.get(&key).map_or(0, Vec::len);
                u64::try_from(outputs).unwrap() == ended.last.0
            })
            .await;
            let (text, answer) = world.owner.answer(key);
            assert_eq!(answer.as_deref(), Some(text.as_str()), "seed {seed}");
            let expected: String =
                (0..text.split_whitespace().count()).map(|n| format!("{n} ")).collect();
            assert_eq!(text, expected, "seed {seed}");
            let mut kept = world.owner.kept();
            kept.outputs.remove(&key);
            kept.checked.insert(key, ended.last.0);
        }
    }
    until("it is quiet", || engine.running.load(Ordering::SeqCst) == 0).await;
    assert_eq!(engine.said.load(Ordering::SeqCst), total, "seed {seed}");
    let (hellos, doubles) = {
        let kept = world.owner.kept();
        (kept.hellos.len(), kept.doubles)
    };
    println!("{done} cuts, {hellos} hellos, {total} outputs, {doubles} doubles");
    agent.stop().await;
}
