//! Runtimes as real processes: commands, process trees, and the agent programs themselves
//! against a scripted model server.
//!
//! `cargo xtask test` installs the agent programs and says where in `TROUPE_TEST_RUNTIMES`;
//! without it their tests are skipped with a word (in CI they fail).
#![expect(clippy::unwrap_used, reason = "a test fails where something does not hold")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

mod agno;
mod claude;
mod codex;
mod commands;
mod garbage;
mod kit;
mod locks;
mod logins;
mod trees;
mod workspaces;
