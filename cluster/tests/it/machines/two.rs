//! Two machines of one person: their settings, where a Task goes, and why it waits.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use troupe_testkit::{Nat, try_until};

use super::{
    faults::Door,
    kit::{COMMANDS, Machine, is_free, last_answer, node, until},
};
use crate::{
    cli::{Terminal, at},
    node::{Home, Node, PATIENCE, Person},
};

/// A node, its person at a terminal, and two machines that join as `anvil` and `bench`.
struct Workshop {
    home: Home,
    node: Node,
    who: Person,
    anvil: Machine,
    bench: Machine,
    /// Programs that `bench` alone has.
    _programs: TempDir,
}

impl Workshop {
    /// The machines are not joined yet.
    async fn new() -> Result<Self> {
        let home = Home::new()?;
        let node = node(&home).await?;
        let who = node.setup().await?;
        node.apply(&who, COMMANDS).await?;
        let programs = TempDir::new()?;
        say_a_version(programs.path())?;
        let (anvil, bench) = (Machine::new(None)?, Machine::new(Some(programs.path()))?);
        anvil.allow_sh()?;
        bench.allow_sh()?;
        Ok(Self { home, node, who, anvil, bench, _programs: programs })
    }

    /// Both have joined.
    async fn open() -> Result<(Self, Value, Value)> {
        let mut all = Self::new().await?;
        let anvil = all.anvil.join_at(&all.node, &all.who, &json!({"name": "anvil"})).await?;
        let bench = all.bench.join_at(&all.node, &all.who, &json!({"name": "bench"})).await?;
        Ok((all, anvil, bench))
    }

    async fn terminal(&self) -> Result<Terminal<'_>> {
        let terminal = at(&self.home, &self.node);
        terminal.login().await?;
        Ok(terminal)
    }

    /// A command line that ends with `word` once [`Self::release`] was called for it.
    fn until_released(&self, word: &str) -> String {
        let file = self.home.path().join(word);
        format!("sh -c 'while [ ! -e {} ]; do sleep 0.02; done; echo {word}'", file.display())
    }

    fn release(&self, word: &str) -> Result<()> {
        Ok(fs::write(self.home.path().join(word), "")?)
    }

    /// `troupe run ..` that does not wait for the end; the Task.
    async fn begin(&self, me: &Terminal<'_>, line: &str, on: &[&str]) -> Result<String> {
        let run = [&["run", line, "--team", "sh", "--detach", "-o", "name"], on].concat();
        Ok(me.say(&run).await?.ok().trim().to_owned())
    }

    /// The name of the device that a Task was given to.
    async fn given_to(&self, task: &str) -> Result<String> {
        let mut place = Value::Null;
        let given = try_until(PATIENCE, async || {
            place = self.place(task).await.unwrap_or_default();
            place["name"].is_string()
        });
        ensure!(given.await, "{task}: {:?}", self.node.task(&self.who, task).await);
        Ok(place["name"].as_str().context("no name")?.to_owned())
    }

    async fn place(&self, task: &str) -> Result<Value> {
        let (_, turns) = self.node.turns(&self.who, task).await?;
        let rows = turns.last().and_then(|turn| turn["messages"].as_array()).context("no rows")?;
        let attempts = rows.last().and_then(|row| row["attempts"].as_array());
        Ok(attempts.and_then(|all| all.last()).context("no attempt")?["where"].clone())
    }

    /// Runs to its end there; the device.
    async fn done_on(&self, me: &Terminal<'_>, on: &[&str]) -> Result<String> {
        let task = self.begin(me, "sh -c 'echo done'", on).await?;
        self.node.settled(&self.who, &task, "COMPLETED").await?;
        self.given_to(&task).await
    }

    /// Waits until a Task waits like this; its `wait`, and what `troupe why` says.
    async fn waits(&self, me: &Terminal<'_>, task: &str, code: &str) -> Result<(Value, String)> {
        let mut view = Value::Null;
        let waits = try_until(PATIENCE, async || {
            view = self.node.task(&self.who, task).await.unwrap_or_default();
            view["wait"]["code"] == code
        });
        ensure!(waits.await, "{code} where {view} was told");
        ensure!(view["status"] == "PENDING", "{view}");
        Ok((view["wait"].clone(), me.say(&["why", task]).await?.ok()))
    }
}

