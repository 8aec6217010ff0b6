//! When attempts that are on the disk begin.
//!
//! Invariant: an attempt runs only after the cluster committed that this device has it. Until then
//! the cluster may give the execution to another device, and its work would be done twice. A
//! cluster that does not say so (an older one) is taken at its assignment.

use ractor::ActorRef;
use troupe_executor::Secrets;
use troupe_wire::device::{AttemptKey, DeviceFrame, SecretsWanted};

use super::actor::{AgentMsg, AgentState, Done};
use crate::outbox::{Accepted, Ended};

/// An attempt on the disk that is still to begin.
#[derive(Debug)]
pub(super) struct Pending {
    /// `None`: they are gone with an earlier life of the agent, and must be asked for.
    secrets: Option<Secrets>,
    /// The cluster has yet to say that it begins.
    waits: bool,
    /// A run of the same execution that has to be over first.
    behind: Option<AttemptKey>,
}

impl Pending {
    pub(super) const fn new(secrets: Secrets, waits: bool, behind: Option<AttemptKey>) -> Self {
        Self { secrets: Some(secrets), waits, behind }
    }

    /// One that an earlier life of the agent took.
    pub(super) fn again(accepted: &Accepted) -> Self {
        let secrets = (!accepted.secrets).then(Secrets::new);
        Self { secrets, waits: true, behind: None }
    }
}

impl AgentState {
    /// The cluster says that an attempt begins; of one that began it may say so again.
    pub(super) async fn begin(&mut self, me: &ActorRef<AgentMsg>, key: AttemptKey) -> Done {
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.waits = false;
        }
        self.start_pending(me, key).await
    }

    /// This cluster never says so.
    pub(super) async fn begin_all(&mut self, me: &ActorRef<AgentMsg>) -> Done {
        for key in self.pending.keys().copied().collect::<Vec<_>>() {
            self.begin(me, key).await?;
        }
        Ok(())
    }

    /// A run is over: what waited for that may start.
    pub(super) async fn start_behind(&mut self, me: &ActorRef<AgentMsg>, over: AttemptKey) -> Done {
        for (key, pending) in &mut self.pending {
            if pending.behind == Some(over) {
                pending.behind = None;
                let key = *key;
                return self.start_pending(me, key).await;
            }
        }
        Ok(())
    }

    /// Starts an attempt if nothing keeps it from that.
    pub(super) async fn start_pending(&mut self, me: &ActorRef<AgentMsg>, key: AttemptKey) -> Done {
        let ready = |pending: &Pending| !pending.waits && pending.behind.is_none();
        // After the restart it is said again.
        if self.going_down || !self.pending.get(&key).is_some_and(ready) {
            return Ok(());
        }
        match self.pending.remove(&key).and_then(|pending| pending.secrets) {
            Some(secrets) => self.start(me, key, secrets).await,
            None => {
                self.wanting.insert(key);
                self.say(DeviceFrame::SecretsWanted(SecretsWanted { key })).await;
                Ok(())
            }
        }
    }

    /// Attempts that did not begin end, for a newer one of the same execution is here.
    pub(super) async fn give_up_before(&mut self, newer: AttemptKey) -> Done {
        let older =
            |key: &AttemptKey| key.execution == newer.execution && key.attempt < newer.attempt;
        let waiting: Vec<_> =
            self.pending.keys().chain(&self.wanting).filter(|key| older(key)).copied().collect();
        for key in waiting {
            self.pending.remove(&key);
            self.wanting.remove(&key);
            self.end(key, Ended::Cancelled, String::new()).await?;
        }
        Ok(())
    }
}
