//! Claude Code itself, against the scripted model.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use serde_json::json;
use troupe_executor::{
    ClaudeCode, Closing, CommandError, Decision, Grant, Launch, Permissions, Prompt, Reply,
    RunCommand, Runtime as _, RuntimeEvent, RuntimeKind, SessionId, ToolOutcome, TurnEnd,
};
use troupe_testkit::{Answer, FakeModel, Fault, Gate, McpServer, Piece, Rule, Script, wait_until};
use troupe_types::ErrorType;

use crate::kit::{
    KEY, Run, WAIT, World, approval, approve, granted, job, kept, kill_runtime_of, lives, model,
    outcomes, pids, runtimes, session,
};

/// How long something must not happen for.
const HELD: Duration = Duration::from_secs(2);

struct Claude {
    world: World,
    fake: FakeModel,
    runtime: ClaudeCode,
}

impl Claude {
    async fn new(rules: Vec<Rule>) -> Option<Self> {
        let program = runtimes()?.join("claude-code/node_modules/.bin/claude");
        let world = World::new();
        let fake = FakeModel::start(Script::rules(rules)).await.unwrap();
        fake.require_key(KEY);
        let runtime = ClaudeCode::new(world.machine.clone(), Some(program));
        Some(Self { world, fake, runtime })
    }

    fn launch(&self, prompt: &str) -> Launch {
        let mut job = job(RuntimeKind::ClaudeCode, prompt);
        job.model = Some(model(self.fake.url()));
        self.world.launch(job)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.work().join(name)
    }

    async fn run(&self, prompt: &str) -> Run {
        Run::start(&self.runtime, self.launch(prompt)).await
    }
}

fn bash(command: &str) -> Answer {
    Answer::tool("Bash", json!({"command": command, "description": "does it"}))
}

#[tokio::test]
async fn it_says_its_version() {
    let Some(claude) = Claude::new(vec![Rule::any().then(Answer::text("hi"))]).await else {
        return;
    };
    let found = claude.runtime.probe().await.unwrap();
    assert_eq!((found.version.as_str(), found.note), ("2.1.330", None));
    let missing = ClaudeCode::new(claude.world.machine.clone(), Some("/nowhere/claude".into()));
    let error = missing.probe().await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/claude is not installed here: npm install"), "{error}");
}

/// Writes a file, runs commands, asks: allowed, denied, expired, "always", and a question.
#[tokio::test]
async fn a_whole_job() {
    let script = Rule::any()
        .human("the job")
        .then(Answer::text("I will write. ").and(Piece::Tool {
            name: "Write".into(),
            args: json!({"file_path": "a.txt", "content": "one\ntwo\n"}),
        }))
        .then(bash("echo ran > b.txt"))
        .then(bash("touch denied.txt"))
        .then(bash("touch expired.txt"))
        .then(Answer::tool(
            "AskUserQuestion",
            json!({"questions": [{"question": "Which colour?", "header": "Colour",
            "options": [{"label": "Red", "description": "r"}, {"label": "Blue", "description": "b"}],
            "multiSelect": false}]}),
        ))
        .then(bash("echo ran > b.txt"))
        .then(Answer::text("All done.").thinking("hm"));
    let Some(claude) = Claude::new(vec![script]).await else { return };
    let mut run = claude.run("the job").await;

    let request = approval(&mut run).await;
    assert!(request.tool == "Write" && request.title.ends_with("/a.txt"), "{request:?}");
    assert!(!claude.file("a.txt").exists());
    approve(&run, &request.id, Decision::Allow { input: None }).await.unwrap();
    // Its name is of this process alone: one that the process before could have given is none.
    let bare = request.id.split_once('-').unwrap().1.to_owned();
    let old = approve(&run, &bare, Decision::AllowAlways).await;
    assert_eq!(old, Err(CommandError::NotOpen));
    let old = approve(&run, &format!("000000000000-{bare}"), Decision::AllowAlways).await;
    assert_eq!(old, Err(CommandError::NotOpen));
    // A second answer comes too late.
    let twice = approve(&run, &request.id, Decision::AllowAlways).await;
    assert_eq!(twice, Err(CommandError::NotOpen));

    let request = approval(&mut run).await;
    assert_eq!(fs::read_to_string(claude.file("a.txt")).unwrap(), "one\ntwo\n");
    assert_eq!(request.title, "echo ran > b.txt");
    let always = Some(Grant { tool: "Bash".into(), command: Some("echo ran > b.txt".into()) });
    assert_eq!(request.always, always);
    approve(&run, &request.id, Decision::AllowAlways).await.unwrap();

    let request = approval(&mut run).await;
    let message = "not today".to_owned();
    approve(&run, &request.id, Decision::Deny { message }).await.unwrap();
    let request = approval(&mut run).await;
    approve(&run, &request.id, Decision::Expired).await.unwrap();

    let event = run.until(|event| matches!(event, RuntimeEvent::Question(_))).await;
    let RuntimeEvent::Question(asked) = event else { unreachable!() };
    assert_eq!(asked.questions[0].options.len(), 2);
    let answers = BTreeMap::from([(asked.questions[0].id.clone(), vec!["Blue".to_owned()])]);
    let reply = Reply::Answered { answers };
    run.handle.tell(RunCommand::Answer { id: asked.id, reply }).await.unwrap();

    // "Always" holds: the same command is not asked for again.
    assert_eq!(run.turn_end().await, TurnEnd::Completed { stop: Some("end_turn".into()) });
    run.handle.tell(RunCommand::Finish).await.unwrap();
    let exit = run.exit().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");

    check_job(&claude, &run);
}

