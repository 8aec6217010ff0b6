//! A UDP relay between clients and a server that does what networks do: loses, cuts one or both
//! ways, gives a client another source address.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::{net::UdpSocket, task::JoinSet};

/// Largest datagram.
const DATAGRAM_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Weather {
    no_up: AtomicBool,
    no_down: AtomicBool,
    /// Datagrams of a thousand that are lost, either way.
    loss: AtomicU32,
    dice: AtomicU64,
    /// Clients get a new source address when it rises.
    binding: AtomicU64,
    carried: AtomicU64,
}

impl Weather {
    fn drops(&self, way: &AtomicBool) -> bool {
        if way.load(Ordering::Relaxed) {
            return true;
        }
        // A Weyl sequence through a mixer: the same for the same traffic.
        let mut x = self.dice.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        x = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        x ^= x >> 32;
        let lost = x % 1_000 < u64::from(self.loss.load(Ordering::Relaxed));
        if !lost {
            self.carried.fetch_add(1, Ordering::Relaxed);
        }
        lost
    }
}

/// A relay on 127.0.0.1; ends when it is dropped.
#[derive(Debug)]
pub struct Nat {
    addr: SocketAddr,
    weather: Arc<Weather>,
    #[expect(dead_code, reason = "held for its drop, which ends it")]
    relay: JoinSet<()>,
}

impl Nat {
    /// In front of a server.
    ///
    /// # Errors
    /// No socket.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let outside = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let (addr, weather) = (outside.local_addr()?, Arc::new(Weather::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(relay(outside, server, Arc::clone(&weather)));
        let relay = tasks;
        Ok(Self { addr, weather, relay })
    }

    /// Where clients dial.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Cuts what clients say (`up`) and what they hear (`down`), or lets it through again.
    pub fn cut(&self, up: bool, down: bool) {
        self.weather.no_up.store(up, Ordering::Relaxed);
        self.weather.no_down.store(down, Ordering::Relaxed);
    }

    /// Loses so many datagrams of a thousand.
    pub fn lose(&self, per_mille: u32) {
        self.weather.loss.store(per_mille, Ordering::Relaxed);
    }

    /// The server sees clients come from another port from now on.
    pub fn rebind(&self) {
        self.weather.binding.fetch_add(1, Ordering::Relaxed);
    }

    /// Datagrams that went through so far.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.weather.carried.load(Ordering::Relaxed)
    }
}

async fn relay(outside: Arc<UdpSocket>, server: SocketAddr, weather: Arc<Weather>) {
    let mut clients: HashMap<(SocketAddr, u64), Arc<UdpSocket>> = HashMap::new();
    let mut down = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        // An error is the answer to an earlier datagram (nobody listened there): go on.
        let Ok((length, client)) = outside.recv_from(&mut buffer).await else { continue };
        let binding = weather.binding.load(Ordering::Relaxed);
        let inside = match clients.get(&(client, binding)) {
            Some(inside) => Arc::clone(inside),
            None => {
                let bound = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
                let Ok(inside) = bound.map(Arc::new) else { continue };
                clients.insert((client, binding), Arc::clone(&inside));
                let (outside, weather) = (Arc::clone(&outside), Arc::clone(&weather));
                down.spawn(hear(Arc::clone(&inside), outside, client, binding, weather));
                inside
            }
        };
        if !weather.drops(&weather.no_up) {
            let _ = inside.send_to(&buffer[..length], server).await;
        }
    }
}

/// What the server says to one binding; what comes for an old one is lost, as in a router.
async fn hear(
    inside: Arc<UdpSocket>,
    outside: Arc<UdpSocket>,
    client: SocketAddr,
    binding: u64,
    weather: Arc<Weather>,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let Ok((length, _)) = inside.recv_from(&mut buffer).await else { continue };
        let old = binding != weather.binding.load(Ordering::Relaxed);
        if !old && !weather.drops(&weather.no_down) {
            let _ = outside.send_to(&buffer[..length], client).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo(tasks: &mut JoinSet<()>) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = socket.local_addr().unwrap();
        tasks.spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
                // Says where it came from.
                let _ = socket.send_to(from.to_string().as_bytes(), from).await;
            }
        });
        addr
    }

    async fn ask(client: &UdpSocket, nat: &Nat) -> String {
        let mut buffer = [0; 64];
        client.send_to(b"?", nat.addr()).await.unwrap();
        let (length, _) = client.recv_from(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test]
    async fn it_carries_cuts_and_binds_anew() {
        let mut tasks = JoinSet::new();
        let nat = Nat::start(echo(&mut tasks).await).await.unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let first = ask(&client, &nat).await;
        assert_eq!(ask(&client, &nat).await, first);
        nat.rebind();
        let second = ask(&client, &nat).await;
        assert_ne!(second, first, "another source");
        nat.cut(true, false);
        let carried = nat.carried();
        client.send_to(b"lost", nat.addr()).await.unwrap();
        nat.cut(false, false);
        assert_eq!(ask(&client, &nat).await, second);
        assert!(nat.carried() >= carried + 2);
    }
}
