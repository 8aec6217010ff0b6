//! The clustered store: every trait of `store` over CQL, on Apache Cassandra or ScyllaDB.
//!
//! Invariants:
//! - Lightweight transactions move ownership (leases, shards, fences, directory rows); the hot
//!   path has none: appends are plain quorum writes tagged with their fence, and a read of the
//!   node's own lease that is *sent after* they were confirmed commits them.
//! - What of a journal counts is decided by the pure `troupe_store::effective` alone.
//! - A timed-out conditional update has an unknown outcome and may still happen: it is read
//!   with SERIAL before anything is decided.
//! - Every await has a timeout, every fan-out a bound, no statement filters; only a backup scans.
//!
//! Absences: no clock is compared anywhere; no row expires; nothing here knows what is inside
//! a body. Times in rows are for people.

mod addresses;
mod barrier;
mod blobs;
mod checksum;
mod cql;
mod dead_letters;
mod directory;
mod error;
mod inventory;
mod journal;
mod options;
mod ownership;
mod projections;
mod schema;
mod session;
mod statements;
mod store;
mod wake;

pub use error::ConnectError;
pub use options::{Credentials, Replication, ScyllaOptions, Timeouts};
pub use store::{LeaseCheck, ScyllaStore};
