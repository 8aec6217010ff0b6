//! A TCP relay in front of a server: a network that has no UDP, and can be cut.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// How the way is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weather {
    cut: bool,
    /// Rises when all connections are broken off.
    breaks: u64,
}

/// Carries connections to a server. Ends when dropped, and they with it.
#[derive(Debug)]
pub struct TcpRelay {
    at: SocketAddr,
    weather: watch::Sender<Weather>,
    accepted: Arc<AtomicU64>,
    #[expect(dead_code, reason = "held for its drop")]
    tasks: JoinSet<()>,
}

impl TcpRelay {
    /// A relay in front of a server, on any port of loopback.
    ///
    /// # Errors
    /// No socket.
    pub async fn before(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let at = listener.local_addr()?;
        let (weather, looks) = watch::channel(Weather::default());
        let accepted = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, looks, Arc::clone(&accepted)));
        Ok(Self { at, weather, accepted, tasks })
    }

    /// Where to dial.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.at
    }

    /// Holds back everything, or lets it through again: nothing is lost, as TCP repeats it.
    pub fn cut(&self, cut: bool) {
        self.weather.send_modify(|weather| weather.cut = cut);
    }

    /// Breaks off every connection, as a router does that was restarted.
    pub fn break_off(&self) {
        self.weather.send_modify(|weather| weather.breaks += 1);
    }

    /// Connections that were made through it.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    weather: watch::Receiver<Weather>,
    accepted: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::SeqCst);
        while connections.try_join_next().is_some() {}
        connections.spawn(relay(client, server, weather.clone()));
    }
}

async fn relay(client: TcpStream, server: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let breaks = weather.borrow_and_update().breaks;
    let (mut way, up, down) = (weather.clone(), weather.clone(), weather.clone());
    let carry = async {
        if way.wait_for(|weather| !weather.cut).await.is_err() {
            return;
        }
        let Ok(server) = TcpStream::connect(server).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(pass(from_client, to_server, up), pass(from_server, to_client, down));
    };
    tokio::select! {
        () = carry => {}
        _ = weather.wait_for(|weather| weather.breaks != breaks) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Weather>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        if way.wait_for(|weather| !weather.cut).await.is_err() {
            return;
        }
        match read {
            Ok(len) if len > 0 => {
                if to.write_all(&buffer[..len]).await.is_err() {
                    return;
                }
            }
            // Dropping the writer tells the other side.
            Ok(_) | Err(_) => return,
        }
    }
}
