//! The socket by which other commands ask the running agent. Its directory is its user's alone.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::timeout,
};
use troupe_edge::{EdgeAgent, EdgeStatus};

use crate::{ABSENT, coded, config::Home};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Removes the socket when the agent ends.
pub(crate) struct Socket(PathBuf, UnixListener);

impl Drop for Socket {
    fn drop(&mut self) {
        // The next start replaces one that stays.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Opens it; the caller holds the lock of the directory.
    pub(crate) fn open(home: &Home) -> Result<Self> {
        let path = home.socket();
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self(path, listener))
    }

    /// Answers whoever asks, one after the other.
    pub(crate) async fn serve(&self, agent: &EdgeAgent) {
        loop {
            let Ok((mut stream, _)) = self.1.accept().await else { return };
            let answer = async {
                let status = agent.status().await?;
                stream.write_all(&serde_json::to_vec(&status)?).await?;
                stream.shutdown().await?;
                anyhow::Ok(())
            };
            if let Ok(Err(error)) = timeout(ANSWER_MAX, answer).await {
                tracing::debug!(%error, "nobody heard how the agent is");
            }
        }
    }
}

/// How the running agent is.
pub(crate) async fn ask(home: &Home) -> Result<Arc<EdgeStatus>> {
    let asked = async {
        let stream = UnixStream::connect(home.socket()).await.map_err(|_| {
            coded(ABSENT, "no agent is running here: start it with `troupe-edge run`")
        })?;
        let mut text = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text).await?;
        anyhow::Ok(Arc::new(serde_json::from_slice(&text).context("the agent's answer")?))
    };
    timeout(ANSWER_MAX, asked).await.context("the agent does not answer")?
}
