//! The doors for devices, and the device that this machine itself is.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use tokio::sync::mpsc;
use troupe_actor::{TaskHandle, spawn_task};
use troupe_edge::{EdgeAgent, EdgeOptions, Policy, engine::all_engines, tools::host_name};
use troupe_executor::{Containment, Machine};
use troupe_link::{
    Connection, LinkError, LinkOptions, MemoryHub, MemoryNetwork, Network,
    device::{
        DeviceAuthority, DeviceCa, DeviceSession, Dialler, EDGE_PORT, EdgeListener,
        EdgeListenerOptions, EdgeServerCert, QuicEdgeNetwork, RateOptions, WsEdgeNetwork,
        device_cert_name,
    },
};
use troupe_services::{
    Auth,
    devices::{Authority, EdgePoint, Sessions},
};
use troupe_sharding::Router;
use troupe_store::{Blobs, Directory};
use troupe_types::{Clock, DeviceId};

use crate::{
    config::{Config, EdgeSection},
    process::{first_name, make_private, write_private},
};

const CA_CERT_FILE: &str = "device-ca.crt";
/// Among the keys of a node with the role `edge`.
pub(crate) const DEVICE_CA_KEY_FILE: &str = "device-ca.key";
/// The door's name on the in-memory link.
const DOOR: &str = "edge";
/// Links that wait for their session.
const LINKS_WAITING: usize = 64;
/// How often a free port is looked for that is free for UDP and TCP alike.
const PORT_TRIES: u32 = 16;
/// How often it is looked whether there is a first administrator, and a pause after a failure.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The device CA in a directory of keys, made if it is not there.
pub(crate) fn load_or_create_ca(
    dir: &Path,
    cluster: &str,
    now: troupe_types::Timestamp,
) -> Result<DeviceCa> {
    if dir.join(DEVICE_CA_KEY_FILE).exists() {
        return load_ca(dir, cluster);
    }
    let ca = DeviceCa::create(cluster, now).context("the device CA")?;
    let write = |name: &str, text: &str| {
        let file = dir.join(name);
        write_private(&file, text.as_bytes()).with_context(|| file.display().to_string())
    };
    write(CA_CERT_FILE, ca.cert_pem())?;
    // Last: without it there is no CA.
    write(DEVICE_CA_KEY_FILE, ca.key_pem())?;
    Ok(ca)
}

/// The device CA that `troupe node init` made.
pub(crate) fn load_ca(dir: &Path, cluster: &str) -> Result<DeviceCa> {
    let read = |name: &str| {
        let file = dir.join(name);
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    };
    DeviceCa::from_pem(cluster, &read(CA_CERT_FILE)?, &read(DEVICE_CA_KEY_FILE)?)
        .context("the device CA")
}

/// What the invitations of a node without a door say: the first door of `edge.addresses`, and the
/// certificate of the device CA, whose key the node does not need.
pub(crate) fn point_elsewhere(config: &Config) -> Result<Option<EdgePoint>> {
    let file = config.node.keys.join(CA_CERT_FILE);
    let Some(address) = config.edge.addresses.first().filter(|_| file.exists()) else {
        return Ok(None);
    };
    let (host, port) = host_and_port("edge.addresses", address)?;
    let pem = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let fingerprint = DeviceCa::fingerprint_of(&pem).context("the device CA")?;
    Ok(Some(EdgePoint { host, port, fingerprint }))
}

/// What a door is made from.
#[derive(Debug)]
pub(crate) struct EdgeSetup {
    pub(crate) ca: Arc<DeviceCa>,
    pub(crate) cluster: String,
    pub(crate) node: String,
    doors: Vec<Arc<dyn Network>>,
    advertise: Option<(String, u16)>,
    enrol: RateOptions,
}

