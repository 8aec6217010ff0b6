//! Skills that come as packages.

use std::{
    fs,
    io::{Cursor, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use troupe_domain::task::RunEvent;
use troupe_wire::device::{Assignment, EndedHow};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::{
    engine::Script,
    owner::{World, again, assignment},
};

/// A package with a script, of some thousand bytes that do not shrink.
fn package(script: &str) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    let noise: Vec<u8> = (0..100_u32).flat_map(|n| Sha256::digest(n.to_be_bytes())).collect();
    let skill: &[u8] = b"---\ndescription: x\nallowed-tools: Bash\n---\nOld.\n";
    for (path, bytes, mode) in [
        ("old/SKILL.md", skill, 0o644),
        ("old/bin/count", script.as_bytes(), 0o755),
        ("old/noise", &noise, 0o644),
    ] {
        zip.start_file(path, options.unix_permissions(mode)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn hash(package: &[u8]) -> String {
    Sha256::digest(package).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with_skill(mut assignment: Assignment, package: &[u8]) -> Assignment {
    let mut job: Value = serde_json::from_slice(&assignment.spec).unwrap();
    job["skill_texts"] = json!([{"name": "count", "description": "d", "text": "Count.",
        "package": hash(package)}]);
    assignment.spec = Bytes::from(job.to_string());
    assignment
}

fn skill_dirs(dir: &Path) -> Vec<PathBuf> {
    let below = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for task in below(&dir.join("workspaces")) {
        for hash in below(&task.join("skills")) {
            found.extend(below(&hash).into_iter().filter(|skill| skill.is_dir()));
        }
    }
    found
}

/// The files of a package are on the disk before the runtime starts, with the text that the job
/// says; the next attempt finds them there.
#[tokio::test]
async fn a_package_is_on_the_disk_before_the_runtime_starts() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    let zip = package("#!/bin/sh\necho 3\n");
    world.owner.kept().package = Some(zip.clone());
    let assigned = with_skill(assignment("say:1"), &zip);
    let (task, first) = (assigned.task, assigned.key);
    let key = world.owner.assign(assigned).await;
    assert_eq!(world.owner.whole(key).await.how, EndedHow::Finished);
    let skills = skill_dirs(dir.path());
    let [skill] = &skills[..] else { panic!("{skills:?}") };
    assert!(skill.ends_with(format!("skills/{}/count", hash(&zip))), "{skill:?}");
    let text = fs::read_to_string(skill.join("SKILL.md")).unwrap();
    assert!(text.ends_with("Count.\n") && !text.contains("allowed-tools"), "{text}");
    let script = skill.join("bin/count");
    assert_eq!(fs::read_to_string(&script).unwrap(), "#!/bin/sh\necho 3\n");
    assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o700);

    // It is not asked for again: nobody has it any more.
    world.owner.kept().package = None;
    let mut next = first;
    next.attempt = troupe_types::Attempt(2);
    let key = world.owner.assign(with_skill(again(next, task, "say:1"), &zip)).await;
    assert_eq!(world.owner.whole(key).await.how, EndedHow::Finished);
    assert!(world.owner.events(key).iter().all(|event| !matches!(event, RunEvent::Status(_))));
    agent.stop().await;
}

/// Under a node that is older than packages, or one that has lost it, the Skill is its text, and
/// that is told; what is forged never reaches the disk.
#[tokio::test(start_paused = true)]
async fn a_package_that_cannot_be_had_is_told() {
    let (world, dir, engine) =
        (World::new(), tempfile::tempdir().unwrap(), Arc::new(Script::default()));
    let agent = world.agent(dir.path(), engine.clone()).await;
    let zip = package("#!/bin/sh\necho 3\n");
    for (has, why) in [
        (None, "does not answer"),
        (Some(Vec::new()), "does not have it any more"),
        (Some(package("#!/bin/sh\necho 4\n")), "not what was asked for"),
    ] {
        world.owner.kept().package = has;
        let key = world.owner.assign(with_skill(assignment("say:1"), &zip)).await;
        assert_eq!(world.owner.whole(key).await.how, EndedHow::Finished);
        let told = format!("{:?}", world.owner.events(key));
        assert!(
            told.contains("files of the Skill `count` are missing") && told.contains(why),
            "{told}"
        );
        assert_eq!(skill_dirs(dir.path()), [] as [PathBuf; 0]);
    }
    agent.stop().await;
}
