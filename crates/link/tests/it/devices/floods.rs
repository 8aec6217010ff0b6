//! What only the UDP door has to stand.

use std::time::Duration;

use tokio::time::timeout;
use troupe_link::{
    Carrier, LinkOptions, Network, NodeCa, Purpose, QuicNetwork,
    device::{Dialler, EdgeListenerOptions, write_frame},
};
use troupe_wire::device::{DeviceFrame, Ping};

use super::kit::{EdgeDoor, dialler};
use crate::fixture::{LONG, anywhere, now};

/// A node's certificate, and a protocol that is not spoken here.
#[tokio::test]
async fn another_alpn_stays_out() {
    let mut door = EdgeDoor::over(Carrier::Quic);
    let nodes = NodeCa::create("test", now()).unwrap();
    let cert = nodes.issue("node-2", now()).unwrap();
    for alpn in [&b"troupe-node/1"[..], b"troupe-edge/1", b"h3"] {
        let options = LinkOptions::default();
        let network = QuicNetwork::bind_with(anywhere(), nodes.cert_pem(), &cert, options, alpn);
        let network = network.unwrap().unwrap();
        let dialled = timeout(LONG, network.dial("troupe-edge", door.addr())).await.unwrap();
        assert!(dialled.is_err(), "{alpn:?}");
    }
    door.nobody();
    door.is_open().await;
}

#[tokio::test]
async fn garbage_and_silence_are_thrown_out() {
    let mut options = EdgeListenerOptions::new("test", "node-1");
    options.link.ready_deadline = Duration::from_secs(3);
    let mut door = EdgeDoor::with(Carrier::Quic, options);
    let noise = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut word: u64 = 11;
    for round in 0..2_000_usize {
        let bytes: Vec<u8> = (0..round % 1_400)
            .map(|_| {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                word.to_be_bytes()[0]
            })
            .collect();
        noise.send_to(&bytes, door.addr()).await.unwrap();
    }
    door.is_open().await;
    let device = door.device();
    let silent = timeout(LONG, door.dialler(&device).dial()).await.unwrap().unwrap();
    timeout(LONG, silent.closed()).await.unwrap();
    assert_eq!(door.listener.greetings(), 0, "it is thrown out");
    let wrong = timeout(LONG, door.dialler(&device).dial()).await.unwrap().unwrap();
    let mut control = wrong.open(Purpose::Control).await.unwrap();
    write_frame(&mut control.write, &DeviceFrame::Ping(Ping { nonce: 1 })).await.unwrap();
    timeout(LONG, wrong.closed()).await.unwrap();
    let wrong = timeout(LONG, door.dialler(&device).dial()).await.unwrap().unwrap();
    let _stream = wrong.open(Purpose::Execution).await.unwrap();
    timeout(LONG, wrong.closed()).await.unwrap();
    door.is_open().await;
}

/// A thousand first packets, each of a real handshake that nobody goes on with.
#[tokio::test]
async fn a_thousand_half_open_connections_hold_up_nobody() {
    let mut door = EdgeDoor::over(Carrier::Quic);
    let device = door.device();
    let trap = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let dialler = dialler(trap.local_addr().unwrap(), &device).only(Carrier::Quic);
    let flood = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut buffer = [0; 2_048];
    let mut sent = 0;
    while sent < 1_000 {
        let first = timeout(LONG, async {
            tokio::select! {
                biased;
                first = trap.recv(&mut buffer) => first.unwrap(),
                dialled = dialler.dial() => panic!("a trap answered: {dialled:?}"),
            }
        });
        let len = first.await.unwrap();
        // Dropping a try says goodbye; that is no first packet.
        if len >= 1_200 {
            flood.send_to(&buffer[..len], door.addr()).await.unwrap();
            sent += 1;
        }
    }
    let begun = tokio::time::Instant::now();
    door.is_open().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    door.nobody();
}
