//! Links of devices over entities that answer as a test wants, and the door for strangers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    io::AsyncWriteExt as _,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use troupe_api::device::InviteDevice;
use troupe_domain::{device::DeviceRefusal, task::AttemptToken};
use troupe_entities::{
    device::{DEVICES_MAX, DeviceAsk, DeviceReply, DeviceRow, Has, Running, Settled},
    task::{TaskAsk, TaskReply},
};
use troupe_link::{
    Carrier, LinkOptions, MemoryHub, MemoryNetwork, Network, Purpose,
    device::{
        Credits, DeviceAuthority, DeviceCa, DeviceIdentity, DeviceKey, DeviceLink, Dialler,
        EdgeDialler, EdgeListener, EdgeListenerOptions, EnrolFacts, Invitation, QuicEdgeNetwork,
        Redemption, device_cert_name, enrol, greet, read_frame, write_frame,
    },
};
use troupe_services::devices::{Authority, Devices, EdgePoint, LiveDevices, Sessions};
use troupe_sharding::{
    Crash, Entity, EntityContext, EntityFactory, FailedAsk, FrameSink, RegisteredKind, Reply,
    Router, ShardHost,
};
use troupe_store::{BlobHash, DirectoryTable, MemoryStore, RowWrite, Stores};
use troupe_testkit::wait_until;
use troupe_types::{
    Attempt, Clock, DeviceId, EntityId, EntityKind, ExecutionId, OutSeq, SystemClock, TaskId,
    Timestamp, UserId, Uuid,
};
use troupe_wire::{
    Credit,
    device::{
        AssignmentAnswer, Attach, AttemptKey, Capabilities, DeviceFrame, DeviceHello,
        EnrolRefusalReason, ExecutionReport, ExecutionState, Output, PackageWanted, Ping,
        limits::{
            DEVICE_CREDIT_ITEMS, PACKAGE_PART_BYTES_MAX, TO_DEVICE_CREDIT_BYTES,
            TO_DEVICE_CREDIT_ITEMS,
        },
    },
};

use super::host::{PATIENCE, ann, shard_host};

const DOOR: &str = "door";

/// What the entities of a test do.
#[derive(Debug, Default)]
struct World {
    /// Tasks that take no output.
    stuck: BTreeSet<Uuid>,
    /// Numbers of what was taken, by Task.
    taken: BTreeMap<Uuid, Vec<u64>>,
    /// What a device may speak for.
    running: Vec<Running>,
    /// Devices answer nothing well.
    is_down: bool,
    /// What devices say that they took is not committed.
    undecided: bool,
    /// Attempts that were given up.
    given_up: BTreeSet<ExecutionId>,
    /// The package that jobs bring.
    package: String,
    registered: BTreeSet<Uuid>,
}

type Shared = Arc<Mutex<World>>;

#[derive(Debug)]
struct Fakes(EntityKind, Shared);

/// An entity that keeps nothing.
struct Fake {
    id: EntityId,
    world: Shared,
    held: Option<Reply>,
}

fn busy(reply: Reply) {
    let (code, message) = ("busy".to_owned(), "not now".to_owned());
    reply.refuse(FailedAsk { code, message, detail: None });
}

impl Fake {
    fn task(&self, ask: TaskAsk, reply: Reply) {
        let mut world = self.world.lock().unwrap();
        let TaskAsk::DeviceOutput { first, events, .. } = ask else { return busy(reply) };
        if world.stuck.contains(&self.id.id) {
            return busy(reply);
        }
        let taken = world.taken.entry(self.id.id).or_default();
        for number in (first.0..).take(events.len()) {
            let next = taken.last().map_or(1, |last| last + 1);
            assert!(number <= next, "a gap before {number}");
            if number == next {
                taken.push(number);
            }
        }
        let answer = serde_json::to_vec(&TaskReply::DeviceOutput { live: true }).unwrap();
        reply.ok(answer.into());
    }

