//! Serves a router on a listener, with TLS or without, with bounds on connections, heads and silence.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower_service::Service as _;
use troupe_actor::spawn_task;
use troupe_services::Problem;

use crate::https::HttpsCert;

/// Connections at once, upgraded ones included; further ones wait in the listener's backlog.
/// Below the 20,000 open files that a process usually has.
const CONNECTIONS_MAX: usize = 19_500;
/// How long a TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// What is read of a request that is not TLS, in bytes.
const UNREAD_MAX: u64 = 64 * 1024;
/// First byte of a TLS handshake (RFC 8446, section 5.1: content type `handshake`).
const TLS_HANDSHAKE: u8 = 22;
/// How long the head of a request may take.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// A connection on which nothing moves in either direction for so long is gone: sockets have
/// heartbeats, watches have bookmarks, and a frozen peer would hold its task and its buffers
/// until the kernel gives up.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// How long a request that is open when serving ends may take.
const FINISH_MAX: Duration = Duration::from_secs(10);
/// Pause after a failed accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why serving ended.
#[derive(Debug, Error)]
#[error("the listener failed")]
pub struct ServeError(#[source] io::Error);

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who is asking.
    pub remote: SocketAddr,
    /// The address that was asked.
    pub local: Option<SocketAddr>,
}

/// Serves until `stop` ends, then lets open requests finish for at most 10 s. With a certificate
/// it is HTTPS, and who speaks HTTP is told so.
///
/// # Errors
/// [`ServeError`] if the listener has no address.
pub async fn serve(
    listener: TcpListener,
    https: Option<&HttpsCert>,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    listener.local_addr().map_err(ServeError)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stopping, is_stopping) = watch::channel(false);
    let mut stop = pin!(stop);
    let tls = https.map(HttpsCert::acceptor);
    loop {
        let (stream, remote, place) = tokio::select! {
            next = accept(&listener, &places) => next,
            () = &mut stop => break,
        };
        let peer = Peer { remote, local: stream.local_addr().ok() };
        let stream = Guarded::new(stream, place);
        let serving = connection(stream, tls.clone(), peer, router.clone(), is_stopping.clone());
        // It ends with its peer, with silence, or with the listener.
        drop(spawn_task("http-connection", serving));
    }
    drop((listener, is_stopping));
    stopping.send_replace(true);
    stopping.closed().await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // Never closed, so there is always a place in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                // Frames are small and must not wait for each other.
                let _ = stream.set_nodelay(true);
                return (stream, remote, place);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: Guarded,
    tls: Option<TlsAcceptor>,
    peer: Peer,
    router: Router,
    mut is_stopping: watch::Receiver<bool>,
) {
    let Some(tls) = tls else { return requests(stream, peer, router, is_stopping).await };
    let hello = tokio::select! {
        hello = tokio::time::timeout(HANDSHAKE_MAX, shake_hands(stream, tls)) => hello,
        _ = is_stopping.changed() => return,
    };
    match hello {
        Ok(Ok(Some(stream))) => requests(stream, peer, router, is_stopping).await,
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// `None`: it was not TLS, and is answered.
async fn shake_hands(
    mut stream: Guarded,
    tls: TlsAcceptor,
) -> io::Result<Option<TlsStream<Guarded>>> {
    let mut first = [0];
    if stream.stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
        let detail = "This port speaks HTTPS: write https:// in front of its address.";
        let problem = Problem::new(400, "https_only", detail);
        let body = serde_json::to_string(&problem).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await?;
        // A connection that is closed with words unread breaks off before its answer is read.
        let mut unread = tokio::io::AsyncReadExt::take(stream, UNREAD_MAX);
        tokio::io::copy(&mut unread, &mut tokio::io::sink()).await?;
        return Ok(None);
    }
    tls.accept(stream).await.map(Some)
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    mut is_stopping: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let answering = router.clone().call(request);
        async move { answering.await as Result<Response, Infallible> }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    // Whatever the wait answers, it is over.
    let stop = async { is_stopping.changed().await.is_ok() };
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        _ = stop => {
            serving.as_mut().graceful_shutdown();
            // A head that was half told would hold the end for all of its time.
            let Ok(ended) = tokio::time::timeout(FINISH_MAX, serving).await else { return };
            ended
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A connection whose reads and writes fail once nothing moved for [`SILENCE_MAX`].
#[derive(Debug)]
struct Guarded {
    stream: TcpStream,
    moved: Instant,
    // Each direction has its own, because each may be waited for by another task.
    reading: Alarm,
    writing: Alarm,
    _place: Option<OwnedSemaphorePermit>,
}

/// Set when its direction first has to wait.
type Alarm = Option<Pin<Box<Sleep>>>;

impl Guarded {
    fn new(stream: TcpStream, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { stream, moved: Instant::now(), reading: None, writing: None, _place: place }
    }

    fn read<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        guard(&mut self.moved, &mut self.reading, cx, poll)
    }

    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        guard(&mut self.moved, &mut self.writing, cx, poll)
    }
}

fn guard<T>(
    moved: &mut Instant,
    alarm: &mut Alarm,
    cx: &mut Context<'_>,
    poll: Poll<io::Result<T>>,
) -> Poll<io::Result<T>> {
    if poll.is_ready() {
        *moved = Instant::now();
        return poll;
    }
    let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(*moved + SILENCE_MAX)));
    // Moved on only when it fires: most connections move long before.
    while alarm.as_mut().poll(cx).is_ready() {
        let until = *moved + SILENCE_MAX;
        if Instant::now() >= until {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        alarm.as_mut().reset(until);
    }
    Poll::Pending
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.read(cx, poll)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.written(cx, poll)
    }
}
