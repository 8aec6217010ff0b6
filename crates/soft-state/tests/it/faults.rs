//! A server that hangs, dies, is full, refuses: the node says so, stays fast, and comes back by
//! itself.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use troupe_soft_state::{
    Notice, RedisOptions, Rule, TaskNote, Verdict,
    conformance::{eventually, viewer},
};
use troupe_types::{Seq, Status, TaskId, Timestamp, UserId, Uuid};

use crate::server::{self, Node, Server, ask};

/// A call may take 200 ms; the rest is for a busy machine.
const FAST: Duration = Duration::from_millis(1_500);
const RULE: Rule = Rule { burst: 3, per: Duration::from_secs(3_600) };

fn task() -> TaskId {
    TaskId::from_uuid(Uuid::new_v4())
}

fn note(seq: u64) -> TaskNote {
    let updated_at = Timestamp::from_millis(1);
    TaskNote { seq: Seq(seq), status: Status::Running, updated_at, last_line: None }
}

fn notice(n: u32) -> Notice {
    let user = UserId::from_uuid(Uuid::from_u128(1));
    Notice { user, event: "task:status".into(), payload: json!({ "n": n }) }
}

/// Every kind of call once, all of them answered in time and sensibly by the node alone.
async fn works_alone(node: &Node, round: u32) {
    let (state, here, name) = (&node.state, task(), Uuid::new_v4().to_string());
    let mut hears = state.notices();
    let start = Instant::now();
    assert_eq!(state.announce(here, &[viewer(1)]).await, []);
    assert_eq!(state.elsewhere(here).await, []);
    state.put_status(here, &note(1)).await;
    assert_eq!(state.statuses(&[here]).await, [Some(note(1))]);
    for _ in 0..3 {
        assert_eq!(state.take(&name, RULE).await, Verdict::Allowed);
    }
    assert_ne!(state.take(&name, RULE).await, Verdict::Allowed, "it counts for itself");
    state.give_back(&name, RULE).await;
    assert_eq!(state.take(&name, RULE).await, Verdict::Allowed);
    state.forget(&name).await;
    assert_eq!(state.take(&name, RULE).await, Verdict::Allowed);
    state.notify(notice(round));
    assert_eq!(hears.recv().await.unwrap(), notice(round), "its own users are told");
    state.tell_revoked();
    let took = start.elapsed();
    assert!(took < FAST, "all calls took {took:?}");
}

