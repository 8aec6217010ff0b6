//! What a container holds in: hogs, bombs, fillers, those that do not listen; and its queue.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use troupe_testkit::try_until;

use super::{
    docker::{Engine, contained, only},
    kit::{COMMANDS, COUNT, counted, last_answer, retry},
};
use crate::node::{Home, Node, PATIENCE, Person};

/// A node whose pool makes small containers, and a Team whose messages are command lines.
async fn small(engine: &mut Engine, home: &Home, more: &[(&str, &str)]) -> Result<(Node, Person)> {
    let mut options = engine
        .options()
        .env("TROUPE__CONTAINERS__MEMORY_MIB", 256)
        .env("TROUPE__CONTAINERS__WORKSPACE_MIB", 32)
        .env("TROUPE__CONTAINERS__PIDS", 64);
    for (name, value) in more {
        options = options.env(name, value);
    }
    let node = Node::start_with(home, &options).await?;
    let who = node.setup().await?;
    engine.opened(home).await?;
    node.apply(&who, &contained(COMMANDS)).await?;
    Ok((node, who))
}

/// A further message of a Task.
async fn more(node: &Node, who: &Person, task: &str, message: &str) -> Result<()> {
    let body = json!({"message": message, "client_message_id": troupe_types::Uuid::new_v4()});
    node.post(&format!("/api/v1/tasks/{task}/messages"), Some(who), &body).await?;
    Ok(())
}

/// Waits for the end of a Task's turn, counted from 1; its answer.
async fn ended(node: &Node, who: &Person, task: &str, turn: usize) -> Result<Value> {
    let mut answer = Value::Null;
    let is_over = try_until(PATIENCE, async || {
        let Ok((_, turns)) = node.turns(who, task).await else { return false };
        let last = turns.get(turn - 1).and_then(|turn| turn["messages"].as_array()?.last());
        answer = last.cloned().unwrap_or_default();
        matches!(answer["status"].as_str(), Some("FAILED" | "COMPLETED" | "CANCELLED"))
            && answer["role"] == "ASSISTANT"
    });
    ensure!(is_over.await, "turn {turn} does not end: {answer}");
    Ok(answer)
}

/// How an answer failed: kind and text.
fn failure(message: &Value) -> Result<(String, String)> {
    ensure!(message["status"] == "FAILED", "{message}");
    let error = message["attempts"].as_array().and_then(|a| a.last()).map(|a| a["error"].clone());
    let error = error.with_context(|| message.to_string())?;
    let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
    Ok((text("type"), text("error")))
}

#[tokio::test]
async fn what_takes_too_much_is_held_in_and_told() -> Result<()> {
    let Some(mut engine) = Engine::new()? else { return Ok(()) };
    let home = Home::new()?;
    let (node, who) = small(&mut engine, &home, &[]).await?;

    let hog = "python3 -c 'x = bytearray(b\"x\") * (700 << 20)'";
    let task = node.run(&who, "sh", hog).await?;
    let (kind, text) = failure(&ended(&node, &who, &task, 1).await?)?;
    assert_eq!(kind, "container_oom", "{text}");
    assert!(text.contains("memory"), "{text}");
    let device = only(&node, &who).await?;
    let name = device["name"].as_str().context("no name")?.to_owned();

    more(&node, &who, &task, "sh -c 'b() { b | b & }; b; b; b; wait; sleep 2; echo x | cat'")
        .await?;
    ended(&node, &who, &task, 2).await?;
    let said = last_answer(&node, &who, &task).await?;
    assert!(said.contains("fork"), "it is told: {said}");
    let calm = try_until(PATIENCE, async || {
        let top = engine.say(&["top", &name, "-eo", "pid,args"]).unwrap_or_default();
        top.lines().count() > 1 && !top.contains("b | b")
    });
    ensure!(calm.await, "something is left: {:?}", engine.say(&["top", &name]));

    more(&node, &who, &task, "sh -c 'dd if=/dev/zero of=big bs=1M count=100'").await?;
    let (_, text) = failure(&ended(&node, &who, &task, 3).await?)?;
    assert!(text.contains("exit code 1"), "{text}");
    let said = last_answer(&node, &who, &task).await?;
    assert!(said.contains("No space left on device"), "{said}");
    // It works on, in the same container.
    more(&node, &who, &task, "sh -c 'ls big; rm big; echo room again'").await?;
    let answer = ended(&node, &who, &task, 4).await?;
    assert_eq!(answer["content"], json!("big\nroom again\n"), "{answer}");
    assert_eq!(only(&node, &who).await?["name"], json!(name));
    Ok(())
}

