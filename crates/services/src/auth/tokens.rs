//! The forms of tokens: access JWT, refresh token, API key.

use std::time::Duration;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use troupe_api::auth::UserRole;
use troupe_types::{SessionId, Timestamp, UserId, Uuid};

use super::{AuthError, Keys, hash, random};

/// What API keys begin with.
pub(super) const API_KEY_PREFIX: &str = "trp_";
/// Characters after the prefix; 5 bits each.
const API_KEY_CHARS: usize = 40;
/// No token of ours is longer, in bytes.
const TOKEN_BYTES_MAX: usize = 4096;
const AUDIENCE: &str = "troupe-access";

const SECRET_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// What an access token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: Uuid,
    pub(super) aud: String,
    pub(super) sub: UserId,
    pub(super) name: String,
    pub(super) role: UserRole,
    pub(super) sid: SessionId,
    pub(super) iat: i64,
    pub(super) exp: i64,
}

impl Claims {
    pub(super) fn expires_at(&self) -> Timestamp {
        Timestamp::from_millis(self.exp.saturating_mul(1000))
    }
}

/// Who an access token is for.
pub(super) struct Bearer<'a> {
    pub(super) cluster: Uuid,
    pub(super) user: UserId,
    pub(super) name: &'a str,
    pub(super) role: UserRole,
    pub(super) session: SessionId,
}

/// Signs an access token that is good until `now + for_how_long`.
pub(super) fn sign(
    keys: &Keys,
    bearer: &Bearer<'_>,
    now: Timestamp,
    for_how_long: Duration,
) -> Result<String, AuthError> {
    let (kid, key) = keys.signing();
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
    let claims = Claims {
        iss: bearer.cluster,
        aud: AUDIENCE.to_owned(),
        sub: bearer.user,
        name: bearer.name.to_owned(),
        role: bearer.role,
        sid: bearer.session,
        iat: now.as_millis().div_euclid(1000),
        exp: now.plus(for_how_long).as_millis().div_euclid(1000),
    };
    jsonwebtoken::encode(&header, &claims, key).map_err(|_| AuthError::BadToken)
}

/// Checks signature, kind, cluster and time of an access token; not whether it was revoked.
pub(super) fn open(
    keys: &Keys,
    cluster: Uuid,
    token: &str,
    now: Timestamp,
) -> Result<Claims, AuthError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(AuthError::BadToken);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::BadToken)?;
    let kid = header.kid.ok_or(AuthError::BadToken)?;
    let key = keys.verifying(&kid).ok_or(AuthError::BadToken)?;
    // The library would take the time from the system, not from our clock.
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    let claims = jsonwebtoken::decode::<Claims>(token, key, &rules);
    let claims = claims.map_err(|_| AuthError::BadToken)?.claims;
    if claims.aud != AUDIENCE || claims.iss != cluster {
        return Err(AuthError::BadToken);
    }
    if claims.expires_at() <= now {
        return Err(AuthError::Expired);
    }
    Ok(claims)
}

/// A refresh token: id of its session, a secret of 256 bits, and a tag which proves that the
/// secret was once given out by that session, so that nobody who merely knows the id can end
/// it by showing garbage.
pub(super) struct Refresh {
    pub(super) session: SessionId,
    secret: [u8; SECRET_BYTES],
    tag: [u8; TAG_BYTES],
}

impl Refresh {
    pub(super) fn new(session: SessionId, tag_key: &str) -> Self {
        let secret = random();
        Self { session, secret, tag: tag(tag_key, &secret) }
    }

    pub(super) fn parse(text: &str) -> Result<Self, AuthError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::BadToken);
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| AuthError::BadToken)?;
        let bytes: [u8; 16 + SECRET_BYTES + TAG_BYTES] =
            bytes.try_into().map_err(|_| AuthError::BadToken)?;
        let (id, rest) = bytes.split_at(16);
        let (secret, tag) = rest.split_at(SECRET_BYTES);
        let part = "the parts of a fixed length have their lengths";
        Ok(Self {
            session: SessionId::from_uuid(Uuid::from_bytes(id.try_into().expect(part))),
            secret: secret.try_into().expect(part),
            tag: tag.try_into().expect(part),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut bytes = self.session.uuid().as_bytes().to_vec();
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.tag);
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// Hex of the hash, as stored.
    pub(super) fn hash(&self) -> String {
        HEXLOWER.encode(&hash(&self.secret))
    }

    /// Whether the session with this key gave it out, now or earlier.
    pub(super) fn is_genuine(&self, tag_key: &str) -> bool {
        tag(tag_key, &self.secret) == self.tag
    }
}

/// Both inputs have a fixed length, so the plain hash of their concatenation is a sound tag.
fn tag(tag_key: &str, secret: &[u8; SECRET_BYTES]) -> [u8; TAG_BYTES] {
    let input = [tag_key.as_bytes(), secret].concat();
    hash(&input)[..TAG_BYTES].try_into().expect("a hash has 32 bytes")
}

/// A fresh key for tags, as stored.
pub(super) fn tag_key() -> String {
    HEXLOWER.encode(&random::<32>())
}

/// A fresh secret of 256 bits as text, for proofs and setup tokens.
pub(super) fn secret_text() -> String {
    BASE64URL_NOPAD.encode(&random::<32>())
}

/// Hex of the hash of a secret text.
pub(super) fn hash_text(secret: &str) -> String {
    HEXLOWER.encode(&hash(secret.as_bytes()))
}

/// A fresh API key.
pub(super) fn api_key() -> String {
    let body = BASE32_NOPAD.encode(&random::<25>()).to_ascii_lowercase();
    debug_assert_eq!(body.len(), API_KEY_CHARS);
    format!("{API_KEY_PREFIX}{body}")
}

/// The key under which an API key is stored, if it has the form of one.
pub(super) fn api_key_hash(token: &str) -> Option<[u8; 32]> {
    let body = token.strip_prefix(API_KEY_PREFIX)?;
    let right = body.len() == API_KEY_CHARS && body.bytes().all(|b| b.is_ascii_alphanumeric());
    right.then(|| hash(token.as_bytes()))
}
