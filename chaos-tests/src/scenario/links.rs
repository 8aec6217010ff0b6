//! Faults of the network.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tokio::{net::UdpSocket, time::timeout};
use troupe_testkit::client::stream::{Message, Socket};

use crate::{
    check::Invariant,
    place::{LINK_PORT, hub, node_address, rules::Rules},
    proxy::udp::Weather,
    stage::Stage,
};

/// Latency only: a call through a third node, or a wait.
const LATENCY: Duration = Duration::from_secs(15);
/// Larger than anything that a node takes.
const BIG: usize = 17 * 1024 * 1024;

/// Asks all probes while the fault lasts; nothing may move.
async fn endure(stage: &mut Stage, span: Duration, nothing_moves: bool) -> Result<()> {
    let claims = stage.claims().await?;
    let probes: Vec<_> = stage.probes.iter().take(8).cloned().collect();
    let asking = stage.ask(&probes, usize::MAX);
    stage.cluster.watch(span).await;
    stage.answered("answers meanwhile", asking, LATENCY).await;
    let moves = stage.moves(claims).await?;
    stage.figure(format!("{moves} shards moved"), nothing_moves.then_some(moves == 0));
    Ok(())
}

pub(super) async fn cut(stage: &mut Stage) -> Result<()> {
    stage.rest().await;
    let (one, other) = stage.any_pair();
    stage.note(format!("{} <-x-> {}", stage.node_name(one), stage.node_name(other)));
    let cut = |rules: &mut Rules| {
        rules.mute_to.insert(other);
        rules.deaf_to.insert(other);
    };
    stage.cluster.network.change(one, cut).await?;
    endure(stage, stage.span(8, 30), true).await
}

pub(super) async fn cut_one_way(stage: &mut Stage) -> Result<()> {
    stage.rest().await;
    let (one, other) = stage.any_pair();
    stage.note(format!("{} -x-> {}", stage.node_name(one), stage.node_name(other)));
    let mute = |rules: &mut Rules| {
        rules.mute_to.insert(other);
    };
    stage.cluster.network.change(one, mute).await?;
    endure(stage, stage.span(8, 30), true).await
}

pub(super) async fn loss(stage: &mut Stage) -> Result<()> {
    let (nodes, services) = (stage.rng.random_range(10..=25), stage.rng.random_range(1..=5));
    stage.note(format!("{nodes} % between nodes, {services} % to the services are lost"));
    for node in 0..stage.cluster.nodes.len() {
        let lose = |rules: &mut Rules| {
            rules.loss_nodes = nodes;
            rules.loss_services = services;
        };
        stage.cluster.network.change(node, lose).await?;
    }
    endure(stage, stage.span(8, 40), false).await
}

pub(super) async fn weather(stage: &mut Stage) -> Result<()> {
    stage.rest().await;
    let delay_max = Duration::from_millis(stage.rng.random_range(20..150));
    let weather = Weather { delay_max, doubled: 0.1, very_late: 0.02 };
    stage.note(format!("{weather:?}"));
    stage.cluster.links.values().for_each(|link| link.set(weather));
    endure(stage, stage.span(8, 40), true).await
}

pub(super) async fn big_payload(stage: &mut Stage) -> Result<()> {
    let node = stage.any_node();
    let mut rng = StdRng::from_rng(&mut stage.rng);
    stage.note(format!("17 MiB to every port of {}", stage.node_name(node)));
    let socket = UdpSocket::bind((hub(), 0)).await?;
    let mut datagram = [0; 1_200];
    for _ in 0..BIG / datagram.len() {
        rng.fill(&mut datagram[..]);
        // A full buffer loses some, which is fine.
        let _ = socket.send_to(&datagram, (node_address(node), LINK_PORT)).await;
    }
    let name = stage.node_name(node);
    let all = stage.cluster.roster.all();
    let (_, url) = all.iter().find(|(of, _)| *of == name).context("no such node")?;
    let rest = crate::load::rest(url)?;
    let message = "x".repeat(BIG);
    let body = json!({"team_id": "probe", "message": message});
    // Refused by its length, or cut off while it is sent.
    let status = match rest.call("POST", "/api/v1/tasks", Some(&stage.admin), Some(&body)).await {
        Ok(answer) => answer.status,
        Err(_) => 413,
    };
    stage.figure(format!("a body of 17 MiB is answered with {status}"), Some(status == 413));
    let mut stream = Socket::open(url, &stage.admin.token).await?;
    let _ = stream.send(Message::text(message)).await;
    let closed = timeout(Duration::from_secs(10), async {
        while let Ok(Some(_)) = stream.read(Duration::from_secs(10)).await {}
    })
    .await;
    stage.figure("a stream that sends 17 MiB at once is closed", Some(closed.is_ok()));
    if !stage.cluster.nodes[node].is_up() {
        stage.violates(Invariant::I7, format!("{name} did not outlive 17 MiB"));
    }
    stage.cluster.watch(stage.span(2, 5)).await;
    Ok(())
}
