//! Tells when the network of the machine changed, so that nobody waits for a back-off.

use std::time::Duration;

use tokio::sync::watch;
use troupe_actor::{TaskHandle, spawn_task};

/// Changes that come in a bunch count once.
const SETTLE: Duration = Duration::from_millis(50);

/// Rises with every change of links, addresses or routes.
#[derive(Debug)]
pub struct NetworkWatch {
    changes: watch::Receiver<u64>,
    #[expect(dead_code, reason = "held for its drop")]
    task: TaskHandle,
}

impl NetworkWatch {
    /// Begins to watch.
    #[must_use]
    pub fn start() -> Self {
        let (tell, changes) = watch::channel(0);
        let task = spawn_task("network watch", watch_network(tell)).abort_on_drop();
        Self { changes, task }
    }

    /// The number of changes so far; waits for the next one with `changed`.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

#[cfg(target_os = "linux")]
async fn watch_network(tell: watch::Sender<u64>) {
    let socket = match netlink_socket() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::debug!(%error, "no netlink: changes of the network are looked for");
            return poll_network(tell).await;
        }
    };
    // What it says is of no interest; that it says something is. An error means that it said
    // more than there was room for.
    let mut buffer = [0; 8 * 1024];
    loop {
        let _ = socket.recv(&mut buffer).await;
        tokio::time::sleep(SETTLE).await;
        while socket.try_recv(&mut buffer).is_ok() {}
        tell.send_modify(|n| *n += 1);
    }
}

/// Hears of changes of links, addresses and routes of both families.
#[cfg(target_os = "linux")]
fn netlink_socket() -> std::io::Result<tokio::net::UnixDatagram> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink, socket_with};
    const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 of netlink is routing.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
    // It is read like any datagram socket; the type only brings the reactor along.
    tokio::net::UnixDatagram::from_std(std::os::unix::net::UnixDatagram::from(socket))
}

#[cfg(not(target_os = "linux"))]
async fn watch_network(tell: watch::Sender<u64>) {
    poll_network(tell).await;
}

/// Asks the routing table by way of sockets that send nothing.
async fn poll_network(tell: watch::Sender<u64>) {
    let mut last = None;
    loop {
        let now = [local("0.0.0.0:0", "192.0.2.1:9"), local("[::]:0", "[2001:db8::1]:9")];
        if last.as_ref().is_some_and(|last| *last != now) {
            tell.send_modify(|n| *n += 1);
        }
        last = Some(now);
        tokio::time::sleep(SETTLE * 10).await;
    }
}

/// The address that packets to somewhere far would come from.
fn local(bind: &str, to: &str) -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind(bind).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip())
}
