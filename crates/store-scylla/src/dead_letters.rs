//! Messages given up, in partitions of a day, by the time in their ids.

use async_trait::async_trait;
use bytes::Bytes;
use scylla::value::CqlTimestamp;
use troupe_store::{
    Cause, DeadLetter, DeadLetters, ReadError, WriteError, cause, dead_letters::fit,
};
use troupe_types::{EntityId, EntityKind, Timestamp, Uuid};

use crate::{
    ScyllaStore,
    cql::{Lwt, from_tiny, int, tiny},
    error::{Failed, unread},
};

const WHAT: &str = "the dead letters";
/// The ids of one partition share a day.
const PERIOD_MS: u64 = 24 * 3600 * 1000;
/// How often a conditional update is sent again after its outcome was unknown.
const TRIES: usize = 3;

type Found = (Bytes, i8, Uuid, Option<Bytes>, String, i64, CqlTimestamp);

/// Rises with ids of any kind; for UUIDv7 it is a day.
fn period(id: Uuid) -> i64 {
    let millis = id.as_u128() >> 80;
    int(u64::try_from(millis).unwrap_or(u64::MAX) / PERIOD_MS)
}

/// Ids as bytes: CQL sorts its own uuids by their version first.
fn id_bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn to_letter(found: Found) -> Result<DeadLetter, Failed> {
    let (id, kind, entity, message, error, strikes, at) = found;
    let odd = || Failed::Odd(cause("a dead letter names no known kind, or no id"));
    Ok(DeadLetter {
        id: Uuid::from_slice(&id).map_err(|_| odd())?,
        entity: EntityId {
            kind: EntityKind::from_code(from_tiny(kind)).ok_or_else(odd)?,
            id: entity,
        },
        message: message.map_or_else(Bytes::new, |body| Bytes::copy_from_slice(&body)),
        error,
        strikes: u32::try_from(strikes).unwrap_or(u32::MAX),
        at: Timestamp::from_millis(at.0),
    })
}

fn unknown(source: Cause) -> WriteError {
    WriteError::OutcomeUnknown { source }
}

impl ScyllaStore {
    async fn letters(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<DeadLetter>, Failed> {
        let (cql, statements) = (self.cql(), self.statements());
        let from = after.map_or(0, period);
        let mut periods: Vec<(i64,)> = cql.rows(&statements.letter_periods, (from,)).await?;
        periods.sort_unstable();
        let above = after.map_or_else(Bytes::new, id_bytes);
        let mut found = Vec::new();
        for (period,) in periods {
            let room = limit - found.len();
            if room == 0 {
                break;
            }
            let values = (period, &above, i32::try_from(room).unwrap_or(i32::MAX));
            let rows: Vec<Found> = cql.rows(&statements.letters_after, values).await?;
            for row in rows {
                found.push(to_letter(row)?);
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl DeadLetters for ScyllaStore {
    async fn put(&self, letter: DeadLetter) -> Result<(), WriteError> {
        let letter = fit(letter)?;
        let period = period(letter.id);
        self.cql().write(&self.statements().letter_period, (period,)).await?;
        let values = (
            period,
            id_bytes(letter.id),
            tiny(letter.entity.kind.code()),
            letter.entity.id,
            &letter.message,
            letter.error.as_str(),
            i64::from(letter.strikes),
            CqlTimestamp(letter.at.as_millis()),
        );
        let mut last = cause("nobody knows whether the letter was kept");
        for _ in 0..TRIES {
            match self.cql().lwt(&self.statements().letter_insert, &values).await? {
                Lwt::Applied | Lwt::Refused(_) => return Ok(()),
                Lwt::Unknown(source) => last = source,
            }
        }
        Err(unknown(last))
    }

    async fn list(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        self.letters(after, limit).await.map_err(unread(WHAT))
    }

    async fn get(&self, id: Uuid) -> Result<Option<DeadLetter>, ReadError> {
        let key = (period(id), id_bytes(id));
        let found = self.cql().row::<Found>(&self.statements().letter, key).await;
        found.map_err(unread(WHAT))?.map(to_letter).transpose().map_err(unread(WHAT))
    }

    async fn remove(&self, id: Uuid) -> Result<(), WriteError> {
        let mut last = cause("nobody knows whether the letter is gone");
        for _ in 0..TRIES {
            let key = (period(id), id_bytes(id));
            match self.cql().lwt(&self.statements().letter_delete, key).await? {
                Lwt::Applied | Lwt::Refused(_) => return Ok(()),
                Lwt::Unknown(source) => last = source,
            }
        }
        Err(unknown(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_rise_with_ids() {
        let mut ids: Vec<Uuid> = (0..200).map(|_| Uuid::new_v4()).collect();
        ids.extend([Uuid::nil(), Uuid::max(), Uuid::now_v7()]);
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| period(pair[0]) <= period(pair[1])));
    }
}