/// A `claude` that says which version it is and nothing else.
fn say_a_version(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let bin = dir.join("claude-code/node_modules/.bin");
    fs::create_dir_all(&bin)?;
    let program = bin.join("claude");
    fs::write(&program, "#!/bin/sh\necho '999.1.0 (Claude Code)'\n")?;
    Ok(fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?)
}

/// The fields that `device describe` shows, one line each.
fn field<'a>(shown: &'a str, name: &str) -> Option<&'a str> {
    shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("  ")).map(str::trim)
}

#[tokio::test]
async fn a_person_sets_up_two_devices_at_a_terminal() -> Result<()> {
    let (all, anvil, _) = Workshop::open().await?;
    let me = all.terminal().await?;
    let id = anvil["id"].as_str().context("no id")?;

    // The last word about which one is preferred counts, and of labels all are said anew.
    me.say(&["device", "set", "bench", "--default"]).await?.ok();
    let set = ["device", "set", "anvil", "--alias", "heavy", "--slots", "2", "--label", "gpu=1"];
    let shown = me.say(&[&set[..], &["--label", "room=cellar", "--default"]].concat()).await?.ok();
    for (name, value) in [
        ("id", id),
        ("name", "anvil"),
        ("alias", "heavy"),
        ("status", "online"),
        ("draining", "false"),
        ("default", "true"),
        ("slots", "0 of 2 taken"),
        ("labels", "gpu=1, room=cellar"),
    ] {
        assert_eq!(field(&shown, name), Some(value), "{name} in {shown}");
    }
    for name in ["anvil", "heavy", id] {
        let again = me.say(&["device", "describe", name]).await?.ok();
        assert_eq!(field(&again, "id"), Some(id), "{name}: {again}");
    }
    let bench = me.say(&["device", "set", "bench", "--slots", "3"]).await?.ok();
    assert_eq!(field(&bench, "default"), Some("false"), "there is one at most: {bench}");
    me.say(&["device", "set", "heavy", "--label", "gpu=2"]).await?.ok();

    let table = me.say(&["device", "ls"]).await?.ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!(rows[1][..5], ["anvil", "(default)", "online", "0/2", "linux"], "{table}");
    assert_eq!(rows[2][..4], ["bench", "online", "0/3", "linux"], "{table}");
    assert!(!table.lines().nth(1).is_some_and(|row| row.contains("claude 999")), "{table}");
    assert!(table.lines().nth(2).is_some_and(|row| row.contains("claude 999.1.0")), "{table}");
    assert_eq!(me.say(&["device", "ls", "-o", "name"]).await?.ok(), "anvil\nbench\n");
    let listed = me.say(&["device", "ls", "-o", "json"]).await?.ok();
    let listed: Value = serde_json::from_str(&listed)?;
    assert_eq!(listed["total"], 2, "{listed}");
    let told = |one: &Value| json!([one["name"], one["alias"], one["slots"], one["is_default"]]);
    assert_eq!(told(&listed["items"][0]), json!(["anvil", "heavy", 2, true]));
    assert_eq!(told(&listed["items"][1]), json!(["bench", "", 3, false]));
    assert_eq!(listed["items"][0]["labels"], json!({"gpu": "2"}));
    refused(&me, id).await
}

