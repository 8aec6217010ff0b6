//! One direction of a stream: a bounded buffer whose bytes arrive later.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{LOOK_AGAIN, Weather};

/// What may be under way before the reader reads.
const WINDOW_BYTES: usize = 256 * 1024;

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<(Instant, Bytes)>,
    size: usize,
    last: Option<Instant>,
    finished: bool,
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

#[derive(Debug)]
pub(super) struct Pipe {
    weather: Arc<Weather>,
    state: Mutex<State>,
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the stream broke off")
}

impl Pipe {
    pub(super) fn new(weather: Arc<Weather>) -> Self {
        Self { weather, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn break_off(&self) {
        let mut state = self.lock();
        state.broken = true;
        state.wake();
    }
}

/// The reading end.
#[derive(Debug)]
pub(super) struct PipeReader {
    pipe: Arc<Pipe>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl PipeReader {
    pub(super) const fn new(pipe: Arc<Pipe>) -> Self {
        Self { pipe, waiting: None }
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            let pipe = Arc::clone(&self.pipe);
            let mut state = pipe.lock();
            if state.broken {
                return Poll::Ready(Err(broken()));
            }
            let Some((arrival, chunk)) = state.chunks.front_mut() else {
                if state.finished {
                    return Poll::Ready(Ok(()));
                }
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let now = Instant::now();
            let due = if pipe.weather.is_cut() { now + LOOK_AGAIN } else { *arrival };
            if due > now {
                self.waiting = Some(Box::pin(sleep_until(due)));
                continue;
            }
            let len = chunk.len().min(into.remaining());
            into.put_slice(&chunk[..len]);
            chunk.advance(len);
            if chunk.is_empty() {
                state.chunks.pop_front();
            }
            state.size -= len;
            state.wake();
            return Poll::Ready(Ok(()));
        }
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.pipe.break_off();
    }
}

/// The writing end. Dropped unfinished, it breaks the stream off.
#[derive(Debug)]
pub(super) struct PipeWriter(Arc<Pipe>);

impl PipeWriter {
    pub(super) const fn new(pipe: Arc<Pipe>) -> Self {
        Self(pipe)
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if state.broken || state.finished {
            return Poll::Ready(Err(broken()));
        }
        let len = bytes.len().min(WINDOW_BYTES - state.size);
        if len == 0 && !bytes.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // Never before what was written before.
        let arrival = self.0.weather.arrival().max(state.last.unwrap_or_else(Instant::now));
        state.last = Some(arrival);
        state.size += len;
        state.chunks.push_back((arrival, Bytes::copy_from_slice(&bytes[..len])));
        state.wake();
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        state.finished = true;
        state.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.broken |= !state.finished;
        state.wake();
    }
}
