//! Links over QUIC.

use std::{io, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    rustls::pki_types::CertificateDer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    cert::{CertError, NodeCert},
    error::LinkError,
    name::check_node_name,
    options::LinkOptions,
    stream::{Arriving, Connection, LinkStream, Network, Purpose, StallGuard},
    tls::{self, ALPN_NODE},
};

/// What one stream may have under way before its reader reads.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// What one connection may have under way.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The QUIC endpoint of a node: one UDP socket for dialling and accepting.
#[derive(Debug)]
pub struct QuicNetwork {
    endpoint: Endpoint,
    client: ClientConfig,
    options: LinkOptions,
}

fn transport(options: &LinkOptions) -> Arc<TransportConfig> {
    let idle_ms = u32::try_from(options.idle.as_millis()).unwrap_or(u32::MAX);
    let mut config = TransportConfig::default();
    config
        .keep_alive_interval(Some(options.keep_alive))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
        .max_concurrent_bidi_streams(VarInt::from_u32(options.streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
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
        let transport = transport(&options);
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
            Endpoint::new(EndpointConfig::default(), Some(server), socket, runtime)
        });
        Ok(bound.map(|endpoint| Self { endpoint, client, options }))
    }
}

fn failed(error: &dyn std::error::Error) -> LinkError {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        reason.push_str(": ");
        reason.push_str(&inner.to_string());
        source = inner.source();
    }
    LinkError::Connection { reason }
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
        loop {
            let incoming = self.endpoint.accept().await?;
            if under_way >= self.options.handshakes_max {
                incoming.refuse();
                continue;
            }
            let unproven = !incoming.remote_address_validated() && incoming.may_retry();
            if unproven && under_way >= self.options.handshakes_unproven_max {
                // It must come again with a token that only its address can receive.
                if let Err(error) = incoming.retry() {
                    error.into_incoming().refuse();
                }
                continue;
            }
            let options = self.options.clone();
            return Some(Box::pin(async move {
                let connecting = incoming.accept().map_err(|error| failed(&error))?;
                let connection = connecting.await.map_err(|error| failed(&error))?;
                let connection: Arc<dyn Connection> =
                    Arc::new(QuicConnection { connection, options });
                Ok(connection)
            }));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"shutting down");
    }
}

#[derive(Debug)]
struct QuicConnection {
    connection: quinn::Connection,
    options: LinkOptions,
}

impl QuicConnection {
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
        let purpose = Purpose::of(read.read_u8().await.map_err(LinkError::Stream)?)?;
        Ok(self.stream(purpose, (write, read)))
    }

    fn is_of(&self, node: &str) -> bool {
        let identity = self.connection.peer_identity();
        let certs = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        certs.and_then(|certs| certs.first().map(|cert| tls::names(cert, node))).unwrap_or(false)
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
