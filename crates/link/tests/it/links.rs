//! What a link is good for.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use troupe_link::{LinkOptions, Network, Purpose, QuicNetwork, UdpRelay};

use crate::fixture::{Door, LONG, ca, identity};

#[tokio::test]
async fn both_ends_know_each_other_and_streams_carry_bytes() {
    let ca = ca();
    let (a, mut b) = (Door::of(&ca, "node-1"), Door::of(&ca, "node-2"));
    let near = a.dial(&b).await.unwrap();
    let far = b.next().await;
    assert_eq!((near.peer.node.as_str(), far.peer.node.as_str()), ("node-2", "node-1"));
    assert_eq!((near.peer.boot, far.peer.boot), (b.me.boot, a.me.boot));
    assert_eq!((near.peer.token, far.peer.token), (far.mine.token, near.mine.token));
    assert_ne!(near.peer.token, far.peer.token);
    assert_eq!((near.version, far.version), (1, 1));
    assert!(near.dialled && !far.dialled);

    let mut out = near.connection.open(Purpose::Router).await.unwrap();
    let mut inward = timeout(LONG, far.connection.accept()).await.unwrap().unwrap();
    assert_eq!(inward.purpose, Purpose::Router);
    out.write.write_all(b"hello").await.unwrap();
    let mut five = [0; 5];
    timeout(LONG, inward.read.read_exact(&mut five)).await.unwrap().unwrap();
    inward.write.write_all(&five).await.unwrap();
    inward.write.shutdown().await.unwrap();
    let mut back = Vec::new();
    timeout(LONG, out.read.read_to_end(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, b"hello");
}

/// Large data does not stand in the way of small: they have streams of their own.
#[tokio::test]
async fn bulk_that_nobody_reads_leaves_the_router_stream_alone() {
    let ca = ca();
    let (a, mut b) = (Door::of(&ca, "node-1"), Door::of(&ca, "node-2"));
    let near = a.dial(&b).await.unwrap();
    let far = b.next().await;
    let mut bulk = near.connection.open(Purpose::Bulk).await.unwrap();
    let unread = timeout(LONG, far.connection.accept()).await.unwrap().unwrap();
    assert_eq!(unread.purpose, Purpose::Bulk);
    let large = vec![0; 16 * 1024 * 1024];
    let stalled = async { bulk.write.write_all(&large).await.unwrap_err() };
    let small = async {
        let mut out = near.connection.open(Purpose::Router).await.unwrap();
        let mut inward = timeout(LONG, far.connection.accept()).await.unwrap().unwrap();
        for n in 0..200_u8 {
            out.write.write_u8(n).await.unwrap();
            assert_eq!(timeout(LONG, inward.read.read_u8()).await.unwrap().unwrap(), n);
        }
    };
    let (stalled, ()) = tokio::join!(stalled, small);
    assert_eq!(stalled.kind(), std::io::ErrorKind::TimedOut, "rule 10: the writer gives up");
    drop(unread);
}

/// A stream that is let go of unfinished is told as broken, never as whole.
#[tokio::test]
async fn a_dropped_writer_is_no_end_of_file() {
    let ca = ca();
    let (a, mut b) = (Door::of(&ca, "node-1"), Door::of(&ca, "node-2"));
    let near = a.dial(&b).await.unwrap();
    let far = b.next().await;
    let mut out = near.connection.open(Purpose::Bulk).await.unwrap();
    out.write.write_all(b"half").await.unwrap();
    let mut inward = timeout(LONG, far.connection.accept()).await.unwrap().unwrap();
    drop(out);
    let mut all = Vec::new();
    assert!(timeout(LONG, inward.read.read_to_end(&mut all)).await.unwrap().is_err());
}

/// Rule 9: a peer that is silent is noticed by the transport, on both sides, and a quiet but
/// healthy link is kept.
#[tokio::test]
async fn a_cut_is_seen_after_the_idle_time_and_a_quiet_link_is_kept() {
    let ca = ca();
    let options = LinkOptions {
        keep_alive: Duration::from_millis(200),
        idle: Duration::from_secs(1),
        ..LinkOptions::default()
    };
    let a = Door::with(&ca, "node-1", options.clone());
    let mut b = Door::with(&ca, "node-2", options);
    let relay = UdpRelay::before(b.addr()).await.unwrap();
    let at = relay.addr();
    let near = a.dial_at("node-2", at).await.unwrap();
    let far = b.next().await;
    let kept = timeout(Duration::from_millis(2_500), near.connection.closed()).await;
    assert!(kept.is_err(), "nothing was said for longer than the idle time: {kept:?}");
    relay.cut(true);
    let begun = Instant::now();
    let why = timeout(LONG, near.connection.closed()).await.unwrap();
    timeout(LONG, far.connection.closed()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(why.contains("timed out"), "{why}");
    assert!(a.dial_at("node-2", at).await.is_err());
    relay.cut(false);
    a.dial_at("node-2", at).await.unwrap();
}

/// A process that crashed and came back says so at the next packet, not by its silence.
#[tokio::test]
async fn a_peer_that_came_back_is_noticed_at_once() {
    let ca = ca();
    let options = LinkOptions {
        keep_alive: Duration::from_millis(100),
        idle: Duration::from_secs(600),
        ..LinkOptions::default()
    };
    let a = Door::with(&ca, "node-1", options.clone());
    let cert = ca.issue("node-2", crate::fixture::now()).unwrap();
    let bind = |at| QuicNetwork::bind(at, ca.cert_pem(), &cert, options.clone()).unwrap();
    let network = Arc::new(bind(crate::fixture::anywhere()).unwrap());
    let at = network.local_addr().unwrap();
    let mut b = Door::open(identity("node-2"), network, options.clone());
    let relay = UdpRelay::before(at).await.unwrap();
    let near = a.dial_at("node-2", relay.addr()).await.unwrap();
    drop(b.next().await);
    // Its last words are lost, as those of a process that is killed.
    relay.cut(true);
    drop(b);
    let begun = Instant::now();
    let again = loop {
        match bind(at) {
            Ok(again) => break again,
            // The old socket is held until its connections are given up.
            Err(_) => assert!(begun.elapsed() < LONG, "the port stays taken"),
        }
        tokio::task::yield_now().await;
    };
    let _b = Door::open(identity("node-2"), Arc::new(again), options);
    relay.cut(false);
    let why = timeout(LONG, near.connection.closed()).await.expect("told by a reset");
    assert!(why.contains("reset"), "{why}");
}
