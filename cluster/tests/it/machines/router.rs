//! A machine behind a router: two network namespaces of the kernel's own, with address translation
//! in between, and the faults that such networks have.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
};

use anyhow::{Context as _, Result, ensure};

/// The router's address in the machine's network.
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

/// Both namespaces with their cables; gone with the test.
pub(super) struct Router {
    /// The router's namespace.
    router: String,
    /// The machine's.
    machine: String,
    /// This machine's end of the cable: where a node listens.
    here: Ipv4Addr,
    /// Last part of the machine's address.
    host: AtomicU8,
}

impl Router {
    /// `None`, with the reason printed, where there is no right to make one. In CI there is.
    pub(super) fn new() -> Result<Option<Self>> {
        let n = std::process::id() % 16_384;
        // A network of eight addresses out of 10.212.0.0/14 for each.
        let net = u32::from(Ipv4Addr::new(10, 212, 0, 0)) + n * 8;
        let (here, outside) = (Ipv4Addr::from(net + 1), Ipv4Addr::from(net + 2));
        let (router, machine) = (format!("trr{n}"), format!("trd{n}"));
        // Those that a test left behind, killed with this number.
        for name in [&router, &machine] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
        let this = Self { router, machine, here, host: AtomicU8::new(10) };
        let Self { router, machine, .. } = &this;
        let script = format!(
            "ip netns add {router} && ip netns add {machine} \
             && ip link add {router}h type veth peer name out netns {router} \
             && ip link set {router}h addrgenmode none && ip addr add {here}/29 dev {router}h \
             && ip link set {router}h up \
             && ip -n {router} link add in type veth peer name net netns {machine} \
             && ip -n {router} addr add {outside}/29 dev out && ip -n {router} link set out up \
             && ip -n {router} addr add {INSIDE}/24 dev in && ip -n {router} link set in up \
             && ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1 \
             && ip -n {machine} link set lo up && ip -n {machine} link set net up"
        );
        let made = Command::new("sh").args(["-c", &script]).output()?;
        if !made.status.success() {
            ensure!(std::env::var_os("CI").is_none(), "no namespaces, and it is CI: {made:?}");
            println!("skipped: no right to make network namespaces: {made:?}");
            return Ok(None);
        }
        this.plug_in(10)?;
        // The source port is another one for each binding, as behind routers that hide it.
        this.rules(
            "table ip edge {\n\
             chain out { type nat hook postrouting priority 100\n\
             oifname out masquerade fully-random\n}\n\
             chain weather { type filter hook forward priority 0\n}\n}\n",
        )?;
        Ok(Some(this))
    }

