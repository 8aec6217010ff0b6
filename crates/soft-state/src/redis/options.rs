//! How to reach a Redis.

use std::{fmt, time::Duration};

use redis::{Client, IntoConnectionInfo, ProtocolVersion, TlsCertificates};
use thiserror::Error;

use crate::Lifetimes;

/// Longest name of a cluster or node, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Where the server is, and how long things may take.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://[user[:password]@]host[:port][/db]`, or `rediss://` for TLS.
    pub url: String,
    /// Instead of one in the address.
    pub password: Option<String>,
    /// PEM of the authority that signed the server's certificate; the machine's own ones
    /// otherwise.
    pub ca: Option<Vec<u8>>,
    /// Tells clusters on one server apart: all keys begin with it.
    pub cluster: String,
    /// Tells nodes apart, and one start of a node from the next.
    pub node: String,
    /// How long a call waits for an answer before this node answers alone; 200 ms.
    pub command_timeout: Duration,
    /// How often a connection that works is looked at; 1 s.
    pub probe_every: Duration,
    /// How long connecting or a look may take before the node says that it is degraded; 1 s.
    pub probe_timeout: Duration,
    /// Between two tries to connect: from this, doubled each time, to
    /// [`pause_max`](Self::pause_max); 50 ms.
    pub pause_min: Duration,
    /// 2 s.
    pub pause_max: Duration,
    /// How long things are kept.
    pub lifetimes: Lifetimes,
}

impl RedisOptions {
    /// With the values of the design.
    #[must_use]
    pub fn new(url: String, cluster: String, node: String) -> Self {
        Self {
            url,
            password: None,
            ca: None,
            cluster,
            node,
            command_timeout: Duration::from_millis(200),
            probe_every: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(1),
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
            lifetimes: Lifetimes::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), RedisError> {
        for (what, name) in [("cluster", &self.cluster), ("node", &self.node)] {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return Err(RedisError::Name { what });
            }
        }
        Ok(())
    }

    pub(super) fn client(&self) -> Result<Client, RedisError> {
        let info = self.url.as_str().into_connection_info();
        let info = info.map_err(|source| RedisError::Address { source })?;
        let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        let info = info.set_redis_settings(settings);
        let client = if matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. }) {
            // The library takes the process's provider; where there is none yet it is ours.
            let _is_there_already = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let root_cert = self.ca.clone();
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
        } else {
            Client::open(info)
        };
        client.map_err(|source| RedisError::Address { source })
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("RedisOptions")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("command_timeout", &self.command_timeout)
            .finish_non_exhaustive()
    }
}

/// What cannot work, however long one waits.
#[derive(Debug, Error)]
pub enum RedisError {
    /// The address is none, or the certificate cannot be read.
    #[error("the address of redis cannot be used")]
    Address {
        /// Why.
        #[source]
        source: redis::RedisError,
    },
    /// It names keys.
    #[error("the name of the {what} has to have 1 to 128 bytes")]
    Name {
        /// `cluster` or `node`.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> RedisOptions {
        RedisOptions::new(url.into(), "cluster".into(), "node".into())
    }

    #[test]
    fn an_address_is_checked_and_never_shown() {
        assert!(options("redis://127.0.0.1:6379/0").client().is_ok());
        assert!(options("rediss://user:secret@redis.example/1").client().is_ok());
        for wrong in ["http://127.0.0.1", "127.0.0.1:6379", "redis://", ""] {
            assert!(options(wrong).client().is_err(), "{wrong}");
        }
        let wrong = options("redis://user:secret@127.0.0.1:port/").client().unwrap_err();
        let shown = format!("{wrong:?} {:?}", options("redis://:secret@127.0.0.1/"));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn names_are_bounded() {
        assert!(options("redis://h").check().is_ok());
        for name in ["", &"n".repeat(129)] {
            let options = RedisOptions { node: name.into(), ..options("redis://h") };
            assert!(matches!(options.check(), Err(RedisError::Name { what: "node" })));
        }
    }
}
