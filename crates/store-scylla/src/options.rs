//! What can be set.

use std::{collections::HashMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use crate::error::ConnectError;

/// How a keyspace that this program creates is replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// So many copies, wherever. For one data centre, and for tests.
    Simple(u32),
    /// So many copies in each of these data centres.
    Datacenters(Vec<(String, u32)>),
}

/// A role of the database and its password. `Debug` does not show the latter.
#[derive(Clone)]
pub struct Credentials {
    /// The role.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// One statement, its repetitions included; an append that is not confirmed by then ends
    /// its activation. Default 2 s.
    pub request: Duration,
    /// After so long without an answer an idempotent statement is sent once more, to another
    /// server if there is one. Default 500 ms.
    pub repeat_after: Duration,
    /// One connection attempt. Default 5 s.
    pub connect: Duration,
    /// The whole start: connecting, migrating, preparing. Default 60 s.
    pub start: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(2),
            repeat_after: Duration::from_millis(500),
            connect: Duration::from_secs(5),
            start: Duration::from_secs(60),
        }
    }
}

/// Settings of the clustered store.
#[derive(Clone)]
pub struct ScyllaOptions {
    /// Servers to begin with, `host:port`; the others are found through them.
    pub contact_points: Vec<String>,
    /// Where the tables are. Lower-case letters, digits and `_`, at most 48.
    pub keyspace: String,
    /// The cluster whose nodes, shards and wake rows these are; several may share a keyspace.
    pub cluster: String,
    /// If given, all quorums are of this data centre, and no request leaves it. All nodes of a
    /// cluster must agree on it: quorums of different data centres do not overlap.
    pub datacenter: Option<String>,
    /// How the keyspace is made if there is none; `None`: it must be there.
    pub create_keyspace: Option<Replication>,
    /// Log in with these.
    pub credentials: Option<Credentials>,
    /// Encrypt connections, with this configuration.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// For servers that tell addresses which cannot be reached from here: where they can be.
    /// The others are reached as they are told.
    pub addresses: HashMap<SocketAddr, SocketAddr>,
    /// How long things may take.
    pub timeouts: Timeouts,
}

impl fmt::Debug for ScyllaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScyllaOptions")
            .field("contact_points", &self.contact_points)
            .field("keyspace", &self.keyspace)
            .field("cluster", &self.cluster)
            .field("datacenter", &self.datacenter)
            .field("credentials", &self.credentials)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl ScyllaOptions {
    /// These servers and this keyspace, made with three copies if there is none; everything
    /// else as usual.
    pub fn new(
        contact_points: impl IntoIterator<Item = impl Into<String>>,
        keyspace: impl Into<String>,
    ) -> Self {
        Self {
            contact_points: contact_points.into_iter().map(Into::into).collect(),
            keyspace: keyspace.into(),
            cluster: "troupe".to_owned(),
            datacenter: None,
            create_keyspace: Some(Replication::Simple(3)),
            credentials: None,
            tls: None,
            addresses: HashMap::new(),
            timeouts: Timeouts::default(),
        }
    }

    /// Encrypts connections to servers whose certificates an authority of this PEM file signed.
    ///
    /// # Errors
    /// [`ConnectError::Options`]: the file holds no certificate that can be used.
    pub fn encrypt_with_ca(&mut self, pem: &[u8]) -> Result<(), ConnectError> {
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};
        let unusable = ConnectError::Options("the authority's certificates");
        let mut roots = rustls::RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(pem) {
            let Ok(cert) = cert else { return Err(unusable) };
            if roots.add(cert).is_err() {
                return Err(unusable);
            }
        }
        if roots.is_empty() {
            return Err(unusable);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| unusable)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        self.tls = Some(Arc::new(config));
        Ok(())
    }

    /// Whether the values make sense together; names go into statements as they are.
    ///
    /// # Errors
    /// [`ConnectError::Options`] names the first that does not.
    pub fn validate(&self) -> Result<(), ConnectError> {
        let word = |name: &str, more: &str| {
            !name.is_empty()
                && name.len() <= 48
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || more.contains(c))
        };
        let lower = self.keyspace.starts_with(|c: char| c.is_ascii_lowercase());
        if !lower || !word(&self.keyspace, "") || self.keyspace != self.keyspace.to_lowercase() {
            return Err(ConnectError::Options("the keyspace's name"));
        }
        if self.contact_points.is_empty() {
            return Err(ConnectError::Options("no server to begin with"));
        }
        if self.cluster.is_empty() {
            return Err(ConnectError::Options("the cluster's name"));
        }
        let counted = match &self.create_keyspace {
            None => true,
            Some(Replication::Simple(copies)) => *copies > 0,
            Some(Replication::Datacenters(all)) => {
                !all.is_empty() && all.iter().all(|(name, n)| word(name, "-.") && *n > 0)
            }
        };
        if counted { Ok(()) } else { Err(ConnectError::Options("the replication")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_words_are_refused() {
        let good = ScyllaOptions::new(["127.0.0.1:9042"], "troupe_1");
        good.validate().unwrap();
        for keyspace in ["", "Troupe", "1st", "a b", "a;drop", &"k".repeat(49)] {
            let options = ScyllaOptions { keyspace: keyspace.to_owned(), ..good.clone() };
            assert!(options.validate().is_err(), "{keyspace:?}");
        }
        for all in [vec![], vec![("dc'1".to_owned(), 3)], vec![("dc1".to_owned(), 0)]] {
            let create_keyspace = Some(Replication::Datacenters(all));
            assert!(ScyllaOptions { create_keyspace, ..good.clone() }.validate().is_err());
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let mut options = ScyllaOptions::new(["a:1"], "k");
        options.credentials =
            Some(Credentials { user: "anna".into(), password: "open sesame".into() });
        let shown = format!("{options:?}");
        assert!(shown.contains("anna") && !shown.contains("sesame"), "{shown}");
    }
}