    /// Where a node has to listen, at a free port.
    pub(super) const fn here(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(self.here), 0)
    }

    /// What goes before a command line that is to run on the machine.
    pub(super) fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.machine]
    }

    /// Cuts the datagrams that the machine sends (`up`) and gets (`down`), or lets them through.
    pub(super) fn cut(&self, up: bool, down: bool) -> Result<()> {
        let rule = |cut: bool, from: &str| match cut {
            true => format!("add rule ip edge weather iifname {from} ip protocol udp drop\n"),
            false => String::new(),
        };
        self.weather(&(rule(up, "in") + &rule(down, "out")))
    }

    /// Loses so many datagrams of a thousand, either way.
    pub(super) fn lose(&self, per_mille: u32) -> Result<()> {
        self.weather(&format!(
            "add rule ip edge weather ip protocol udp numgen random mod 1000 < {per_mille} drop\n"
        ))
    }

    /// Neither cuts nor loses.
    pub(super) fn clear(&self) -> Result<()> {
        self.weather("")
    }

    /// The router forgets its bindings: the node sees the machine come from another port.
    pub(super) fn rebind(&self) -> Result<()> {
        let mut conntrack = Command::new("ip");
        conntrack.args(["netns", "exec", &self.router, "conntrack", "-D", "-p", "udp"]);
        let said = conntrack.output()?;
        // Nothing may have been sent since the time before.
        let none = String::from_utf8_lossy(&said.stderr).contains("0 flow entries");
        ensure!(said.status.success() || none, "{said:?}");
        Ok(())
    }

    /// The machine itself gets another address, as in another network.
    pub(super) fn move_on(&self) -> Result<()> {
        let last = self.host.load(Ordering::Relaxed);
        let next = if last >= 200 { 10 } else { last + 1 };
        let (machine, before) = (&self.machine, Self::at(last));
        let cable = ["-n", machine, "addr", "del", &format!("{before}/24"), "dev", "net"];
        quiet(Command::new("ip").args(cable))?;
        self.host.store(next, Ordering::Relaxed);
        self.plug_in(next)
    }

    const fn at(host: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 77, host)
    }

    fn plug_in(&self, host: u8) -> Result<()> {
        let (machine, at) = (&self.machine, Self::at(host));
        let script = format!(
            "ip -n {machine} addr add {at}/24 dev net \
             && ip -n {machine} route add default via {INSIDE}"
        );
        quiet(Command::new("sh").args(["-c", &script]))
    }

    fn weather(&self, rules: &str) -> Result<()> {
        self.rules(&format!("flush chain ip edge weather\n{rules}"))
    }

    /// All of them at once, or none.
    fn rules(&self, text: &str) -> Result<()> {
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.router, "nft", "-f", "-"]);
        nft.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut nft = nft.spawn()?;
        nft.stdin.take().context("no pipe")?.write_all(text.as_bytes())?;
        let said = nft.wait_with_output()?;
        ensure!(said.status.success(), "nft: {said:?}\n{text}");
        Ok(())
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // The cables go with them.
        for name in [&self.machine, &self.router] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn quiet(command: &mut Command) -> Result<()> {
    let said = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(said.status.success(), "{command:?}: {said:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    /// Sends a datagram for each line, from one socket; prints what comes back, if within 1 s.
    const CLIENT: &str = "import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
for n, _ in enumerate(sys.stdin):
    try:
        s.sendto(b'%d' % n, (sys.argv[1], int(sys.argv[2])))
        while not (said := s.recv(99).decode()).startswith('%d ' % n): pass
        print(said.split()[1], flush=True)
    except OSError: print('nothing', flush=True)";

    /// Each fault is what it is called, as the other end sees it.
    #[test]
    fn a_router_cuts_loses_and_binds_anew() -> Result<()> {
        let Some(router) = Router::new()? else { return Ok(()) };
        let echo = std::net::UdpSocket::bind(router.here())?;
        let port = echo.local_addr()?.port();
        // Ends with the test's process.
        std::thread::spawn(move || {
            let mut buffer = [0; 99];
            while let Ok((length, from)) = echo.recv_from(&mut buffer) {
                let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let _ = echo.send_to(format!("{said} {from}").as_bytes(), from);
            }
        });
        let (prefix, here) = (router.prefix(), router.here().ip().to_string());
        let mut client = Command::new(prefix[0]);
        client.args(&prefix[1..]).args(["python3", "-c", CLIENT, &here, &port.to_string()]);
        let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut asks = client.stdin.take().context("no pipe")?;
        let mut says = BufReader::new(client.stdout.take().context("no pipe")?).lines();
        let mut seen = || -> Result<String> {
            asks.write_all(b"\n")?;
            Ok(says.next().context("it ended")??)
        };
        let first = seen()?;
        ensure!(first.starts_with("10."), "the router's address: {first}");
        assert_eq!(seen()?, first, "a binding stays");
        router.rebind()?;
        let second = seen()?;
        ensure!(second.starts_with("10.") && second != first, "{first}, {second}");
        for cut in [(true, true), (true, false), (false, true)] {
            router.cut(cut.0, cut.1)?;
            assert_eq!(seen()?, "nothing", "{cut:?}");
        }
        router.lose(999)?;
        assert_eq!(seen()?, "nothing");
        router.clear()?;
        ensure!(seen()?.starts_with("10."), "it is through again");
        router.move_on()?;
        ensure!(seen()?.starts_with("10."), "also from elsewhere");
        client.kill()?;
        client.wait()?;
        Ok(())
    }
}
