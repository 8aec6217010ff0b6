//! Codex itself, against the scripted model.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use serde_json::json;
use troupe_executor::{
    Closing, Codex, Decision, Grant, Launch, Permissions, Prompt, RunCommand, Runtime as _,
    RuntimeEvent, RuntimeKind, SessionId, ToolOutcome, TurnEnd,
};
use troupe_testkit::{Answer, FakeModel, Fault, Gate, McpServer, Rule, Script, wait_until};
use troupe_types::ErrorType;

use crate::kit::{
    KEY, Run, WAIT, World, approval, approve, granted, job, kept, kill_runtime_of, lives, model,
    outcomes, pids, runtimes, session,
};

/// How long something must not happen for.
const HELD: Duration = Duration::from_secs(2);

struct Kit {
    world: World,
    fake: FakeModel,
    runtime: Codex,
}

impl Kit {
    async fn new(rules: Vec<Rule>) -> Option<Self> {
        let program = runtimes()?.join("codex/node_modules/.bin/codex");
        let world = World::new();
        let fake = FakeModel::start(Script::rules(rules)).await.unwrap();
        fake.require_key(KEY);
        let runtime = Codex::new(world.machine.clone(), Some(program));
        Some(Self { world, fake, runtime })
    }

    fn launch(&self, prompt: &str) -> Launch {
        let mut job = job(RuntimeKind::Codex, prompt);
        job.model = Some(model(self.fake.openai_url()));
        self.world.launch(job)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.work().join(name)
    }
}

fn exec(command: &str) -> Answer {
    Answer::tool("exec_command", json!({"cmd": command}))
}

const PATCH: &str =
    "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: a.txt\n+one\n+two\n*** End Patch\nEOF\n";

/// Writes a file, runs commands, asks: allowed, denied, expired, "always".
#[tokio::test]
async fn a_whole_job() {
    let script = Rule::any()
        .human("the job")
        .then(exec(PATCH).thinking("hm"))
        .then(exec("echo ran > b.txt; cat b.txt"))
        .then(exec("touch denied.txt"))
        .then(exec("echo ran > b.txt; cat b.txt"))
        .then(Answer::text("All done."));
    let Some(kit) = Kit::new(vec![script]).await else { return };
    let found = kit.runtime.probe().await.unwrap();
    assert_eq!((found.version.as_str(), found.note), ("0.169.0", None));
    let mut run = Run::start(&kit.runtime, kit.launch("the job")).await;

    let request = approval(&mut run).await;
    assert!(request.tool == "apply_patch" && request.title.ends_with("a.txt"), "{request:?}");
    assert!(!kit.file("a.txt").exists());
    approve(&run, &request.id, Decision::Allow { input: None }).await.unwrap();
    let request = approval(&mut run).await;
    assert_eq!(fs::read_to_string(kit.file("a.txt")).unwrap(), "one\ntwo\n");
    let command = Some("echo ran > b.txt; cat b.txt".to_owned());
    assert_eq!(request.always, Some(Grant { tool: "command".into(), command }));
    approve(&run, &request.id, Decision::AllowAlways).await.unwrap();
    let request = approval(&mut run).await;
    assert_eq!(request.title, "touch denied.txt");
    approve(&run, &request.id, Decision::Deny { message: String::new() }).await.unwrap();
    assert_eq!(run.turn_end().await, TurnEnd::Completed { stop: None });
    run.handle.tell(RunCommand::Finish).await.unwrap();
    assert_eq!(run.exit().await.code, Some(0));

    assert!(kit.file("b.txt").exists() && !kit.file("denied.txt").exists());
    let outcomes = outcomes(&run);
    let sorts: Vec<ToolOutcome> = outcomes.iter().map(|(outcome, _)| *outcome).collect();
    use ToolOutcome::{Denied, Done};
    assert_eq!(sorts, [Done, Done, Denied, Done], "{outcomes:#?}");
    assert_eq!(outcomes[1].1.trim(), "ran");
    assert_eq!(run.text(), "All done.");
    assert!(
        run.seen.iter().any(|e| matches!(e, RuntimeEvent::Thinking { text, .. } if text == "hm"))
    );
    let diff = run.seen.iter().find_map(|event| match event {
        RuntimeEvent::Diff(diff) => Some(diff),
        _ => None,
    });
    assert!(diff.unwrap().patch.contains("+one\n+two\n"));
    let unknown: Vec<_> =
        run.seen.iter().filter(|e| matches!(e, RuntimeEvent::Unknown { .. })).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    let calls = run.seen.iter().filter(|e| matches!(e, RuntimeEvent::ModelDone { .. })).count();
    assert_eq!(calls, 5);
}

