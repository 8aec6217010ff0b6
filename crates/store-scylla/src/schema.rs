//! The tables, as a list of numbered steps that is only ever added to, and the lock under
//! which they are made.
//!
//! A step must work while nodes of the version before it are running: tables and columns are
//! added, never changed or dropped. Every statement may be run twice.

use std::time::Duration;

use scylla::value::CqlValue;
use tokio::time::{Instant, sleep, timeout};
use troupe_store::cause;
use troupe_types::Uuid;

use crate::{
    cql::{Cql, Kind, Lwt},
    error::{ConnectError, Failed},
    options::{Replication, ScyllaOptions},
};

struct Migration {
    name: &'static str,
    statements: &'static [&'static str],
    columns: &'static [Column],
}

/// A column that is added to a table unless it is there. Not every server has a statement that
/// says just that.
struct Column {
    table: &'static str,
    name: &'static str,
    kind: &'static str,
}

/// Number n is at index n - 1.
const MIGRATIONS: &[Migration] = &[
    Migration { name: "first tables", statements: FIRST, columns: &[] },
    Migration { name: "tasks that ask", statements: ASKING, columns: ASKS },
];

/// What migrations themselves need.
const LEDGER: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS migration (ledger int, number int, name text,
     PRIMARY KEY ((ledger), number))",
    "CREATE TABLE IF NOT EXISTS migration_lock (id int PRIMARY KEY, holder uuid, beat bigint)",
];

/// A lock whose holder has not stirred for so long, as seen by the one who waits, is taken
/// over. Steps may run twice, so a holder that was only slow does no harm.
const LOCK_STALE: Duration = Duration::from_secs(20);
/// How often its holder stirs.
const LOCK_STIR: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(100);
/// How long servers may take to agree on the tables.
const AGREE_WAIT: Duration = Duration::from_secs(10);

