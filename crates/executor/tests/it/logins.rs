//! The login of the device's user: which jobs get it.

use std::{fs, path::PathBuf};

use troupe_executor::{
    ClaudeCode, Codex, Job, ModelAccess, Runtime, RuntimeKind, Secret, StartError,
};

use crate::kit::{Run, World, job, model};

const ADDRESS: &str = "http://127.0.0.1:9";

/// A device whose user has logged in; its runtimes end at once.
struct Kit {
    world: World,
}

impl Kit {
    fn new() -> Self {
        let mut world = World::new();
        let home = world.dir.path().join("home");
        for file in [".claude/.credentials.json", ".codex/auth.json"] {
            let file = home.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "{}").unwrap();
        }
        world.machine.login_home = Some(home);
        Self { world }
    }

    fn state(&self, file: &str) -> PathBuf {
        self.world.dir.path().join("state").join(file)
    }

    async fn start(&self, runtime: &dyn Runtime, job: Job) -> Result<(), StartError> {
        let mut launch = self.world.launch(job);
        launch.secrets.insert("empty", Secret::new(""));
        let started = runtime.start(launch).await?;
        let mut run = Run { handle: started.handle, events: started.events, seen: Vec::new() };
        run.exit().await;
        Ok(())
    }
}

fn access(base_url: Option<&str>, key: Option<&str>) -> Option<ModelAccess> {
    let base_url = base_url.map(str::to_owned);
    Some(ModelAccess { base_url, key: key.map(str::to_owned), ..model(String::new()) })
}

#[tokio::test]
async fn claude_shows_the_login_to_no_server_that_a_job_names() {
    let kit = Kit::new();
    let runtime = ClaudeCode::new(kit.world.machine.clone(), Some("/bin/true".into()));
    let start = |model| {
        let job = Job { model, ..job(RuntimeKind::ClaudeCode, "hi") };
        kit.start(&runtime, job)
    };
    let login = kit.state("claude/.credentials.json");
    start(None).await.unwrap();
    assert!(login.exists(), "as the device is set up");
    start(access(None, None)).await.unwrap();
    assert!(login.exists(), "the provider's own address");
    for key in [None, Some("empty")] {
        let refused = start(access(Some(ADDRESS), key)).await;
        let Err(StartError::Job { field, message }) = refused else { panic!("{refused:?}") };
        assert_eq!(field, "model.key");
        assert!(message.contains("give the Model a key, or leave out its address"), "{message}");
    }
    // With a key it starts, and what an earlier turn linked is gone.
    start(access(Some(ADDRESS), Some("model"))).await.unwrap();
    assert!(fs::symlink_metadata(&login).is_err());
    assert!(kit.world.dir.path().join("home/.claude/.credentials.json").exists());
}

#[tokio::test]
async fn codex_neither() {
    let kit = Kit::new();
    let runtime = Codex::new(kit.world.machine.clone(), Some("/bin/true".into()));
    let start = |model| kit.start(&runtime, Job { model, ..job(RuntimeKind::Codex, "hi") });
    let login = kit.state("codex/auth.json");
    start(None).await.unwrap();
    assert!(login.exists(), "as the device is set up");
    // A server of its own may want no key: it is started, without the login.
    start(access(Some(ADDRESS), None)).await.unwrap();
    assert!(fs::symlink_metadata(&login).is_err());
    start(access(None, None)).await.unwrap();
    assert!(login.exists(), "the provider's own address");
    start(access(Some(ADDRESS), Some("model"))).await.unwrap();
    assert!(fs::symlink_metadata(&login).is_err());
}
