//! `reset-password`: who lost a password and holds the store gets in again, nobody else does.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use troupe_testkit::try_until;

use super::{Terminal, at, node};
use crate::{
    backup::cql::{One, init, rest, stop},
    machines::members::{fresh_keyspace, servers},
    node::{Home, Node, PASSWORD, PATIENCE, Person, Rest},
};

const NEW: &str = "a-new-password-1";

/// The code of a login.
async fn login(node: &Rest, name: &str, password: &str) -> Result<u16> {
    let body = json!({"user_name": name, "password": password});
    Ok(node.call("POST", "/api/v1/auth/login", None, Some(&body)).await?.status)
}

async fn me(node: &Rest, who: &Person) -> Result<u16> {
    Ok(node.call("GET", "/api/v1/users/me", Some(who), None).await?.status)
}

#[tokio::test]
async fn a_lost_password_is_set_anew_beside_the_data() -> Result<()> {
    let home = Home::new()?;
    let (node, who) = node(&home).await?;
    let key = node.with_key(&who).await?;
    for name in ["ada", "bob"] {
        let user = json!({"user_name": name, "password": PASSWORD});
        let made = node.post("/api/v1/users", Some(&who), &user).await?;
        if name == "bob" {
            let path = format!("/api/v1/users/{}", made["id"].as_str().context("no id")?);
            node.call("PATCH", &path, Some(&who), Some(&json!({"is_active": false}))).await?;
        }
    }
    let terminal = at(&home, &node);
    let data = home.data();
    let data = data.to_str().context("no text")?;
    let reset = async |terminal: &Terminal<'_>, user: &str, input: &str| {
        let args = ["reset-password", user, "--password-stdin", "--data-dir", data];
        terminal.pipe(&args, input).await
    };
    let told = reset(&terminal, "admin", NEW).await?.fails(1);
    assert!(told.contains("is in use by process"), "{told}");
    assert_eq!(node.terminate().await?, Some(0), "{}", home.log());

    for (user, input, code, why) in [
        ("nobody", NEW, 3, "there is no user `nobody`"),
        ("../etc", NEW, 3, "there is no user"),
        ("admin", "short", 1, "password: "),
        ("admin", "", 2, "nothing was given"),
        ("bob", NEW, 5, "deactivated"),
    ] {
        let told = reset(&terminal, user, input).await?.fails(code);
        assert!(told.contains(why) && !told.contains(NEW), "{user}: {told}");
    }
    let nowhere = home.path().join("nowhere");
    let words = ["reset-password", "admin", "--data-dir", nowhere.to_str().context("no text")?];
    let told = terminal.pipe(&words, NEW).await?.fails(1);
    assert!(told.contains("holds no data of a node"), "{told}");
    assert!(!nowhere.exists(), "it was made");

    // Nothing of that changed anything; then in whatever case the name is written.
    let node = Node::start(&home).await?;
    assert_eq!((me(&node, &who).await?, login(&node, "ada", PASSWORD).await?), (200, 200));
    assert_eq!(node.terminate().await?, Some(0), "{}", home.log());
    let told = reset(&terminal, "ADMIN", &format!("{NEW}\n")).await?.ok();
    assert_eq!(told, "admin has a new password; their sessions have ended\n");

    let node = Node::start(&home).await?;
    assert!(node.setup_token.is_none(), "there is an administrator");
    assert_eq!(me(&node, &who).await?, 401, "the session is over");
    assert_eq!(me(&node, &key).await?, 200, "keys stay");
    assert_eq!(login(&node, "admin", PASSWORD).await?, 401);
    assert_eq!(
        (login(&node, "admin", NEW).await?, login(&node, "ada", PASSWORD).await?),
        (200, 200)
    );
    let rows = node.get("/api/v1/admin/audit", &key).await?.to_string();
    assert!(rows.contains("reset_password") && !rows.contains(NEW), "{rows}");
    assert!(!home.log().contains(NEW));
    Ok(())
}

#[tokio::test]
async fn nodes_that_run_hear_that_a_password_was_set_anew() -> Result<()> {
    let Some(servers) = servers() else { return Ok(()) };
    let home = Home::new()?;
    init(&home, "n0").await?;
    let one = One { name: "n0", home: &home, servers, keyspace: fresh_keyspace() };
    let terminal = Terminal { home: &home, url: String::new() };
    let words = one.words();
    let more = words.iter().map(String::as_str);
    let verb = ["node", "reset-password", "admin", "--password-stdin"].into_iter();
    let reset: Vec<&str> = verb.chain(more).collect();
    let told = terminal.pipe(&reset, NEW).await?.fails(1);
    assert!(told.contains("the store: "), "there is no keyspace: {told}");

    let (child, told) = one.start().await?;
    let token = told["setup_token"].as_str().context("no setup token")?;
    let node = rest(&told)?;
    let body = json!({"token": token, "password": PASSWORD});
    let who = Person::of(&node.post("/api/v1/setup", None, &body).await?)?;
    assert_eq!(me(&node, &who).await?, 200);
    terminal.pipe(&reset, NEW).await?.ok();
    let over = try_until(PATIENCE, async || me(&node, &who).await.is_ok_and(|code| code == 401));
    ensure!(over.await, "the session goes on");
    assert_eq!(login(&node, "admin", PASSWORD).await?, 401);
    assert_eq!(login(&node, "admin", NEW).await?, 200);
    stop(child).await
}
