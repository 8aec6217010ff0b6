//! Relays between diallers and one door, to cut them apart. For tests.

mod tcp;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{net::UdpSocket, task::JoinSet};

pub use tcp::TcpRelay;

/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Passes datagrams on between the last one who wrote to it and a server. Ends when dropped.
#[derive(Debug)]
pub struct UdpRelay {
    at: SocketAddr,
    cut: Arc<AtomicBool>,
    #[expect(dead_code, reason = "held for its drop")]
    tasks: JoinSet<()>,
}

impl UdpRelay {
    /// A relay in front of a server, on any port of loopback.
    ///
    /// # Errors
    /// No socket.
    pub async fn before(server: SocketAddr) -> io::Result<Self> {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let at = front.local_addr()?;
        let cut = Arc::new(AtomicBool::new(false));
        let client = Arc::new(Mutex::new(None));
        let mut tasks = JoinSet::new();
        let (from, to) = (Arc::clone(&front), Arc::clone(&back));
        let (is_cut, seen) = (Arc::clone(&cut), Arc::clone(&client));
        tasks.spawn(async move {
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            while let Ok((len, who)) = from.recv_from(&mut buffer).await {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(who);
                if !is_cut.load(Ordering::SeqCst) {
                    // Lost, as datagrams may be.
                    let _ = to.send_to(&buffer[..len], server).await;
                }
            }
        });
        let is_cut = Arc::clone(&cut);
        tasks.spawn(async move {
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            while let Ok((len, _)) = back.recv_from(&mut buffer).await {
                let who = *client.lock().unwrap_or_else(PoisonError::into_inner);
                if let (Some(who), false) = (who, is_cut.load(Ordering::SeqCst)) {
                    let _ = front.send_to(&buffer[..len], who).await;
                }
            }
        });
        Ok(Self { at, cut, tasks })
    }

    /// Where to dial.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.at
    }

    /// Cuts both ways, or joins them again.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }
}