/// What was allowed before runs when it is kept that it was called, not before, and not at all if
/// that cannot be kept.
#[tokio::test]
async fn what_is_granted_waits_until_it_is_kept_that_it_was_called() {
    let script = Rule::any()
        .human("the job")
        .then(bash("echo ran >> b.txt"))
        .then(bash("echo ran >> b.txt"))
        .then(Answer::text("All done."));
    let Some(claude) = Claude::new(vec![script]).await else { return };
    let mut launch = claude.launch("the job");
    launch.job.grants = vec![Grant { tool: "Bash".into(), command: None }];
    let mut run = Run::start(&claude.runtime, launch).await;
    let id = granted(&mut run).await;
    let called = |e: &RuntimeEvent| matches!(e, RuntimeEvent::ToolStarted(_));
    assert!(run.seen.iter().any(called), "it was told before: {:#?}", run.seen);
    let ran = async || claude.file("b.txt").exists();
    assert!(!troupe_testkit::try_until(HELD, ran).await, "it waits");
    let other = kept(&run.handle, "other".to_owned(), None).await;
    assert_eq!(other, Err(CommandError::NotOpen));
    kept(&run.handle, id.clone(), None).await.unwrap();
    assert_eq!(kept(&run.handle, id, None).await, Err(CommandError::NotOpen));
    let id = granted(&mut run).await;
    kept(&run.handle, id, Some("no room on the disk")).await.unwrap();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }), "{:#?}", run.seen);
    run.handle.stop().await;
    assert_eq!(fs::read_to_string(claude.file("b.txt")).unwrap(), "ran\n");
    let told = outcomes(&run);
    assert_eq!((told[0].0, told[1].0), (ToolOutcome::Done, ToolOutcome::Denied), "{told:#?}");
    assert!(told[1].1.contains("no room on the disk"), "{told:#?}");
    let closed = run.seen.iter().any(|e| matches!(e, RuntimeEvent::Closed { .. }));
    assert!(!closed, "nobody was asked: {:#?}", run.seen);
}

