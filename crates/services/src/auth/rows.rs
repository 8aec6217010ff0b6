//! Rows of the directory as they lie on disk: JSON with a version, and typed access to them.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use troupe_api::auth::UserRole;
use troupe_store::{
    CasError, ChangeCursor, Changes, Directory, DirectoryRow, DirectoryTable, RowWrite,
};
use troupe_types::{ApiKeyId, SessionId, Timestamp, UserId, Uuid};

use super::error::StoreFault;

/// Version of all rows below. A reader accepts this one and the one before.
pub(super) const VERSION: u8 = 1;
/// Tries of a read-change-write before the row counts as contended.
const TRIES_MAX: u32 = 8;

/// Table `Setting`, key `cluster`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ClusterRow {
    pub(super) v: u8,
    pub(super) id: Uuid,
}

/// Table `Setting`, key `keys`: ids of the keys that every node has.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct KeysRow {
    pub(super) v: u8,
    pub(super) ids: BTreeSet<String>,
}

/// Table `Setting`, key `setup`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SetupRow {
    pub(super) v: u8,
    pub(super) state: SetupState,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum SetupState {
    /// A link was printed; hex of the hash of its token.
    Open { token_hash: String },
    /// The link was used; the administrator is being made.
    Claimed { user: UserId },
    /// There is an administrator.
    Done,
}

/// Table `Setting`, key `admins`: who counts as an administrator that is left.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct AdminsRow {
    pub(super) v: u8,
    pub(super) ids: BTreeSet<UserId>,
}

/// Table `User`, key: the id's 16 bytes.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct UserRow {
    pub(super) v: u8,
    pub(super) id: UserId,
    pub(super) name: String,
    #[serde(default)]
    pub(super) email: Option<String>,
    /// PHC string.
    #[serde(default)]
    pub(super) password_hash: Option<String>,
    pub(super) role: UserRole,
    pub(super) is_active: bool,
    /// Sessions of a lower generation are ended.
    pub(super) generation: u64,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    #[serde(default)]
    pub(super) preferences: serde_json::Map<String, serde_json::Value>,
}

/// Table `UserName`, key: the name in lower case.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct NameRow {
    pub(super) v: u8,
    pub(super) user: UserId,
}

/// Table `Session`, key: the id's 16 bytes.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SessionRow {
    pub(super) v: u8,
    pub(super) id: SessionId,
    pub(super) user: UserId,
    pub(super) generation: u64,
    /// Hex; proves that a refresh token was once given out by this family.
    pub(super) tag_key: String,
    /// Hex of the proof's hash; only with transport `cookie`.
    #[serde(default)]
    pub(super) proof_hash: Option<String>,
    pub(super) lines: Vec<TokenLine>,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// One line of refresh tokens, each replacing the one before. Siblings are further lines.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct TokenLine {
    /// Hex of the hash of the token that is good.
    pub(super) current: String,
    /// The one before it.
    #[serde(default)]
    pub(super) previous: Option<String>,
    /// Until when the one before gets a sibling.
    pub(super) previous_until: Timestamp,
}

/// Table `ApiKey`, key: hash of the secret.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ApiKeyRow {
    pub(super) v: u8,
    pub(super) id: ApiKeyId,
    pub(super) user: UserId,
    pub(super) name: String,
    pub(super) prefix: String,
    #[serde(default)]
    pub(super) expires_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) last_used_at: Option<Timestamp>,
    pub(super) created_at: Timestamp,
}

/// A row that was read, with what it says.
pub(super) struct Held<T> {
    pub(super) row: DirectoryRow,
    pub(super) value: T,
}

/// Typed rows; every call is bounded in time, and unknown outcomes are looked up.
#[derive(Debug)]
pub(super) struct Rows {
    directory: Arc<dyn Directory>,
    timeout: Duration,
}

impl Rows {
    pub(super) fn new(directory: Arc<dyn Directory>, timeout: Duration) -> Self {
        Self { directory, timeout }
    }

