//! Socket.IO by hand: the few packets that an idle socket needs.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, Utf8Bytes},
};

use crate::stream::small_buffers;

const PATIENCE: Duration = Duration::from_secs(60);
/// Engine.IO: open, ping, pong. Socket.IO in it: connected to `/chat`, event of `/chat`.
const OPEN: char = '0';
const PING: &str = "2";
const PONG: &str = "3";
const CONNECTED: &str = "40/chat,";
const EVENT: &str = "42/chat,";

/// A socket in the namespace `/chat`.
#[derive(Debug)]
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub(crate) async fn open(authority: &str, token: &str) -> Result<Self> {
        let tcp = TcpStream::connect(authority).await.context("connect")?;
        tcp.set_nodelay(true).context("set up the connection")?;
        let url = format!("ws://{authority}/socket.io/?EIO=4&transport=websocket");
        let opening = client_async_with_config(url, tcp, Some(small_buffers()));
        let (ws, _) = timeout(PATIENCE, opening).await.context("no handshake in time")??;
        let mut socket = Self(ws);
        let hello = socket.read().await?;
        ensure!(hello.starts_with(OPEN), "not an Engine.IO server: {hello}");
        socket.write(&format!("{CONNECTED}{}", json!({"token": token}))).await?;
        loop {
            let packet = socket.read().await?;
            if packet.starts_with(CONNECTED) {
                return Ok(socket);
            }
            ensure!(!packet.starts_with("44"), "the socket was refused: {packet}");
        }
    }

    /// The next event; pings are answered on the way.
    pub(crate) async fn event(&mut self) -> Result<Utf8Bytes> {
        loop {
            let packet = self.read().await?;
            if packet.starts_with(EVENT) {
                return Ok(packet);
            }
        }
    }

    async fn read(&mut self) -> Result<Utf8Bytes> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(packet))) if packet == PING => self.write(PONG).await?,
                Some(Ok(Message::Text(packet))) => return Ok(packet),
                Some(Ok(Message::Close(why))) => bail!("the socket was closed: {why:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the socket broke"),
                None => bail!("the socket ended"),
            }
        }
    }

    async fn write(&mut self, packet: &str) -> Result<()> {
        self.0.send(Message::text(packet)).await.context("send a packet")
    }
}
