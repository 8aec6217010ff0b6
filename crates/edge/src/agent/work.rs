//! What an agent does with executions.

use std::{fmt, sync::Arc, time::Duration};

use ractor::{Actor, ActorRef};
use tokio::time::timeout;
use troupe_executor::Secrets;
use troupe_wire::device::{
    Assignment, AssignmentAnswer, AssignmentRefusal, AttemptKey, DeviceFrame, Forget, SecretsGiven,
    SecretsWanted,
};

use super::{
    actor::{AgentMsg, AgentState, Done, Running},
    assign::{Checked, accepted, check, secrets},
    begin::Pending,
};
use crate::{
    execution::{ExecutorActor, ExecutorArgs},
    link::FromLink,
    outbox::Ended,
};

/// How long a frame may wait for a place in the link's queue.
pub(super) const SAY_MAX: Duration = Duration::from_secs(10);

impl AgentState {
    /// After a start: what an earlier life of the agent left.
    pub(super) async fn go_on(&mut self, me: &ActorRef<AgentMsg>) -> Done {
        for key in self.args.outbox.attempts() {
            let fold = self.args.outbox.fold(key).await?;
            if fold.ended.is_some() {
                continue;
            }
            tracing::info!(?key, "an execution is gone on with");
            if fold.cancelled {
                self.end(key, Ended::Cancelled, String::new()).await?;
            } else if !fold.may_run() {
                self.pending.insert(key, Pending::again(&fold.accepted));
            } else if fold.accepted.secrets && !fold.said.ended {
                self.wanting.insert(key);
            } else {
                self.start(me, key, Secrets::new()).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn say(&self, frame: DeviceFrame) {
        // Without a link it is thrown away, and said again after the next hello.
        if timeout(SAY_MAX, self.args.out.send(frame)).await.is_err() {
            tracing::warn!("the link takes nothing");
        }
    }

    pub(super) async fn heard(&mut self, me: &ActorRef<AgentMsg>, what: FromLink) -> Done {
        match what {
            FromLink::Frame(frame, _held) => match *frame {
                DeviceFrame::Assignment(assignment) => self.assignment(me, *assignment).await?,
                DeviceFrame::Input(input) => self.input(me, input).await?,
                DeviceFrame::SecretsGiven(given) => self.secrets(me, given).await?,
                DeviceFrame::Begin(begin) => self.begin(me, begin.key).await?,
                DeviceFrame::PackagePart(part) => self.packages.heard(*part),
                DeviceFrame::Forget(forget) => self.forget(forget).await,
                DeviceFrame::Drain(drain) => self.drain(drain.on),
                other => tracing::debug!(?other, "nothing that a device is told"),
            },
            FromLink::Linked { begins } => self.linked(me, begins).await?,
            FromLink::Damaged(key) => self.damaged(key).await,
            FromLink::Revoked(message) => {
                tracing::warn!(%message, "this device is not wanted any more: its work stops");
                self.running.values().for_each(|run| run.stop(true));
            }
        }
        Ok(())
    }

    /// A link came up: what may have been lost with the last one is said again.
    async fn linked(&mut self, me: &ActorRef<AgentMsg>, begins: bool) -> Done {
        self.linked_again();
        self.begins = begins;
        if !begins {
            self.begin_all(me).await?;
        }
        self.say_ends().await?;
        for key in self.wanting.clone() {
            self.say(DeviceFrame::SecretsWanted(SecretsWanted { key })).await;
        }
        Ok(())
    }

    async fn assignment(&mut self, me: &ActorRef<AgentMsg>, assignment: Assignment) -> Done {
        let key = assignment.key;
        let answer = match self.take(me, assignment).await {
            Ok(()) => AssignmentAnswer::Taken(key),
            Err((reason, message)) => {
                tracing::info!(?key, ?reason, %message, "an assignment was refused");
                AssignmentAnswer::Refused { key, reason, message }
            }
        };
        self.say(DeviceFrame::AssignmentAnswer(answer)).await;
        Ok(())
    }

    async fn take(
        &mut self,
        me: &ActorRef<AgentMsg>,
        assignment: Assignment,
    ) -> Result<(), (AssignmentRefusal, String)> {
        let key = assignment.key;
        if self.args.outbox.marks(key).is_some() {
            return Ok(());
        }
        let disk = |error: &dyn fmt::Display| (AssignmentRefusal::Disk, error.to_string());
        let mut others = self.args.outbox.attempts();
        others.retain(|other| other.execution == key.execution);
        if others.iter().any(|other| other.attempt > key.attempt) {
            let message = "a newer attempt is on this device".to_owned();
            return Err((AssignmentRefusal::Stale, message));
        }
        let earlier = others.into_iter().rfind(|other| self.running.contains_key(other));
        if self.draining {
            let message = "the device takes no new work".to_owned();
            return Err((AssignmentRefusal::Draining, message));
        }
        self.give_up_before(key).await.map_err(|error| disk(&error))?;
        if earlier.is_none() && self.slots_used() >= self.args.options.slots {
            let message = format!("all {} slots are taken", self.args.options.slots);
            return Err((AssignmentRefusal::NoSlot, message));
        }
        let kept = accepted(&assignment, self.begins)?;
        let options = &self.args.options;
        check(key, &kept, &options.policy, &options.engines)?;
        self.args.outbox.accept(key, kept).await.map_err(|error| disk(&error))?;
        let secrets = secrets(assignment.token, assignment.secrets);
        self.pending.insert(key, Pending::new(secrets, self.begins, earlier));
        // The cluster gave the earlier ones up; two must not work in one place.
        if let Some(run) = earlier.and_then(|earlier| self.running.get(&earlier)) {
            run.stop(true);
        }
        self.start_pending(me, key).await.map_err(|error| disk(&error))
    }

    /// Starts an executor for an attempt that is on the disk.
    pub(super) async fn start(
        &mut self,
        me: &ActorRef<AgentMsg>,
        key: AttemptKey,
        secrets: Secrets,
    ) -> Done {
        let fold = self.args.outbox.fold(key).await?;
        let options = &self.args.options;
        let checked = check(key, &fold.accepted, &options.policy, &options.engines);
        let Checked { mut job, engine } = match checked {
            Ok(checked) => checked,
            // The policy, or what is installed, changed while it was away.
            Err((_, message)) => return self.end(key, Ended::Lost, message).await,
        };
        if options.policy.grants {
            job.grants.extend(fold.grants.iter().cloned());
        }
        // The lower of what the job and what the machine says; 0 says nothing.
        let bounds = [job.limits.memory_bytes_max, options.run_memory_bytes_max];
        let least = bounds.into_iter().filter(|bound| *bound > 0).min();
        job.limits.memory_bytes_max = least.unwrap_or_default();
        let workspaces = self.workspaces();
        let args = ExecutorArgs {
            key,
            job,
            always: options.policy.grants,
            secrets,
            fold,
            engine,
            outbox: self.args.outbox.clone(),
            workspaces,
            seats: self.seats.clone(),
            packages: self.packages.clone(),
            clock: Arc::clone(&options.clock),
        };
        let (actor, _) = Actor::spawn_linked(None, ExecutorActor, args, me.get_cell()).await?;
        self.by_actor.insert(actor.get_id(), key);
        self.running.insert(key, Running { actor, forget: false });
        Ok(())
    }

    pub(super) async fn executor_gone(
        &mut self,
        me: &ActorRef<AgentMsg>,
        key: AttemptKey,
        crash: Option<String>,
    ) -> Done {
        let forget = self.running.remove(&key).is_some_and(|run| run.forget);
        self.ended(key, crash).await?;
        if forget {
            self.remove(key).await;
        }
        self.start_behind(me, key).await?;
        self.maybe_down();
        Ok(())
    }

    async fn secrets(&mut self, me: &ActorRef<AgentMsg>, given: SecretsGiven) -> Done {
        if !self.going_down && self.wanting.remove(&given.key) {
            let secrets = secrets(given.token, given.secrets);
            self.start(me, given.key, secrets).await?;
        }
        Ok(())
    }

    async fn forget(&mut self, forget: Forget) {
        let key = forget.key;
        self.wanting.remove(&key);
        self.pending.remove(&key);
        match self.running.get_mut(&key) {
            Some(run) => {
                run.forget = true;
                run.stop(true);
            }
            None => self.remove(key).await,
        }
    }
}

#[cfg(test)]
mod tests;
