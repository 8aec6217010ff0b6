//! A device: who is told what, and when.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use troupe_api::device::DevicePath;
use troupe_domain::{
    device::{Connection, DeviceRefusal, Registration},
    task::AttemptToken,
};
use troupe_entities::{
    DeviceAddress,
    device::{DeviceError, DeviceReply, Found, Has, Hello, Numbered, Offer, Settled, ToDevice},
};
use troupe_store::MemoryStore;
use troupe_testkit::wait_until;
use troupe_types::{Attempt, DeviceId, ExecutionId, SystemClock, TaskId, Uuid};

use crate::host::{Host, PATIENCE, ada, stores};

const SESSION: Uuid = Uuid::from_u128(7);
/// The number of a link's first command.
const FIRST: u64 = 1;

fn hello(dial: u64, has: Vec<Has>) -> Hello {
    let session = Uuid::from_u128(SESSION.as_u128() + u128::from(dial) - 1);
    Hello {
        connection: Connection { session, boot: Uuid::from_u128(1), dial },
        node: "here".to_owned(),
        build: "test".to_owned(),
        found: Found { slots: 2, ..Found::default() },
        has,
        links: Vec::new(),
        begins: true,
    }
}

/// A device of Ada's that is here.
async fn linked(host: &Host) -> DeviceAddress {
    let now = SystemClock::shared().now();
    let id = DeviceId::new(now);
    let address = DeviceAddress::new(host.router.clone(), id);
    let name = "box".to_owned();
    let registration = Registration { id, owner: ada(), name, at: now, task: None };
    address.register(registration).await.unwrap();
    assert!(address.connect(hello(1, Vec::new())).await.unwrap().0.is_empty());
    address
}

fn path() -> DevicePath {
    DevicePath { carrier: "quic".to_owned(), rtt_us: None }
}

fn attempt() -> Has {
    Has { execution: ExecutionId::new(SystemClock::shared().now()), attempt: Attempt(1) }
}

fn offer(has: Has) -> Offer {
    Offer {
        execution: has.execution,
        attempt: has.attempt,
        task: TaskId::new(SystemClock::shared().now()),
        owner: ada(),
        token: AttemptToken::new("token".to_owned()),
        team: "default/dev-team".to_owned(),
        user: "ada".to_owned(),
        spec: "{}".to_owned(),
        secrets: BTreeMap::new(),
    }
}

/// An attempt is offered, and went out to the device as its first command.
async fn given(device: &DeviceAddress, has: Has) -> JoinSet<Result<DeviceReply, DeviceError>> {
    let asked = device.clone();
    let asking = JoinSet::from_iter([async move { asked.offer(offer(has)).await }]);
    let given = device.next(SESSION, 0, path()).await.unwrap();
    assert!(
        matches!(given[..], [Numbered { number: FIRST, what: ToDevice::Assign(_) }]),
        "{given:?}"
    );
    asking
}

/// The device says that it has the attempt; the store holds back what that commits.
async fn taking(
    store: &MemoryStore,
    device: &DeviceAddress,
    has: Has,
) -> JoinSet<Result<(), DeviceError>> {
    store.hold_appends(true);
    let asked = device.clone();
    let taken = Settled::Taken { has, begins: true };
    let taking = JoinSet::from_iter([async move { asked.settled(SESSION, taken).await }]);
    wait_until(PATIENCE, async || store.held_appends() > 0).await;
    taking
}

/// A session that is answered well tells the device to begin: never before it is committed that
/// the device has the attempt, and never for one that was given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_took_is_its_own_once_that_is_committed() {
    let (store, stores) = stores();
    let host = Host::start(&stores).await;
    let device = linked(&host).await;
    let has = attempt();
    let mut asking = given(&device, has).await;

    let mut taking = taking(&store, &device, has).await;
    assert!(taking.try_join_next().is_none() && asking.try_join_next().is_none());
    store.hold_appends(false);
    taking.join_next().await.unwrap().unwrap().unwrap();
    let told = asking.join_next().await.unwrap().unwrap().unwrap();
    assert!(matches!(told, DeviceReply::Offered { .. }), "{told:?}");
    // Said again, it is as true.
    device.settled(SESSION, Settled::Taken { has, begins: true }).await.unwrap();

    let gone = attempt();
    let told = device.settled(SESSION, Settled::Taken { has: gone, begins: true }).await;
    let refused = DeviceError::Refused(DeviceRefusal::NotFound);
    assert_eq!(told.unwrap_err().to_string(), refused.to_string());
    // Sessions of nodes before that was asked do not know of a refusal.
    device.settled(SESSION, Settled::Taken { has: gone, begins: false }).await.unwrap();
    let told = device.next(SESSION, FIRST, path()).await.unwrap();
    let forgets = |what: &ToDevice| matches!(what, ToDevice::Forget { has, .. } if *has == gone);
    assert!(told.iter().all(|one| forgets(&one.what)) && told.len() == 2, "{told:?}");
    host.drain().await;
}

/// The session of a device that came back: what it has begins only if its Task wants it still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_task_wants_any_more_does_not_begin_with_the_next_link() {
    let (_store, stores) = stores();
    let host = Host::start(&stores).await;
    let device = linked(&host).await;
    let has = attempt();
    let _asking = given(&device, has).await;
    // Cut before it could say so; no such Task is there any more.
    let again = hello(2, vec![has]);
    let session = again.connection.session;
    let (running, begins) = device.connect(again).await.unwrap();
    assert!(running.len() == 1 && begins, "{running:?}");
    let told = device.next(session, 0, path()).await.unwrap();
    let cancels =
        |what: &ToDevice| matches!(what, ToDevice::Input { kind, .. } if kind == "cancel");
    assert!(told.len() == 1 && cancels(&told[0].what), "{told:?}");
    host.drain().await;
}

/// However long the store takes to commit it: what a device has said that it has is its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_in_time_is_not_withdrawn_while_that_is_written() {
    let (store, stores) = stores();
    let host = Host::start(&stores).await;
    let device = linked(&host).await;
    let has = attempt();
    let began = Instant::now();
    let mut asking = given(&device, has).await;
    let mut taking = taking(&store, &device, has).await;
    // Longer than an offer waits for a device.
    wait_until(PATIENCE, async || began.elapsed() > Duration::from_secs(12)).await;
    store.hold_appends(false);
    // A session asks again when nobody answers.
    let _gave_up = taking.join_next().await;
    device.settled(SESSION, Settled::Taken { has, begins: true }).await.unwrap();
    let told = asking.join_next().await.unwrap().unwrap().unwrap();
    assert!(matches!(told, DeviceReply::Offered { .. }), "{told:?}");
    let DeviceReply::Probed { token, .. } = device.probe(Some(has)).await.unwrap() else {
        panic!("no answer to a probe");
    };
    assert!(token.is_some(), "it has it");
    host.drain().await;
}
