use std::sync::Mutex;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};
use troupe_actor::settle;
use troupe_sharding::Router;
use troupe_store::MemoryStore;
use troupe_types::{SystemClock, UserId};

use super::*;
use crate::spec::Limits;

const LONG: Duration = Duration::from_secs(30);
const LEFT: &str =
    r#"[{"Id":"1","Names":["/left"],"State":"exited","Labels":{"troupe.pool":"test/here"}}]"#;

/// An engine that has one container, which it cannot remove, and makes none.
async fn engine(listener: UnixListener, asked: Arc<Mutex<Vec<String>>>) {
    let mut talks = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        talks.spawn(talk(stream, Arc::clone(&asked)));
    }
}

async fn talk(mut stream: UnixStream, asked: Arc<Mutex<Vec<String>>>) {
    let (mut heard, mut buffer) = (String::new(), vec![0; 64 * 1024]);
    while let Ok(size @ 1..) = stream.read(&mut buffer).await {
        heard.push_str(&String::from_utf8_lossy(&buffer[..size]));
        let Some((head, body)) = heard.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            line.to_lowercase().strip_prefix("content-length: ")?.trim().parse::<usize>().ok()
        });
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let line = head.lines().next().unwrap_or_default().to_owned();
        let (status, body) = match line.as_str() {
            line if line.contains("/version") => ("200 OK", r#"{"ApiVersion":"1.43"}"#),
            line if line.contains("/containers/json") => ("200 OK", LEFT),
            line if line.starts_with("DELETE") && !line.contains("/left") => {
                ("404 Not Found", "{}")
            }
            _ => ("500 Internal Server Error", r#"{"message":"device or resource busy"}"#),
        };
        asked.lock().unwrap().push(line);
        let size = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n{body}"
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        heard.clear();
    }
}

#[tokio::test]
async fn one_that_cannot_be_removed_keeps_the_pool_from_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    tasks.spawn(engine(UnixListener::bind(&socket).unwrap(), Arc::clone(&asked)));
    let address = format!("unix://{}", socket.display());
    let limits = Limits::default();
    let names = ("test/here".to_owned(), "net".to_owned());
    let engine = Engine::connect(&address, names.0, names.1, limits).await.unwrap();

    let directory = MemoryStore::new().stores().directory;
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let now = clock.now();
    let wish = ContainerRow {
        v: 1,
        task: TaskId::new(now),
        owner: UserId::new(now),
        image: None,
        keep: false,
        since: now,
        asked_at: now,
        state: ContainerState::Wanted,
    };
    assert!(container::insert(&*directory, &wish).await.unwrap());
    let options = PoolOptions {
        node: "here".to_owned(),
        image: "image".to_owned(),
        images: Vec::new(),
        max: 2,
        warm: 0,
        idle: LONG,
        abandoned: LONG,
        edge: EdgePoint { host: "localhost".to_owned(), port: 1, fingerprint: [0; 32] },
    };
    let parts = (Arc::clone(&directory), Router::new(), Arc::clone(&clock));
    let authority = Arc::new(Authority::new(parts.0, parts.1, parts.2, Vec::new()));
    tasks.spawn(Pool::new(options, engine, directory, authority, clock).run());

    let count = |what: &str| asked.lock().unwrap().iter().filter(|l| l.contains(what)).count();
    let done = settle(LONG, || count("/containers/create") > 0 && count("/left") > 1).await;
    assert!(done, "{:#?}", asked.lock().unwrap());
}
