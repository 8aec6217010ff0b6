//! What a link is made of: networks, connections, streams.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    time::{Instant, Sleep, sleep_until, timeout},
};

use crate::error::LinkError;

/// The read half of a stream.
pub type BoxRead = Box<dyn AsyncRead + Unpin + Send>;
/// The write half of a stream.
pub type BoxWrite = Box<dyn AsyncWrite + Unpin + Send>;

/// What a stream is for; its first byte says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The hellos. Opened by the one who dials, first of all.
    Control,
    /// Batches between Routers.
    Router,
    /// Large data that nobody should wait behind; what it is follows on the stream.
    Bulk,
    /// Output of one execution of a device.
    Execution,
}

/// What both ends said they speak (their ALPN).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// `troupe-node/1`: both are nodes.
    #[default]
    Node,
    /// `troupe-edge/1`: a session of a device.
    Edge,
    /// `troupe-enrol/1`: a machine that wants to become a device; it has no certificate.
    Enrol,
}

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC over UDP.
    Quic,
    /// WebSocket over TLS over TCP.
    WebSocket,
    /// The process itself.
    Memory,
}

impl Carrier {
    /// A word for people: `quic`, `websocket`, `memory`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::WebSocket => "websocket",
            Self::Memory => "memory",
        }
    }
}

impl Purpose {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Control => 1,
            Self::Router => 2,
            Self::Bulk => 3,
            Self::Execution => 4,
        }
    }

    pub(crate) const fn of(code: u8) -> Result<Self, LinkError> {
        match code {
            1 => Ok(Self::Control),
            2 => Ok(Self::Router),
            3 => Ok(Self::Bulk),
            4 => Ok(Self::Execution),
            other => Err(LinkError::Purpose(other)),
        }
    }
}

/// What a peer's new stream is for. The next stream waits for this, so there is a deadline.
pub(crate) async fn purpose_of(
    read: &mut (impl AsyncRead + Unpin),
    patience: Duration,
) -> Result<Purpose, LinkError> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the peer does not say what it is for");
    let code = timeout(patience, read.read_u8()).await.unwrap_or_else(|_| Err(late()));
    Purpose::of(code.map_err(LinkError::Stream)?)
}

/// One stream, open both ways. Its writer has a deadline against readers that do not read.
pub struct LinkStream {
    /// What for.
    pub purpose: Purpose,
    /// From the peer.
    pub read: BoxRead,
    /// To the peer.
    pub write: BoxWrite,
}

impl fmt::Debug for LinkStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkStream").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// A connection to one peer. Dropping all handles closes it.
#[async_trait]
pub trait Connection: fmt::Debug + Send + Sync + 'static {
    /// Opens a stream. The peer sees it with its first byte, which is sent here.
    ///
    /// # Errors
    /// The connection is gone. Waits while too many streams are open.
    async fn open(&self, purpose: Purpose) -> Result<LinkStream, LinkError>;

    /// The next stream that the peer opened. Cancel safe, except that a stream whose purpose
    /// was not read yet is lost.
    ///
    /// # Errors
    /// The connection is gone; or the peer opened something unknown, or let go of a stream before
    /// it was known, which leaves all others as they are ([`LinkError::is_of_stream`]).
    async fn accept(&self) -> Result<LinkStream, LinkError>;

    /// Whether the peer's certificate is of this node.
    fn is_of(&self, node: &str) -> bool;

    /// Where the peer is; changes when it moves to another network.
    fn remote(&self) -> SocketAddr;

    /// What both ends speak.
    fn protocol(&self) -> Protocol {
        Protocol::Node
    }

    /// What carries it.
    fn carrier(&self) -> Carrier {
        Carrier::Memory
    }

    /// The peer's certificate, DER, if it showed one.
    fn peer_cert(&self) -> Option<Bytes> {
        None
    }

    /// How long a packet and its answer take, as the transport measures it.
    fn rtt(&self) -> Option<Duration> {
        None
    }

    /// Sends a datagram that may be lost. `false`: this connection has none, or it is gone.
    fn send_datagram(&self, _datagram: Bytes) -> bool {
        false
    }

    /// The next datagram; `None` when there will be none any more. Cancel safe.
    async fn datagram(&self) -> Option<Bytes> {
        std::future::pending().await
    }

    /// Closes it at once; the peer is told why if it can be reached.
    fn close(&self, why: &'static str);

    /// Resolves when it is closed, by anybody; says why.
    async fn closed(&self) -> String;
}

/// A connection that is about to come in: its handshake, to be awaited under a deadline.
pub type Arriving = Pin<Box<dyn Future<Output = Result<Arc<dyn Connection>, LinkError>> + Send>>;

/// Where connections are made.
#[async_trait]
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Begins a connection to a node.
    ///
    /// # Errors
    /// It cannot be reached, or its certificate is not of this node.
    async fn dial(&self, node: &str, to: SocketAddr) -> Result<Arc<dyn Connection>, LinkError>;

    /// The next peer at the door, at once, with its handshake still to be done. `None`: the
    /// network is closed. `under_way`: handshakes that are not done.
    async fn arriving(&self, under_way: usize) -> Option<Arriving>;

    /// Where peers reach this network.
    ///
    /// # Errors
    /// The socket is gone.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Closes every connection and takes no new ones.
    fn close(&self);
}

/// A writer with a deadline: when nothing is taken for so long, it fails for good and lets go
/// of the stream. So nobody who waits for a write to end waits for ever.
#[derive(Debug)]
pub struct StallGuard<W> {
    inner: Option<W>,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<W> StallGuard<W> {
    /// A guard around a writer.
    #[must_use]
    pub const fn new(inner: W, patience: Duration) -> Self {
        Self { inner: Some(inner), patience, stalled: None }
    }

    fn gone() -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")
    }

    /// Runs one step of the writer, or fails once the patience is used up.
    fn step<T>(
        &mut self,
        cx: &mut Context<'_>,
        step: impl FnOnce(&mut W, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(Self::gone())) };
        if let Poll::Ready(done) = step(inner, cx) {
            self.stalled = None;
            return Poll::Ready(done);
        }
        let patience = self.patience;
        let stalled =
            self.stalled.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
        ready!(stalled.as_mut().poll(cx));
        // Dropping the stream resets it, so that the peer learns of it too.
        self.inner = None;
        self.stalled = None;
        Poll::Ready(Err(Self::gone()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for StallGuard<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.step(cx, |inner, cx| Pin::new(inner).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.step(cx, |inner, cx| Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.step(cx, |inner, cx| Pin::new(inner).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_does_not_read_is_given_up() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut guard = StallGuard::new(near, Duration::from_secs(5));
        let begun = Instant::now();
        let failed = guard.write_all(&[7; 100]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        assert!(guard.write_all(&[7]).await.is_err(), "for good");
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.len(), 64, "the stream was let go of");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not() {
        let (near, mut far) = tokio::io::duplex(8);
        let mut guard = StallGuard::new(near, Duration::from_secs(5));
        let reading = async move {
            let mut got = 0;
            let mut some = [0; 4];
            while got < 64 {
                tokio::time::sleep(Duration::from_secs(4)).await;
                got += far.read(&mut some).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(guard.write_all(&[7; 64]), reading);
        written.unwrap();
    }
}
