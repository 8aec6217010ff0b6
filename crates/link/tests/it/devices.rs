//! What devices and their doors do over every carrier.

mod floods;
mod kit;
mod race;
mod resets;
mod websocket;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::{Instant, timeout},
};
use troupe_link::{
    Carrier, LinkOptions, MemoryHub, Network, Purpose, TcpRelay, UdpRelay,
    device::{
        DeviceIdentity, DeviceKey, DeviceLinkError, Dialler, EdgeListenerOptions, EnrolError,
        Invitation, JoinFault, RefusedJoin, cert_valid, device_cert_name, enrol, greet,
        write_frame,
    },
};
use troupe_testkit::wait_until;
use troupe_types::{DeviceId, OutSeq, TaskId, Timestamp};
use troupe_wire::{
    Credit,
    device::{
        Assignment, AssignmentAnswer, Attach, CertificateAnswer, CertificateRequest, DeviceFrame,
        DeviceRefusalReason, EnrolRefusalReason, Output, Ping, Pong,
    },
};

use self::kit::{Authority, EdgeDoor, ca, dialler, facts, hear, heard, hello, identity, key, say};
use crate::fixture::{LONG, now};

/// What holds over every carrier.
macro_rules! over_each {
    ($($name:ident),* $(,)?) => {
        mod over_quic {
            $(#[tokio::test]
            async fn $name() {
                super::$name(troupe_link::Carrier::Quic).await;
            })*
        }
        mod over_websocket {
            $(#[tokio::test]
            async fn $name() {
                super::$name(troupe_link::Carrier::WebSocket).await;
            })*
        }
    };
}

over_each!(
    a_machine_with_an_invitation_becomes_a_device_once,
    an_enrolment_that_cannot_be_done_now_is_repeated_with_the_same_key,
    who_is_refused_is_told_to_the_authority,
    a_server_with_another_fingerprint_gets_no_secret,
    too_many_tries_are_told_when_to_come_again,
    frames_go_both_ways_and_output_is_checked,
    credit_bounds_what_a_device_has_under_way,
    a_device_is_sent_no_more_than_it_gives_credit_for,
    a_revoked_device_is_out_within_a_second_and_stays_out,
    certificates_are_renewed_over_the_link,
    strangers_stay_out,
    a_cut_is_seen_after_the_idle_time_and_a_quiet_link_is_kept,
    streams_end_as_they_should,
    as_many_streams_as_there_are_places,
    both_ways_at_once,
    a_stream_that_is_let_go_of_at_once_ends_no_session,
);

async fn a_machine_with_an_invitation_becomes_a_device_once(carrier: Carrier) {
    let mut door = EdgeDoor::over(carrier);
    door.authority.invite([1; 16]);
    let invitation: Invitation = door.invitation([1; 16]).to_line().parse().unwrap();
    let (device, grant) = enrol(&invitation, &facts()).await.unwrap();
    assert_eq!((grant.name.as_str(), grant.cluster.as_str()), ("laptop", "test"));
    let (from, until) = device.valid().unwrap();
    let days = until.since(from).as_secs() / 86_400;
    assert_eq!(days, 90);
    assert_eq!(device.renew_at().unwrap().since(from).as_secs() / 86_400, 60);
    let link = door.dial(&device).await.unwrap();
    assert_eq!(link.welcome.node, "node-1");
    assert_eq!(door.next().await.hello.device, device.device);

    // The same line in other hands, and one that nobody made.
    for secret in [[1; 16], [2; 16]] {
        let refused = enrol(&door.invitation(secret), &facts()).await.unwrap_err();
        let EnrolError::Refused(refusal) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.reason, EnrolRefusalReason::UnknownToken);
    }
}

async fn an_enrolment_that_cannot_be_done_now_is_repeated_with_the_same_key(carrier: Carrier) {
    let door = EdgeDoor::over(carrier);
    door.authority.invite([1; 16]);
    door.authority.unavailable.store(2, Ordering::SeqCst);
    let (device, _) = enrol(&door.invitation([1; 16]), &facts()).await.unwrap();
    assert_eq!(door.authority.asked.load(Ordering::SeqCst), 3);
    door.dial(&device).await.unwrap();
}

