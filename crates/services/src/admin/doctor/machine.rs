//! The machine of the node that answers: disk, clock, files.

use std::{path::Path, time::Duration};

use troupe_api::admin::Check;
use troupe_types::Timestamp;

use super::{Verdict, check, some};
use crate::admin::{
    Operations,
    process::{Room, room},
};

/// Below this, and below a tenth of the disk, somebody should look.
const ROOM_LOW: u64 = 2 * 1024 * 1024 * 1024;
/// Below this the store is about to refuse writes.
const ROOM_OUT: u64 = 256 * 1024 * 1024;
/// So much the wall clock may have moved against the monotonic one since the start.
const CLOCK_DRIFT_MAX: Duration = Duration::from_secs(5);
/// No node was built before: 2026-01-01.
const EARLIEST: Timestamp = Timestamp::from_millis(1_767_225_600_000);

impl Operations {
    pub(super) async fn check_machine(&self) -> Vec<Check> {
        let (data, keys) = (self.parts.data_dir.clone(), self.parts.keys_dir.clone());
        let files = tokio::task::spawn_blocking(move || {
            let room = data.map(|dir| disk(room(&dir)));
            room.into_iter().chain(keys.map(|dir| key_files(&dir))).collect::<Vec<_>>()
        });
        let mut checks = files.await.unwrap_or_default();
        checks.push(self.check_clock());
        checks
    }

    fn check_clock(&self) -> Check {
        let (wall, mono) = self.began;
        let now = self.parts.clock.now();
        let passed = self.parts.clock.mono().since(mono);
        clock(now, wall.plus(passed), passed)
    }
}

fn mib(bytes: u64) -> String {
    if bytes >= 10 * 1024 * 1024 * 1024 {
        return format!("{} GiB", bytes / (1024 * 1024 * 1024));
    }
    format!("{} MiB", bytes / (1024 * 1024))
}

fn disk(room: std::io::Result<Room>) -> Check {
    let check = check("disk", "The data directory has room");
    let room = match room {
        Ok(room) => room,
        Err(why) => return check.unknown(why),
    };
    let found = format!("{} of {} free", mib(room.free_bytes), mib(room.total_bytes));
    if room.free_bytes < ROOM_OUT {
        let fix = "Make room now: with a full disk new messages are refused; nothing that was \
                   acknowledged is lost.";
        return check.fail(found, fix);
    }
    if room.free_bytes < ROOM_LOW && room.free_bytes < room.total_bytes / 10 {
        return check.warn(found, "Make room, or move the data directory to a larger disk.");
    }
    check.ok(found)
}

fn key_files(dir: &Path) -> Check {
    use std::os::unix::fs::PermissionsExt as _;
    let check = check("key_files", "Keys are readable by the node alone").of("I11");
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(why) => return check.unknown(why),
    };
    let mut exposed = Vec::new();
    let mut files = 0_usize;
    for entry in entries.flatten() {
        let Ok(about) = entry.metadata() else { continue };
        files += 1;
        if about.permissions().mode() & 0o077 != 0 {
            exposed.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    if exposed.is_empty() {
        return check.ok(format!("{files} files, for the node's user alone"));
    }
    let fix = "chmod 600 them; if somebody may have read them, replace the keys.";
    check.fail(format!("others may read {}", some(&exposed)), fix)
}

fn clock(now: Timestamp, expected: Timestamp, passed: Duration) -> Check {
    let check = check("clock", "The wall clock is steady");
    if now < EARLIEST {
        let fix = "Set the clock: tokens and list order depend on it (ownership does not).";
        return check.fail(format!("it says {now}"), fix);
    }
    let drift = now.since(expected).max(expected.since(now));
    if drift > CLOCK_DRIFT_MAX {
        let found = format!(
            "it moved by {} s against the monotonic clock in {} s",
            drift.as_secs(),
            passed.as_secs()
        );
        let fix = "Somebody set it, or the machine slept. Tasks and leases do not mind; tokens may \
                   have ended early or late. Run a time service.";
        return check.warn(found, fix);
    }
    check.ok(format!("{} ms off since the node started", drift.as_millis()))
}

#[cfg(test)]
mod tests {
    use troupe_api::admin::CheckState;

    use super::*;

    #[test]
    fn a_disk_that_fills_is_told_in_time() {
        const GIB: u64 = 1024 * 1024 * 1024;
        let state = |free, total| disk(Ok(Room { free_bytes: free, total_bytes: total })).state;
        assert_eq!(state(50 * GIB, 100 * GIB), CheckState::Ok);
        assert_eq!(state(GIB, 4 * GIB), CheckState::Ok, "a quarter of a small disk is free");
        assert_eq!(state(GIB, 100 * GIB), CheckState::Warn);
        assert_eq!(state(GIB / 8, 100 * GIB), CheckState::Fail);
        let gone = disk(Err(std::io::ErrorKind::NotFound.into()));
        assert!(gone.found.contains("could not be checked"));
    }

    #[test]
    fn a_clock_that_jumps_or_lies_is_told() {
        let at = |ms| Timestamp::from_millis(EARLIEST.as_millis() + ms);
        let hour = Duration::from_secs(3_600);
        assert_eq!(clock(at(9_000), at(8_500), hour).state, CheckState::Ok);
        assert_eq!(clock(at(19_000), at(9_000), hour).state, CheckState::Warn);
        assert_eq!(clock(at(9_000), at(19_000), hour).state, CheckState::Warn);
        assert_eq!(clock(at(-1), at(-1), hour).state, CheckState::Fail);
    }

    #[test]
    fn a_key_that_others_may_read_fails() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("access-token.1.p8");
        std::fs::write(&file, "x").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(key_files(dir.path()).state, CheckState::Ok);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let check = key_files(dir.path());
        assert_eq!(check.state, CheckState::Fail);
        assert!(check.found.contains("access-token.1.p8"));
    }
}
