//! The targets hold on their seeds and on simple damage to them: cut, doubled, one bit turned.

use troupe_fuzz::{documents, frames, payloads, records, seeds};

fn run(target: &str, bytes: &[u8]) {
    match target {
        "documents" => documents::run(bytes),
        "frames" => frames::run(bytes),
        "payloads" => payloads::run(bytes),
        "records" => records::run(bytes),
        other => panic!("{other} is not run by this test"),
    }
}

#[test]
fn every_target_holds_on_its_seeds() {
    for target in seeds::TARGETS {
        let seeds = seeds::of(target).unwrap();
        assert!(seeds.len() >= 30, "{target} starts from {} seeds", seeds.len());
        for seed in &seeds {
            run(target, seed);
        }
    }
}

#[test]
fn every_target_holds_on_damaged_seeds() {
    for target in seeds::TARGETS {
        for seed in seeds::of(target).unwrap() {
            let step = (seed.len() / 24).max(1);
            for at in (0..seed.len()).step_by(step) {
                run(target, &seed[..at]);
                let mut turned = seed.clone();
                turned[at] ^= 1 << (at % 8);
                run(target, &turned);
            }
            run(target, &[seed.clone(), seed].concat());
        }
    }
}

/// A seed that nothing reads is no start: each payload is read by at least one type.
#[test]
fn records_of_the_seeds_are_read() {
    use troupe_domain::{namespace::NamespaceEntry, task::TaskEntry};
    use troupe_records::{decode, never_upgrades};
    let lines: Vec<Vec<u8>> = seeds::of("records")
        .unwrap()
        .iter()
        .flat_map(|seed| seed.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>())
        .collect();
    let tasks = lines.iter().filter(|l| decode::<TaskEntry>(1, l, never_upgrades).is_ok()).count();
    let namespaces =
        lines.iter().filter(|l| decode::<NamespaceEntry>(1, l, never_upgrades).is_ok()).count();
    assert!(tasks >= 60, "{tasks} entries of Tasks");
    assert!(namespaces >= 2, "{namespaces} entries of Namespaces");
}

#[test]
fn frames_of_the_seeds_are_read() {
    use troupe_wire::{Batch, Welcome};
    let seeds = seeds::of("frames").unwrap();
    let batches = seeds.iter().filter(|seed| Batch::decode(seed.to_vec().into()).is_ok()).count();
    let hellos = seeds.iter().filter(|seed| Welcome::decode(seed.to_vec().into()).is_ok()).count();
    assert!(batches >= 28, "{batches} batches");
    assert!(hellos >= 2, "{hellos} hellos");
}