    fn device(&mut self, ask: &DeviceAsk, reply: Reply) {
        let mut world = self.world.lock().unwrap();
        if world.is_down {
            return busy(reply);
        }
        let is_registered = world.registered.contains(&self.id.id);
        let answer = match ask {
            DeviceAsk::Next { .. } => {
                self.held = Some(reply);
                return;
            }
            DeviceAsk::Connect { .. } => {
                DeviceReply::Connected { running: world.running.clone(), begins: false }
            }
            DeviceAsk::Register { .. } => {
                world.registered.insert(self.id.id);
                DeviceReply::Ok
            }
            DeviceAsk::Revoke { .. } if !is_registered => {
                DeviceReply::Refused { refusal: DeviceRefusal::NotFound }
            }
            DeviceAsk::Probe { .. } => DeviceReply::Probed {
                view: None,
                owner: None,
                settings: Default::default(),
                token: None,
                pending: false,
                worked: false,
            },
            DeviceAsk::Settled { settled: Settled::Taken { .. }, .. } if world.undecided => {
                return busy(reply);
            }
            DeviceAsk::Settled { settled: Settled::Taken { has, begins: true }, .. }
                if world.given_up.contains(&has.execution) =>
            {
                DeviceReply::Refused { refusal: DeviceRefusal::NotFound }
            }
            DeviceAsk::Package { hash, .. } if *hash != world.package => {
                DeviceReply::Refused { refusal: DeviceRefusal::NotFound }
            }
            _ => DeviceReply::Ok,
        };
        reply.ok(serde_json::to_vec(&answer).unwrap().into());
    }
}

#[async_trait]
impl EntityFactory for Fakes {
    type Entity = Fake;

    fn kind(&self) -> EntityKind {
        self.0
    }

    fn idle_for(&self) -> Duration {
        PATIENCE
    }

    async fn activate(&self, context: EntityContext<()>) -> Result<Fake, Crash> {
        Ok(Fake { id: context.id, world: Arc::clone(&self.1), held: None })
    }
}

#[async_trait]
impl Entity for Fake {
    type Internal = ();

    async fn ask(&mut self, body: Bytes, reply: Reply) -> Result<(), Crash> {
        match self.id.kind {
            EntityKind::Task => self.task(serde_json::from_slice(&body).unwrap(), reply),
            _ => self.device(&serde_json::from_slice(&body).unwrap(), reply),
        }
        Ok(())
    }

    async fn subscribe(&mut self, _: Bytes, _: FrameSink, reply: Reply) -> Result<(), Crash> {
        busy(reply);
        Ok(())
    }

    async fn internal(&mut self, (): ()) -> Result<(), Crash> {
        Ok(())
    }

    async fn wake(&mut self) -> Result<(), Crash> {
        Ok(())
    }

    fn is_idle(&self) -> bool {
        false
    }

    async fn drain(&mut self) -> Result<(), Crash> {
        Ok(())
    }

    async fn close(&mut self) {}
}

/// A node with such entities, and what stands at its door.
struct Node {
    world: Shared,
    stores: Stores,
    router: Router,
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    ca: Arc<DeviceCa>,
    _host: ShardHost,
}

impl Node {
    async fn start() -> Self {
        let (world, stores) = (Shared::default(), MemoryStore::new().stores());
        let clock: Arc<dyn Clock> = SystemClock::shared();
        let router = Router::new();
        let kinds = [EntityKind::Task, EntityKind::Device];
        let kinds = kinds.map(|kind| RegisteredKind::new(Fakes(kind, Arc::clone(&world))));
        let host = shard_host(&stores, &clock, &router, kinds.into()).await;
        let directory = Arc::clone(&stores.directory);
        let authority = Authority::new(directory, router.clone(), Arc::clone(&clock), Vec::new());
        let ca = Arc::new(DeviceCa::create("test", clock.now()).unwrap());
        let authority = Arc::new(authority);
        Self { world, stores, router, authority, clock, ca, _host: host }
    }

    fn devices(&self, port: u16) -> LiveDevices {
        let fingerprint = self.ca.fingerprint();
        let point = EdgePoint { host: "127.0.0.1".to_owned(), port, fingerprint };
        let (directory, router) = (Arc::clone(&self.stores.directory), self.router.clone());
        let authority = Arc::clone(&self.authority);
        LiveDevices::new(directory, router, Arc::clone(&self.clock), authority, Some(point))
    }

    fn listener(&self, options: EdgeListenerOptions) -> Arc<EdgeListener> {
        let asked: Arc<dyn DeviceAuthority> = Arc::<Authority>::clone(&self.authority);
        EdgeListener::new(options, Arc::clone(&self.ca), asked, Arc::clone(&self.clock))
    }

    /// What was refused, as the audit log has it: outcome, and of which device.
    async fn audit(&self) -> Vec<(String, String)> {
        let directory = &self.stores.directory;
        let rows = directory.list(DirectoryTable::Audit, None, None, 100).await.unwrap();
        let entry = |row: &troupe_store::DirectoryRow| -> (String, String) {
            let row: serde_json::Value = serde_json::from_slice(&row.body).unwrap();
            assert_eq!(row["action"], "join_device");
            let text = |field: &str| row[field].as_str().unwrap().to_owned();
            (text("outcome"), text("target"))
        };
        rows.iter().map(entry).collect()
    }
}

