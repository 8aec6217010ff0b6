//! Device links over QUIC: the door of a node, and one try of a device to reach it.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, ServerConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

use super::{
    ca::{EDGE_SERVER_NAME, EdgeServerCert},
    tls,
};
use crate::{
    cert::CertError,
    error::LinkError,
    options::LinkOptions,
    quic::{QuicConnection, arriving, endpoint_config, failed, transport},
    stream::{Arriving, Connection, Network},
};

/// Before anything is measured: a lost first packet is sent again after three of these.
const RTT_GUESS: Duration = Duration::from_millis(100);

/// The UDP door for devices: sessions and enrolment.
#[derive(Debug)]
pub struct QuicEdgeNetwork {
    endpoint: Endpoint,
    options: LinkOptions,
}

impl QuicEdgeNetwork {
    /// Binds a UDP socket; port 0 takes any. Inside of a tokio runtime.
    ///
    /// # Errors
    /// The certificates do not go together; inside: no socket.
    pub fn bind(
        at: SocketAddr,
        cert: &EdgeServerCert,
        options: LinkOptions,
    ) -> Result<io::Result<Self>, CertError> {
        let crypto = QuicServerConfig::try_from(tls::server(cert)?).map_err(CertError::Cipher)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(transport(&options, true))
            .migration(true)
            .max_incoming(options.handshakes_max)
            .incoming_buffer_size(16 * 1024)
            .incoming_buffer_size_total(8 * 1024 * 1024);
        let bound = std::net::UdpSocket::bind(at).and_then(|socket| {
            let runtime = Arc::new(quinn::TokioRuntime);
            let config = endpoint_config(&cert.reset_secret);
            Endpoint::new(config, Some(server), socket, runtime)
        });
        Ok(bound.map(|endpoint| Self { endpoint, options }))
    }
}

#[async_trait]
impl Network for QuicEdgeNetwork {
    /// Nobody dials devices.
    async fn dial(&self, _: &str, _: SocketAddr) -> Result<Arc<dyn Connection>, LinkError> {
        Err(LinkError::Closed)
    }

    async fn arriving(&self, under_way: usize) -> Option<Arriving> {
        arriving(&self.endpoint, under_way, &self.options).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"shutting down");
    }
}

/// A client's UDP sockets: one for each family, made when first used.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    v4: Mutex<Option<Endpoint>>,
    v6: Mutex<Option<Endpoint>>,
}

impl Sockets {
    fn any(v4: bool) -> io::Result<std::net::UdpSocket> {
        let at: SocketAddr =
            if v4 { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        std::net::UdpSocket::bind(at)
    }

    pub(super) fn endpoint(&self, to: SocketAddr) -> Result<Endpoint, LinkError> {
        let slot = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = &*slot {
            return Ok(endpoint.clone());
        }
        let socket = Self::any(to.is_ipv4()).map_err(LinkError::Socket)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, runtime)
            .map_err(LinkError::Socket)?;
        *slot = Some(endpoint.clone());
        Ok(endpoint)
    }

    /// New sockets under the open connections; the far side follows.
    pub(super) fn rebind(&self) {
        for (slot, v4) in [(&self.v4, true), (&self.v6, false)] {
            let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(endpoint) = &*slot {
                match Self::any(v4).and_then(|socket| endpoint.rebind(socket)) {
                    Ok(()) => {}
                    Err(error) => tracing::debug!(%error, "the old socket is kept"),
                }
            }
        }
    }
}

/// A client configuration for QUIC.
pub(super) fn client_config(
    tls: rustls::ClientConfig,
    options: &LinkOptions,
) -> Result<ClientConfig, CertError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(CertError::Cipher)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = transport(options, true);
    if let Some(transport) = Arc::get_mut(&mut transport) {
        transport.initial_rtt(RTT_GUESS);
    }
    config.transport_config(transport);
    Ok(config)
}

/// One try to reach a door over UDP. `heard` becomes true with its first answer.
pub(super) async fn quic_dial(
    sockets: &Sockets,
    config: ClientConfig,
    to: SocketAddr,
    options: &LinkOptions,
    heard: &AtomicBool,
) -> Result<Arc<dyn Connection>, LinkError> {
    let endpoint = sockets.endpoint(to)?;
    let connecting = endpoint.connect_with(config, to, EDGE_SERVER_NAME);
    let mut connecting = connecting.map_err(|error| failed(&error))?;
    connecting.handshake_data().await.map_err(|error| failed(&error))?;
    heard.store(true, Ordering::Release);
    let connection = connecting.await.map_err(|error| failed(&error))?;
    Ok(Arc::new(QuicConnection { connection, options: options.clone() }))
}
