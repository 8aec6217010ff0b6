//! Programs that say nonsense: nothing crashes, nothing grows without bound.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use troupe_executor::{Agno, ClaudeCode, Codex, Runtime, RuntimeEvent, RuntimeKind, TurnEnd};

use crate::kit::{Run, World, job, model};

const NONSENSE: &str = r#"#!/bin/sh
head -c 20 >/dev/null
echo 'this is no JSON'
printf '\377\376\n'
echo '{"type":"from_the_future","a":1}'
echo '{"method":"from/the/future","params":{}}'
echo '{"event":"from_the_future"}'
echo '[1,2,3]'
echo '{"type":"assistant","message":7}'
echo '{"type":"user","message":{"content":"x"}}'
echo '{"type":"control_request"}'
echo '{"method":"item/completed","params":7,"id":null}'
head -c 6000000 /dev/zero | tr '\0' x
echo
head -c 100000 /dev/zero | tr '\0' e >&2
echo 'the last words' >&2
exit 7
"#;

fn nonsense(world: &World) -> PathBuf {
    program(world, NONSENSE)
}

fn program(world: &World, script: &str) -> PathBuf {
    let program = world.dir.path().join("nonsense");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[tokio::test]
async fn nonsense_is_kept_and_the_turn_fails() {
    let world = World::new();
    let program = nonsense(&world);
    let runtimes: [Box<dyn Runtime>; 3] = [
        Box::new(ClaudeCode::new(world.machine.clone(), Some(program.clone()))),
        Box::new(Codex::new(world.machine.clone(), Some(program.clone()))),
        Box::new(Agno::new(world.machine.clone(), Some(program))),
    ];
    for runtime in runtimes {
        let mut job = job(RuntimeKind::ClaudeCode, &"long enough to be read. ".repeat(20));
        job.model = Some(model("http://127.0.0.1:9/v1".to_owned()));
        let mut run = Run::start(&*runtime, world.launch(job)).await;
        let end = run.turn_end().await;
        let TurnEnd::Failed { text, .. } = end else { panic!("{:?}: {end:?}", runtime.kind()) };
        assert!(text.contains("exit code 7") && text.ends_with("the last words"), "{text}");
        let exit = run.exit().await;
        assert!(exit.stderr.len() <= 8 * 1024, "{}", exit.stderr.len());
        let unknown = |e: &&RuntimeEvent| matches!(e, RuntimeEvent::Unknown { .. });
        assert!(run.seen.iter().filter(unknown).count() >= 3, "{:#?}", run.seen);
        let size = format!("{:?}", run.seen).len();
        assert!(size < 100_000, "{size}");
    }
}

/// A program that asks 65 times for a yes and once for a word, and writes down what it is told
/// until that is answered. `N` stands for a number.
fn asker(first: &str, approval: &str, question: &str) -> String {
    let approvals = (100..165).map(|n| approval.replace('N', &n.to_string()) + "\n");
    let said =
        format!("{first}{}{}\n", approvals.collect::<String>(), question.replace('N', "999"));
    format!(
        "#!/bin/sh\ncat <<'END'\n{said}END\nwhile read -r line; do\nprintf '%s\\n' \"$line\" >>told\n\
         case $line in *999*) exit 0;; esac\ndone\n"
    )
}

/// More is asked than anybody could be shown: the runtime is told that nobody was asked, and
/// nobody is said to have refused it.
#[tokio::test]
async fn what_nobody_was_asked_is_put_on_nobody() {
    let claude = asker(
        "",
        r#"{"type":"control_request","request_id":"N","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"ls"}}}"#,
        r#"{"type":"control_request","request_id":"N","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"x"}]}}}"#,
    );
    let codex = asker(
        concat!(
            r#"{"id":1,"result":{"userAgent":"codex/1 x"}}"#,
            "\n",
            r#"{"id":2,"result":{"thread":{"id":"thread"}}}"#,
            "\n",
            r#"{"id":3,"result":{"turn":{"id":"turn"}}}"#,
            "\n"
        ),
        r#"{"id":N,"method":"item/commandExecution/requestApproval","params":{"command":"ls"}}"#,
        r#"{"id":N,"method":"item/tool/requestUserInput","params":{"questions":[{"id":"q","question":"x"}]}}"#,
    );
    let agno = asker(
        "",
        r#"{"event":"approval","id":"N","tool":"t","title":"t","input":{}}"#,
        r#"{"event":"question","id":"N","questions":[{"id":"q","text":"x"}]}"#,
    );
    for (kind, script) in
        [(RuntimeKind::ClaudeCode, claude), (RuntimeKind::Codex, codex), (RuntimeKind::Agno, agno)]
    {
        let world = World::new();
        let (machine, program) = (world.machine.clone(), Some(program(&world, &script)));
        let runtime: Box<dyn Runtime> = match kind {
            RuntimeKind::ClaudeCode => Box::new(ClaudeCode::new(machine, program)),
            RuntimeKind::Codex => Box::new(Codex::new(machine, program)),
            _ => Box::new(Agno::new(machine, program)),
        };
        let mut job = job(kind.clone(), "go on");
        job.model = Some(model("http://127.0.0.1:9/v1".to_owned()));
        let mut run = Run::start(&*runtime, world.launch(job)).await;
        run.exit().await;
        let approvals = run.seen.iter().filter(|e| matches!(e, RuntimeEvent::Approval(_))).count();
        let closed = run.seen.iter().filter(|e| matches!(e, RuntimeEvent::Closed { .. })).count();
        assert_eq!((approvals, closed), (64, 64), "{kind}");
        assert!(!run.seen.iter().any(|e| matches!(e, RuntimeEvent::Question(_))), "{kind}");
        let told = fs::read_to_string(world.work().join("told")).unwrap();
        assert_eq!(told.matches("nobody was asked").count(), 2, "{kind}: {told}");
        assert!(!told.contains("erson"), "{kind}: {told}");
    }
}
