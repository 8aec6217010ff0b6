//! A real Agno agent and team, against the scripted model.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::json;
use troupe_executor::{
    Agno, CommandError, Decision, Launch, ModelAccess, Permissions, Prompt, Reply, RunCommand,
    Runtime as _, RuntimeEvent, RuntimeKind, TeamMember, ToolOutcome, TurnEnd,
};
use troupe_testkit::{Answer, FakeModel, Fault, Gate, McpServer, Piece, Rule, Script, wait_until};
use troupe_types::ErrorType;

use crate::kit::{
    KEY, Run, WAIT, World, approval, approve, job, kill_runtime_of, lives, model, outcomes, pids,
    runtimes, session,
};

struct Kit {
    world: World,
    fake: FakeModel,
    runtime: Agno,
}

impl Kit {
    async fn new(rules: Vec<Rule>) -> Option<Self> {
        let python = runtimes()?.join("agno/bin/python");
        let world = World::new();
        let fake = FakeModel::start(Script::rules(rules)).await.unwrap();
        fake.require_key(KEY);
        let runtime = Agno::new(world.machine.clone(), Some(python));
        Some(Self { world, fake, runtime })
    }

    fn launch(&self, prompt: &str) -> Launch {
        let mut job = job(RuntimeKind::Agno, prompt);
        job.model = Some(model(self.fake.openai_url()));
        self.world.launch(job)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.work().join(name)
    }
}

fn command(command: &str) -> Answer {
    Answer::tool("run_command", json!({"command": command}))
}

#[tokio::test]
async fn a_whole_job() {
    let write = Piece::Tool {
        name: "write_file".into(),
        args: json!({"path": "dir/a.txt", "content": "one\ntwo\n"}),
    };
    let script = Rule::any()
        .human("the job")
        .then(Answer::text("I will write. ").and(write))
        .then(command("cat dir/a.txt > b.txt; env"))
        .then(command("touch denied.txt"))
        .then(command("touch expired.txt"))
        .then(Answer::tool("ask_person", json!({"question": "Which?", "options": ["Red", "Blue"]})))
        .then(command("cat dir/a.txt > b.txt; env"))
        .then(Answer::text("All done.").thinking("hm"));
    let Some(kit) = Kit::new(vec![script]).await else { return };
    let found = kit.runtime.probe().await.unwrap();
    assert_eq!((found.version.as_str(), found.note), ("3.1.10", None));
    let mut run = Run::start(&kit.runtime, kit.launch("the job")).await;
    let request = approval(&mut run).await;
    assert_eq!((request.tool.as_str(), request.title.as_str()), ("write_file", "dir/a.txt"));
    assert!(!kit.file("dir/a.txt").exists());
    approve(&run, &request.id, Decision::Allow { input: None }).await.unwrap();
    let request = approval(&mut run).await;
    approve(&run, &request.id, Decision::AllowAlways).await.unwrap();
    let twice = approve(&run, &request.id, Decision::AllowAlways).await;
    assert_eq!(twice, Err(CommandError::NotOpen));
    let request = approval(&mut run).await;
    approve(&run, &request.id, Decision::Deny { message: "not today".into() }).await.unwrap();
    let request = approval(&mut run).await;
    approve(&run, &request.id, Decision::Expired).await.unwrap();
    let event = run.until(|event| matches!(event, RuntimeEvent::Question(_))).await;
    let RuntimeEvent::Question(asked) = event else { unreachable!() };
    let answers = BTreeMap::from([(asked.questions[0].id.clone(), vec!["Blue".to_owned()])]);
    let reply = Reply::Answered { answers };
    run.handle.tell(RunCommand::Answer { id: asked.id, reply }).await.unwrap();
    assert_eq!(run.turn_end().await, TurnEnd::Completed { stop: None });
    run.handle.tell(RunCommand::Finish).await.unwrap();
    let exit = run.exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert_eq!(fs::read_to_string(kit.file("b.txt")).unwrap(), "one\ntwo\n");
    assert!(!kit.file("denied.txt").exists() && !kit.file("expired.txt").exists());
    let outcomes = outcomes(&run);
    assert_eq!(outcomes.len(), 6, "{outcomes:#?}");
    assert!(!outcomes[1].1.contains("TROUPE_MODEL_KEY"), "the key is not for commands");
    assert!(outcomes[2].1.contains("not today") && outcomes[3].1.contains("Nobody refused"));
    assert_eq!(outcomes[4].1, "Blue");
    assert_eq!(run.text(), "I will write. All done.");
    assert!(
        run.seen.iter().any(|e| matches!(e, RuntimeEvent::Thinking { text, .. } if text == "hm"))
    );
    let unknown: Vec<_> =
        run.seen.iter().filter(|e| matches!(e, RuntimeEvent::Unknown { .. })).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    let calls = run.seen.iter().filter(|e| matches!(e, RuntimeEvent::ModelDone { .. })).count();
    assert_eq!(calls, 7);
    assert!(!format!("{:?}", run.seen).contains(KEY));
}

