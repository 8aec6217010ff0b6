//! Who gets no link, and that the door stands all of it.

use std::{sync::Arc, time::Duration};

use futures::future::try_join_all;
use tokio::{net::UdpSocket, time::Instant};
use troupe_link::{LinkError, LinkOptions, Network, NodeCa, QuicNetwork, dial};
use troupe_types::Timestamp;
use troupe_wire::RefusalReason;

use crate::fixture::{Door, anywhere, ca, identity, network, now};

/// That an honest node still gets in.
async fn is_open(ca: &NodeCa, door: &mut Door) {
    let honest = Door::of(ca, "honest");
    let link = honest.dial(door).await.unwrap();
    assert_eq!(door.next().await.peer.node, "honest");
    link.connection.close("done");
}

/// Rule 14: a node is who its certificate names.
#[tokio::test]
async fn a_hello_with_another_name_than_the_certificate_is_refused() {
    let ca = ca();
    let mut door = Door::of(&ca, "node-2");
    let cert = ca.issue("node-1", now()).unwrap();
    let options = LinkOptions::default();
    let thief =
        Door::open(identity("node-3"), network(ca.cert_pem(), &cert, options.clone()), options);
    let refused = thief.dial(&door).await.unwrap_err();
    let LinkError::Refused(refusal) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.reason, RefusalReason::WrongName);
    door.nobody();
    is_open(&ca, &mut door).await;
}

#[tokio::test]
async fn a_peer_that_is_somebody_else_is_not_dialled() {
    let ca = ca();
    let (a, mut b) = (Door::of(&ca, "node-1"), Door::of(&ca, "node-2"));
    let wrong = a.dial_at("node-3", b.addr()).await.unwrap_err();
    assert!(matches!(wrong, LinkError::Connection { .. }), "{wrong:?}");
    let unnamed = a.dial_at("*", b.addr()).await.unwrap_err();
    assert!(matches!(unnamed, LinkError::Name(_)), "{unnamed:?}");
    b.nobody();
    is_open(&ca, &mut b).await;
}

#[tokio::test]
async fn a_foreign_ca_is_refused_on_both_sides() {
    let (ours, theirs) = (ca(), ca());
    let (mut door, foreign) = (Door::of(&ours, "node-2"), Door::of(&theirs, "node-1"));
    assert!(foreign.dial(&door).await.is_err(), "it does not trust us");
    // One that trusts us, but has only their certificate.
    let cert = theirs.issue("node-1", now()).unwrap();
    let options = LinkOptions::default();
    let spy =
        Door::open(identity("node-1"), network(ours.cert_pem(), &cert, options.clone()), options);
    assert!(spy.dial(&door).await.is_err(), "we do not trust it");
    door.nobody();
    is_open(&ours, &mut door).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_both_sides() {
    let ca = ca();
    let past = Timestamp::from_millis(now().as_millis() - 30 * 24 * 3_600_000);
    let old = ca.issue_for("node-1", past, Duration::from_secs(24 * 3_600)).unwrap();
    let options = LinkOptions::default();
    let mut door = Door::of(&ca, "node-2");
    let mut late =
        Door::open(identity("node-1"), network(ca.cert_pem(), &old, options.clone()), options);
    assert!(late.dial(&door).await.is_err());
    assert!(door.dial(&late).await.is_err());
    door.nobody();
    late.nobody();
    is_open(&ca, &mut door).await;
}

#[tokio::test]
async fn another_alpn_is_refused() {
    let ca = ca();
    let mut door = Door::of(&ca, "node-2");
    let cert = ca.issue("node-1", now()).unwrap();
    let options = LinkOptions::default();
    let edge =
        QuicNetwork::bind_with(anywhere(), ca.cert_pem(), &cert, options.clone(), b"troupe-edge/1");
    let edge = Door::open(identity("node-1"), Arc::new(edge.unwrap().unwrap()), options);
    assert!(edge.dial(&door).await.is_err());
    door.nobody();
    is_open(&ca, &mut door).await;
}

#[tokio::test]
async fn another_cluster_and_oneself_are_refused_by_name() {
    let ca = ca();
    let mut door = Door::of(&ca, "node-2");
    let other = Door::of(&ca, "node-1");
    let mut elsewhere = identity("node-1");
    elsewhere.cluster = "other".to_owned();
    let dialled = dial(&*other.network, &elsewhere, "node-2", door.addr(), &other.options).await;
    let Err(LinkError::Refused(refusal)) = dialled else { panic!("{dialled:?}") };
    assert_eq!(refusal.reason, RefusalReason::WrongCluster);
    let again = Door::of(&ca, "node-2");
    let dialled = again.dial(&door).await;
    let Err(LinkError::Refused(refusal)) = dialled else { panic!("{dialled:?}") };
    assert_eq!(refusal.reason, RefusalReason::Myself);
    door.nobody();
    is_open(&ca, &mut door).await;
}

#[tokio::test]
async fn garbage_is_stood() {
    let ca = ca();
    let mut door = Door::of(&ca, "node-2");
    let noise = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut word: u64 = 7;
    for round in 0..2_000_usize {
        let bytes: Vec<u8> = (0..round % 1_400)
            .map(|_| {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                word.to_be_bytes()[0]
            })
            .collect();
        noise.send_to(&bytes, door.addr()).await.unwrap();
    }
    door.nobody();
    is_open(&ca, &mut door).await;
}

/// Rule 11: nobody who says nothing holds up those who do.
#[tokio::test]
async fn silent_connections_hold_up_nobody_and_are_thrown_out() {
    let ca = ca();
    let patience = Duration::from_secs(5);
    let options = LinkOptions { ready_deadline: patience, ..LinkOptions::default() };
    let mut door = Door::with(&ca, "node-2", options.clone());
    let cert = ca.issue("node-1", now()).unwrap();
    let network: Arc<dyn Network> = network(ca.cert_pem(), &cert, options);
    let mut silent = Vec::new();
    // Few at once: their handshakes have deadlines too, and share the processor with other tests.
    for _ in 0..10 {
        let dialling = (0..10).map(|_| network.dial("node-2", door.addr()));
        silent.extend(try_join_all(dialling).await.unwrap());
    }
    let begun = Instant::now();
    is_open(&ca, &mut door).await;
    assert!(begun.elapsed() < patience, "{:?}", begun.elapsed());
    for connection in &silent {
        tokio::time::timeout(crate::fixture::LONG, connection.closed()).await.unwrap();
    }
    door.nobody();
}
