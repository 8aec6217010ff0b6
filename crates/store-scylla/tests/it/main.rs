//! The clustered store on a real server, whose address `TROUPE_TEST_CQL` tells (`host:port`;
//! `cargo xtask test` starts one). Each test has a keyspace of its own.

#![expect(clippy::unwrap_used, reason = "a test fails where something does not hold")]

mod conformance;
mod faults;
mod proxy;
mod scan;
mod secure;
mod server;