#[tokio::test]
async fn a_team_delegates() {
    let rules = vec![
        Rule::any().human("count the stars").then(Answer::text("Seven stars.")),
        Rule::any()
            .human("ask the counter")
            .then(Answer::tool(
                "delegate_task_to_member",
                json!({"member_id": "counter", "task": "count the stars"}),
            ))
            .then(Answer::text("There are seven.")),
    ];
    let Some(kit) = Kit::new(rules).await else { return };
    let mut launch = kit.launch("ask the counter");
    launch.job.members = vec![TeamMember {
        name: "counter".into(),
        role: "Counts things".into(),
        instructions: "Count.".into(),
        model: None,
        mcp_servers: BTreeMap::new(),
    }];
    let mut run = Run::start(&kit.runtime, launch).await;
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert_eq!(run.text(), "There are seven.");
    let inner: String = run
        .seen
        .iter()
        .filter_map(|event| match event {
            RuntimeEvent::Text { text, parent: Some(_) } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(inner, "Seven stars.\n\n");
    assert!(run.seen.iter().any(
        |e| matches!(e, RuntimeEvent::SubagentStarted { title, .. } if title == "counter: count the stars")
    ));
    assert!(run.seen.iter().any(|e| matches!(e, RuntimeEvent::SubagentEnded { ok: true, .. })));
    run.handle.stop().await;
}

/// Members that work side by side, with Models of their own: each one's words are in its own block.
#[tokio::test]
async fn members_work_side_by_side_with_their_own_models() {
    let (of_stars, of_moons) = (Gate::closed(), Gate::closed());
    let say = |text: &str, gate: &Gate| Answer::text(text).held_by(gate, 2);
    let rules = vec![
        Rule::any().human("count the stars").then(say("Seven of all the stars.", &of_stars)),
        Rule::any()
            .human("count both")
            .then(
                Answer::text("")
                    .and(give("a", "count the stars"))
                    .and(give("b", "count the moons")),
            )
            .then(Answer::text("Nine.")),
    ];
    let Some(kit) = Kit::new(rules).await else { return };
    let moons = Rule::any().human("count the moons").then(say("Two of all the moons.", &of_moons));
    let other = FakeModel::start(Script::rules(vec![moons])).await.unwrap();
    other.require_key("sk-other-0123456789");
    let mut launch = kit.launch("count both");
    launch.secrets.insert("other", troupe_executor::Secret::new("sk-other-0123456789"));
    let theirs = ModelAccess { key: Some("other".into()), ..model(other.openai_url()) };
    launch.job.members = vec![member("a", None), member("b", Some(theirs))];
    let mut run = Run::start(&kit.runtime, launch).await;
    let says = |event: &RuntimeEvent, what: &str| matches!(event, RuntimeEvent::Text { text, parent: Some(_) } if text.contains(what));
    wait_until(WAIT, || {
        std::future::ready(kit.fake.request_count() > 1 && other.request_count() > 0)
    })
    .await;
    of_moons.open();
    run.until(|event| says(event, "moons")).await;
    of_stars.open();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert_eq!(run.text(), "Nine.");
    let mut said = BTreeMap::<&str, String>::new();
    for event in &run.seen {
        if let RuntimeEvent::Text { text, parent: Some(parent) } = event {
            said.entry(parent).or_default().push_str(text);
        }
    }
    for event in &run.seen {
        let RuntimeEvent::SubagentStarted { id, title, .. } = event else { continue };
        let words = if title.starts_with("a:") {
            "Seven of all the stars.\n\n"
        } else {
            "Two of all the moons.\n\n"
        };
        assert_eq!(said.get(id.as_str()).map(String::as_str), Some(words), "{title}: {said:?}");
    }
    assert_eq!(said.len(), 2);
    run.handle.stop().await;
}

fn give(to: &str, task: &str) -> Piece {
    Piece::Tool {
        name: "delegate_task_to_member".into(),
        args: json!({"member_id": to, "task": task}),
    }
}

fn member(name: &str, model: Option<ModelAccess>) -> TeamMember {
    TeamMember {
        name: name.into(),
        role: "Counts things".into(),
        instructions: "Count.".into(),
        model,
        mcp_servers: BTreeMap::new(),
    }
}

/// A member whose model refuses it has failed, and its leader reads why.
#[tokio::test]
async fn a_leader_reads_how_a_member_failed() {
    let rules = vec![
        Rule::any()
            .human("ask it")
            .then(Answer::text("").and(give("a", "count the stars")))
            .then(Answer::text("It could not.")),
    ];
    let Some(kit) = Kit::new(rules).await else { return };
    let other = FakeModel::start(Script::rules(Vec::new())).await.unwrap();
    other.require_key("sk-other-0123456789");
    let mut launch = kit.launch("ask it");
    launch.job.members = vec![member("a", Some(model(other.openai_url())))];
    let mut run = Run::start(&kit.runtime, launch).await;
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert_eq!(run.text(), "It could not.");
    let failed =
        |event: &RuntimeEvent| matches!(event, RuntimeEvent::SubagentEnded { ok: false, .. });
    assert!(run.seen.iter().any(failed), "{:#?}", run.seen);
    let last = kit.fake.requests().pop().unwrap().body["messages"].to_string();
    assert!(last.contains("This member failed"), "{last}");
    run.handle.stop().await;
}

/// Two members at work, one at a command: an interrupt leaves neither, and nothing goes on.
#[tokio::test]
async fn an_interrupt_ends_all_members() {
    let slow = "echo $$ > tool.pid; exec python3 -c 'import time; time.sleep(1000)'";
    let gate = Gate::closed();
    let rules = vec![
        Rule::any().human("after").then(Answer::text("Still here.")),
        Rule::any().human("count the stars").then(command(slow)).then(Answer::text("never")),
        Rule::any().human("count the moons").then(Answer::text("Two of all.").held_by(&gate, 2)),
        Rule::any().human("count both").then(
            Answer::text("").and(give("a", "count the stars")).and(give("b", "count the moons")),
        ),
    ];
    let Some(kit) = Kit::new(rules).await else { return };
    let mut launch = kit.launch("count both");
    launch.job.permissions = Permissions::Bypass;
    launch.job.members = vec![member("a", None), member("b", None)];
    let mut run = Run::start(&kit.runtime, launch).await;
    let work = kit.world.work();
    let at_work = || pids(&work).iter().any(|pid| lives(*pid)) && kit.fake.request_count() >= 3;
    wait_until(WAIT, || std::future::ready(at_work())).await;
    let tool = pids(&work)[0];
    run.handle.tell(RunCommand::Interrupt).await.unwrap();
    assert_eq!(run.turn_end().await, TurnEnd::Interrupted);
    wait_until(WAIT, || std::future::ready(!lives(tool))).await;
    let asked = kit.fake.request_count();
    gate.open();
    run.handle.tell(RunCommand::Input { prompt: Prompt::text("after") }).await.unwrap();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert_eq!(run.text(), "Still here.");
    assert_eq!(kit.fake.request_count(), asked + 1, "no member asked its model again");
    run.handle.stop().await;
}

/// What lies outside of the workspace is asked for: the keys of the runner's own process, too.
#[tokio::test]
async fn nothing_outside_is_read_without_a_person() {
    let read = |path: &str| Answer::tool("read_file", json!({"path": path}));
    let rule = Rule::any()
        .human("look")
        .then(read("./here.txt"))
        .then(read("/proc/self/environ"))
        .then(Answer::tool("list_files", json!({"path": ".."})))
        .then(Answer::text("Seen."));
    let Some(kit) = Kit::new(vec![rule]).await else { return };
    fs::write(kit.file("here.txt"), "here").unwrap();
    let mut launch = kit.launch("look");
    launch.job.permissions = Permissions::ReadOnly;
    let mut run = Run::start(&kit.runtime, launch).await;
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    let outcomes: Vec<_> = outcomes(&run).into_iter().map(|(_, said)| said).collect();
    assert_eq!(outcomes[0], "here");
    assert!(outcomes[1..].iter().all(|said| said.starts_with("Refused")), "{outcomes:?}");
    let told = kit.fake.requests().pop().unwrap().body.to_string();
    assert!(!told.contains(KEY), "the model does not hear it");
    run.handle.stop().await;
}

/// The Bot has a server over HTTP and one that is not there, its member one that is a program.
fn with_servers(kit: &Kit, url: String, token: &str) -> Launch {
    let program = kit.world.dir.path().join("shout.py");
    fs::write(&program, SHOUT).unwrap();
    let mut launch = kit.launch("the job");
    launch.secrets.insert("mcp", troupe_executor::Secret::new(token));
    let secret = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let headers = secret("Authorization", "Bearer ${secret:mcp}");
    let demo = troupe_executor::McpServer::StreamableHttp { url, headers };
    let stdio = |command: &str, args: Vec<String>, env| troupe_executor::McpServer::Stdio {
        command: command.to_owned(),
        args,
        env,
    };
    let gone = stdio("/nonexistent/server", Vec::new(), BTreeMap::new());
    let program = program.to_str().unwrap().to_owned();
    let louder = stdio("python3", vec![program], secret("MARK", "!${secret:mcp}"));
    launch.job.mcp_servers = BTreeMap::from([("demo".into(), demo), ("gone".into(), gone)]);
    launch.job.members = vec![TeamMember {
        name: "hand".into(),
        role: "Shouts".into(),
        instructions: "Shout.".into(),
        model: None,
        mcp_servers: BTreeMap::from([("loud er".into(), louder)]),
    }];
    launch
}

/// The Bot's server is reached over HTTP, the member's is a program; a person allows what they do.
#[tokio::test]
async fn mcp_servers_are_handed_over() {
    const TOKEN: &str = "mcp-token-987654321";
    let rules = vec![
        Rule::any()
            .human("say it loudly")
            .then(Answer::tool("mcp__loud_er__shout", json!({"text": "hi"})))
            .then(Answer::text("Said.")),
        Rule::any()
            .human("the job")
            .then(Answer::tool("mcp__demo__echo", json!({"text": "azure"})))
            .then(Answer::tool("mcp__demo__count", json!({})))
            .then(Answer::tool(
                "delegate_task_to_member",
                json!({"member_id": "hand", "task": "say it loudly"}),
            ))
            .then(Answer::text("ok")),
    ];
    let Some(kit) = Kit::new(rules).await else { return };
    let mcp = McpServer::start().await.unwrap();
    mcp.require_token(TOKEN);
    let launch = with_servers(&kit, mcp.url(), TOKEN);
    let mut run = Run::start(&kit.runtime, launch).await;
    let request = approval(&mut run).await;
    assert_eq!(request.tool, "mcp__demo__echo");
    assert!(mcp.calls().is_empty(), "not before somebody allows it");
    approve(&run, &request.id, Decision::Allow { input: None }).await.unwrap();
    let request = approval(&mut run).await;
    approve(&run, &request.id, Decision::Deny { message: "not that".into() }).await.unwrap();
    let request = approval(&mut run).await;
    assert_eq!(request.tool, "mcp__loud_er__shout");
    approve(&run, &request.id, Decision::Allow { input: None }).await.unwrap();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    run.handle.tell(RunCommand::Finish).await.unwrap();
    let exit = run.exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let outcomes = outcomes(&run);
    let has = |n: usize, text: &str| outcomes[n].1.contains(text);
    assert!(has(0, "azure") && has(1, "not that"), "{outcomes:?}");
    assert!(has(2, &format!("HI! {} []", TOKEN.len() + 1)), "{outcomes:?}");
    let tools: Vec<_> = mcp.calls().into_iter().map(|call| call.tool).collect();
    assert_eq!(tools, ["echo"], "what was denied is not done");
    let told = run.seen.iter().any(|event| {
        matches!(event, RuntimeEvent::Notice { code, text }
            if code == "mcp_failed" && text.contains("gone") && text.contains("No such file"))
    });
    assert!(told, "{:?}", run.seen);
    kit.world.holds_none_of(&[TOKEN, KEY]);
}

/// A server of one tool, over its standard pipes.
const SHOUT: &str = r#"
import json, os, sys
for line in sys.stdin:
    said = json.loads(line)
    if "id" not in said:
        continue
    method, params = said["method"], said.get("params", {})
    if method == "initialize":
        result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "shout", "version": "1"}}
    elif method == "tools/list":
        schema = {"type": "object", "properties": {"text": {"type": "string"}}}
        result = {"tools": [{"name": "shout", "description": "Shouts.", "inputSchema": schema}]}
    elif method == "tools/call":
        keys = [k for k in os.environ if k.startswith(("TROUPE_MODEL", "TROUPE_MCP"))]
        mark = os.environ["MARK"]
        text = f"{params['arguments']['text'].upper()}{mark[0]} {len(mark)} {keys}"
        result = {"content": [{"type": "text", "text": text}]}
    else:
        result = {}
    print(json.dumps({"jsonrpc": "2.0", "id": said["id"], "result": result}), flush=True)
