//! Configuration of a node: built-in defaults, then a TOML file, then `TROUPE__SECTION__KEY`
//! from the environment, then the command line. All faults are told in one go.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment,
    providers::{Env, Format as _, Serialized, Toml},
};
use serde::{Deserialize, Serialize};
use troupe_domain::device::LEASE;
use troupe_types::{NodeRole, Roles};

use crate::containers::ContainersSection;

/// What a node may be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Config {
    /// Where HTTP, Socket.IO and the console listen. Port 0 takes a free one. Loopback unless
    /// told otherwise. Since v0.1.
    pub(crate) http: SocketAddr,
    /// Where everything durable lies. Since v0.1.
    pub(crate) data_dir: PathBuf,
    /// Names by which the node may be called besides loopback ones and its own address; any
    /// other `Host` is answered with 421. Since v0.1.
    pub(crate) public_hosts: Vec<String>,
    /// A file whose content is the bearer token for `/metrics`; without it only administrators
    /// may read metrics. Since v0.1.
    pub(crate) scrape_token_file: Option<PathBuf>,
    /// HTTPS. Since v0.4.
    pub(crate) tls: TlsSection,
    /// Outgoing HTTP.
    pub(crate) egress: Egress,
    /// Model calls.
    pub(crate) models: Models,
    /// Bounds of Tasks.
    pub(crate) tasks: Tasks,
    /// Logging.
    pub(crate) log: Log,
    /// Where traces go.
    pub(crate) traces: Traces,
    /// What nodes share and may forget.
    pub(crate) redis: Redis,
    /// Stopping.
    pub(crate) shutdown: Shutdown,
    /// A node of a cluster (`troupe node`).
    pub(crate) node: NodeSection,
    /// The door for devices. Since v0.3.
    pub(crate) edge: EdgeSection,
    /// The device that this machine itself is. Since v0.3.
    pub(crate) device: DeviceSection,
    /// Containers that Tasks run in. Since v0.4.
    pub(crate) containers: ContainersSection,
    /// The store of a cluster.
    pub(crate) cql: Cql,
}

/// How HTTP is protected beyond loopback: by a certificate of the node's own, or by a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct TlsSection {
    /// The certificate, PEM, with those that lead to its authority behind it. Read again when it
    /// changes. Since v0.4.
    pub(crate) cert_file: Option<PathBuf>,
    /// Its key, PEM. Since v0.4.
    pub(crate) key_file: Option<PathBuf>,
    /// A proxy in front speaks TLS with the people. Since v0.4.
    pub(crate) proxy: bool,
}

impl TlsSection {
    /// The files of the certificate and of its key.
    pub(crate) fn files(&self) -> Option<(&Path, &Path)> {
        self.cert_file.as_deref().zip(self.key_file.as_deref())
    }

    /// Whether people reach the node over HTTPS.
    pub(crate) fn is_https(&self) -> bool {
        self.proxy || self.files().is_some()
    }

    /// What the command line says wins.
    pub(crate) fn set(&mut self, cert_file: Option<PathBuf>, key_file: Option<PathBuf>) {
        self.cert_file = cert_file.or(self.cert_file.take());
        self.key_file = key_file.or(self.key_file.take());
    }
}

/// Who a node of a cluster is, and where its peers reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct NodeSection {
    /// Its name, the one in its certificate. Since v0.2.
    pub(crate) name: String,
    /// The directory that `troupe node init` made for it. Since v0.2.
    pub(crate) keys: PathBuf,
    /// Where it listens for its peers (UDP). Since v0.2.
    pub(crate) link: SocketAddr,
    /// Where its peers reach it, `host:port`; by default the address that it listens on.
    /// Since v0.2.
    pub(crate) advertise: Option<String>,
    /// What it hosts: `gateway`, `entities`, `edge`, `knowledge`. Since v0.2.
    pub(crate) roles: Vec<String>,
    /// Its share of the shards relative to the other nodes. Since v0.2.
    pub(crate) weight: u32,
}

/// The door for devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct EdgeSection {
    /// Where devices come in, UDP and TCP on one port; port 0 takes a free one. Since v0.3.
    pub(crate) listen: SocketAddr,
    /// Where machines reach it, `host:port`; by default the address that it listens on.
    /// Since v0.3.
    pub(crate) advertise: Option<String>,
    /// The doors of all nodes, `host:port`: machines that join keep them and dial one after the
    /// other. Since v0.3.
    pub(crate) addresses: Vec<String>,
    /// Tries to enrol per minute that one address may make, 1 to 100,000; more for many machines
    /// behind one address. Since v0.4.
    pub(crate) enrolments_per_minute: u32,
    /// Not to start if the address is taken. Since v0.3.
    pub(crate) required: bool,
}

