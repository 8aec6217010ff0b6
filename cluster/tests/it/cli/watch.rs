//! `get --watch` while the node behind an address is replaced.

use std::{net::SocketAddr, process::Stdio};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{ChildStdout, Command},
    sync::watch,
    task::JoinSet,
};
use troupe_testkit::wait_until;

use super::{Terminal, node};
use crate::{
    node::{Home, Node, PATIENCE, troupe},
    scene::team,
};

/// One address for a node that comes and goes.
struct Relay {
    url: String,
    to: watch::Sender<Option<SocketAddr>>,
    _running: JoinSet<()>,
}

impl Relay {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (to, at) = watch::channel(None);
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((from, _)) = listener.accept().await {
                links.spawn(relayed(from, at.clone()));
            }
        });
        Ok(Self { url, to, _running: running })
    }

    fn lead_to(&self, node: &Node) -> Result<()> {
        let at = node.url.strip_prefix("http://").context("no address")?.parse()?;
        self.to.send_replace(Some(at));
        Ok(())
    }

    /// Cuts what there is.
    fn lead_nowhere(&self) {
        self.to.send_replace(None);
    }
}

async fn relayed(mut from: TcpStream, mut at: watch::Receiver<Option<SocketAddr>>) {
    let Some(address) = *at.borrow_and_update() else { return };
    let Ok(mut to) = TcpStream::connect(address).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
        _ = at.changed() => {}
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    line.context("nothing is told")??.context("the watch has ended")
}

#[tokio::test]
async fn a_watch_goes_on_when_the_node_was_away() -> Result<()> {
    let home = Home::new()?;
    let (first, _) = node(&home).await?;
    let relay = Relay::start().await?;
    relay.lead_to(&first)?;
    let me = Terminal { home: &home, url: relay.url.clone() };
    me.login().await?;
    let apply = async |name: &str| {
        let yaml = team(name, "solo", &["helper"]);
        me.pipe(&["apply", "-f", "-"], &yaml).await.map(super::Told::ok)
    };
    let ghost = "kind: Ghost\nmetadata: {name: helper}\nspec: {systemPrompt: Help.}\n---\nkind: \
                 Bot\nmetadata: {name: helper}\nspec:\n  ghostRef: {name: helper}\n  shellRef: \
                 {name: Chat}\n  modelRef: {name: demo}\n";
    me.pipe(&["apply", "-f", "-"], ghost).await?.ok();
    apply("zero").await?;

    let mut command: Command = troupe();
    let mut child = command
        .args(["get", "teams", "--watch"])
        .env("HOME", home.path())
        .env("TROUPE_CONTEXTS", me.contexts())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    assert!(next(&mut lines).await?.starts_with("NAMESPACE"));
    assert!(next(&mut lines).await?.contains("zero"));
    apply("one").await?;
    assert_eq!(next(&mut lines).await?, "put one");

    relay.lead_nowhere();
    first.kill().await?;
    let second = Node::start(&home).await?;
    relay.lead_to(&second)?;
    apply("two").await?;
    assert_eq!(next(&mut lines).await?, "put two");
    me.say(&["delete", "team", "one"]).await?.ok();
    assert_eq!(next(&mut lines).await?, "delete one");
    assert!(child.try_wait()?.is_none());

    // It ends by itself where it may not go on.
    me.say(&["logout"]).await?.ok();
    let mut ended = None;
    wait_until(PATIENCE, async || {
        ended = child.try_wait().ok().flatten();
        ended.is_some()
    })
    .await;
    assert_eq!(ended.and_then(|status| status.code()), Some(4));
    Ok(())
}
