//! `troupe`: one binary for the node (`troupe up`) and for the client (`troupe run`, `apply`..).

use std::process::ExitCode;

use troupe_store_sqlite::SqliteOptions;

fn main() -> ExitCode {
    troupe_cluster::run(std::env::args_os(), SqliteOptions::default())
}
