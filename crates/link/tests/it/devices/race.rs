//! Which carrier a device gets.

use std::time::Duration;

use tokio::{net::UdpSocket, time::timeout};
use troupe_link::{
    Carrier, TcpRelay,
    device::{Dialler, EnrolError, Invitation, enrol, greet},
};

use super::kit::{EdgeDoor, ca, dialler, facts, hello};
use crate::fixture::LONG;

/// A door on both, and which of them a device ends at.
#[tokio::test]
async fn quic_wins_where_udp_is_let_through() {
    let mut door = EdgeDoor::over(Carrier::WebSocket);
    door.and(Carrier::Quic);
    let device = door.device();
    let dialler = dialler(door.addr(), &device);
    for _ in 0..5 {
        let connection = timeout(LONG, dialler.dial()).await.unwrap().unwrap();
        assert_eq!(connection.carrier(), Carrier::Quic);
        greet(connection, hello(device.device), LONG).await.unwrap();
        assert_eq!(door.next().await.handle.carrier(), Carrier::Quic);
    }
}

#[tokio::test]
async fn the_websocket_wins_where_udp_vanishes() {
    let mut door = EdgeDoor::over(Carrier::WebSocket);
    let device = door.device();
    let tcp = TcpRelay::before(door.addr()).await.unwrap();
    // Somebody who takes datagrams and says nothing, as a firewall does.
    let _void = UdpSocket::bind(tcp.addr()).await.unwrap();
    let dialler = dialler(tcp.addr(), &device);
    let connection = timeout(Duration::from_secs(2), dialler.dial()).await.unwrap().unwrap();
    assert_eq!(connection.carrier(), Carrier::WebSocket);
    greet(connection, hello(device.device), LONG).await.unwrap();
    assert_eq!(door.next().await.handle.carrier(), Carrier::WebSocket);
    // A network that has neither says so of both.
    tcp.cut(true);
    drop(tcp);
    let neither = timeout(LONG, dialler.dial()).await.unwrap().unwrap_err().to_string();
    assert!(neither.contains("UDP") && neither.contains("TCP"), "{neither}");
}

/// Enrolment, where UDP vanishes; and a wrong server is told as one there too.
#[tokio::test]
async fn a_machine_without_udp_becomes_a_device() {
    let door = EdgeDoor::over(Carrier::WebSocket);
    let tcp = TcpRelay::before(door.addr()).await.unwrap();
    let _void = UdpSocket::bind(tcp.addr()).await.unwrap();
    let invitation = Invitation { port: tcp.addr().port(), ..door.invitation([5; 16]) };
    let elsewhere = Invitation { fingerprint: ca().fingerprint(), ..invitation.clone() };
    let refused = enrol(&elsewhere, &facts()).await.unwrap_err();
    assert!(matches!(refused, EnrolError::WrongServer { .. }), "{refused:?}");
    door.authority.invite([5; 16]);
    let (device, _) = enrol(&invitation, &facts()).await.unwrap();
    let link = door.dial(&device).await.unwrap();
    assert_eq!(link.connection.carrier(), Carrier::WebSocket);
}

/// A link that ended up on TCP can be bettered once UDP is back.
#[tokio::test]
async fn there_is_something_better_than_a_websocket() {
    let mut door = EdgeDoor::over(Carrier::WebSocket);
    let device = door.device();
    let dialler = dialler(door.addr(), &device);
    assert!(timeout(LONG, dialler.better(Carrier::WebSocket)).await.unwrap().is_err());
    door.and(Carrier::Quic);
    let better = timeout(LONG, dialler.better(Carrier::WebSocket)).await.unwrap().unwrap();
    assert_eq!(better.carrier(), Carrier::Quic);
    assert!(dialler.better(Carrier::Quic).await.is_err(), "nothing is better than QUIC");
}