/// Partitions are bounded: an entity's journal by its snapshots, an archive bucket by 256
/// entries, lists by owner and period, everything else by hand (see `docs/stores.md`).
/// Deleted rows that come back are garbage in `journal`, `snapshot`, `wake` and `task_asking`,
/// never wrong, so their tombstones need not outlive a repair.
const FIRST: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS node_lease (cluster text, node text, boot_id uuid, inc bigint,
     seq bigint, state text, addr text, build text, roles tinyint, weight int,
     PRIMARY KEY ((cluster, node)))",
    "CREATE TABLE IF NOT EXISTS node_directory (cluster text, node text,
     PRIMARY KEY ((cluster), node))",
    "CREATE TABLE IF NOT EXISTS shard (cluster text, shard int, owner text, owner_inc bigint,
     epoch bigint, PRIMARY KEY ((cluster, shard)))",
    "CREATE TABLE IF NOT EXISTS shard_log (cluster text, shard int, epoch bigint, owner text,
     owner_inc bigint, at timestamp, PRIMARY KEY ((cluster, shard), epoch, owner, owner_inc))",
    "CREATE TABLE IF NOT EXISTS journal (kind tinyint, entity uuid, epoch bigint static,
     fence bigint static, starts map<bigint, bigint> static, snapshot_seq bigint static,
     snapshot_fence bigint static, seq bigint, fence_tag bigint, append_last bigint,
     first_frame bigint, frames bigint, crc int, body blob,
     PRIMARY KEY ((kind, entity), seq, fence_tag)) WITH gc_grace_seconds = 86400",
    "CREATE TABLE IF NOT EXISTS snapshot (kind tinyint, entity uuid, upto bigint,
     fence_tag bigint, part int, parts int, crc int, body blob,
     PRIMARY KEY ((kind, entity), upto, fence_tag, part)) WITH gc_grace_seconds = 86400",
    "CREATE TABLE IF NOT EXISTS archive (kind tinyint, entity uuid, bucket bigint, seq bigint,
     first_frame bigint, frames bigint, crc int, body blob,
     PRIMARY KEY ((kind, entity, bucket), seq))",
    "CREATE TABLE IF NOT EXISTS wake (cluster text, shard int, due timestamp, why tinyint,
     kind tinyint, entity blob, fence bigint,
     PRIMARY KEY ((cluster, shard), due, why, kind, entity, fence))
     WITH gc_grace_seconds = 3600",
    "CREATE TABLE IF NOT EXISTS directory_row (tbl tinyint, key blob, owner uuid, version bigint,
     body blob, written_by uuid, made_by uuid, PRIMARY KEY ((tbl, key)))",
    "CREATE TABLE IF NOT EXISTS directory_index (tbl tinyint, owner uuid, bucket tinyint,
     key blob, made_by uuid, PRIMARY KEY ((tbl, owner, bucket), key, made_by))",
    "CREATE TABLE IF NOT EXISTS directory_change (bucket bigint, number bigint, tbl tinyint,
     key blob, owner uuid, written_by uuid, PRIMARY KEY ((bucket), number))",
    "CREATE TABLE IF NOT EXISTS directory_change_bucket (id int PRIMARY KEY, bucket bigint)",
    "CREATE TABLE IF NOT EXISTS task_row (task uuid PRIMARY KEY, owner uuid, seq bigint,
     created_at timestamp, updated_at timestamp, status text, title text, team text,
     team_namespace text, archived boolean, deleted boolean, body blob)",
    "CREATE TABLE IF NOT EXISTS task_count (owner uuid, bucket tinyint, task uuid, status text,
     title text, archived boolean, deleted boolean, PRIMARY KEY ((owner, bucket), task))",
    "CREATE TABLE IF NOT EXISTS task_hint (owner uuid, period bigint, updated_at timestamp,
     task blob, PRIMARY KEY ((owner, period), updated_at, task))
     WITH CLUSTERING ORDER BY (updated_at DESC, task DESC)",
    "CREATE TABLE IF NOT EXISTS task_period (owner uuid, period bigint,
     PRIMARY KEY ((owner), period)) WITH CLUSTERING ORDER BY (period DESC)",
    "CREATE TABLE IF NOT EXISTS blob (hash blob PRIMARY KEY, bytes bigint, parts int)",
    "CREATE TABLE IF NOT EXISTS blob_part (hash blob, part int, body blob,
     PRIMARY KEY ((hash, part)))",
    "CREATE TABLE IF NOT EXISTS dead_letter (period bigint, id blob, kind tinyint, entity uuid,
     message blob, error text, strikes bigint, at timestamp, PRIMARY KEY ((period), id))",
    "CREATE TABLE IF NOT EXISTS dead_letter_period (id int, period bigint,
     PRIMARY KEY ((id), period))",
];

/// The Tasks of an owner whose agents wait for a person: few at a time. Nodes of the version
/// before write rows without the count, so it trails while both run, until the Task itself
/// writes again.
const ASKING: &[&str] = &["CREATE TABLE IF NOT EXISTS task_asking (owner uuid, task blob,
     PRIMARY KEY ((owner), task)) WITH gc_grace_seconds = 86400"];
const ASKS: &[Column] = &[Column { table: "task_row", name: "asks", kind: "int" }];

/// Makes the keyspace if it may, uses it, and applies what is missing.
pub(crate) async fn prepare(cql: &Cql, options: &ScyllaOptions) -> Result<(), ConnectError> {
    let failed = |failed: Failed| ConnectError::Migration { step: 0, source: failed.cause() };
    if let Some(replication) = &options.create_keyspace {
        create_keyspace(cql, &options.keyspace, replication).await.map_err(failed)?;
        agree(cql).await;
    }
    let used = cql.session().use_keyspace(options.keyspace.as_str(), false).await;
    used.map_err(|e| ConnectError::Migration { step: 0, source: cause(e) })?;
    for statement in LEDGER {
        cql.run(statement).await.map_err(failed)?;
    }
    agree(cql).await;
    if found(cql).await.map_err(failed)? != newest() {
        let lock = Lock::take(cql).await?;
        let outcome = migrate(cql, &options.keyspace, &lock).await;
        lock.free().await;
        outcome?;
    }
    // The driver finds the owners of rows by the replication of their keyspace.
    let refreshed = timeout(cql.timeouts.start, cql.session().refresh_metadata()).await;
    let stale = |source| ConnectError::Unreachable { source };
    refreshed.map_err(|e| stale(cause(e)))?.map_err(|e| stale(cause(e)))
}

