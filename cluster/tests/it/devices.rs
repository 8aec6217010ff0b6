//! The machine of a node as a device: a command runs on it, is stopped, and is nobody else's.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use troupe_testkit::try_until;

use crate::{
    cli::at,
    node::{Home, Node, NodeOptions, PATIENCE, Person},
};

/// A Team whose only member runs commands.
const TEAM: &str = "kind: Shell\nmetadata: {name: Command}\nspec: {shellType: Command}\n---\n\
    kind: Ghost\nmetadata: {name: shell}\nspec: {systemPrompt: none}\n---\n\
    kind: Bot\nmetadata: {name: shell}\nspec:\n  ghostRef: {name: shell}\n  shellRef: {name: Command}\n---\n\
    kind: Team\nmetadata: {name: shell}\nspec:\n  collaborationModel: solo\n  members:\n    \
    - {botRef: {name: shell}}\n";

async fn node(home: &Home) -> Result<(Node, Person, Value)> {
    let options = NodeOptions::default().env("TROUPE__DEVICE__COMMANDS__SH", "/bin/sh");
    let node = Node::start_with(home, &options).await?;
    let admin = node.setup().await?;
    let mut device = Value::Null;
    let online = try_until(PATIENCE, async || {
        let page = node.get("/api/v1/devices", &admin).await.unwrap_or_default();
        device = page["items"][0].clone();
        device["status"] == "online"
    });
    assert!(online.await, "the machine is no device: {device}");
    node.apply(&admin, TEAM).await?;
    Ok((node, admin, device))
}

async fn begin(node: &Node, who: &Person, message: &str) -> Result<String> {
    begin_on(node, who, message, None).await
}

async fn begin_on(node: &Node, who: &Person, message: &str, on: Option<&str>) -> Result<String> {
    let body = json!({"team_id": "shell", "message": message, "device_id": on});
    let ack = node.post("/api/v1/tasks", Some(who), &body).await?;
    Ok(ack["task_id"].as_str().context("no task")?.to_owned())
}

#[tokio::test]
async fn a_command_runs_on_the_machine_and_its_output_is_the_answer() -> Result<()> {
    let home = Home::new()?;
    let (node, admin, device) = node(&home).await?;
    let tools = device["tools"].as_array().cloned().unwrap_or_default();
    assert!(tools.iter().any(|tool| tool["name"] == "command"), "{device}");
    let task = begin(&node, &admin, "sh -c 'for n in 1 2 3; do echo line-$n; done'").await?;
    node.settled(&admin, &task, "COMPLETED").await?;
    let frames = node.get(&format!("/api/v1/tasks/{task}/frames?after=0"), &admin).await?;
    let text = frames.to_string();
    for line in ["line-1", "line-2", "line-3"] {
        assert!(text.contains(line), "{line} is missing: {text}");
    }
    let id = device["id"].as_str().context("no id")?;
    assert!(text.contains(id), "its start says where it ran: {text}");
    assert_eq!(node.terminate().await?, Some(0));
    Ok(())
}

/// `troupe exec`: the public Team, the very words, the program's own exit code.
#[tokio::test]
async fn a_command_is_run_from_the_terminal() -> Result<()> {
    let home = Home::new()?;
    let (node, _, device) = node(&home).await?;
    let terminal = at(&home, &node);
    terminal.login().await?;
    let name = device["name"].as_str().context("no name")?;
    let words = ["it's", "$HOME", "a  b", "#c", "", "é\"\\"];
    let exec = ["exec", name, "--", "sh", "-c", "printf '<%s>' \"$@\"", "sh"];
    let told = terminal.say(&[&exec[..], &words[..]].concat()).await?.ok();
    let wanted: String = words.iter().map(|word| format!("<{word}>")).collect();
    assert_eq!(told.trim_end(), wanted);
    terminal.say(&["exec", name, "--", "sh", "-c", "echo out; exit 3"]).await?.fails(3);
    terminal.say(&["exec", "nowhere", "--detach", "--", "sh"]).await?.ok();
    terminal.say(&["exec", name]).await?.fails(2);
    Ok(())
}

