//! What the kernel says of this process; nothing where there is no `/proc`.

use std::fs;

/// Resident memory, in bytes. (`status` has it in kB; `statm` in pages of a size that only
/// unsafe code can ask for.)
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Open file descriptors, without the one that this look takes.
pub(crate) fn open_files() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}
