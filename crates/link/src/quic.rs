//! Links over QUIC.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_lc_rs::hmac;
use bytes::Bytes;
use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    ServerConfig, TransportConfig, VarInt, rustls::pki_types::CertificateDer,
};
use tokio::io::AsyncWriteExt;

use crate::{
    cert::{CertError, NodeCert},
    error::LinkError,
    name::check_node_name,
    options::LinkOptions,
    stream::{
        Arriving, Carrier, Connection, LinkStream, Network, Protocol, Purpose, StallGuard,
        purpose_of,
    },
    tls::{self, ALPN_NODE},
};

/// What one stream may have under way before its reader reads.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// What one connection may have under way.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Datagrams that wait to be read.
const DATAGRAMS_BYTES: usize = 16 * 1024;

/// The QUIC endpoint of a node: one UDP socket for dialling and accepting.
#[derive(Debug)]
pub struct QuicNetwork {
    endpoint: Endpoint,
    client: ClientConfig,
    options: LinkOptions,
}

pub(crate) fn transport(options: &LinkOptions, datagrams: bool) -> Arc<TransportConfig> {
    let idle_ms = u32::try_from(options.idle.as_millis()).unwrap_or(u32::MAX);
    let mut config = TransportConfig::default();
    config
        .keep_alive_interval(Some(options.keep_alive))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
        .max_concurrent_bidi_streams(VarInt::from_u32(options.streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(datagrams.then_some(DATAGRAMS_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES));
    Arc::new(config)
}

impl QuicNetwork {
    /// Binds a UDP socket; port 0 takes any. Inside of a tokio runtime.
    ///
    /// # Errors
    /// The certificates do not go together.
    pub fn bind(
        at: SocketAddr,
        ca_pem: &str,
        cert: &NodeCert,
        options: LinkOptions,
    ) -> Result<Result<Self, io::Error>, CertError> {
        Self::bind_with(at, ca_pem, cert, options, ALPN_NODE)
    }

    /// As [`bind`](Self::bind), with another ALPN: such a network has no links with nodes.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_with(
        at: SocketAddr,
        ca_pem: &str,
        cert: &NodeCert,
        options: LinkOptions,
        alpn: &[u8],
    ) -> Result<Result<Self, io::Error>, CertError> {
        let transport = transport(&options, false);
        let mut server = ServerConfig::with_crypto(Arc::new(tls::server(ca_pem, cert, alpn)?));
        // Packets that wait for a handshake to be begun: bounded, however many come.
        server
            .transport_config(Arc::clone(&transport))
            .max_incoming(options.handshakes_max)
            .incoming_buffer_size(64 * 1024)
            .incoming_buffer_size_total(4 * 1024 * 1024);
        let mut client = ClientConfig::new(Arc::new(tls::client(ca_pem, cert, alpn)?));
        client.transport_config(transport);
        let bound = std::net::UdpSocket::bind(at).and_then(|socket| {
            let runtime = Arc::new(quinn::TokioRuntime);
            let config = endpoint_config(cert.key_pem.as_bytes());
            Endpoint::new(config, Some(server), socket, runtime)
        });
        Ok(bound.map(|endpoint| Self { endpoint, client, options }))
    }
}

/// A node that comes back at the same address after a crash tells its peers at their next packet
/// that their connections are gone (a stateless reset, RFC 9000 section 10.3), instead of
/// leaving them to wait for the idle timeout. For that its reset tokens follow from a secret of
/// the node, as those of the process before did.
pub(crate) fn endpoint_config(secret: &[u8]) -> EndpointConfig {
    let derived = derived(secret, b"stateless reset");
    let reset = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(|| Box::new(RandomIds));
    config
}

/// A secret that follows from another one and says nothing about it.
pub(crate) fn derived(secret: &[u8], what: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), what)
}

/// Ids of connections that any process of the node takes for its own: quinn's own ids carry a
/// key of their process, and packets with others are dropped without a reset.
struct RandomIds;

/// Length of an id, in bytes.
const ID_BYTES: usize = 8;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        // Without randomness no handshake would get this far.
        let drawn = aws_lc_rs::rand::fill(&mut id);
        debug_assert!(drawn.is_ok(), "the system gives randomness");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

pub(crate) fn failed(error: &dyn std::error::Error) -> LinkError {
    LinkError::Connection { reason: chain(error) }
}