#[tokio::test]
async fn a_cancel_leaves_no_process_and_gives_the_slot_back() -> Result<()> {
    let home = Home::new()?;
    let (node, admin, device) = node(&home).await?;
    let mark = home.path().join("running");
    let message = format!("sh -c 'echo $$ > {}; sleep 600'", mark.display());
    let task = begin(&node, &admin, &message).await?;
    let mut pid = String::new();
    let started = try_until(PATIENCE, async || {
        pid = std::fs::read_to_string(&mark).unwrap_or_default().trim().to_owned();
        !pid.is_empty()
    });
    assert!(started.await, "it did not start");
    let path = format!("/api/v1/tasks/{task}/cancel");
    node.call("POST", &path, Some(&admin), Some(&json!({}))).await?;
    node.settled(&admin, &task, "CANCELLED").await?;
    let proc = format!("/proc/{pid}");
    let gone = try_until(PATIENCE, async || !std::path::Path::new(&proc).exists()).await;
    assert!(gone, "process {pid} is still there");
    let path = format!("/api/v1/devices/{}", device["id"].as_str().context("no id")?);
    let free = try_until(PATIENCE, async || {
        node.get(&path, &admin).await.is_ok_and(|view| view["slots_used"] == 0)
    });
    assert!(free.await, "the slot was not given back");
    Ok(())
}

/// A job that no link can carry ends at once and says why, and the device is as it was.
#[tokio::test]
async fn a_job_that_is_too_large_fails_with_its_reason() -> Result<()> {
    let home = Home::new()?;
    let (node, admin, _) = node(&home).await?;
    let failed = async |task: &str, kind: &str, words: &str| {
        let (state, rows) = node.turns(&admin, task).await?;
        let told = format!("{rows:?}");
        assert!(told.contains(kind) && told.contains(words), "{state:?}: {told}");
        anyhow::Ok(())
    };
    let ghost = |rest: &str| format!("kind: Ghost\nmetadata: {{name: shell}}\nspec: {{{rest}}}\n");
    // A line break takes three bytes in a text within a text.
    let prompt = json!("x\n".repeat(45_000));
    node.apply(&admin, &ghost(&format!("systemPrompt: {prompt}"))).await?;
    let task = begin(&node, &admin, &format!("sh -c ':' {}", "x".repeat(59_000))).await?;
    node.settled(&admin, &task, "FAILED").await?;
    failed(&task, "payload_too_large", "KiB of instructions, Skills and history, 224 are allowed")
        .await?;

    let server = |n: usize| {
        let headers = (0..5).map(|h| format!("X-Token-{h}: secret-{n}-{h}"));
        let headers = headers.collect::<Vec<_>>().join(", ");
        format!("s{n}: {{url: \"http://127.0.0.1:9/{n}\", headers: {{{headers}}}}}")
    };
    let servers = (0..13).map(server).collect::<Vec<_>>().join(", ");
    node.apply(&admin, &ghost(&format!("systemPrompt: none, mcpServers: {{{servers}}}"))).await?;
    let task = begin(&node, &admin, "sh -c ':'").await?;
    node.settled(&admin, &task, "FAILED").await?;
    failed(&task, "invalid_parameter", "its members have 65 keys and tokens, 64 are allowed")
        .await?;

    node.apply(&admin, TEAM).await?;
    let task = begin(&node, &admin, "sh -c ':'").await?;
    node.settled(&admin, &task, "COMPLETED").await?;
    Ok(())
}

/// The machine has room for both; the Team has one slot.
#[tokio::test]
async fn runs_on_devices_count_for_their_teams_slots() -> Result<()> {
    let home = Home::new()?;
    let (node, admin, device) = node(&home).await?;
    assert!(device["slots"].as_u64().is_some_and(|slots| slots >= 2), "{device}");
    node.apply(&admin, &TEAM.replace("Model: solo", "Model: solo\n  maxConcurrentTasks: 1"))
        .await?;
    let go = home.path().join("go");
    let message = format!("sh -c 'until [ -e {} ]; do sleep 0.05; done; echo went'", go.display());
    let first = begin(&node, &admin, &message).await?;
    let path = format!("/api/v1/devices/{}", device["id"].as_str().context("no id")?);
    let runs = try_until(PATIENCE, async || {
        node.get(&path, &admin).await.is_ok_and(|view| view["slots_used"] == 1)
    });
    assert!(runs.await, "the first does not run");
    let second = begin(&node, &admin, &message).await?;
    let mut why = Value::Null;
    let waits = try_until(PATIENCE, async || {
        why = node.get(&format!("/api/v1/tasks/{second}/why"), &admin).await.unwrap_or_default();
        why["summary"].as_str().is_some_and(|text| text.contains("a slot of team shell, place 1"))
    });
    assert!(waits.await, "{why}");
    assert_eq!(node.get(&path, &admin).await?["slots_used"], 1);
    std::fs::write(&go, "")?;
    for task in [first, second] {
        node.settled(&admin, &task, "COMPLETED").await?;
    }
    Ok(())
}