/// A device with attempts of two Tasks, over a link in memory.
struct Device {
    network: MemoryNetwork,
    id: DeviceId,
    attempts: [(AttemptKey, TaskId); 2],
    door: std::net::SocketAddr,
    _serving: JoinSet<()>,
}

impl Device {
    async fn of(node: &Node) -> Self {
        let now = node.clock.now();
        let id = DeviceId::new(now);
        node.authority.enrol_built_in(id, ann().user, "box").await.unwrap();
        let attempt = || {
            let execution = ExecutionId::new(now);
            (AttemptKey { execution, attempt: Attempt(1) }, TaskId::new(now))
        };
        let attempts = [attempt(), attempt()];
        let running = attempts.map(|(key, task)| Running {
            has: Has { execution: key.execution, attempt: key.attempt },
            task,
            token: AttemptToken::new("token".to_owned()),
        });
        node.world.lock().unwrap().running = running.into();
        let hub = MemoryHub::new();
        let inside: Arc<dyn Network> = Arc::new(hub.edge_network(DOOR, LinkOptions::default()));
        let door = inside.local_addr().unwrap();
        let (give, links) = mpsc::channel(4);
        let mut serving = JoinSet::new();
        let (authority, blobs) = (Arc::clone(&node.authority), Arc::clone(&node.stores.blobs));
        let sessions = Sessions::new(node.router.clone(), authority, "here".to_owned(), blobs);
        serving.spawn(sessions.serve(links));
        let listener = node.listener(EdgeListenerOptions::new("test", "here"));
        serving.spawn(listener.accept(inside, give));
        let network = hub.edge_network(&device_cert_name(id), LinkOptions::default());
        Self { network, id, attempts, door, _serving: serving }
    }

    async fn dial(&self, dial: u64, acked: [u64; 2]) -> DeviceLink {
        self.dial_with(dial, ExecutionState::Running, acked).await
    }

    async fn dial_with(&self, dial: u64, state: ExecutionState, acked: [u64; 2]) -> DeviceLink {
        let connection = self.network.dial(DOOR, self.door).await.unwrap();
        let report = |((key, task), acked): ((AttemptKey, TaskId), u64)| ExecutionReport {
            key,
            task,
            state,
            last: OutSeq(acked),
            acked: OutSeq(acked),
        };
        let hello = DeviceHello {
            version_min: 1,
            version_max: 1,
            device: self.id,
            boot: Uuid::from_u128(1),
            dial,
            build: "test".to_owned(),
            capabilities: Capabilities { slots: 5, ..Capabilities::default() },
            executions: self.attempts.into_iter().zip(acked).map(report).collect(),
            credit: Credit { bytes: TO_DEVICE_CREDIT_BYTES, items: TO_DEVICE_CREDIT_ITEMS },
            links: Vec::new(),
        };
        greet(connection, hello, PATIENCE).await.unwrap()
    }
}

