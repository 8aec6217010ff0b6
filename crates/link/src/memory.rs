//! The in-memory twin of the QUIC network: links that can be cut, delayed and reordered.
//!
//! A name is what a certificate is elsewhere. Within a stream bytes keep their order; between
//! streams a jittered delay changes it, as lost packets do. A cut holds back everything; when it
//! lasts for the idle time the connection is gone on both sides. Works under paused time.

mod pipe;

use std::{
    collections::HashMap,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, watch},
    time::{Instant, sleep},
};

use self::pipe::{Pipe, PipeReader, PipeWriter};
use crate::{
    error::LinkError,
    name::check_node_name,
    options::LinkOptions,
    stream::{Arriving, Connection, LinkStream, Network, Protocol, Purpose, StallGuard},
};

/// How often a cut is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Newcomers, and streams, that wait to be accepted.
const WAITING_MAX: usize = 64;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How it is between two nodes.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    cut: Mutex<Option<Instant>>,
    delay_us: AtomicU64,
    jitter_us: AtomicU64,
    dice: AtomicU64,
}

impl Weather {
    /// Since when nothing goes through.
    fn cut_for(&self) -> Option<Duration> {
        lock(&self.cut).map(|since| since.elapsed())
    }

    pub(crate) fn is_cut(&self) -> bool {
        lock(&self.cut).is_some()
    }

    /// When something that is written now arrives.
    pub(crate) fn arrival(&self) -> Instant {
        let step = |dice: u64| dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let dice = self.dice.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |d| Some(step(d)));
        let roll = dice.unwrap_or(0) >> 33;
        let jitter = self.jitter_us.load(Ordering::Relaxed);
        let extra = if jitter == 0 { 0 } else { roll % jitter };
        Instant::now() + Duration::from_micros(self.delay_us.load(Ordering::Relaxed) + extra)
    }
}

#[derive(Debug)]
struct Door {
    node: String,
    knock: mpsc::Sender<Arc<dyn Connection>>,
}

/// Two nodes, in the order of their names.
type Pair = (String, String);

/// All that the networks of one test share.
#[derive(Debug, Default)]
struct Inner {
    doors: Mutex<HashMap<SocketAddr, Door>>,
    weather: Mutex<HashMap<Pair, Arc<Weather>>>,
    lines: Mutex<Vec<(Pair, Weak<Line>)>>,
}

/// The same for both directions.
fn pair(a: &str, b: &str) -> Pair {
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    (a.to_owned(), b.to_owned())
}

/// Where in-memory networks meet. Cloning gives the same one.
#[derive(Clone, Debug, Default)]
pub struct MemoryHub(Arc<Inner>);

impl MemoryHub {
    /// A hub without networks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The network of a node.
    #[must_use]
    pub fn network(&self, node: &str, options: LinkOptions) -> MemoryNetwork {
        let (knock, knocking) = mpsc::channel(WAITING_MAX);
        let mut doors = lock(&self.0.doors);
        let port = (1..=u16::MAX)
            .find(|port| !doors.contains_key(&SocketAddr::from((Ipv4Addr::LOCALHOST, *port))));
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(u16::MAX)));
        doors.insert(at, Door { node: node.to_owned(), knock });
        drop(doors);
        MemoryNetwork {
            hub: self.clone(),
            node: node.to_owned(),
            at,
            options,
            protocol: Protocol::Node,
            knocking: AsyncMutex::new(knocking),
            lines: Mutex::default(),
        }
    }

    /// The network of a device, or of a node for devices: what it dials is a session.
    #[must_use]
    pub fn edge_network(&self, name: &str, options: LinkOptions) -> MemoryNetwork {
        let mut network = self.network(name, options);
        network.protocol = Protocol::Edge;
        network
    }

    fn weather(&self, a: &str, b: &str) -> Arc<Weather> {
        Arc::clone(lock(&self.0.weather).entry(pair(a, b)).or_default())
    }

    /// Cuts two nodes apart, or joins them again.
    pub fn cut(&self, a: &str, b: &str, cut: bool) {
        *lock(&self.weather(a, b).cut) = cut.then(Instant::now);
    }

    fn note(&self, between: (String, String), line: &Arc<Line>) {
        let mut lines = lock(&self.0.lines);
        lines.retain(|(_, line)| line.strong_count() > 0);
        lines.push((between, Arc::downgrade(line)));
    }

    /// Ends every connection between two nodes at once, as a reset does; what was under way is
    /// lost. New ones can be made.
    pub fn sever(&self, a: &str, b: &str) {
        let key = pair(a, b);
        let lines: Vec<_> = {
            let mut lines = lock(&self.0.lines);
            lines.retain(|(_, line)| line.strong_count() > 0);
            lines.iter().filter(|(of, _)| *of == key).filter_map(|(_, l)| l.upgrade()).collect()
        };
        for line in lines {
            line.close("severed");
        }
    }

    /// What is written takes so long, and up to `jitter` longer, by these dice.
    pub fn delay(&self, a: &str, b: &str, delay: Duration, jitter: Duration, dice: u64) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let weather = self.weather(a, b);
        weather.delay_us.store(micros(delay), Ordering::Relaxed);
        weather.jitter_us.store(micros(jitter), Ordering::Relaxed);
        weather.dice.store(dice, Ordering::Relaxed);
    }
}

/// The network of one node in memory.
pub struct MemoryNetwork {
    hub: MemoryHub,
    node: String,
    at: SocketAddr,
    options: LinkOptions,
    protocol: Protocol,
    knocking: AsyncMutex<mpsc::Receiver<Arc<dyn Connection>>>,
    lines: Mutex<Vec<Weak<Line>>>,
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNetwork").field("node", &self.node).finish_non_exhaustive()
    }
}

