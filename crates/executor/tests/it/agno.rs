//! A real Agno agent and team, against the scripted model.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::json;
use troupe_executor::{
    Agno, CommandError, Decision, Launch, Permissions, Prompt, Reply, RunCommand, Runtime as _,
    RuntimeEvent, RuntimeKind, TeamMember, ToolOutcome, TurnEnd,
};
use troupe_testkit::{Answer, FakeModel, Fault, Piece, Rule, Script, wait_until};
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
    assert_eq!(inner, "Seven stars.");
    assert!(run.seen.iter().any(
        |e| matches!(e, RuntimeEvent::SubagentStarted { title, .. } if title == "counter: count the stars")
    ));
    assert!(run.seen.iter().any(|e| matches!(e, RuntimeEvent::SubagentEnded { ok: true, .. })));
    run.handle.stop().await;
}

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
