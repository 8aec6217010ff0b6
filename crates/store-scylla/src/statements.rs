//! Every statement there is, prepared once. Each names its whole partition.

use futures::{StreamExt, TryStreamExt, stream};
use scylla::statement::prepared::PreparedStatement;

use crate::{
    cql::{Cql, Kind},
    error::Failed,
};

/// How many statements are prepared at once.
const PREPARE_AT_ONCE: usize = 16;

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $kind:ident, $pages:expr, $text:expr;)*) => {
        pub(crate) struct Statements { $($(#[$doc])* pub(crate) $name: PreparedStatement,)* }

        const TEXTS: &[(Kind, i32, &str)] = &[$((Kind::$kind, $pages, $text),)*];

        impl Statements {
            pub(crate) async fn prepare(cql: &Cql) -> Result<Self, Failed> {
                let prepare = |&(kind, pages, text): &'static (Kind, i32, &'static str)| async move {
                    let mut statement = cql.prepare(text, kind).await?;
                    statement.set_page_size(pages);
                    Ok::<_, Failed>(statement)
                };
                let all = stream::iter(TEXTS.iter().map(prepare)).buffered(PREPARE_AT_ONCE);
                let all: Vec<_> = all.try_collect().await?;
                let mut all = all.into_iter();
                Ok(Self { $($name: all.next().expect("as many as there are names"),)* })
            }
        }
    };
}

/// Rows of a page that may each be as large as an entry.
const LARGE: i32 = 64;
/// Rows of a page of chunks.
const CHUNKS: i32 = 8;
/// Rows of a page of small rows.
const SMALL: i32 = 1_000;

statements! {
    // Ownership.
    lease: Serial, SMALL, "SELECT node, boot_id, inc, seq, state, addr, build, roles, weight
        FROM node_lease WHERE cluster = ? AND node = ?";
    lease_hint: Read, SMALL, "SELECT node, boot_id, inc, seq, state, addr, build, roles, weight
        FROM node_lease WHERE cluster = ? AND node = ?";
    barrier: Read, SMALL, "SELECT boot_id, inc, state FROM node_lease
        WHERE cluster = ? AND node = ?";
    lease_insert: Lwt, SMALL, "INSERT INTO node_lease (cluster, node, boot_id, inc, seq, state,
        addr, build, roles, weight) VALUES (?, ?, ?, ?, 1, 'alive', ?, ?, ?, ?) IF NOT EXISTS";
    lease_join: Lwt, SMALL, "UPDATE node_lease SET boot_id = ?, inc = ?, seq = 1, state = 'alive',
        addr = ?, build = ?, roles = ?, weight = ? WHERE cluster = ? AND node = ? IF inc = ?";
    lease_renew: Lwt, SMALL, "UPDATE node_lease SET seq = ?, state = ?
        WHERE cluster = ? AND node = ?
        IF inc = ? AND boot_id = ? AND seq = ? AND state IN ('alive', 'draining')";
    lease_kill: Lwt, SMALL, "UPDATE node_lease SET state = 'dead'
        WHERE cluster = ? AND node = ? IF inc = ? AND seq = ?";
    nodes: Read, SMALL, "SELECT node FROM node_directory WHERE cluster = ?";
    node_insert: Write, SMALL, "INSERT INTO node_directory (cluster, node) VALUES (?, ?)";
    shard: Serial, SMALL, "SELECT shard, owner, owner_inc, epoch FROM shard
        WHERE cluster = ? AND shard = ?";
    shards: Read, SMALL, "SELECT shard, owner, owner_inc, epoch FROM shard
        WHERE cluster = ? AND shard IN ?";
    shard_insert: Lwt, SMALL, "INSERT INTO shard (cluster, shard, owner, owner_inc, epoch)
        VALUES (?, ?, ?, ?, ?) IF NOT EXISTS";
    shard_grant: Lwt, SMALL, "UPDATE shard SET owner = ?, owner_inc = ?, epoch = ?
        WHERE cluster = ? AND shard = ? IF epoch = ? AND owner = ? AND owner_inc = ?";
    grant_insert: Write, SMALL, "INSERT INTO shard_log (cluster, shard, epoch, owner, owner_inc, at)
        VALUES (?, ?, ?, ?, ?, toTimestamp(now()))";
    grants: Read, SMALL, "SELECT shard, owner, owner_inc, epoch FROM shard_log
        WHERE cluster = ? AND shard = ?";

    // Journals.
    statics: Read, SMALL, "SELECT DISTINCT epoch, fence, starts, snapshot_seq, snapshot_fence
        FROM journal WHERE kind = ? AND entity = ?";
    statics_serial: Serial, SMALL,
        "SELECT DISTINCT epoch, fence, starts, snapshot_seq, snapshot_fence
        FROM journal WHERE kind = ? AND entity = ?";
    journal_create: Lwt, SMALL, "UPDATE journal SET epoch = ?, fence = ?, starts = ?,
        snapshot_seq = 0, snapshot_fence = 0 WHERE kind = ? AND entity = ? IF fence = null";
    journal_claim: Lwt, SMALL, "UPDATE journal SET epoch = ?, fence = ?
        WHERE kind = ? AND entity = ? IF epoch <= ? AND fence = ?";
    journal_start: Lwt, SMALL, "UPDATE journal SET starts[?] = ?
        WHERE kind = ? AND entity = ? IF fence = ?";
    journal_switch: Lwt, SMALL, "UPDATE journal SET snapshot_seq = ?, snapshot_fence = ?,
        starts = ? WHERE kind = ? AND entity = ? IF fence = ? AND snapshot_seq < ?";
    journal_insert: Write, SMALL, "INSERT INTO journal (kind, entity, seq, fence_tag, append_last,
        first_frame, frames, crc, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    journal_rows: Read, LARGE, "SELECT seq, fence_tag, append_last, first_frame, frames, crc, body
        FROM journal WHERE kind = ? AND entity = ? AND seq > ? AND seq <= ?";
    journal_tags: Read, SMALL, "SELECT seq, fence_tag FROM journal WHERE kind = ? AND entity = ?
        AND seq > ? ORDER BY seq DESC, fence_tag DESC LIMIT ?";
    journal_trim: Write, SMALL, "DELETE FROM journal WHERE kind = ? AND entity = ? AND seq <= ?";
    snapshot_insert: Write, SMALL, "INSERT INTO snapshot (kind, entity, upto, fence_tag, part,
        parts, crc, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    snapshot_parts: Read, CHUNKS, "SELECT part, parts, crc, body FROM snapshot
        WHERE kind = ? AND entity = ? AND upto = ? AND fence_tag = ?";
    snapshot_trim: Write, SMALL, "DELETE FROM snapshot WHERE kind = ? AND entity = ? AND upto < ?";
    archive_insert: Write, SMALL, "INSERT INTO archive (kind, entity, bucket, seq, first_frame,
        frames, crc, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    archive_rows: Read, LARGE, "SELECT seq, first_frame, frames, crc, body FROM archive
        WHERE kind = ? AND entity = ? AND bucket = ? AND seq >= ? AND seq <= ?";
    archive_frame: Read, SMALL, "SELECT first_frame, frames FROM archive
        WHERE kind = ? AND entity = ? AND bucket = ? AND seq = ?";

    // Everything there is, in the order of tokens, for copies. Plain scans: one with DISTINCT
    // was seen to fail on Cassandra 5.0.5. A partition of statics alone has one row too.
    entities_first: Read, SMALL, "SELECT kind, entity, fence FROM journal
        WHERE token(kind, entity) >= -9223372036854775808 PER PARTITION LIMIT 1 LIMIT ?";
    entities_after: Read, SMALL, "SELECT kind, entity, fence FROM journal
        WHERE token(kind, entity) > token(?, ?) PER PARTITION LIMIT 1 LIMIT ?";
    blobs_first: Read, SMALL, "SELECT hash FROM blob
        WHERE token(hash) >= -9223372036854775808 LIMIT ?";
    blobs_after: Read, SMALL, "SELECT hash FROM blob WHERE token(hash) > token(?) LIMIT ?";

    // The wake index. Its write times are made of fences: no clock can hide a row.
    wake_insert: Write, SMALL, "INSERT INTO wake (cluster, shard, due, why, kind, entity, fence)
        VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    wake_remove_upto: Write, SMALL, "DELETE FROM wake USING TIMESTAMP ?
        WHERE cluster = ? AND shard = ? AND due = ? AND why = ? AND kind = ? AND entity = ?
        AND fence <= ?";
    wake_remove: Write, SMALL, "DELETE FROM wake USING TIMESTAMP ?
        WHERE cluster = ? AND shard = ? AND due = ? AND why = ? AND kind = ? AND entity = ?
        AND fence = ?";
    wake_from: Read, SMALL, "SELECT due, why, kind, entity, fence FROM wake
        WHERE cluster = ? AND shard = ? AND due >= ? AND due <= ? LIMIT ?";
    wake_after: Read, SMALL, "SELECT due, why, kind, entity, fence FROM wake
        WHERE cluster = ? AND shard = ? AND (due, why, kind, entity, fence) > (?, ?, ?, ?, ?)
        AND (due) <= (?) LIMIT ?";

    // The directory.
    row: Read, SMALL, "SELECT owner, version, body, written_by, made_by FROM directory_row
        WHERE tbl = ? AND key = ?";
    row_serial: Serial, SMALL, "SELECT owner, version, body, written_by, made_by FROM directory_row
        WHERE tbl = ? AND key = ?";
    row_insert: Lwt, SMALL, "INSERT INTO directory_row (tbl, key, owner, version, body, written_by,
        made_by) VALUES (?, ?, ?, 1, ?, ?, ?) IF NOT EXISTS";
    row_update: Lwt, SMALL, "UPDATE directory_row SET version = ?, body = ?, written_by = ?
        WHERE tbl = ? AND key = ? IF version = ?";
    row_delete: Lwt, SMALL, "DELETE FROM directory_row WHERE tbl = ? AND key = ? IF version = ?";
    index_insert: Write, SMALL, "INSERT INTO directory_index (tbl, owner, bucket, key, made_by)
        VALUES (?, ?, ?, ?, ?)";
    index_delete: Write, SMALL, "DELETE FROM directory_index
        WHERE tbl = ? AND owner = ? AND bucket = ? AND key = ? AND made_by = ?";
    index_first: Read, SMALL, "SELECT key FROM directory_index
        WHERE tbl = ? AND owner = ? AND bucket = ? LIMIT ?";
    index_after: Read, SMALL, "SELECT key FROM directory_index
        WHERE tbl = ? AND owner = ? AND bucket = ? AND key > ? LIMIT ?";
    change_bucket: Read, SMALL, "SELECT bucket FROM directory_change_bucket WHERE id = 0";
    change_bucket_set: Write, SMALL, "INSERT INTO directory_change_bucket (id, bucket)
        VALUES (0, ?) USING TIMESTAMP ?";
    change_last: Read, SMALL, "SELECT number FROM directory_change WHERE bucket = ?
        ORDER BY number DESC LIMIT 1";
    change_insert: Lwt, SMALL, "INSERT INTO directory_change (bucket, number, tbl, key, owner,
        written_by) VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    change_writer: Serial, SMALL, "SELECT written_by FROM directory_change
        WHERE bucket = ? AND number = ?";
    changes: Read, SMALL, "SELECT number, tbl, key, owner FROM directory_change
        WHERE bucket = ? AND number > ? LIMIT ?";

    // Projections: the write time is the entity's seq.
    task_insert: Write, SMALL, "INSERT INTO task_row (task, owner, seq, created_at, updated_at,
        status, title, team, team_namespace, archived, deleted, asks, body)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    task_delete: Write, SMALL, "DELETE FROM task_row USING TIMESTAMP ? WHERE task = ?";
    task: Read, SMALL, "SELECT task, owner, seq, created_at, updated_at, status, title, team,
        team_namespace, archived, deleted, asks, body FROM task_row WHERE task = ?";
    asking_insert: Write, SMALL, "INSERT INTO task_asking (owner, task) VALUES (?, ?)
        USING TIMESTAMP ?";
    asking_delete: Write, SMALL, "DELETE FROM task_asking USING TIMESTAMP ?
        WHERE owner = ? AND task = ?";
    asking: Read, SMALL, "SELECT task FROM task_asking WHERE owner = ? LIMIT ?";
    count_insert: Write, SMALL, "INSERT INTO task_count (owner, bucket, task, status, title,
        archived, deleted) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    count_delete: Write, SMALL, "DELETE FROM task_count USING TIMESTAMP ?
        WHERE owner = ? AND bucket = ? AND task = ?";
    counts: Read, SMALL, "SELECT status, title, archived, deleted FROM task_count
        WHERE owner = ? AND bucket = ?";
    hint_insert: Write, SMALL, "INSERT INTO task_hint (owner, period, updated_at, task)
        VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
    hint_delete: Write, SMALL, "DELETE FROM task_hint USING TIMESTAMP ?
        WHERE owner = ? AND period = ? AND updated_at = ? AND task = ?";
    hints_first: Read, SMALL, "SELECT updated_at, task FROM task_hint
        WHERE owner = ? AND period = ? LIMIT ?";
    hints_below: Read, SMALL, "SELECT updated_at, task FROM task_hint
        WHERE owner = ? AND period = ? AND (updated_at, task) < (?, ?) LIMIT ?";
    period_insert: Write, SMALL, "INSERT INTO task_period (owner, period) VALUES (?, ?)";
    periods: Read, SMALL, "SELECT period FROM task_period WHERE owner = ?";

    // Blobs.
    blob: Read, SMALL, "SELECT bytes, parts FROM blob WHERE hash = ?";
    blob_insert: Write, SMALL, "INSERT INTO blob (hash, bytes, parts) VALUES (?, ?, ?)";
    blob_part: Read, SMALL, "SELECT body FROM blob_part WHERE hash = ? AND part = ?";
    blob_part_insert: Write, SMALL, "INSERT INTO blob_part (hash, part, body) VALUES (?, ?, ?)";

    // Dead letters.
    letter_insert: Lwt, SMALL, "INSERT INTO dead_letter (period, id, kind, entity, message, error,
        strikes, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    letter_delete: Lwt, SMALL, "DELETE FROM dead_letter WHERE period = ? AND id = ? IF EXISTS";
    letter: Read, SMALL, "SELECT id, kind, entity, message, error, strikes, at FROM dead_letter
        WHERE period = ? AND id = ?";
    letters_after: Read, CHUNKS, "SELECT id, kind, entity, message, error, strikes, at
        FROM dead_letter WHERE period = ? AND id > ? LIMIT ?";
    letter_period: Write, SMALL, "INSERT INTO dead_letter_period (id, period) VALUES (0, ?)";
    letter_periods: Read, SMALL, "SELECT period FROM dead_letter_period WHERE id = 0 AND period >= ?";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_filters_and_conditions_are_told_apart() {
        for (kind, _, text) in TEXTS {
            assert!(!text.contains("FILTERING"), "{text}");
            assert!(text.starts_with("INSERT") || text.contains(" WHERE "), "{text}");
            let conditional = text.contains(" IF ") || text.contains("\n        IF ");
            assert_eq!(conditional, *kind == Kind::Lwt, "{text}");
            let reads = matches!(kind, Kind::Read | Kind::Serial);
            assert_eq!(text.starts_with("SELECT"), reads, "{text}");
            let scans = text.contains("token(");
            assert!(!(scans && text.contains("DISTINCT")), "{text}");
        }
    }
}
