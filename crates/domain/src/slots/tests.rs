use proptest::prelude::*;

use super::*;

fn task(n: u8) -> TaskId {
    TaskId::derived(&["task", &n.to_string()])
}

fn owner(n: u8) -> UserId {
    UserId::derived(&["owner", &n.to_string()])
}

fn at(secs: u64) -> MonoTime {
    MonoTime::default().plus(Duration::from_secs(secs))
}

#[test]
fn a_free_slot_goes_to_the_owner_with_the_fewest() {
    let mut slots = TeamSlots::new(2);
    let mut told = Vec::new();
    for n in 0..4 {
        slots.acquire(task(n), owner(0), at(0), &mut told);
    }
    let late = slots.acquire(task(9), owner(1), at(1), &mut told);
    assert_eq!(late, Slot::Queued { position: 1, running: 2, limit: 2 });
    assert_eq!(slots.why(task(2)), Some(Slot::Queued { position: 2, running: 2, limit: 2 }));
    slots.release(task(0), at(2), &mut told);
    assert_eq!(told, [task(9)]);
    slots.release(task(1), at(2), &mut told);
    assert_eq!(told, [task(9), task(2)]);
}

#[test]
fn a_lease_that_is_not_renewed_ends() {
    let mut slots = TeamSlots::new(1);
    let mut told = Vec::new();
    assert_eq!(slots.acquire(task(0), owner(0), at(0), &mut told), Slot::Granted);
    slots.acquire(task(1), owner(0), at(30), &mut told);
    slots.acquire(task(2), owner(0), at(30), &mut told);
    slots.renew(task(0), owner(0), at(40));
    assert_eq!(slots.next_expiry(), Some(at(90)));
    slots.acquire(task(2), owner(0), at(80), &mut told);
    slots.expire(at(101), &mut told);
    assert_eq!(told, [task(2)], "the first that waited did not ask again");
}

#[test]
fn a_renewal_succeeds_above_the_limit() {
    let mut slots = TeamSlots::new(1);
    let mut told = Vec::new();
    slots.acquire(task(0), owner(0), at(0), &mut told);
    slots.renew(task(1), owner(0), at(0));
    assert_eq!(slots.running(), 2);
    slots.acquire(task(2), owner(1), at(0), &mut told);
    slots.release(task(0), at(1), &mut told);
    assert!(told.is_empty(), "the limit is still reached");
    slots.release(task(1), at(1), &mut told);
    assert_eq!(told, [task(2)]);
}

proptest! {
    #[test]
    fn free_slots_never_idle_and_the_limit_holds(
        limit in 1u32..4,
        steps in prop::collection::vec((0u8..4, 0u8..8, 0u8..3, 0u64..30), 1..80),
    ) {
        let mut slots = TeamSlots::new(limit);
        let mut now = 0;
        let mut running = std::collections::BTreeSet::new();
        for (what, who, whose, passed) in steps {
            now += passed;
            let mut told = Vec::new();
            match what {
                0 | 1 => {
                    if slots.acquire(task(who), owner(whose), at(now), &mut told) == Slot::Granted {
                        running.insert(task(who));
                    }
                }
                2 => slots.release(task(who), at(now), &mut told),
                _ => slots.expire(at(now), &mut told),
            }
            let ids: std::collections::BTreeSet<_> = told.iter().collect();
            prop_assert_eq!(ids.len(), told.len(), "nobody is told twice");
            running.extend(told);
            running.retain(|t| slots.why(*t) == Some(Slot::Granted));
            prop_assert_eq!(running.len(), slots.running(), "every grant was told");
            prop_assert!(slots.running() <= usize::try_from(limit).unwrap());
            prop_assert!(slots.waiting() == 0 || slots.running() == usize::try_from(limit).unwrap());
        }
    }
}