/// Everything goes from one node to the other.
async fn works_together(one: &Node, two: &Node, round: u32) {
    one.until(false).await;
    two.until(false).await;
    let (here, name) = (task(), Uuid::new_v4().to_string());
    one.state.announce(here, &[viewer(1)]).await;
    assert_eq!(two.state.elsewhere(here).await, [viewer(1)]);
    one.state.put_status(here, &note(1)).await;
    assert_eq!(two.state.statuses(&[here]).await, [Some(note(1))]);
    for node in [one, two, one] {
        assert_eq!(node.state.take(&name, RULE).await, Verdict::Allowed);
    }
    assert_ne!(two.state.take(&name, RULE).await, Verdict::Allowed, "they count together");
    let mut hears = two.state.notices();
    one.state.notify(notice(round));
    let told = tokio::time::timeout(server::PATIENCE, hears.recv()).await;
    assert_eq!(told.expect("in time").unwrap(), notice(round));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server() {
    let Some(server) = Server::started(&[]) else { return };
    let [one, two] = server::two(&server.url());
    works_together(&one, &two, 0).await;
    for round in 1..=2 {
        server.signal("STOP");
        // Nobody has noticed yet: these are the slowest calls there are.
        let slowest = Instant::now();
        assert_eq!(one.state.take("first", RULE).await, Verdict::Allowed);
        assert!(slowest.elapsed() < FAST, "the first call took {:?}", slowest.elapsed());
        works_alone(&one, round).await;
        let why = one.until(true).await.unwrap();
        assert!(why.contains("does not answer"), "{why}");
        two.until(true).await;
        // A thousand calls, each of which would have to wait for its timeout.
        let start = Instant::now();
        for _ in 0..1_000 {
            two.state.elsewhere(task()).await;
        }
        assert!(start.elapsed() < FAST, "{:?}", start.elapsed());
        let mut revoked = two.state.revocations();
        revoked.mark_unchanged();
        server.signal("CONT");
        works_together(&one, &two, 100 + round).await;
        assert!(revoked.has_changed().unwrap(), "some may have been missed: look");
        one.state.forget("first").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_and_an_empty_one_in_its_place() {
    let Some(mut server) = Server::started(&[]) else { return };
    let [one, two] = server::two(&server.url());
    works_together(&one, &two, 0).await;
    for round in 1..=3 {
        server.kill();
        works_alone(&one, round).await;
        assert!(one.until(true).await.is_some());
        assert!(two.until(true).await.is_some());
        works_alone(&two, round).await;
        server.start();
        works_together(&one, &two, 100 + round).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_by_the_server() {
    let Some(server) = Server::started(&[]) else { return };
    let [one, two] = server::two(&server.url());
    works_together(&one, &two, 0).await;
    for round in 1..=5 {
        let _: i64 = server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        let _: i64 = server.ask(&["CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes"]).await;
        works_alone_or_together(&one).await;
        // It heals before anyone has to be told; both directions work again.
        let (mut hears, mut n) = (two.state.notices(), 1_000 * round);
        let crossed = async || {
            n += 1;
            one.state.notify(notice(n));
            hears.try_recv().ok()
        };
        eventually("notices cross again", crossed).await;
    }
}

async fn works_alone_or_together(node: &Node) {
    let start = Instant::now();
    for _ in 0..100 {
        node.state.put_status(task(), &note(1)).await;
    }
    assert!(start.elapsed() < FAST, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_later() {
    let Some(mut server) = Server::new(&[]) else { return };
    let [one, two] = server::two(&server.url());
    let start = Instant::now();
    works_alone(&one, 1).await;
    assert!(start.elapsed() < FAST);
    let refuses = async || {
        let health = one.state.health();
        let why = health.borrow().reason().map(str::to_owned);
        why.filter(|why| why.contains("refuses"))
    };
    eventually("it says why", refuses).await;
    server.start();
    works_together(&one, &two, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_counts_as_none() {
    let Some(server) = Server::started(&[]) else { return };
    let [one, two] = server::two(&server.url());
    works_together(&one, &two, 0).await;
    let _: String = server.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let why = one.until(true).await.unwrap();
    assert!(why.contains("OOM"), "{why}");
    works_alone(&one, 1).await;
    let _: String = server.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    works_together(&one, &two, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password() {
    const PASSWORD: &str = "between/us: nobody+else";
    let Some(server) = Server::started(&["--requirepass", PASSWORD]) else { return };
    let cluster = Uuid::new_v4();
    let start = |password: Option<&str>| {
        let options = server::options(&server.url(), cluster);
        Node::start(RedisOptions { password: password.map(str::to_owned), ..options })
    };
    let [one, two] = [start(Some(PASSWORD)), start(Some(PASSWORD))];
    works_together(&one, &two, 0).await;
    for wrong in [None, Some("wrong-one")] {
        let node = start(wrong);
        let refused = async || {
            let why = node.state.health().borrow().reason().map(str::to_owned)?;
            (!why.contains("not connected")).then_some(why)
        };
        let why = eventually("it says why", refused).await;
        assert!(why.contains("NOAUTH") || why.contains("WRONGPASS"), "{why}");
        assert!(!why.contains("wrong-one") && !format!("{node:?}").contains("wrong-one"));
        works_alone(&node, 1).await;
    }
}

/// The rights that docs/soft-state.md asks for are enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_rights() {
    let Some(server) = Server::started(&[]) else { return };
    let rights = "~troupe:* &troupe:* +@connection +set +get +mget +del +hget +hset +hdel \
                  +hgetall +pexpire +publish +subscribe +eval +evalsha +script +time";
    let mut words = vec!["ACL", "SETUSER", "troupe", "on", ">secret"];
    words.extend(rights.split_whitespace());
    let _: String = server.ask(&words).await;
    let [one, two] = server::two(&format!("{}?user=troupe&pass=secret", server.url()));
    works_together(&one, &two, 0).await;
    let (name, rule) = (Uuid::new_v4().to_string(), Rule { burst: 1, ..RULE });
    assert_eq!(one.state.take(&name, rule).await, Verdict::Allowed);
    two.state.give_back(&name, rule).await;
    assert_eq!(one.state.take(&name, rule).await, Verdict::Allowed);
    two.state.forget(&name).await;
    assert_eq!(one.state.take(&name, rule).await, Verdict::Allowed);
    // Without the channel it cannot hear the others.
    let _: String = server.ask(&["ACL", "SETUSER", "troupe", "resetchannels"]).await;
    let why = one.until(true).await.unwrap();
    assert!(why.contains("closed") || why.contains("NOPERM"), "{why}");
    let _: String = server.ask(&["ACL", "SETUSER", "troupe", "&troupe:*"]).await;
    works_together(&one, &two, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_an_authority_of_ones_own() {
    let Some(mut server) = Server::new(&[]) else { return };
    let (authority, file) = (authority(), |name: &str| server.dir().join(name));
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority.1).unwrap();
    std::fs::write(file("server.crt"), certificate.pem()).unwrap();
    std::fs::write(file("server.key"), key.serialize_pem()).unwrap();
    std::fs::write(file("ca.crt"), &authority.0).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = |name: &str| file(name).display().to_string();
    let arguments = [
        ["--tls-port", &free.to_string()],
        ["--tls-cert-file", &place("server.crt")],
        ["--tls-key-file", &place("server.key")],
        ["--tls-ca-cert-file", &place("ca.crt")],
        ["--tls-auth-clients", "no"],
        ["--bind", "127.0.0.1"],
    ];
    let arguments = arguments.concat().into_iter().map(str::to_owned).collect();
    server.serve_also(arguments);
    let _: String = ask(&server.url(), &["PING"]).await;
    let url = format!("rediss://localhost:{free}");
    let cluster = Uuid::new_v4();
    let start = |ca: &str| {
        let ca = Some(ca.as_bytes().to_vec());
        Node::start(RedisOptions { ca, ..server::options(&url, cluster) })
    };
    let [one, two] = [start(&authority.0), start(&authority.0)];
    works_together(&one, &two, 0).await;
    // Somebody else's word for who the server is does not count.
    let stranger = start(&self::authority().0);
    let refused = async || {
        let why = stranger.state.health().borrow().reason().map(str::to_owned)?;
        (!why.contains("not connected")).then_some(why)
    };
    eventually("a stranger does not connect", refused).await;
    works_alone(&stranger, 1).await;
}

fn authority() -> (String, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), rcgen::Issuer::new(params, key))
}
