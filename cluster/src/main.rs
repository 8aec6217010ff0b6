//! `troupe`: one binary for the node (`troupe up`) and for the client (`troupe run`, `apply`..).

use std::process::ExitCode;

use mimalloc::MiMalloc;
use troupe_store_sqlite::SqliteOptions;

/// A frame is allocated by one thread and freed by another: docs/adr/0024.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    troupe_cluster::run(std::env::args_os(), SqliteOptions::default())
}
