//! A machine in a network of its own, from which there is no way but to the cluster.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use troupe_testkit::{FakeModel, Script as Model};

use super::{
    jobs::work_through,
    kit::{KEY, Machine, options, runtimes},
    script::Script,
};
use crate::node::{Home, Node, NodeOptions};

/// A network namespace with one cable, to this machine; gone with the test.
struct Namespace {
    name: String,
    /// This machine's end of the cable.
    here: Ipv4Addr,
    /// This machine too; nothing in the namespace knows the way.
    beyond: Ipv4Addr,
}

impl Namespace {
    /// `None`, with the reason printed, where there is no right to make one. In CI there is.
    fn new() -> Result<Option<Self>> {
        let n = std::process::id() % 12_500;
        let in_net = |host| Ipv4Addr::from(0x0ac8_0000 | (n / 250) << 16 | (n % 250) << 8 | host);
        let (name, here, there, beyond) = (format!("trm{n}"), in_net(9), in_net(10), in_net(17));
        // One that a test left behind, killed with this number.
        let _ = Command::new("ip").args(["netns", "del", &name]).output();
        let script = format!(
            "ip netns add {name} \
             && ip link add {name}a type veth peer name {name}b netns {name} \
             && ip link set {name}a addrgenmode none && ip -n {name} link set {name}b addrgenmode none \
             && ip addr add {here}/30 dev {name}a && ip addr add {beyond}/32 dev {name}a \
             && ip link set {name}a up && ip -n {name} link set lo up \
             && ip -n {name} addr add {there}/30 dev {name}b && ip -n {name} link set {name}b up"
        );
        let this = Self { name, here, beyond };
        let made = Command::new("sh").args(["-c", &script]).output()?;
        if made.status.success() {
            return Ok(Some(this));
        }
        ensure!(std::env::var_os("CI").is_none(), "no network namespace, and it is CI: {made:?}");
        println!("skipped: no right to make a network namespace: {made:?}");
        Ok(None)
    }

    /// What goes before a command line that is to run in there.
    fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Whether something in there gets to an address; else why not.
    fn reaches(&self, to: SocketAddr) -> Result<(), String> {
        let (ip, port) = (to.ip(), to.port());
        let script = format!("import socket; socket.create_connection(('{ip}', {port}), 3)");
        let mut command = Command::new("ip");
        command.args(&self.prefix()[1..]).args(["python3", "-c", &script]);
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// There is no way out but to this machine's end of the cable, where a port is open that is open
    /// at its other addresses, too.
    fn is_closed(&self, port: u16) -> Result<()> {
        let routes = |family: &str| -> Result<String> {
            let shown = Command::new("ip").args(["-n", &self.name, family, "route"]).output()?;
            ensure!(shown.status.success(), "{shown:?}");
            Ok(String::from_utf8_lossy(&shown.stdout).into_owned())
        };
        let (v4, v6) = (routes("-4")?, routes("-6")?);
        ensure!(v4.lines().count() == 1 && !v4.contains("default"), "one way: {v4}");
        ensure!(!v6.contains("default"), "no way out: {v6}");
        let at = |ip: IpAddr| SocketAddr::new(ip, port);
        let reached = self.reaches(at(self.here.into()));
        ensure!(reached.is_ok(), "the cable is there: {reached:?}");
        for ip in [self.beyond, Ipv4Addr::new(192, 0, 2, 1)] {
            let far = self.reaches(at(ip.into()));
            let why = far.err().with_context(|| format!("{ip} is reached"))?;
            ensure!(why.contains("unreachable"), "there is no way to {ip}: {why}");
        }
        let own = self.reaches(at(Ipv4Addr::LOCALHOST.into()));
        ensure!(own.is_err(), "its loopback is another one");
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable goes with it.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// The whole job of a runtime; the node and its model are at the other end of the cable.
async fn whole_job(script: Script) -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let Some(namespace) = Namespace::new()? else { return Ok(()) };
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let fake = FakeModel::start_at(anywhere, Model::rules(script.rules())).await?;
    fake.require_key(KEY);
    let port = fake.addr().port();
    // What is out of reach from within is there.
    tokio::net::TcpStream::connect((namespace.beyond, port)).await.context("beyond")?;
    namespace.is_closed(port)?;

    let home = Home::new()?;
    let edge = ["--edge".to_owned(), format!("{}:0", namespace.here)];
    let node = Node::start_with(&home, &NodeOptions { args: edge.into(), ..options() }).await?;
    let who = node.setup().await?;
    let mut machine = Machine::new(Some(&runtimes))?.within(&namespace.prefix());
    let url = format!("http://{}:{port}{}", namespace.here, if script.openai { "/v1" } else { "" });
    work_through(&home, &node, &who, &mut machine, &script, &url).await?;
    ensure!(fake.request_count() >= 4, "the model was asked");
    namespace.is_closed(port)
}

#[tokio::test]
async fn claude_code_works_where_there_is_no_way_but_to_the_cluster() -> Result<()> {
    whole_job(Script::claude_code()).await
}

#[tokio::test]
async fn codex_works_where_there_is_no_way_but_to_the_cluster() -> Result<()> {
    whole_job(Script::codex()).await
}

#[tokio::test]
async fn agno_works_where_there_is_no_way_but_to_the_cluster() -> Result<()> {
    whole_job(Script::agno()).await
}

#[tokio::test]
async fn an_agno_team_works_where_there_is_no_way_but_to_the_cluster() -> Result<()> {
    whole_job(Script::agno_team()).await
}
