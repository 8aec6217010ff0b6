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
    let program = world.dir.path().join("nonsense");
    fs::write(&program, NONSENSE).unwrap();
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
