//! A second Apache Cassandra, whose clients log in with a password over TLS. Tests are told its
//! directory, where the files are that they need.

use std::{fs, net::Ipv4Addr, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use super::{
    Place, Service,
    cassandra::{Cassandra, java, seeds, yaml},
};
use crate::{
    run::{quiet, text},
    workspace::Workspace,
};

/// `host:port`.
const ADDRESS: &str = "address";
/// The certificate that its clients trust.
const CERTIFICATE: &str = "ca.pem";
const STORE: &str = "keys.p12";
/// Opens the key store, which lies beside it in a directory of tests.
const STORE_PASSWORD: &str = "of-a-test-server";
const ALIAS: &str = "server";

const PLAIN: Cassandra = Cassandra { keeps_schema: false, announced: None };

#[derive(Debug)]
pub(crate) struct SecureCassandra;

impl Service for SecureCassandra {
    fn name(&self) -> &'static str {
        "cassandra-secure"
    }

    fn variable(&self) -> &'static str {
        "TROUPE_TEST_CQL_SECURE"
    }

    fn ports(&self) -> usize {
        PLAIN.ports()
    }

    fn start_limit(&self) -> Duration {
        PLAIN.start_limit()
    }

    fn install(&self, ws: &Workspace) -> Result<()> {
        PLAIN.install(ws)
    }

    fn command(&self, ws: &Workspace, place: &Place) -> Result<Command> {
        let &[cql, storage, jmx] = place.ports.as_slice() else {
            bail!("three ports are needed, there are {}", place.ports.len());
        };
        make_keys(&place.dir)?;
        fs::write(place.dir.join(ADDRESS), format!("127.0.0.1:{cql}"))
            .context("write the address")?;
        let mut settings = yaml(&place.dir, cql, storage, Ipv4Addr::LOCALHOST, false);
        settings.push_str(&seeds(Ipv4Addr::LOCALHOST, storage));
        settings.push_str(&format!(
            "authenticator: PasswordAuthenticator
client_encryption_options:
  enabled: true
  # Without it the question whether it answers would need TLS.
  optional: true
  keystore: '{}'
  keystore_password: '{STORE_PASSWORD}'
  store_type: PKCS12
",
            place.dir.join(STORE).display()
        ));
        PLAIN.daemon(ws, place, &settings, jmx)
    }

    fn is_ready(&self, place: &Place) -> bool {
        PLAIN.is_ready(place)
    }

    fn probe(&self) -> (&'static [u8], &'static [u8]) {
        PLAIN.probe()
    }

    fn address(&self, place: &Place) -> String {
        place.dir.display().to_string()
    }
}

/// A key and the certificate of 127.0.0.1, by Java's own tool.
fn make_keys(dir: &Path) -> Result<()> {
    let (store, certificate) = (dir.join(STORE), dir.join(CERTIFICATE));
    if certificate.exists() {
        return Ok(());
    }
    let keytool = java()?.with_file_name("keytool");
    let tool = |verb: &str| {
        let mut command = Command::new(&keytool);
        command.args([verb, "-alias", ALIAS, "-storetype", "PKCS12", "-keystore"]).arg(&store);
        command.args(["-storepass", STORE_PASSWORD]);
        command
    };
    let mut generate = tool("-genkeypair");
    generate.args(["-keyalg", "EC", "-groupname", "secp256r1", "-validity", "3650"]);
    quiet(generate.args(["-dname", "CN=troupe tests", "-ext", "san=ip:127.0.0.1"]))?;
    let pem = text(tool("-exportcert").arg("-rfc"))?;
    fs::write(&certificate, pem + "\n").context("write the certificate")
}
