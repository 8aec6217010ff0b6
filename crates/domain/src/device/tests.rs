use proptest::prelude::*;

use super::*;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn assigned(attempt: u32) -> Assigned {
    Assigned {
        attempt: Attempt(attempt),
        task: TaskId::from_uuid(id(1)),
        token: AttemptToken::new("token".to_owned()),
        team: "default/dev-team".to_owned(),
        user: "ada".to_owned(),
        spec: "{}".to_owned(),
        packages: Vec::new(),
        secrets: BTreeMap::new(),
        taken: false,
        since: Timestamp::from_millis(0),
    }
}

fn owner(n: u128) -> UserId {
    UserId::from_uuid(id(n))
}

fn registered() -> DeviceState {
    let mut state = DeviceState::default();
    let registration = Registration {
        id: DeviceId::from_uuid(id(9)),
        owner: owner(1),
        name: "laptop".to_owned(),
        at: Timestamp::from_millis(0),
        task: None,
    };
    let event = state.register(registration).unwrap().unwrap();
    state.apply(&event);
    state
}

#[derive(Clone, Debug)]
enum Step {
    Assign { owner: u128, execution: u128, attempt: u32, offered: u16 },
    Taken { execution: u128, attempt: u32 },
    End { execution: u128, attempt: u32 },
    Change { slots: Option<u16>, draining: bool },
    Revoke,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..3_u128, 0..8_u128, 1..3_u32, 1..30_u16).prop_map(
            |(owner, execution, attempt, offered)| Step::Assign {
                owner, execution, attempt, offered
            }
        ),
        4 => (0..8_u128, 1..3_u32)
            .prop_map(|(execution, attempt)| Step::Taken { execution, attempt }),
        4 => (0..8_u128, 1..3_u32).prop_map(|(execution, attempt)| Step::End { execution, attempt }),
        2 => (proptest::option::of(0..25_u16), any::<bool>())
            .prop_map(|(slots, draining)| Step::Change { slots, draining }),
        1 => Just(Step::Revoke),
    ]
}

/// What a step leads to; a refusal leads to nothing.
fn decide(state: &DeviceState, step: &Step) -> Option<DeviceEvent> {
    match *step {
        Step::Assign { owner: of, execution, attempt, offered } => {
            let execution = ExecutionId::from_uuid(id(execution));
            let before = state.assignments.len();
            let event =
                state.assign(owner(of), offered, execution, assigned(attempt)).ok().flatten();
            if event.is_some() {
                assert_eq!(of, 1, "a device works for its owner only");
                assert!(!state.revoked && !state.settings.draining);
                assert!(before < usize::from(state.slots(offered)), "no slot was free");
            }
            event
        }
        Step::Taken { execution, attempt } => {
            let execution = ExecutionId::from_uuid(id(execution));
            Some(DeviceEvent::Taken { execution, attempt: Attempt(attempt) })
        }
        Step::End { execution, attempt } => {
            state.end(ExecutionId::from_uuid(id(execution)), Attempt(attempt))
        }
        Step::Change { slots, draining } => {
            let settings = Settings { slots, draining, ..Settings::default() };
            state.change(settings).ok().flatten()
        }
        Step::Revoke => Some(DeviceEvent::Revoked { gone: None }),
    }
}

proptest! {
    #[test]
    fn slots_and_owners_hold_and_replay_is_the_same(steps in prop::collection::vec(step(), 0..60)) {
        let mut state = registered();
        let mut replayed = state.clone();
        let mut events = Vec::new();
        for step in &steps {
            let Some(event) = decide(&state, step) else { continue };
            state.apply(&event);
            events.push(event);
            prop_assert!(state.assignments.len() <= usize::from(SLOTS_MAX));
            for held in state.assignments.values() {
                prop_assert!(held.spec.is_empty() == held.taken, "a taken one goes out no more");
            }
        }
        for event in &events {
            let json = serde_json::to_vec(event).unwrap();
            replayed.apply(&serde_json::from_slice(&json).unwrap());
        }
        prop_assert_eq!(state, replayed);
    }

    #[test]
    fn of_two_links_one_wins_whatever_the_order(a in 0..5_u64, b in 0..5_u64, same in any::<bool>()) {
        prop_assume!(a != b);
        let one = Connection { session: id(1), boot: id(7), dial: a };
        let two = Connection { session: id(2), boot: if same { id(7) } else { id(8) }, dial: b };
        if same {
            prop_assert!(one.supersedes(&two) != two.supersedes(&one));
            prop_assert_eq!(two.supersedes(&one), b > a);
        } else {
            prop_assert!(two.supersedes(&one), "the one that comes later is the newer one");
        }
    }

    #[test]
    fn a_lease_ends_late_enough(activated in 0..10_000_u64, heard in 0..10_000_u64, after in 0..10_000_u64) {
        let at = |s: u64| MonoTime::ZERO.plus(Duration::from_secs(s));
        let mut lease = Lease::new(at(activated), LEASE);
        lease.heard(at(activated + heard));
        let now = at(activated + heard + after);
        prop_assert_eq!(lease.is_over(now), after >= LEASE.as_secs() && heard + after >= 60);
    }
}

#[test]
fn a_field_out_of_bounds_is_named() {
    let state = registered();
    let settings = Settings { slots: Some(21), ..Settings::default() };
    let refused = state.change(settings).unwrap_err();
    assert!(matches!(refused, DeviceRefusal::Invalid { ref field, .. } if field == "slots"));
}