    async fn bounded<T>(&self, call: impl Future<Output = T> + Send) -> Result<T, StoreFault> {
        tokio::time::timeout(self.timeout, call).await.map_err(|_| StoreFault::Timeout)
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        table: DirectoryTable,
        key: &[u8],
    ) -> Result<Option<Held<T>>, StoreFault> {
        let row = self.bounded(self.directory.get(table, key)).await?.map_err(StoreFault::Read)?;
        row.map(decode).transpose()
    }

    /// `false`: there is such a row already.
    pub(super) async fn insert<T: Serialize + Sync>(
        &self,
        table: DirectoryTable,
        key: &[u8],
        owner: Option<Uuid>,
        value: &T,
    ) -> Result<bool, StoreFault> {
        let mut write = RowWrite::insert(table, key.to_vec(), encode(value)?);
        write.owner = owner;
        self.write(write).await
    }

    /// `false`: the row changed since it was read.
    pub(super) async fn update<T: Serialize + Sync>(
        &self,
        row: &DirectoryRow,
        value: &T,
        announce: bool,
    ) -> Result<bool, StoreFault> {
        let mut write = RowWrite::update(row, encode(value)?);
        write.announce = announce;
        self.write(write).await
    }

    async fn write(&self, write: RowWrite) -> Result<bool, StoreFault> {
        let (table, key, body) = (write.table, write.key.clone(), write.body.clone());
        match self.bounded(self.directory.compare_and_set(write)).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(CasError::Conflict { .. })) => Ok(false),
            // Bodies hold fresh ids or hashes, so the same body means that it was us.
            Ok(Err(CasError::OutcomeUnknown { .. })) | Err(_) => {
                let row = self.bounded(self.directory.get(table, &key)).await?;
                let row = row.map_err(StoreFault::Read)?;
                Ok(row.is_some_and(|row| row.body == body))
            }
            Ok(Err(e)) => Err(StoreFault::Write(e)),
        }
    }

    /// Takes a row away, whatever it says by now. `false`: it was gone.
    pub(super) async fn remove(
        &self,
        table: DirectoryTable,
        key: &[u8],
        announce: bool,
    ) -> Result<bool, StoreFault> {
        let mut version = None;
        for _ in 0..TRIES_MAX {
            let expected = match version {
                Some(v) => v,
                None => match self.bounded(self.directory.get(table, key)).await? {
                    Ok(Some(row)) => row.version,
                    Ok(None) => return Ok(false),
                    Err(e) => return Err(StoreFault::Read(e)),
                },
            };
            match self.bounded(self.directory.remove(table, key, expected, announce)).await? {
                Ok(()) => return Ok(true),
                Err(CasError::Conflict { current: 0 }) => return Ok(false),
                Err(CasError::Conflict { current }) => version = Some(current),
                Err(CasError::OutcomeUnknown { .. }) => version = None,
                Err(e) => return Err(StoreFault::Write(e)),
            }
        }
        Err(StoreFault::Contended)
    }

    /// Reads, changes and writes a row until nobody came between. `change` answers what the
    /// caller wants to know, or `Err` to leave the row as it is. `Ok(None)`: there is no row.
    pub(super) async fn change<T, R, E>(
        &self,
        table: DirectoryTable,
        key: &[u8],
        announce: bool,
        mut change: impl FnMut(&mut T) -> Result<R, E> + Send,
    ) -> Result<Option<(T, R)>, E>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
        R: Send,
        E: From<StoreFault> + Send,
    {
        for _ in 0..TRIES_MAX {
            let Some(mut held) = self.get::<T>(table, key).await? else { return Ok(None) };
            let result = change(&mut held.value)?;
            if self.update(&held.row, &held.value, announce).await? {
                return Ok(Some((held.value, result)));
            }
        }
        Err(StoreFault::Contended.into())
    }

    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        table: DirectoryTable,
        owner: Option<Uuid>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Held<T>>, StoreFault> {
        let rows = self.bounded(self.directory.list(table, owner, after, limit)).await?;
        rows.map_err(StoreFault::Read)?.into_iter().map(decode).collect()
    }

    pub(super) async fn revocations_now(&self) -> Result<ChangeCursor, StoreFault> {
        self.bounded(self.directory.revocations_now()).await?.map_err(StoreFault::Read)
    }

    pub(super) async fn revocations_since(
        &self,
        cursor: ChangeCursor,
        limit: usize,
    ) -> Result<Changes, StoreFault> {
        let changes = self.bounded(self.directory.revocations_since(cursor, limit)).await?;
        changes.map_err(StoreFault::Read)
    }
}