/// Waits until all servers that can be reached know the same tables. The driver does so after a
/// change of its own; what another node has just made may be known to the server that said so
/// and to no other.
async fn agree(cql: &Cql) {
    match timeout(AGREE_WAIT, cql.session().await_schema_agreement()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the servers do not agree on the tables"),
        Err(_) => tracing::warn!("the servers do not agree on the tables yet"),
    }
}

fn newest() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

async fn migrate(cql: &Cql, keyspace: &str, lock: &Lock<'_>) -> Result<(), ConnectError> {
    let failed =
        |step| move |failed: Failed| ConnectError::Migration { step, source: failed.cause() };
    let (found, known) = (found(cql).await.map_err(failed(0))?, newest());
    if found > known {
        return Err(ConnectError::Newer { found, known });
    }
    let mut stirred = Instant::now();
    for number in found + 1..=known {
        let index = usize::try_from(number - 1).unwrap_or_default();
        let step = &MIGRATIONS[index];
        for statement in step.statements {
            if stirred.elapsed() > LOCK_STIR {
                lock.stir().await;
                stirred = Instant::now();
            }
            cql.run(statement).await.map_err(failed(number))?;
        }
        for column in step.columns {
            add_column(cql, keyspace, column).await.map_err(failed(number))?;
        }
        let insert = "INSERT INTO migration (ledger, number, name) VALUES (0, ?, ?)";
        let insert = cql.prepare(insert, Kind::Write).await.map_err(failed(number))?;
        cql.write(&insert, (number, step.name)).await.map_err(failed(number))?;
        tracing::info!(number, name = step.name, "migration applied");
    }
    Ok(())
}

/// May run twice, also at the same time.
async fn add_column(cql: &Cql, keyspace: &str, column: &Column) -> Result<(), Failed> {
    let Column { table, name, kind } = *column;
    if has_column(cql, keyspace, column).await? {
        return Ok(());
    }
    let Err(failed) = cql.run(&format!("ALTER TABLE {table} ADD {name} {kind}")).await else {
        return Ok(());
    };
    // Somebody else was first, perhaps.
    if has_column(cql, keyspace, column).await? { Ok(()) } else { Err(failed) }
}

async fn has_column(cql: &Cql, keyspace: &str, column: &Column) -> Result<bool, Failed> {
    let found = "SELECT column_name FROM system_schema.columns
                 WHERE keyspace_name = ? AND table_name = ? AND column_name = ?";
    let found = cql.prepare(found, Kind::Read).await?;
    let values = (keyspace.to_lowercase(), column.table, column.name);
    Ok(cql.row::<(String,)>(&found, values).await?.is_some())
}

/// The newest step that was applied, 0 if none was.
async fn found(cql: &Cql) -> Result<i32, Failed> {
    let newest = "SELECT number FROM migration WHERE ledger = 0 ORDER BY number DESC LIMIT 1";
    let newest = cql.prepare(newest, Kind::Read).await?;
    Ok(cql.row::<(i32,)>(&newest, ()).await?.map_or(0, |(number,)| number))
}