"#;

/// Cancel in mid-tool leaves no process and the next prompt is taken; kill -9, then the same
/// session.
#[tokio::test]
async fn interrupt_kill_and_resume() {
    let slow = "echo $$ > tool.pid; exec python3 -c 'import time; time.sleep(1000)'";
    let rules = vec![
        Rule::any().human("go on").then(Answer::text("Going on.")),
        Rule::any().human("after").then(Answer::text("Still here.")),
        Rule::any().human("busy").then(Answer::fault(Fault::rate_limit(None))),
        Rule::any().human("slow").then(command(slow)),
    ];
    let Some(kit) = Kit::new(rules).await else { return };
    let mut launch = kit.launch("slow one");
    launch.job.permissions = Permissions::Bypass;
    let mut run = Run::start(&kit.runtime, launch.clone()).await;
    let work = kit.world.work();
    let tool_runs = || std::future::ready(pids(&work).iter().any(|pid| lives(*pid)));
    wait_until(WAIT, tool_runs).await;
    let tool = pids(&work)[0];
    run.handle.tell(RunCommand::Interrupt).await.unwrap();
    assert_eq!(run.turn_end().await, TurnEnd::Interrupted);
    assert!(!lives(tool));
    let aborted = outcomes(&run).iter().all(|(outcome, _)| *outcome != ToolOutcome::Denied);
    assert!(aborted);
    run.handle.tell(RunCommand::Input { prompt: Prompt::text("after") }).await.unwrap();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert_eq!(run.text(), "Still here.");
    run.handle.tell(RunCommand::Input { prompt: Prompt::text("busy") }).await.unwrap();
    let TurnEnd::Failed { error, text } = run.turn_end().await else { panic!("it must fail") };
    assert_eq!(error, ErrorType::RateLimit, "{text}");
    fs::remove_file(kit.file("tool.pid")).unwrap();
    run.handle.tell(RunCommand::Input { prompt: Prompt::text("slow two") }).await.unwrap();
    wait_until(WAIT, tool_runs).await;
    let tool = pids(&work)[0];
    kill_runtime_of(tool);
    assert!(matches!(run.turn_end().await, TurnEnd::Failed { .. }));
    run.exit().await;
    assert!(!lives(tool));

    launch.job.session = Some(session(&run));
    launch.job.prompt = Prompt::text("go on");
    let mut run = Run::start(&kit.runtime, launch).await;
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert_eq!(run.text(), "Going on.");
    let last = kit.fake.requests().pop().unwrap().body["messages"].to_string();
    assert!(last.contains("Still here."), "the session knows what was before: {last}");
    run.handle.stop().await;
}