/// The device that the machine of `troupe up` itself is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DeviceSection {
    /// Whether it is one. Since v0.3.
    pub(crate) enabled: bool,
    /// Executions at once, 1 to 20. Since v0.3.
    pub(crate) slots: u16,
    /// Programs that Teams with the shell `Command` may run there: absolute paths by name.
    /// Since v0.3.
    pub(crate) commands: BTreeMap<String, PathBuf>,
}

/// A CQL database: ScyllaDB or Apache Cassandra.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Cql {
    /// Servers to begin with, `host:port`. Since v0.2.
    pub(crate) contact_points: Vec<String>,
    /// Where the tables are; made at the first start. Since v0.2.
    pub(crate) keyspace: String,
    /// Copies of everything, when the keyspace is made; 0: it must be there. Since v0.2.
    pub(crate) replication: u32,
    /// If given, all quorums are of this data centre; all nodes must agree. Since v0.2.
    pub(crate) datacenter: Option<String>,
    /// The role to log in with. Since v0.2.
    pub(crate) user: Option<String>,
    /// A file whose content is its password. Since v0.2.
    pub(crate) password_file: Option<PathBuf>,
    /// PEM of the authority that signed the servers' certificates; with it connections are
    /// encrypted. Since v0.2.
    pub(crate) ca_file: Option<PathBuf>,
    /// For servers that tell each other addresses which this node does not reach (behind an
    /// address translation): where each of them is, `"10.0.0.5:9042" = "192.0.2.1:19042"`.
    /// Since v0.4.
    pub(crate) addresses: BTreeMap<String, SocketAddr>,
}

/// Where the node itself may connect to (model URLs, MCP servers).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Egress {
    /// Private, loopback and other special addresses that are open: `10.1.0.0/16`,
    /// `127.0.0.1:11434`, `models.internal:443`. Since v0.1.
    pub(crate) allow: Vec<String>,
}

/// Model calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Models {
    /// Pieces per second of the scripted demo model; 0: as fast as it goes. Since v0.1.
    pub(crate) demo_pace: u32,
}

/// Bounds of Tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Tasks {
    /// Entries after which a snapshot is written. Since v0.1.
    pub(crate) snapshot_entries: u64,
    /// Seconds after which an idle Task leaves the memory. Since v0.1.
    pub(crate) idle_seconds: u64,
    /// Seconds after which an approval or a question that nobody answered expires; 0: never.
    /// What was asked before keeps its time. Since v0.3.
    pub(crate) asks_expire_seconds: u64,
    /// Seconds that a device may be away before the attempts on it are lost, 60 to 604,800.
    /// Measured anew after each activation. Since v0.3.
    pub(crate) device_lease_seconds: u64,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Log {
    /// A filter as of `tracing`: `info`, `troupe_gateway=debug,info`. Since v0.1.
    pub(crate) filter: String,
    /// One JSON object per line instead of text. Since v0.1.
    pub(crate) json: bool,
}

/// Traces of requests, for an OpenTelemetry collector. They hold names, times, sizes and ids;
/// never what people or models wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Traces {
    /// The collector's address for OTLP over HTTP: `http://127.0.0.1:4318`. Without one nothing
    /// is collected. Since v0.1.
    pub(crate) endpoint: Option<String>,
    /// The share of requests that are collected, from 0 to 1. A caller that sends a
    /// `traceparent` decides for its own. Since v0.1.
    pub(crate) sample_ratio: f64,
    /// Model calls carry a `traceparent` header. Since v0.1.
    pub(crate) send_to_models: bool,
}

/// Presence, rate limits, notices and news between nodes; none of it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Redis {
    /// `redis://[user[:password]@]host[:port][/db]`, or `rediss://` for TLS; without one this
    /// node keeps all of it for itself. Since v0.1.
    pub(crate) url: Option<RedisUrl>,
    /// A file whose content is the password. Since v0.1.
    pub(crate) password_file: Option<PathBuf>,
    /// PEM of the authority that signed the server's certificate, if it is not one of the
    /// machine's. Since v0.1.
    pub(crate) ca_file: Option<PathBuf>,
}

/// It may hold a password, so it is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RedisUrl(String);

impl RedisUrl {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for RedisUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl")
    }
}