/// One slot and a line: the oldest goes first, whoever asks first, and a newcomer is the last.
#[tokio::test]
async fn who_waits_longest_has_the_next_slot() -> Result<()> {
    let home = Home::new()?;
    let (node, admin, device) = node(&home).await?;
    let path = format!("/api/v1/devices/{}", device["id"].as_str().context("no id")?);
    node.call("PATCH", &path, Some(&admin), Some(&json!({"slots": 1}))).await?;
    let (go, order) = (home.path().join("go"), home.path().join("order"));
    let hold = format!("sh -c 'until [ -e {} ]; do sleep 0.05; done; echo went'", go.display());
    let holds = begin(&node, &admin, &hold).await?;
    let runs = try_until(PATIENCE, async || {
        node.get(&path, &admin).await.is_ok_and(|view| view["slots_used"] == 1)
    });
    assert!(runs.await, "the first does not run");

    let writes = |name: &str| format!("sh -c 'echo {name} >> {}'", order.display());
    let mut tasks = vec![holds];
    for (name, place) in [("a", "it is the next"), ("b", "1 before it"), ("c", "2 before it")] {
        let task = begin(&node, &admin, &writes(name)).await?;
        stands(&node, &admin, &task, place).await?;
        tasks.push(task);
    }
    assert_eq!(node.get(&path, &admin).await?["queued"], 3);
    // One in the middle goes, and those behind it move up.
    let gone = tasks.remove(2);
    let cancel = format!("/api/v1/tasks/{gone}/cancel");
    node.call("POST", &cancel, Some(&admin), Some(&json!({}))).await?;
    stands(&node, &admin, &tasks[2], "1 before it").await?;
    std::fs::write(&go, "")?;
    tasks.push(begin(&node, &admin, &writes("d")).await?);
    for task in tasks {
        node.settled(&admin, &task, "COMPLETED").await?;
    }
    assert_eq!(std::fs::read_to_string(&order)?, "a\nc\nd\n");
    Ok(())
}

async fn stands(node: &Node, who: &Person, task: &str, place: &str) -> Result<()> {
    let mut why = Value::Null;
    let stands = try_until(PATIENCE, async || {
        why = node.get(&format!("/api/v1/tasks/{task}/why"), who).await.unwrap_or_default();
        why["summary"].as_str().is_some_and(|text| text.ends_with(place))
    });
    assert!(stands.await, "{place}: {why}");
    Ok(())
}

/// Who waits for a container that nobody makes keeps nobody from the Team's only slot.
#[tokio::test]
async fn waiting_for_a_container_holds_no_slot() -> Result<()> {
    let home = Home::new()?;
    let (node, admin, _) = node(&home).await?;
    node.apply(&admin, &TEAM.replace("Model: solo", "Model: solo\n  maxConcurrentTasks: 1"))
        .await?;
    let waits = begin_on(&node, &admin, "sh -c 'echo went'", Some("container")).await?;
    let mut why = Value::Null;
    let told = try_until(PATIENCE, async || {
        why = node.get(&format!("/api/v1/tasks/{waits}/why"), &admin).await.unwrap_or_default();
        why["summary"] == "waits: no node runs containers"
    });
    assert!(told.await, "{why}");
    let runs = begin(&node, &admin, "sh -c 'echo went'").await?;
    node.settled(&admin, &runs, "COMPLETED").await?;
    assert_eq!(node.get(&format!("/api/v1/tasks/{waits}"), &admin).await?["status"], "PENDING");
    Ok(())
}

#[tokio::test]
async fn devices_of_somebody_else_are_not_there() -> Result<()> {
    let home = Home::new()?;
    let (node, admin, device) = node(&home).await?;
    let bob = node.user(&admin, "bob").await?;
    let page = node.get("/api/v1/devices", &bob).await?;
    assert_eq!(page["total"], 0, "{page}");
    let id = device["id"].as_str().context("no id")?;
    for method in ["GET", "DELETE"] {
        let theirs = node.call(method, &format!("/api/v1/devices/{id}"), Some(&bob), None).await?;
        let nothing = node.call(method, "/api/v1/devices/nothing", Some(&bob), None).await?;
        assert_eq!(theirs.status, 404, "{}", theirs.text);
        assert_eq!(theirs.body["detail"], nothing.body["detail"]);
    }
    node.apply(&bob, TEAM).await?;
    let task = begin(&node, &bob, "sh -c 'echo never'").await?;
    let waits = try_until(PATIENCE, async || {
        let why = node.get(&format!("/api/v1/tasks/{task}/why"), &bob).await.unwrap_or_default();
        why["summary"].as_str().is_some_and(|text| text.contains("no device runs"))
    });
    assert!(waits.await, "it does not say why it waits");
    Ok(())
}
