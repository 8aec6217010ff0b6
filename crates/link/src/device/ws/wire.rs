//! A WebSocket as a row of bytes, with a pulse.
//!
//! Every side sends a Ping when it is due and counts whatever it hears, below TLS: so a peer that
//! is slow is alive, and one that is silent is gone after the idle time, as on QUIC.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::{Sink, Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, protocol::WebSocketConfig},
};

/// Largest message that is sent; yamux cuts its own frames at the same size.
pub(super) const MESSAGE_BYTES: usize = 16 * 1024;
/// Largest message that is read.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Small buffers: a node has thousands of these.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(32 * 1024)
        .max_write_buffer_size(256 * 1024)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

/// When the peer was last heard, and whether it is to be asked.
#[derive(Debug)]
pub(super) struct Pulse {
    due: AtomicBool,
    state: Mutex<Beat>,
}

#[derive(Debug)]
struct Beat {
    heard: Instant,
    /// The last Ping that is not answered.
    asked: Option<(u64, Instant)>,
    nonce: u64,
    rtt: Option<Duration>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        let state = Beat { heard: Instant::now(), asked: None, nonce: 0, rtt: None };
        Self { due: AtomicBool::new(false), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next flush sends a Ping.
    pub(super) fn beat(&self) {
        self.due.store(true, Ordering::Release);
    }

    pub(super) fn heard(&self) -> Instant {
        self.lock().heard
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.lock().rtt
    }

    fn ask(&self) -> [u8; 8] {
        let mut beat = self.lock();
        beat.nonce += 1;
        beat.asked = Some((beat.nonce, Instant::now()));
        beat.nonce.to_be_bytes()
    }

    fn answered(&self, payload: &[u8]) {
        let mut beat = self.lock();
        if let Some((nonce, at)) = beat.asked
            && payload == nonce.to_be_bytes()
        {
            beat.asked = None;
            beat.rtt = Some(at.elapsed());
        }
    }
}

/// A socket that notes when something came.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) socket: TcpStream,
    pub(super) pulse: Arc<Pulse>,
}

impl AsyncRead for Ear {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, into));
        if into.filled().len() > before {
            self.pulse.lock().heard = Instant::now();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Ear {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// The bytes of all binary messages, one after the other.
#[derive(Debug)]
pub(super) struct Wire<S> {
    socket: WebSocketStream<S>,
    pulse: Arc<Pulse>,
    incoming: Bytes,
}

impl<S> Wire<S> {
    pub(super) const fn new(socket: WebSocketStream<S>, pulse: Arc<Pulse>) -> Self {
        Self { socket, pulse, incoming: Bytes::new() }
    }
}

fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> futures::AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while self.incoming.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.incoming = bytes,
                Some(Ok(Message::Pong(payload))) => self.pulse.answered(&payload),
                // Answered by the library, with the next write.
                Some(Ok(Message::Ping(_))) => {}
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(0)),
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    let what = "only binary messages are spoken here";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let len = self.incoming.len().min(into.len());
        self.incoming.copy_to_slice(&mut into[..len]);
        Poll::Ready(Ok(len))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> futures::AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(broken)?;
        let len = bytes.len().min(MESSAGE_BYTES);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..len]));
        Pin::new(&mut self.socket).start_send(message).map_err(broken)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket that takes nothing needs no Ping behind what waits already.
        if self.pulse.due.load(Ordering::Acquire)
            && let Poll::Ready(ready) = Pin::new(&mut self.socket).poll_ready(cx)
        {
            ready.map_err(broken)?;
            self.pulse.due.store(false, Ordering::Release);
            let payload = Bytes::copy_from_slice(&self.pulse.ask());
            Pin::new(&mut self.socket).start_send(Message::Ping(payload)).map_err(broken)?;
        }
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(broken)
    }
}
