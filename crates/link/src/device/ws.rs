//! Device links for networks without UDP: yamux in a WebSocket in TLS over TCP.
//!
//! Certificates, protocols and frames are those of QUIC; only what carries streams differs.
//! There are no datagrams: over TCP they would wait behind the streams all the same.

mod connection;
mod driver;
mod streams;
mod wire;

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::{accept_async_with_config, client_async_with_config};

use self::{
    connection::{Over, WsConnection},
    wire::{Ear, Pulse, config},
};
use super::{
    ca::{EDGE_SERVER_NAME, EdgeServerCert},
    rate, tls,
};
use crate::{
    cert::CertError,
    error::LinkError,
    options::LinkOptions,
    quic::{failed, shut_out},
    stream::{Arriving, Connection, Network, Protocol},
};

/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1_024;
/// A pause after the system could give no connection, mostly because files ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a device asks for. The name is that of the certificate; the path is looked at by nobody.
const REQUEST: &str = "wss://troupe-edge/link";

/// The TCP door for devices: sessions and enrolment.
pub struct WsEdgeNetwork {
    listener: TcpListener,
    tls: TlsAcceptor,
    options: LinkOptions,
    closed: watch::Sender<bool>,
    guests: Arc<Guests>,
}

impl fmt::Debug for WsEdgeNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsEdgeNetwork").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// Handshakes under way, by address.
#[derive(Debug, Default)]
struct Guests(Mutex<HashMap<IpAddr, usize>>);

impl Guests {
    /// A place for one more; `None`: this address has its share.
    fn admit(self: &Arc<Self>, address: IpAddr, share: usize) -> Option<Guest> {
        let mut guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = guests.entry(address).or_default();
        if *count >= share {
            return None;
        }
        *count += 1;
        Some(Guest { guests: Arc::clone(self), address })
    }
}

/// Counts as long as its handshake is under way.
struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = guests.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                guests.remove(&self.address);
            }
        }
    }
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A node that comes back takes its port again, though old connections are remembered.
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

impl WsEdgeNetwork {
    /// Binds a TCP socket; port 0 takes any. Inside of a tokio runtime.
    ///
    /// # Errors
    /// The certificates do not go together; inside: no socket.
    pub fn bind(
        at: SocketAddr,
        cert: &EdgeServerCert,
        options: LinkOptions,
    ) -> Result<io::Result<Self>, CertError> {
        let tls = TlsAcceptor::from(Arc::new(tls::server(cert)?));
        let closed = watch::Sender::new(false);
        let guests = Arc::default();
        Ok(listen(at).map(|listener| Self { listener, tls, options, closed, guests }))
    }

    /// The next connection that may begin a handshake.
    async fn next(&self, under_way: usize) -> (TcpStream, SocketAddr, Guest) {
        let max = self.options.handshakes_max;
        loop {
            let (socket, from) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "no connection was accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // One address can fill half of the room: an address is proven here, unlike on UDP.
            let address = rate::network_of(from.ip());
            match self.guests.admit(address, (max / 2).max(1)) {
                Some(guest) if under_way < max => return (socket, from, guest),
                _ => drop(socket),
            }
        }
    }
}

#[async_trait]
impl Network for WsEdgeNetwork {
    /// Nobody dials devices.
    async fn dial(&self, _: &str, _: SocketAddr) -> Result<Arc<dyn Connection>, LinkError> {
        Err(LinkError::Closed)
    }

    async fn arriving(&self, under_way: usize) -> Option<Arriving> {
        let mut closed = self.closed.subscribe();
        let (socket, from, guest) = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return None,
            next = self.next(under_way) => next,
        };
        let (tls, options) = (self.tls.clone(), self.options.clone());
        Some(Box::pin(async move {
            let _guest = guest;
            welcome(socket, from, tls, options, closed).await
        }))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn close(&self) {
        self.closed.send_replace(true);
    }
}

fn ear(socket: TcpStream) -> Result<(Ear, Arc<Pulse>), LinkError> {
    // Frames are small and somebody waits for each.
    socket.set_nodelay(true).map_err(LinkError::Socket)?;
    let pulse = Arc::new(Pulse::new());
    Ok((Ear { socket, pulse: Arc::clone(&pulse) }, pulse))
}

fn unspoken() -> LinkError {
    LinkError::Connection { reason: "no protocol of devices was asked for".to_owned() }
}

async fn welcome(
    socket: TcpStream,
    remote: SocketAddr,
    tls: TlsAcceptor,
    options: LinkOptions,
    closing: watch::Receiver<bool>,
) -> Result<Arc<dyn Connection>, LinkError> {
    let (ear, pulse) = ear(socket)?;
    let tls = tls.accept(ear).await.map_err(|error| shut_out(remote, &error))?;
    let over = Over::of(remote, tls.get_ref().1);
    if over.protocol == Protocol::Node {
        return Err(unspoken());
    }
    let socket = accept_async_with_config(tls, Some(config())).await;
    let socket = socket.map_err(|error| failed(&error))?;
    let mode = yamux::Mode::Server;
    Ok(Arc::new(WsConnection::start(socket, pulse, mode, over, options, closing)))
}

/// One try to reach a door over TCP.
pub(super) async fn ws_dial(
    tls: Arc<ClientConfig>,
    to: SocketAddr,
    options: &LinkOptions,
) -> Result<Arc<dyn Connection>, LinkError> {
    let socket = TcpStream::connect(to).await.map_err(|error| failed(&error))?;
    let (ear, pulse) = ear(socket)?;
    let name = ServerName::try_from(EDGE_SERVER_NAME).map_err(|error| failed(&error))?;
    let tls = TlsConnector::from(tls).connect(name, ear).await;
    let tls = tls.map_err(|error| failed(&error))?;
    let over = Over::of(to, tls.get_ref().1);
    if over.protocol == Protocol::Node {
        return Err(unspoken());
    }
    // What the door thinks of this end's certificate shows here first.
    let asked = client_async_with_config(REQUEST, tls, Some(config())).await;
    let (socket, _) = asked.map_err(|error| failed(&error))?;
    let (mode, closing) = (yamux::Mode::Client, watch::channel(false).1);
    let options = options.clone();
    Ok(Arc::new(WsConnection::start(socket, pulse, mode, over, options, closing)))
}
