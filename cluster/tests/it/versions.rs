//! Versions of resources over REST: nobody writes over what was written meanwhile, and a watch goes
//! on from any version that is still known.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::node::{Home, Node, PATIENCE, Person};

const GHOSTS: &str = "/api/v1/namespaces/default/ghosts";
/// Changes that a namespace has at hand for watches.
const KEPT: usize = 4_096;
/// Documents of one apply.
const AT_ONCE: usize = 400;

fn ghost(version: Option<u64>, prompt: &str) -> Value {
    let metadata = json!({"name": "g", "resourceVersion": version});
    json!({"kind": "Ghost", "metadata": metadata, "spec": {"systemPrompt": prompt}})
}

fn version_of(resource: &Value) -> Result<u64> {
    resource["metadata"]["resourceVersion"].as_u64().with_context(|| format!("{resource}"))
}

#[tokio::test]
async fn nobody_writes_over_what_was_written_meanwhile() -> Result<()> {
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let who = node.setup().await?;
    let made = node.post(GHOSTS, Some(&who), &ghost(None, "first")).await?;
    let first = version_of(&made)?;
    let path = format!("{GHOSTS}/g");
    let put = async |version, prompt: &str| {
        node.call("PUT", &path, Some(&who), Some(&ghost(version, prompt))).await
    };
    let second = put(Some(first), "second").await?;
    ensure!(second.status == 200, "{}", second.text);
    let second = version_of(&second.body)?;
    ensure!(second > first, "{first}, {second}");

    let late = put(Some(first), "late").await?;
    late.assert_problem(&[409]);
    assert_eq!(late.body["code"], "conflict");
    assert_eq!(late.body["errors"][0]["path"], "metadata.resourceVersion");
    let document = ghost(Some(first), "late").to_string();
    let body = Some(("application/json", document.into_bytes()));
    let late = node.raw("POST", "/api/v1/namespaces/default/apply", Some(&who), body).await?;
    late.assert_problem(&[409]);
    let again = node.call("POST", GHOSTS, Some(&who), Some(&ghost(None, "again"))).await?;
    again.assert_problem(&[409]);
    assert_eq!(again.body["code"], "exists");
    let gone = format!("{path}?resourceVersion={first}");
    node.call("DELETE", &gone, Some(&who), None).await?.assert_problem(&[409]);
    let kept = node.get(&path, &who).await?;
    assert_eq!((version_of(&kept)?, &kept["spec"]["systemPrompt"]), (second, &json!("second")));

    // Of two at once with the same version one is taken.
    let both = tokio::join!(put(Some(second), "one"), put(Some(second), "other"));
    let mut statuses = [both.0?.status, both.1?.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let third = version_of(&node.get(&path, &who).await?)?;
    let gone = format!("{path}?resourceVersion={third}");
    assert_eq!(node.call("DELETE", &gone, Some(&who), None).await?.status, 204);
    Ok(())
}

/// A watch whose lines come as they are written.
struct Watch {
    response: reqwest::Response,
    text: String,
}

impl Watch {
    async fn since(node: &Node, who: &Person, since: u64) -> Result<Self> {
        let url = format!("{}/api/v1/namespaces/default/watch?since={since}", node.url);
        let client = reqwest::Client::builder().no_proxy().build()?;
        let response = client.get(url).bearer_auth(&who.token).send().await?;
        ensure!(response.status() == 200, "{}", response.text().await?);
        Ok(Self { response, text: String::new() })
    }

    /// The next change; bookmarks are passed over.
    async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let (item, rest) = (serde_json::from_str::<Value>(line)?, rest.to_owned());
                self.text = rest;
                if item["type"] != "BOOKMARK" {
                    return Ok(item);
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.context("nothing comes")??.context("the watch ended")?;
            self.text.push_str(std::str::from_utf8(&chunk)?);
        }
    }
}

#[tokio::test]
async fn a_watch_goes_on_from_any_version_that_is_known() -> Result<()> {
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let who = node.setup().await?;
    let first = version_of(&node.post(GHOSTS, Some(&who), &ghost(None, "first")).await?)?;
    let mut watch = Watch::since(&node, &who, first).await?;
    let path = format!("{GHOSTS}/g");
    let put = node.call("PUT", &path, Some(&who), Some(&ghost(None, "second"))).await?;
    let second = version_of(&put.body)?;
    node.call("DELETE", &path, Some(&who), None).await?;
    let (changed, deleted) = (watch.next().await?, watch.next().await?);
    assert_eq!((&changed["type"], &changed["resourceVersion"]), (&json!("PUT"), &json!(second)));
    assert_eq!(changed["resource"]["spec"]["systemPrompt"], "second");
    assert_eq!(deleted["type"], "DELETE", "{deleted}");
    // Whoever looked away is told the rest.
    let mut late = Watch::since(&node, &who, second).await?;
    assert_eq!(late.next().await?, deleted);

    for round in 0..=KEPT / AT_ONCE {
        let many: Vec<String> = (0..AT_ONCE)
            .map(|n| {
                format!(
                    "{{kind: Ghost, metadata: {{name: g{n}}}, spec: {{systemPrompt: r{round}}}}}"
                )
            })
            .collect();
        node.apply(&who, &many.join("\n---\n")).await?;
    }
    let since = |version: &str| format!("/api/v1/namespaces/default/watch?since={version}");
    let old = node.call("GET", &since(&first.to_string()), Some(&who), None).await?;
    old.assert_problem(&[410]);
    assert_eq!(old.body["code"], "gone");
    let told = old.body["detail"].as_str().unwrap_or_default();
    let oldest = told.split_whitespace().find_map(|word| word.trim_end_matches(':').parse().ok());
    let mut watch = Watch::since(&node, &who, oldest.with_context(|| told.to_owned())?).await?;
    assert_eq!(watch.next().await?["type"], "PUT");
    for (version, statuses) in [("99999999", [410]), ("x", [422]), ("-1", [422])] {
        let answer = node.call("GET", &since(version), Some(&who), None).await?;
        answer.assert_problem(&statuses);
    }
    Ok(())
}

#[tokio::test]
async fn an_apply_as_large_as_a_request_may_be_survives_a_kill() -> Result<()> {
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let who = node.setup().await?;
    // 12 times 80 KB in one request of less than 1 MiB.
    let prompt = |n: usize| format!("{n} {}", "read with care ".repeat(5_400));
    let document = |n: usize| {
        json!({"kind": "Ghost", "metadata": {"name": format!("large-{n}")},
            "spec": {"systemPrompt": prompt(n)}})
    };
    let documents: Vec<String> = (0..12).map(|n| document(n).to_string()).collect();
    let text = documents.join("\n---\n");
    ensure!((900_000..1_048_576).contains(&text.len()), "{}", text.len());
    node.apply(&who, &text).await?;
    node.kill().await?;
    let node = Node::start(&home).await?;
    let listed = node.get(GHOSTS, &who).await?;
    let items = listed["items"].as_array().context("a list")?;
    for n in 0..12 {
        let name = format!("large-{n}");
        let item = items.iter().find(|item| item["metadata"]["name"] == *name);
        assert_eq!(item.context("it is there")?["spec"]["systemPrompt"], json!(prompt(n)));
    }
    Ok(())
}
