//! HTTPS with a certificate of one's own: requests and sockets, bad files, bad handshakes, renewal.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use futures::StreamExt as _;
use reqwest::{Certificate, Client};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::client::generate_key, protocol::Role},
};
use troupe_gateway::{GatewayOptions, HttpsCert, HttpsError, NoConsole, serve};

use crate::node::{DEADLINE, Node};

/// An authority, and the files of a node whose certificate it signs.
struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);
        Self { pem, issuer, dir: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new certificate with a new key.
    fn sign(&self) -> (PathBuf, PathBuf) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["localhost", "troupe.test", "*.wild.test"].map(str::to_owned);
        let params = rcgen::CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = (self.file("node.crt"), self.file("node.key"));
        fs::write(&files.0, certificate.pem()).unwrap();
        fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    fn load(&self) -> Result<HttpsCert, HttpsError> {
        HttpsCert::load(&self.file("node.crt"), &self.file("node.key"))
    }

    /// Somebody who trusts it, and says which certificate was shown.
    fn client(&self) -> Client {
        let pem = Certificate::from_pem(self.pem.as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([pem]).tls_info(true).timeout(DEADLINE);
        client.build().unwrap()
    }
}

/// A node behind HTTPS.
struct Served {
    at: SocketAddr,
    url: String,
    cert: Arc<HttpsCert>,
    _node: Node,
    _serving: JoinSet<()>,
}

async fn served(authority: &Authority) -> Served {
    authority.sign();
    let cert = Arc::new(authority.load().unwrap());
    let options =
        GatewayOptions { public_hosts: cert.names().to_vec(), ..GatewayOptions::default() };
    let node = Node::with(options, Arc::new(NoConsole)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (router, shown) = (node.gateway.router(), Arc::clone(&cert));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        serve(listener, Some(&shown), router, std::future::pending()).await.unwrap();
    });
    let url = format!("https://localhost:{}", at.port());
    Served { at, url, cert, _node: node, _serving: serving }
}

#[tokio::test]
async fn requests_and_sockets_go_through_tls() {
    let authority = Authority::new();
    let node = served(&authority).await;
    let client = authority.client();
    let health = client.get(format!("{}/health", node.url)).send().await.unwrap();
    assert_eq!(health.status(), 200);
    let path = "/socket.io/?EIO=4&transport=websocket";
    let asked = client
        .get(format!("{}{path}", node.url))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key());
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 101);
    let raw = answer.upgrade().await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(raw, Role::Client, None).await;
    let opened = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(opened.starts_with("0{\"sid\":"), "{opened}");
    // The names of the certificate are the node's, and no others.
    for (name, status) in [("troupe.test", 200), ("a.wild.test", 200), ("a.b.wild.test", 421)] {
        let asked = client.get(format!("{}/api/v1/openapi.json", node.url)).header("host", name);
        assert_eq!(asked.send().await.unwrap().status(), status, "{name}");
    }
    // Who does not know the authority does not speak with it.
    let stranger = Client::builder().tls_certs_only([]).build().unwrap();
    stranger.get(format!("{}/health", node.url)).send().await.unwrap_err();
}

#[tokio::test]
async fn plain_http_is_told_so_and_bad_handshakes_end() {
    let authority = Authority::new();
    let node = served(&authority).await;
    let plain = format!("http://{}/api/v1/tasks", node.at);
    let body = vec![b'x'; 40_000];
    let told = Client::new().post(plain).body(body).send().await.unwrap();
    assert_eq!(told.status(), 400);
    assert_eq!(told.headers()["content-type"], "application/problem+json");
    let problem: serde_json::Value = told.json().await.unwrap();
    assert_eq!(problem["code"], "https_only");
    assert!(problem["detail"].as_str().unwrap().contains("https://"), "{problem}");
    // Looks like a handshake and is none.
    let mut garbage = TcpStream::connect(node.at).await.unwrap();
    garbage.write_all(&[22, 3, 1, 0, 4, 9, 9, 9, 9]).await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, garbage.read_to_end(&mut rest)).await;
    // An alert, or a reset: it is over.
    let _ = ended.unwrap();
    let health = authority.client().get(format!("{}/health", node.url)).send().await.unwrap();
    assert_eq!(health.status(), 200);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_given_up() {
    let authority = Authority::new();
    let node = served(&authority).await;
    let mut slow = TcpStream::connect(node.at).await.unwrap();
    slow.write_all(&[22]).await.unwrap();
    let mut rest = [0; 1];
    let ended = tokio::time::timeout(DEADLINE, slow.read(&mut rest)).await;
    assert_eq!(ended.unwrap().unwrap_or(0), 0, "nothing is said");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_a_broken_one_is_not() {
    let authority = Authority::new();
    let node = served(&authority).await;
    let shown = async || {
        let answer = authority.client().get(format!("{}/health", node.url)).send().await.unwrap();
        let info = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
        info.peer_certificate().unwrap().to_vec()
    };
    let before = shown().await;
    assert!(!node.cert.reload().unwrap(), "it is the same");
    authority.sign();
    assert_eq!(shown().await, before, "nobody looked yet");
    assert!(node.cert.reload().unwrap());
    let after = shown().await;
    assert_ne!(after, before);
    // Half of a renewal: the key of another certificate.
    let key = fs::read(authority.file("node.key")).unwrap();
    authority.sign();
    fs::write(authority.file("node.key"), key).unwrap();
    assert!(matches!(node.cert.reload(), Err(HttpsError::Pair { .. })));
    assert_eq!(shown().await, after);
}

#[test]
fn files_that_are_not_what_they_should_be_are_named() {
    let authority = Authority::new();
    let (cert, key) = authority.sign();
    let good = fs::read(&cert).unwrap();
    let fails = |what: &str| {
        let error = authority.load().unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    fs::write(&cert, "no pem").unwrap();
    fails("node.crt: no certificates");
    fs::remove_file(&cert).unwrap();
    fails("cannot read");
    fs::write(&cert, &good).unwrap();
    fs::write(&key, &good).unwrap();
    fails("node.key: no private key");
    let other = rcgen::KeyPair::generate().unwrap();
    fs::write(&key, other.serialize_pem()).unwrap();
    fails("is no certificate for");
}
