//! What a person says to an agent at a terminal, and what the user of a device says to its own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use troupe_store::{DirectoryTable, RowWrite};
use troupe_store_sqlite::{SqliteOptions, SqliteStore};
use troupe_testkit::{Answer, Rule, try_until};
use troupe_types::{Clock as _, SystemClock};

use super::{
    faults::Door,
    kit::{
        COMMANDS, Machine, asked, invite, is_free, last_answer, model, node, runtimes, team, until,
        which_colour,
    },
};
use crate::{
    cli::{Terminal, at},
    node::{Home, Node, PATIENCE, Person},
};

/// `deny` and `answer` reach the agent in the words of its person; whoever comes second is told so.
#[tokio::test]
async fn an_agent_is_denied_and_answered_once() -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let bash = Answer::tool("Bash", json!({"command": "touch a.txt", "description": "d"}));
    let fake = model(vec![
        Rule::any().human("the job").then(bash).then(Answer::text("As you say.")),
        Rule::any().human("a colour").then(which_colour()).then(Answer::text("So be it.")),
    ])
    .await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    node.apply(&who, &team("ClaudeCode", &fake.url())).await?;
    let mut machine = Machine::new(Some(&runtimes))?;
    machine.join(&node, &who).await?;
    let me = at(&home, &node);
    me.login().await?;

    let task = node.run(&who, "devs", "the job").await?;
    let block = asked(&node, &who, &task).await?;
    let block = block["id"].as_str().context("no id")?;
    let told = me.say(&["answer", &task, "yes"]).await?.fails(2);
    assert!(told.contains("waits for no question"), "{told}");
    me.say(&["deny", &task, "no-such-block"]).await?.fails(2);
    me.say(&["deny", &task, "--message", "Not in this directory"]).await?.ok();
    late(&me, &["approve", &task, block]).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    assert_eq!(machine.worked("a.txt"), None, "nobody allowed it");
    assert!(last_answer(&node, &who, &task).await?.ends_with("As you say."));
    let heard = fake.requests().pop().context("the model was not asked again")?.body.to_string();
    assert!(heard.contains("Not in this directory"), "{heard}");
    late(&me, &["approve", &task, block]).await?;
    let told = me.say(&["deny", &task]).await?.fails(2);
    assert!(told.contains("waits for no approval"), "{told}");

    let task = node.run(&who, "devs", "a colour").await?;
    let block = asked(&node, &who, &task).await?;
    let block = block["id"].as_str().context("no id")?;
    let told = me.say(&["deny", &task]).await?.fails(2);
    assert!(told.contains("waits for no approval"), "{told}");
    me.say(&["answer", &task, "Mauve, if there is any"]).await?.ok();
    late(&me, &["answer", &task, "Red", "--block", block]).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    let heard = fake.requests().pop().context("the model was not asked again")?.body.to_string();
    assert!(heard.contains("Mauve, if there is any"), "{heard}");
    assert!(last_answer(&node, &who, &task).await?.ends_with("So be it."));
    Ok(())
}

/// It is a conflict, and says that somebody was first.
async fn late(me: &Terminal<'_>, words: &[&str]) -> Result<()> {
    let told = me.say(words).await?.fails(5);
    // Once the agent has gone on, nobody remembers who ended it.
    let known = ["answered already", "nobody waits for this answer any more"];
    ensure!(known.iter().any(|text| told.contains(text)), "{words:?}: {told}");
    Ok(())
}

/// A node with one device that has done a job, and its agent's user.
async fn worked_once(home: &Home, machine: &mut Machine) -> Result<(Node, Person, Value)> {
    let node = node(home).await?;
    let who = node.setup().await?;
    node.apply(&who, COMMANDS).await?;
    machine.allow_sh()?;
    let device = machine.join_at(&node, &who, &json!({"name": "laptop"})).await?;
    let task = node.run(&who, "sh", "sh -c 'echo done > kept.txt'").await?;
    node.settled(&who, &task, "COMPLETED").await?;
    is_free(&node, &who, &device).await?;
    Ok((node, who, device))
}

