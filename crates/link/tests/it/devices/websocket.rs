//! What only the TCP door has to stand.

use std::{sync::Arc, time::Duration};

use futures::SinkExt as _;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{client_async, tungstenite::Message};
use troupe_link::{
    Carrier, LinkError,
    device::{DeviceIdentity, Dialler as _, EdgeListenerOptions},
};
use troupe_testkit::wait_until;

use super::kit::EdgeDoor;
use crate::fixture::LONG;

fn door() -> EdgeDoor {
    let mut options = EdgeListenerOptions::new("test", "node-1");
    options.link.ready_deadline = Duration::from_secs(3);
    EdgeDoor::with(Carrier::WebSocket, options)
}

/// TLS as a device does it, with a protocol of one's choice.
async fn tls(
    door: &EdgeDoor,
    device: &DeviceIdentity,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(device.ca.to_vec())).unwrap();
    let chain = device.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let key = PrivateKeyDer::from_pem_slice(device.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(Arc::new(roots))
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.to_vec()).collect();
    let socket = TcpStream::connect(door.addr()).await?;
    let name = ServerName::try_from("troupe-edge").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// That the door hangs up.
async fn hung_up(socket: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut scrap = Vec::new();
    let read = timeout(LONG, socket.read_to_end(&mut scrap)).await;
    assert!(read.is_ok(), "it stays open");
}

#[tokio::test]
async fn another_protocol_stays_out() {
    let mut door = door();
    let device = door.device();
    for alpn in [&[&b"troupe-node/1"[..]][..], &[b"h2"], &[b"http/1.1"], &[]] {
        let refused = match tls(&door, &device, alpn).await {
            // The door answers nothing to one who asked for none.
            Ok(socket) => client_async("wss://troupe-edge/link", socket).await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "{alpn:?}");
    }
    door.nobody();
    door.is_open().await;
}

#[tokio::test]
async fn garbage_is_stood_at_every_layer() {
    let mut door = door();
    let device = door.device();
    let mut word: u64 = 11;
    let mut noise = |len: usize| -> Vec<u8> {
        let mut next = || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.to_be_bytes()[0]
        };
        (0..len).map(|_| next()).collect()
    };
    for round in 0..100 {
        let mut socket = TcpStream::connect(door.addr()).await.unwrap();
        // It may hang up before all of it is said.
        let _ = socket.write_all(&noise(1 + round * 37)).await;
        let _ = socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
    }
    for round in 0..20 {
        let mut socket = tls(&door, &device, &[b"troupe-edge/1"]).await.unwrap();
        let _ = socket.write_all(&noise(1 + round * 997)).await;
        let _ = socket.write_all(b"\r\n\r\n").await;
        hung_up(&mut socket).await;
    }
    let messages = [
        Message::Text("hello".into()),
        Message::Binary(noise(5_000).into()),
        Message::Binary(vec![0xFF; 60_000].into()),
        // Larger than any message may be.
        Message::Binary(vec![0; 1_000_000].into()),
    ];
    for message in messages {
        let socket = tls(&door, &device, &[b"troupe-edge/1"]).await.unwrap();
        let (mut socket, _) = client_async("wss://troupe-edge/link", socket).await.unwrap();
        let _ = socket.send(message).await;
        hung_up(socket.get_mut()).await;
    }
    door.nobody();
    door.is_open().await;
}

/// Whoever is slow, at whatever layer, is thrown out, and holds up nobody.
#[tokio::test]
async fn slow_handshakes_are_thrown_out() {
    let mut door = door();
    let device = door.device();
    let mut silent = TcpStream::connect(door.addr()).await.unwrap();
    let mut dribbling = TcpStream::connect(door.addr()).await.unwrap();
    dribbling.write_all(&[0x16, 3, 1]).await.unwrap();
    let mut half = tls(&door, &device, &[b"troupe-edge/1"]).await.unwrap();
    half.write_all(b"GET /link HTTP/1.1\r\nHost: troupe-edge\r\n").await.unwrap();
    let begun = Instant::now();
    door.is_open().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let mute = timeout(LONG, door.dialler(&device).dial()).await.unwrap().unwrap();
    timeout(LONG, mute.closed()).await.unwrap();
    hung_up(&mut silent).await;
    hung_up(&mut dribbling).await;
    hung_up(&mut half).await;
    wait_until(LONG, async || door.listener.greetings() == 0).await;
    door.nobody();
}

#[tokio::test]
async fn a_thousand_half_open_connections_hold_up_nobody() {
    let mut door = door();
    let mut open = Vec::new();
    for _ in 0..1_000 {
        open.push(TcpStream::connect(door.addr()).await.unwrap());
    }
    let begun = Instant::now();
    door.is_open().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    door.nobody();
}

/// One address fills half of the room for handshakes, and no more.
#[tokio::test]
async fn an_address_has_its_share() {
    let mut options = EdgeListenerOptions::new("test", "node-1");
    options.link.handshakes_max = 8;
    options.link.ready_deadline = Duration::from_secs(3);
    let mut door = EdgeDoor::with(Carrier::WebSocket, options);
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(TcpStream::connect(door.addr()).await.unwrap());
    }
    // Those beyond its share are hung up at once; the others are waited for.
    for socket in &mut open[4..] {
        let mut scrap = [0; 1];
        let read = timeout(Duration::from_secs(2), socket.read(&mut scrap)).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
    }
    wait_until(LONG, async || door.listener.greetings() == 4).await;
    drop(open);
    wait_until(LONG, async || door.listener.greetings() == 0).await;
    door.is_open().await;
}

/// A peer that opens more than it may is not listened to any more.
#[tokio::test]
async fn too_many_streams_end_the_connection() {
    let mut options = EdgeListenerOptions::new("test", "node-1");
    options.link.streams_max = 4;
    let mut door = EdgeDoor::with(Carrier::WebSocket, options);
    let device = door.device();
    let link = door.dial(&device).await.unwrap();
    let session = door.next().await;
    let mut open = Vec::new();
    let refused = loop {
        match link.connection.open(troupe_link::Purpose::Execution).await {
            Ok(stream) => open.push(stream),
            Err(error) => break error,
        }
        assert!(open.len() < 32, "it takes any number");
        tokio::task::yield_now().await;
    };
    assert!(matches!(refused, LinkError::Connection { .. } | LinkError::Stream(_)), "{refused:?}");
    let why = timeout(LONG, session.handle.closed()).await.unwrap();
    assert!(why.contains("too many streams"), "{why}");
    let _ = door.dialler(&device).dial().await;
}
