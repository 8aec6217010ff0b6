//! A trace goes with a message: through the queue of a Shard, and to another node.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tracing::{Instrument as _, debug_span};
use troupe_link::MemoryHub;
use troupe_sharding::Router;
use troupe_telemetry::{LogOptions, TraceOptions, TraceParent, init_with_traces, trace};
use troupe_types::EntityId;

use crate::{
    counter::{LONG, World},
    nodes::{Cluster, first, pair},
};

/// Collects traces in this process. Nobody takes the spans: where they stand is what counts.
fn collect() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let options = TraceOptions {
            endpoint: "http://127.0.0.1:9".to_owned(),
            sample_ratio: 1.0,
            instance: "test".to_owned(),
            version: "0".to_owned(),
        };
        let (traces, _) =
            init_with_traces(&LogOptions::default(), Some(&options)).unwrap().unwrap();
        std::mem::forget(traces);
    });
}

/// Asks within a trace; where the asker stood.
async fn ask(router: &Router, to: EntityId, body: &'static str) -> TraceParent {
    let span = debug_span!(target: "troupe_test", "test");
    let work = async {
        router.ask(to, Bytes::from_static(body.as_bytes()), LONG).await.unwrap();
        trace::current().unwrap()
    };
    work.instrument(span).await
}

#[track_caller]
fn assert_below(asker: TraceParent, world: &Arc<World>) {
    let handler = world.traces.lock().unwrap().pop().unwrap().expect("the handler is in a trace");
    assert_eq!(handler.trace, asker.trace, "it is the same trace");
    assert_ne!(handler.span, asker.span, "the handler has a span of its own");
    assert_eq!(handler.flags, asker.flags);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_is_in_the_trace_of_whoever_asked_on_whatever_node() {
    collect();
    let (_cluster, a, b) = pair().await;
    let asker = ask(&a.router, first(), "add x").await;
    assert_below(asker, &b.world);
    let asker = ask(&b.router, first(), "add y").await;
    assert_below(asker, &b.world);
    a.ask(first(), "get").await.unwrap();
    assert_eq!(b.world.traces.lock().unwrap().pop(), Some(None), "nobody asked within a trace");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_relayed_ask_and_a_told_one_stay_in_their_trace() {
    collect();
    let mut cluster = Cluster::with("node-3", {
        let mut options = crate::nodes::brisk();
        options.relay_after = Duration::from_millis(50);
        options
    });
    let hub = MemoryHub::new();
    cluster.hub = Some(hub.clone());
    let (a, b, c) =
        (cluster.node("node-1").await, cluster.node("node-2").await, cluster.node("node-3").await);
    cluster.join(&[&a, &b, &c]).await;
    hub.cut("node-1", "node-3", true);
    a.until("the cut is seen", |node| node.linked() == 1).await;
    let asker = ask(&a.router, first(), "add x").await;
    assert_below(asker, &c.world);
    hub.cut("node-1", "node-3", false);

    let span = debug_span!(target: "troupe_test", "test");
    let here = span.in_scope(|| {
        a.router.tell(first(), Bytes::from_static(b"add y"), LONG).unwrap();
        trace::current().unwrap()
    });
    drop(span);
    c.until("it was told", |node| !node.world.traces.lock().unwrap().is_empty()).await;
    assert_below(here, &c.world);
}
