//! Both implementations against one suite, and Redis against everything that happens to it.
//!
//! `cargo xtask test` starts a server and says where in `TROUPE_TEST_REDIS`; servers that are
//! to be stopped are started here, from the same program.

#[cfg(test)]
#[path = "it/conformance.rs"]
mod conformance;
#[cfg(test)]
#[path = "it/faults.rs"]
mod faults;
#[cfg(test)]
#[path = "it/server.rs"]
mod server;
