//! What these tests do with Tasks over REST.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    fold::{Event, Fold},
    rest::{PATIENCE, Person, Rest},
};
use crate::try_until;

/// Frames of one page.
const PAGE: usize = 500;

impl Rest {
    /// A new Task; its id.
    pub async fn run(&self, who: &Person, team: &str, message: &str) -> Result<String> {
        let body = json!({"team_id": team, "message": message,
            "client_message_id": Uuid::new_v4()});
        let ack = self.post("/api/v1/tasks", Some(who), &body).await?;
        Ok(ack["task_id"].as_str().context("the ack names no task")?.to_owned())
    }

    pub async fn task(&self, who: &Person, task: &str) -> Result<Value> {
        self.get(&format!("/api/v1/tasks/{task}"), who).await
    }

    pub async fn status(&self, who: &Person, task: &str) -> Result<String> {
        let view = self.task(who, task).await?;
        Ok(view["status"].as_str().context("a task without a status")?.to_owned())
    }

    /// Waits for a status; another one in which nothing goes on by itself is an error.
    pub async fn settled(&self, who: &Person, task: &str, wanted: &str) -> Result<()> {
        let status = self.rests(who, task).await?;
        if status != wanted {
            let why = self.get(&format!("/api/v1/tasks/{task}/why"), who).await;
            let turns = self.turns(who, task).await;
            bail!("{task} is {status}, not {wanted}: {why:?}\n{turns:#?}");
        }
        Ok(())
    }

    /// Waits until nothing of it goes on by itself; its status then.
    pub async fn rests(&self, who: &Person, task: &str) -> Result<String> {
        let mut status = String::new();
        let rested = try_until(PATIENCE, async || {
            status = self.status(who, task).await.unwrap_or_default();
            !["", "PENDING", "RUNNING", "CANCELLING"].contains(&status.as_str())
        })
        .await;
        if !rested {
            let why = self.get(&format!("/api/v1/tasks/{task}/why"), who).await;
            bail!("{task} is still {status}: {why:?}");
        }
        Ok(status)
    }

    /// Passes the gate of a pipeline.
    pub async fn confirm(&self, who: &Person, task: &str, key: Uuid) -> Result<Value> {
        let body = json!({"client_message_id": key});
        self.post(&format!("/api/v1/tasks/{task}/confirm"), Some(who), &body).await
    }

    /// All frames above a seq, in the order in which they came.
    pub async fn frames(&self, who: &Person, task: &str, after: u64) -> Result<Vec<Event>> {
        let mut all: Vec<Event> = Vec::new();
        loop {
            let after = all.last().map_or(after, |event| event.seq);
            let path = format!("/api/v1/tasks/{task}/frames?after={after}&limit={PAGE}");
            let page = self.get(&path, who).await?;
            let frames = page["frames"].as_array().context("a page without frames")?;
            if frames.is_empty() {
                let head = page["head"].as_u64().context("a page without a head")?;
                ensure!(head <= after, "{task}: no frames above {after}, but its head is {head}");
                return Ok(all);
            }
            for frame in frames {
                let name = frame["event"].as_str().context("a frame without an event")?;
                all.push(Event::new(name, frame["data"].clone())?);
            }
        }
    }

    /// All turns, oldest first, at one head.
    pub async fn turns(&self, who: &Person, task: &str) -> Result<(u64, Vec<Value>)> {
        'again: loop {
            let (mut turns, mut head, mut before) = (Vec::new(), None, Value::Null);
            loop {
                let mut path = format!("/api/v1/tasks/{task}/turns?limit=100");
                if let Some(before) = before.as_str() {
                    path.push_str(&format!("&before={before}"));
                }
                let page = self.get(&path, who).await?;
                let this = page["head"].as_u64().context("no head")?;
                if *head.get_or_insert(this) != this {
                    // Something happened between two pages.
                    continue 'again;
                }
                let mut older = page["turns"].as_array().context("no turns")?.clone();
                older.append(&mut turns);
                turns = older;
                before = page["before"].clone();
                if before.is_null() {
                    return Ok((this, turns));
                }
            }
        }
    }

    /// Folds what the log says up to the head of `turns`, and compares.
    pub async fn assert_fold(&self, who: &Person, task: &str) -> Result<Fold> {
        let (head, turns) = self.turns(who, task).await?;
        let frames = self.frames(who, task, 0).await?;
        compare(task, head, &turns, &frames)
    }
}

/// The fold of frames up to a head; an error if it is not what `turns` told at that head.
pub fn compare(task: &str, head: u64, turns: &[Value], frames: &[Event]) -> Result<Fold> {
    let fold = Fold::of(frames.iter().filter(|event| event.seq <= head));
    ensure!(fold.head() == head, "{task}: frames end at {}, turns at {head}", fold.head());
    let mut faults = fold.faults().to_vec();
    faults.extend(fold.differences(turns));
    ensure!(faults.is_empty(), "{task} at {head}: {faults:#?}");
    Ok(fold)
}