impl EdgeSetup {
    /// Binds the doors: QUIC on a UDP port, WebSocket on the TCP port of the same number. A taken
    /// default port is told and nothing else: the machine's own device needs none.
    pub(crate) fn bind(
        config: &Config,
        ca: DeviceCa,
        cluster: &str,
        node: &str,
        clock: &dyn Clock,
    ) -> Result<Self> {
        let cert = ca.issue_server(node, clock.now()).context("a certificate for devices")?;
        let options = EdgeListenerOptions::new(cluster, node).link;
        let doors = bind_doors(&config.edge, &cert, &options)?;
        let at = doors.first().and_then(|door| door.local_addr().ok());
        let advertise = at.map(|at| advertised(config, at)).transpose()?;
        let (cluster, node) = (cluster.to_owned(), node.to_owned());
        let default = RateOptions::default();
        let address_per_minute = config.edge.enrolments_per_minute;
        let address_burst = default.address_burst.max(address_per_minute / 2);
        let enrol = RateOptions { address_burst, address_per_minute, ..default };
        Ok(Self { ca: Arc::new(ca), cluster, node, doors, advertise, enrol })
    }

    /// Where the doors are.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.doors.first()?.local_addr().ok()
    }

    /// What invitations say.
    pub(crate) fn point(&self) -> Option<EdgePoint> {
        let (host, port) = self.advertise.clone()?;
        Some(EdgePoint { host, port, fingerprint: self.ca.fingerprint() })
    }
}

/// The UDP door, and the TCP door on the port of the same number if it is free.
fn bind_doors(
    edge: &EdgeSection,
    cert: &EdgeServerCert,
    options: &LinkOptions,
) -> Result<Vec<Arc<dyn Network>>> {
    let bad = "a certificate for devices";
    let mut tries = if edge.listen.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let quic = match QuicEdgeNetwork::bind(edge.listen, cert, options.clone()).context(bad)? {
            Ok(quic) => quic,
            Err(error) if edge.required => {
                bail!("edge.listen: UDP {} cannot be bound: {error}", edge.listen)
            }
            Err(error) => {
                let at = edge.listen;
                tracing::warn!(%at, %error, "no devices can join: give another --edge ADDRESS");
                return Ok(Vec::new());
            }
        };
        let at = quic.local_addr().context("edge.listen")?;
        match WsEdgeNetwork::bind(at, cert, options.clone()).context(bad)? {
            Ok(websocket) => return Ok(vec![Arc::new(quic), Arc::new(websocket)]),
            // Another free UDP port may have a free TCP port beside it.
            Err(_) if tries > 0 => {}
            Err(error) if edge.required => bail!("edge.listen: TCP {at} cannot be bound: {error}"),
            Err(error) => {
                tracing::warn!(%at, %error, "devices without UDP cannot come in: TCP is taken");
                return Ok(vec![Arc::new(quic)]);
            }
        }
    }
}

fn advertised(config: &Config, at: SocketAddr) -> Result<(String, u16)> {
    if let Some(text) = &config.edge.advertise {
        return host_and_port("edge.advertise", text);
    }
    let host = match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => first_host(config),
        IpAddr::V6(ip) if ip.is_unspecified() => first_host(config),
        ip => ip.to_string(),
    };
    Ok((host, at.port()))
}

