//! Configuration of a node: built-in defaults, then a TOML file, then `TROUPE__SECTION__KEY`
//! from the environment, then the command line. All faults are told in one go.

use std::{
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
    /// Outgoing HTTP.
    pub(crate) egress: Egress,
    /// Model calls.
    pub(crate) models: Models,
    /// Bounds of Tasks.
    pub(crate) tasks: Tasks,
    /// Logging.
    pub(crate) log: Log,
    /// What nodes share and may forget.
    pub(crate) redis: Redis,
    /// Stopping.
    pub(crate) shutdown: Shutdown,
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
            egress: Egress::default(),
            models: Models { demo_pace: 30 },
            tasks: Tasks { snapshot_entries: 1_000, idle_seconds: 120 },
            redis: Redis::default(),
            log: Log { filter: troupe_telemetry::DEFAULT_FILTER.into(), json: false },
            shutdown: Shutdown { drain_seconds: 45 },
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
        if self.tasks.snapshot_entries == 0 {
            faults.push("tasks.snapshot-entries: must be at least 1".to_owned());
        }
        if self.redis.url.is_none()
            && (self.redis.password_file.is_some() || self.redis.ca_file.is_some())
        {
            faults.push("redis.url: no address; a password or an authority needs one".to_owned());
        }
        if self.shutdown.drain_seconds > 600 {
            faults.push("shutdown.drain-seconds: must be at most 600".to_owned());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
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
