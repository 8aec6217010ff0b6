//! Socketioxide with nothing around it: what idle sockets and emits cost at least.
#![expect(clippy::print_stdout, reason = "tells its parent where it listens")]

use std::time::Duration;

use anyhow::{Context, Result};
use axum::{Router, extract::State, routing::post};
use serde_json::{Value, json};
use socketioxide::{SocketIo, TransportType, extract::Data};
use tokio::net::TcpListener;

/// Serves until it is killed. `POST /emit` emits one event to all sockets of `/chat`.
pub(crate) async fn serve() -> Result<()> {
    // Transport and heartbeat as a node has them.
    let (layer, io) = SocketIo::builder()
        .transports([TransportType::Websocket])
        .ping_interval(Duration::from_secs(25))
        .ping_timeout(Duration::from_secs(20))
        .max_buffer_size(128)
        .build_layer();
    io.ns("/chat", async |_: Data<Value>| {});
    let app = Router::new().route("/emit", post(emit)).with_state(io).layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
    println!("{}", listener.local_addr().context("its own address")?);
    axum::serve(listener, app).await.context("serve")
}

async fn emit(State(io): State<SocketIo>) -> &'static str {
    // As large as what a node tells when a Task is deleted.
    let payload = json!({"task_id": "tsk_r0hjzsdbe182k25jhwn2kjffsw"});
    if let Some(chat) = io.of("/chat") {
        // Whoever is gone needs no event.
        let _gone = chat.emit("task:deleted", &payload).await;
    }
    "done"
}