/// What the whole job must have said and done.
fn check_job(claude: &Claude, run: &Run) {
    assert!(claude.file("b.txt").exists());
    assert!(!claude.file("denied.txt").exists() && !claude.file("expired.txt").exists());
    let outcomes = outcomes(run);
    let sorts: Vec<ToolOutcome> = outcomes.iter().map(|(outcome, _)| *outcome).collect();
    use ToolOutcome::{Denied, Done};
    assert_eq!(sorts, [Done, Done, Denied, Denied, Done, Done], "{outcomes:#?}");
    assert!(outcomes[2].1.contains("not today"), "{outcomes:#?}");
    assert!(outcomes[3].1.contains("expired") && outcomes[3].1.contains("Nobody refused"));
    assert!(outcomes[4].1.contains("Blue"), "{outcomes:#?}");
    let closed = |event: &RuntimeEvent| match event {
        RuntimeEvent::Closed { how, .. } => Some(*how),
        _ => None,
    };
    let closed: Vec<Closing> = run.seen.iter().filter_map(closed).collect();
    use Closing::{Allowed, AllowedAlways, Answered, Expired};
    assert_eq!(closed, [Allowed, AllowedAlways, Closing::Denied, Expired, Answered]);
    assert_eq!(run.text(), "I will write. All done.");
    assert!(
        run.seen.iter().any(|e| matches!(e, RuntimeEvent::Thinking { text, .. } if text == "hm"))
    );
    let RuntimeEvent::Diff(diff) =
        run.seen.iter().find(|e| matches!(e, RuntimeEvent::Diff(_))).unwrap()
    else {
        unreachable!()
    };
    assert_eq!((diff.files[0].change.as_str(), diff.files[0].added), ("added", Some(2)));
    assert!(diff.patch.contains("+one\n+two\n"), "{}", diff.patch);
    let unknown: Vec<_> =
        run.seen.iter().filter(|e| matches!(e, RuntimeEvent::Unknown { .. })).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    let calls = run.seen.iter().filter(|e| matches!(e, RuntimeEvent::ModelDone { .. })).count();
    assert_eq!(calls, 7);
    assert!(!format!("{:?}", run.seen).contains(KEY));
}

/// A cancel in the middle of a tool: the tool is gone, the process takes the next prompt.
#[tokio::test]
async fn an_interrupt_in_mid_tool() {
    let slow = r#"echo $$ > tool.pid; python3 -c "import time,os; open('py.pid','w').write(str(os.getpid())); time.sleep(1000)""#;
    let rules = vec![
        Rule::any().human("slow job").then(bash(slow)),
        Rule::any().human("after").then(Answer::text("Still here.")),
    ];
    let Some(claude) = Claude::new(rules).await else { return };
    let mut launch = claude.launch("slow job");
    launch.job.permissions = Permissions::Bypass;
    let mut run = Run::start(&claude.runtime, launch).await;
    let work = claude.world.work();
    run.until(|event| matches!(event, RuntimeEvent::ToolInput { .. })).await;
    wait_until(WAIT, || std::future::ready(pids(&work).len() == 2)).await;
    let tools = pids(&work);
    run.handle.tell(RunCommand::Interrupt).await.unwrap();
    assert_eq!(run.turn_end().await, TurnEnd::Interrupted);
    wait_until(WAIT, || std::future::ready(tools.iter().all(|pid| !lives(*pid)))).await;
    assert!(outcomes(&run).iter().all(|(outcome, _)| *outcome == ToolOutcome::Aborted));
    run.handle.tell(RunCommand::Input { prompt: Prompt::text("after") }).await.unwrap();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert!(run.text().ends_with("Still here."));
    let handle = run.handle.clone();
    let (exit, ()) = tokio::join!(run.exit(), handle.stop());
    assert!(exit.stopped);
}

/// kill -9 of the runtime in mid-tool leaves no process; the next run goes on in the session.
#[tokio::test]
async fn after_a_kill_it_goes_on_in_the_same_session() {
    let slow = "echo $$ > tool.pid; python3 -c 'import time; time.sleep(1000)'";
    let rules = vec![
        Rule::any().human("go on").then(Answer::text("Going on.")),
        Rule::any().human("first job").then(bash(slow)),
    ];
    let Some(claude) = Claude::new(rules).await else { return };
    let mut launch = claude.launch("first job");
    launch.job.permissions = Permissions::Bypass;
    let mut run = Run::start(&claude.runtime, launch.clone()).await;
    run.until(|event| matches!(event, RuntimeEvent::ToolInput { .. })).await;
    let work = claude.world.work();
    wait_until(WAIT, || std::future::ready(!pids(&work).is_empty())).await;
    let tool = pids(&work)[0];
    // The tool runs in a session of its own, below the runtime.
    kill_runtime_of(tool);
    let TurnEnd::Failed { text, .. } = run.turn_end().await else { panic!("it was killed") };
    assert!(text.contains("signal 9"), "{text}");
    run.exit().await;
    assert!(!lives(tool));

    let first = session(&run);
    launch.job.prompt = Prompt::text("go on");
    launch.job.session = Some(first.clone());
    let mut run = Run::start(&claude.runtime, launch.clone()).await;
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert_eq!((run.text().as_str(), session(&run)), ("Going on.", first));
    let last = claude.fake.requests().pop().unwrap().body["messages"].to_string();
    assert!(last.contains("first job"), "the session knows what was before: {last}");
    run.handle.stop().await;

    // A session that is gone is replaced, and said.
    launch.job.session = Some(SessionId("00000000-0000-4000-8000-000000000000".into()));
    launch.job.history = "Earlier somebody said: blue whale.".into();
    let mut run = Run::start(&claude.runtime, launch).await;
    run.turn_end().await;
    let lost =
        |e: &RuntimeEvent| matches!(e, RuntimeEvent::Notice { code, .. } if code == "session_lost");
    assert!(run.seen.iter().any(lost));
    let last = claude.fake.requests().pop().unwrap().body["messages"].to_string();
    assert!(last.contains("blue whale") && !last.contains("first job"), "{last}");
}