/// Sends output with these numbers as a device does: as far as there is credit.
async fn send(
    link: &Arc<dyn troupe_link::Connection>,
    credits: &Credits,
    key: AttemptKey,
    numbers: std::ops::RangeInclusive<u64>,
) {
    let mut stream = link.open(Purpose::Execution).await.unwrap();
    let attach = Attach { key, from: OutSeq(*numbers.start()) };
    write_frame(&mut stream.write, &DeviceFrame::Attach(attach)).await.unwrap();
    for number in numbers {
        let body = Bytes::from_static(br#"{"unreadable": true}"#);
        let output = DeviceFrame::Output(Output { key, out_seq: OutSeq(number), body });
        credits.pay(output.encode().unwrap().len()).await.unwrap();
        write_frame(&mut stream.write, &output).await.unwrap();
    }
    stream.write.shutdown().await.unwrap();
}

/// Hears a link until the cluster asks for another; tells acks.
async fn hear(
    mut control: troupe_link::LinkStream,
    credits: Arc<Credits>,
    acks: mpsc::Sender<(AttemptKey, u64)>,
    away: oneshot::Sender<()>,
) {
    while let Ok(Some((frame, _))) = read_frame(&mut control.read).await {
        match frame {
            DeviceFrame::Credit(credit) => assert!(credits.add(credit)),
            DeviceFrame::OutputAck(ack) => {
                let _ = acks.try_send((ack.key, ack.out_seq.0));
            }
            DeviceFrame::GoAway(_) => {
                let _ = away.send(());
                return;
            }
            _ => {}
        }
    }
}

/// The next word about a beginning; `None`: the answer to a ping came first.
async fn begins(control: &mut troupe_link::LinkStream) -> Option<AttemptKey> {
    loop {
        let read = timeout(PATIENCE, read_frame(&mut control.read)).await.unwrap();
        match read.unwrap().unwrap().0 {
            DeviceFrame::Begin(begin) => return Some(begin.key),
            DeviceFrame::Pong(_) => return None,
            _ => {}
        }
    }
}

/// A device is told to begin when it is committed that it has an attempt, not before; and never
/// for one that was given up.
#[tokio::test]
async fn a_device_begins_what_is_committed_as_its_own() {
    let node = Node::start().await;
    let device = Device::of(&node).await;
    let [(one, _), (other, _)] = device.attempts;
    let taken = |key| DeviceFrame::AssignmentAnswer(AssignmentAnswer::Taken(key));
    {
        let mut world = node.world.lock().unwrap();
        (world.undecided, world.given_up) = (true, BTreeSet::from([one.execution]));
    }
    let DeviceLink { welcome, connection, mut control } = device.dial(1, [0, 0]).await;
    assert!(welcome.begins);
    for frame in [taken(one), taken(other), DeviceFrame::Ping(Ping { nonce: 1 })] {
        write_frame(&mut control.write, &frame).await.unwrap();
    }
    assert_eq!(begins(&mut control).await, None, "nothing is committed");
    node.world.lock().unwrap().undecided = false;
    assert_eq!(begins(&mut control).await, Some(other), "the first one was given up");
    connection.close("cut");

    // The word may have been lost with the link.
    node.world.lock().unwrap().running.retain(|running| running.has.execution != one.execution);
    let mut link = device.dial_with(2, ExecutionState::Accepted, [0, 0]).await;
    let control = &mut link.control;
    assert_eq!(begins(control).await, Some(other));
    write_frame(&mut control.write, &DeviceFrame::Ping(Ping { nonce: 2 })).await.unwrap();
    assert_eq!(begins(control).await, None);
}

/// A device gets the package that a job of its brings, part after part, and no other.
#[tokio::test]
async fn a_device_gets_the_packages_of_its_jobs() {
    let node = Node::start().await;
    let device = Device::of(&node).await;
    let [(key, _), _] = device.attempts;
    let whole: Vec<u8> = (0..600_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let kept = node.stores.blobs.put(whole.clone().into()).await.unwrap();
    let other = node.stores.blobs.put(Bytes::from_static(b"of somebody else")).await.unwrap();
    node.world.lock().unwrap().package = kept.to_string();
    let mut link = device.dial(1, [0, 0]).await;
    let control = &mut link.control;
    let mut part = async |hash: [u8; 32], from: u64| {
        let wanted = DeviceFrame::PackageWanted(PackageWanted { key, hash, from });
        write_frame(&mut control.write, &wanted).await.unwrap();
        loop {
            let read = timeout(PATIENCE, read_frame(&mut control.read)).await.unwrap();
            if let DeviceFrame::PackagePart(part) = read.unwrap().unwrap().0 {
                assert_eq!((part.key, part.hash, part.from), (key, hash, from));
                return (part.size, part.bytes);
            }
        }
    };
    let mut had = Vec::new();
    while had.len() < whole.len() {
        let (size, bytes) = part(kept.0, had.len() as u64).await;
        assert_eq!(size, 600_000);
        assert!(!bytes.is_empty() && bytes.len() <= PACKAGE_PART_BYTES_MAX);
        had.extend_from_slice(&bytes);
    }
    assert_eq!(had, whole);
    assert_eq!(part(kept.0, u64::MAX).await, (600_000, Bytes::new()), "nothing behind the end");
    assert_eq!(part(other.0, 0).await, (0, Bytes::new()), "no job brings it");
    let gone = BlobHash::of(b"nobody has it");
    node.world.lock().unwrap().package = gone.to_string();
    assert_eq!(part(gone.0, 0).await, (0, Bytes::new()));
}

/// All credit of the link is gone into one attempt whose Task takes nothing: the other attempt
/// goes on. When the Task takes output again, the device is asked to send the rest once more.
#[tokio::test]
async fn a_task_that_takes_no_output_stops_no_other() {
    let node = Node::start().await;
    let device = Device::of(&node).await;
    let [(stuck, bad), (free, good)] = device.attempts;
    node.world.lock().unwrap().stuck.insert(bad.uuid());
    let last = u64::from(DEVICE_CREDIT_ITEMS) + 100;

    let DeviceLink { welcome, connection, control } = device.dial(1, [0, 0]).await;
    let credits = Arc::new(Credits::new(welcome.credit));
    let (acks, mut acked) = mpsc::channel(1_024);
    let (away, asked_away) = oneshot::channel();
    let mut hearing = JoinSet::new();
    hearing.spawn(hear(control, Arc::clone(&credits), acks, away));
    // More than there is credit for: it ends when what waits was let go.
    timeout(PATIENCE, send(&connection, &credits, stuck, 1..=last)).await.unwrap();
    timeout(PATIENCE, send(&connection, &credits, free, 1..=10)).await.unwrap();
    let taken = |task: TaskId| node.world.lock().unwrap().taken.get(&task.uuid()).cloned();
    wait_until(PATIENCE, async || taken(good).is_some_and(|taken| taken.len() == 10)).await;
    assert_eq!(taken(bad), None);

    node.world.lock().unwrap().stuck.clear();
    timeout(PATIENCE, asked_away).await.unwrap().unwrap();
    let mut heard = 0;
    while let Ok((key, number)) = acked.try_recv() {
        heard = if key == stuck { number } else { heard };
    }
    let kept = taken(bad).unwrap();
    assert!(heard > 0 && heard < last && kept.len() as u64 == heard, "{heard} of {kept:?}");
    connection.close("it was asked for");

    let DeviceLink { welcome, connection, control } = device.dial(2, [heard, 10]).await;
    let credits = Arc::new(Credits::new(welcome.credit));
    let (acks, (away, _)) = (mpsc::channel(1).0, oneshot::channel());
    hearing.spawn(hear(control, Arc::clone(&credits), acks, away));
    timeout(PATIENCE, send(&connection, &credits, stuck, heard + 1..=last)).await.unwrap();
    wait_until(PATIENCE, async || taken(bad).is_some_and(|t| t.len() as u64 == last)).await;
}

fn redemption(line: &str, request: u8) -> Redemption {
    let invitation: Invitation = line.parse().unwrap();
    Redemption {
        secret: invitation.secret,
        request_hash: [request; 32],
        host: "laptop".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        build: "test".to_owned(),
        from: [127, 0, 0, 1].into(),
    }
}

#[tokio::test]
async fn an_enrolment_that_was_cut_off_is_completed_or_revoked() {
    let node = Node::start().await;
    let devices = node.devices(1);
    let line = async || devices.invite(&ann(), InviteDevice::default()).await.unwrap().url;
    let down = |is_down| node.world.lock().unwrap().is_down = is_down;
    let redeem = async |line: &str, request| node.authority.redeem(redemption(line, request)).await;

    // The same request is known, another one is not.
    let first = line().await;
    down(true);
    let refused = redeem(&first, 1).await.unwrap_err();
    assert_eq!(refused.reason, EnrolRefusalReason::Unavailable);
    assert!(refused.retry_after_ms > 0, "the machine repeats it by itself");
    down(false);
    assert_eq!(redeem(&first, 2).await.unwrap_err().reason, EnrolRefusalReason::UnknownToken);
    let done = redeem(&first, 1).await.unwrap();
    assert!(node.world.lock().unwrap().registered.contains(&done.device.uuid()));

    // What stays a half can be revoked, and does not come back.
    let second = line().await;
    down(true);
    redeem(&second, 3).await.unwrap_err();
    down(false);
    devices.revoke(&ann(), "laptop-2").await.unwrap();
    assert_eq!(redeem(&second, 3).await.unwrap_err().reason, EnrolRefusalReason::UnknownToken);
    assert_eq!(node.world.lock().unwrap().registered.len(), 1);

    // A revocation that ended half way can be repeated.
    let id = done.device.to_string();
    down(true);
    devices.revoke(&ann(), &id).await.unwrap_err();
    down(false);
    devices.revoke(&ann(), &id).await.unwrap();
}

#[tokio::test]
async fn what_was_enrolled_by_half_does_not_count() {
    let node = Node::start().await;
    let owner: UserId = ann().user;
    for n in 0..DEVICES_MAX {
        let name = format!("half-{n}");
        let device = DeviceId::derived(&[&name]);
        let (v, is_default, revoked, task) = (DeviceRow::VERSION, false, false, None);
        let row = DeviceRow { v, device, owner, name, is_default, revoked, task };
        let body = serde_json::to_vec(&row).unwrap();
        let key = device.uuid().as_bytes().to_vec();
        let write = RowWrite::insert(DirectoryTable::Device, key, body).owned_by(owner.uuid());
        node.stores.directory.compare_and_set(write).await.unwrap();
    }
    let line = node.devices(1).invite(&ann(), InviteDevice::default()).await.unwrap().url;
    node.authority.redeem(redemption(&line, 1)).await.unwrap();
}

fn identity(ca: &DeviceCa, id: DeviceId, from: Timestamp) -> DeviceIdentity {
    let key = DeviceKey::generate().unwrap();
    let hour = Duration::from_secs(3_600);
    let cert = ca.sign_for(&key.request().unwrap(), id, from, hour).unwrap();
    let ca = Bytes::copy_from_slice(ca.cert_der());
    DeviceIdentity { device: id, chain: vec![cert.into()], key_pem: key.pem(), ca }
}

async fn is_let_in(to: &str, identity: &DeviceIdentity, says: DeviceId) -> bool {
    let dialler = EdgeDialler::new(vec![to.to_owned()], identity, LinkOptions::default()).unwrap();
    let dialler = dialler.only(Carrier::Quic);
    let Ok(connection) = timeout(PATIENCE, dialler.dial()).await.unwrap() else { return false };
    let hello = DeviceHello {
        version_min: 1,
        version_max: 1,
        device: says,
        boot: Uuid::from_u128(1),
        dial: 1,
        build: "test".to_owned(),
        capabilities: Capabilities::default(),
        executions: Vec::new(),
        credit: Credit { bytes: TO_DEVICE_CREDIT_BYTES, items: TO_DEVICE_CREDIT_ITEMS },
        links: Vec::new(),
    };
    greet(connection, hello, PATIENCE).await.is_ok()
}

#[tokio::test]
async fn every_kind_of_refused_join_is_in_the_audit_log() {
    let node = Node::start().await;
    let now = node.clock.now();
    let cert = node.ca.issue_server("here", now).unwrap();
    let anywhere = ([127, 0, 0, 1], 0).into();
    let options = EdgeListenerOptions::new("test", "here");
    let network = QuicEdgeNetwork::bind(anywhere, &cert, options.link.clone()).unwrap().unwrap();
    let at = network.local_addr().unwrap();
    let (give, _links) = mpsc::channel(4);
    let mut serving = JoinSet::new();
    serving.spawn(node.listener(options).accept(Arc::new(network), give));
    let to = at.to_string();

    let id = || DeviceId::new(now);
    let honest = identity(&node.ca, id(), now);
    let long_ago = Timestamp::from_millis(now.as_millis() - 7_200_000);
    let expired = identity(&node.ca, id(), long_ago);
    let elsewhere = DeviceCa::create("test", now).unwrap();
    let foreign = DeviceIdentity { ca: honest.ca.clone(), ..identity(&elsewhere, id(), now) };
    assert!(!is_let_in(&to, &expired, expired.device).await);
    assert!(!is_let_in(&to, &foreign, foreign.device).await);
    assert!(!is_let_in(&to, &honest, id()).await, "another device than its certificate's");
    node.authority.note_revoked(honest.device);
    assert!(!is_let_in(&to, &honest, honest.device).await);
    // The same line in two hands.
    let line = node.devices(at.port()).invite(&ann(), InviteDevice::default()).await.unwrap().url;
    let invitation: Invitation = line.parse().unwrap();
    let text = |text: &str| text.to_owned();
    let (host, os, arch, build) = (text("laptop"), text("linux"), text("x86_64"), text("test"));
    let facts = EnrolFacts { host, os, arch, build };
    enrol(&invitation, &facts).await.unwrap();
    enrol(&invitation, &facts).await.unwrap_err();

    let expected = [
        ("expired", String::new()),
        ("foreign", String::new()),
        ("wrong_name", String::new()),
        ("revoked", honest.device.to_string()),
        ("invitation_used", String::new()),
    ];
    let has = async || {
        let audit = node.audit().await;
        expected.iter().all(|(outcome, of)| audit.contains(&((*outcome).to_owned(), of.clone())))
    };
    wait_until(PATIENCE, has).await;
    assert_eq!(node.audit().await.len(), expected.len());
}
