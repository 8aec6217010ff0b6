//! A server that wants TLS and a password: `TROUPE_TEST_CQL_SECURE` names the directory with its
//! address and its certificate.

use std::{fs, path::PathBuf, time::Duration};

use scylla::client::session_builder::SessionBuilder;
use tokio::time::{Instant, interval};
use troupe_store::Ownership as _;
use troupe_store_scylla::{ConnectError, Credentials, Replication, ScyllaOptions, ScyllaStore};

use crate::server::{fresh_keyspace, new_lease, options};

const VARIABLE: &str = "TROUPE_TEST_CQL_SECURE";
/// The role that a new Cassandra has, a moment after its start.
const FIRST: &str = "cassandra";
const WAIT: Duration = Duration::from_secs(60);

struct Secure {
    dir: PathBuf,
}

impl Secure {
    fn find() -> Option<Self> {
        let dir = std::env::var_os(VARIABLE).map(PathBuf::from);
        if dir.is_none() {
            assert!(std::env::var_os("CI").is_none(), "{VARIABLE} is not set, and this is CI");
            eprintln!("skipped: `cargo xtask services up secure-cassandra` tells {VARIABLE}");
        }
        dir.map(|dir| Self { dir })
    }

    fn options(&self, user: &str, password: &str) -> ScyllaOptions {
        let address = fs::read_to_string(self.dir.join("address")).unwrap();
        let mut options = options(&address, &fresh_keyspace());
        options.create_keyspace = Some(Replication::Simple(1));
        options.credentials = Some(Credentials { user: user.into(), password: password.into() });
        options.encrypt_with_ca(&fs::read(self.dir.join("ca.pem")).unwrap()).unwrap();
        options
    }

    /// A role of our own with a password that only this test knows.
    async fn role(&self, name: &str, password: &str) {
        let options = self.options(FIRST, FIRST);
        let (begun, mut tries) = (Instant::now(), interval(Duration::from_millis(200)));
        // It makes its first role by itself after it began to answer.
        let session = loop {
            tries.tick().await;
            let builder = SessionBuilder::new().known_nodes(&options.contact_points);
            match builder.user(FIRST, FIRST).tls_context(options.tls.clone()).build().await {
                Ok(session) => break session,
                Err(error) if begun.elapsed() > WAIT => panic!("no first role: {error}"),
                Err(_) => {}
            }
        };
        let text = format!(
            "CREATE ROLE IF NOT EXISTS {name} WITH PASSWORD = '{password}' AND LOGIN = true"
        );
        session.query_unpaged(text, ()).await.unwrap();
    }
}

/// The reason why a store was not reached.
async fn refused(options: &ScyllaOptions) -> String {
    match ScyllaStore::connect(options).await {
        Ok(_) => panic!("it was let in"),
        Err(error @ ConnectError::Unreachable { .. }) => format!("{error}: {error:?}"),
        Err(error) => panic!("another error: {error:?}"),
    }
}

#[tokio::test]
async fn a_node_logs_in_over_tls_and_others_are_refused() {
    let Some(secure) = Secure::find() else { return };
    let name = format!("node_{}", fresh_keyspace());
    secure.role(&name, "open sesame").await;

    let good = secure.options(&name, "open sesame");
    let store = ScyllaStore::connect(&good).await.unwrap();
    let lease = store.join(&new_lease("secure")).await.unwrap();
    let leases = store.leases().await.unwrap();
    assert_eq!(leases.iter().map(|row| row.inc).collect::<Vec<_>>(), [lease.inc]);

    let told = refused(&secure.options(&name, "open barley")).await;
    assert!(told.to_lowercase().contains("authenti") || told.contains("credentials"), "{told}");
    assert!(!told.contains("barley"), "the password is told: {told}");

    let mut nobody = secure.options(&name, "");
    nobody.credentials = None;
    refused(&nobody).await;

    // A server whose certificate somebody else signed is none of ours.
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut fooled = secure.options(&name, "open sesame");
    fooled.encrypt_with_ca(stranger.cert.pem().as_bytes()).unwrap();
    let told = refused(&fooled).await;
    assert!(!told.contains("sesame"), "the password is told: {told}");
}
