//! The in-memory twin behaves as the real network does, and can do worse.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use troupe_link::{Link, LinkError, LinkOptions, MemoryHub, Purpose};
use troupe_wire::RefusalReason;

use crate::fixture::{Door, LONG, identity};

fn door(hub: &MemoryHub, node: &str) -> Door {
    let options = LinkOptions::default();
    Door::open(identity(node), Arc::new(hub.network(node, options.clone())), options)
}

async fn pair(hub: &MemoryHub) -> (Door, Door, Link, Link) {
    let (a, mut b) = (door(hub, "node-1"), door(hub, "node-2"));
    let near = a.dial(&b).await.unwrap();
    let far = b.next().await;
    (a, b, near, far)
}

#[tokio::test(start_paused = true)]
async fn links_streams_and_refusals_are_the_same() {
    let hub = MemoryHub::new();
    let (a, mut b, near, far) = pair(&hub).await;
    assert_eq!((near.peer.node.as_str(), far.peer.node.as_str()), ("node-2", "node-1"));
    let mut out = near.connection.open(Purpose::Router).await.unwrap();
    let mut inward = far.connection.accept().await.unwrap();
    out.write.write_all(&[7; 300_000]).await.unwrap_err();
    drop(out);
    let mut all = Vec::new();
    assert!(inward.read.read_to_end(&mut all).await.is_err(), "dropped is not the end");
    let mut out = far.connection.open(Purpose::Bulk).await.unwrap();
    let mut inward = near.connection.accept().await.unwrap();
    assert_eq!(inward.purpose, Purpose::Bulk);
    out.write.write_all(b"back").await.unwrap();
    out.write.shutdown().await.unwrap();
    let mut all = Vec::new();
    inward.read.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"back");

    assert!(a.dial_at("node-3", b.addr()).await.is_err(), "it is somebody else");
    let thief = Door::open(
        identity("node-9"),
        Arc::new(hub.network("node-8", LinkOptions::default())),
        LinkOptions::default(),
    );
    let Err(LinkError::Refused(refusal)) = thief.dial(&b).await else { panic!() };
    assert_eq!(refusal.reason, RefusalReason::WrongName);
    b.nobody();
    near.connection.close("done");
    assert_eq!(far.connection.closed().await, "done");
    assert!(far.connection.open(Purpose::Bulk).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_holds_back_and_a_long_one_ends() {
    let hub = MemoryHub::new();
    let (a, b, near, far) = pair(&hub).await;
    let mut out = near.connection.open(Purpose::Router).await.unwrap();
    let mut inward = far.connection.accept().await.unwrap();
    hub.cut("node-2", "node-1", true);
    out.write.write_u8(1).await.unwrap();
    let nothing = timeout(Duration::from_secs(2), inward.read.read_u8()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    hub.cut("node-1", "node-2", false);
    assert_eq!(inward.read.read_u8().await.unwrap(), 1);
    hub.cut("node-1", "node-2", true);
    let begun = Instant::now();
    near.connection.closed().await;
    far.connection.closed().await;
    let took = begun.elapsed();
    assert!((3_000..3_100).contains(&took.as_millis()), "{took:?}");
    assert!(inward.read.read_u8().await.is_err());
    let refused = timeout(LONG, a.dial(&b)).await.unwrap();
    assert!(matches!(refused, Err(LinkError::Deadline)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn delay_keeps_order_within_a_stream_and_not_between_streams() {
    let hub = MemoryHub::new();
    let (_a, _b, near, far) = pair(&hub).await;
    hub.delay("node-1", "node-2", Duration::from_millis(20), Duration::from_millis(80), 7);
    let mut outs = Vec::new();
    for n in 0..16_u8 {
        let mut out = near.connection.open(Purpose::Bulk).await.unwrap();
        for word in 0..3 {
            out.write.write_all(&[n, word]).await.unwrap();
        }
        outs.push(out);
    }
    let begun = Instant::now();
    let mut arrivals = Vec::new();
    for n in 0..16_u8 {
        let mut inward = far.connection.accept().await.unwrap();
        arrivals.push(async move {
            let mut all = [0; 6];
            inward.read.read_exact(&mut all).await.unwrap();
            assert_eq!(all, [n, 0, n, 1, n, 2], "in order");
            begun.elapsed()
        });
    }
    let mut times = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for arrival in arrivals {
        tasks.spawn(arrival);
    }
    while let Some(time) = tasks.join_next().await {
        times.push(time.unwrap());
    }
    assert!(times.iter().all(|time| time.as_millis() >= 20), "{times:?}");
    let spread = times.last().unwrap().saturating_sub(times[0]);
    assert!(spread >= Duration::from_millis(10), "they overtake each other: {times:?}");
}