/// What was allowed before runs when it is kept that it was called, not before, and not at all if
/// that cannot be kept.
#[tokio::test]
async fn what_is_granted_waits_until_it_is_kept_that_it_was_called() {
    let rules = vec![
        Rule::any().human("no room on the disk").then(Answer::text("I see.")),
        Rule::any()
            .human("the job")
            .then(exec("echo ran >> b.txt"))
            .then(exec("echo ran >> b.txt"))
            .then(Answer::text("All done.")),
    ];
    let Some(kit) = Kit::new(rules).await else { return };
    let mut launch = kit.launch("the job");
    let command = Some("echo ran >> b.txt".to_owned());
    launch.job.grants = vec![Grant { tool: "command".into(), command }];
    let mut run = Run::start(&kit.runtime, launch).await;
    let id = granted(&mut run).await;
    let called = |e: &RuntimeEvent| matches!(e, RuntimeEvent::ToolStarted(_));
    assert!(run.seen.iter().any(called), "it was told before: {:#?}", run.seen);
    let ran = async || kit.file("b.txt").exists();
    assert!(!troupe_testkit::try_until(HELD, ran).await, "it waits");
    kept(&run.handle, id, None).await.unwrap();
    let id = granted(&mut run).await;
    kept(&run.handle, id, Some("no room on the disk")).await.unwrap();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }), "{:#?}", run.seen);
    run.handle.stop().await;
    assert_eq!(fs::read_to_string(kit.file("b.txt")).unwrap(), "ran\n");
    let told = outcomes(&run);
    assert_eq!((told[0].0, told[1].0), (ToolOutcome::Done, ToolOutcome::Denied), "{told:#?}");
    assert!(run.text().ends_with("I see."), "it is told why: {}", run.text());
}

/// An approval that nobody answered is told to the model as exactly that.
#[tokio::test]
async fn expiry_is_told_as_such() {
    let rules = vec![
        Rule::any().human("expired").then(Answer::text("I will wait.")),
        Rule::any().human("ask me").then(exec("touch x.txt")).then(Answer::text("Hm.")),
    ];
    let Some(kit) = Kit::new(rules).await else { return };
    let mut run = Run::start(&kit.runtime, kit.launch("ask me")).await;
    let request = approval(&mut run).await;
    approve(&run, &request.id, Decision::Expired).await.unwrap();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert!(!kit.file("x.txt").exists());
    assert!(run.text().ends_with("I will wait."), "{}", run.text());
    let closed = RuntimeEvent::Closed { id: request.id, how: Closing::Expired };
    assert!(run.seen.contains(&closed));
    let last = kit.fake.requests().pop().unwrap().body["input"].to_string();
    assert!(last.contains("Nobody refused it"), "{last}");
    run.handle.stop().await;
}

#[tokio::test]
async fn an_interrupt_in_mid_tool() {
    let slow = "echo $$ > tool.pid; python3 -c \"import time,os; open('py.pid','w').write(str(os.getpid())); time.sleep(1000)\"";
    let rules = vec![
        Rule::any().human("after").then(Answer::text("Still here.")),
        Rule::any().human("slow job").then(exec(slow)),
    ];
    let Some(kit) = Kit::new(rules).await else { return };
    let mut launch = kit.launch("slow job");
    launch.job.permissions = Permissions::Bypass;
    let mut run = Run::start(&kit.runtime, launch).await;
    let work = kit.world.work();
    run.until(|event| matches!(event, RuntimeEvent::ToolStarted(_))).await;
    wait_until(WAIT, || std::future::ready(pids(&work).len() == 2)).await;
    let tools = pids(&work);
    run.handle.tell(RunCommand::Interrupt).await.unwrap();
    assert_eq!(run.turn_end().await, TurnEnd::Interrupted);
    wait_until(WAIT, || std::future::ready(tools.iter().all(|pid| !lives(*pid)))).await;
    run.handle.tell(RunCommand::Input { prompt: Prompt::text("after") }).await.unwrap();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert!(run.text().ends_with("Still here."));
    run.handle.stop().await;
}