/// What makes no sense is told with the name of its field, and nothing of it is done.
async fn refused(me: &Terminal<'_>, id: &str) -> Result<()> {
    let before = me.say(&["device", "describe", "anvil", "-o", "json"]).await?.ok();
    let long = "x".repeat(65);
    let (no_key, too_long) = (["--label", "=1"], format!("room={long}"));
    for (args, code, field, why) in [
        (&["--slots", "0"][..], 1, "slots", "1 to 20"),
        (&["--slots", "21"], 1, "slots", "1 to 20"),
        (&["--slots", "many"], 2, "--slots", "many"),
        (&["--label", "gpu"], 2, "--label", "`gpu` is not KEY=VALUE"),
        (&no_key, 2, "--label", "`=1` is not KEY=VALUE"),
        (&["--label", &too_long], 1, "labels", "1 to 64 characters"),
        (&["--alias", &long], 1, "alias", "at most 64 characters"),
        // Two devices that answer to one name: a command would run on either.
        (&["--alias", "bench"], 1, "alias", "`bench` is another"),
        // What means something else to `--on`.
        (&["--alias", "container"], 1, "alias", "any container"),
    ] {
        // With a good value beside the bad one.
        let set = [&["device", "set", "anvil", "--default", "--label", "a=b"], args].concat();
        let told = me.say(&set).await?.fails(code);
        ensure!(told.contains(field) && told.contains(why), "{args:?}: {told}");
    }
    let after = me.say(&["device", "describe", "anvil", "-o", "json"]).await?.ok();
    let settings = |text: &str| -> Result<Value> {
        let view: Value = serde_json::from_str(text)?;
        Ok(json!([view["alias"], view["slots"], view["labels"], view["is_default"]]))
    };
    assert_eq!(settings(&after)?, settings(&before)?, "nothing was changed");
    // A name is the whole of it.
    for unknown in ["hammer", "anv", &id[..id.len() - 1]] {
        for verb in [&["describe", unknown][..], &["set", unknown, "--slots", "2"]] {
            let told = me.say(&[&["device"], verb].concat()).await?.fails(3);
            assert!(told.contains("device"), "{told}");
        }
        me.say(&["device", "drain", unknown]).await?.fails(3);
        me.say(&["device", "revoke", unknown]).await?.fails(3);
    }
    assert_eq!(me.say(&["device", "ls", "-o", "name"]).await?.ok(), "anvil\nbench\n");
    Ok(())
}

#[tokio::test]
async fn a_task_goes_to_the_device_that_fits_best() -> Result<()> {
    let (all, anvil, bench) = Workshop::open().await?;
    let me = all.terminal().await?;
    me.say(&["device", "set", "anvil", "--slots", "2", "--label", "gpu=1"]).await?.ok();
    me.say(&["device", "set", "bench", "--slots", "1", "--default", "--alias", "b"]).await?.ok();

    // What is asked for comes before what is preferred.
    let id = anvil["id"].as_str().context("no id")?;
    for (on, device) in [
        ("label:gpu", "anvil"),
        ("gpu=1", "anvil"),
        ("anvil", "anvil"),
        (id, "anvil"),
        ("b", "b"),
        ("tool=claude>=999", "b"),
        ("os=linux", "b"),
        ("os=linux,label:gpu", "anvil"),
    ] {
        assert_eq!(all.done_on(&me, &["--on", on]).await?, device, "{on}");
    }
    let told = me.say(&["run", "x", "--team", "sh", "--on", "os=linux,,"]).await?.fails(1);
    assert!(told.contains("device_id") || told.contains("a term is empty"), "{told}");

    // Without a wish the preferred one; when that is full, the other.
    is_free(&all.node, &all.who, &bench).await?;
    let first = all.begin(&me, &all.until_released("first"), &[]).await?;
    assert_eq!(all.given_to(&first).await?, "b");
    let second = all.begin(&me, &all.until_released("second"), &[]).await?;
    assert_eq!(all.given_to(&second).await?, "anvil");
    for word in ["first", "second"] {
        all.release(word)?;
    }
    for (task, word) in [(&first, "first\n"), (&second, "second\n")] {
        all.node.settled(&all.who, task, "COMPLETED").await?;
        assert_eq!(last_answer(&all.node, &all.who, task).await?, word);
    }

    // One that drains gets nothing, though it is preferred and has room.
    is_free(&all.node, &all.who, &bench).await?;
    let drained = me.say(&["device", "drain", "b"]).await?.ok();
    assert_eq!(field(&drained, "draining"), Some("true"), "{drained}");
    let table = me.say(&["device", "ls"]).await?.ok();
    assert!(table.contains("online (draining)"), "{table}");
    assert_eq!(all.done_on(&me, &[]).await?, "anvil");
    let waiting = all.begin(&me, "sh -c 'echo after'", &["--on", "bench"]).await?;
    let (_, why) = all.waits(&me, &waiting, "devices_busy").await?;
    assert!(why.contains("draining") && why.contains("troupe device drain"), "{why}");
    let shown = me.say(&["device", "drain", "bench", "--undo"]).await?.ok();
    assert_eq!(field(&shown, "draining"), Some("false"), "{shown}");
    all.node.settled(&all.who, &waiting, "COMPLETED").await?;
    assert_eq!(all.given_to(&waiting).await?, "b");
    is_free(&all.node, &all.who, &bench).await?;
    assert_eq!(all.done_on(&me, &[]).await?, "b");
    Ok(())
}