/// Who came from there did not get in.
pub(crate) fn shut_out(from: SocketAddr, error: &dyn std::error::Error) -> LinkError {
    LinkError::Handshake { from, reason: chain(error) }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        reason.push_str(": ");
        reason.push_str(&inner.to_string());
        source = inner.source();
    }
    reason
}

/// The next peer at the door of an endpoint; floods are turned away before any handshake.
pub(crate) async fn arriving(
    endpoint: &Endpoint,
    under_way: usize,
    options: &LinkOptions,
) -> Option<Arriving> {
    loop {
        let incoming = endpoint.accept().await?;
        if under_way >= options.handshakes_max {
            incoming.refuse();
            continue;
        }
        let unproven = !incoming.remote_address_validated() && incoming.may_retry();
        if unproven && under_way >= options.handshakes_unproven_max {
            // It must come again with a token that only its address can receive.
            if let Err(error) = incoming.retry() {
                error.into_incoming().refuse();
            }
            continue;
        }
        let options = options.clone();
        return Some(Box::pin(async move {
            let from = incoming.remote_address();
            let connecting = incoming.accept().map_err(|error| shut_out(from, &error))?;
            let connection = connecting.await.map_err(|error| shut_out(from, &error))?;
            let connection: Arc<dyn Connection> = Arc::new(QuicConnection { connection, options });
            Ok(connection)
        }));
    }
}

#[async_trait]
impl Network for QuicNetwork {
    async fn dial(&self, node: &str, to: SocketAddr) -> Result<Arc<dyn Connection>, LinkError> {
        check_node_name(node).map_err(LinkError::Name)?;
        let connecting = self
            .endpoint
            .connect_with(self.client.clone(), to, node)
            .map_err(|error| failed(&error))?;
        let connection = connecting.await.map_err(|error| failed(&error))?;
        Ok(Arc::new(QuicConnection { connection, options: self.options.clone() }))
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

#[derive(Debug)]
pub(crate) struct QuicConnection {
    pub(crate) connection: quinn::Connection,
    pub(crate) options: LinkOptions,
}

impl QuicConnection {
    fn peer(&self) -> Option<CertificateDer<'static>> {
        let identity = self.connection.peer_identity()?;
        let certs = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        certs.first().cloned()
    }

    fn stream(
        &self,
        purpose: Purpose,
        (write, read): (quinn::SendStream, quinn::RecvStream),
    ) -> LinkStream {
        let write = Box::new(StallGuard::new(Resetting(Some(write)), self.options.write_stall));
        LinkStream { purpose, read: Box::new(read), write }
    }
}

#[async_trait]
impl Connection for QuicConnection {
    async fn open(&self, purpose: Purpose) -> Result<LinkStream, LinkError> {
        let halves = self.connection.open_bi().await.map_err(|error| failed(&error))?;
        let mut stream = self.stream(purpose, halves);
        stream.write.write_u8(purpose.code()).await.map_err(LinkError::Stream)?;
        Ok(stream)
    }

    async fn accept(&self) -> Result<LinkStream, LinkError> {
        let (write, mut read) =
            self.connection.accept_bi().await.map_err(|error| failed(&error))?;
        let purpose = purpose_of(&mut read, self.options.write_stall).await?;
        Ok(self.stream(purpose, (write, read)))
    }

    fn is_of(&self, node: &str) -> bool {
        self.peer().is_some_and(|cert| tls::names(&cert, node))
    }

