//! TLS of the device links: version 1.3, servers always prove themselves, devices do for
//! sessions and cannot yet for enrolment.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};

use super::{
    authority::JoinFault,
    ca::EdgeServerCert,
    identity::{DeviceIdentity, cert_fingerprint},
};
use crate::{
    cert::CertError,
    tls::{ALPN_EDGE, ALPN_ENROL, certs, provider},
};

fn key(pem: &str) -> Result<PrivateKeyDer<'static>, CertError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|source| CertError::Pem { what: "the key", source })
}

/// Both protocols on one door. Who shows no certificate can only enrol.
pub(super) fn server(cert: &EdgeServerCert) -> Result<ServerConfig, CertError> {
    let mut roots = RootCertStore::empty();
    for ca in certs("the device CA", &cert.ca_pem)? {
        roots.add(ca).map_err(CertError::Tls)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(CertError::Verifier)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(CertError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certs("the edge certificate", &cert.chain_pem)?, key(&cert.key_pem)?)
        .map_err(CertError::Tls)?;
    config.alpn_protocols = vec![ALPN_EDGE.to_vec(), ALPN_ENROL.to_vec()];
    config.max_early_data_size = 0;
    Ok(config)
}

/// A device that has a certificate.
pub(super) fn device(identity: &DeviceIdentity) -> Result<ClientConfig, CertError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(identity.ca.to_vec())).map_err(CertError::Tls)?;
    let chain = identity.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(CertError::Tls)?
        .with_root_certificates(Arc::new(roots))
        .with_client_auth_cert(chain, key(&identity.key_pem)?)
        .map_err(CertError::Tls)?;
    config.alpn_protocols = vec![ALPN_EDGE.to_vec()];
    config.enable_early_data = false;
    Ok(config)
}

/// A machine that knows nothing but the fingerprint of the device CA.
pub(super) fn machine(fingerprint: [u8; 32]) -> Result<ClientConfig, CertError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(CertError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { fingerprint }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_ENROL.to_vec()];
    config.enable_early_data = false;
    Ok(config)
}

/// The word that a failed check leaves in the error of the handshake.
pub(super) const WRONG_SERVER: &str = "fingerprint";

/// What was wrong with a client's certificate, by what its handshake failed with.
pub(super) fn client_fault(reason: &str) -> Option<JoinFault> {
    let (_, fault) = reason.split_once("invalid peer certificate: ")?;
    let is_over = fault.starts_with("certificate expired") || fault.starts_with("Expired");
    Some(if is_over { JoinFault::Expired } else { JoinFault::Foreign })
}

/// Trusts a server whose chain leads to the CA with this fingerprint, and no other.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|ca| cert_fingerprint(ca) == self.fingerprint);
        let ca = pinned.ok_or_else(|| {
            rustls::Error::General(format!("another {WRONG_SERVER} than invited"))
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        inner.verify_server_cert(end_entity, &[], server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
