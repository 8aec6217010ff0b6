//! The only way to reach a Team's slots.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use troupe_sharding::Router;
use troupe_types::{TaskId, TeamSlotsId, UserId};

/// How long an answer may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A question to a Team's slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum TeamAsk {
    /// A Task wants a slot, or renews the one it has.
    Acquire {
        /// The Task.
        task: TaskId,
        /// Whose Task it is.
        owner: UserId,
        /// How many slots the Team has, as of the Task's plan.
        slots: u32,
        /// Something of the Task runs already: the answer is always a grant.
        running: bool,
    },
    /// A Task gives its slot (or its place in the queue) back.
    Release {
        /// The Task.
        task: TaskId,
    },
}

/// What a Task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "slot", rename_all = "snake_case")]
pub enum SlotAnswer {
    /// It has a slot for the length of a lease.
    Granted,
    /// It waits; it is told when a slot is free, and asks again by itself.
    Queued {
        /// Its place, from 1.
        position: u32,
    },
    /// The Team was not reached.
    Unreachable,
}

/// A Team's slots for one owner.
#[derive(Clone, Debug)]
pub struct TeamAddress {
    router: Router,
    id: TeamSlotsId,
}

impl TeamAddress {
    /// Slots are counted per Team and owner.
    #[must_use]
    pub fn new(router: Router, namespace: &str, name: &str, owner: UserId) -> Self {
        let id = TeamSlotsId::derived(&[namespace, name, &owner.to_string()]);
        Self { router, id }
    }

    /// Asks for a slot, or renews it.
    pub async fn acquire(
        &self,
        task: TaskId,
        owner: UserId,
        slots: u32,
        running: bool,
    ) -> SlotAnswer {
        let ask = TeamAsk::Acquire { task, owner, slots, running };
        match self.ask(&ask).await {
            Some(answer) => serde_json::from_slice(&answer).unwrap_or(SlotAnswer::Unreachable),
            None => SlotAnswer::Unreachable,
        }
    }

    /// Gives a slot back. If this is lost, the lease ends by itself.
    pub async fn release(&self, task: TaskId) {
        let _ = self.ask(&TeamAsk::Release { task }).await;
    }

    async fn ask(&self, ask: &TeamAsk) -> Option<Bytes> {
        let body = Bytes::from(serde_json::to_vec(ask).ok()?);
        let answer = self.router.ask_or_repeat(self.id.into(), body, true, ASK_TIMEOUT).await;
        answer.inspect_err(|error| tracing::debug!(%error, "a team was not reached")).ok()
    }
}
