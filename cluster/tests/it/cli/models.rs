//! `model add`: from each place that a key may come from, to an answer.

use anyhow::Result;
use serde_json::Value;
use troupe_testkit::{Answer, FakeModel, Script};

use super::{at, node};
use crate::node::Home;

const KEY: &str = "sk-a-key-for-this-test-0123456789";

#[tokio::test]
async fn a_model_is_added_and_answers() -> Result<()> {
    let fake = FakeModel::start(Script::new(|_| Answer::text("Quite so."))).await?;
    let home = Home::new()?;
    let (node, _) = node(&home).await?;
    let me = at(&home, &node);
    me.login().await?;
    let (anthropic, openai) = (fake.url(), fake.openai_url());
    let claude = ["model", "add", "anthropic", "--base-url", &anthropic];
    let open = ["model", "add", "openai", "--base-url", &openai];

    // What is missing is told, and nothing is made.
    let told = me.say(&[&open[..], &["--no-key"]].concat()).await?.fails(2);
    assert!(told.contains("--model"), "{told}");
    let unset = ["--model", "fake-1", "--key-from-env", "TROUPE_TEST_NO_SUCH_KEY"];
    let told = me.say(&[&claude[..], &unset].concat()).await?.fails(2);
    assert!(told.contains("TROUPE_TEST_NO_SUCH_KEY is not set"), "{told}");
    let both = ["--model", "fake-1", "--key-stdin", "--no-key"];
    me.say(&[&open[..], &both].concat()).await?.fails(2);
    me.say(&["get", "model", "fake-1"]).await?.fails(3);

    let stdin = ["--model", "Fake/One:1", "--key-stdin", "-o", "name"];
    let made = me.pipe(&[&claude[..], &stdin].concat(), &format!("{KEY}\n")).await?.ok();
    assert_eq!(made, "model/fake-one-1\n", "its name is made of the model's id");
    let shown = me.say(&["get", "model", "fake-one-1", "-o", "json"]).await?.ok();
    assert!(!shown.contains(KEY) && shown.contains("api_key"), "{shown}");
    let free = ["--name", "local", "--model", "fake-2", "--no-key", "--default"];
    let told = me.say(&[&open[..], &free].concat()).await?.ok();
    assert!(told.contains("troupe run") && told.contains("--model local"), "{told}");
    let local = me.say(&["get", "model", "local", "-o", "json"]).await?.ok();
    let local: Value = serde_json::from_str(&local)?;
    assert_eq!(local["spec"]["modelConfig"]["env"]["api_key"], Value::Null);

    for (model, id) in [("fake-one-1", "Fake/One:1"), ("local", "fake-2")] {
        let answer = me.say(&["run", "Well?", "--model", model]).await?.ok();
        assert_eq!(answer.trim(), "Quite so.", "{model}");
        let asked = fake.requests().pop().expect("it was asked");
        assert_eq!(asked.body["model"], id);
    }
    // The default of those who name none.
    assert_eq!(me.say(&["run", "Well?"]).await?.ok().trim(), "Quite so.");
    Ok(())
}

/// What an administrator adds is the administrator's own; in `public` it is everybody's, who see
/// no key of it.
#[tokio::test]
async fn an_administrators_model_is_everybodys_in_public_alone() -> Result<()> {
    let fake = FakeModel::start(Script::new(|_| Answer::text("For all."))).await?;
    let home = Home::new()?;
    let (node, admin) = node(&home).await?;
    let me = at(&home, &node);
    me.login().await?;
    node.user(&admin, "bob").await?;
    let bobs = Home::new()?;
    let bob = at(&bobs, &node);
    let password = format!("{}\n", crate::node::PASSWORD);
    let login = ["login", &bob.url, "--user", "bob", "--password-stdin"];
    bob.pipe(&login, &password).await?.ok();

    let url = fake.url();
    let add = ["model", "add", "anthropic", "--base-url", &url, "--key-stdin", "--model", "fake-1"];
    me.pipe(&[&add[..], &["--name", "mine"]].concat(), KEY).await?.ok();
    bob.say(&["get", "model", "mine"]).await?.fails(3);
    bob.say(&["run", "Well?", "--model", "mine"]).await?.fails(3);

    me.pipe(&[&add[..], &["--name", "shared", "-n", "public"]].concat(), KEY).await?.ok();
    bob.pipe(&[&add[..], &["--name", "own", "-n", "public"]].concat(), KEY).await?.fails(4);
    let answer = bob.say(&["run", "Well?", "--model", "shared"]).await?.ok();
    assert_eq!(answer.trim(), "For all.");
    let shown = bob.say(&["get", "models", "-o", "json"]).await?.ok();
    assert!(shown.contains("shared") && !shown.contains(KEY), "{shown}");
    Ok(())
}
