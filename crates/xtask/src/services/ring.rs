//! Three servers of Apache Cassandra that are one ring, on loopback addresses of their own:
//! drivers expect all servers of a ring at one port.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    Place, Service,
    cassandra::{Cassandra, probe, seeds, yaml},
};
use crate::workspace::Workspace;

const NAMES: [&str; 3] = ["cassandra-ring-1", "cassandra-ring-2", "cassandra-ring-3"];
const VARIABLES: [&str; 3] = ["TROUPE_TEST_CQL", "TROUPE_TEST_CQL_2", "TROUPE_TEST_CQL_3"];
const CQL: u16 = 19_142;
const STORAGE: u16 = 17_142;
const PLAIN: Cassandra = Cassandra { keeps_schema: false, announced: None };

/// A server of the ring, from 0.
#[derive(Debug)]
struct Member(u8);

/// All servers, in the order in which they join.
pub(super) fn members() -> Vec<Box<dyn Service>> {
    (0..3).map(|n| Box::new(Member(n)) as Box<dyn Service>).collect()
}

impl Member {
    const fn own(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 1, self.0 + 1)
    }

    const fn at(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.own(), CQL)
    }
}

impl Service for Member {
    fn name(&self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    fn variable(&self) -> &'static str {
        VARIABLES[usize::from(self.0)]
    }

    /// Management alone: the others are the same at every address.
    fn ports(&self) -> usize {
        1
    }

    fn start_limit(&self) -> Duration {
        PLAIN.start_limit()
    }

    fn install(&self, ws: &Workspace) -> Result<()> {
        PLAIN.install(ws)
    }

    fn command(&self, ws: &Workspace, place: &Place) -> Result<Command> {
        let jmx = *place.ports.first().context("a port for management")?;
        let mut settings = yaml(&place.dir, CQL, STORAGE, self.own(), false);
        settings.push_str(&seeds(Member(0).own(), STORAGE));
        // There is nothing to copy from the others yet.
        settings.push_str("authenticator: AllowAllAuthenticator\nauto_bootstrap: false\n");
        PLAIN.daemon(ws, place, &settings, jmx)
    }

    fn is_ready(&self, _: &Place) -> bool {
        probe(self.at()).unwrap_or(false)
    }

    fn probe(&self) -> (&'static [u8], &'static [u8]) {
        PLAIN.probe()
    }

    fn address(&self, _: &Place) -> String {
        self.at().to_string()
    }
}
