//! Whole jobs of real agents on a machine that joined.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use troupe_testkit::{Answer, McpServer, Rule, try_until};

use super::{
    kit::{
        COMMANDS, KEY, Machine, answer, asked, is_free, last_answer, model, node, runtimes, team,
        which_colour,
    },
    script::Script,
};
use crate::node::{Home, Node, PATIENCE, Person};

/// What every runtime has to do: two things that it may, one that it may not, an answer.
async fn whole_job(script: Script) -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let fake = model(script.rules()).await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let url = if script.openai { fake.openai_url() } else { fake.url() };
    let mut machine = Machine::new(Some(&runtimes))?;
    work_through(&home, &node, &who, &mut machine, &script, &url).await
}

/// A machine joins, and a Team does the job of its [`Script`] on it, with the model at `url`.
pub(super) async fn work_through(
    home: &Home,
    node: &Node,
    who: &Person,
    machine: &mut Machine,
    script: &Script,
    url: &str,
) -> Result<()> {
    node.apply(who, &script.team(url)).await?;
    let device = machine.join(node, who).await?;
    let task = node.run(who, "devs", "the job").await?;

    let block = asked(node, who, &task).await?;
    assert!(block.to_string().contains("a.txt"), "{block}");
    assert_eq!(machine.worked("a.txt"), None, "not before somebody allows it");
    assert_eq!(answer(node, who, &task, &block, json!({"answer": "allow"})).await?, 204);
    let block = asked(node, who, &task).await?;
    assert_eq!(answer(node, who, &task, &block, json!({"answer": "allow"})).await?, 204);
    let block = asked(node, who, &task).await?;
    let no = json!({"answer": "deny", "message": "not today"});
    assert_eq!(answer(node, who, &task, &block, no.clone()).await?, 204);
    assert_eq!(answer(node, who, &task, &block, no).await?, 409, "one answer is taken");
    node.settled(who, &task, "COMPLETED").await?;

    assert_eq!(machine.worked("a.txt").as_deref(), Some("one\ntwo\n"));
    assert_eq!(machine.worked("b.txt").as_deref(), Some("ran\n"));
    assert_eq!(machine.worked("denied.txt"), None);
    let told = format!("{:?}", node.assert_fold(who, &task).await?);
    assert!(last_answer(node, who, &task).await?.ends_with("All done."), "{told}");
    is_free(node, who, &device).await?;
    let frames = node.get(&format!("/api/v1/tasks/{task}/frames?after=0"), who).await?;
    let id = device["id"].as_str().context("no id")?;
    assert!(frames.to_string().contains(id), "its start says where it ran");
    for shown in script.shows() {
        assert!(frames.to_string().contains(shown), "{shown}: {frames}");
    }
    assert_eq!(machine.files_with(KEY), Vec::<PathBuf>::new(), "the key lies nowhere");
    let log = home.log() + &machine.log() + &frames.to_string();
    assert!(!log.contains(KEY), "nor does a log tell it");
    Ok(())
}

#[tokio::test]
async fn claude_code_does_a_whole_job() -> Result<()> {
    whole_job(Script::claude_code()).await
}

#[tokio::test]
async fn codex_does_a_whole_job() -> Result<()> {
    whole_job(Script::codex()).await
}

#[tokio::test]
async fn agno_does_a_whole_job() -> Result<()> {
    whole_job(Script::agno()).await
}

#[tokio::test]
async fn an_agno_team_does_a_whole_job() -> Result<()> {
    whole_job(Script::agno_team()).await
}

/// Two Bots on Agno, one after the other on one machine: the second is told what the first said.
#[tokio::test]
async fn a_team_of_agno_bots_hands_over() -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let fake = model(vec![
        Rule::any().human("Draft one").then(Answer::text("Final one.")),
        Rule::any().human("the job").then(Answer::text("Draft one.")),
    ])
    .await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let team = team("Agno", &fake.openai_url()).replace(
        "collaborationModel: solo\n  members:\n  - {botRef: {name: dev}}\n",
        "collaborationModel: pipeline\n  members:\n  \
         - {botRef: {name: dev}, contextPassing: previous_bot}\n  \
         - {botRef: {name: last}}\n---\nkind: Bot\nmetadata: {name: last}\nspec:\n  \
         ghostRef: {name: dev}\n  shellRef: {name: sh}\n  modelRef: {name: fake}\n",
    );
    node.apply(&who, &team).await?;
    let mut machine = Machine::new(Some(&runtimes))?;
    let device = machine.join(&node, &who).await?;
    let task = node.run(&who, "devs", "the job").await?;
    node.settled(&who, &task, "COMPLETED").await?;
    assert_eq!(last_answer(&node, &who, &task).await?, "Final one.");
    let told = format!("{:?}", node.assert_fold(&who, &task).await?);
    assert!(told.contains("Draft one."), "{told}");
    is_free(&node, &who, &device).await
}

