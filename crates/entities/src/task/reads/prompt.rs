//! What a prompt is made of: the whole history of a Task, folded as it is read.
//!
//! Invariant: of an archive one page is held at a time, and of that one entry is decoded.

use troupe_domain::task::{Conversation, History, TeamPlan};
use troupe_store::ReadError;
use troupe_types::{ExecutionId, Seq};

use super::{ARCHIVE_PAGE_BYTES, Reader, decode};

/// Archives that a node folds at once. Each fold holds its Task's transcript until the prompt is
/// cut out of it, and a leader alone begins up to eight attempts at the same time; they mostly
/// wait for the store, so more of them would not be done sooner.
pub(in crate::task) const FOLDS_MAX: usize = 4;

impl Reader {
    /// What the prompt of an execution needs, from every entry of the Task; `None` if the
    /// execution is not known.
    pub(in crate::task) async fn conversation(
        &self,
        plan: &TeamPlan,
        execution: ExecutionId,
    ) -> Result<Option<Conversation>, ReadError> {
        let held_from = self.held.first().map_or(Seq(u64::MAX), |h| h.seq);
        // What is in memory alone waits for nobody. The semaphore is never closed.
        let archived = held_from > Seq(1);
        let _turn = if archived { self.folds.acquire().await.ok() } else { None };
        let mut history = History::new();
        let read = |from| async move {
            let page =
                self.journal.read_archive_entries(self.entity, from, ARCHIVE_PAGE_BYTES).await?;
            Ok(page.into_iter().map(|entry| (entry.seq, entry)).collect())
        };
        fold_archive(held_from, read, |entry| {
            history.fold(&decode(self.entity, entry.seq, &entry.body)?);
            Ok(())
        })
        .await?;
        self.held.iter().for_each(|held| history.fold(&held.entry));
        Ok(history.conversation(plan, execution))
    }
}

/// Hands what is archived below `until` to `fold`, oldest first. A page is gone before the next
/// one is read.
async fn fold_archive<E, F>(
    until: Seq,
    read: impl Fn(Seq) -> F,
    mut fold: impl FnMut(E) -> Result<(), ReadError>,
) -> Result<(), ReadError>
where
    F: Future<Output = Result<Vec<(Seq, E)>, ReadError>>,
{
    let mut next = Seq(1);
    while next < until {
        let page = read(next).await?;
        let Some((last, _)) = page.last() else { break };
        next = last.next();
        page.into_iter().filter(|(seq, _)| *seq < until).try_for_each(|(_, entry)| fold(entry))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
