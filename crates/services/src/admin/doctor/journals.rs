//! What lies in journals: a bounded sample, read without owning it.

use std::time::Duration;

use tokio::time::Instant;
use troupe_api::admin::Check;
use troupe_entities::task::decode_entry;
use troupe_store::{Entry, ReadError, effective::Fault};
use troupe_types::{EntityId, EntityKind, Epoch, FrameSeq, Seq};

use super::{Verdict, check, endings::Endings, homes::Homes, sample::Sample, some};
use crate::admin::Operations;

/// Rows of one journal whose fences are looked at.
const ROWS_MAX: usize = 1_000;
/// Tasks whose entries are read.
const TASKS_MAX: usize = 16;
/// Bytes of one Task's archive that are read.
const ARCHIVE_BYTES_MAX: usize = 1024 * 1024;
/// For one half of the sample; what is left after it is left out.
const TIME_MAX: Duration = Duration::from_secs(6);

const REPORT: &str = "Make a backup (troupe admin backup) before anything else writes there, keep \
                      the logs of all nodes, and report this with the names.";

/// What was found in journals.
#[derive(Debug, Default)]
struct Found {
    looked_at: usize,
    of: usize,
    /// Rows or entries.
    rows: usize,
    wrong: Vec<String>,
    /// Not read, and why.
    unread: Vec<String>,
}

impl Found {
    fn verdict(&self, check: Check, what: &str) -> Check {
        let Self { looked_at, of, rows, .. } = self;
        if !self.wrong.is_empty() {
            return check.fail(format!("{}: {}", self.wrong.len(), some(&self.wrong)), REPORT);
        }
        let found = format!("{looked_at} {what} by chance, {rows} entries");
        if !self.unread.is_empty() {
            return check.unknown(format!("{found}; not read: {}", some(&self.unread)));
        }
        if *looked_at == 0 && *of > 0 {
            return check.unknown(format!("time was up before one of {of} {what} was read"));
        }
        if looked_at < of {
            return check.ok(format!("{found}; time was up for {} more", of - looked_at));
        }
        check.ok(found)
    }
}

impl Operations {
    /// I2, I3, I5 and I9 of a sample.
    pub(super) async fn check_journals(&self) -> Vec<Check> {
        let fences = check("fences", "Nothing counts that a fenced writer wrote").of("I2");
        let whole = check("frames", "Journals have no gap and no damage").of("I5");
        let ends = check("endings", "What an attempt ended as it stays").of("I9");
        let (nodes, silent) = match self.operator().nodes().await {
            Ok(list) => up_and_silent(&list.items),
            Err(error) => {
                let all = [fences, Homes::default().check(), whole, ends];
                return all.into_iter().map(|check| check.unknown(&error)).collect();
            }
        };
        let sample = self.sample(&nodes).await;
        // Claims before homes: a node that claims a journal knows the epoch by then.
        let ((mut found, claimed), (mut frames, mut endings)) =
            tokio::join!(self.tags(&sample), Box::pin(self.entries(&sample)));
        for found in [&mut found, &mut frames, &mut endings] {
            found.unread.extend(sample.lacks.clone());
        }
        let homes = self.homes(&nodes, &silent, &sample.homes, &claimed).await;
        found.wrong.extend(homes.ahead.iter().map(ToString::to_string));
        let fences = self.fences(fences, &found, &claimed, &homes);
        let (whole, ends) = (frames.verdict(whole, "Tasks"), endings.verdict(ends, "Tasks"));
        vec![fences, homes.check(), whole, ends]
    }

    fn fences(
        &self,
        check: Check,
        found: &Found,
        claimed: &[(EntityId, Epoch)],
        homes: &Homes,
    ) -> Check {
        let is_embedded = self.parts.stores.boot_epoch > Epoch::ZERO;
        let is_silent = claimed.is_empty() && found.wrong.is_empty() && found.unread.is_empty();
        if is_embedded && is_silent && found.looked_at > 0 {
            return check.ok("one process writes this store, one row per number: nothing to see");
        }
        let check = found.verdict(check, "journals");
        if check.fix.is_none() && !homes.silent().is_empty() {
            let found =
                format!("{}; epochs known to {} not asked", check.found, some(homes.silent()));
            return check.unknown(found);
        }
        check
    }

    /// Faults of fences that are there twice, and under which epochs journals were claimed.
    async fn tags(&self, sample: &Sample) -> (Found, Vec<(EntityId, Epoch)>) {
        let until = Instant::now() + TIME_MAX;
        let mut found = Found { of: sample.journals.len(), ..Found::default() };
        let mut claimed = Vec::new();
        for entity in &sample.journals {
            match tokio::time::timeout_at(until, self.tags_of(*entity)).await {
                Err(_) => break,
                Ok(Ok(None)) => {}
                Ok(Ok(Some((epoch, rows, faults)))) => {
                    found.rows += rows;
                    claimed.push((*entity, epoch));
                    found.wrong.extend(faults.iter().map(|fault| format!("{entity}: {fault}")));
                }
                Ok(Err(error)) => found.unread.push(format!("{entity} ({error})")),
            }
            found.looked_at += 1;
        }
        (found, claimed)
    }