    fn protocol(&self) -> Protocol {
        let data = self.connection.handshake_data();
        let data = data.and_then(|any| any.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
        tls::protocol(data.as_ref().and_then(|data| data.protocol.as_deref()))
    }

    fn carrier(&self) -> Carrier {
        Carrier::Quic
    }

    fn peer_cert(&self) -> Option<Bytes> {
        self.peer().map(|cert| Bytes::copy_from_slice(&cert))
    }

    fn rtt(&self) -> Option<Duration> {
        Some(self.connection.rtt())
    }

    fn send_datagram(&self, datagram: Bytes) -> bool {
        self.connection.send_datagram(datagram).is_ok()
    }

    async fn datagram(&self) -> Option<Bytes> {
        self.connection.read_datagram().await.ok()
    }

    fn remote(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    fn close(&self, why: &'static str) {
        self.connection.close(VarInt::from_u32(1), why.as_bytes());
    }

    async fn closed(&self) -> String {
        self.connection.closed().await.to_string()
    }
}

/// A QUIC stream that is reset when it is dropped unfinished; quinn alone would finish it, and
/// the peer would take what came so far for the whole.
#[derive(Debug)]
struct Resetting(Option<quinn::SendStream>);

mod resetting {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::AsyncWrite;

    use super::Resetting;

    fn gone() -> io::Error {
        io::Error::new(io::ErrorKind::BrokenPipe, "the stream is finished")
    }

    impl Drop for Resetting {
        fn drop(&mut self) {
            if let Some(mut stream) = self.0.take() {
                // Fails if it is closed already, which is as good.
                let _ = stream.reset(quinn::VarInt::from_u32(2));
            }
        }
    }

    impl AsyncWrite for Resetting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            match &mut self.0 {
                Some(stream) => AsyncWrite::poll_write(Pin::new(stream), cx, bytes),
                None => Poll::Ready(Err(gone())),
            }
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            match &mut self.0 {
                Some(stream) => AsyncWrite::poll_flush(Pin::new(stream), cx),
                None => Poll::Ready(Ok(())),
            }
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.0.take() {
                Some(mut stream) => AsyncWrite::poll_shutdown(Pin::new(&mut stream), cx),
                None => Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt as _, time::timeout};
    use troupe_types::SystemClock;

    use super::*;
    use crate::cert::NodeCa;

    const LONG: Duration = Duration::from_secs(20);

    /// Both ends of a connection between two nodes, the near one as quinn has it.
    async fn pair(
        options: LinkOptions,
    ) -> (quinn::Connection, Arc<dyn Connection>, [QuicNetwork; 2]) {
        let now = SystemClock::shared().now();
        let ca = NodeCa::create("test", now).unwrap();
        let network = |node| {
            let (at, cert) = ("127.0.0.1:0".parse().unwrap(), ca.issue(node, now).unwrap());
            QuicNetwork::bind(at, ca.cert_pem(), &cert, options.clone()).unwrap().unwrap()
        };
        let (a, b) = (network("node-1"), network("node-2"));
        let to = b.local_addr().unwrap();
        let near = async {
            a.endpoint.connect_with(a.client.clone(), to, "node-2").unwrap().await.unwrap()
        };
        let far = async { b.arriving(0).await.unwrap().await.unwrap() };
        let (near, far) = timeout(LONG, async { tokio::join!(near, far) }).await.unwrap();
        (near, far, [a, b])
    }

    /// One stream that comes to nothing, of whatever kind, is an error of its own: the next one is
    /// accepted.
    #[tokio::test]
    async fn a_bad_stream_leaves_the_connection_as_it_is() {
        let write_stall = Duration::from_millis(300);
        let (near, far, _networks) = pair(LinkOptions { write_stall, ..Default::default() }).await;
        // Let go of before its purpose could be read.
        let (mut gone, _read) = near.open_bi().await.unwrap();
        gone.reset(VarInt::from_u32(2)).unwrap();
        let error = timeout(LONG, far.accept()).await.unwrap().unwrap_err();
        assert!(matches!(error, LinkError::Stream(_)) && error.is_of_stream(), "{error}");
        // Of a later version.
        let (mut newer, _read) = near.open_bi().await.unwrap();
        newer.write_all(&[99]).await.unwrap();
        let error = timeout(LONG, far.accept()).await.unwrap().unwrap_err();
        assert!(matches!(error, LinkError::Purpose(99)) && error.is_of_stream(), "{error}");
        // One that says nothing is known by a later one, and holds that up for a while only.
        let (_silent, _read) = near.open_bi().await.unwrap();
        let (mut good, _read) = near.open_bi().await.unwrap();
        good.write_all(&[Purpose::Bulk.code(), 7]).await.unwrap();
        let error = timeout(LONG, far.accept()).await.unwrap().unwrap_err();
        assert!(error.is_of_stream(), "{error}");
        let mut stream = timeout(LONG, far.accept()).await.unwrap().unwrap();
        assert_eq!(stream.purpose, Purpose::Bulk);
        assert_eq!(timeout(LONG, stream.read.read_u8()).await.unwrap().unwrap(), 7);
        near.close(VarInt::from_u32(0), b"done");
        let error = timeout(LONG, far.accept()).await.unwrap().unwrap_err();
        assert!(!error.is_of_stream(), "{error}");
    }
}
