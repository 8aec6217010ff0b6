//! The node CA and what it issues.

use std::{fmt, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use thiserror::Error;
use troupe_types::Timestamp;
use zeroize::Zeroizing;

use crate::name::{NameError, check_node_name};

/// How long a node CA is good for: ten years.
pub const CA_VALID: Duration = Duration::from_secs(3_652 * 24 * 3_600);
/// How long a node's certificate is good for: two years.
pub const NODE_VALID: Duration = Duration::from_secs(730 * 24 * 3_600);
/// Certificates are good from a little before they are made, as clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(3_600);

/// Why a certificate could not be made or read.
#[derive(Debug, Error)]
pub enum CertError {
    /// No node can have this name.
    #[error("no certificate for this name")]
    Name(#[source] NameError),
    /// The key or the certificate does not read, or could not be made.
    #[error("the certificate or its key could not be made or read")]
    Cert(#[source] rcgen::Error),
    /// A PEM file does not hold what it should.
    #[error("{what} does not read as PEM")]
    Pem {
        /// Which one.
        what: &'static str,
        /// What was wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// TLS does not accept them.
    #[error("the certificates and the key do not go together")]
    Tls(#[source] rustls::Error),
    /// The CA cannot check anybody.
    #[error("the CA cannot be used to check peers")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// A certificate request that is not one, or not signed by its own key.
    #[error("the certificate request does not read")]
    Request(#[source] rcgen::Error),
    /// Not a certificate.
    #[error("the certificate does not read")]
    Der,
    /// TLS has no cipher suite for QUIC.
    #[error("TLS has no cipher suite for QUIC")]
    Cipher(#[source] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// The certificate authority of the nodes of one cluster. Its key lies on no node.
pub struct NodeCa {
    cert_pem: String,
    key_pem: Zeroizing<String>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for NodeCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCa")
    }
}

/// A node's certificate with its key, as PEM.
pub struct NodeCert {
    /// The node that it names.
    pub node: String,
    /// The certificate.
    pub cert_pem: String,
    /// Its key: secret.
    pub key_pem: Zeroizing<String>,
}

impl fmt::Debug for NodeCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCert").field("node", &self.node).finish_non_exhaustive()
    }
}

pub(crate) fn validity(params: &mut CertificateParams, from: Timestamp, valid: Duration) {
    let since_epoch = Duration::from_millis(u64::try_from(from.as_millis()).unwrap_or(0));
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + since_epoch + valid;
}

impl NodeCa {
    /// A new CA for a cluster, good for [`CA_VALID`] from `now`.
    ///
    /// # Errors
    /// [`CertError::Cert`]: the system gave no key.
    pub fn create(cluster: &str, now: Timestamp) -> Result<Self, CertError> {
        let key = KeyPair::generate().map_err(CertError::Cert)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("troupe node CA {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, now, CA_VALID);
        let cert_pem = params.self_signed(&key).map_err(CertError::Cert)?.pem();
        let key_pem = Zeroizing::new(key.serialize_pem());
        Ok(Self { cert_pem, key_pem, issuer: Issuer::new(params, key) })
    }

    /// A CA that was made before. Its name is taken from `cluster`, which must be the same.
    ///
    /// # Errors
    /// The key does not read.
    pub fn from_pem(cluster: &str, cert_pem: &str, key_pem: &str) -> Result<Self, CertError> {
        let key = KeyPair::from_pem(key_pem).map_err(CertError::Cert)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("troupe node CA {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let (cert_pem, key_pem) = (cert_pem.to_owned(), Zeroizing::new(key_pem.to_owned()));
        Ok(Self { cert_pem, key_pem, issuer: Issuer::new(params, key) })
    }

    /// The CA's certificate: every node has it.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The CA's key: secret, and on no node.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A certificate for a node, good for [`NODE_VALID`] from `now`.
    ///
    /// # Errors
    /// The name, or the system gave no key.
    pub fn issue(&self, node: &str, now: Timestamp) -> Result<NodeCert, CertError> {
        self.issue_for(node, now, NODE_VALID)
    }

    /// A certificate for a node, good for `valid` from `now`.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    pub fn issue_for(
        &self,
        node: &str,
        now: Timestamp,
        valid: Duration,
    ) -> Result<NodeCert, CertError> {
        check_node_name(node).map_err(CertError::Name)?;
        let key = KeyPair::generate().map_err(CertError::Cert)?;
        let mut params = CertificateParams::new([node.to_owned()]).map_err(CertError::Cert)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, node);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now, valid);
        let cert = params.signed_by(&key, &self.issuer).map_err(CertError::Cert)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        Ok(NodeCert { node: node.to_owned(), cert_pem: cert.pem(), key_pem })
    }
}
