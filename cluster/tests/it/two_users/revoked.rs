//! What is revoked is over: open sockets get no frame after five seconds, and a restart does not
//! bring anything back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use troupe_testkit::FakeModel;

use super::sio::Sio;
use crate::{
    node::{Home, Node, Person},
    scene::{self, Pace, team},
    stream::Socket,
};

/// After so long nothing may come any more.
const LAST_FRAME_AFTER: Duration = Duration::from_secs(5);
/// How long is watched beyond that.
const WATCHED: Duration = Duration::from_secs(8);

/// How it was ended, over what it was watched, when its last frame came, and whether it is over.
type Watched = (&'static str, &'static str, Option<Instant>, bool);

/// A way to look at a Task, and a way in which it was taken away.
struct Ended {
    how: &'static str,
    token: String,
    refresh: Option<String>,
}

async fn joined(node: &Node, token: &str, task: &str) -> Result<Sio> {
    let sio = Sio::connect(&node.url, token).await?;
    let mut sio = sio.map_err(|refused| anyhow::anyhow!("refused: {refused}"))?;
    let ack = sio.call("task:join", &json!({"task_id": task})).await?;
    ensure!(ack["error"].is_null(), "{ack}");
    Ok(sio)
}

/// When its last frame came, and whether the node ended it.
async fn last_of_stream(mut socket: Socket, until: Instant) -> Result<(Option<Instant>, bool)> {
    let mut last = None;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, socket.next_frame(WATCHED)).await {
            Ok(Ok(Some(_))) => last = Some(Instant::now()),
            Ok(Ok(None)) => return Ok((last, true)),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok((last, false)),
        }
    }
}

/// Ends what each of them goes by, in the way that its name says.
async fn revoke(node: &Node, admin: &Person, people: &People) -> Result<Vec<Ended>> {
    let People { out, key, key_id, .. } = people;
    let body = json!({"refresh_token": out.refresh});
    let answer = node.call("POST", "/api/v1/auth/logout", None, Some(&body)).await?;
    ensure!(answer.status == 204, "{}", answer.text);
    let path = format!("/api/v1/api-keys/{key_id}");
    let answer = node.call("DELETE", &path, Some(&people.kept), None).await?;
    ensure!(answer.status == 204, "{}", answer.text);
    let users = node.get("/api/v1/users?limit=100", admin).await?;
    let named = |name: &str| {
        let items = users["items"].as_array().into_iter().flatten();
        let user = items.clone().find(|user| user["user_name"] == name);
        user.and_then(|user| user["id"].as_str()).map(str::to_owned).context("no such user")
    };
    let path = format!("/api/v1/users/{}", named("bob")?);
    let answer = node.call("DELETE", &path, Some(admin), None).await?;
    ensure!(answer.status == 204, "{}", answer.text);
    let path = format!("/api/v1/users/{}", named("carl")?);
    let password = json!({"password": "another-long-password"});
    let answer = node.call("PATCH", &path, Some(admin), Some(&password)).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    let of = |how, who: &Person| {
        let (token, refresh) = (who.token.clone(), Some(who.refresh.clone()));
        Ended { how, token, refresh }
    };
    Ok(vec![
        of("logout", out),
        Ended { how: "a deleted key", token: key.clone(), refresh: None },
        of("deactivation", &people.bob),
        of("a new password", &people.carl),
    ])
}

struct People {
    /// Her session that goes on.
    kept: Person,
    out: Person,
    key: String,
    key_id: String,
    bob: Person,
    carl: Person,
}

impl People {
    async fn new(node: &Node, admin: &Person) -> Result<Self> {
        let kept = node.user(admin, "ulla").await?;
        let out = node.login("ulla").await?;
        let made = node.post("/api/v1/api-keys", Some(&kept), &json!({"name": "k"})).await?;
        let text = |field: &str| made[field].as_str().map(str::to_owned).context("no such field");
        let (key, key_id) = (text("key")?, text("id")?);
        let bob = node.user(admin, "bob").await?;
        let carl = node.user(admin, "carl").await?;
        Ok(Self { kept, out, key, key_id, bob, carl })
    }
}