/// A cancel reaches what does not listen; a container that is killed is told, and a retry has a new
/// one.
#[tokio::test]
async fn what_does_not_listen_ends_and_what_dies_is_told() -> Result<()> {
    let Some(mut engine) = Engine::new()? else { return Ok(()) };
    let home = Home::new()?;
    let (node, who) = small(&mut engine, &home, &[]).await?;
    let deaf = "sh -c 'trap \"\" TERM INT HUP; while :; do sleep 0.1; done'";
    let task = node.run(&who, "sh", deaf).await?;
    let name = only(&node, &who).await?["name"].as_str().context("no name")?.to_owned();
    let runs = || engine.say(&["top", &name, "-eo", "pid,args"]).is_ok_and(|t| t.contains("trap"));
    ensure!(try_until(PATIENCE, async || runs()).await, "it does not run");
    node.post(&format!("/api/v1/tasks/{task}/cancel"), Some(&who), &json!({})).await?;
    node.settled(&who, &task, "CANCELLED").await?;
    ensure!(try_until(PATIENCE, async || !runs()).await, "it still runs");

    more(&node, &who, &task, COUNT).await?;
    let counts = |name: &str| engine.counted_to(name) > 5;
    ensure!(try_until(PATIENCE, async || counts(&name)).await, "it does not count");
    engine.say(&["kill", &name])?;
    let (kind, text) = failure(&ended(&node, &who, &task, 2).await?)?;
    assert_eq!(kind, "container_error", "{text}");
    assert!(text.contains("exit code 137"), "{text}");
    retry(&node, &who, &task).await?;
    let mut other = Value::Null;
    let again = try_until(PATIENCE, async || {
        other = only(&node, &who).await.unwrap_or_default();
        other["name"].as_str().is_some_and(|other| other != name && counts(other))
    });
    ensure!(again.await, "no new container: {other}");
    let other = other["name"].as_str().context("no name")?;
    engine.let_go(other).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    counted(&last_answer(&node, &who, &task).await?)?;
    assert!(!engine.containers()?.contains(&name), "the dead one is removed");
    Ok(())
}

/// One container at once: the second Task waits and says why, and has it once the first idles and is
/// not kept any more. An image that nobody allowed is refused by name.
#[tokio::test]
async fn tasks_queue_for_containers() -> Result<()> {
    let Some(mut engine) = Engine::new()? else { return Ok(()) };
    let home = Home::new()?;
    let (node, who) = small(&mut engine, &home, &[("TROUPE__CONTAINERS__MAX", "1")]).await?;
    // Its container would stay for ever.
    let kept = json!({"team_id": "sh", "message": COUNT, "preserve_executor": true});
    let first = node.post("/api/v1/tasks", Some(&who), &kept).await?;
    let first = first["task_id"].as_str().context("no task")?.to_owned();
    let name = only(&node, &who).await?["name"].as_str().context("no name")?.to_owned();
    let second = node.run(&who, "sh", "sh -c 'echo mine'").await?;
    let mut view = Value::Null;
    let waits = try_until(PATIENCE, async || {
        view = node.get(&format!("/api/v1/tasks/{second}"), &who).await.unwrap_or_default();
        view["wait"]["code"] == "container_queued"
    });
    ensure!(waits.await, "it does not wait: {view}");
    assert_eq!(view["wait"]["args"]["max"], "1");
    let why = node.get(&format!("/api/v1/tasks/{second}/why"), &who).await?.to_string();
    assert!(why.contains("waits for a container") && why.contains("1 of 1"), "{why}");
    engine.let_go(&name).await?;
    node.settled(&who, &first, "COMPLETED").await?;
    let labels = json!({"labels": {"preserveExecutor": "false"}});
    let path = format!("/api/v1/tasks/{first}");
    let view = node.get(&path, &who).await?;
    assert_eq!(view["labels"]["preserveExecutor"], "true");
    let changed = node.call("PATCH", &path, Some(&who), Some(&labels)).await?;
    ensure!(changed.status == 200, "{}", changed.text);
    node.settled(&who, &second, "COMPLETED").await?;
    assert_eq!(last_answer(&node, &who, &second).await?, "mine\n");

    let shell =
        "kind: Shell\nmetadata: {name: sh}\nspec: {shellType: Command, baseImage: \"no:1\"}\n";
    node.apply(&who, shell).await?;
    let task = node.run(&who, "sh", "sh -c 'echo x'").await?;
    let (kind, text) = failure(&ended(&node, &who, &task, 1).await?)?;
    assert_eq!(kind, "container_error");
    assert!(text.contains("no:1") && text.contains("containers.images"), "{text}");
    Ok(())
}

/// A network of its own beyond this machine, with something that listens in it.
struct Beyond {
    name: String,
    address: String,
    server: Option<tokio::process::Child>,
}