/// `HOST:PORT` of a setting. An IPv6 address is without its brackets then: who writes it with a port
/// puts them around it again.
fn host_and_port(setting: &str, text: &str) -> Result<(String, u16)> {
    let parts = text.rsplit_once(':');
    let (host, port) = parts.with_context(|| format!("{setting}: `{text}`: write HOST:PORT"))?;
    let port = port.parse().with_context(|| format!("{setting}: the port of `{text}`"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

fn first_host(config: &Config) -> String {
    first_name(&config.public_hosts).unwrap_or("127.0.0.1").to_owned()
}

/// The doors that are open, and what hangs on them; dropping it closes them.
#[derive(Debug)]
pub(crate) struct Edge {
    hub: MemoryHub,
    door: SocketAddr,
    authority: Arc<Authority>,
    node: String,
    doors: Vec<Arc<dyn Network>>,
    listener: Arc<EdgeListener>,
    links: mpsc::Sender<DeviceSession>,
    ca: Arc<DeviceCa>,
    /// Further doors.
    within: Mutex<Vec<(Arc<QuicEdgeNetwork>, TaskHandle<()>)>>,
    #[expect(dead_code, reason = "held for their drop")]
    tasks: Vec<TaskHandle<()>>,
}

/// What decides at a door, before it is open.
pub(crate) fn authority(
    config: &Config,
    directory: Arc<dyn Directory>,
    router: Router,
    clock: Arc<dyn Clock>,
) -> Arc<Authority> {
    Arc::new(Authority::new(directory, router, clock, config.edge.addresses.clone()))
}

impl Edge {
    /// Opens the door.
    pub(crate) fn open(
        setup: EdgeSetup,
        authority: Arc<Authority>,
        router: Router,
        clock: Arc<dyn Clock>,
        blobs: Arc<dyn Blobs>,
    ) -> Result<Self> {
        let mut options = EdgeListenerOptions::new(&setup.cluster, &setup.node);
        options.enrol = setup.enrol;
        let asked: Arc<dyn DeviceAuthority> = Arc::clone(&authority) as _;
        let listener = EdgeListener::new(options, Arc::clone(&setup.ca), asked, clock);
        let hub = MemoryHub::new();
        let inside: Arc<dyn Network> = Arc::new(hub.edge_network(DOOR, LinkOptions::default()));
        let door = inside.local_addr().context("the door within")?;
        let (give, links) = mpsc::channel(LINKS_WAITING);
        let node = setup.node.clone();
        let sessions = Sessions::new(router, Arc::clone(&authority), setup.node, blobs);
        let mut tasks = vec![
            spawn_task("edge-sessions", sessions.serve(links)).abort_on_drop(),
            spawn_task("edge-inside", Arc::clone(&listener).accept(inside, give.clone()))
                .abort_on_drop(),
        ];
        for network in &setup.doors {
            let accepting = Arc::clone(&listener).accept(Arc::clone(network), give.clone());
            tasks.push(spawn_task("edge-door", accepting).abort_on_drop());
        }
        let (doors, ca, links) = (setup.doors, setup.ca, give);
        let within = Mutex::default();
        Ok(Self { hub, door, authority, node, doors, listener, links, ca, within, tasks })
    }

    /// The device that this machine is, once somebody owns it: the first administrator.
    pub(crate) async fn built_in(
        &self,
        config: &Config,
        auth: Arc<Auth>,
        clock: &Arc<dyn Clock>,
    ) -> Result<EdgeAgent> {
        let dir = config.data_dir.join("device");
        make_private(&dir).with_context(|| dir.display().to_string())?;
        let device = device_id(&dir.join("id"), clock)?;
        let host = host_name();
        loop {
            match auth.first_admin().await {
                Ok(Some(owner)) => {
                    let enrolled = self.authority.enrol_built_in(device, owner, &host).await;
                    match enrolled {
                        Ok(()) => break,
                        Err(error) => tracing::warn!(%error, "the built-in device waits"),
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "users were not read"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let options = device_options(config, device, dir, host, clock)?;
        let network = self.hub.edge_network(&device_cert_name(device), LinkOptions::default());
        let dialler: Arc<dyn Dialler> = Arc::new(Inside { network, door: self.door });
        Ok(EdgeAgent::start(options, dialler).await?)
    }

    /// SHA-256 of the device CA's certificate.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.ca.fingerprint()
    }

    /// A door at another address of this machine, at the port of the first one; where it is. One
    /// that is there already, or that the first one is, is not opened again.
    pub(crate) fn open_within(&self, ip: IpAddr, clock: &dyn Clock) -> Result<SocketAddr> {
        let first = self.doors.first().and_then(|network| network.local_addr().ok());
        if let Some(at) = first.filter(|at| at.ip().is_unspecified() || at.ip() == ip) {
            return Ok(SocketAddr::new(ip, at.port()));
        }
        let mut within = self.within.lock().unwrap_or_else(PoisonError::into_inner);
        let there = within.iter().filter_map(|(network, _)| network.local_addr().ok());
        if let Some(at) = there.into_iter().find(|at| at.ip() == ip) {
            return Ok(at);
        }
        let cert =
            self.ca.issue_server(&self.node, clock.now()).context("a certificate for devices")?;
        let wanted = SocketAddr::new(ip, first.map_or(EDGE_PORT, |at| at.port()));
        let bound = QuicEdgeNetwork::bind(wanted, &cert, LinkOptions::default())?;
        let network = Arc::new(bound.with_context(|| format!("UDP {wanted} cannot be bound"))?);
        let at = network.local_addr().context("the door for containers")?;
        let accepting: Arc<dyn Network> = Arc::clone(&network) as _;
        let door = Arc::clone(&self.listener).accept(accepting, self.links.clone());
        within.push((network, spawn_task("edge-within", door).abort_on_drop()));
        Ok(at)
    }

    /// Nobody comes in any more.
    pub(crate) fn close(&self) {
        for network in &self.doors {
            network.close();
        }
        let within = self.within.lock().unwrap_or_else(PoisonError::into_inner);
        within.iter().for_each(|(network, _)| network.close());
    }
}

/// Dials the door within the process.
#[derive(Debug)]
struct Inside {
    network: MemoryNetwork,
    door: SocketAddr,
}

#[async_trait]
impl Dialler for Inside {
    async fn dial(&self) -> Result<Arc<dyn Connection>, LinkError> {
        self.network.dial(DOOR, self.door).await
    }
}

fn device_id(file: &Path, clock: &Arc<dyn Clock>) -> Result<DeviceId> {
    match fs::read_to_string(file) {
        Ok(text) => text.trim().parse().with_context(|| file.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let device = DeviceId::new(clock.now());
            write_private(file, device.to_string().as_bytes())
                .with_context(|| file.display().to_string())?;
            Ok(device)
        }
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

fn device_options(
    config: &Config,
    device: DeviceId,
    dir: PathBuf,
    host: String,
    clock: &Arc<dyn Clock>,
) -> Result<EdgeOptions> {
    let machine = Machine {
        containment: Containment::detect(&device.to_string()),
        path: std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
        login_home: std::env::home_dir(),
        fenced: false,
        clock: Arc::clone(clock),
    };
    let left = machine.containment.sweep();
    if left > 0 {
        tracing::warn!(left, "processes that an earlier start left were ended");
    }
    let commands = config.device.commands.clone();
    let mut policy = Policy::default();
    if !commands.is_empty() {
        policy.runtimes.push("Command".to_owned());
        policy.commands = commands.keys().cloned().collect();
    }
    let mut options = EdgeOptions::new(device, dir, machine.clone());
    options.engines = all_engines(&machine, commands);
    options.policy = policy;
    options.slots = config.device.slots;
    options.host = host;
    let faults = options.faults();
    if !faults.is_empty() {
        bail!("device: {}", faults.join("; "));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use troupe_types::SystemClock;

    use super::*;

    fn doors(listen: SocketAddr, required: bool) -> Result<Vec<SocketAddr>> {
        let now = SystemClock::shared().now();
        let cert = DeviceCa::create("test", now)?.issue_server("node-1", now)?;
        let (advertise, addresses) = (None, Vec::new());
        let enrolments_per_minute = 30;
        let edge = EdgeSection { listen, advertise, addresses, enrolments_per_minute, required };
        let doors = bind_doors(&edge, &cert, &LinkOptions::default())?;
        doors.iter().map(|door| Ok(door.local_addr()?)).collect()
    }

    #[tokio::test]
    async fn both_doors_have_one_port_and_a_taken_one_is_told() {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let both = doors(free, true).unwrap();
        assert!(both.len() == 2 && both[0] == both[1] && both[0].port() != 0, "{both:?}");
        // A port of its own for each try: a UDP socket is let go of a little later.
        for required in [false, true] {
            let tcp = std::net::TcpListener::bind(free).unwrap();
            let taken = tcp.local_addr().unwrap();
            match doors(taken, required) {
                Ok(udp) => assert!(!required && udp == [taken], "{udp:?}"),
                Err(refused) => assert!(required && refused.to_string().contains("TCP")),
            }
            let udp = std::net::UdpSocket::bind(free).unwrap();
            match doors(udp.local_addr().unwrap(), required) {
                Ok(none) => assert!(!required && none.is_empty(), "{none:?}"),
                Err(refused) => assert!(required && refused.to_string().contains("UDP")),
            }
        }
    }
}