#[async_trait]
impl Network for MemoryNetwork {
    async fn dial(&self, node: &str, to: SocketAddr) -> Result<Arc<dyn Connection>, LinkError> {
        check_node_name(node).map_err(LinkError::Name)?;
        let knock = match lock(&self.hub.0.doors).get(&to) {
            Some(door) if door.node == node => door.knock.clone(),
            Some(_) => {
                let reason = "the certificate names another node".to_owned();
                return Err(LinkError::Connection { reason });
            }
            None => return Err(LinkError::Connection { reason: "nobody is there".to_owned() }),
        };
        let weather = self.hub.weather(&self.node, node);
        while weather.is_cut() {
            sleep(LOOK_AGAIN).await;
        }
        let line = Arc::new(Line::new(weather));
        lock(&self.lines).retain(|line| line.strong_count() > 0);
        lock(&self.lines).push(Arc::downgrade(&line));
        self.hub.note(pair(&self.node, node), &line);
        let (near, far) = (mpsc::channel(WAITING_MAX), mpsc::channel(WAITING_MAX));
        let end = |peer: &str, remote, opened, accepted| MemoryConnection {
            line: Arc::clone(&line),
            peer: peer.to_owned(),
            remote,
            options: self.options.clone(),
            protocol: self.protocol,
            opened,
            accepted: AsyncMutex::new(accepted),
        };
        let there = end(&self.node, self.at, near.0, far.1);
        let here = end(node, to, far.0, near.1);
        knock.send(Arc::new(there)).await.map_err(|_| LinkError::Closed)?;
        Ok(Arc::new(here))
    }

    async fn arriving(&self, _: usize) -> Option<Arriving> {
        let connection = self.knocking.lock().await.recv().await?;
        Some(Box::pin(async move { Ok(connection) }))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }

    fn close(&self) {
        lock(&self.hub.0.doors).remove(&self.at);
        for line in lock(&self.lines).drain(..).filter_map(|line| line.upgrade()) {
            line.close("shutting down");
        }
    }
}

impl Drop for MemoryNetwork {
    fn drop(&mut self) {
        self.close();
    }
}

/// What both ends of a connection share.
#[derive(Debug)]
struct Line {
    weather: Arc<Weather>,
    closed: watch::Sender<Option<String>>,
    pipes: Mutex<Vec<Weak<Pipe>>>,
}

impl Line {
    fn new(weather: Arc<Weather>) -> Self {
        Self { weather, closed: watch::Sender::new(None), pipes: Mutex::default() }
    }

    fn pipe(&self) -> Arc<Pipe> {
        let pipe = Arc::new(Pipe::new(Arc::clone(&self.weather)));
        let mut pipes = lock(&self.pipes);
        pipes.retain(|pipe| pipe.strong_count() > 0);
        pipes.push(Arc::downgrade(&pipe));
        pipe
    }

    fn close(&self, why: &str) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert_with(|| why.to_owned());
            first
        });
        for pipe in lock(&self.pipes).drain(..).filter_map(|pipe| pipe.upgrade()) {
            pipe.break_off();
        }
    }

    fn is_closed(&self) -> Result<(), LinkError> {
        match &*self.closed.borrow() {
            Some(why) => Err(LinkError::Connection { reason: why.clone() }),
            None => Ok(()),
        }
    }

    /// Resolves when it is closed, be it by a cut that lasts too long.
    async fn closed(&self, idle: Duration) -> String {
        let mut closed = self.closed.subscribe();
        loop {
            tokio::select! {
                why = closed.wait_for(Option::is_some) => {
                    return why.ok().and_then(|why| why.clone()).unwrap_or_default();
                }
                () = sleep(LOOK_AGAIN) => {}
            }
            if self.weather.cut_for().is_some_and(|cut| cut >= idle) {
                self.close("timed out");
            }
        }
    }
}

struct MemoryConnection {
    line: Arc<Line>,
    peer: String,
    remote: SocketAddr,
    options: LinkOptions,
    protocol: Protocol,
    opened: mpsc::Sender<LinkStream>,
    accepted: AsyncMutex<mpsc::Receiver<LinkStream>>,
}

impl fmt::Debug for MemoryConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryConnection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[async_trait]
impl Connection for MemoryConnection {
    async fn open(&self, purpose: Purpose) -> Result<LinkStream, LinkError> {
        self.line.is_closed()?;
        let (out, back) = (self.line.pipe(), self.line.pipe());
        let stream = |from: &Arc<Pipe>, to: &Arc<Pipe>| LinkStream {
            purpose,
            read: Box::new(PipeReader::new(Arc::clone(from))),
            write: Box::new(StallGuard::new(
                PipeWriter::new(Arc::clone(to)),
                self.options.write_stall,
            )),
        };
        let sent = self.opened.send(stream(&out, &back)).await;
        sent.map_err(|_| LinkError::Connection { reason: "the peer is gone".to_owned() })?;
        Ok(stream(&back, &out))
    }

    async fn accept(&self) -> Result<LinkStream, LinkError> {
        let next = async {
            let stream = self.accepted.lock().await.recv().await;
            while self.line.weather.is_cut() {
                sleep(LOOK_AGAIN).await;
            }
            stream
        };
        tokio::select! {
            reason = self.line.closed(self.options.idle) => Err(LinkError::Connection { reason }),
            stream = next => {
                stream.ok_or_else(|| LinkError::Connection { reason: "the peer is gone".to_owned() })
            }
        }
    }

    fn is_of(&self, node: &str) -> bool {
        self.peer == node
    }

    fn remote(&self) -> SocketAddr {
        self.remote
    }

    fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn close(&self, why: &'static str) {
        self.line.close(why);
    }

    async fn closed(&self) -> String {
        self.line.closed(self.options.idle).await
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.line.close("dropped");
    }
}
