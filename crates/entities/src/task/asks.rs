//! Approvals and questions: their end when nobody answers, and what the inbox shows of them.
//!
//! While something is asked the Task runs, so its row in the wake index stands and brings it
//! back after whatever happened; the time itself lies in the journal. A clock that was set, or a
//! node that slept, is noticed within [`LOOK_EVERY`].

use std::time::Duration;

use troupe_actor::{TaskHandle, spawn_task};
use troupe_api::task::{OpenAsk, TurnView};
use troupe_domain::task::Command;
use troupe_sharding::Crash;
use troupe_types::Timestamp;

use super::{actor::TaskActor, effects::Effect, internal::TaskInternal, view::Public};

/// The clock is looked at this often while something is asked.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Approvals and questions of one Task that are listed; few agents ask for more at once.
pub(super) const LISTED_MAX: usize = 16;

/// Wakes the Task when the time of the next approval or question is over.
#[derive(Debug)]
pub(super) struct AskTimer {
    at: Timestamp,
    _sleeps: TaskHandle,
}

impl TaskActor {
    /// Sets the timer for what is asked now; there is none while nothing ends by itself.
    pub(super) fn tend_asks(&mut self) {
        let next = self.state.next_expiry();
        if next == self.ask_timer.as_ref().map(|timer| timer.at) {
            return;
        }
        self.ask_timer = next.map(|at| {
            let (me, wait) = (self.context.me.clone(), at.since(self.context.clock.now()));
            let sleeps = spawn_task("task-ask-expiry", async move {
                tokio::time::sleep(wait.min(LOOK_EVERY)).await;
                let _ = me.send(TaskInternal::AsksDue);
            });
            AskTimer { at, _sleeps: sleeps.abort_on_drop() }
        });
    }

    /// What nobody answered in time is over; its device is told at once.
    pub(super) fn asks_due(&mut self) -> Result<(), Crash> {
        self.ask_timer = None;
        self.unsettled = true;
        let entries = self.commits.last_staged();
        let pokes = self.pokes_of(&Command::ExpireAsks);
        if let Err(refusal) = self.accept(Command::ExpireAsks)? {
            tracing::debug!(entity = %self.context.id, %refusal, "nothing expires any more");
        }
        if self.commits.last_staged() != entries {
            for (device, execution, attempt) in pokes {
                self.defer(Effect::Poke(device, execution, attempt));
            }
        }
        Ok(())
    }
}

/// What waits for a person in a turn, oldest first.
pub(super) fn listed(public: &Public, turn: Option<TurnView>) -> Vec<OpenAsk> {
    let view = &public.view;
    let messages = turn.into_iter().flat_map(|turn| turn.messages);
    let asks = messages.flat_map(|row| {
        let attempt = row.attempts.last().cloned();
        let (message, blocks) = (row.message, row.blocks.into_iter());
        blocks.filter(|block| public.asks.contains(&block.id)).filter_map(move |block| {
            let attempt = attempt.as_ref()?;
            Some(OpenAsk {
                task_id: view.id,
                title: view.title.clone(),
                team_name: view.team_name.clone(),
                team_namespace: view.team_namespace.clone(),
                message,
                attempt: attempt.attempt,
                bot_name: attempt.bot_name.clone(),
                place: attempt.place.clone(),
                block,
            })
        })
    });
    asks.take(LISTED_MAX).collect()
}