async fn who_is_refused_is_told_to_the_authority(carrier: Carrier) {
    let mut options = EdgeListenerOptions::new("test", "node-1");
    options.enrol.address_burst = 1;
    let mut door = EdgeDoor::with(carrier, options);
    let hour = Duration::from_secs(3_600);
    let id = || DeviceId::new(now());
    let long_ago = Timestamp::from_millis(now().as_millis() - 7_200_000);
    let expired = identity(&door.ca, id(), long_ago, hour);
    let foreign = DeviceIdentity { ca: door.device().ca, ..identity(&ca(), id(), now(), hour) };
    let stolen = DeviceIdentity { device: id(), ..door.device() };
    let revoked = door.device();
    door.authority.revoke(revoked.device);
    for device in [&expired, &foreign, &stolen, &revoked] {
        assert!(door.dial(device).await.is_err());
    }
    for _ in 0..2 {
        enrol(&door.invitation([9; 16]), &facts()).await.unwrap_err();
    }
    door.nobody();
    let from = Some(door.addr().ip());
    let refused = |fault, device| RefusedJoin { fault, device, from };
    let expected = [
        refused(JoinFault::Expired, None),
        refused(JoinFault::Foreign, None),
        refused(JoinFault::WrongName, None),
        refused(JoinFault::Revoked, Some(revoked.device)),
        refused(JoinFault::RateLimited, None),
    ];
    let told = || door.authority.refused.lock().unwrap().clone();
    // A device may hear of its refusal before the door has told it.
    wait_until(LONG, async || expected.iter().all(|one| told().contains(one))).await;
    assert!(told().iter().all(|one| expected.contains(one)), "{:?}", told());
}

async fn a_server_with_another_fingerprint_gets_no_secret(carrier: Carrier) {
    let (door, asked) = (EdgeDoor::over(carrier), Arc::new(Authority::default()));
    asked.invite([1; 16]);
    let elsewhere = Invitation { fingerprint: ca().fingerprint(), ..door.invitation([1; 16]) };
    let refused = enrol(&elsewhere, &facts()).await.unwrap_err();
    assert!(matches!(refused, EnrolError::WrongServer { .. }), "{refused:?}");
    assert_eq!(door.authority.asked.load(Ordering::SeqCst), 0);
}

async fn too_many_tries_are_told_when_to_come_again(carrier: Carrier) {
    let mut options = EdgeListenerOptions::new("test", "node-1");
    options.enrol.address_burst = 3;
    let door = EdgeDoor::with(carrier, options);
    let mut limited = None;
    for _ in 0..4 {
        let refused = enrol(&door.invitation([9; 16]), &facts()).await.unwrap_err();
        let EnrolError::Refused(refusal) = refused else { panic!("{refused:?}") };
        limited = (refusal.reason == EnrolRefusalReason::RateLimited).then_some(refusal);
    }
    let limited = limited.expect("the fourth is too many");
    assert!(limited.retry_after_ms > 0);
    assert_eq!(door.authority.asked.load(Ordering::SeqCst), 3);
}

