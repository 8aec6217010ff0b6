//! What agents ask: its end when nobody answers, and the inbox over all Tasks.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use troupe_testkit::{Answer, Rule, client::stream::Socket, try_until};
use troupe_types::{Clock as _, SystemClock, Timestamp};

use super::{
    faults::Door,
    kit::{Machine, asked, is_free, last_answer, model, node, runtimes, team, which_colour},
};
use crate::{
    cli::at,
    node::{Home, PATIENCE, Person, Rest},
};

/// The node is killed and comes back after the time is over: the approval expires once, the
/// agent hears so in these words, and who answers then is told when it was over.
#[tokio::test]
async fn an_approval_expires_while_its_node_is_away() -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let bash = Answer::tool("Bash", json!({"command": "touch a.txt", "description": "d"}));
    let rule = Rule::any().human("the job").then(bash).then(Answer::text("I will wait."));
    let fake = model(vec![rule]).await?;
    let (door, node) = Door::with(&[("TROUPE__TASKS__ASKS_EXPIRE_SECONDS", "4")]).await?;
    let who = node.setup().await?;
    node.apply(&who, &team("ClaudeCode", &fake.url())).await?;
    let mut machine = Machine::new(Some(&runtimes))?;
    let device = machine.join(&node, &who).await?;
    let task = node.run(&who, "devs", "the job").await?;
    let block = asked(&node, &who, &task).await?;
    let until: Timestamp = serde_json::from_value(block["expires_at"].clone())?;
    node.kill().await?;
    let clock = SystemClock::new();
    ensure!(try_until(PATIENCE, async || clock.now() > until).await, "time stands still");
    let node = door.again().await?;
    let late = json!({"answer": "allow", "block_id": block["id"]});
    let path = format!("/api/v1/tasks/{task}/answer");
    let refused = node.call("POST", &path, Some(&who), Some(&late)).await?;
    assert_eq!(refused.status, 409, "{}", refused.text);
    ensure!(refused.text.contains(&format!("expired at {until}")), "{}", refused.text);
    node.settled(&who, &task, "COMPLETED").await?;

    assert!(last_answer(&node, &who, &task).await?.ends_with("I will wait."));
    assert_eq!(machine.worked("a.txt"), None, "nobody allowed it");
    let told = fake.requests().pop().context("the model was not asked again")?.body.to_string();
    assert!(told.contains("expired") && told.contains("Nobody refused"), "{told}");
    let id = block["id"].as_str().context("no id")?;
    let words = words(&node, &who, &task, id).await?;
    assert_eq!(words, ["running expired", "done expired"], "told once, then confirmed");
    let (_, turns) = node.turns(&who, &task).await?;
    let shown = find(&json!(turns), id).context("the block is gone")?;
    assert_eq!((&shown["status"], &shown["tool_output"]), (&json!("done"), &json!("expired")));
    node.assert_fold(&who, &task).await?;
    is_free(&node, &who, &device).await
}

/// What became of a block, in the order of its frames.
async fn words(node: &Rest, who: &Person, task: &str, id: &str) -> Result<Vec<String>> {
    let page = node.get(&format!("/api/v1/tasks/{task}/frames?after=0"), who).await?;
    let frames = page["frames"].as_array().context("no frames")?;
    let of = frames.iter().map(|frame| &frame["data"]).filter(|data| data["block_id"] == id);
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let of = of.filter(|data| data["tool_output"].is_string());
    Ok(of.map(|d| word(&d["status"]) + " " + &word(&d["tool_output"])).collect())
}

fn find(value: &Value, id: &str) -> Option<Value> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| find(item, id)),
        Value::Object(_) if value["id"] == id => Some(value.clone()),
        Value::Object(fields) => fields.values().find_map(|item| find(item, id)),
        _ => None,
    }
}

async fn inbox(node: &Rest, who: &Person) -> Result<Vec<Value>> {
    let answer = node.get("/api/v1/asks", who).await?;
    ensure!(answer["more"] == false, "{answer}");
    Ok(answer["asks"].as_array().context("no list")?.clone())
}

