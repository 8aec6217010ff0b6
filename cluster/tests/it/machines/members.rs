//! Three nodes on a real CQL server and Redis, as processes on loopback.

use std::{fs, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use troupe_link::TcpRelay;
use troupe_testkit::try_until;
use troupe_types::{SystemClock, Uuid};

use crate::node::{PASSWORD, PATIENCE, Person, Rest, troupe};

pub(crate) const NODES: usize = 3;
/// What no option of the command line says.
const SETTINGS: &str = "node.toml";
/// Named as the store's own tests name theirs, which drop what is left over.
pub(crate) fn fresh_keyspace() -> String {
    let (now, random) = (SystemClock::shared().now(), Uuid::new_v4().simple().to_string());
    format!("troupe_test_{}_{}", now.as_millis(), &random[..8])
}

/// Servers to run a cluster on; `None`: the test is skipped.
pub(crate) fn servers() -> Option<(String, String)> {
    let name = |name: &str| std::env::var_os(name).and_then(|text| text.into_string().ok());
    let servers = name("TROUPE_TEST_CQL").zip(name("TROUPE_TEST_REDIS"));
    if servers.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no servers, and this is CI");
        println!("skipped: `cargo xtask test` starts Cassandra and Redis");
    }
    servers
}

pub(crate) struct Member {
    child: Option<Child>,
    /// What its ready file says.
    pub(crate) told: Value,
}

/// What each of the three nodes hosts.
pub(crate) type RolesOfAll = [&'static str; NODES];
pub(crate) const ALIKE: RolesOfAll = ["gateway,entities,edge,knowledge"; NODES];

/// A cluster of processes on loopback; each node has its launcher.
pub(crate) struct Three {
    pub(crate) home: TempDir,
    roles: RolesOfAll,
    /// Settings by environment, the same for all.
    env: Vec<(String, String)>,
    servers: (String, String),
    /// All nodes reach the store through it.
    pub(crate) store: TcpRelay,
    keyspace: String,
    ports: Vec<[u16; 3]>,
    pub(crate) members: Vec<Member>,
}

impl Three {
    pub(crate) async fn start(servers: (String, String), roles: RolesOfAll) -> Result<Self> {
        Self::start_with(servers, roles, &[]).await
    }

    /// With settings by environment.
    pub(crate) async fn start_with(
        servers: (String, String),
        roles: RolesOfAll,
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let home = TempDir::new()?;
        let keys = home.path().join("keys");
        let keyspace = fresh_keyspace();
        // Containers are known by the cluster's name, and an engine may serve several.
        let cluster = keyspace.replace("troupe_test", "three");
        for (n, roles) in roles.iter().enumerate() {
            let mut init = troupe();
            init.args(["node", "init", "--cluster", &cluster, "--nodes", &format!("n{n}")]);
            init.args(["--roles", roles, "--out"]).arg(&keys).stdout(Stdio::null());
            ensure!(init.status().await?.success(), "no keys");
        }
        let server = servers.0.parse()?;
        let store = TcpRelay::before(server).await?;
        let told = format!("[cql]\naddresses = {{ \"{server}\" = \"{}\" }}\n", store.addr());
        fs::write(home.path().join(SETTINGS), told)?;
        let ports = (0..NODES).map(|_| free_ports()).collect::<Result<Vec<_>>>()?;
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let members = Vec::new();
        let mut three = Self { home, roles, env, servers, store, keyspace, ports, members };
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
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command.env("HOME", self.home.path()).stdout(log.try_clone()?).stderr(log);
        Ok(Member { child: Some(command.spawn()?), told: Value::Null })
    }

    pub(crate) async fn ready(&self, n: usize, member: &mut Member) -> Result<()> {
        let file = self.home.path().join(format!("n{n}.ready"));
        let ready = try_until(2 * PATIENCE, async || {
            let told = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
            member.told = told.unwrap_or_default();
            !member.told.is_null()
        });
        ensure!(ready.await, "n{n} is not ready:\n{}", self.log(n));
        Ok(())
    }

    pub(crate) fn log(&self, n: usize) -> String {
        fs::read_to_string(self.home.path().join(format!("n{n}.log"))).unwrap_or_default()
    }

    pub(crate) fn rest(&self, n: usize) -> Result<Rest> {
        Rest::new(self.members[n].told["http"].as_str().context("no url")?)
    }

    /// kill -9 of the node and of its launcher: the host is lost.
    pub(crate) async fn lose(&mut self, n: usize) -> Result<()> {
        let pid = self.members[n].told["pid"].as_u64().context("no pid")?;
        let mut launcher = self.members[n].child.take().context("it is gone")?;
        launcher.start_kill()?;
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().await?;
        launcher.wait().await?;
        ensure!(killed.success(), "n{n} was not there");
        Ok(())
    }

    pub(crate) async fn again(&mut self, n: usize) -> Result<()> {
        let mut member = self.spawn(n)?;
        self.ready(n, &mut member).await?;
        self.members[n] = member;
        Ok(())
    }

    pub(crate) fn number(name: &Value) -> Result<usize> {
        let name = name.as_str().with_context(|| format!("no node: {name}"))?;
        Ok(name.trim_start_matches('n').parse()?)
    }

    /// The first administrator.
    pub(crate) async fn setup(&self) -> Result<Person> {
        let token = self.members[0].told["setup_token"].as_str().context("no setup token")?;
        let body = json!({"token": token, "password": PASSWORD});
        Person::of(&self.rest(0)?.post("/api/v1/setup", None, &body).await?)
    }

    /// Any node that runs.
    pub(crate) fn alive(&self) -> Result<Rest> {
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
pub(crate) async fn owner_of(node: &Rest, who: &Person, task: &str) -> Result<usize> {
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