/// Stopping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Shutdown {
    /// How long runs may take to end their step after SIGTERM, in seconds. Since v0.1.
    pub(crate) drain_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::new(),
            public_hosts: Vec::new(),
            scrape_token_file: None,
            tls: TlsSection::default(),
            egress: Egress::default(),
            models: Models { demo_pace: 30 },
            tasks: Tasks {
                snapshot_entries: 1_000,
                idle_seconds: 120,
                asks_expire_seconds: 24 * 3_600,
                device_lease_seconds: LEASE.as_secs(),
            },
            traces: Traces { endpoint: None, sample_ratio: 1.0, send_to_models: false },
            redis: Redis::default(),
            log: Log { filter: troupe_telemetry::DEFAULT_FILTER.into(), json: false },
            shutdown: Shutdown { drain_seconds: 45 },
            node: NodeSection {
                name: String::new(),
                keys: PathBuf::new(),
                link: SocketAddr::from(([127, 0, 0, 1], 8444)),
                advertise: None,
                roles: ["gateway", "entities", "edge", "knowledge"].map(Into::into).to_vec(),
                weight: 100,
            },
            edge: EdgeSection {
                listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
                advertise: None,
                addresses: Vec::new(),
                enrolments_per_minute: 30,
                required: false,
            },
            containers: ContainersSection::default(),
            device: DeviceSection { enabled: true, slots: 5, commands: BTreeMap::new() },
            cql: Cql { keyspace: "troupe".into(), replication: 3, ..Cql::default() },
        }
    }
}

