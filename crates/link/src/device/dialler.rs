//! Dialling the cluster: QUIC, and beside it the WebSocket for networks without UDP.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rustls::client::Resumption;
use tokio::time::sleep;

use super::{
    addresses::Addresses,
    identity::DeviceIdentity,
    quic::{Sockets, client_config, quic_dial},
    tls,
    ws::ws_dial,
};
use crate::{
    cert::CertError,
    error::LinkError,
    options::LinkOptions,
    stream::{Carrier, Connection},
};

/// How long QUIC is tried alone: long enough for a first packet that is lost (it is sent again
/// after 300 ms) and a way there and back, short enough that nobody minds it where UDP vanishes.
/// Less than what passes until the next try begins.
const HEAD_START: Duration = Duration::from_millis(500);

/// Makes connections to the cluster.
#[async_trait]
pub trait Dialler: fmt::Debug + Send + Sync + 'static {
    /// One try. Several may be under way at once; dropping one gives it up. Bounded by the
    /// caller.
    ///
    /// # Errors
    /// There is no connection this way now.
    async fn dial(&self) -> Result<Arc<dyn Connection>, LinkError>;

    /// One try to do better than a connection over this carrier. Bounded by the caller.
    ///
    /// # Errors
    /// There is nothing better, or not now.
    async fn better(&self, _than: Carrier) -> Result<Arc<dyn Connection>, LinkError> {
        Err(LinkError::Closed)
    }

    /// The machine's network changed: what is open moves over, what follows uses the new one.
    fn network_changed(&self) {}

    /// The device has a new certificate; what is dialled from now on shows it.
    ///
    /// # Errors
    /// It cannot be used.
    fn renewed(&self, _identity: &DeviceIdentity) -> Result<(), CertError> {
        Ok(())
    }
}

/// Both ways to a door, for one who dials it.
#[derive(Debug)]
pub(super) struct Ways {
    sockets: Sockets,
    config: Mutex<Config>,
    options: LinkOptions,
}

/// The same TLS for both.
#[derive(Clone)]
struct Config {
    quic: quinn::ClientConfig,
    tls: Arc<rustls::ClientConfig>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Config")
    }
}

impl Config {
    fn new(tls: rustls::ClientConfig, options: &LinkOptions) -> Result<Self, CertError> {
        let mut tcp = tls.clone();
        // A ticket of one door is good for nothing at the other.
        tcp.resumption = Resumption::default();
        Ok(Self { quic: client_config(tls, options)?, tls: Arc::new(tcp) })
    }
}

impl Ways {
    pub(super) fn new(tls: rustls::ClientConfig, options: LinkOptions) -> Result<Self, CertError> {
        let config = Mutex::new(Config::new(tls, &options)?);
        Ok(Self { sockets: Sockets::default(), config, options })
    }

    fn config(&self) -> Config {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `heard` becomes true with the door's first answer.
    async fn quic(
        &self,
        to: SocketAddr,
        heard: &AtomicBool,
    ) -> Result<Arc<dyn Connection>, LinkError> {
        quic_dial(&self.sockets, self.config().quic, to, &self.options, heard).await
    }

    async fn websocket(&self, to: SocketAddr) -> Result<Arc<dyn Connection>, LinkError> {
        ws_dial(self.config().tls, to, &self.options).await
    }

    /// Both, QUIC first; the first that is through wins, and the other is given up. QUIC that was
    /// answered is waited for, so that a busy machine does not end up on TCP by chance.
    pub(super) async fn race(&self, to: SocketAddr) -> Result<Arc<dyn Connection>, LinkError> {
        let heard = AtomicBool::new(false);
        let (quic, websocket) = (self.quic(to, &heard), self.websocket(to));
        tokio::pin!(quic, websocket);
        let early = tokio::select! {
            biased;
            early = &mut quic => Some(early),
            () = sleep(HEAD_START) => None,
        };
        let (udp, tcp) = match early {
            Some(Ok(connection)) => return Ok(connection),
            Some(Err(udp)) => (udp, websocket.await),
            None => tokio::select! {
                biased;
                udp = &mut quic => match udp {
                    Ok(connection) => return Ok(connection),
                    Err(udp) => (udp, websocket.await),
                },
                tcp = &mut websocket => match tcp {
                    Ok(tcp) if heard.load(Ordering::Acquire) => {
                        return Ok(quic.await.unwrap_or(tcp));
                    }
                    Ok(connection) => return Ok(connection),
                    Err(tcp) => match quic.await {
                        Ok(connection) => return Ok(connection),
                        Err(udp) => (udp, Err(tcp)),
                    },
                },
            },
        };
        tcp.map_err(|tcp| neither(&udp, &tcp))
    }
}

fn neither(udp: &LinkError, tcp: &LinkError) -> LinkError {
    let reason = |error: &LinkError| match error {
        LinkError::Connection { reason } => reason.clone(),
        other => other.to_string(),
    };
    LinkError::Connection { reason: format!("UDP: {}; TCP: {}", reason(udp), reason(tcp)) }
}

/// Dials the cluster, over UDP or over TCP.
#[derive(Debug)]
pub struct EdgeDialler {
    addresses: Addresses,
    ways: Ways,
    only: Option<Carrier>,
}

impl EdgeDialler {
    /// A dialler for these addresses (`host:port`), which are tried in turn.
    ///
    /// # Errors
    /// The identity cannot be used.
    pub fn new(
        addresses: Vec<String>,
        identity: &DeviceIdentity,
        options: LinkOptions,
    ) -> Result<Self, CertError> {
        let ways = Ways::new(tls::device(identity)?, options)?;
        Ok(Self { addresses: Addresses::new(addresses), ways, only: None })
    }

    /// Uses this carrier alone.
    #[must_use]
    pub const fn only(mut self, carrier: Carrier) -> Self {
        self.only = Some(carrier);
        self
    }
}

#[async_trait]
impl Dialler for EdgeDialler {
    async fn dial(&self) -> Result<Arc<dyn Connection>, LinkError> {
        let to = self.addresses.next().await?;
        match self.only {
            None => self.ways.race(to).await,
            Some(Carrier::Quic) => self.ways.quic(to, &AtomicBool::default()).await,
            Some(Carrier::WebSocket) => self.ways.websocket(to).await,
            Some(Carrier::Memory) => Err(LinkError::Closed),
        }
    }

    async fn better(&self, than: Carrier) -> Result<Arc<dyn Connection>, LinkError> {
        if than != Carrier::WebSocket || self.only.is_some() {
            return Err(LinkError::Closed);
        }
        let to = self.addresses.next().await?;
        self.ways.quic(to, &AtomicBool::default()).await
    }

    fn network_changed(&self) {
        self.ways.sockets.rebind();
    }

    fn renewed(&self, identity: &DeviceIdentity) -> Result<(), CertError> {
        let config = Config::new(tls::device(identity)?, &self.ways.options)?;
        *self.ways.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }
}
