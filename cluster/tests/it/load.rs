//! People who keep Tasks running: new ones, follow-ups, queued messages, gates, cancels,
//! retries, edits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result};
use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use troupe_types::Uuid;

use crate::{
    ledger::{Ledger, Sent},
    node::{Person, Rest},
    viewer::{Habit, Viewer},
};

/// Tasks that run at once.
pub(crate) const TASKS: usize = 20;
/// Commands to one Task; beyond them it is left alone.
const COMMANDS_MAX: usize = 8;
/// Tasks that are listed by one request.
const LISTED: usize = 100;

/// The load and its witnesses.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) rng: StdRng,
    pub(crate) who: Person,
    pub(crate) ledger: Ledger,
    /// Every Task that was acked, with the viewers of those that may still move.
    pub(crate) viewers: BTreeMap<String, Vec<Viewer>>,
    pub(crate) settled: BTreeSet<String>,
    url: watch::Sender<Option<String>>,
    teams: Vec<&'static str>,
    next_team: usize,
}

impl Load {
    pub(crate) fn new(rng: StdRng, who: Person, teams: Vec<&'static str>) -> Self {
        Self {
            rng,
            who,
            ledger: Ledger::default(),
            viewers: BTreeMap::new(),
            settled: BTreeSet::new(),
            url: watch::Sender::new(None),
            teams,
            next_team: 0,
        }
    }

    /// Tells the viewers where the node is.
    pub(crate) fn node_is_at(&self, url: Option<&str>) {
        self.url.send_replace(url.map(str::to_owned));
    }

    /// Frames that viewers have seen so far.
    pub(crate) fn frames_seen(&self) -> usize {
        self.viewers.values().flatten().map(Viewer::count).sum()
    }

    /// Status of the Tasks that may still move, by their list.
    pub(crate) async fn statuses(&self, rest: &Rest) -> Result<BTreeMap<String, String>> {
        let page = rest.get(&format!("/api/v1/tasks?limit={LISTED}"), &self.who).await?;
        let items = page["items"].as_array().context("a page without items")?;
        let pairs = items.iter().filter_map(|task| {
            let (id, status) = (task["id"].as_str()?, task["status"].as_str()?);
            self.viewers.contains_key(id).then(|| (id.to_owned(), status.to_owned()))
        });
        Ok(pairs.collect())
    }

