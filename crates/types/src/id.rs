//! Typed ids: a prefix that names the kind, then 26 characters of lower-case Crockford base32.
//!
//! The 128 bits are a UUIDv7 (time first, so ids sort by age) or, where an id is derived
//! from something else, a UUIDv5. The text form is the one that people and clients see.

use std::{fmt, str::FromStr, sync::LazyLock};

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use uuid::Uuid;

/// Name space of all ids that are derived (UUIDv5) instead of drawn.
const DERIVED: Uuid = Uuid::from_bytes(*b"troupe-derived-1");

static CROCKFORD: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    spec.encoding().expect("the alphabet has 32 distinct symbols")
});

/// Why a text is no id of the wanted kind.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IdError {
    /// The prefix is missing or belongs to another kind of id.
    #[error("expected an id that starts with `{expected}_`")]
    Prefix {
        /// The prefix that was wanted, without the underscore.
        expected: &'static str,
    },
    /// What follows the prefix is not 26 characters of the alphabet.
    #[error("expected 26 characters of 0-9 and a-z (without i, l, o, u) after `{expected}_`")]
    Body {
        /// The prefix that was wanted, without the underscore.
        expected: &'static str,
    },
}

/// Writes 128 bits as 26 characters.
#[must_use]
pub fn encode_uuid(id: Uuid) -> String {
    CROCKFORD.encode(id.as_bytes())
}

/// Reads what [`encode_uuid`] wrote.
#[must_use]
pub fn decode_uuid(text: &str) -> Option<Uuid> {
    let bytes = CROCKFORD.decode(text.as_bytes()).ok()?;
    Some(Uuid::from_bytes(bytes.try_into().ok()?))
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the text form starts with, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A fresh id; the time part comes from the given clock reading.
            #[must_use]
            pub fn new(now: crate::Timestamp) -> Self {
                let millis = u64::try_from(now.as_millis()).unwrap_or(0);
                let stamp = uuid::Timestamp::from_unix(
                    uuid::NoContext,
                    millis / 1000,
                    u32::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
                );
                Self(Uuid::new_v7(stamp))
            }

            /// The id that belongs to these parts: the same parts, the same id.
            #[must_use]
            pub fn derived(parts: &[&str]) -> Self {
                Self($crate::id::derive_uuid($prefix, parts))
            }

            /// The bare 128 bits, as stored.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// From stored bits.
            #[must_use]
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, encode_uuid(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let body = text
                    .strip_prefix(concat!($prefix, "_"))
                    .ok_or(IdError::Prefix { expected: $prefix })?;
                decode_uuid(body).map(Self).ok_or(IdError::Body { expected: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-9a-z]{26}$")))
                    .into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A UUIDv5 over length-prefixed parts, so that no two lists of parts run together.
#[must_use]
pub fn derive_uuid(kind: &str, parts: &[&str]) -> Uuid {
    let mut name = Vec::new();
    for part in std::iter::once(&kind).chain(parts) {
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part.as_bytes());
    }
    Uuid::new_v5(&DERIVED, &name)
}

typed_id!(
    /// A durable conversation with one Team; one entity, one journal.
    TaskId, "tsk");
typed_id!(
    /// One request and everything that answers it.
    TurnId, "trn");
typed_id!(
    /// One row of the transcript; outside it is the contract's `subtask_id`.
    MessageId, "msg");
typed_id!(
    /// One assistant message being produced by one member through one runtime.
    ExecutionId, "exe");
typed_id!(
    /// A person.
    UserId, "usr");
typed_id!(
    /// An API key (not its secret).
    ApiKeyId, "key");
typed_id!(
    /// A login: the family of refresh tokens that grew from it.
    SessionId, "ses");
typed_id!(
    /// An enrolled machine.
    DeviceId, "dev");
typed_id!(
    /// The entity that grants a Team's slots to one owner.
    TeamSlotsId, "tms");
typed_id!(
    /// A Namespace entity: the write path of the resources of one owner or group.
    NamespaceId, "nsp");
typed_id!(
    /// One history of a Task's frames; a restored backup starts another one.
    LogId, "log");
typed_id!(
    /// One request from outside, for logs and error reports.
    RequestId, "req");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_form_round_trips(bits in any::<u128>()) {
            let id = TaskId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
        }

        #[test]
        fn text_form_sorts_like_the_bits(a in any::<u128>(), b in any::<u128>()) {
            let (x, y) = (Uuid::from_u128(a), Uuid::from_u128(b));
            prop_assert_eq!(encode_uuid(x).cmp(&encode_uuid(y)), x.cmp(&y));
        }
    }

    #[test]
    fn another_kind_is_refused() {
        let task = TaskId::derived(&["x"]);
        let err = task.to_string().parse::<TurnId>().unwrap_err();
        assert_eq!(err, IdError::Prefix { expected: "trn" });
        assert!("tsk_short".parse::<TaskId>().is_err());
    }

    #[test]
    fn derived_parts_do_not_run_together() {
        assert_ne!(TaskId::derived(&["ab", "c"]), TaskId::derived(&["a", "bc"]));
        assert_ne!(TaskId::derived(&["a"]).uuid(), TurnId::derived(&["a"]).uuid());
    }
}