/// What is in a directory, by name.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_device_leaves_and_joins_as_another() -> Result<()> {
    let (home, mut machine) = (Home::new()?, Machine::new(None)?);
    let (node, who, device) = worked_once(&home, &mut machine).await?;
    let me = at(&home, &node);
    me.login().await?;
    let (code, out, err) = machine.say(&["leave"]).await?;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("stop the agent first"), "{err}");
    machine.ask_to_stop().await?;
    assert_eq!(machine.ended().await?, Some(0), "{}", machine.log());

    let (code, out, err) = machine.say(&["leave"]).await?;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("troupe device revoke laptop"), "{out}");
    let dir = machine.dir();
    assert!(out.contains(&format!("are kept in {}", dir.display())), "{out}");
    assert_eq!(names(&dir.join("identity")), Vec::<String>::new(), "no key is left");
    assert_eq!(machine.worked("kept.txt").as_deref(), Some("done\n"));
    assert!(dir.join("edge.toml").exists() && !dir.join("links.json").exists());
    for verb in ["run", "status", "leave"] {
        let (code, out, err) = machine.say(&[verb]).await?;
        assert_eq!(code, Some(3), "{verb}: {out}{err}");
    }
    // The cluster is not told: its owner takes it out there.
    until(&node, &who, &device, |view| view["status"] == "offline").await?;
    me.say(&["device", "revoke", "laptop"]).await?.ok();
    me.say(&["device", "describe", "laptop"]).await?.fails(3);
    assert_eq!(me.say(&["device", "ls", "-o", "name"]).await?.ok(), "");

    // Another one on the same machine, which has no past.
    let next = machine.join_at(&node, &who, &json!({"name": "laptop"})).await?;
    assert_ne!(next["id"], device["id"]);
    let next = until(&node, &who, &next, |view| view["status"] == "online").await?;
    assert_eq!(next["links"].as_array().map(Vec::len), Some(1), "one link: {next}");
    let task = node.run(&who, "sh", "sh -c 'echo again'").await?;
    node.settled(&who, &task, "COMPLETED").await?;
    is_free(&node, &who, &next).await?;
    machine.ask_to_stop().await?;
    assert_eq!(machine.ended().await?, Some(0), "{}", machine.log());

    // Killed while it wrote that it was linked.
    fs::write(dir.join("links.new"), "[")?;
    let (code, out, err) = machine.say(&["leave", "--purge", "-o", "json"]).await?;
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(serde_json::from_str::<Value>(&out)?["device"], next["id"], "{out}");
    assert_eq!(machine.worked("kept.txt"), None);
    assert_eq!(names(&dir), ["identity", "lock"], "what holds nothing");
    assert_eq!(names(&dir.join("identity")), Vec::<String>::new());
    let (code, out, _) = machine.say(&["policy", "check"]).await?;
    assert!(code == Some(0) && out.contains("sh"), "the policy is its user's: {out}");
    Ok(())
}

/// A `systemctl` that notes what it is told, and what it says of that.
struct Systemctl(TempDir);

impl Systemctl {
    fn new(then: &str) -> Result<Self> {
        let dir = TempDir::new()?;
        let program = dir.path().join("systemctl");
        let noted = dir.path().join("noted");
        let script = format!("#!/bin/sh\necho \"$@\" >> '{}'\n{then}\n", noted.display());
        fs::write(&program, script)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
        Ok(Self(dir))
    }

    /// A command of the agent that finds this one; as [`Machine::say`].
    async fn beside(&self, machine: &Machine, args: &[&str]) -> Result<(Option<i32>, String)> {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        let output = machine.command().env("PATH", path).args(args).output();
        let output = tokio::time::timeout(PATIENCE, output).await.context("it does not end")??;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    }

    fn noted(&self) -> String {
        fs::read_to_string(self.0.path().join("noted")).unwrap_or_default()
    }
}

#[tokio::test]
async fn the_service_of_a_device_is_a_unit_that_systemd_reads() -> Result<()> {
    let (home, mut machine) = (Home::new()?, Machine::new(None)?);
    let good = Systemctl::new("exit 0")?;
    let (code, said) = good.beside(&machine, &["service", "install"]).await?;
    assert_eq!(code, Some(3), "it has not joined: {said}");
    let unit = machine.home().join(".config/systemd/user/troupe-edge.service");
    assert!(!unit.exists() && good.noted().is_empty(), "{}", good.noted());
    worked_once(&home, &mut machine).await?;

    let (code, said) = good.beside(&machine, &["service", "install"]).await?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("troupe-edge.service") && said.contains("enable-linger"), "{said}");
    assert_eq!(good.noted(), "--user daemon-reload\n--user enable --now troupe-edge.service\n");
    let text = fs::read_to_string(&unit)?;
    let edge = Path::new(env!("CARGO_BIN_EXE_troupe")).with_file_name("troupe-edge");
    let (edge, dir) = (edge.display(), machine.dir());
    let policy = machine.home().join(".config/troupe-edge/policy.toml");
    let line = format!(
        "ExecStart=\"{edge}\" run --dir \"{}\" --policy \"{}\"",
        dir.display(),
        policy.display()
    );
    for line in [&*line, "Restart=on-failure", "RestartPreventExitStatus=2 3 4", "KillMode=mixed"] {
        assert!(text.lines().any(|one| one == line), "{line} in {text}");
    }
    assert_eq!(good.beside(&machine, &["service", "show"]).await?, (Some(0), text.clone()));
    verified(&unit).await?;

    // Written anew, and not begun; what systemd would read as something else is taken as it is.
    let odd = dir.with_file_name("two  words $HOME 100% \"so\" \\n");
    fs::rename(&dir, &odd)?;
    let odd = odd.to_str().context("no text")?;
    let (code, said) =
        good.beside(&machine, &["service", "install", "--no-start", "--dir", odd]).await?;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(good.noted().lines().count(), 2, "it is not begun: {}", good.noted());
    let text = fs::read_to_string(&unit)?;
    let word = "/two  words $$HOME 100%% \\\"so\\\" \\\\n\" --policy ";
    assert!(text.contains(word), "{text}");
    verified(&unit).await?;

    let (code, said) = good.beside(&machine, &["service", "uninstall"]).await?;
    assert_eq!(code, Some(0), "{said}");
    assert!(!unit.exists() && good.noted().ends_with("--user disable --now troupe-edge.service\n"));
    let bad = Systemctl::new("echo 'Failed to connect to bus' >&2; exit 1")?;
    let (code, said) = bad.beside(&machine, &["service", "install", "--dir", odd]).await?;
    assert_eq!(code, Some(1), "{said}");
    let told = "systemctl --user daemon-reload: Failed to connect to bus";
    assert!(said.contains(told), "{said}");
    Ok(())
}