/// A Task of theirs that talks for as long as is watched.
async fn talking(node: &Node, fake: &FakeModel, who: &Person) -> Result<String> {
    let yaml = format!("{}{}", scene::cast(fake, None), team("alone", "solo", &["ann"]));
    node.apply(who, &yaml).await?;
    node.run(who, "alone", "Talk.").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_hears_nothing_after_five_seconds_and_stays_so() -> Result<()> {
    let pace = Pace { words: 4_000, gap: Duration::from_millis(40) };
    let fake = FakeModel::start(scene::load_script(pace)).await?;
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let admin = node.setup().await?;
    let people = People::new(&node, &admin).await?;
    let hers = talking(&node, &fake, &people.kept).await?;
    let (bobs, carls) =
        (talking(&node, &fake, &people.bob).await?, talking(&node, &fake, &people.carl).await?);

    let watched = [
        ("kept", &people.kept.token, &hers),
        ("logout", &people.out.token, &hers),
        ("a deleted key", &people.key, &hers),
        ("deactivation", &people.bob.token, &bobs),
        ("a new password", &people.carl.token, &carls),
    ];
    let mut open = Vec::new();
    for (how, token, task) in watched {
        let sio = joined(&node, token, task).await?;
        let mut stream = Socket::open(&node.url, token).await?;
        stream.call("task:join", json!({"task_id": task})).await?;
        stream.next_frame(WATCHED).await?.with_context(|| format!("{how}: nothing comes"))?;
        open.push((how, sio, stream));
    }
    let ended = revoke(&node, &admin, &people).await?;
    let revoked_at = Instant::now();
    let until = revoked_at + WATCHED;
    let mut watching: JoinSet<Result<Watched>> = JoinSet::new();
    for (how, sio, stream) in open {
        watching.spawn(async move {
            let (last, over) = sio.last_frame(until).await?;
            Ok((how, "Socket.IO", last, over))
        });
        watching.spawn(async move {
            let (last, over) = last_of_stream(stream, until).await?;
            Ok((how, "stream", last, over))
        });
    }
    while let Some(seen) = watching.join_next().await {
        let (how, over, last, is_over) = seen??;
        let last = last.map(|at| at.saturating_duration_since(revoked_at));
        if how == "kept" {
            assert!(!is_over && last > Some(LAST_FRAME_AFTER), "{over}: another session: {last:?}");
        } else {
            assert!(last < Some(LAST_FRAME_AFTER), "{how}, {over}: a frame after {last:?}");
            assert!(is_over, "{how}, {over}: it is still open");
        }
    }
    for one in &ended {
        is_refused(&node, one).await?;
    }
    node.kill().await?;
    let node = Node::start(&home).await?;
    for one in &ended {
        is_refused(&node, one).await?;
    }
    node.get("/api/v1/users/me", &people.kept).await.context("the other session goes on")?;
    joined(&node, &people.kept.token, &hers).await?;
    Ok(())
}

/// Everywhere.
async fn is_refused(node: &Node, ended: &Ended) -> Result<()> {
    let Ended { how, token, refresh } = ended;
    let name = "somebody".to_owned();
    let who = Person { token: token.clone(), refresh: String::new(), name };
    let answer = node.call("GET", "/api/v1/users/me", Some(&who), None).await?;
    assert_eq!(answer.status, 401, "{how}: {}", answer.text);
    assert!(Sio::connect(&node.url, token).await?.is_err(), "{how}: Socket.IO");
    assert!(Socket::open(&node.url, token).await.is_err(), "{how}: the stream");
    if let Some(refresh) = refresh {
        let body: Value = json!({"refresh_token": refresh});
        let answer = node.call("POST", "/api/v1/auth/refresh", None, Some(&body)).await?;
        assert_eq!(answer.status, 401, "{how}: {}", answer.text);
    }
    Ok(())
}
