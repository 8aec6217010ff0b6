//! What moves the bytes of one connection, until it is over.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    streams::{Place, Rest},
    wire::{MESSAGE_BYTES, Pulse, Wire},
};
use crate::options::LinkOptions;

/// How long a goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_millis(500);

/// What the connection's handle and its driver share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pulse: Arc<Pulse>,
    /// Why it is over.
    pub(super) over: watch::Sender<Option<String>>,
    /// Streams that this end may still open.
    pub(super) places: Arc<Semaphore>,
}

impl Shared {
    /// The first reason counts.
    pub(super) fn end(&self, why: &str) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            over.get_or_insert_with(|| why.to_owned());
            first
        });
        self.places.close();
    }
}

/// Ends a connection whose driver is gone, however that came.
struct EndOnDrop(Arc<Shared>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end("the connection was dropped");
    }
}

/// Wants a new stream.
pub(super) type Order = oneshot::Sender<yamux::Stream>;

pub(super) struct Driver<S> {
    pub(super) mux: yamux::Connection<Wire<S>>,
    pub(super) shared: Arc<Shared>,
    pub(super) options: LinkOptions,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) arrived: mpsc::Sender<(Place, yamux::Stream)>,
    pub(super) rests: mpsc::Receiver<Rest>,
    /// The network that it belongs to closes.
    pub(super) closing: watch::Receiver<bool>,
}

/// Streams that this end opens at once.
pub(super) fn streams_max(options: &LinkOptions) -> usize {
    // The widest that yamux's own check of its windows allows, and more than anybody needs.
    usize::try_from(options.streams_max).unwrap_or(usize::MAX).min(1_024)
}

/// Streams of the peer that are here at once. Twice what it may open: it may open another one
/// when it broke one off, and that one is here until its reader was told.
fn peers_max(options: &LinkOptions) -> usize {
    2 * streams_max(options)
}

/// Bounds of one connection: every stream has the least window there is, and no more.
pub(super) fn mux_config(options: &LinkOptions) -> yamux::Config {
    let streams = streams_max(options) + peers_max(options) + 1;
    let window = usize::try_from(yamux::DEFAULT_CREDIT).unwrap_or(usize::MAX);
    let mut config = yamux::Config::default();
    config.set_max_num_streams(streams);
    config.set_max_connection_receive_window(Some(window.saturating_mul(streams)));
    config.set_split_send_size(MESSAGE_BYTES);
    config
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(super) async fn run(mut self) {
        let end = EndOnDrop(Arc::clone(&self.shared));
        let why = self.carry().await;
        self.shared.end(&why);
        // What was written before the end still goes out, if the peer takes it.
        let _ = timeout(GOODBYE_MAX, poll_fn(|cx| self.mux.poll_close(cx))).await;
        drop(end);
    }

    async fn carry(&mut self) -> String {
        let mut over = self.shared.over.subscribe();
        let opened = Arc::new(AtomicUsize::new(0));
        let mut rests: Vec<Rest> = Vec::new();
        let mut watched = true;
        let mut beats = interval(self.options.keep_alive);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let silent_at = self.shared.pulse.heard() + self.options.idle;
            tokio::select! {
                biased;
                why = told(&mut over) => return why,
                // Before the clock: what came while this machine slept counts as heard.
                stream = poll_fn(|cx| self.mux.poll_next_inbound(cx)) => {
                    let stream = match stream {
                        Some(Ok(stream)) => stream,
                        Some(Err(error)) => return format!("the connection broke: {error}"),
                        None => return "closed by the peer".to_owned(),
                    };
                    let place = Place::of_peer(&opened, peers_max(&self.options));
                    let taken = place.is_some_and(|place| {
                        self.arrived.try_send((place, stream)).is_ok()
                    });
                    if !taken {
                        return "the peer opened too many streams".to_owned();
                    }
                }
                Some(order) = self.orders.recv() => {
                    match poll_fn(|cx| self.mux.poll_new_outbound(cx)).await {
                        // One who stopped waiting lets go of it.
                        Ok(stream) => drop(order.send(stream)),
                        Err(error) => return format!("the connection broke: {error}"),
                    }
                }
                Some(rest) = self.rests.recv() => rests.push(rest),
                () = poll_fn(|cx| end_one(&mut rests, cx)) => {}
                // The loop comes round to the connection, which flushes, which asks.
                _ = beats.tick() => self.shared.pulse.beat(),
                () = sleep_until(silent_at) => {
                    if self.shared.pulse.heard().elapsed() >= self.options.idle {
                        return "timed out".to_owned();
                    }
                }
                closes = closes(&mut self.closing), if watched => {
                    if closes {
                        return "the network is closed".to_owned();
                    }
                    watched = false;
                }
            }
        }
    }
}

/// Why the connection is over, once it is.
pub(super) async fn told(over: &mut watch::Receiver<Option<String>>) -> String {
    let why = over.wait_for(Option::is_some).await;
    why.ok().and_then(|why| why.clone()).unwrap_or_default()
}

/// `true` when the network closes, `false` when it is gone without a word.
async fn closes(closing: &mut watch::Receiver<bool>) -> bool {
    closing.wait_for(|closing| *closing).await.is_ok()
}

/// Ready when one of them is over; it is gone then.
fn end_one(rests: &mut Vec<Rest>, cx: &mut Context<'_>) -> Poll<()> {
    let ended = rests.iter_mut().position(|rest| rest.poll_end(cx).is_ready());
    match ended {
        Some(n) => {
            rests.swap_remove(n);
            Poll::Ready(())
        }
        None => Poll::Pending,
    }
}
