//! Certificates that are made, kept and read again.

use troupe_link::{CertError, LinkOptions, NodeCa, NodeCert, QuicNetwork};
use zeroize::Zeroizing;

use crate::fixture::{Door, anywhere, ca, identity, network, now};

#[tokio::test]
async fn a_ca_that_was_kept_issues_for_the_same_cluster() {
    let first = ca();
    let kept = NodeCa::from_pem("test", first.cert_pem(), first.key_pem()).unwrap();
    let cert = kept.issue("node-2", now()).unwrap();
    let options = LinkOptions::default();
    let late =
        Door::open(identity("node-2"), network(kept.cert_pem(), &cert, options.clone()), options);
    let mut early = Door::of(&first, "node-1");
    late.dial(&early).await.unwrap();
    assert_eq!(early.next().await.peer.node, "node-2");
}

#[test]
fn secrets_are_not_printed_and_bad_names_get_nothing() {
    let ca = ca();
    let cert = ca.issue("node-1", now()).unwrap();
    let printed = format!("{ca:?} {cert:?}");
    assert!(!printed.contains("PRIVATE"), "{printed}");
    assert!(matches!(ca.issue("no good", now()), Err(CertError::Name(_))));
    assert!(matches!(ca.issue("*", now()), Err(CertError::Name(_))));
}

#[tokio::test]
async fn files_that_do_not_go_together_are_refused() {
    let (ca, options) = (ca(), LinkOptions::default());
    let (one, two) = (ca.issue("node-1", now()).unwrap(), ca.issue("node-2", now()).unwrap());
    let mixed = NodeCert {
        node: "node-1".to_owned(),
        cert_pem: one.cert_pem.clone(),
        key_pem: Zeroizing::new(two.key_pem.to_string()),
    };
    let bound = QuicNetwork::bind(anywhere(), ca.cert_pem(), &mixed, options.clone());
    assert!(matches!(bound, Err(CertError::Tls(_))));
    let bound = QuicNetwork::bind(anywhere(), "nothing", &one, options);
    assert!(bound.is_err());
}