#[tokio::test]
async fn steering_joins_the_running_turn() {
    let gate = Gate::closed();
    let rules = vec![
        Rule::any().human("also this").then(Answer::text("Both done.")),
        Rule::any()
            .human("long job")
            .then(bash("true").held_by(&gate, 0))
            .then(Answer::text("One done.")),
    ];
    let Some(claude) = Claude::new(rules).await else { return };
    let mut launch = claude.launch("long job");
    launch.job.permissions = Permissions::Bypass;
    let mut run = Run::start(&claude.runtime, launch).await;
    run.until(|event| matches!(event, RuntimeEvent::TurnStarted)).await;
    wait_until(WAIT, || std::future::ready(claude.fake.active() > 0)).await;
    let prompt = Prompt::text("also this");
    let early = run.handle.tell(RunCommand::Input { prompt: prompt.clone() }).await;
    assert!(matches!(early, Err(CommandError::WrongState { .. })));
    run.handle.tell(RunCommand::Steer { prompt }).await.unwrap();
    gate.open();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    let ends = run.seen.iter().filter(|e| matches!(e, RuntimeEvent::TurnEnded(_))).count();
    assert_eq!(ends, 1);
    let last = claude.fake.requests().pop().unwrap().body["messages"].to_string();
    assert!(last.contains("also this"), "{last}");
    run.handle.stop().await;
}

#[tokio::test]
async fn errors_of_the_model_are_sorted() {
    let rules = vec![
        // Prompts that got no answer are told again with the next one: the newest rule first.
        Rule::any().human("fine").then(Answer::text("Fine.")),
        Rule::any().human("long").then(Answer::fault(Fault::context_length())),
        Rule::any().human("quota").then(Answer::fault(Fault::quota())),
        Rule::any().human("busy").then(Answer::fault(Fault::overloaded())),
    ];
    let Some(claude) = Claude::new(rules).await else { return };
    let mut run = claude.run("busy").await;
    let TurnEnd::Failed { error, text } = run.turn_end().await else { panic!("it must fail") };
    assert_eq!(error, ErrorType::ModelUnavailable, "{text}");
    assert!(run.seen.iter().any(|e| matches!(
        e,
        RuntimeEvent::Retry { attempt: 1, max: 1, error: ErrorType::ModelUnavailable, .. }
    )));
    for (prompt, expected) in
        [("quota", ErrorType::QuotaExceeded), ("long", ErrorType::ContextLengthExceeded)]
    {
        run.handle.tell(RunCommand::Input { prompt: Prompt::text(prompt) }).await.unwrap();
        let TurnEnd::Failed { error, text } = run.turn_end().await else { panic!("it must fail") };
        assert_eq!(error, expected, "{text}");
    }
    run.handle.tell(RunCommand::Input { prompt: Prompt::text("fine") }).await.unwrap();
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }));
    assert_eq!(run.text(), "Fine.");
    run.handle.stop().await;
}