impl Config {
    /// Reads defaults, file and environment.
    ///
    /// # Errors
    /// All unknown keys and wrong values, with their places.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, Box<figment::Error>> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let env = Env::prefixed("TROUPE__")
            .map(|key| key.as_str().replace('_', "-").replace("--", ".").into());
        figment.merge(env).extract().map_err(Box::new)
    }

    /// Everything that cannot work, in one go.
    ///
    /// # Errors
    /// One sentence per fault.
    pub(crate) fn validate(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        if self.data_dir.as_os_str().is_empty() {
            faults.push("data-dir: no data directory; give --data-dir DIR".to_owned());
        }
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            faults.push("tls: a cert-file and a key-file go together".to_owned());
        }
        if self.tls.proxy && self.tls.cert_file.is_some() {
            faults.push("tls.proxy: either a proxy has the certificate or this node".to_owned());
        }
        if self.tasks.snapshot_entries == 0 {
            faults.push("tasks.snapshot-entries: must be at least 1".to_owned());
        }
        if self.redis.url.is_none()
            && (self.redis.password_file.is_some() || self.redis.ca_file.is_some())
        {
            faults.push("redis.url: no address; a password or an authority needs one".to_owned());
        }
        if !(60..=604_800).contains(&self.tasks.device_lease_seconds) {
            faults.push("tasks.device-lease-seconds: must be from 60 to 604800".to_owned());
        }
        if !(0.0..=1.0).contains(&self.traces.sample_ratio) {
            faults.push("traces.sample-ratio: must be from 0 to 1".to_owned());
        }
        let is_http = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if !self.traces.endpoint.as_ref().is_none_or(is_http) {
            faults.push("traces.endpoint: give http://HOST:4318 (OTLP over HTTP)".to_owned());
        }
        for address in self.edge.addresses.iter().chain(&self.edge.advertise) {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                faults.push(format!("edge: `{address}` is no address; write HOST:PORT"));
            }
        }
        if !(1..=100_000).contains(&self.edge.enrolments_per_minute) {
            faults.push("edge.enrolments-per-minute: must be from 1 to 100000".to_owned());
        }
        faults.extend(self.containers.faults());
        if !(1..=20).contains(&self.device.slots) {
            faults.push("device.slots: must be from 1 to 20".to_owned());
        }
        if self.shutdown.drain_seconds > 600 {
            faults.push("shutdown.drain-seconds: must be at most 600".to_owned());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// What a node of a cluster needs besides, in one go.
    ///
    /// # Errors
    /// One sentence per fault.
    pub(crate) fn validate_node(&self) -> Result<(), Vec<String>> {
        let mut faults = self.validate().err().unwrap_or_default();
        let NodeSection { name, keys, roles, weight, link, advertise } = &self.node;
        if name.is_empty() {
            faults.push("node.name: no name; give --name NAME, as in its certificate".to_owned());
        }
        if keys.as_os_str().is_empty() {
            faults.push(
                "node.keys: no keys; `troupe node init` makes them, give --keys DIR".to_owned(),
            );
        }
        if roles.is_empty() {
            faults.push("node.roles: must name at least one role".to_owned());
        }
        for role in roles {
            if let Err(unknown) = role.parse::<NodeRole>() {
                faults.push(format!("node.roles: `{role}` is none; {unknown}"));
            }
        }
        if *weight == 0 {
            faults.push("node.weight: must be at least 1; 100 is usual".to_owned());
        }
        if link.ip().is_unspecified() && advertise.is_none() {
            faults.push(
                "node.advertise: peers need an address; give --advertise HOST:PORT".to_owned(),
            );
        }
        if self.cql.contact_points.is_empty() {
            faults.push("cql.contact-points: no server; give --cql HOST:PORT".to_owned());
        }
        if self.cql.user.is_some() != self.cql.password_file.is_some() {
            faults.push("cql.user: a user and a password-file go together".to_owned());
        }
        for told in self.cql.addresses.keys().filter(|told| told.parse::<SocketAddr>().is_err()) {
            faults.push(format!("cql.addresses: `{told}` is no IP:PORT"));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The roles of a valid configuration.
    pub(crate) fn roles(&self) -> Roles {
        self.node.roles.iter().filter_map(|name| name.parse::<NodeRole>().ok()).collect()
    }

    /// How long a drain may take.
    pub(crate) const fn drain_deadline(&self) -> Duration {
        Duration::from_secs(self.shutdown.drain_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("troupe.toml");
        std::fs::write(&file, "htpp = \"127.0.0.1:1\"\n").unwrap();
        let error = Config::load(Some(&file)).unwrap_err().to_string();
        assert!(error.contains("htpp"), "{error}");
    }

    #[test]
    fn a_file_overrides_a_default_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("troupe.toml");
        std::fs::write(&file, "[models]\ndemo-pace = 0\n").unwrap();
        let config = Config::load(Some(&file)).unwrap();
        assert_eq!(config.models.demo_pace, 0);
        assert_eq!(config.http, Config::default().http);
        assert!(config.validate().is_err(), "no data directory was given");
    }

    /// What `deploy/` tells nodes is what nodes understand.
    #[test]
    fn the_files_of_deploy_are_read() {
        let manifest = include_str!("../../deploy/kubernetes/config.yaml");
        let (_, block) = manifest.split_once("node.toml: |\n").unwrap();
        let in_kubernetes: String =
            block.lines().map(|line| format!("{}\n", line.trim_start_matches("    "))).collect();
        let dir = tempfile::tempdir().unwrap();
        for (text, of_its_own) in [
            (include_str!("../../deploy/docker/node.toml"), 1),
            (in_kubernetes.as_str(), 3),
            (include_str!("../../deploy/systemd/node.toml"), 3),
        ] {
            let file = dir.path().join("node.toml");
            std::fs::write(&file, text).unwrap();
            let mut config = Config::load(Some(&file)).unwrap();
            // What stands on command lines.
            config.node.name = "node-1".to_owned();
            config.node.keys = "keys".into();
            config.node.advertise.get_or_insert("node-1:8444".to_owned());
            config.data_dir = "data".into();
            config.validate_node().unwrap();
            assert_eq!(config.cql.replication, of_its_own);
            assert!(config.redis.url.is_some() && config.scrape_token_file.is_some());
        }
        let file = dir.path().join("troupe.toml");
        std::fs::write(&file, include_str!("../../deploy/systemd/troupe.toml")).unwrap();
        let mut config = Config::load(Some(&file)).unwrap();
        config.data_dir = "data".into();
        config.validate().unwrap();
    }

    #[test]
    fn traces_go_nowhere_unless_told_and_all_faults_are_named() {
        let mut config = Config { data_dir: "data".into(), ..Config::default() };
        assert_eq!(config.traces.endpoint, None);
        config.traces.endpoint = Some("127.0.0.1:4318".to_owned());
        config.traces.sample_ratio = 1.5;
        config.tasks.device_lease_seconds = 59;
        let faults = config.validate().unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        config.tasks.device_lease_seconds = 3_600;
        config.traces.endpoint = Some("http://127.0.0.1:4318".to_owned());
        config.traces.sample_ratio = 0.0;
        config.validate().unwrap();
    }

    #[test]
    fn the_address_of_redis_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("troupe.toml");
        std::fs::write(&file, "[redis]\nurl = \"redis://:secret@127.0.0.1/\"\n").unwrap();
        let mut config = Config::load(Some(&file)).unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(config.redis.url.as_ref().unwrap().reveal(), "redis://:secret@127.0.0.1/");
        config.data_dir = dir.path().into();
        config.validate().unwrap();
        config.redis = Redis { ca_file: Some(file), ..Redis::default() };
        assert!(config.validate().is_err(), "an authority for no address");
    }
}