/// Its owner's last word counts, also if the device did not hear it: it goes on as told when it is
/// back, without a new start.
#[tokio::test]
async fn a_drain_that_ends_while_the_device_is_away_has_ended() -> Result<()> {
    let (door, node) = Door::with(&[]).await?;
    let who = node.setup().await?;
    node.apply(&who, COMMANDS).await?;
    let nat = Nat::start(door.at()).await?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let invitation = json!({"name": "laptop", "address": nat.addr().to_string()});
    let device = machine.join_at(&node, &who, &invitation).await?;
    let me = at(&door.home, &node);
    me.login().await?;
    me.say(&["device", "drain", "laptop"]).await?.ok();
    let drains = async || {
        let status = machine.say(&["status"]).await.map(|(_, out, _)| out);
        status.is_ok_and(|status| status.contains("takes no new work"))
    };
    ensure!(try_until(PATIENCE, drains).await, "it was not told:\n{}", machine.log());
    nat.cut(true, true);
    until(&node, &who, &device, |view| view["status"] == "offline").await?;
    let shown = me.say(&["device", "drain", "laptop", "--undo"]).await?.ok();
    assert_eq!(field(&shown, "draining"), Some("false"), "{shown}");
    nat.cut(false, false);
    let task = node.run(&who, "sh", "sh -c 'echo again'").await?;
    node.settled(&who, &task, "COMPLETED").await?;
    ensure!(!drains().await, "{}", machine.log());
    // A change that is refused is refused as a whole.
    let path = format!("/api/v1/devices/{}", device["id"].as_str().context("no id")?);
    let change = json!({"draining": true, "slots": 21});
    let refused = node.call("PATCH", &path, Some(&who), Some(&change)).await?;
    assert_eq!((refused.status, &refused.body["errors"][0]["path"]), (422, &json!("slots")));
    let task = node.run(&who, "sh", "sh -c 'echo still'").await?;
    node.settled(&who, &task, "COMPLETED").await?;
    ensure!(!drains().await, "{}", machine.log());
    Ok(())
}

