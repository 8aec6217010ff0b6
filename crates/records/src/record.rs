//! Writing and reading one record.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Why a record could not be written or read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The value has no JSON form, for example a map whose keys are not strings.
    #[error("the value has no JSON form")]
    Encode(#[source] serde_json::Error),
    /// The bytes are not a record of this type.
    #[error("version {version} of the record does not read as its type")]
    Decode {
        /// The version that the record says it has.
        version: u8,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The record is of a version that this program does not know, in most cases a newer one.
    #[error("the record has version {found}, this program reads {oldest} to {current}")]
    Version {
        /// The version that the record says it has.
        found: u8,
        /// The oldest version that is upgraded.
        oldest: u8,
        /// The version that this program writes.
        current: u8,
    },
    /// There are no bytes at all.
    #[error("the record is empty")]
    Empty,
}

/// A record of this version.
///
/// # Errors
/// [`RecordError::Encode`] if the value has no JSON form.
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Result<Bytes, RecordError> {
    let mut record = BytesMut::with_capacity(256).writer();
    record.get_mut().put_u8(version);
    serde_json::to_writer(&mut record, value).map_err(RecordError::Encode)?;
    Ok(record.into_inner().freeze())
}

/// The value of a record of version `current`, or of the version before it, whose JSON
/// `upgrade` reads.
///
/// # Errors
/// [`RecordError::Version`] for any other version, [`RecordError::Decode`] if it does not read.
pub fn decode<T: DeserializeOwned>(
    current: u8,
    record: &[u8],
    upgrade: impl FnOnce(&[u8]) -> Result<T, serde_json::Error>,
) -> Result<T, RecordError> {
    let (&version, json) = record.split_first().ok_or(RecordError::Empty)?;
    let decoded = if version == current {
        serde_json::from_slice(json)
    } else if version.checked_add(1) == Some(current) && version > 0 {
        upgrade(json)
    } else {
        let oldest = current.saturating_sub(1).max(1);
        return Err(RecordError::Version { found: version, oldest, current });
    };
    decoded.map_err(|source| RecordError::Decode { version, source })
}

/// The `upgrade` of a record that has had one version only. Such a record starts at version 1,
/// so this is never called.
///
/// # Errors
/// Always.
pub fn never_upgrades<T>(_: &[u8]) -> Result<T, serde_json::Error> {
    Err(serde::de::Error::custom("there is no version before the first one"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Now {
        name: String,
        size: u32,
    }

    #[derive(Deserialize)]
    struct Before {
        name: String,
    }

    fn upgrade(json: &[u8]) -> Result<Now, serde_json::Error> {
        serde_json::from_slice::<Before>(json).map(|old| Now { name: old.name, size: 1 })
    }

    #[test]
    fn current_and_previous_versions_are_read() {
        let now = Now { name: "a".into(), size: 7 };
        let record = encode(2, &now).unwrap();
        assert_eq!(record.as_ref(), b"\x02{\"name\":\"a\",\"size\":7}");
        assert_eq!(decode(2, &record, upgrade).unwrap(), now);
        let old = b"\x01{\"name\":\"b\"}";
        assert_eq!(decode(2, old, upgrade).unwrap(), Now { name: "b".into(), size: 1 });
    }

    #[test]
    fn other_versions_are_refused_by_name() {
        for found in [0u8, 1, 4, 255] {
            let err = decode(3, &[found, b'{', b'}'], upgrade).unwrap_err();
            assert!(matches!(err, RecordError::Version { found: f, oldest: 2, .. } if f == found));
        }
        let first = decode::<Now>(1, &[0, b'1'], never_upgrades).unwrap_err();
        assert!(matches!(first, RecordError::Version { found: 0, oldest: 1, current: 1 }));
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(matches!(decode(2, b"", upgrade), Err(RecordError::Empty)));
        let cut = decode(2, b"\x02{\"name\":", upgrade);
        assert!(matches!(cut, Err(RecordError::Decode { version: 2, .. })));
        let odd: BTreeMap<Vec<u8>, u8> = [(vec![1], 1)].into();
        assert!(matches!(encode(1, &odd), Err(RecordError::Encode(_))));
    }
}
