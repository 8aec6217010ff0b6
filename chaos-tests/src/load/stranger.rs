//! Somebody who asks for Tasks that are not theirs, all the time, everywhere.

use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::json;
use tokio::time::{sleep, timeout};
use troupe_testkit::client::{rest::Person as Account, stream::Socket};

use super::{CALL, Surroundings, rest};
use crate::history::What;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(1_500);

/// The stranger.
#[derive(Debug)]
pub(crate) struct Stranger {
    around: Surroundings,
    eve: Account,
    rng: StdRng,
}

impl Stranger {
    pub(crate) const fn new(around: Surroundings, eve: Account, rng: StdRng) -> Self {
        Self { around, eve, rng }
    }

    /// For ever.
    pub(crate) async fn live(mut self) {
        loop {
            sleep(PAUSE).await;
            let names = self.around.board.names();
            let Some(task) = names.choose(&mut self.rng) else { continue };
            let (node, url) = self.around.roster.pick(&mut self.rng, &[]);
            let (how, status) = match self.rng.random_range(0..4) {
                0 => ("join", self.join(&url, task).await),
                1 => ("frames", self.get(&url, &format!("{task}/frames?after=0&limit=1")).await),
                _ => ("get", self.get(&url, task).await),
            };
            let (task, node) = (task.clone(), node.clone());
            self.around.history.add(What::Peeked { node, task, how, status });
        }
    }

    /// 0: no answer.
    async fn get(&self, url: &str, path: &str) -> u16 {
        let Ok(rest) = rest(url) else { return 0 };
        let path = format!("/api/v1/tasks/{path}");
        rest.call("GET", &path, Some(&self.eve), None).await.map_or(0, |answer| answer.status)
    }

    /// A stream says it in words; as a status of HTTP.
    async fn join(&self, url: &str, task: &str) -> u16 {
        let join = async {
            let mut socket = Socket::open(url, &self.eve.token).await?;
            socket.call("task:join", json!({"task_id": task, "turns": 1})).await
        };
        match timeout(CALL, join).await {
            Ok(Ok(ack)) if ack["error"].is_null() => 200,
            Ok(Ok(ack)) if ack["error"].to_string().contains("not_found") => 404,
            _ => 0,
        }
    }
}