fn decode<T: DeserializeOwned>(row: DirectoryRow) -> Result<Held<T>, StoreFault> {
    let value = serde_json::from_slice(&row.body).map_err(|_| StoreFault::Damaged)?;
    Ok(Held { row, value })
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreFault> {
    serde_json::to_vec(value).map_err(|_| StoreFault::Damaged)
}

/// The key of a row that is found by an id.
pub(super) fn id_key(id: Uuid) -> [u8; 16] {
    *id.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lies_as<T: Serialize + DeserializeOwned>(row: &T, text: &str) {
        assert_eq!(String::from_utf8(encode(row).unwrap()).unwrap(), text);
        let read: T = serde_json::from_str(text).unwrap();
        assert_eq!(encode(&read).unwrap(), text.as_bytes(), "it reads what it wrote");
    }

    #[test]
    fn the_form_on_disk_does_not_change() {
        let (user, at) = (UserId::derived(&["u"]), Timestamp::from_millis(7));
        let (session, key) = (SessionId::derived(&["s"]), ApiKeyId::derived(&["k"]));
        lies_as(
            &SetupRow { v: 1, state: SetupState::Open { token_hash: "00".into() } },
            r#"{"v":1,"state":{"state":"open","token_hash":"00"}}"#,
        );
        lies_as(
            &SetupRow { v: 1, state: SetupState::Claimed { user } },
            &format!(r#"{{"v":1,"state":{{"state":"claimed","user":"{user}"}}}}"#),
        );
        lies_as(&SetupRow { v: 1, state: SetupState::Done }, r#"{"v":1,"state":{"state":"done"}}"#);
        lies_as(&AdminsRow { v: 1, ids: [user].into() }, &format!(r#"{{"v":1,"ids":["{user}"]}}"#));
        lies_as(&NameRow { v: 1, user }, &format!(r#"{{"v":1,"user":"{user}"}}"#));
        let row = super::super::users::fresh_row(user, "ann", None, Some("phc".into()), at);
        let time = r#""1970-01-01T00:00:00.007Z""#;
        lies_as(
            &row,
            &format!(
                r#"{{"v":1,"id":"{user}","name":"ann","email":null,"password_hash":"phc","role":"user","is_active":true,"generation":0,"created_at":{time},"updated_at":{time},"preferences":{{}}}}"#
            ),
        );
        let line = TokenLine { current: "aa".into(), previous: None, previous_until: at };
        lies_as(
            &SessionRow {
                v: 1,
                id: session,
                user,
                generation: 2,
                tag_key: "bb".into(),
                proof_hash: None,
                lines: vec![line],
                created_at: at,
                expires_at: at,
            },
            &format!(
                r#"{{"v":1,"id":"{session}","user":"{user}","generation":2,"tag_key":"bb","proof_hash":null,"lines":[{{"current":"aa","previous":null,"previous_until":{time}}}],"created_at":{time},"expires_at":{time}}}"#
            ),
        );
        lies_as(
            &ApiKeyRow {
                v: 1,
                id: key,
                user,
                name: "ci".into(),
                prefix: "trp_".into(),
                expires_at: None,
                last_used_at: None,
                created_at: at,
            },
            &format!(
                r#"{{"v":1,"id":"{key}","user":"{user}","name":"ci","prefix":"trp_","expires_at":null,"last_used_at":null,"created_at":{time}}}"#
            ),
        );
    }
}