#[tokio::test]
async fn after_a_kill_it_goes_on_in_the_same_session() {
    let slow = "echo $$ > tool.pid; python3 -c 'import time; time.sleep(1000)'";
    let rules = vec![
        Rule::any().human("go on").then(Answer::text("Going on.")),
        Rule::any().human("first job").then(exec(slow)),
    ];
    let Some(kit) = Kit::new(rules).await else { return };
    let mut launch = kit.launch("first job");
    launch.job.permissions = Permissions::Bypass;
    let mut run = Run::start(&kit.runtime, launch.clone()).await;
    run.until(|event| matches!(event, RuntimeEvent::ToolStarted(_))).await;
    let work = kit.world.work();
    wait_until(WAIT, || std::future::ready(!pids(&work).is_empty())).await;
    let tool = pids(&work)[0];
    kill_runtime_of(tool);
    let TurnEnd::Failed { text, .. } = run.turn_end().await else { panic!("it was killed") };
    assert!(text.contains("signal 9"), "{text}");
    run.exit().await;
    assert!(!lives(tool));

    let first = session(&run);
    launch.job.prompt = Prompt::text("go on");
    launch.job.session = Some(first.clone());
    let mut run = Run::start(&kit.runtime, launch.clone()).await;
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert_eq!((run.text().as_str(), session(&run)), ("Going on.", first));
    let last = kit.fake.requests().pop().unwrap().body["input"].to_string();
    assert!(last.contains("first job"), "the session knows what was before: {last}");
    run.handle.stop().await;

    launch.job.session = Some(SessionId("01a22af4-0000-7000-8000-000000000000".into()));
    launch.job.history = "Earlier somebody said: blue whale.".into();
    let mut run = Run::start(&kit.runtime, launch).await;
    run.turn_end().await;
    let lost =
        |e: &RuntimeEvent| matches!(e, RuntimeEvent::Notice { code, .. } if code == "session_lost");
    assert!(run.seen.iter().any(lost));
    let last = kit.fake.requests().pop().unwrap().body["input"].to_string();
    assert!(last.contains("blue whale") && !last.contains("first job"), "{last}");
    run.handle.stop().await;
}

#[tokio::test]
async fn steering_and_errors() {
    let gate = Gate::closed();
    let rules = vec![
        Rule::any().human("fine").then(Answer::text("Fine.")),
        Rule::any().human("too long").then(Answer::fault(Fault::context_length())),
        Rule::any().human("busy").then(Answer::fault(Fault::server_error())),
        Rule::any().human("also this").then(Answer::text("Both done.")),
        Rule::any().human("wind").then(exec("true").held_by(&gate, 0)).then(Answer::text("One.")),
    ];
    let Some(kit) = Kit::new(rules).await else { return };
    let mut launch = kit.launch("wind");
    launch.job.permissions = Permissions::Bypass;
    let mut run = Run::start(&kit.runtime, launch).await;
    run.until(|event| matches!(event, RuntimeEvent::TurnStarted)).await;
    wait_until(WAIT, || std::future::ready(kit.fake.active() > 0)).await;
    run.handle.tell(RunCommand::Steer { prompt: Prompt::text("also this") }).await.unwrap();
    gate.open();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert!(run.text().ends_with("Both done."), "{}", run.text());
    for (prompt, expected) in
        [("busy", ErrorType::ProviderError), ("too long", ErrorType::ContextLengthExceeded)]
    {
        run.handle.tell(RunCommand::Input { prompt: Prompt::text(prompt) }).await.unwrap();
        let TurnEnd::Failed { error, text } = run.turn_end().await else { panic!("it must fail") };
        assert_eq!(error, expected, "{text}");
    }
    assert!(run.seen.iter().any(|e| matches!(e, RuntimeEvent::Retry { .. })), "{:#?}", run.seen);
    run.handle.tell(RunCommand::Input { prompt: Prompt::text("fine") }).await.unwrap();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert!(run.text().ends_with("Fine."));
    run.handle.stop().await;
}

#[tokio::test]
async fn mcp_servers_and_skills_are_handed_over() {
    let rule = Rule::any()
        .then(Answer::tool("mcp__demo__echo", json!({"text": "hi"})))
        .then(Answer::text("ok"));
    let Some(kit) = Kit::new(vec![rule]).await else { return };
    let mcp = McpServer::start().await.unwrap();
    let skill = kit.world.dir.path().join("skill-of-blue");
    fs::create_dir(&skill).unwrap();
    let text = "---\nname: blue\ndescription: Paints things azure.\n---\nUse azure.\n";
    fs::write(skill.join("SKILL.md"), text).unwrap();
    let mut launch = kit.launch("hello");
    launch.secrets.insert("mcp", troupe_executor::Secret::new("mcp-token-987654321"));
    launch.job.instructions = "You are the azure bot.".into();
    let headers = BTreeMap::from([("X-Token".to_owned(), "Bearer ${secret:mcp}".to_owned())]);
    let server = troupe_executor::McpServer::StreamableHttp { url: mcp.url(), headers };
    launch.job.mcp_servers = BTreeMap::from([("demo".to_owned(), server)]);
    launch.job.skills = vec![troupe_executor::SkillDir { name: "blue".into(), path: skill }];
    let mut run = Run::start(&kit.runtime, launch).await;
    let request = approval(&mut run).await;
    assert_eq!(request.tool, "mcp:demo");
    approve(&run, &request.id, Decision::Allow { input: None }).await.unwrap();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    run.handle.stop().await;
    assert_eq!(outcomes(&run)[0], (ToolOutcome::Done, "hi".to_owned()));
    let body = kit.fake.requests()[0].body.to_string();
    assert!(
        body.contains("You are the azure bot.") && body.contains("Paints things azure."),
        "{body}"
    );
    kit.world.holds_none_of(&["mcp-token-987654321", KEY]);
}
