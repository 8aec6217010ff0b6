//! HTTPS: a certificate and its key from files, read again when they change.

use std::{
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at: a renewed certificate is in use that much later.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What is wrong with the files.
#[derive(Debug, Error)]
pub enum HttpsError {
    /// One of them cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// One of them holds something else.
    #[error("{}: {wanted}", file.display())]
    Pem {
        /// Which.
        file: PathBuf,
        /// What belongs into it.
        wanted: &'static str,
    },
    /// They cannot be used, or do not belong together.
    #[error("{} is no certificate for {}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The library refuses its own settings.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The certificate that a listener shows, with its key: PEM files, the chain with the node's own
/// certificate first, the key as PKCS#8, PKCS#1 or SEC1. TLS 1.2 and 1.3.
#[derive(Debug)]
pub struct HttpsCert {
    cert_file: PathBuf,
    key_file: PathBuf,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
    names: Vec<String>,
}

impl HttpsCert {
    /// Reads both files.
    ///
    /// # Errors
    /// See [`HttpsError`].
    pub fn load(cert_file: &Path, key_file: &Path) -> Result<Self, HttpsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pair = read(cert_file, key_file, &provider)?;
        let names = names_of(&pair);
        let current = Arc::new(Current(RwLock::new(Arc::new(pair))));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(HttpsError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Current>::clone(&current));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (cert_file, key_file) = (cert_file.to_owned(), key_file.to_owned());
        Ok(Self { cert_file, key_file, provider, current, config: Arc::new(config), names })
    }

    /// Takes what the files hold now, for connections from here on. `true`: it is another
    /// certificate.
    ///
    /// # Errors
    /// See [`HttpsError`]; the certificate in use stays.
    pub fn reload(&self) -> Result<bool, HttpsError> {
        let pair = read(&self.cert_file, &self.key_file, &self.provider)?;
        Ok(self.current.replace(pair))
    }

    /// Looks at the files every minute, and never ends.
    pub async fn follow_files(self: Arc<Self>) -> Infallible {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let me = Arc::clone(&self);
            let Ok(reloaded) = tokio::task::spawn_blocking(move || me.reload()).await else {
                continue;
            };
            match reloaded {
                Ok(true) => tracing::info!("the certificate of HTTPS was renewed"),
                Ok(false) => {}
                // Perhaps one of the two files is written right now.
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the certificate of HTTPS stays the one before"
                ),
            }
        }
    }

    /// Names that the certificate was given for at the start, lower case; `*.example.org` stands
    /// for one label.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

fn read(
    cert_file: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, HttpsError> {
    let bytes = |file: &Path| {
        fs::read(file).map_err(|source| HttpsError::Read { file: file.to_owned(), source })
    };
    let wrong = |file: &Path, wanted| HttpsError::Pem { file: file.to_owned(), wanted };
    let chain = CertificateDer::pem_slice_iter(&bytes(cert_file)?)
        .collect::<Result<Vec<_>, pem::Error>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| wrong(cert_file, "no certificates in PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes(key_file)?)
        .map_err(|_| wrong(key_file, "no private key in PEM (PKCS#8, PKCS#1 or SEC1)"))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|source| HttpsError::Pair {
        cert: cert_file.to_owned(),
        key: key_file.to_owned(),
        source,
    })
}

/// DNS names of a certificate (RFC 5280, section 4.2.1.6).
fn names_of(pair: &CertifiedKey) -> Vec<String> {
    let Some(leaf) = pair.cert.first() else { return Vec::new() };
    let Ok(leaf) = webpki::EndEntityCert::try_from(leaf) else { return Vec::new() };
    leaf.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

/// What is shown to whoever connects next.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn get(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, pair: CertifiedKey) -> bool {
        let is_other = self.get().cert != pair.cert;
        if is_other {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
        }
        is_other
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}