/// systemd has nothing to say about it.
async fn verified(unit: &Path) -> Result<()> {
    let run = TempDir::new()?;
    let mut command = Command::new("systemd-analyze");
    command.args(["--user", "--man=no", "verify"]).arg(unit);
    command.env("XDG_RUNTIME_DIR", run.path()).env("HOME", run.path());
    let Ok(output) = command.output().await else {
        println!("skipped: there is no systemd-analyze");
        return Ok(());
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // About other units of this machine it may have.
    let of_it = said.lines().any(|line| line.contains("troupe-edge"));
    ensure!(output.status.success() && !of_it, "{said}");
    Ok(())
}

/// The time of every invitation is over from now on. The store has to be nobody's.
async fn end_invitations(data: &Path) -> Result<usize> {
    let store = SqliteStore::open(data, &SqliteOptions::default())?;
    let directory = store.stores().directory;
    let now = serde_json::to_value(SystemClock::new().now())?;
    let mut ended = 0;
    for row in directory.list(DirectoryTable::OneUse, None, None, 100).await? {
        if row.key.starts_with(b"device-invite/") {
            let mut body: Value = serde_json::from_slice(&row.body)?;
            body["expires_at"] = now.clone();
            directory.compare_and_set(RowWrite::update(&row, body.to_string())).await?;
            ended += 1;
        }
    }
    tokio::task::spawn_blocking(move || store.close()).await?;
    Ok(ended)
}

#[tokio::test]
async fn an_invitation_that_has_ended_lets_nobody_in() -> Result<()> {
    let (door, node) = Door::with(&[]).await?;
    let who = node.setup().await?;
    let invited = invite(&node, &who, &json!({"name": "laptop"})).await?;
    let line = invited["url"].as_str().context("no line")?;
    assert_eq!(node.terminate().await?, Some(0), "{}", door.home.log());
    assert_eq!(end_invitations(&door.home.data()).await?, 1);
    let node = door.again().await?;
    let machine = Machine::new(None)?;
    let (code, out, err) = machine.say(&["join", "--no-run", line]).await?;
    assert_eq!(code, Some(4), "{out}{err}");
    assert!(err.contains("the invitation has ended"), "{err}");
    assert!(err.contains("troupe device invite"), "{err}");
    assert_eq!(names(&machine.dir().join("identity")), Vec::<String>::new());
    assert_eq!(node.get("/api/v1/devices", &who).await?["total"], 0);
    let me = at(&door.home, &node);
    me.login().await?;
    let mut audit = String::new();
    let recorded = |row: &str| {
        ["127.0.0.1", "join_device", "invitation_expired"].iter().all(|word| row.contains(word))
    };
    let there = try_until(PATIENCE, async || {
        audit = me.say(&["admin", "audit"]).await.map_or_else(|_| String::new(), |told| told.out);
        audit.lines().filter(|row| recorded(row)).count() == 1
    });
    ensure!(there.await, "{audit}");
    // Another one, made now, is good.
    let fresh = invite(&node, &who, &json!({"name": "laptop"})).await?;
    let line = fresh["url"].as_str().context("no line")?;
    let (code, out, err) = machine.say(&["join", "--no-run", line]).await?;
    assert_eq!(code, Some(0), "{out}{err}");
    Ok(())
}
