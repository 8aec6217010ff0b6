//! Subscriptions.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use troupe_sharding::StreamItem;

use crate::counter::{Fixture, LONG, entity, start};

async fn next(stream: &mut tokio::sync::mpsc::Receiver<StreamItem>) -> Option<StreamItem> {
    timeout(LONG, stream.recv()).await.unwrap()
}

async fn subscribe(f: &Fixture, capacity: usize) -> tokio::sync::mpsc::Receiver<StreamItem> {
    let (reply, stream) =
        f.router.subscribe(entity(1), Bytes::new(), capacity, LONG).await.unwrap();
    assert_eq!(reply, Bytes::from_static(b"0"));
    stream
}

#[tokio::test]
async fn frames_reach_all_who_follow() {
    let f = start().await;
    let (mut a, mut b) = (subscribe(&f, 4).await, subscribe(&f, 4).await);
    assert_eq!(f.ask(entity(1), "frames").await.unwrap(), "2");
    assert!(matches!(next(&mut a).await, Some(StreamItem::Frames(_))));
    assert!(matches!(next(&mut b).await, Some(StreamItem::Frames(_))));
    drop(a);
    assert_eq!(f.ask(entity(1), "frames").await.unwrap(), "1");
}

#[tokio::test]
async fn a_slow_subscriber_is_told_and_left_behind() {
    let f = start().await;
    let mut slow = subscribe(&f, 3).await;
    for _ in 0..3 {
        assert_eq!(f.ask(entity(1), "frames").await.unwrap(), "1");
    }
    assert_eq!(f.ask(entity(1), "frames").await.unwrap(), "0");
    for _ in 0..3 {
        assert!(matches!(next(&mut slow).await, Some(StreamItem::Frames(_))));
    }
    assert!(matches!(next(&mut slow).await, Some(StreamItem::Lagged)));
    assert!(next(&mut slow).await.is_none());
}

#[tokio::test]
async fn a_crash_closes_the_stream() {
    let f = start().await;
    let mut stream = subscribe(&f, 4).await;
    f.ask(entity(1), "answer-crash").await.unwrap();
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test]
async fn a_viewer_keeps_its_entity_and_a_drain_says_the_end() {
    let f = start().await;
    let mut stream = subscribe(&f, 4).await;
    f.ask(entity(2), "get").await.unwrap();
    f.clock.advance(Duration::from_secs(600));
    f.until("the other one goes", |f| f.stats().entities == 1).await;
    let outcome = f.host.drain(Duration::from_millis(50)).await;
    assert_eq!(outcome.forced, 1);
    assert!(matches!(next(&mut stream).await, Some(StreamItem::Ended)));
}
