//! Somebody who works on one Task after the other, through whichever node answers.

use std::time::Duration;

use anyhow::Result;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use troupe_testkit::client::scene;
use troupe_types::Uuid;

use super::{Surroundings, rest, viewer::Viewer};
use crate::history::What;

/// A command that nobody acknowledges for so long is given up, and that is told.
const GIVE_UP: Duration = Duration::from_secs(150);
/// Between two looks at a Task.
const LOOK: Duration = Duration::from_millis(400);
/// Viewers of a Task.
const VIEWERS: usize = 2;

/// The person.
#[derive(Debug)]
pub(crate) struct Person {
    number: u64,
    around: Surroundings,
    rng: StdRng,
    /// The node that failed last.
    avoid: String,
    /// A node that is never asked: that of the fault.
    never: String,
}

/// A command under a key of its own.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) verb: &'static str,
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) key: String,
    pub(crate) task: Option<String>,
}

impl Command {
    /// The key goes into the body.
    pub(crate) fn new(
        verb: &'static str,
        path: String,
        mut body: Value,
        task: Option<&str>,
    ) -> Self {
        let key = Uuid::new_v4().to_string();
        body["client_message_id"] = key.as_str().into();
        Self { verb, path, body, key, task: task.map(str::to_owned) }
    }

    pub(crate) fn say(task: &str, message: &str) -> Self {
        let path = format!("/api/v1/tasks/{task}/messages");
        Self::new("say", path, json!({"message": message}), Some(task))
    }

    pub(crate) fn create(team: &str, message: &str) -> Self {
        let body = json!({"team_id": team, "message": message});
        Self::new("create", "/api/v1/tasks".to_owned(), body, None)
    }
}

/// What became of a try.
enum Told {
    Acked(Value),
    Refused,
    /// Nobody knows, or nothing happened: again.
    Nothing(String),
}

impl Person {
    pub(crate) fn new(number: u64, around: Surroundings, rng: StdRng) -> Self {
        Self { number, around, rng, avoid: String::new(), never: String::new() }
    }

    /// Never asks this node.
    pub(crate) fn shun(&mut self, node: &str) {
        node.clone_into(&mut self.never);
    }

    /// For ever.
    pub(crate) async fn live(mut self) {
        let mut open = self.around.open.subscribe();
        loop {
            if open.wait_for(|open| *open).await.is_err() {
                return;
            }
            self.around.board.begin_work();
            let teams = scene::teams();
            let team = teams.choose(&mut self.rng).map_or("alone", |(name, _)| *name);
            if let Some(task) = self.create(team, &format!("Do it, {team}! 请开始 🙂")).await {
                self.tend(&task).await;
                self.around.board.finished(&task);
            }
            self.around.board.end_work();
        }
    }

    /// A new Task with viewers; its id. `None` if it was given up.
    pub(crate) async fn create(&mut self, team: &str, message: &str) -> Option<String> {
        let ack = self.command(&Command::create(team, message)).await?;
        let task = ack["task_id"].as_str()?.to_owned();
        let mut viewers = Vec::new();
        for n in 0..VIEWERS {
            let rng = StdRng::from_rng(&mut self.rng);
            let short: String = task.chars().rev().take(6).collect();
            let name = format!("p{}-{short}-{n}", self.number);
            viewers.push(Viewer::follow(&self.around, name, &task, rng));
        }
        self.around.board.add(&task, viewers);
        Some(task)
    }

    /// Until it is at rest and nothing more is asked of it.
    async fn tend(&mut self, task: &str) {
        let mut turns = self.rng.random_range(1..=3);
        let mut queued = false;
        loop {
            let status = self.status(task).await.unwrap_or_default();
            if !status.is_empty() {
                self.around.board.told(task, &status);
            }
            let goes_on = *self.around.open.borrow();
            match status.as_str() {
                "PENDING_CONFIRMATION" => {
                    let path = format!("/api/v1/tasks/{task}/confirm");
                    self.command(&Command::new("confirm", path, json!({}), Some(task))).await;
                }
                "COMPLETED" | "FAILED" | "CANCELLED" if turns > 1 && goes_on => {
                    turns -= 1;
                    queued = false;
                    self.command(&Command::say(task, "And now?")).await;
                }
                "COMPLETED" | "FAILED" | "CANCELLED" => return,
                "RUNNING" if goes_on && !queued => match self.rng.random_range(0..40) {
                    0 => {
                        queued = true;
                        self.command(&Command::say(task, "One more thing, after that.")).await;
                    }
                    1 => {
                        let path = format!("/api/v1/tasks/{task}/cancel");
                        self.command(&Command::new("cancel", path, json!({}), Some(task))).await;
                    }
                    _ => {}
                },
                _ => {}
            }
            sleep(LOOK).await;
        }
    }

    async fn status(&mut self, task: &str) -> Result<String> {
        let (node, url) = self.around.roster.pick(&mut self.rng, &[&self.avoid, &self.never]);
        let path = format!("/api/v1/tasks/{task}");
        let answer = rest(&url)?.call("GET", &path, Some(&self.around.who), None).await;
        if answer.as_ref().is_ok_and(|answer| answer.status < 500) {
            self.avoid.clear();
        } else {
            self.avoid = node;
        }
        Ok(answer?.body["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Sends a command until somebody answers; its ack, `None` if it was refused or given up.
    pub(crate) async fn command(&mut self, command: &Command) -> Option<Value> {
        let began = Instant::now();
        loop {
            let (node, url) = self.around.roster.pick(&mut self.rng, &[&self.avoid, &self.never]);
            let why = match self.once(command, &node, &url).await {
                Told::Acked(body) => {
                    self.avoid.clear();
                    if ["create", "say"].contains(&command.verb) && self.rng.random_bool(0.1) {
                        // The same key anywhere gets the same answer.
                        let (other, url) =
                            self.around.roster.pick(&mut self.rng, &[&node, &self.never]);
                        self.once(command, &other, &url).await;
                    }
                    return Some(body);
                }
                Told::Refused => return None,
                Told::Nothing(why) => why,
            };
            self.avoid = node;
            if began.elapsed() > GIVE_UP {
                let Command { verb, key, .. } = command;
                self.around.board.give_up(format!("{verb} {key} after {GIVE_UP:?}: {why}"));
                return None;
            }
            sleep(Duration::from_millis(self.rng.random_range(50..500))).await;
        }
    }

    async fn once(&self, command: &Command, node: &str, url: &str) -> Told {
        let (key, node) = (command.key.clone(), node.to_owned());
        let (verb, task) = (command.verb, command.task.clone());
        let history = &self.around.history;
        history.add(What::Sent { key: key.clone(), node: node.clone(), verb, task: task.clone() });
        let who = Some(&self.around.who);
        let called =
            async { rest(url)?.call("POST", &command.path, who, Some(&command.body)).await };
        let answer = match called.await {
            Ok(answer) => answer,
            Err(error) => {
                let why = format!("{error:#}");
                history.add(What::NoAnswer { key, node, why: why.clone() });
                return Told::Nothing(why);
            }
        };
        let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
        match answer.status {
            200..300 => {
                let of = answer.body["task_id"].as_str().map(str::to_owned);
                let task = of.or(task).unwrap_or_default();
                let body = answer.body.clone();
                history.add(What::Acked { key, node, task, body });
                Told::Acked(answer.body)
            }
            429 | 500.. => {
                let why = format!("{} {code}", answer.status);
                history.add(What::NoAnswer { key, node, why: why.clone() });
                Told::Nothing(why)
            }
            status => {
                history.add(What::Refused { key, node, status, code });
                Told::Refused
            }
        }
    }
}