    /// One look at what runs, and what people do about it.
    pub(crate) async fn tend(&mut self, rest: &Rest) -> Result<()> {
        let statuses = self.statuses(rest).await?;
        for (task, status) in &statuses {
            if status == "PENDING_CONFIRMATION" {
                self.confirm(rest, task).await?;
            }
        }
        let with = |wanted: &[&str]| -> Vec<String> {
            let fits = |s: &&String| wanted.contains(&s.as_str());
            statuses.iter().filter(|(_, s)| fits(s)).map(|(task, _)| task.clone()).collect()
        };
        let active = with(&["PENDING", "RUNNING", "CANCELLING"]);
        for _ in active.len()..TASKS {
            let mut over = with(&["COMPLETED", "FAILED", "CANCELLED"]);
            over.retain(|task| self.ledger.commands(task) < COMMANDS_MAX);
            match over.choose(&mut self.rng).filter(|_| self.rng.random_bool(0.4)).cloned() {
                Some(task) => self.go_on(rest, &task).await?,
                None => self.begin(rest).await?,
            }
        }
        if let Some(task) = active.choose(&mut self.rng).cloned() {
            match self.rng.random_range(0..40) {
                0 => self.say(rest, &task, "One more thing, after that.").await?,
                1 => self.bare(rest, &format!("{task}/cancel"), &json!({})).await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Passes gates only.
    pub(crate) async fn tend_gates(&mut self, rest: &Rest) -> Result<()> {
        for (task, status) in self.statuses(rest).await? {
            if status == "PENDING_CONFIRMATION" {
                self.confirm(rest, &task).await?;
            }
        }
        Ok(())
    }

    /// Commands one after the other, up to the first that fails; its outcome is unknown.
    pub(crate) async fn burst(&mut self, rest: &Rest, count: usize, acks: &AtomicUsize) {
        for _ in 0..count {
            if self.begin(rest).await.is_err() {
                break;
            }
            acks.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn begin(&mut self, rest: &Rest) -> Result<()> {
        let team = self.teams[self.next_team % self.teams.len()];
        self.next_team += 1;
        let key = Uuid::new_v4();
        let message = format!("Do it, {team}! 请开始 🙂");
        let body = json!({"team_id": team, "message": message, "client_message_id": key});
        self.keyed(rest, "/api/v1/tasks".to_owned(), body, key, true, None).await
    }

    async fn say(&mut self, rest: &Rest, task: &str, message: &str) -> Result<()> {
        let key = Uuid::new_v4();
        let body = json!({"message": message, "client_message_id": key});
        let path = format!("/api/v1/tasks/{task}/messages");
        self.keyed(rest, path, body, key, true, Some(task)).await
    }

    async fn confirm(&mut self, rest: &Rest, task: &str) -> Result<()> {
        let key = Uuid::new_v4();
        let path = format!("/api/v1/tasks/{task}/confirm");
        self.keyed(rest, path, json!({"client_message_id": key}), key, false, Some(task)).await
    }

    /// A further message, a retry of what failed, or an edit of the last request.
    async fn go_on(&mut self, rest: &Rest, task: &str) -> Result<()> {
        let choice = self.rng.random_range(0..6);
        if choice > 1 {
            return self.say(rest, task, "And now?").await;
        }
        let (_, turns) = rest.turns(&self.who, task).await?;
        let rows = turns.last().map(|t| t["messages"].clone()).unwrap_or_default();
        let rows = rows.as_array().cloned().unwrap_or_default();
        let failed = |m: &&Value| m["status"] == "FAILED" || m["status"] == "CANCELLED";
        if let Some(row) = rows.iter().rfind(failed) {
            let body = json!({"subtask_id": row["subtask_id"]});
            return self.bare(rest, &format!("{task}/retry"), &body).await;
        }
        let Some(row) = rows.iter().find(|m| m["kind"] == "user") else { return Ok(()) };
        let key = Uuid::new_v4();
        let body = json!({"subtask_id": row["subtask_id"], "message": "Better like this.",
            "client_message_id": key});
        self.keyed(rest, format!("/api/v1/tasks/{task}/edit"), body, key, true, Some(task)).await
    }

    /// A command without a key; it may be too late for it.
    async fn bare(&mut self, rest: &Rest, path: &str, body: &Value) -> Result<()> {
        let path = format!("/api/v1/tasks/{path}");
        let answer = rest.call("POST", &path, Some(&self.who), Some(body)).await?;
        let late = [404, 409].contains(&answer.status);
        anyhow::ensure!(late || answer.status < 300, "{path}: {} {}", answer.status, answer.text);
        Ok(())
    }

    async fn keyed(
        &mut self,
        rest: &Rest,
        path: String,
        body: Value,
        key: Uuid,
        makes_row: bool,
        task: Option<&str>,
    ) -> Result<()> {
        let task = task.map(str::to_owned);
        // Written down first: the node may die before it answers.
        self.ledger.sent.push(Sent { path, body, key, makes_row, task, ack: None });
        let at = self.ledger.sent.len() - 1;
        self.ledger.send(rest, &self.who, at).await?;
        self.look_at(at);
        Ok(())
    }

    /// Puts viewers before the Task of an acked command.
    pub(crate) fn look_at(&mut self, at: usize) {
        let sent = &self.ledger.sent[at];
        let Some(task) = sent.task.clone().filter(|_| sent.ack.is_some()) else { return };
        self.settled.remove(&task);
        let (url, token) = (&self.url, &self.who.token);
        self.viewers.entry(task).or_insert_with_key(|task| {
            let habits = [Habit::Resumes, Habit::Joins];
            habits.map(|habit| Viewer::follow(url.subscribe(), token, task, habit)).into()
        });
    }
}
