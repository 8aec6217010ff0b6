//! TLS of the node link: version 1.3, both sides prove themselves, one ALPN.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};

use crate::{
    cert::{CertError, NodeCert},
    stream::Protocol,
};

/// What both ends of a node link say they speak.
pub(crate) const ALPN_NODE: &[u8] = b"troupe-node/1";

/// What a session of a device speaks.
pub(crate) const ALPN_EDGE: &[u8] = b"troupe-edge/1";
/// What enrolment speaks.
pub(crate) const ALPN_ENROL: &[u8] = b"troupe-enrol/1";

/// What an ALPN stands for.
pub(crate) fn protocol(alpn: Option<&[u8]>) -> Protocol {
    match alpn {
        Some(ALPN_EDGE) => Protocol::Edge,
        Some(ALPN_ENROL) => Protocol::Enrol,
        _ => Protocol::Node,
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub(crate) fn certs(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, CertError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| CertError::Pem { what, source })
}

fn key(cert: &NodeCert) -> Result<PrivateKeyDer<'static>, CertError> {
    PrivateKeyDer::from_pem_slice(cert.key_pem.as_bytes())
        .map_err(|source| CertError::Pem { what: "the node's key", source })
}

fn roots(ca_pem: &str) -> Result<Arc<RootCertStore>, CertError> {
    let mut roots = RootCertStore::empty();
    for cert in certs("the node CA", ca_pem)? {
        roots.add(cert).map_err(CertError::Tls)?;
    }
    Ok(Arc::new(roots))
}

pub(crate) fn server(
    ca_pem: &str,
    cert: &NodeCert,
    alpn: &[u8],
) -> Result<QuicServerConfig, CertError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca_pem)?, provider())
        .build()
        .map_err(CertError::Verifier)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(CertError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certs("the node's certificate", &cert.cert_pem)?, key(cert)?)
        .map_err(CertError::Tls)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config).map_err(CertError::Cipher)
}

pub(crate) fn client(
    ca_pem: &str,
    cert: &NodeCert,
    alpn: &[u8],
) -> Result<QuicClientConfig, CertError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(CertError::Tls)?
        .with_root_certificates(roots(ca_pem)?)
        .with_client_auth_cert(certs("the node's certificate", &cert.cert_pem)?, key(cert)?)
        .map_err(CertError::Tls)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_early_data = false;
    QuicClientConfig::try_from(config).map_err(CertError::Cipher)
}

/// Whether a certificate, already checked against the CA, names this node.
pub(crate) fn names(cert: &CertificateDer<'_>, node: &str) -> bool {
    let Ok(name) = ServerName::try_from(node) else { return false };
    let Ok(cert) = webpki::EndEntityCert::try_from(cert) else { return false };
    cert.verify_is_valid_for_subject_name(&name).is_ok()
}
