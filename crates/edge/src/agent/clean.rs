//! Workspaces that nobody uses any more go by themselves.

use std::collections::BTreeSet;

use ractor::ActorRef;
use troupe_actor::spawn_task;
use troupe_executor::{Roots, StaleWorkspace, Workspaces};
use troupe_types::TaskId;

use super::actor::{AgentMsg, AgentState, Done};

impl AgentState {
    pub(super) fn workspaces(&self) -> Workspaces {
        let options = &self.args.options;
        let roots = Roots::new(options.policy.workspace_roots.clone());
        Workspaces::new(&options.machine, options.workspaces.clone(), roots)
    }

    /// Looks for them beside its other work, and again in time.
    pub(super) fn look_for_stale(&self, me: &ActorRef<AgentMsg>) {
        let Some(unused) = self.args.options.workspaces_unused_max else { return };
        let (workspaces, me, every) =
            (self.workspaces(), me.clone(), self.args.options.clean_every);
        spawn_task("edge-stale", async move {
            let found = tokio::task::spawn_blocking(move || workspaces.stale(unused)).await;
            // The agent may be gone.
            let _ = me.send_message(AgentMsg::Stale(found.unwrap_or_default()));
            me.send_after(every, || AgentMsg::Clean);
        });
    }

    /// Those of Tasks that are on this device stay, however old they are.
    pub(super) async fn clean(&mut self, found: Vec<StaleWorkspace>) -> Done {
        if found.is_empty() {
            return Ok(());
        }
        let mut busy: BTreeSet<TaskId> = BTreeSet::new();
        for key in self.args.outbox.attempts() {
            busy.insert(self.args.outbox.fold(key).await?.accepted.task);
        }
        let workspaces = self.workspaces();
        for stale in found.into_iter().filter(|stale| !busy.contains(&stale.task)) {
            let task = stale.task;
            if let Err(error) = workspaces.set_aside(&stale) {
                tracing::warn!(%task, %error, "a workspace that nobody uses stays");
                continue;
            }
            let workspaces = workspaces.clone();
            spawn_task("edge-clean", async move {
                match workspaces.discard(&stale).await {
                    Ok(()) => tracing::info!(%task, "a workspace that nobody used was removed"),
                    Err(error) => tracing::warn!(%task, %error, "a workspace was not removed"),
                }
            });
        }
        Ok(())
    }
}
