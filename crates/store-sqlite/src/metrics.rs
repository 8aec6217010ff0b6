//! Names of this crate's metrics.

use ::metrics::{Unit, describe_counter};

/// Transactions committed; each is one fsync.
pub const COMMITS: &str = "troupe_store_commits_total";
/// Writes (appends, snapshots, rows) that those transactions held.
pub const WRITES: &str = "troupe_store_writes_total";
/// Transactions that failed, whatever the reason.
pub const FAILURES: &str = "troupe_store_commit_failures_total";
/// Times the database was opened anew after an IO error.
pub const REOPENED: &str = "troupe_store_reopened_total";

/// Tells the exporter what they are.
pub fn describe() {
    describe_counter!(COMMITS, Unit::Count, "transactions committed, each with one fsync");
    describe_counter!(WRITES, Unit::Count, "writes that were committed");
    describe_counter!(FAILURES, Unit::Count, "transactions that failed");
    describe_counter!(REOPENED, Unit::Count, "reopenings of the database after an IO error");
}
