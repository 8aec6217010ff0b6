//! The device CA: apart from the node CA, held by the nodes with the role `edge`.

use std::{fmt, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
use troupe_types::{DeviceId, Timestamp};
use zeroize::Zeroizing;

use super::identity::{cert_fingerprint, device_cert_name};
use crate::{
    cert::{CA_VALID, CertError, NODE_VALID, validity},
    quic::derived,
};

/// How long a device's certificate is good for: 90 days.
pub const DEVICE_VALID: Duration = Duration::from_secs(90 * 24 * 3_600);
/// The name in the certificate of every server of devices.
pub const EDGE_SERVER_NAME: &str = "troupe-edge";

/// The certificate authority of a cluster's devices.
pub struct DeviceCa {
    cert_pem: String,
    cert_der: Vec<u8>,
    key_pem: Zeroizing<String>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for DeviceCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceCa")
    }
}

/// The certificate of a server of devices, with its key, as PEM; the CA's is part of the chain.
pub struct EdgeServerCert {
    /// Its own certificate, then the CA's.
    pub chain_pem: String,
    /// Its key: secret.
    pub key_pem: Zeroizing<String>,
    /// The CA that devices are checked against.
    pub ca_pem: String,
    /// What the node's stateless resets follow from: the same for every process of it, and secret.
    pub reset_secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for EdgeServerCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EdgeServerCert")
    }
}

fn ca_params(cluster: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("troupe device CA {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(name: &str, usage: ExtendedKeyUsagePurpose) -> Result<CertificateParams, CertError> {
    let mut params = CertificateParams::new([name.to_owned()]).map_err(CertError::Cert)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn der_of(cert_pem: &str) -> Result<Vec<u8>, CertError> {
    let cert = rustls::pki_types::CertificateDer::from_pem_slice(cert_pem.as_bytes())
        .map_err(|source| CertError::Pem { what: "the device CA", source })?;
    Ok(cert.to_vec())
}

impl DeviceCa {
    /// A new CA for the devices of a cluster, good for ten years from `now`.
    ///
    /// # Errors
    /// [`CertError::Cert`]: the system gave no key.
    pub fn create(cluster: &str, now: Timestamp) -> Result<Self, CertError> {
        let key = KeyPair::generate().map_err(CertError::Cert)?;
        let mut params = ca_params(cluster);
        validity(&mut params, now, CA_VALID);
        let cert = params.self_signed(&key).map_err(CertError::Cert)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        Ok(Self {
            cert_pem: cert.pem(),
            cert_der: cert.der().to_vec(),
            key_pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// A CA that was made before; `cluster` must be the same as then.
    ///
    /// # Errors
    /// The key or the certificate does not read.
    pub fn from_pem(cluster: &str, cert_pem: &str, key_pem: &str) -> Result<Self, CertError> {
        let key = KeyPair::from_pem(key_pem).map_err(CertError::Cert)?;
        Ok(Self {
            cert_pem: cert_pem.to_owned(),
            cert_der: der_of(cert_pem)?,
            key_pem: Zeroizing::new(key_pem.to_owned()),
            issuer: Issuer::new(ca_params(cluster), key),
        })
    }

    /// The CA's certificate.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The same, DER.
    #[must_use]
    pub fn cert_der(&self) -> &[u8] {
        &self.cert_der
    }

    /// The CA's key: secret.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// What an invitation pins: SHA-256 of the CA's certificate.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        cert_fingerprint(&self.cert_der)
    }

    /// The same of a CA whose key lies elsewhere.
    ///
    /// # Errors
    /// The certificate does not read.
    pub fn fingerprint_of(cert_pem: &str) -> Result<[u8; 32], CertError> {
        Ok(cert_fingerprint(&der_of(cert_pem)?))
    }

    /// A certificate for a node's server of devices, good for two years from `now`. The name of
    /// the node is not in it.
    ///
    /// # Errors
    /// The system gave no key.
    pub fn issue_server(&self, node: &str, now: Timestamp) -> Result<EdgeServerCert, CertError> {
        let key = KeyPair::generate().map_err(CertError::Cert)?;
        let mut params = leaf_params(EDGE_SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth)?;
        validity(&mut params, now, NODE_VALID);
        let cert = params.signed_by(&key, &self.issuer).map_err(CertError::Cert)?;
        Ok(EdgeServerCert {
            chain_pem: format!("{}{}", cert.pem(), self.cert_pem),
            key_pem: Zeroizing::new(key.serialize_pem()),
            ca_pem: self.cert_pem.clone(),
            reset_secret: self.reset_secret(node),
        })
    }

    /// Of the CA's key, since the server's is made anew for every process; of the node's name,
    /// since nodes are to reset no connections but their own.
    fn reset_secret(&self, node: &str) -> Zeroizing<Vec<u8>> {
        let what = format!("troupe edge stateless reset of {node}");
        let secret = derived(self.key_pem.as_bytes(), what.as_bytes());
        Zeroizing::new(secret.as_ref().to_vec())
    }

    /// Checks a request without signing anything.
    ///
    /// # Errors
    /// [`CertError::Request`]: it does not read, or its key did not sign it.
    pub fn check_request(&self, csr: &[u8]) -> Result<(), CertError> {
        Self::request(csr).map(|_| ())
    }

    fn request(csr: &[u8]) -> Result<CertificateSigningRequestParams, CertError> {
        let csr = CertificateSigningRequestDer::from(csr);
        CertificateSigningRequestParams::from_der(&csr).map_err(CertError::Request)
    }

    /// Signs the key of a request for a device: 90 days from `now`. Names, usages and
    /// everything else that the request asks for are ignored.
    ///
    /// # Errors
    /// As [`check_request`](Self::check_request).
    pub fn sign(&self, csr: &[u8], device: DeviceId, now: Timestamp) -> Result<Vec<u8>, CertError> {
        self.sign_for(csr, device, now, DEVICE_VALID)
    }

    /// As [`sign`](Self::sign), good for `valid` from `now`.
    ///
    /// # Errors
    /// As [`check_request`](Self::check_request).
    pub fn sign_for(
        &self,
        csr: &[u8],
        device: DeviceId,
        now: Timestamp,
        valid: Duration,
    ) -> Result<Vec<u8>, CertError> {
        let mut request = Self::request(csr)?;
        request.params =
            leaf_params(&device_cert_name(device), ExtendedKeyUsagePurpose::ClientAuth)?;
        validity(&mut request.params, now, valid);
        let cert = request.signed_by(&self.issuer).map_err(CertError::Cert)?;
        Ok(cert.der().to_vec())
    }
}