async fn create_keyspace(cql: &Cql, name: &str, replication: &Replication) -> Result<(), Failed> {
    let copies = match replication {
        Replication::Simple(copies) => {
            format!("'class': 'SimpleStrategy', 'replication_factor': {copies}")
        }
        Replication::Datacenters(all) => {
            let each: Vec<_> = all.iter().map(|(dc, copies)| format!("'{dc}': {copies}")).collect();
            format!("'class': 'NetworkTopologyStrategy', {}", each.join(", "))
        }
    };
    let create = format!("CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {{{copies}}}");
    if cql.is_scylla() {
        // Conditional updates do not work on tablets in older versions; versions that are older
        // still do not know the option.
        let without_tablets = format!("{create} AND tablets = {{'enabled': false}}");
        if cql.run(&without_tablets).await.is_ok() {
            return Ok(());
        }
    }
    cql.run(&create).await.map(drop)
}

/// One migrates, the others wait.
struct Lock<'a> {
    cql: &'a Cql,
    me: Uuid,
}

impl<'a> Lock<'a> {
    async fn take(cql: &'a Cql) -> Result<Self, ConnectError> {
        let failed = |failed: Failed| ConnectError::Migration { step: 0, source: failed.cause() };
        let insert = "INSERT INTO migration_lock (id, holder, beat) VALUES (0, ?, 0) IF NOT EXISTS";
        let insert = cql.prepare(insert, Kind::Lwt).await.map_err(failed)?;
        let steal = "UPDATE migration_lock SET holder = ?, beat = 0 WHERE id = 0
                     IF holder = ? AND beat = ?";
        let steal = cql.prepare(steal, Kind::Lwt).await.map_err(failed)?;
        let me = Uuid::new_v4();
        let (start, mut seen, mut since) = (Instant::now(), None, Instant::now());
        loop {
            match cql.lwt(&insert, (me,)).await.map_err(failed)? {
                Lwt::Applied => return Ok(Self { cql, me }),
                Lwt::Unknown(_) => {}
                Lwt::Refused(row) => {
                    let now = match (row.get("holder"), row.get("beat")) {
                        (Some(CqlValue::Uuid(holder)), Some(CqlValue::BigInt(beat))) => {
                            Some((*holder, *beat))
                        }
                        _ => None,
                    };
                    // An insert with an unknown outcome was ours after all.
                    if now.is_some_and(|(holder, _)| holder == me) {
                        return Ok(Self { cql, me });
                    }
                    if now != seen {
                        (seen, since) = (now, Instant::now());
                    } else if let Some((holder, beat)) = now
                        && since.elapsed() > LOCK_STALE
                    {
                        let stolen = cql.lwt(&steal, (me, holder, beat)).await.map_err(failed)?;
                        if matches!(stolen, Lwt::Applied) {
                            return Ok(Self { cql, me });
                        }
                    }
                }
            }
            if start.elapsed() > cql.timeouts.start {
                return Err(ConnectError::Locked);
            }
            sleep(LOCK_POLL).await;
        }
    }

    /// Shows those who wait that somebody is at work. Best effort: to be robbed is harmless.
    async fn stir(&self) {
        let read = "SELECT beat FROM migration_lock WHERE id = 0";
        let beat = "UPDATE migration_lock SET beat = ? WHERE id = 0 IF holder = ?";
        let (Ok(read), Ok(beat)) =
            (self.cql.prepare(read, Kind::Serial).await, self.cql.prepare(beat, Kind::Lwt).await)
        else {
            return;
        };
        if let Ok(Some((now,))) = self.cql.row::<(i64,)>(&read, ()).await {
            let _ = self.cql.lwt(&beat, (now.saturating_add(1), self.me)).await;
        }
    }

    async fn free(self) {
        let free = "DELETE FROM migration_lock WHERE id = 0 IF holder = ?";
        if let Ok(free) = self.cql.prepare(free, Kind::Lwt).await {
            // If it stays, it goes stale.
            let _ = self.cql.lwt(&free, (self.me,)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_may_run_twice() {
        let all = MIGRATIONS.iter().flat_map(|step| step.statements).chain(LEDGER);
        for statement in all {
            assert!(statement.contains("IF NOT EXISTS"), "{statement}");
        }
    }
}
