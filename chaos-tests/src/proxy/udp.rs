//! A UDP proxy for the link from one node to another: delay, reordering, doubling.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    net::UdpSocket,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::sleep,
};

/// Largest datagram.
const DATAGRAM: usize = 65_536;
/// Datagrams that may be late at once; more are lost, as in a full queue of a router.
const LATE_MAX: usize = 8_192;
/// Senders that are told apart; a node has one, each life of it has another.
const FLOWS_MAX: usize = 256;

/// What happens to datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Weather {
    /// Every datagram is late by something up to this, so that later ones overtake it.
    pub(crate) delay_max: Duration,
    /// Share of datagrams that come twice.
    pub(crate) doubled: f64,
    /// Share of datagrams that are late by four times the delay.
    pub(crate) very_late: f64,
}

/// A running proxy; dropping it ends it.
#[derive(Debug)]
pub(crate) struct UdpProxy {
    #[cfg(test)]
    addr: SocketAddr,
    weather: watch::Sender<Weather>,
    _running: JoinSet<()>,
}

impl UdpProxy {
    /// What comes to `listen` goes to `target`, from a socket at `face`, and back.
    pub(crate) async fn start(
        listen: SocketAddr,
        face: Ipv4Addr,
        target: SocketAddr,
        seed: u64,
    ) -> Result<Self> {
        let socket = UdpSocket::bind(listen).await.with_context(|| format!("bind {listen}"))?;
        #[cfg(test)]
        let addr = socket.local_addr()?;
        let weather = watch::Sender::new(Weather::default());
        let seen = weather.subscribe();
        let mut running = JoinSet::new();
        running.spawn(serve(Arc::new(socket), face, target, seen, StdRng::seed_from_u64(seed)));
        Ok(Self {
            #[cfg(test)]
            addr,
            weather,
            _running: running,
        })
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn serve(
    listener: Arc<UdpSocket>,
    face: Ipv4Addr,
    target: SocketAddr,
    weather: watch::Receiver<Weather>,
    mut rng: StdRng,
) {
    let late = Arc::new(Semaphore::new(LATE_MAX));
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM];
    loop {
        let received = tokio::select! {
            received = listener.recv_from(&mut datagram) => received,
            Some(_) = tasks.join_next() => continue,
        };
        let Ok((count, from)) = received else { continue };
        if !flows.contains_key(&from) {
            if flows.len() >= FLOWS_MAX {
                flows.clear(); // Old lives; whoever still speaks gets a new one.
            }
            let Ok(socket) = UdpSocket::bind((face, 0)).await else { continue };
            if socket.connect(target).await.is_err() {
                continue;
            }
            let socket = Arc::new(socket);
            flows.insert(from, Arc::clone(&socket));
            let back = Road { to: Some(from), socket: Arc::clone(&listener) };
            let rng = StdRng::from_rng(&mut rng);
            tasks.spawn(answers(socket, back, weather.clone(), Arc::clone(&late), rng));
        }
        let Some(socket) = flows.get(&from) else { continue };
        let road = Road { to: None, socket: Arc::clone(socket) };
        let weather = *weather.borrow();
        road.send(&datagram[..count], weather, &mut rng, &late, &mut tasks).await;
    }
}

/// What the target sends back to one sender.
async fn answers(
    from: Arc<UdpSocket>,
    road: Road,
    weather: watch::Receiver<Weather>,
    late: Arc<Semaphore>,
    mut rng: StdRng,
) {
    let mut tasks = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            received = from.recv(&mut datagram) => {
                // An error tells of an earlier datagram that nobody took.
                let Ok(count) = received else { continue };
                let weather = *weather.borrow();
                road.send(&datagram[..count], weather, &mut rng, &late, &mut tasks).await;
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Where datagrams go.
#[derive(Clone, Debug)]
struct Road {
    socket: Arc<UdpSocket>,
    /// `None`: where the socket is connected to.
    to: Option<SocketAddr>,
}

impl Road {
    async fn put(&self, datagram: &[u8]) {
        // A datagram that cannot be sent is lost, as datagrams may be.
        let _ = match self.to {
            Some(to) => self.socket.send_to(datagram, to).await,
            None => self.socket.send(datagram).await,
        };
    }

    async fn send(
        &self,
        datagram: &[u8],
        weather: Weather,
        rng: &mut StdRng,
        late: &Arc<Semaphore>,
        tasks: &mut JoinSet<()>,
    ) {
        if weather == Weather::default() {
            return self.put(datagram).await;
        }
        let copies = if rng.random_bool(weather.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let Ok(permit) = Arc::clone(late).try_acquire_owned() else { return };
            let very = if rng.random_bool(weather.very_late) { 4 } else { 1 };
            let wait = rng.random_range(Duration::ZERO..=weather.delay_max) * very;
            let (road, datagram) = (self.clone(), datagram.to_vec());
            tasks.spawn(async move {
                sleep(wait).await;
                road.put(&datagram).await;
                drop(permit);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn datagrams_go_there_and_back_late_doubled_and_out_of_order() -> Result<()> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let target = UdpSocket::bind(any).await?;
        let proxy = UdpProxy::start(any, Ipv4Addr::LOCALHOST, target.local_addr()?, 3).await?;
        let client = UdpSocket::bind(any).await?;
        client.connect(proxy.addr).await?;
        let mut datagram = [0; 16];
        client.send(b"hello").await?;
        let (count, from) = timeout(PATIENCE, target.recv_from(&mut datagram)).await??;
        assert_eq!(&datagram[..count], b"hello");
        target.send_to(b"back", from).await?;
        let count = timeout(PATIENCE, client.recv(&mut datagram)).await??;
        assert_eq!(&datagram[..count], b"back");

        let delay_max = Duration::from_millis(60);
        proxy.set(Weather { delay_max, doubled: 1.0, very_late: 0.2 });
        for n in 0..50_u8 {
            client.send(&[n]).await?;
        }
        let mut order = Vec::new();
        while order.len() < 100 {
            let (count, _) = timeout(PATIENCE, target.recv_from(&mut datagram)).await??;
            assert_eq!(count, 1);
            order.push(datagram[0]);
        }
        assert!(!order.is_sorted(), "nothing overtook anything");
        order.sort_unstable();
        let twice: Vec<u8> = (0..50).flat_map(|n| [n, n]).collect();
        assert_eq!(order, twice);
        Ok(())
    }
}
