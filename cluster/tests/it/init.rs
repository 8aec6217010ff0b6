//! `troupe node`: the keys of a cluster, and what a node says that cannot begin.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

fn troupe(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_troupe"));
    command.args(args).current_dir(dir).env_clear().env("HOME", dir);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn init(nodes: &str, dir: &Path) -> Output {
    troupe(&["node", "init", "--cluster", "prod", "--out", "keys", "--nodes", nodes], dir)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn init_makes_keys_once_and_adds_nodes_later() {
    let dir = tempfile::tempdir().unwrap();
    let made = init("n1,n2", dir.path());
    assert!(made.status.success(), "{}", said(&made));
    let keys = dir.path().join("keys");
    assert_eq!(names(&keys), ["ca", "n1", "n2", "shared"]);
    let (one, two) = (keys.join("n1"), keys.join("n2"));
    assert!(!one.join("node-ca.key").exists(), "the authority's key lies on no node");
    for name in names(&one) {
        let mode = fs::metadata(one.join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} may be read by others");
        let same = fs::read(one.join(&name)).unwrap() == fs::read(two.join(&name)).unwrap();
        assert_eq!(same, !name.starts_with("node."), "{name}");
    }
    let before = fs::read(one.join("node.crt")).unwrap();
    let more = init("n1,n3", dir.path());
    assert!(more.status.success(), "{}", said(&more));
    assert!(said(&more).contains("n1: kept"), "{}", said(&more));
    assert_eq!(fs::read(one.join("node.crt")).unwrap(), before);
    assert_eq!(
        fs::read(keys.join("n3/node-ca.crt")).unwrap(),
        fs::read(one.join("node-ca.crt")).unwrap(),
        "the same authority"
    );
}

#[test]
fn init_refuses_what_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    for nodes in ["Node_1", "ca", "shared", "a,,b"] {
        let refused = init(nodes, dir.path());
        assert!(!refused.status.success(), "{nodes}");
        assert!(said(&refused).contains("--nodes"), "{nodes}: {}", said(&refused));
        assert!(!dir.path().join("keys").exists(), "{nodes}: nothing is made");
    }
    assert!(init("n1", dir.path()).status.success());
    let args = ["node", "init", "--cluster=prod", "--out=keys", "--nodes=n2", "--roles=edgy"];
    let unknown = troupe(&args, dir.path());
    assert!(!unknown.status.success() && !dir.path().join("keys/n2").exists());
    assert!(said(&unknown).contains("gateway, entities"), "{}", said(&unknown));
    let args = ["node", "init", "--cluster", "test", "--out", "keys", "--nodes", "n2"];
    let other = troupe(&args, dir.path());
    assert!(!other.status.success());
    assert!(said(&other).contains("`prod`, not `test`"), "{}", said(&other));
}

#[test]
fn a_node_names_every_fault_of_its_configuration_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["node", "--link", "0.0.0.0:8444", "--roles", "gateway,edgy"];
    let refused = troupe(&args, dir.path());
    assert_eq!(refused.status.code(), Some(1));
    let said = said(&refused);
    let faults =
        ["node.name", "node.keys", "`edgy` is none", "node.advertise", "cql.contact-points"];
    for fault in faults {
        assert!(said.contains(fault), "{fault} is missing: {said}");
    }
}

#[test]
fn a_node_whose_key_others_may_read_or_whose_store_is_away_does_not_begin() {
    let dir = tempfile::tempdir().unwrap();
    assert!(init("n1", dir.path()).status.success());
    let args = [
        "node",
        "--name",
        "n1",
        "--keys",
        "keys/n1",
        "--http",
        "127.0.0.1:0",
        "--link",
        "127.0.0.1:0",
        "--cql",
        "127.0.0.1:1",
    ];
    let refused = troupe(&args, dir.path());
    assert_eq!(refused.status.code(), Some(1), "the launcher does not try again at the start");
    assert!(said(&refused).contains("the store"), "{}", said(&refused));
}