/// MCP servers and skills of the Bot reach the runtime; a secret of theirs lies on no disk.
#[tokio::test]
async fn mcp_servers_and_skills_are_handed_over() {
    let Some(claude) = Claude::new(vec![Rule::any().then(Answer::text("ok"))]).await else {
        return;
    };
    let mcp = McpServer::start().await.unwrap();
    let skill = claude.world.dir.path().join("skill-of-blue");
    fs::create_dir(&skill).unwrap();
    let text = "---\nname: blue\ndescription: Paints things azure.\n---\nUse azure.\n";
    fs::write(skill.join("SKILL.md"), text).unwrap();
    let mut launch = claude.launch("hello");
    launch.secrets.insert("mcp", troupe_executor::Secret::new("mcp-token-987654321"));
    launch.job.instructions = "You are the azure bot.".into();
    let headers = BTreeMap::from([("X-Token".to_owned(), "Bearer ${secret:mcp}".to_owned())]);
    let server = troupe_executor::McpServer::StreamableHttp { url: mcp.url(), headers };
    launch.job.mcp_servers = BTreeMap::from([("demo".to_owned(), server)]);
    launch.job.skills = vec![troupe_executor::SkillDir { name: "blue".into(), path: skill }];
    let mut run = Run::start(&claude.runtime, launch).await;
    run.turn_end().await;
    run.handle.stop().await;
    let body = claude
        .fake
        .requests()
        .into_iter()
        .find(|r| r.body["tools"].as_array().is_some_and(|t| !t.is_empty()));
    let body = body.unwrap().body.to_string();
    assert!(body.contains("mcp__demo__"), "tools of the server are on offer");
    assert!(body.contains("You are the azure bot."));
    assert!(body.contains("Paints things azure."));
    claude.world.holds_none_of(&["mcp-token-987654321", KEY]);
}

/// Settings of a repository neither allow anything nor run anything; its notes are read.
#[tokio::test]
async fn a_repository_allows_itself_nothing() {
    let script = Rule::any().then(bash("touch x.txt")).then(Answer::text("ok"));
    let Some(claude) = Claude::new(vec![script]).await else { return };
    let settings = claude.file(".claude");
    fs::create_dir(&settings).unwrap();
    let hook = json!([{"hooks": [{"type": "command", "command": "touch hooked.txt"}]}]);
    let text = json!({"permissions": {"allow": ["Bash(touch *)", "Bash"]},
        "hooks": {"SessionStart": hook, "UserPromptSubmit": hook}});
    fs::write(settings.join("settings.json"), text.to_string()).unwrap();
    let mut run = claude.run("hello").await;
    let request = approval(&mut run).await;
    approve(&run, &request.id, Decision::Deny { message: String::new() }).await.unwrap();
    run.turn_end().await;
    run.handle.stop().await;
    assert!(!claude.file("x.txt").exists() && !claude.file("hooked.txt").exists());
}

/// Read only means that nobody is asked: not for leaving the plan, and "always" of before is void.
#[tokio::test]
async fn read_only_cannot_be_left() {
    let script = Rule::any()
        .human("look")
        .then(bash("touch x.txt"))
        .then(Answer::tool("ExitPlanMode", json!({"plan": "I will write."})))
        .then(Answer::tool("Write", json!({"file_path": "y.txt", "content": "y"})))
        .then(bash("touch z.txt"))
        .then(Answer::text("Looked."));
    let Some(claude) = Claude::new(vec![script]).await else { return };
    let mut launch = claude.launch("look");
    launch.job.permissions = Permissions::ReadOnly;
    launch.job.grants =
        ["Bash", "Write"].map(|tool| Grant { tool: tool.to_owned(), command: None }).to_vec();
    let mut run = Run::start(&claude.runtime, launch).await;
    assert!(matches!(run.turn_end().await, TurnEnd::Completed { .. }), "{:#?}", run.seen);
    run.handle.stop().await;
    let asked = run.seen.iter().any(|event| matches!(event, RuntimeEvent::Approval(_)));
    assert!(!asked, "{:#?}", run.seen);
    for file in ["x.txt", "y.txt", "z.txt"] {
        assert!(!claude.file(file).exists(), "{file}");
    }
    let told = outcomes(&run);
    assert_eq!(told.len(), 4, "{told:#?}");
    for (outcome, text) in told {
        assert_eq!(outcome, ToolOutcome::Denied, "{text}");
        assert!(text.contains("may only read here"), "{text}");
    }
    assert_eq!(run.text(), "Looked.");
}