/// An agent has no tool of ours to choose with: it is told how its text says whom it chooses.
#[tokio::test]
async fn a_leader_on_a_device_chooses_who_answers() -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let choice = "Ann it is.\n```json\n{\"member\": \"ann\", \"reason\": \"Ann knows.\"}\n```\n";
    let fake = model(vec![
        Rule::any().system("`choose_member` is not among your tools").then(Answer::text(choice)),
        Rule::any().human("the job").then(Answer::text("Ann was here.")),
    ])
    .await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let agno = team("Agno", &fake.openai_url()).replace("name: sh}", "name: agno}");
    let ann: Vec<String> = agno
        .split("---\n")
        .filter(|text| !text.contains("kind: Team") && !text.contains("kind: Ghost"))
        .map(|text| {
            text.replace("name: fake", "name: fake-openai")
                .replace("{name: dev}\nspec:\n", "{name: ann}\nspec:\n")
        })
        .collect();
    let route = team("ClaudeCode", &fake.url()).replace("solo", "route")
        + "  - {botRef: {name: ann}}\n  - {botRef: {name: dev}}\n---\n"
        + &ann.join("---\n");
    node.apply(&who, &route).await?;
    let mut machine = Machine::new(Some(&runtimes))?;
    machine.join(&node, &who).await?;
    let task = node.run(&who, "devs", "the job").await?;
    node.settled(&who, &task, "COMPLETED").await?;
    assert_eq!(last_answer(&node, &who, &task).await?, "Ann was here.");
    let told = node.get(&format!("/api/v1/tasks/{task}/frames?after=0"), &who).await?.to_string();
    assert!(told.contains("Ann it is.") && !told.contains("\"fallback\""), "{told}");
    Ok(())
}

/// Asked by the agent, answered by its person; a second turn knows the first.
#[tokio::test]
async fn a_question_is_answered_and_the_next_turn_knows_the_first() -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let fake = model(vec![
        Rule::any().human("which colour was it").then(Answer::text("As I said: blue.")),
        Rule::any().human("the job").then(which_colour()).then(Answer::text("Blue it is.")),
    ])
    .await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    node.apply(&who, &team("ClaudeCode", &fake.url())).await?;
    let mut machine = Machine::new(Some(&runtimes))?;
    machine.join(&node, &who).await?;
    let task = node.run(&who, "devs", "the job").await?;
    let block = asked(&node, &who, &task).await?;
    let id = block["questions"][0]["id"].as_str().with_context(|| format!("{block}"))?;
    assert_eq!(answer(&node, &who, &task, &block, json!({"answer": "allow"})).await?, 422);
    let reply = json!({"answer": "reply", "answers": {id: ["Blue"]}});
    assert_eq!(answer(&node, &who, &task, &block, reply).await?, 204);
    node.settled(&who, &task, "COMPLETED").await?;
    assert!(last_answer(&node, &who, &task).await?.ends_with("Blue it is."));
    let more = json!({"message": "which colour was it", "client_message_id": troupe_types::Uuid::new_v4()});
    node.post(&format!("/api/v1/tasks/{task}/messages"), Some(&who), &more).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    assert!(last_answer(&node, &who, &task).await?.ends_with("As I said: blue."));
    let bodies: Vec<Value> = fake.requests().into_iter().map(|request| request.body).collect();
    let second = bodies.iter().find(|body| body.to_string().contains("which colour was it"));
    let second = second.context("no second turn")?;
    assert!(second["messages"].to_string().contains("Blue it is."), "the first turn is known");
    let session = |body: &Value| body["metadata"]["user_id"].as_str().map(str::to_owned);
    assert_eq!(session(second), session(&bodies[0]), "it goes on in the session of the first");
    Ok(())
}