async fn frames_go_both_ways_and_output_is_checked(carrier: Carrier) {
    let mut door = EdgeDoor::over(carrier);
    let device = door.device();
    let mut link = door.dial(&device).await.unwrap();
    let mut session = door.next().await;
    let assignment = DeviceFrame::Assignment(Box::new(Assignment {
        key: key(),
        task: TaskId::new(now()),
        token: "t".to_owned(),
        team: "default/team".to_owned(),
        user: "ada".to_owned(),
        spec: Bytes::from_static(b"{}"),
        secrets: Vec::new(),
    }));
    session.handle.send(&assignment).await.unwrap();
    assert_eq!(hear(&mut link).await, assignment);
    let taken = DeviceFrame::AssignmentAnswer(AssignmentAnswer::Taken(key()));
    say(&mut link, &taken).await;
    assert_eq!(heard(&mut session).await, taken);
    say(&mut link, &DeviceFrame::Other(200, Bytes::from_static(b"newer"))).await;
    assert!(matches!(heard(&mut session).await, DeviceFrame::Other(200, _)));
    say(&mut link, &DeviceFrame::Ping(Ping { nonce: 7 })).await;
    assert_eq!(hear(&mut link).await, DeviceFrame::Pong(Pong { nonce: 7 }));
    let ping = DeviceFrame::Ping(Ping { nonce: 8 }).encode().unwrap();
    // A WebSocket has no datagrams; who wants a pong asks on the control stream.
    assert_eq!(link.connection.send_datagram(ping), carrier == Carrier::Quic);
    if carrier == Carrier::Quic {
        let pong = timeout(LONG, link.connection.datagram()).await.unwrap().unwrap();
        assert_eq!(DeviceFrame::decode_whole(pong).unwrap(), DeviceFrame::Pong(Pong { nonce: 8 }));
    }
    wait_until(LONG, async || session.handle.rtt().is_some()).await;
    assert_eq!(session.handle.carrier(), carrier);

    let key = key();
    let output = |out_seq| {
        let body = Bytes::from_static(b"{}");
        DeviceFrame::Output(Output { key, out_seq: OutSeq(out_seq), body })
    };
    let mut stream = link.connection.open(Purpose::Execution).await.unwrap();
    let attach = DeviceFrame::Attach(Attach { key, from: OutSeq(5) });
    for frame in [attach, output(5), output(6)] {
        write_frame(&mut stream.write, &frame).await.unwrap();
        assert_eq!(heard(&mut session).await, frame);
    }
    // A gap is nothing that an honest device sends.
    write_frame(&mut stream.write, &output(8)).await.unwrap();
    assert!(timeout(LONG, session.frames.next()).await.unwrap().is_none());
    assert!(session.handle.closed().await.contains("out of order"));
}

/// Its reset may come before anybody has read what it is for.
async fn a_stream_that_is_let_go_of_at_once_ends_no_session(carrier: Carrier) {
    let mut door = EdgeDoor::over(carrier);
    let device = door.device();
    let link = door.dial(&device).await.unwrap();
    let mut session = door.next().await;
    for _ in 0..200 {
        let opened = timeout(LONG, link.connection.open(Purpose::Execution)).await.unwrap();
        drop(opened.expect("the session goes on"));
    }
    let mut stream = link.connection.open(Purpose::Execution).await.unwrap();
    let attach = DeviceFrame::Attach(Attach { key: key(), from: OutSeq(1) });
    write_frame(&mut stream.write, &attach).await.unwrap();
    assert_eq!(heard(&mut session).await, attach);
}

/// What comes faster than it is taken stops at the credit, and goes on when it is taken.
async fn credit_bounds_what_a_device_has_under_way(carrier: Carrier) {
    let mut door = EdgeDoor::over(carrier);
    let device = door.device();
    let link = door.dial(&device).await.unwrap();
    let mut session = door.next().await;
    let key = key();
    let mut stream = link.connection.open(Purpose::Execution).await.unwrap();
    let attach = DeviceFrame::Attach(Attach { key, from: OutSeq(1) });
    write_frame(&mut stream.write, &attach).await.unwrap();
    let mut sending = JoinSet::new();
    sending.spawn(async move {
        let body = Bytes::from(vec![b' '; 200_000]);
        for n in 1.. {
            let output = Output { key, out_seq: OutSeq(n), body: body.clone() };
            if write_frame(&mut stream.write, &DeviceFrame::Output(output)).await.is_err() {
                return n;
            }
        }
        0
    });
    // Nobody asks for credit here, so a device that sends on is thrown out.
    let why = timeout(LONG, session.handle.closed()).await.unwrap();
    assert!(why.contains("credit"), "{why}");
    let mut outputs = 0;
    while let Some(frame) = timeout(LONG, session.frames.next()).await.unwrap() {
        outputs += usize::from(matches!(frame, DeviceFrame::Output(_)));
    }
    assert!((15..=21).contains(&outputs), "{outputs} of 200 kB in 4 MiB");
}