/// The user's room hears of it, and what it says is in the list by then.
async fn told(stream: &mut Socket, task: &str, asks: u64) -> Result<()> {
    loop {
        let next = stream.next(PATIENCE).await?.context("nothing was told")?;
        let (event, data) = next;
        if event == "task:asks" && data["task_id"] == task && data["asks"] == asks {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn the_inbox_shows_what_waits_over_all_tasks() -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let write = Answer::tool("Write", json!({"file_path": "a.txt", "content": "one\ntwo\n"}));
    let fake = model(vec![
        Rule::any().human("the job").then(write).then(Answer::text("Done.")),
        Rule::any().human("a colour").then(which_colour()).then(Answer::text("Blue it is.")),
    ])
    .await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let bob = node.user(&who, "bob").await?;
    node.apply(&who, &team("ClaudeCode", &fake.url())).await?;
    let mut machine = Machine::new(Some(&runtimes))?;
    machine.join(&node, &who).await?;
    let mut stream = Socket::open(&node.url, &who.token).await?;
    assert_eq!(inbox(&node, &who).await?, Vec::<Value>::new());

    let first = node.run(&who, "devs", "the job").await?;
    told(&mut stream, &first, 1).await?;
    let second = node.run(&who, "devs", "a colour").await?;
    told(&mut stream, &second, 1).await?;
    let open = inbox(&node, &who).await?;
    let of: Vec<_> = open.iter().map(|ask| (&ask["task_id"], &ask["block"]["type"])).collect();
    assert_eq!(of, [(&json!(first), &json!("approval")), (&json!(second), &json!("question"))]);
    assert_eq!(open[0]["block"]["tool_input"]["content"], "one\ntwo\n", "all of its input");
    assert_eq!(
        (&open[0]["bot_name"], &open[0]["where"]["kind"]),
        (&json!("dev"), &json!("device"))
    );
    ensure!(open[1]["block"]["expires_at"].is_string(), "{}", open[1]);
    let listed = node.get("/api/v1/tasks?asks=true", &who).await?;
    assert_eq!((&listed["total"], &listed["items"][1]["asks"]), (&json!(2), &json!(1)));
    let why = node.get(&format!("/api/v1/tasks/{first}/why"), &who).await?;
    ensure!(why["summary"].as_str().is_some_and(|text| text.contains("waits for you")), "{why}");
    assert_eq!(inbox(&node, &bob).await?, Vec::<Value>::new(), "not his");
    assert_eq!(node.get("/api/v1/tasks?asks=true", &bob).await?["total"], 0);

    let terminal = at(&home, &node);
    terminal.login().await?;
    let table = terminal.say(&["asks"]).await?.ok();
    ensure!(table.contains("Write") && table.contains("Which colour?"), "{table}");
    let names = terminal.say(&["asks", "-o", "name"]).await?.ok();
    let words: Vec<&str> = names.lines().next().context("no line")?.split(' ').collect();
    terminal.say(&[&["approve"], &words[..]].concat()).await?.ok();
    terminal.say(&[&["deny"], &words[..]].concat()).await?.fails(5);
    let left = inbox(&node, &who).await?;
    assert_eq!(left.len(), 1, "at once, whatever the list says: {left:?}");
    told(&mut stream, &first, 0).await?;
    assert_eq!(node.get("/api/v1/tasks?asks=true", &who).await?["total"], 1);
    node.settled(&who, &first, "COMPLETED").await?;
    let diff = terminal.say(&["diff", &first]).await?.ok();
    ensure!(diff.contains("+one\n+two\n"), "{diff}");
    let files = terminal.say(&["diff", &first, "--turn", "1", "-o", "name"]).await?.ok();
    assert_eq!(files, "a.txt\n");
    terminal.say(&["diff", &first, "--turn", "2"]).await?.fails(2);
    terminal.say(&["diff", &second]).await?.fails(2);
    let path = format!("/api/v1/tasks/{second}/cancel");
    node.call("POST", &path, Some(&who), Some(&json!({}))).await?;
    told(&mut stream, &second, 0).await?;
    assert_eq!(inbox(&node, &who).await?, Vec::<Value>::new(), "what is cancelled asks no more");
    Ok(())
}
