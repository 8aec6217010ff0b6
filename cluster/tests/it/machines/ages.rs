//! A machine as it is months later.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use troupe_testkit::{Nat, try_until};

use super::{
    faults::{Door, beyond, counting},
    kit::{COMMANDS, Machine, is_free, last_answer, node, retry, until},
};
use crate::node::{Home, PATIENCE};

/// What gives a program another clock; `None`, and said: it is not there. In CI it is.
fn faketime() -> Option<PathBuf> {
    let found = troupe_testkit::faketime();
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no faketime, and it is CI");
        println!("skipped: `cargo xtask test` installs faketime");
    }
    found
}

/// The files with the device's key.
fn keys(machine: &Machine) -> Vec<String> {
    let entries = fs::read_dir(machine.dir().join("identity")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".key")).collect()
}

/// After two thirds of its 90 days a certificate is renewed over the link, with a key of its own;
/// the device works with it, then and with the next link.
#[tokio::test]
async fn a_certificate_is_renewed_over_the_link() -> Result<()> {
    let Some(faketime) = faketime() else { return Ok(()) };
    let (home, mut machine) = (Home::new()?, Machine::new(None)?);
    let node = node(&home).await?;
    let who = node.setup().await?;
    node.apply(&who, COMMANDS).await?;
    machine.allow_sh()?;
    let device = machine.join(&node, &who).await?;
    let works = async |machine: &Machine, file: &str| {
        let task = node.run(&who, "sh", &format!("sh -c 'date +%Y > {file}'")).await?;
        node.settled(&who, &task, "COMPLETED").await?;
        ensure!(machine.worked(file).is_some(), "{file} is not there");
        is_free(&node, &who, &device).await
    };
    let stop = async |machine: &mut Machine| {
        machine.ask_to_stop().await?;
        assert_eq!(machine.ended().await?, Some(0), "{}", machine.log());
        until(&node, &who, &device, |view| view["status"] == "offline").await
    };
    works(&machine, "first").await?;
    let first = keys(&machine);
    assert_eq!(first.len(), 1, "{first:?}");
    stop(&mut machine).await?;

    let clock = |days: u32| {
        let preload = format!("LD_PRELOAD={}", faketime.display());
        let days = format!("FAKETIME=+{days}d");
        ["env".to_owned(), preload, days, "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned()]
    };
    let prefix = clock(59);
    let mut machine = machine.within(&prefix.each_ref().map(String::as_str));
    machine.run()?;
    until(&node, &who, &device, |view| view["status"] == "online").await?;
    works(&machine, "early").await?;
    assert_eq!(keys(&machine), first, "a day too early");
    stop(&mut machine).await?;

    let prefix = clock(61);
    let mut machine = machine.within(&prefix.each_ref().map(String::as_str));
    machine.run()?;
    let renewed = try_until(PATIENCE, async || {
        machine.log().contains("the device's certificate was renewed")
    });
    ensure!(renewed.await, "it was not renewed:\n{}", machine.log());
    let second = keys(&machine);
    ensure!(second.len() == 1 && second != first, "another key alone: {first:?}, {second:?}");
    works(&machine, "renewed").await?;
    stop(&mut machine).await?;

    let mut machine = machine.within(&[]);
    machine.run()?;
    until(&node, &who, &device, |view| view["status"] == "online").await?;
    works(&machine, "again").await?;
    assert_eq!(keys(&machine), second);
    assert!(!home.log().contains("PRIVATE KEY"), "no log tells a key");
    Ok(())
}

/// A device that is away for longer than its lease has lost its work: the Task says so and takes
/// nothing of it any more; what ran is ended once the device is back, and a retry has its slot.
/// It takes the shortest lease there is, a minute.
#[tokio::test]
async fn who_is_away_for_too_long_has_lost_its_work() -> Result<()> {
    let (door, node) = Door::with(&[("TROUPE__TASKS__DEVICE_LEASE_SECONDS", "60")]).await?;
    let who = node.with_key(&node.setup().await?).await?;
    let nat = Nat::start(door.at()).await?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let invitation = json!({"address": nat.addr().to_string()});
    let device = machine.join_at(&node, &who, &invitation).await?;
    let task = counting(&node, &who, &machine).await?;
    nat.cut(true, true);
    until(&node, &who, &device, |view| view["status"] == "away").await?;
    let view = node.get(&format!("/api/v1/tasks/{task}"), &who).await?;
    assert_eq!(view["status"], "RUNNING", "it may be at work");
    let why = node.get(&format!("/api/v1/tasks/{task}/why"), &who).await?;
    let told = why["summary"].as_str().context("no summary")?;
    assert!(told.contains("which is away"), "{why}");
    let mut told = String::new();
    let lost = try_until(2 * PATIENCE, async || {
        let path = format!("/api/v1/tasks/{task}/frames?after=0");
        told = node.get(&path, &who).await.unwrap_or_default().to_string();
        told.contains("the device has been away for 1 min")
    });
    ensure!(lost.await, "it is not lost: {told}");
    node.settled(&who, &task, "FAILED").await?;
    let cut = last_answer(&node, &who, &task).await?;

    let running = beyond(&machine, 0).await?;
    beyond(&machine, running + 50).await?;
    nat.cut(false, false);
    is_free(&node, &who, &device).await?;
    let ended = try_until(PATIENCE, async || machine.children().is_ok_and(|all| all.is_empty()));
    ensure!(ended.await, "it runs on: {:?}", machine.children());
    assert_eq!(last_answer(&node, &who, &task).await?, cut, "its words come too late");
    machine.put_beside("n", "go")?;
    retry(&node, &who, &task).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    node.assert_fold(&who, &task).await?;
    is_free(&node, &who, &device).await
}
