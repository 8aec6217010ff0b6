//! A device: who is told what, and when.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use troupe_api::device::DevicePath;
use troupe_domain::{
    device::{Connection, DeviceRefusal, Registration},
    task::AttemptToken,
};
use troupe_entities::{
    DeviceAddress,
    device::{DeviceError, DeviceReply, Found, Has, Hello, Offer, Settled, ToDevice},
};
use troupe_testkit::wait_until;
use troupe_types::{Attempt, DeviceId, ExecutionId, SystemClock, TaskId, Uuid};

use crate::host::{Host, PATIENCE, ada, stores};

const SESSION: Uuid = Uuid::from_u128(7);

/// A device of Ada's that is here.
async fn linked(host: &Host) -> DeviceAddress {
    let now = SystemClock::shared().now();
    let id = DeviceId::new(now);
    let address = DeviceAddress::new(host.router.clone(), id);
    let name = "box".to_owned();
    let registration = Registration { id, owner: ada(), name, at: now, task: None };
    address.register(registration).await.unwrap();
    let hello = Hello {
        connection: Connection { session: SESSION, boot: Uuid::from_u128(1), dial: 1 },
        node: "here".to_owned(),
        build: "test".to_owned(),
        found: Found { slots: 2, ..Found::default() },
        has: Vec::new(),
        links: Vec::new(),
    };
    assert!(address.connect(hello).await.unwrap().is_empty());
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

/// A session that is answered well tells the device to begin: never before it is committed that
/// the device has the attempt, and never for one that was given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_took_is_its_own_once_that_is_committed() {
    let (store, stores) = stores();
    let host = Host::start(&stores).await;
    let device = linked(&host).await;
    let has = attempt();
    let mut asking = JoinSet::new();
    let asked = device.clone();
    asking.spawn(async move { asked.offer(offer(has)).await });
    let given = device.next(SESSION, 0, path()).await.unwrap();
    assert!(matches!(given[0].what, ToDevice::Assign(_)), "{given:?}");

    store.hold_appends(true);
    let mut taking = JoinSet::new();
    let asked = device.clone();
    taking.spawn(async move { asked.settled(SESSION, Settled::Taken { has, begins: true }).await });
    wait_until(PATIENCE, async || store.held_appends() > 0).await;
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
    let told = device.next(SESSION, given[0].number, path()).await.unwrap();
    let forgets = |what: &ToDevice| matches!(what, ToDevice::Forget { has, .. } if *has == gone);
    assert!(told.iter().all(|one| forgets(&one.what)) && told.len() == 2, "{told:?}");
    host.drain().await;
}
