//! Three nodes on a real CQL server and Redis, and a device that works through their ends.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::Instant,
};
use troupe_link::TcpRelay;
use troupe_testkit::try_until;
use troupe_types::Uuid;

use super::{
    faults::{beyond, counting, follows, whole},
    kit::{Machine, is_free, until},
};
use crate::node::{PASSWORD, PATIENCE, Person, Rest, troupe};

const NODES: usize = 3;
/// What no option of the command line says.
const SETTINGS: &str = "node.toml";
/// How long the store says nothing: every lease ends meanwhile.
const FROZEN: Duration = Duration::from_secs(25);

/// Servers to run a cluster on; `None`: the test is skipped.
fn servers() -> Option<(String, String)> {
    let name = |name: &str| std::env::var_os(name).and_then(|text| text.into_string().ok());
    let servers = name("TROUPE_TEST_CQL").zip(name("TROUPE_TEST_REDIS"));
    if servers.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no servers, and this is CI");
        println!("skipped: `cargo xtask test` starts Cassandra and Redis");
    }
    servers
}

struct Member {
    child: Option<Child>,
    told: Value,
}

/// What each of the three nodes hosts.
type RolesOfAll = [&'static str; NODES];
const ALIKE: RolesOfAll = ["gateway,entities,edge,knowledge"; NODES];
const APART: RolesOfAll = ["gateway", "edge", "entities,knowledge"];

/// A cluster of processes on loopback; each node has its launcher.
struct Three {
    home: TempDir,
    roles: RolesOfAll,
    servers: (String, String),
    /// All nodes reach the store through it.
    store: TcpRelay,
    keyspace: String,
    ports: Vec<[u16; 3]>,
    members: Vec<Member>,
}

impl Three {
    async fn start(servers: (String, String), roles: RolesOfAll) -> Result<Self> {
        let home = TempDir::new()?;
        let keys = home.path().join("keys");
        for (n, roles) in roles.iter().enumerate() {
            let mut init = troupe();
            init.args(["node", "init", "--cluster", "three", "--nodes", &format!("n{n}")]);
            init.args(["--roles", roles, "--out"]).arg(&keys).stdout(Stdio::null());
            ensure!(init.status().await?.success(), "no keys");
        }
        let keyspace = format!("troupe_it_{}", Uuid::new_v4().simple());
        let server = servers.0.parse()?;
        let store = TcpRelay::before(server).await?;
        let told = format!("[cql]\naddresses = {{ \"{server}\" = \"{}\" }}\n", store.addr());
        fs::write(home.path().join(SETTINGS), told)?;
        let ports = (0..NODES).map(|_| free_ports()).collect::<Result<Vec<_>>>()?;
        let mut three = Self { home, roles, servers, store, keyspace, ports, members: Vec::new() };
        // The first makes keyspace and tables, the others find them. Last the one that people are
        // told of: all that the cluster needs is there by then.
        for n in (0..NODES).rev() {
            let mut member = three.spawn(n)?;
            three.ready(n, &mut member).await?;
            three.members.insert(0, member);
        }
        Ok(three)
    }

    fn spawn(&self, n: usize) -> Result<Member> {
        let path = |name: String| self.home.path().join(name);
        let at = |port: u16| format!("127.0.0.1:{port}");
        let [http, link, edge] = self.ports[n];
        let with_door = self.ports.iter().zip(self.roles).filter(|(_, had)| had.contains("edge"));
        let doors: Vec<String> = with_door.map(|([.., edge], _)| at(*edge)).collect();
        let _ = fs::remove_file(path(format!("n{n}.ready")));
        let log =
            fs::OpenOptions::new().create(true).append(true).open(path(format!("n{n}.log")))?;
        let mut command = troupe();
        command.args(["node", "--name", &format!("n{n}"), "--replication", "1"]);
        command.args(["--roles", self.roles[n]]);
        command.args(["--http", &at(http), "--link", &at(link), "--edge", &at(edge)]);
        command.args(["--edge-addresses", &doors.join(","), "--keyspace", &self.keyspace]);
        command.args(["--cql", &self.store.addr().to_string(), "--redis", &self.servers.1]);
        command.arg("--config").arg(path(SETTINGS.to_owned()));
        command.arg("--keys").arg(path(format!("keys/n{n}")));
        command.arg("--data-dir").arg(path(format!("n{n}")));
        command.arg("--ready-file").arg(path(format!("n{n}.ready")));
        if n == 0 {
            command.arg("--setup-link");
        }
        command.env("HOME", self.home.path()).stdout(log.try_clone()?).stderr(log);
        Ok(Member { child: Some(command.spawn()?), told: Value::Null })
    }

    async fn ready(&self, n: usize, member: &mut Member) -> Result<()> {
        let file = self.home.path().join(format!("n{n}.ready"));
        let ready = try_until(2 * PATIENCE, async || {
            let told = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
            member.told = told.unwrap_or_default();
            !member.told.is_null()
        });
        ensure!(ready.await, "n{n} is not ready:\n{}", self.log(n));
        Ok(())
    }

    fn log(&self, n: usize) -> String {
        fs::read_to_string(self.home.path().join(format!("n{n}.log"))).unwrap_or_default()
    }

    fn rest(&self, n: usize) -> Result<Rest> {
        Rest::new(self.members[n].told["http"].as_str().context("no url")?)
    }

    /// kill -9 of the node and of its launcher: the host is lost.
    async fn lose(&mut self, n: usize) -> Result<()> {
        let pid = self.members[n].told["pid"].as_u64().context("no pid")?;
        let mut launcher = self.members[n].child.take().context("it is gone")?;
        launcher.start_kill()?;
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().await?;
        launcher.wait().await?;
        ensure!(killed.success(), "n{n} was not there");
        Ok(())
    }

    async fn again(&mut self, n: usize) -> Result<()> {
        let mut member = self.spawn(n)?;
        self.ready(n, &mut member).await?;
        self.members[n] = member;
        Ok(())
    }

    fn number(name: &Value) -> Result<usize> {
        let name = name.as_str().with_context(|| format!("no node: {name}"))?;
        Ok(name.trim_start_matches('n').parse()?)
    }

    /// Any node that runs.
    fn alive(&self) -> Result<Rest> {
        let alive = self.members.iter().position(|member| member.child.is_some());
        self.rest(alive.context("none runs")?)
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        for member in &self.members {
            // The launcher takes its node with it.
            let Some(pid) = member.child.as_ref().and_then(Child::id) else { continue };
            let _ = std::process::Command::new("kill").arg(pid.to_string()).status();
        }
        if std::thread::panicking() {
            (0..self.members.len()).for_each(|n| println!("n{n}:\n{}", self.log(n)));
        }
    }
}

/// Ports that were free a moment ago, below those that the system gives out by itself.
fn free_ports() -> Result<[u16; 3]> {
    let mut ports = [0; 3];
    let mut held = Vec::new();
    for port in &mut ports {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0")?;
        *port = tcp.local_addr()?.port();
        held.push((std::net::UdpSocket::bind(("127.0.0.1", *port))?, tcp));
    }
    Ok(ports)
}

/// The node that owns a Task.
async fn owner_of(node: &Rest, who: &Person, task: &str) -> Result<usize> {
    let path = format!("/api/v1/admin/tasks/{task}/why");
    let mut owner = None;
    // Nobody while its shard is on its way.
    let owned = try_until(PATIENCE, async || {
        let why = node.get(&path, who).await.unwrap_or_default();
        owner = Three::number(&why["node"]).ok();
        owner.is_some()
    });
    ensure!(owned.await, "nobody owns {task}");
    owner.context("no owner")
}

/// A cluster with its administrator, and a machine that counts in a Task.
async fn at_work(
    servers: (String, String),
    roles: RolesOfAll,
) -> Result<(Three, Person, Machine, Value, String)> {
    let three = Three::start(servers, roles).await?;
    let token = three.members[0].told["setup_token"].as_str().context("no setup token")?;
    let first = three.rest(0)?;
    let body = json!({"token": token, "password": PASSWORD});
    let who = Person::of(&first.post("/api/v1/setup", None, &body).await?)?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let device = machine.join(&first, &who).await?;
    let task = counting(&first, &who, &machine).await?;
    Ok((three, who, machine, device, task))
}

/// kill -9 of the node where the link ends, of the Task's owner, and of both at once.
#[tokio::test]
async fn a_device_works_through_the_loss_of_any_node() -> Result<()> {
    let Some(servers) = servers() else { return Ok(()) };
    let (mut three, who, machine, device, task) = at_work(servers, ALIKE).await?;
    let online = |view: &Value| view["status"] == "online";
    for round in 0..3 {
        let rest = three.alive()?;
        let session = Three::number(&until(&rest, &who, &device, online).await?["node"])?;
        let owner = owner_of(&rest, &who, &task).await?;
        let lost = match round {
            0 => vec![session],
            1 => vec![owner],
            _ if owner == session => vec![owner],
            _ => vec![session, owner],
        };
        for n in &lost {
            three.lose(*n).await?;
        }
        let now = beyond(&machine, 0).await?;
        let rest = three.alive()?;
        let back = Instant::now();
        let goes_on = follows(&rest, &who, &task, now).await;
        goes_on.with_context(|| format!("round {round}, lost {lost:?}\n{}", machine.log()))?;
        println!("lost {lost:?}: streams on after {:.1} s", back.elapsed().as_secs_f64());
        for n in lost {
            three.again(n).await?;
        }
    }
    machine.put_beside("n", "go")?;
    let rest = three.alive()?;
    whole(&rest, &who, &task).await?;
    is_free(&rest, &who, &device).await
}

/// The store says nothing until every lease has ended; the device works on by itself.
#[tokio::test]
async fn a_device_works_through_a_frozen_store() -> Result<()> {
    let Some(servers) = servers() else { return Ok(()) };
    let (three, who, machine, device, task) = at_work(servers, ALIKE).await?;
    let rest = three.alive()?;
    follows(&rest, &who, &task, beyond(&machine, 0).await?).await?;
    three.store.cut(true);
    let began = Instant::now();
    let before = beyond(&machine, 0).await?;
    let frozen = try_until(2 * FROZEN, async || began.elapsed() >= FROZEN);
    ensure!(frozen.await, "time stands still");
    let now = beyond(&machine, before + 50).await?;
    three.store.cut(false);
    let back = Instant::now();
    let goes_on = follows(&rest, &who, &task, now).await;
    goes_on.with_context(|| format!("frozen from {before} to {now}\n{}", machine.log()))?;
    println!("streams on {:.1} s after the store was back", back.elapsed().as_secs_f64());
    machine.put_beside("n", "go")?;
    ensure!(whole(&rest, &who, &task).await? >= now);
    is_free(&rest, &who, &device).await
}

/// People at one node, devices at another, all that is owned at a third; none does the others' work,
/// and only the one with a door has the device CA's key.
#[tokio::test]
async fn roles_are_kept_apart() -> Result<()> {
    let Some(servers) = servers() else { return Ok(()) };
    let (three, who, machine, device, task) = at_work(servers, APART).await?;
    let [gateway, edge, entities] = [three.rest(0)?, three.rest(1)?, three.rest(2)?];
    ensure!(owner_of(&gateway, &who, &task).await? == 2, "only n2 hosts Tasks");
    let view = until(&gateway, &who, &device, |view| view["status"] == "online").await?;
    ensure!(view["node"] == "n1", "only n1 has a door: {view}");
    for (rest, name) in [(&edge, "edge"), (&entities, "entities")] {
        ensure!(rest.get("/health", &who).await?["status"] == "healthy", "{name}");
        let refused = rest.get("/api/v1/tasks", &who).await;
        let said = format!("{:#}", refused.expect_err("it serves no people"));
        ensure!(said.contains("not_a_gateway"), "{name}: {said}");
    }
    for (n, keeps) in [(0, false), (1, true), (2, false)] {
        let key = three.home.path().join(format!("keys/n{n}/device-ca.key"));
        ensure!(key.exists() == keeps, "n{n}: {}", key.display());
    }
    machine.put_beside("n", "go")?;
    whole(&gateway, &who, &task).await?;
    is_free(&gateway, &who, &device).await
}
