//! The Command runtime.

use troupe_executor::{
    CommandError, CommandSpec, Limits, RunCommand, Runtime as _, RuntimeKind, StartError, TurnEnd,
};
use troupe_types::ErrorType;

use crate::kit::{KEY, Run, World, job};

#[tokio::test]
async fn output_of_both_pipes_comes_in_order() {
    let world = World::new();
    let mut run = world.script("echo one; echo two >&2; echo 你好; pwd").await;
    assert_eq!(run.turn_end().await, TurnEnd::Completed { stop: Some("exit 0".into()) });
    let exit = run.exit().await;
    assert_eq!((exit.code, exit.killed, exit.stopped), (Some(0), 0, false));
    let work = world.work().canonicalize().unwrap();
    assert_eq!(run.text(), format!("one\ntwo\n你好\n{}\n", work.display()));
    assert!(run.handle.is_ended());
}

#[tokio::test]
async fn a_bad_exit_code_fails_the_turn() {
    let mut run = World::new().script("echo no; exit 3").await;
    let TurnEnd::Failed { error, text } = run.turn_end().await else { panic!("it must fail") };
    assert_eq!((error, text.as_str()), (ErrorType::GenericError, "sh ended with exit code 3"));
}

#[tokio::test]
async fn the_environment_is_clean() {
    let world = World::new();
    let mut launch = world.launch(job(RuntimeKind::Command, ""));
    launch.job.env.insert("GIVEN".into(), "a ${secret:model}".into());
    launch.job.command = Some(CommandSpec {
        program: "sh".into(),
        args: vec!["-c".into(), "env; echo $GIVEN | wc -c".into()],
        stdin: String::new(),
    });
    let mut run = Run::start(&world.commands(), launch).await;
    run.turn_end().await;
    let text = run.text();
    let mut names: Vec<&str> =
        text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    let expected = [
        "GIT_TERMINAL_PROMPT",
        "GIVEN",
        "HOME",
        "LANG",
        "PATH",
        "PWD",
        "TERM",
        "TMPDIR",
        "TROUPE_RUN",
    ];
    assert_eq!(
        names
            .iter()
            .filter(|name| **name != "_" && **name != "SHLVL" && **name != "OLDPWD")
            .copied()
            .collect::<Vec<_>>(),
        expected
    );
    // It was there, and is not shown.
    assert!(text.contains(&format!("\n{}\n", KEY.len() + 3)), "{text}");
    assert!(!text.contains(KEY) && text.contains("GIVEN=a [secret]"), "{text}");
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_by_name() {
    let world = World::new();
    let mut launch = world.launch(job(RuntimeKind::Command, ""));
    launch.job.command =
        Some(CommandSpec { program: "rm".into(), args: Vec::new(), stdin: String::new() });
    let Err(StartError::Job { field, message }) = world.commands().start(launch.clone()).await
    else {
        panic!("rm is not on the list");
    };
    assert_eq!(field, "command.program");
    assert!(message.contains("rm is not on this device's list of commands (sh)"), "{message}");
    launch.job.command =
        Some(CommandSpec { program: "sh".into(), args: Vec::new(), stdin: "echo hi".into() });
    launch.job.env.insert("LD_PRELOAD".into(), "/tmp/x".into());
    assert!(matches!(world.commands().start(launch.clone()).await, Err(StartError::Job { .. })));
    launch.job.env.clear();
    launch.job.env.insert("A".into(), "${secret:none}".into());
    assert!(matches!(world.commands().start(launch.clone()).await, Err(StartError::Secret { .. })));
    launch.job.env.clear();
    let mut run = Run::start(&world.commands(), launch).await;
    run.exit().await;
    assert_eq!(run.text(), "hi\n");
}

#[tokio::test]
async fn a_turn_that_takes_too_long_is_ended() {
    let limits = Limits { turn_ms_max: 300, ..Limits::default() };
    let mut run = World::new().script_within("while :; do echo x; sleep 0.05; done", limits).await;
    let TurnEnd::Failed { error, .. } = run.turn_end().await else { panic!("it must fail") };
    assert_eq!(error, ErrorType::TimeoutError);
    run.exit().await;
    let limits = Limits { silent_ms_max: 200, ..Limits::default() };
    let mut run = World::new().script_within("sleep 1000", limits).await;
    let TurnEnd::Failed { error, text } = run.turn_end().await else { panic!("it must fail") };
    assert_eq!(error, ErrorType::TimeoutError);
    assert!(text.contains("said nothing"), "{text}");
}

/// A reader that stops pauses the program; nothing is lost when it goes on.
#[tokio::test]
async fn a_reader_that_stops_pauses_the_program() {
    let world = World::new();
    let count = 2_500;
    let fill = "x".repeat(50);
    // Each line starts a process, so that each is read by itself and the queue fills.
    let script = format!(
        "i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo $i > count; /bin/true; echo {fill}-$i; done"
    );
    let mut run = world.script(&script).await;
    let file = world.work().join("count");
    let (mut last, mut same) = (0, 0);
    let stands_still = || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let now: u32 = text.trim().parse().unwrap_or(last);
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        std::future::ready(same > 25)
    };
    troupe_testkit::wait_until(crate::kit::WAIT, stands_still).await;
    assert!(last < count, "the program must wait for its reader");
    assert_eq!(
        run.handle.tell(RunCommand::Steer { prompt: troupe_executor::Prompt::text("x") }).await,
        Err(CommandError::Unsupported {
            runtime: "Command".into(),
            what: "further words in a turn".into()
        })
    );
    run.exit().await;
    let expected: String = (1..=count).map(|i| format!("{fill}-{i}\n")).collect();
    assert!(run.text() == expected, "{} of {} bytes", run.text().len(), expected.len());
}