impl Beyond {
    /// `None`: there is no right to make one.
    async fn new() -> Result<Option<Self>> {
        let n = std::process::id() % 12_500;
        let (name, net) = (format!("tro{n}"), format!("10.{}.{}", 200 + n / 250, n % 250));
        let address = format!("{net}.2");
        let script = format!(
            "ip netns add {name} && ip link add {name}a type veth peer name {name}b netns {name} \
             && ip addr add {net}.1/30 dev {name}a && ip link set {name}a up \
             && ip -n {name} addr add {address}/30 dev {name}b && ip -n {name} link set {name}b up \
             && ip -n {name} route add default via {net}.1"
        );
        let made = tokio::process::Command::new("sh").args(["-c", &script]).output().await?;
        let mut beyond = Self { name, address, server: None };
        if !made.status.success() {
            assert!(std::env::var_os("CI").is_none(), "{made:?}");
            println!("skipped: no right to make a network: {made:?}");
            return Ok(None);
        }
        let mut server = tokio::process::Command::new("ip");
        server.args(["netns", "exec", &beyond.name, "python3", "-m", "http.server", "8000"]);
        server.kill_on_drop(true).stdout(std::process::Stdio::null());
        beyond.server = Some(server.stderr(std::process::Stdio::null()).spawn()?);
        let reached = try_until(PATIENCE, async || {
            tokio::net::TcpStream::connect((beyond.address.as_str(), 8_000)).await.is_ok()
        });
        ensure!(reached.await, "nothing listens at {}", beyond.address);
        Ok(Some(beyond))
    }

    /// Whether a container gets there.
    fn is_reached_from(&self, engine: &Engine, container: &str) -> Result<bool> {
        let script = format!(
            "python3 -c 'import socket; socket.create_connection((\"{}\", 8000), 3)'",
            self.address
        );
        Ok(engine.within(container, &script)?.0 == Some(0))
    }
}

impl Drop for Beyond {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

#[tokio::test]
async fn isolated_containers_get_no_further_than_this_machine() -> Result<()> {
    for isolated in [false, true] {
        let Some(mut engine) = Engine::new()? else { return Ok(()) };
        let Some(beyond) = Beyond::new().await? else { return Ok(()) };
        let home = Home::new()?;
        let told = [("TROUPE__CONTAINERS__ISOLATED", if isolated { "true" } else { "false" })];
        let (node, who) = small(&mut engine, &home, &told).await?;
        let task = node.run(&who, "sh", COUNT).await?;
        let device = only(&node, &who).await?;
        let name = device["name"].as_str().context("no name")?;
        assert_eq!(beyond.is_reached_from(&engine, name)?, !isolated, "isolated: {isolated}");
        let ports = engine.say(&["port", name])?;
        let published = ports.contains("127.0.0.1:100");
        assert_eq!(published, !isolated, "a port for previews, on loopback: {ports}");
        engine.let_go(name).await?;
        node.settled(&who, &task, "COMPLETED").await?;
    }
    Ok(())
}

/// Two loops for three seconds; how much time of a processor they had.
const BUSY: &str = "import os, resource, time
end = time.monotonic() + 3
for _ in range(2):
    if os.fork() == 0:
        while time.monotonic() < end: pass
        os._exit(0)
for _ in range(2): os.wait()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)";

/// A container has its share of the processors, whatever it does, gets no new privileges, and does
/// not reach another container.
#[tokio::test]
async fn a_container_has_its_share_and_no_neighbours() -> Result<()> {
    let Some(mut engine) = Engine::new()? else { return Ok(()) };
    let home = Home::new()?;
    let half = [("TROUPE__CONTAINERS__CPUS", "0.5")];
    let (node, who) = small(&mut engine, &home, &half).await?;
    for _ in 0..2 {
        let task = node.run(&who, "sh", "sh -c 'echo here'").await?;
        node.settled(&who, &task, "COMPLETED").await?;
    }
    let names = engine.containers()?;
    assert_eq!(names.len(), 2, "each Task has its own: {names:?}");
    let (_, said) = engine.within(&names[0], &format!("python3 -c '{BUSY}'"))?;
    let used: f64 = said.trim().parse().with_context(|| said.clone())?;
    ensure!((0.1..2.0).contains(&used), "half a processor for 3 s, of two: {used} s");
    // A machine with other work gives it less in any case: the bound itself stands, too.
    let bound = engine.say(&["inspect", "-f", "{{.HostConfig.NanoCpus}}", &names[0]])?;
    assert_eq!(bound.trim(), "500000000");
    let (_, status) = engine.within(&names[0], "grep NoNewPrivs /proc/1/status")?;
    assert_eq!(status.split_whitespace().last(), Some("1"), "{status}");

    let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let at = |name: &str| engine.say(&["inspect", "-f", address, name]);
    let dial = |ip: &str| {
        let code = format!("import socket; socket.create_connection((\"{ip}\", 9), 3)");
        engine.within(&names[0], &format!("python3 -c '{code}'"))
    };
    let (_, own) = dial(at(&names[0])?.trim())?;
    ensure!(own.contains("ConnectionRefusedError"), "its own address is there: {own}");
    let (_, other) = dial(at(&names[1])?.trim())?;
    let cut = ["timed out", "unreachable", "TimeoutError"].iter().any(|word| other.contains(word));
    ensure!(cut, "a neighbour is out of reach: {other}");
    Ok(())
}
