//! The real `troupe-edge` as its user calls it, without a cluster.

#![expect(clippy::unwrap_used, reason = "a failing test may say so by a panic")]

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;
use tempfile::TempDir;
use troupe_types::{DeviceId, Uuid};

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn policy(&self) -> PathBuf {
        self.0.path().join(".config/troupe-edge/policy.toml")
    }

    /// Exit code, standard output, standard error.
    fn say(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let path = std::env::var_os("PATH").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_troupe-edge"))
            .args(args)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.0.path())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn every_command_has_help_and_the_first_page_has_examples() {
    let home = Home::new();
    let (code, out, _) = home.say(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("Examples:") && out.contains("Exit codes:"), "{out}");
    for command in ["join", "run", "status", "doctor", "policy", "service", "leave"] {
        assert!(out.contains(command), "{command}: {out}");
        let (code, out, _) = home.say(&[command, "--help"]);
        assert!(code == Some(0) && out.contains("Usage:"), "{command}: {out}");
    }
}

#[test]
fn what_needs_a_cluster_says_that_this_machine_has_none() {
    let home = Home::new();
    for command in ["run", "status", "leave"] {
        let (code, out, err) = home.say(&[command]);
        assert_eq!(code, Some(3), "{command}: {out}{err}");
        assert!(err.contains("troupe-edge"), "{command} tells the way out: {err}");
    }
}

#[test]
fn an_invitation_that_is_none_changes_nothing() {
    let home = Home::new();
    for line in ["troupe://", "http://host:8443/x", "troupe://host:8443/short", "nonsense"] {
        let (code, out, err) = home.say(&["join", line]);
        assert_eq!(code, Some(1), "{line}: {out}{err}");
        assert!(err.contains("invitation"), "{line}: {err}");
    }
    assert!(!home.0.path().join(".local").exists(), "nothing was made");
}

#[test]
fn a_policy_is_read_as_the_agent_reads_it() {
    let home = Home::new();
    let (code, out, _) = home.say(&["policy", "check"]);
    assert_eq!(code, Some(0), "{out}");
    fs::create_dir_all(home.policy().parent().unwrap()).unwrap();
    fs::write(home.policy(), "users = []\nruntimez = []\n").unwrap();
    let (code, out, err) = home.say(&["policy", "check"]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("runtimez") && err.contains("line 2"), "{err}");
    let (code, _, err) = home.say(&["join", "troupe://127.0.0.1:1/aaaa"]);
    assert_eq!(code, Some(1), "{err}");
}

#[test]
fn the_doctor_tells_programs_what_it_found() {
    let home = Home::new();
    let (_, out, err) = home.say(&["doctor", "-o", "json"]);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    assert!(report.to_string().contains("\"clock\"") || report.is_object(), "{report}");
}

#[test]
fn the_doctor_leaves_to_the_agent_what_only_that_knows() {
    let home = Home::new();
    let identity = home.0.path().join(".local/state/troupe-edge/identity");
    fs::create_dir_all(&identity).unwrap();
    let facts = serde_json::json!({
        "device": DeviceId::from_uuid(Uuid::from_u128(7)), "name": "laptop", "cluster": "test",
        "addresses": ["127.0.0.1:1"], "chain": [], "ca": "", "key_file": "device-1.key",
    });
    fs::write(identity.join("device.json"), facts.to_string()).unwrap();
    let (code, out, err) = home.say(&["doctor"]);
    assert_eq!(code, Some(1), "there is no key: {out}{err}");
    assert!(out.contains("seen when the agent runs"), "{out}{err}");
    assert!(!out.contains("bounds"), "{out}");
}
