//! What a node promised, kept outside of it, and whether it still holds.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use troupe_types::Uuid;

use crate::{
    fold::{Event, Fold},
    node::{Person, Rest},
    scene::whole_answers,
    tasks::compare,
    viewer::{Viewer, gapless},
};

/// A command under a key of its own, and its ack if there was one.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) key: Uuid,
    /// It makes a row of the transcript (a confirmation makes none under its key).
    pub(crate) makes_row: bool,
    pub(crate) task: Option<String>,
    pub(crate) ack: Option<Value>,
}

/// The log of a Task as it was last read: later ones begin with it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    head: usize,
    digest: [u8; 32],
}

/// All promises.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) sent: Vec<Sent>,
    marks: BTreeMap<String, Mark>,
    /// Attempts that a crash ended and that went on by themselves, over all Tasks.
    pub(crate) went_on: BTreeSet<(String, u64)>,
    /// Results of the counting tool, and where they were shown.
    counted: BTreeMap<String, String>,
}

impl Ledger {
    /// Sends a command, or sends it again. An ack is never another one than before.
    pub(crate) async fn send(
        &mut self,
        rest: &Rest,
        who: &Person,
        at: usize,
    ) -> Result<Option<Value>> {
        let Sent { path, body, .. } = self.sent[at].clone();
        let answer = rest.call("POST", &path, Some(who), Some(&body)).await?;
        let sent = &mut self.sent[at];
        if !(200..300).contains(&answer.status) {
            ensure!(answer.status < 500, "{path} {body}: {} {}", answer.status, answer.text);
            let known = &sent.ack;
            ensure!(known.is_none(), "{path} {body}: was {known:?}, is {}", answer.text);
            return Ok(None);
        }
        match &sent.ack {
            Some(known) => ensure!(*known == answer.body, "{known} became {}", answer.body),
            None => sent.ack = Some(answer.body.clone()),
        }
        if let Some(task) = answer.body["task_id"].as_str() {
            sent.task = Some(task.to_owned());
        }
        Ok(Some(answer.body))
    }

    /// How many commands a Task was sent.
    pub(crate) fn commands(&self, task: &str) -> usize {
        self.sent.iter().filter(|sent| sent.task.as_deref() == Some(task)).count()
    }

    /// Every promise about one Task: the log, its fold, its messages, what viewers saw.
    pub(crate) async fn check(
        &mut self,
        rest: &Rest,
        who: &Person,
        task: &str,
        viewers: &[Viewer],
    ) -> Result<Fold> {
        let (head, turns) = rest.turns(who, task).await?;
        let frames = rest.frames(who, task, 0).await?;
        gapless(&frames).with_context(|| task.to_owned())?;
        self.remember(task, &frames)?;
        for viewer in viewers {
            let faults = viewer.faults();
            ensure!(faults.is_empty(), "{faults:#?}");
            for seen in viewer.frames() {
                let kept = usize::try_from(seen.seq).ok().and_then(|seq| frames.get(seq - 1));
                ensure!(
                    kept == Some(&seen) || seen.seq > frames.len() as u64,
                    "{task}: a viewer saw {seen:?}, the log has {kept:?}"
                );
            }
        }
        let fold = compare(task, head, &turns, &frames)?;
        // All frames: the Task may have gone on since its turns were read.
        self.check_messages(task, &frames, &Fold::of(&frames))?;
        for row in fold.rows() {
            if row.status == "COMPLETED" && row.kind != "handoff" {
                whole_answers(&row.text())
                    .map_err(anyhow::Error::msg)
                    .with_context(|| format!("{task} {row:#?}"))?;
            }
        }
        self.note_effects(task, &frames)?;
        Ok(fold)
    }

    fn remember(&mut self, task: &str, frames: &[Event]) -> Result<()> {
        if let Some(mark) = self.marks.get(task) {
            let before = frames.get(..mark.head);
            let digest = before.map(digest);
            ensure!(
                digest == Some(mark.digest),
                "{task}: its first {} frames changed (there are {})",
                mark.head,
                frames.len()
            );
        }
        self.marks.insert(task.to_owned(), Mark { head: frames.len(), digest: digest(frames) });
        Ok(())
    }

    /// Every acked message is there once: as a row, or still in the queue.
    fn check_messages(&self, task: &str, frames: &[Event], fold: &Fold) -> Result<()> {
        let queue = fold.queue.as_array().into_iter().flatten();
        let queued: Vec<&str> = queue.filter_map(|m| m["client_message_id"].as_str()).collect();
        let mine = self.sent.iter().filter(|s| s.task.as_deref() == Some(task) && s.makes_row);
        for sent in mine.filter(|sent| sent.ack.is_some()) {
            let key = sent.key.to_string();
            let is_it = |e: &&Event| {
                e.name == "chat:message" && e.data["client_message_id"] == key.as_str()
            };
            let rows: Vec<&Event> = frames.iter().filter(is_it).collect();
            let waiting = queued.iter().filter(|k| **k == key).count();
            ensure!(rows.len() + waiting == 1, "{task}: {sent:?} is there as {rows:?}, {queued:?}");
            let said = rows.first().map(|row| &row.data["content"]);
            ensure!(
                said.is_none_or(|said| *said == sent.body["message"]),
                "{task}: {sent:?} became {said:?}"
            );
        }
        Ok(())
    }

    fn note_effects(&mut self, task: &str, frames: &[Event]) -> Result<()> {
        for event in frames {
            if event.data["continues"] == true {
                self.went_on.insert((task.to_owned(), event.seq));
            }
            let output = event.data["tool_output"].as_str();
            let number = output.filter(|o| o.parse::<u64>().is_ok());
            if let (Some(number), "done") = (number, event.data["status"].as_str().unwrap_or("")) {
                let block = format!("{task} {}", event.data["block_id"]);
                let known = self.counted.entry(number.to_owned()).or_insert(block.clone());
                ensure!(*known == block, "result {number} is shown at {known} and at {block}");
            }
        }
        Ok(())
    }

    /// Results of the counting tool that were shown.
    pub(crate) fn results_shown(&self) -> usize {
        self.counted.len()
    }
}

fn digest(frames: &[Event]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for event in frames {
        hash.update(event.name.as_bytes());
        hash.update(event.data.to_string().as_bytes());
    }
    hash.finalize().into()
}