    async fn tags_of(
        &self,
        entity: EntityId,
    ) -> Result<Option<(Epoch, usize, Vec<Fault>)>, ReadError> {
        let inventory = &self.parts.stores.inventory;
        let Some(tags) = inventory.tags(entity, ROWS_MAX).await? else { return Ok(None) };
        let mut faults = tags.faults();
        if !faults.is_empty() {
            // An entity that was claimed between two reads may look wrong once.
            let again = inventory.tags(entity, ROWS_MAX).await?;
            let again = again.map_or_else(Vec::new, |tags| tags.faults());
            faults.retain(|fault| again.contains(fault));
        }
        Ok(Some((tags.epoch, tags.rows.len(), faults)))
    }

    /// What Tasks of the sample say: gaps and damage, and what came after an end.
    async fn entries(&self, sample: &Sample) -> (Found, Found) {
        let until = Instant::now() + TIME_MAX;
        let tasks = sample.journals.iter().filter(|entity| entity.kind == EntityKind::Task);
        let tasks: Vec<EntityId> = tasks.copied().take(TASKS_MAX).collect();
        let mut frames = Found { of: tasks.len(), ..Found::default() };
        let mut endings = Found { of: tasks.len(), ..Found::default() };
        for task in tasks {
            let read = match tokio::time::timeout_at(until, self.read(task)).await {
                Err(_) => break,
                Ok(read) => read,
            };
            frames.looked_at += 1;
            endings.looked_at += 1;
            let runs = match read {
                Ok(runs) => runs,
                Err(error @ ReadError::Corrupt { .. }) => {
                    frames.wrong.push(error.to_string());
                    endings.unread.push(task.to_string());
                    continue;
                }
                Err(error) => {
                    frames.unread.push(format!("{task} ({error})"));
                    endings.unread.push(task.to_string());
                    continue;
                }
            };
            let mut ends = Endings::default();
            for run in &runs {
                frames.rows += run.len();
                frames.wrong.extend(gap(run).map(|gap| format!("{task}: {gap}")));
                for entry in run {
                    endings.rows += 1;
                    match decode_entry(&entry.body) {
                        Ok(said) => {
                            let late = ends.entry(&said);
                            endings
                                .wrong
                                .extend(late.map(|l| format!("{task}: {l}, {}", entry.seq)));
                        }
                        Err(error) => {
                            endings.unread.push(format!("{task}, entry {} ({error})", entry.seq));
                        }
                    }
                }
            }
        }
        (frames, endings)
    }

    /// Entries of a Task from the first on, as many as may be read, and those above its snapshot:
    /// one run if the two meet.
    async fn read(&self, task: EntityId) -> Result<Vec<Vec<Entry>>, ReadError> {
        let stores = &self.parts.stores;
        let Some(peeked) = stores.inventory.peek(task).await? else { return Ok(Vec::new()) };
        let upto = peeked.archived_upto();
        let mut first = Vec::new();
        if upto > Seq::ZERO {
            let archive = &stores.journal;
            first = archive.read_archive_entries(task, Seq(1), ARCHIVE_BYTES_MAX).await?;
        }
        // A snapshot may have been made since: entries of the tail lie in the archive by now.
        let last = first.last().map_or(Seq::ZERO, |entry| entry.seq);
        let tail = peeked.tail.into_iter().filter(|entry| entry.seq > last);
        if last >= upto {
            first.extend(tail);
            return Ok(vec![first]);
        }
        Ok(vec![first, tail.collect()])
    }
}

/// The first place where entries or their frames do not follow each other.
fn gap(run: &[Entry]) -> Option<String> {
    let mut expected: Option<(Seq, FrameSeq)> = None;
    for entry in run {
        if let Some((seq, frame)) = expected {
            if entry.seq != seq {
                return Some(format!("entry {} comes where {seq} was due", entry.seq));
            }
            if entry.first_frame != frame {
                let first = entry.first_frame;
                return Some(format!("entry {seq} has frame {first} where {frame} was due"));
            }
        }
        expected = Some((entry.seq.next(), entry.next_frame()));
    }
    None
}

/// Names of nodes that answer, and of those that are alive and do not.
fn up_and_silent(nodes: &[troupe_api::admin::NodeView]) -> (Vec<String>, Vec<String>) {
    let up = nodes.iter().filter(|node| node.state != "dead");
    let (silent, up): (Vec<_>, Vec<_>) = up.partition(|node| node.unreachable.is_some());
    let why = |node: &&troupe_api::admin::NodeView| {
        format!("{} ({})", node.name, node.unreachable.as_deref().unwrap_or_default())
    };
    (up.iter().map(|node| node.name.clone()).collect(), silent.iter().map(why).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_of_entries_and_of_frames_are_found() {
        let entry = |seq, first_frame, frames| Entry {
            seq: Seq(seq),
            first_frame: FrameSeq(first_frame),
            frames,
            body: bytes::Bytes::new(),
        };
        assert_eq!(gap(&[entry(7, 3, 2), entry(8, 5, 0), entry(9, 5, 1)]), None);
        assert!(gap(&[entry(1, 1, 2), entry(3, 3, 0)]).unwrap().contains("where 2 was due"));
        assert!(gap(&[entry(1, 1, 2), entry(2, 2, 0)]).unwrap().contains("where 3 was due"));
    }
}