/// "Always" holds for the Task, also in a later turn.
#[tokio::test]
async fn always_holds_in_later_turns() -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let bash = || Answer::tool("Bash", json!({"command": "echo x >> x.txt", "description": "d"}));
    let fake = model(vec![
        Rule::any().human("once more").then(bash()).then(Answer::text("Twice.")),
        Rule::any().human("the job").then(bash()).then(Answer::text("Once.")),
    ])
    .await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    node.apply(&who, &team("ClaudeCode", &fake.url())).await?;
    let mut machine = Machine::new(Some(&runtimes))?;
    machine.join(&node, &who).await?;
    let task = node.run(&who, "devs", "the job").await?;
    let block = asked(&node, &who, &task).await?;
    assert_eq!(answer(&node, &who, &task, &block, json!({"answer": "allow_always"})).await?, 204);
    node.settled(&who, &task, "COMPLETED").await?;
    let more = json!({"message": "once more", "client_message_id": troupe_types::Uuid::new_v4()});
    node.post(&format!("/api/v1/tasks/{task}/messages"), Some(&who), &more).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    assert_eq!(machine.worked("x.txt").as_deref(), Some("x\nx\n"));
    Ok(())
}

/// Where the policy of the machine does not let "always" count, it is not on offer, nobody can
/// say it, and the same is asked each time.
#[tokio::test]
async fn a_policy_without_grants_is_asked_each_time() -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let bash = || Answer::tool("Bash", json!({"command": "echo x >> x.txt", "description": "d"}));
    let job = Rule::any().human("the job").then(bash()).then(bash()).then(Answer::text("Twice."));
    let fake = model(vec![job]).await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    node.apply(&who, &team("ClaudeCode", &fake.url())).await?;
    let mut machine = Machine::new(Some(&runtimes))?;
    machine.write(".config/troupe-edge/policy.toml", "grants = false\n")?;
    machine.join(&node, &who).await?;
    let task = node.run(&who, "devs", "the job").await?;
    for times in 1..=2 {
        let block = asked(&node, &who, &task).await?;
        assert!(!block["options"].to_string().contains("allow_always"), "{block}");
        let always = json!({"answer": "allow_always"});
        assert_eq!(answer(&node, &who, &task, &block, always).await?, 422);
        assert_eq!(answer(&node, &who, &task, &block, json!({"answer": "allow"})).await?, 204);
        let done = || machine.worked("x.txt").is_some_and(|text| text == "x\n".repeat(times));
        assert!(try_until(PATIENCE, async || done()).await, "it was done {times} times");
    }
    node.settled(&who, &task, "COMPLETED").await?;
    Ok(())
}

/// A directory of the device, in a worktree of the Task; only below the roots of its policy.
#[tokio::test]
async fn a_task_works_in_a_directory_that_the_policy_allows() -> Result<()> {
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let app = machine.repository("src/app", "hello.txt", "hello\n").await?;
    machine.join(&node, &who).await?;
    node.apply(&who, COMMANDS).await?;
    let run = async |repo: &str, worktree: bool| -> Result<String> {
        let body = json!({"team_id": "sh", "message": "sh -c 'cat hello.txt; echo more > new.txt'",
            "git_url": repo, "worktree": worktree});
        let ack = node.post("/api/v1/tasks", Some(&who), &body).await?;
        Ok(ack["task_id"].as_str().context("no task")?.to_owned())
    };
    let task = run(&app, true).await?;
    node.settled(&who, &task, "COMPLETED").await?;
    assert!(last_answer(&node, &who, &task).await?.contains("hello"));
    let (_, turns) = node.turns(&who, &task).await?;
    assert!(json!(turns).to_string().contains("new.txt"), "its diff is told: {turns:#?}");
    assert!(!std::path::Path::new(&app).join("new.txt").exists(), "in a worktree of its own");
    let task = run("/etc", false).await?;
    node.settled(&who, &task, "FAILED").await?;
    let (_, turns) = node.turns(&who, &task).await?;
    assert!(json!(turns).to_string().contains("/etc"), "{turns:#?}");
    for (url, field) in [("https://me:secret@example.org/x.git", "git_url"), ("", "worktree")] {
        let body = json!({"team_id": "sh", "message": "x", "git_url": url, "worktree": true});
        let answer = node.call("POST", "/api/v1/tasks", Some(&who), Some(&body)).await?;
        assert_eq!((answer.status, &answer.body["errors"][0]["path"]), (422, &json!(field)));
        assert!(!answer.text.contains("secret"), "{}", answer.text);
    }
    Ok(())
}