/// From no device at all to one that is free: each reason in its code and in words, and the Task
/// goes on by itself when it has passed.
#[tokio::test]
async fn a_task_says_why_it_waits_for_a_device() -> Result<()> {
    let mut all = Workshop::new().await?;
    let home = Home::new()?;
    let me = Terminal { home: &home, url: all.node.url.clone() };
    me.login().await?;
    let early = all.begin(&me, "sh -c 'echo early'", &[]).await?;
    let (wait, why) = all.waits(&me, &early, "no_device").await?;
    assert_eq!(wait["args"]["tool"], "command", "{wait}");
    assert!(why.starts_with("pending: waits: no device runs command\n"), "{why}");
    assert!(why.contains("you can: ") && why.contains("troupe device invite"), "{why}");
    let anvil = all.anvil.join_at(&all.node, &all.who, &json!({"name": "anvil"})).await?;
    all.node.settled(&all.who, &early, "COMPLETED").await?;
    assert_eq!(last_answer(&all.node, &all.who, &early).await?, "early\n");

    all.anvil.ask_to_stop().await?;
    assert_eq!(all.anvil.ended().await?, Some(0), "{}", all.anvil.log());
    until(&all.node, &all.who, &anvil, |view| view["status"] == "offline").await?;
    let offline = all.begin(&me, "sh -c 'echo back'", &[]).await?;
    let (_, why) = all.waits(&me, &offline, "no_device_online").await?;
    assert!(why.contains("none of your devices is connected"), "{why}");
    assert!(why.contains("you can: start troupe-edge"), "{why}");
    all.anvil.run()?;
    all.node.settled(&all.who, &offline, "COMPLETED").await?;

    let choosy = all.begin(&me, "sh -c 'echo fits'", &["--on", "label:gpu"]).await?;
    let (wait, why) = all.waits(&me, &choosy, "no_device_fits").await?;
    assert_eq!(wait["args"]["on"], "label:gpu", "{wait}");
    assert!(why.contains("no connected device that is `label:gpu` has command"), "{why}");
    assert!(why.contains("--on"), "{why}");
    me.say(&["device", "set", "anvil", "--label", "gpu=1", "--slots", "1"]).await?.ok();
    all.node.settled(&all.who, &choosy, "COMPLETED").await?;

    is_free(&all.node, &all.who, &anvil).await?;
    let long = all.begin(&me, &all.until_released("long"), &[]).await?;
    assert_eq!(all.given_to(&long).await?, "anvil");
    let next = all.begin(&me, "sh -c 'echo next'", &[]).await?;
    let (wait, why) = all.waits(&me, &next, "devices_busy").await?;
    assert_eq!(wait["args"]["devices"], "1", "{wait}");
    assert!(why.contains("every slot of the devices that fit is taken"), "{why}");
    assert!(why.contains("troupe device set NAME --slots N"), "{why}");
    declined(&mut all, &me, &next).await?;
    all.release("long")?;
    for (task, answer) in [(&long, "long\n"), (&next, "next\n")] {
        all.node.settled(&all.who, task, "COMPLETED").await?;
        assert_eq!(last_answer(&all.node, &all.who, task).await?, answer);
        assert_eq!(all.given_to(task).await?, "anvil");
    }
    Ok(())
}

/// Another device is free, and its own policy lets nobody's work in: the Task does not fail, since
/// the one that is busy might take it.
async fn declined(all: &mut Workshop, me: &Terminal<'_>, task: &str) -> Result<()> {
    let policy = "runtimes = [\"Command\"]\ncommands = [\"sh\"]\nteams = [\"acme/*\"]\n";
    all.bench.write(".config/troupe-edge/policy.toml", policy)?;
    all.bench.join_at(&all.node, &all.who, &json!({"name": "bench"})).await?;
    let (wait, why) = all.waits(me, task, "device_refused").await?;
    assert_eq!(
        (&wait["args"]["device"], &wait["args"]["reason"]),
        (&json!("bench"), &json!("policy"))
    );
    assert!(why.contains("bench does not take it: the policy of this device"), "{why}");
    assert!(why.contains("`teams`") && why.contains("troupe-edge policy check"), "{why}");
    // It is asked again, and answers again.
    let declined = || all.home.log().matches("a device declined").count();
    ensure!(
        try_until(PATIENCE, async || declined() >= 2).await,
        "it was asked {} times",
        declined()
    );
    let (wait, _) = all.waits(me, task, "device_refused").await?;
    assert_eq!(wait["args"]["reason"], "policy", "{wait}");
    Ok(())
}
