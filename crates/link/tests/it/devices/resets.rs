//! A door whose process was killed and came back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use troupe_link::{
    LinkOptions, UdpRelay,
    device::{DeviceLink, Dialler, EdgeDialler, EdgeListenerOptions, QuicEdgeNetwork, greet},
};

use super::kit::{EdgeDoor, ca, hello};
use crate::fixture::{LONG, anywhere, now};

/// A device hears at its next packet, long before the silence would tell it.
const SOON: Duration = Duration::from_secs(1);

fn options() -> EdgeListenerOptions {
    let link = LinkOptions {
        keep_alive: Duration::from_millis(100),
        idle: Duration::from_secs(600),
        ..LinkOptions::default()
    };
    EdgeListenerOptions { link, ..EdgeListenerOptions::new("test", "node-1") }
}

/// A linked device, and its door.
struct Linked {
    door: EdgeDoor,
    relay: UdpRelay,
    link: DeviceLink,
}

/// A door of `node-1`, as every process of it opens one: with a certificate of its own.
async fn linked() -> Linked {
    let ca = ca();
    let cert = ca.issue_server("node-1", now()).unwrap();
    let network = QuicEdgeNetwork::bind(anywhere(), &cert, options().link).unwrap().unwrap();
    let mut door = EdgeDoor::open(ca, Arc::new(network), options());
    let relay = UdpRelay::before(door.addr()).await.unwrap();
    let device = door.device();
    let to = vec![relay.addr().to_string()];
    let dialler = EdgeDialler::new(to, &device, options().link).unwrap();
    let connection = timeout(LONG, dialler.dial()).await.unwrap().unwrap();
    let link = greet(connection, hello(device.device), LONG).await.unwrap();
    drop(door.next().await);
    Linked { door, relay, link }
}

/// The process is gone, its last words are lost, and one of `node` is there at the same port.
async fn comes_back(door: EdgeDoor, relay: &UdpRelay, node: &str) -> EdgeDoor {
    relay.cut(true);
    let (at, ca): (SocketAddr, _) = (door.addr(), Arc::clone(&door.ca));
    drop(door);
    let cert = ca.issue_server(node, now()).unwrap();
    let begun = Instant::now();
    let again = loop {
        match QuicEdgeNetwork::bind(at, &cert, options().link).unwrap() {
            Ok(again) => break again,
            // The old socket is held until its connections are given up.
            Err(_) => assert!(begun.elapsed() < LONG, "the port stays taken"),
        }
        tokio::task::yield_now().await;
    };
    let door = EdgeDoor::open(ca, Arc::new(again), options());
    relay.cut(false);
    door
}

#[tokio::test]
async fn a_door_that_comes_back_resets_the_links_of_the_one_before() {
    let Linked { door, relay, link } = linked().await;
    let _door = comes_back(door, &relay, "node-1").await;
    let why = timeout(SOON, link.connection.closed()).await.expect("told by a reset");
    assert!(why.contains("reset"), "{why}");
}

/// Nobody but the node itself can end its links: another secret resets nothing.
#[tokio::test]
async fn a_door_of_another_node_resets_no_link() {
    let Linked { door, relay, link } = linked().await;
    let _door = comes_back(door, &relay, "node-2").await;
    let why = timeout(SOON, link.connection.closed()).await;
    assert!(why.is_err(), "{why:?}");
}