/// A server of repositories that wants a name and a token, over plain HTTP on loopback.
async fn private_git(dir: &std::path::Path, token: &str) -> Result<(tokio::process::Child, u16)> {
    let script = format!(
        "import base64, http.server, sys\n\
         want = 'Basic ' + base64.b64encode(b'oauth2:{token}').decode()\n\
         class H(http.server.SimpleHTTPRequestHandler):\n\
         \x20def do_GET(self):\n\
         \x20\x20if self.headers.get('Authorization') == want: return super().do_GET()\n\
         \x20\x20self.send_response(401)\n\
         \x20\x20self.send_header('WWW-Authenticate', 'Basic realm=git')\n\
         \x20\x20self.end_headers()\n\
         s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n\
         print(s.server_port, flush=True)\n\
         s.serve_forever()\n"
    );
    let mut server = tokio::process::Command::new("python3");
    server.current_dir(dir).args(["-c", &script]).kill_on_drop(true);
    let mut server =
        server.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn()?;
    let mut line = String::new();
    let mut lines = tokio::io::BufReader::new(server.stdout.take().context("no output")?);
    tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await?;
    Ok((server, line.trim().parse()?))
}

/// The person's token for the host opens a private repository; it stands nowhere afterwards.
#[tokio::test]
async fn a_private_repository_is_cloned_with_the_persons_token() -> Result<()> {
    const TOKEN: &str = "glpat-0123456789abcdef";
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let mut machine = Machine::new(None)?;
    machine.allow_sh()?;
    let app = machine.repository("served/app", "hello.txt", "hello\n").await?;
    let mut update = tokio::process::Command::new("git");
    let update = update.current_dir(&app).arg("update-server-info").status().await?;
    anyhow::ensure!(update.success(), "git update-server-info");
    let served = std::path::Path::new(&app).parent().context("no parent")?;
    let (_server, port) = private_git(served, TOKEN).await?;
    machine.join(&node, &who).await?;
    node.apply(&who, COMMANDS).await?;
    let body = json!({"team_id": "sh", "message": "sh -c 'cat hello.txt; env'",
        "git_url": format!("http://127.0.0.1:{port}/app/.git")});
    let run = async || -> Result<String> {
        let ack = node.post("/api/v1/tasks", Some(&who), &body).await?;
        Ok(ack["task_id"].as_str().context("no task")?.to_owned())
    };
    let task = run().await?;
    node.settled(&who, &task, "FAILED").await?;
    let (_, turns) = node.turns(&who, &task).await?;
    assert!(json!(turns).to_string().contains("git clone failed"), "without it: {turns:#?}");
    let set = json!({"token": TOKEN, "user": "oauth2"});
    let path = format!("/api/v1/users/me/git/127.0.0.1:{port}");
    assert_eq!(node.call("PUT", &path, Some(&who), Some(&set)).await?.status, 200);
    let task = run().await?;
    node.settled(&who, &task, "COMPLETED").await?;
    let said = last_answer(&node, &who, &task).await?;
    assert!(said.contains("hello") && !said.contains(TOKEN), "{said}");
    assert_eq!(machine.files_with(TOKEN), Vec::<PathBuf>::new(), "no file has it");
    assert!(!(home.log() + &machine.log()).contains(TOKEN), "nor a log");
    Ok(())
}

/// The MCP server of its Ghost is the runtime's too; the secret in its header reaches it alone.
#[tokio::test]
async fn the_mcp_servers_of_a_bot_are_the_runtimes_too() -> Result<()> {
    const TOKEN: &str = "mcp-token-987654321";
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let mcp = McpServer::start().await?;
    mcp.require_token(TOKEN);
    let call = Answer::tool("mcp__tools__echo", json!({"text": "colour"}));
    let rule = Rule::any().human("the job").then(call).then(Answer::text("Looked up."));
    let fake = model(vec![rule]).await?;
    let home = Home::new()?;
    let node = node(&home).await?;
    let who = node.setup().await?;
    let server = format!(
        "spec:\n  systemPrompt: You are dev.\n  mcpServers:\n    tools: {{type: streamable-http, \
         url: \"{}\", headers: {{Authorization: \"Bearer {TOKEN}\"}}}}\n",
        mcp.url()
    );
    let team = team("ClaudeCode", &fake.url());
    let team = team.replace("spec: {systemPrompt: You are dev.}\n", &server);
    node.apply(&who, &team).await?;
    let mut machine = Machine::new(Some(&runtimes))?;
    machine.join(&node, &who).await?;
    let task = node.run(&who, "devs", "the job").await?;
    let block = asked(&node, &who, &task).await?;
    assert_eq!(answer(&node, &who, &task, &block, json!({"answer": "allow"})).await?, 204);
    node.settled(&who, &task, "COMPLETED").await?;
    assert!(mcp.calls().iter().any(|call| call.tool == "echo"), "{:?}", mcp.calls());
    assert_eq!(machine.files_with(TOKEN), Vec::<PathBuf>::new(), "the secret lies nowhere");
    Ok(())
}
