//! The Task's side of its Team's slots: soft grants, renewed while something runs or could.

use std::time::Duration;

use troupe_actor::spawn_task;
use troupe_domain::task::{AttemptState, Execution};
use troupe_types::Wait;

use super::{actor::TaskActor, internal::TaskInternal};
use crate::team::{SlotAnswer, TeamAddress};

/// A held slot is renewed this often (leases last 60 s).
const RENEW_EVERY: Duration = Duration::from_secs(20);
/// A Task that waits asks again this often, in case a notice was lost.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Whether this Task may run.
#[derive(Debug, Default)]
pub(super) struct Slot {
    state: State,
    /// Place in the Team's queue, from 1.
    position: u32,
    asking: bool,
    /// A release is on its way: a request that overtook it would be undone by it.
    releasing: bool,
    timer: bool,
    due: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    None,
    /// The Team did not answer: it may have granted a slot or not.
    Unsure,
    Waiting,
    Held,
}

impl Slot {
    /// Why a queued attempt cannot start yet; `None`: it can.
    pub(super) fn wait(&self, team: &str) -> Option<Wait> {
        if self.state == State::Held {
            return None;
        }
        let mut args = serde_json::Map::new();
        args.insert("team".into(), team.into());
        if self.state == State::Waiting {
            args.insert("position".into(), self.position.into());
        }
        Some(Wait { code: "team_slots".into(), args })
    }

    pub(super) fn is_held(&self) -> bool {
        self.state == State::Held
    }

    /// Whether the answer to a request is still awaited (then starting is a matter of moments
    /// and not worth a word to people).
    pub(super) fn is_undecided(&self) -> bool {
        matches!(self.state, State::None | State::Unsure)
    }

    /// Whether the Team owes nothing to this Task, nor the Task to its Team.
    pub(super) fn is_settled(&self) -> bool {
        self.state == State::None && !self.asking && !self.releasing
    }

    /// A notice of the Team: there may be a slot now.
    pub(super) fn ask_again(&mut self) {
        self.due = true;
        if self.state == State::None {
            // It thinks that this Task waits; if that is not so any more, it must hear of it.
            self.state = State::Unsure;
        }
    }

    pub(super) const fn timer_fired(&mut self) {
        self.timer = false;
        self.due = true;
    }

    pub(super) const fn released(&mut self) {
        self.releasing = false;
    }

    pub(super) fn answered(&mut self, answer: SlotAnswer) {
        self.asking = false;
        match answer {
            SlotAnswer::Granted => self.state = State::Held,
            SlotAnswer::Queued { position } => {
                self.state = State::Waiting;
                self.position = position;
            }
            // Grants are soft: a Task that runs goes on, one that waits asks again, in time.
            SlotAnswer::Unreachable if self.state == State::None => self.state = State::Unsure,
            SlotAnswer::Unreachable => {}
        }
    }
}

impl TaskActor {
    /// Asks for a slot when something wants to run, renews it, gives it back. One request or
    /// release is under way at a time, so that they cannot overtake each other.
    pub(super) fn tend_slot(&mut self) {
        let wanted = self.wants_slot() && !self.is_draining();
        let busy = self.slot.asking || self.slot.releasing;
        if !wanted {
            if self.slot.state != State::None && !busy {
                self.release_slot();
            }
            return;
        }
        if (self.slot.state == State::None || self.slot.due) && !busy {
            self.slot.asking = true;
            self.slot.due = false;
            self.ask_for_slot();
        }
        if !self.slot.timer {
            self.slot.timer = true;
            let every = if self.slot.state == State::Held { RENEW_EVERY } else { ASK_EVERY };
            let (me, stop) = (self.context.me.clone(), self.context.stop.clone());
            spawn_task("task-slot-timer", async move {
                tokio::select! {
                    () = tokio::time::sleep(every) => { let _ = me.send(TaskInternal::SlotTimer); }
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    /// A Task that waits for a person, for a container or for a device that has room holds no
    /// slot: nobody waits in a circle. One that has a slot keeps it from stage to stage, until no
    /// device has room for the next.
    fn wants_slot(&self) -> bool {
        let plan = self.state.plan();
        let in_the_node = |member: u32| {
            plan.and_then(|p| p.member(member)).is_some_and(|m| m.shell_type == "Chat")
        };
        let has_place = |e: &Execution| match self.placing.get(&e.id) {
            Some(placing) if placing.wants_slot(e.attempt) => true,
            Some(placing) if placing.rests(e.attempt) => false,
            _ => self.slot.is_held(),
        };
        let wants = |e: &Execution| match e.state {
            AttemptState::Queued => {
                self.state.is_active() && (in_the_node(e.member) || has_place(e))
            }
            state => state.is_live(),
        };
        self.state.executions.iter().any(wants)
    }

    fn team(&self) -> Option<TeamAddress> {
        let (namespace, name) = self.state.team.as_ref()?;
        let owner = self.state.owner?;
        Some(TeamAddress::new(self.context.router.clone(), namespace, name, owner))
    }

    fn ask_for_slot(&mut self) {
        let (Some(team), Some(task), Some(owner)) = (self.team(), self.state.id, self.state.owner)
        else {
            self.slot.asking = false;
            return;
        };
        let slots = self.state.plan().map_or(1, |plan| plan.max_concurrent_tasks);
        let running = self.state.executions.iter().any(|e| e.state.is_live());
        let me = self.context.me.clone();
        spawn_task("task-slot-ask", async move {
            let answer = team.acquire(task, owner, slots, running).await;
            let _ = me.send(TaskInternal::Slot(answer));
        });
    }

    /// Gives the slot, or the place in the queue, back; best effort, the lease ends by itself.
    pub(super) fn release_slot(&mut self) {
        let Slot { state, asking, timer, .. } = std::mem::take(&mut self.slot);
        self.slot.timer = timer;
        if state == State::None && !asking {
            return;
        }
        if let (Some(team), Some(task)) = (self.team(), self.state.id) {
            self.slot.releasing = true;
            let me = self.context.me.clone();
            spawn_task("task-slot-release", async move {
                team.release(task).await;
                let _ = me.send(TaskInternal::SlotReleased);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_that_does_not_answer_is_asked_again_only_in_time() {
        let mut slot = Slot { asking: true, ..Slot::default() };
        slot.answered(SlotAnswer::Unreachable);
        assert!(slot.is_undecided() && !slot.due, "no word to people, no hot loop");
        assert!(!slot.is_settled(), "it may have been granted, so it is to be released");
        slot.timer_fired();
        assert!(slot.due);
    }

    #[test]
    fn a_slot_that_is_held_stays_held_while_the_team_is_away() {
        let mut slot = Slot::default();
        slot.answered(SlotAnswer::Granted);
        slot.answered(SlotAnswer::Unreachable);
        assert_eq!(slot.wait("t"), None);
    }

    #[test]
    fn a_notice_to_a_task_that_does_not_wait_is_answered_by_a_release() {
        let mut slot = Slot::default();
        slot.ask_again();
        assert!(!slot.is_settled());
    }
}