async fn a_device_is_sent_no_more_than_it_gives_credit_for(carrier: Carrier) {
    let mut door = EdgeDoor::over(carrier);
    let device = door.device();
    let mut link = door.dial(&device).await.unwrap();
    let session = door.next().await;
    let assignment = |len: usize| {
        DeviceFrame::Assignment(Box::new(Assignment {
            key: key(),
            task: TaskId::new(now()),
            token: String::new(),
            team: String::new(),
            user: String::new(),
            spec: Bytes::from(vec![b' '; len]),
            secrets: Vec::new(),
        }))
    };
    for _ in 0..4 {
        session.handle.send(&assignment(10)).await.unwrap();
        assert!(matches!(hear(&mut link).await, DeviceFrame::Assignment(_)));
    }
    let fifth = assignment(10);
    let waiting = session.handle.send(&fifth);
    tokio::pin!(waiting);
    let waits = timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(waits.is_err(), "the device gave four");
    say(&mut link, &DeviceFrame::Credit(Credit { bytes: 1_000, items: 1 })).await;
    timeout(LONG, waiting).await.unwrap().unwrap();
}

async fn a_revoked_device_is_out_within_a_second_and_stays_out(carrier: Carrier) {
    let mut door = EdgeDoor::over(carrier);
    let device = door.device();
    let mut link = door.dial(&device).await.unwrap();
    let session = door.next().await;
    let begun = tokio::time::Instant::now();
    door.authority.revoke(device.device);
    assert!(matches!(hear(&mut link).await, DeviceFrame::Revoked(_)));
    link.connection.closed().await;
    session.handle.closed().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let refused = door.dial(&device).await.unwrap_err();
    assert!(refused.is_final(), "{refused:?}");
    door.nobody();
}

async fn certificates_are_renewed_over_the_link(carrier: Carrier) {
    let mut door = EdgeDoor::over(carrier);
    let device = door.device();
    let mut link = door.dial(&device).await.unwrap();
    let _session = door.next().await;
    let key = DeviceKey::generate().unwrap();
    let csr = key.request().unwrap();
    say(&mut link, &DeviceFrame::CertificateRequest(CertificateRequest { csr })).await;
    let DeviceFrame::CertificateAnswer(CertificateAnswer::Granted(chain)) = hear(&mut link).await
    else {
        panic!("no certificate")
    };
    let (from, until) = cert_valid(&chain[0]).unwrap();
    assert_eq!(until.since(from).as_secs() / 86_400, 90);
    let renewed = DeviceIdentity { chain, key_pem: key.pem(), ..device.clone() };
    let dialler = door.dialler(&device);
    dialler.renewed(&renewed).unwrap();
    let connection = timeout(LONG, dialler.dial()).await.unwrap().unwrap();
    greet(connection, hello(device.device), LONG).await.unwrap();
    assert_eq!(door.next().await.hello.device, device.device);
}

async fn strangers_stay_out(carrier: Carrier) {
    let mut door = EdgeDoor::over(carrier);
    let day = Duration::from_secs(86_400);
    let past = Timestamp::from_millis(now().as_millis() - 30 * 86_400_000);
    let expired = identity(&door.ca, DeviceId::new(now()), past, day);
    assert!(door.dial(&expired).await.is_err(), "expired");
    let foreign = DeviceIdentity {
        ca: Bytes::copy_from_slice(door.ca.cert_der()),
        ..identity(&ca(), DeviceId::new(now()), now(), day)
    };
    assert!(door.dial(&foreign).await.is_err(), "of another CA");
    let other_server =
        DeviceIdentity { ca: Bytes::copy_from_slice(ca().cert_der()), ..door.device() };
    assert!(door.dial(&other_server).await.is_err(), "the server is not trusted");
    // A device that says that it is another one.
    let thief = door.device();
    let connection = timeout(LONG, door.dialler(&thief).dial()).await.unwrap().unwrap();
    let refused = greet(connection, hello(DeviceId::new(now())), LONG).await.unwrap_err();
    let DeviceLinkError::Refused(refusal) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.reason, DeviceRefusalReason::WrongName);
    door.nobody();
    door.is_open().await;
}

