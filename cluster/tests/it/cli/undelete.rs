//! `delete`, `get --deleted`, `undelete` and `delete --purge`, with a node that is killed meanwhile.

use anyhow::Result;
use serde_json::Value;

use super::{at, node};
use crate::node::{Home, Node};

const DOCUMENTS: &str = "kind: Ghost
metadata: {name: g}
spec: {systemPrompt: Mind the gap.}
---
kind: Bot
metadata: {name: b, labels: {line: northern}}
spec: {ghostRef: {name: g}, shellRef: {name: Chat}}
";

#[tokio::test]
async fn what_was_deleted_comes_back_after_a_crash() -> Result<()> {
    let home = Home::new()?;
    let (node, who) = node(&home).await?;
    node.apply(&who, DOCUMENTS).await?;
    let me = at(&home, &node);
    me.login().await?;
    let read = async |me: &super::Terminal<'_>| -> Result<Value> {
        let shown = me.say(&["get", "bot", "b", "-o", "json"]).await?.ok();
        Ok(serde_json::from_str(&shown)?)
    };
    let before = read(&me).await?;

    let used = me.say(&["delete", "ghost", "g"]).await?.fails(5);
    assert!(used.contains("is used by") && used.contains('b'), "{used}");
    assert_eq!(me.say(&["delete", "bot", "b"]).await?.ok(), "bots/b deleted\n");
    me.say(&["delete", "ghost", "g"]).await?.ok();
    me.say(&["get", "bot", "b"]).await?.fails(3);
    node.kill().await?;

    let node = Node::start(&home).await?;
    let me = at(&home, &node);
    me.login().await?;
    let list = async |kind| me.say(&["get", kind, "--deleted", "-o", "name"]).await;
    assert_eq!(list("bots").await?.ok(), "bot/b\n");
    let table = me.say(&["get", "ghosts", "--deleted"]).await?.ok();
    assert!(table.to_lowercase().contains("deleted") && table.contains('g'), "{table}");
    let told = me.say(&["undelete", "bot", "b"]).await?.fails(3);
    assert!(told.contains("Ghost `g` not found, named by Bot `b`"), "{told}");
    me.say(&["undelete", "ghost", "g"]).await?.ok();
    assert_eq!(me.say(&["undelete", "bot", "b", "-o", "name"]).await?.ok(), "bot/b\n");
    let mut after = read(&me).await?;
    for changed in ["resourceVersion", "updatedAt"] {
        assert_ne!(after["metadata"][changed], before["metadata"][changed]);
        after["metadata"][changed] = before["metadata"][changed].clone();
    }
    assert_eq!(after, before);
    assert_eq!(list("bots").await?.ok(), "");
    let twice = me.say(&["undelete", "bot", "b"]).await?.fails(5);
    assert!(twice.contains("exists already"), "{twice}");

    me.say(&["delete", "bot", "b"]).await?.ok();
    assert_eq!(me.say(&["delete", "bot", "b", "--purge"]).await?.ok(), "bots/b deleted for good\n");
    assert_eq!(list("bots").await?.ok(), "");
    me.say(&["undelete", "bot", "b"]).await?.fails(3);
    me.say(&["get", "bots", "--deleted", "--watch"]).await?.fails(2);
    Ok(())
}
