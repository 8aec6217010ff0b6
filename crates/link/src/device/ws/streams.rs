//! One stream over yamux, in two halves.
//!
//! What they promise is what QUIC's streams do: one that is let go of unfinished is told as
//! broken, and one that is finished is read to its end. yamux knows no end of one direction by
//! force, so letting go of an unfinished writer ends both.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::{AsyncRead as _, AsyncWrite as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, mpsc},
};

/// What a stream takes of the connection's bounds, as long as it lives.
#[derive(Debug)]
pub(super) enum Place {
    /// One of those that this end may open.
    Own(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit),
    /// One of those that the peer may open.
    Peers(Arc<AtomicUsize>),
}

impl Place {
    /// A place for a stream of the peer; `None`: it opened too many.
    pub(super) fn of_peer(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let place = Self::Peers(Arc::clone(count));
        (count.fetch_add(1, Ordering::AcqRel) < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Peers(count) = self {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A stream that this end is done with and the peer is not: its place is not free yet.
#[derive(Debug)]
pub(super) struct Rest {
    stream: yamux::Stream,
    #[expect(dead_code, reason = "held for its drop")]
    place: Place,
}

impl Rest {
    /// Throws away what still comes; ready when the peer is done too.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scrap = [0; 4 * 1024];
        loop {
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut scrap)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }
}

#[derive(Debug)]
struct Halves {
    /// Gone once it was broken off. Before the place, so that the peer's count is never behind.
    stream: Mutex<Option<(Place, yamux::Stream)>>,
    finished: AtomicBool,
    rests: mpsc::Sender<Rest>,
}

impl Halves {
    fn lock(&self) -> MutexGuard<'_, Option<(Place, yamux::Stream)>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        let Some((place, stream)) = self.lock().take() else { return };
        if *self.finished.get_mut() && !stream.is_closed() {
            // There is a place for each stream; without one the connection is gone.
            let _ = self.rests.try_send(Rest { stream, place });
        }
    }
}

/// The two ends of a stream that are here.
pub(super) fn halves(
    place: Place,
    stream: yamux::Stream,
    rests: mpsc::Sender<Rest>,
) -> (ReadHalf, WriteHalf) {
    let stream = Mutex::new(Some((place, stream)));
    let halves = Arc::new(Halves { stream, finished: AtomicBool::new(false), rests });
    (ReadHalf(Arc::clone(&halves)), WriteHalf(halves))
}

fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the stream broke off")
}

#[derive(Debug)]
pub(super) struct ReadHalf(Arc<Halves>);

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut guard = self.0.lock();
        let Some((_, stream)) = &mut *guard else { return Poll::Ready(Err(broken_off())) };
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let len = ready!(Pin::new(&mut *stream).poll_read(cx, into.initialize_unfilled()))?;
        into.advance(len);
        // yamux tells a reset as an end. After an end alone this side could still write.
        if len == 0 && stream.is_closed() && !self.0.finished.load(Ordering::Acquire) {
            return Poll::Ready(Err(broken_off()));
        }
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug)]
pub(super) struct WriteHalf(Arc<Halves>);

impl WriteHalf {
    fn step<T>(
        &self,
        step: impl FnOnce(Pin<&mut yamux::Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.0.lock() {
            Some((_, stream)) => step(Pin::new(stream)),
            None => Poll::Ready(Err(broken_off())),
        }
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.step(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.finished.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        self.step(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.finished.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let closed = ready!(self.step(|stream| stream.poll_close(cx)));
        if closed.is_ok() {
            self.0.finished.store(true, Ordering::Release);
        }
        Poll::Ready(closed)
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        if !self.0.finished.load(Ordering::Acquire) {
            // Breaks it off, for a reader here too.
            let broken = self.0.lock().take();
            drop(broken);
        }
    }
}
