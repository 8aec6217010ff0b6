//! Quinn with nothing around it: certificates, TLS and windows as a link has them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use quinn::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig,
    VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
    rustls::{
        self, RootCertStore,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
        version::TLS13,
    },
};
use tokio::{task::JoinSet, time::Instant};
use troupe_link::{NodeCa, NodeCert};
use troupe_types::SystemClock;

use crate::stats::Times;

const NEAR: &str = "bare-1";
const FAR: &str = "bare-2";
const ALPN: &[u8] = b"bare";
/// As those of a link.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// What the reader of a stream takes at once, at most.
const READ_BYTES: usize = 64 * 1024;

/// Both ends of a connection.
pub(super) struct Pair {
    near: Connection,
    far: Connection,
    _endpoints: [Endpoint; 2],
}

impl Pair {
    pub(super) async fn connect(ca: &NodeCa) -> Result<Self> {
        let now = SystemClock::shared().now();
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut transport = TransportConfig::default();
        transport
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(WINDOW_BYTES))
            .send_window(u64::from(WINDOW_BYTES))
            .keep_alive_interval(Some(Duration::from_millis(700)));
        let transport = Arc::new(transport);
        let mut server = ServerConfig::with_crypto(Arc::new(server(ca, &ca.issue(FAR, now)?)?));
        server.transport_config(Arc::clone(&transport));
        let mut client = ClientConfig::new(Arc::new(client(ca, &ca.issue(NEAR, now)?)?));
        client.transport_config(transport);
        let (there, here) = (Endpoint::server(server, at)?, Endpoint::client(at)?);
        let connecting = here.connect_with(client, there.local_addr()?, FAR)?;
        let accepting = async { there.accept().await.context("somebody comes") };
        let (near, incoming) = tokio::try_join!(async { Ok(connecting.await?) }, async {
            anyhow::Ok(accepting.await?.await?)
        })?;
        Ok(Self { near, far: incoming, _endpoints: [there, here] })
    }

    /// A stream; its first byte is sent, so that the far end knows of it.
    pub(super) async fn open(&self) -> Result<[(SendStream, RecvStream); 2]> {
        let mut near = self.near.open_bi().await?;
        near.0.write_all(&[0]).await?;
        let mut far = self.far.accept_bi().await?;
        far.1.read_exact(&mut [0]).await?;
        Ok([near, far])
    }

    /// So many bytes there and back, one after the other.
    pub(super) async fn round_trips(&self, count: u32, bytes: usize) -> Result<Times> {
        let [(mut send, mut recv), (mut back, mut there)] = self.open().await?;
        let mut echoing = JoinSet::new();
        echoing.spawn(async move {
            let mut word = vec![0; bytes];
            while there.read_exact(&mut word).await.is_ok() && back.write_all(&word).await.is_ok() {
            }
        });
        let (mut times, mut word) = (Times::default(), vec![7; bytes]);
        for _ in 0..count {
            let begun = Instant::now();
            send.write_all(&word).await?;
            recv.read_exact(&mut word).await?;
            times.push(begun.elapsed());
        }
        Ok(times)
    }

    /// So many writes of so many bytes one way; how long until all were read.
    pub(super) async fn stream(&self, count: u32, bytes: usize) -> Result<Duration> {
        let [(mut send, _recv), (_back, mut there)] = self.open().await?;
        let mut reading = JoinSet::new();
        let begun = Instant::now();
        reading.spawn(async move {
            let (mut piece, mut read) = (vec![0; READ_BYTES], 0);
            while let Some(more) = there.read(&mut piece).await? {
                read += more;
            }
            anyhow::Ok(read)
        });
        let frame = vec![7; bytes];
        for _ in 0..count {
            send.write_all(&frame).await?;
        }
        send.finish()?;
        let read = reading.join_next().await.context("a reader")???;
        ensure!(read == bytes * count as usize, "{read} bytes arrived");
        Ok(begun.elapsed())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(ca: &NodeCa) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.cert_pem().as_bytes())?)?;
    Ok(Arc::new(roots))
}

fn identity(cert: &NodeCert) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = vec![CertificateDer::from_pem_slice(cert.cert_pem.as_bytes())?];
    Ok((chain, PrivateKeyDer::from_pem_slice(cert.key_pem.as_bytes())?))
}

fn server(ca: &NodeCa, cert: &NodeCert) -> Result<QuicServerConfig> {
    let peers = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider()).build()?;
    let (chain, key) = identity(cert)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(peers)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(QuicServerConfig::try_from(config)?)
}

fn client(ca: &NodeCa, cert: &NodeCert) -> Result<QuicClientConfig> {
    let (chain, key) = identity(cert)?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(QuicClientConfig::try_from(config)?)
}
