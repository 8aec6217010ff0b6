//! Who a device is: its key, its certificate, and the CA that it checks servers against.

use std::fmt;

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use sha2::{Digest, Sha256};
use troupe_types::{DeviceId, Timestamp, encode_uuid};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::cert::CertError;

/// The name of a device in its certificate: `dev-` and the 26 characters of its id.
#[must_use]
pub fn device_cert_name(device: DeviceId) -> String {
    format!("dev-{}", encode_uuid(device.uuid()))
}

/// SHA-256 of a certificate, DER.
#[must_use]
pub fn cert_fingerprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// From when to when a certificate, DER, is good.
///
/// # Errors
/// It does not read.
pub fn cert_valid(der: &[u8]) -> Result<(Timestamp, Timestamp), CertError> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|_| CertError::Der)?;
    let of = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_millis(time.timestamp().saturating_mul(1_000))
    };
    Ok((of(cert.validity().not_before), of(cert.validity().not_after)))
}

/// A key pair that was made here.
pub struct DeviceKey {
    pair: KeyPair,
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey")
    }
}

impl DeviceKey {
    /// A new one.
    ///
    /// # Errors
    /// The system gave no key.
    pub fn generate() -> Result<Self, CertError> {
        Ok(Self { pair: KeyPair::generate().map_err(CertError::Cert)? })
    }

    /// A request for a certificate of this key, DER.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn request(&self) -> Result<Bytes, CertError> {
        let params = CertificateParams::default();
        let csr = params.serialize_request(&self.pair).map_err(CertError::Cert)?;
        Ok(Bytes::copy_from_slice(csr.der()))
    }

    /// The private key as PEM: secret.
    #[must_use]
    pub fn pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.pair.serialize_pem())
    }
}

/// What a device needs to come in.
#[derive(Clone)]
pub struct DeviceIdentity {
    /// The device.
    pub device: DeviceId,
    /// Its certificate, DER, its own first.
    pub chain: Vec<Bytes>,
    /// Its key as PEM: secret.
    pub key_pem: Zeroizing<String>,
    /// The CA that servers are checked against, DER.
    pub ca: Bytes,
}

impl fmt::Debug for DeviceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceIdentity").field("device", &self.device).finish_non_exhaustive()
    }
}

impl DeviceIdentity {
    /// From when to when its certificate is good.
    ///
    /// # Errors
    /// There is none, or it does not read.
    pub fn valid(&self) -> Result<(Timestamp, Timestamp), CertError> {
        cert_valid(self.chain.first().ok_or(CertError::Der)?)
    }

    /// When it is to be renewed: at two thirds of its life.
    ///
    /// # Errors
    /// As [`valid`](Self::valid).
    pub fn renew_at(&self) -> Result<Timestamp, CertError> {
        let (from, until) = self.valid()?;
        Ok(from.plus(until.since(from) * 2 / 3))
    }
}
