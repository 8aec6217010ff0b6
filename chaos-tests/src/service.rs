//! A real server that is started, killed and started again: Cassandra, Redis.
//!
//! How it is started is told by `cargo xtask chaos`, which installs it too.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};
use troupe_testkit::try_until;

/// Cassandra starts within 15 s on an idle machine, within minutes on one that compiles.
const START: Duration = Duration::from_secs(300);
const PROBE: Duration = Duration::from_secs(2);

/// How a server is started, as written by `cargo xtask chaos`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Recipe {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) address: SocketAddr,
    /// Sent to see whether it answers, and how its answer begins.
    pub(crate) probe: Vec<u8>,
    pub(crate) answer: Vec<u8>,
}

/// The server of a recipe.
#[derive(Debug)]
pub(crate) struct Service {
    recipe: Recipe,
    log: PathBuf,
    child: Option<Child>,
}

impl Service {
    /// Not running yet. Its data of earlier runs go.
    pub(crate) fn new(recipe: Recipe, logs: &Path) -> Result<Self> {
        for old in ["data", "commitlog", "saved_caches", "hints"] {
            let dir = recipe.dir.join(old);
            if dir.exists() {
                fs::remove_dir_all(&dir).with_context(|| format!("empty {}", dir.display()))?;
            }
        }
        let log = logs.join(format!("{}.log", recipe.name));
        Ok(Self { recipe, log, child: None })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.recipe.address
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.recipe.name);
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.recipe.program);
        command.args(&self.recipe.args).current_dir(&self.recipe.dir).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {}", self.recipe.name))?;
        let child = self.child.insert(child);
        let mut ended = None;
        let recipe = &self.recipe;
        let up = try_until(START, async || {
            ended = child.try_wait().ok().flatten();
            ended.is_some() || answers(recipe).await
        })
        .await;
        ensure!(
            up && ended.is_none(),
            "{} does not start, see {}",
            recipe.name,
            self.log.display()
        );
        Ok(())
    }

    /// kill -9; waits until it is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.start_kill()?;
            child.wait().await?;
        }
        Ok(())
    }
}

async fn answers(recipe: &Recipe) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(recipe.address).await?;
        stream.write_all(&recipe.probe).await?;
        let mut answer = vec![0; recipe.answer.len()];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer == recipe.answer)
    };
    matches!(timeout(PROBE, ask).await, Ok(Ok(true)))
}
