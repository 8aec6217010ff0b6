//! Secrets of an execution: beside the job, never inside of it.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::{
    limits::{DEVICE_NAME_BYTES_MAX, SECRET_BYTES_MAX, SECRETS_MAX, TOKEN_BYTES_MAX},
    work::AttemptKey,
};
use crate::{
    codec::{Put, Reader},
    error::{DecodeError, EncodeError},
};

/// A secret by the name that the job calls it.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedSecret {
    /// Its name.
    pub name: String,
    /// The secret itself: for the process that needs it, and for no disk and no log.
    pub value: String,
}

impl fmt::Debug for NamedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Device: it started anew and goes on with this attempt; its secrets are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretsWanted {
    /// Whose.
    pub key: AttemptKey,
}

/// Cluster: the secrets of an attempt, all of them.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretsGiven {
    /// Whose.
    pub key: AttemptKey,
    /// The attempt's token, as in the assignment.
    pub token: String,
    /// They.
    pub secrets: Vec<NamedSecret>,
}

impl fmt::Debug for SecretsGiven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsGiven")
            .field("key", &self.key)
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}

pub(super) fn put_secrets(to: &mut BytesMut, secrets: &[NamedSecret]) -> Result<(), EncodeError> {
    to.put_count("secrets", secrets.len(), SECRETS_MAX)?;
    for secret in secrets {
        to.put_part("name of a secret", secret.name.as_bytes(), DEVICE_NAME_BYTES_MAX)?;
        to.put_part("secret", secret.value.as_bytes(), SECRET_BYTES_MAX)?;
    }
    Ok(())
}

pub(super) fn secrets(from: &mut Reader) -> Result<Vec<NamedSecret>, DecodeError> {
    let mut secrets = Vec::new();
    for _ in 0..from.count(SECRETS_MAX)? {
        let name = from.text(DEVICE_NAME_BYTES_MAX)?;
        secrets.push(NamedSecret { name, value: from.text(SECRET_BYTES_MAX)? });
    }
    Ok(secrets)
}

impl SecretsWanted {
    pub(crate) fn encode(self, to: &mut BytesMut) {
        self.key.encode(to);
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        Ok(Self { key: AttemptKey::decode(&mut Reader::new(payload, "secrets wanted"))? })
    }
}

impl SecretsGiven {
    pub(crate) fn encode(&self, to: &mut BytesMut) -> Result<(), EncodeError> {
        self.key.encode(to);
        to.put_part("token", self.token.as_bytes(), TOKEN_BYTES_MAX)?;
        put_secrets(to, &self.secrets)
    }

    pub(crate) fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(payload, "secrets");
        let key = AttemptKey::decode(&mut from)?;
        let token = from.text(TOKEN_BYTES_MAX)?;
        Ok(Self { key, token, secrets: secrets(&mut from)? })
    }
}