/// A cut network is noticed on both sides, and a quiet but healthy link is kept.
async fn a_cut_is_seen_after_the_idle_time_and_a_quiet_link_is_kept(carrier: Carrier) {
    let mut door = EdgeDoor::over(carrier);
    let device = door.device();
    let udp = UdpRelay::before(door.addr()).await.unwrap();
    let tcp = TcpRelay::before(door.addr()).await.unwrap();
    let at = if carrier == Carrier::Quic { udp.addr() } else { tcp.addr() };
    let cut = |cut| {
        udp.cut(cut);
        tcp.cut(cut);
    };
    let dialler = dialler(at, &device).only(carrier);
    let connection = timeout(LONG, dialler.dial()).await.unwrap().unwrap();
    let link = greet(connection, hello(device.device), LONG).await.unwrap();
    let session = door.next().await;
    let idle = LinkOptions::default().idle;
    let kept = timeout(idle + Duration::from_secs(1), link.connection.closed()).await;
    assert!(kept.is_err(), "nothing was said for longer than the idle time: {kept:?}");
    cut(true);
    let begun = Instant::now();
    let why = timeout(LONG, link.connection.closed()).await.unwrap();
    timeout(LONG, session.handle.closed()).await.unwrap();
    assert!(begun.elapsed() < idle + Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(why.contains("timed out"), "{why}");
    cut(false);
    let connection = timeout(LONG, dialler.dial()).await.unwrap().unwrap();
    greet(connection, hello(device.device), LONG).await.unwrap();
    assert_eq!(door.next().await.hello.device, device.device);
}

/// Two ends of a connection; no listener reads here.
async fn pair(
    carrier: Carrier,
) -> (Arc<dyn troupe_link::Connection>, Arc<dyn troupe_link::Connection>) {
    let ca = ca();
    let link = EdgeListenerOptions::new("test", "node-1").link;
    let network = kit::network(carrier, crate::fixture::anywhere(), &ca, &link);
    let device = identity(&ca, DeviceId::new(now()), now(), Duration::from_secs(3_600));
    let dialler = dialler(network.local_addr().unwrap(), &device).only(carrier);
    let far = async { network.arriving(0).await.unwrap().await.unwrap() };
    let (near, far) = timeout(LONG, async { tokio::join!(dialler.dial(), far) }).await.unwrap();
    (near.unwrap(), far)
}

/// One that is let go of unfinished is told as broken, one that is finished is read to its end.
async fn streams_end_as_they_should(carrier: Carrier) {
    let (near, far) = pair(carrier).await;
    let mut whole = near.open(Purpose::Execution).await.unwrap();
    whole.write.write_all(&[7; 100_000]).await.unwrap();
    whole.write.shutdown().await.unwrap();
    drop(whole);
    let mut inward = timeout(LONG, far.accept()).await.unwrap().unwrap();
    assert_eq!(inward.purpose, Purpose::Execution);
    let mut all = Vec::new();
    timeout(LONG, inward.read.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, [7; 100_000]);

    let mut half = near.open(Purpose::Execution).await.unwrap();
    half.write.write_all(b"half").await.unwrap();
    let mut inward = timeout(LONG, far.accept()).await.unwrap().unwrap();
    drop(half);
    let mut all = Vec::new();
    assert!(timeout(LONG, inward.read.read_to_end(&mut all)).await.unwrap().is_err());
    assert_eq!(all, b"half");

    // Both ways, and an end of one side leaves the other.
    let mut ask = near.open(Purpose::Control).await.unwrap();
    ask.write.write_all(b"?").await.unwrap();
    ask.write.shutdown().await.unwrap();
    let mut inward = timeout(LONG, far.accept()).await.unwrap().unwrap();
    let mut all = Vec::new();
    timeout(LONG, inward.read.read_to_end(&mut all)).await.unwrap().unwrap();
    inward.write.write_all(b"!").await.unwrap();
    inward.write.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(LONG, ask.read.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!((all, answer), (b"?".to_vec(), b"!".to_vec()));
}

/// Much in both directions at once stands still nowhere.
async fn both_ways_at_once(carrier: Carrier) {
    const BYTES: usize = 8 * 1024 * 1024;
    let (near, far) = pair(carrier).await;
    let mut ours = near.open(Purpose::Execution).await.unwrap();
    let mut theirs = timeout(LONG, far.accept()).await.unwrap().unwrap();
    let say = async |write: &mut troupe_link::BoxWrite, byte: u8| {
        for _ in 0..BYTES / 4_096 {
            write.write_all(&[byte; 4_096]).await.unwrap();
        }
        write.shutdown().await.unwrap();
    };
    let hear = async |read: &mut troupe_link::BoxRead, byte: u8| {
        let mut all = Vec::with_capacity(BYTES);
        read.read_to_end(&mut all).await.unwrap();
        assert!(all.len() == BYTES && all.iter().all(|b| *b == byte), "{}", all.len());
    };
    let all = async {
        tokio::join!(
            say(&mut ours.write, 1),
            say(&mut theirs.write, 2),
            hear(&mut theirs.read, 1),
            hear(&mut ours.read, 2),
        )
    };
    timeout(LONG, all).await.unwrap();
}

/// Who opens waits for a place, and a place is free when both ends are done with the stream.
async fn as_many_streams_as_there_are_places(carrier: Carrier) {
    let (near, far) = pair(carrier).await;
    let max = usize::try_from(LinkOptions::default().streams_max).unwrap();
    let mut open = Vec::new();
    for _ in 0..max {
        open.push(timeout(LONG, near.open(Purpose::Execution)).await.unwrap().unwrap());
    }
    let one_more = timeout(Duration::from_millis(300), near.open(Purpose::Execution)).await;
    assert!(one_more.is_err(), "there are {max} places");
    for mut stream in open.drain(..) {
        stream.write.shutdown().await.unwrap();
    }
    let one_more = timeout(Duration::from_millis(300), near.open(Purpose::Execution)).await;
    assert!(one_more.is_err(), "the other end still holds them");
    // Many more than there are places, one after the other.
    let opening = async {
        for _ in 0..4 * max {
            let mut stream = near.open(Purpose::Execution).await.unwrap();
            stream.write.write_all(&[1; 1_000]).await.unwrap();
            stream.write.shutdown().await.unwrap();
        }
    };
    let reading = async {
        for _ in 0..5 * max {
            let mut stream = far.accept().await.unwrap();
            let mut all = Vec::new();
            stream.read.read_to_end(&mut all).await.unwrap();
        }
    };
    timeout(LONG, async { tokio::join!(opening, reading) }).await.unwrap();
}

/// The same door over the in-memory twin.
#[tokio::test(start_paused = true)]
async fn the_twin_makes_sessions_too() {
    let hub = MemoryHub::new();
    let server = Arc::new(hub.edge_network("troupe-edge", LinkOptions::default()));
    let mut door = EdgeDoor::open(ca(), server, EdgeListenerOptions::new("test", "node-1"));
    let device = DeviceId::new(now());
    let name = device_cert_name(device);
    let network = hub.edge_network(&name, LinkOptions::default());
    let connection = network.dial("troupe-edge", door.addr()).await.unwrap();
    let mut link = greet(connection, hello(device), LONG).await.unwrap();
    let mut session = door.next().await;
    let taken = DeviceFrame::AssignmentAnswer(AssignmentAnswer::Taken(key()));
    say(&mut link, &taken).await;
    assert_eq!(heard(&mut session).await, taken);
    hub.sever(&name, "troupe-edge");
    assert!(timeout(LONG, session.frames.next()).await.unwrap().is_none());
    let connection = network.dial("troupe-edge", door.addr()).await.unwrap();
    let refused = greet(connection, hello(DeviceId::new(now())), LONG).await.unwrap_err();
    assert!(matches!(refused, DeviceLinkError::Refused(_)), "{refused:?}");
}
