//! Renewing a device's certificate over its link.

use bytes::{BufMut, Bytes, BytesMut};

use super::limits::{CERT_BYTES_MAX, CHAIN_MAX, MESSAGE_BYTES_MAX};
use crate::{
    codec::{Put, Reader},
    error::{DecodeError, EncodeError},
};

/// A request for a certificate that follows the present one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// PKCS #10, DER. Only its public key is taken from it.
    pub csr: Bytes,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateAnswer {
    /// The new certificate, DER, the device's own first.
    Granted(Vec<Bytes>),
    /// Not now; a sentence for people.
    Refused(String),
    /// Something newer, which means the same as `Refused`.
    Other(u8),
}

pub(super) fn put_chain(to: &mut BytesMut, chain: &[Bytes]) -> Result<(), EncodeError> {
    to.put_count("certificates", chain.len(), CHAIN_MAX)?;
    for cert in chain {
        to.put_part("certificate", cert, CERT_BYTES_MAX)?;
    }
    Ok(())
}

pub(super) fn chain(from: &mut Reader) -> Result<Vec<Bytes>, DecodeError> {
    let mut chain = Vec::new();
    for _ in 0..from.count(CHAIN_MAX)? {
        chain.push(from.bytes(CERT_BYTES_MAX)?);
    }
    Ok(chain)
}

impl CertificateRequest {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        to.put_part("certificate request", &self.csr, CERT_BYTES_MAX)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let csr = Reader::new(payload, "certificate request").bytes(CERT_BYTES_MAX)?;
        Ok(Self { csr })
    }
}

impl CertificateAnswer {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Granted(chain) => {
                to.put_u8(1);
                put_chain(to, chain)?;
            }
            Self::Refused(message) => {
                to.put_u8(2);
                to.put_part("message", message.as_bytes(), MESSAGE_BYTES_MAX)?;
            }
            Self::Other(code) => to.put_u8(*code),
        }
        Ok(())
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "certificate answer");
        Ok(match from.u8()? {
            1 => Self::Granted(chain(&mut from)?),
            2 => Self::Refused(from.text(MESSAGE_BYTES_MAX)?),
            other => Self::Other(other),
        })
    }
}
