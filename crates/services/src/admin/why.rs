//! Why a Task waits or what it does, for operators: any Task, with where it lives.

use std::time::Duration;

use troupe_api::{
    Problem,
    admin::{AdminWhy, WakeView},
};
use troupe_entities::TaskAddress;
use troupe_store::{WakeKind, WakeRow};
use troupe_types::{EntityId, TaskId, Timestamp, limits::ENTITY_QUEUE_MAX};

use super::{EntityPlace, Operations, admin, in_time, local::long};
use crate::{
    caller::Caller,
    tasks::{task_problem, why},
};

const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Wake rows of one shard that are looked through.
const WAKES_MAX: usize = 5_000;

const fn wake_name(kind: WakeKind) -> &'static str {
    match kind {
        WakeKind::Run => "run",
        WakeKind::ApprovalExpiry => "approval_expiry",
        WakeKind::DeviceLease => "device_lease",
        WakeKind::Cron => "cron",
        WakeKind::DeleteDelay => "delete_delay",
        WakeKind::Projection => "projection",
    }
}

impl Operations {
    /// Why a Task of anybody waits or what it does.
    ///
    /// # Errors
    /// 403, 404; 503 with the reason if its owner was not reached.
    pub async fn why(&self, caller: &Caller, task: TaskId) -> Result<AdminWhy, Problem> {
        admin(caller, "why_task")?;
        let entity = EntityId::from(task);
        // Before it is asked: the question itself brings it to memory.
        let places = self.operator().places(&[entity]).await?;
        let place = places.into_iter().next().ok_or_else(|| Problem::not_found("task"))?;
        let wakes = self.wakes_of(entity).await;
        let address = TaskAddress::new(self.parts.router.clone(), task);
        let (view, why) = tokio::join!(address.view(), why(&self.parts.router, &address));
        let lost = |problem: Problem| self.explain(problem, &place);
        let view = view.map_err(|error| lost(task_problem(&error)))?;
        let why = why.map_err(|error| lost(task_problem(&error)))?;
        let is_active = view.status.is_active();
        let mut details = placed(&place);
        details.extend(why.details.iter().cloned());
        let now = self.parts.clock.now();
        details.extend(match &wakes {
            Ok(rows) => woken(rows, is_active, now),
            Err(error) => vec![format!("its wake rows could not be read: {error}")],
        });
        let mut next_steps = why.next_steps.clone();
        next_steps.extend(steps(&place));
        Ok(AdminWhy {
            task_id: task,
            user_id: view.user_id,
            title: view.title,
            status: view.status,
            summary: why.summary.clone(),
            node: place.node,
            shard: entity.shard().0,
            epoch: place.epoch,
            entity: place.live,
            why,
            wakes: wakes
                .unwrap_or_default()
                .into_iter()
                .map(|row| WakeView { due: row.due, kind: wake_name(row.kind).to_owned() })
                .collect(),
            details,
            next_steps,
        })
    }

    /// A Task that does not answer: who should have.
    fn explain(&self, mut problem: Problem, place: &EntityPlace) -> Problem {
        if problem.status >= 500 || problem.status == 429 {
            let words = placed(place).join("; ");
            problem.detail = format!("the Task did not answer ({}): {words}", problem.detail);
        }
        problem
    }

    async fn wakes_of(&self, entity: EntityId) -> Result<Vec<WakeRow>, String> {
        let shard = [entity.shard()];
        let all = Timestamp::from_millis(i64::MAX);
        let due = self.parts.stores.wake.due(&shard, all, None, WAKES_MAX);
        let mut rows = in_time(STORE_TIMEOUT, due).await?;
        rows.retain(|row| row.entity == entity);
        Ok(rows)
    }
}

fn placed(place: &EntityPlace) -> Vec<String> {
    let shard = place.entity.shard();
    let mut lines = vec![match &place.node {
        Some(node) => format!("lives on {node}, in shard {shard} under epoch {}", place.epoch),
        None => format!("nobody owns its shard {shard} at the moment"),
    }];
    let Some(live) = &place.live else {
        lines.push("was not in memory before this question".to_owned());
        return lines;
    };
    let age = live.age_seconds.map(|s| format!(" for {}", long(Duration::from_secs(s))));
    lines.push(format!(
        "is {} in memory{}; {} of {ENTITY_QUEUE_MAX} places of its queue are taken",
        live.state,
        age.unwrap_or_default(),
        live.unanswered
    ));
    if live.restarts > 0 {
        let error = live.last_error.as_deref().unwrap_or("no reason was kept");
        lines.push(format!("crashed {} time(s), the last time: {error}", live.restarts));
    }
    lines
}

fn woken(rows: &[WakeRow], is_active: bool, now: Timestamp) -> Vec<String> {
    if rows.is_empty() && is_active {
        return vec!["has no wake row: after a crash nothing would take it up".to_owned()];
    }
    let line = |row: &WakeRow| {
        let name = wake_name(row.kind);
        if row.due > now {
            return format!("will be looked at in {} ({name})", long(row.due.since(now)));
        }
        let since = long(now.since(row.due));
        format!("is taken up by whoever owns its shard after any crash ({name}, since {since})")
    };
    rows.iter().map(line).collect()
}

fn steps(place: &EntityPlace) -> Vec<String> {
    let mut steps = Vec::new();
    let entity = place.entity;
    match &place.live {
        Some(live) if live.state == "resting" => {
            steps.push(format!("after a fix: troupe admin actors --restart {entity}"));
        }
        Some(live) if live.unanswered * 5 >= (ENTITY_QUEUE_MAX as u64) * 4 => {
            steps.push(format!("its queue is nearly full: troupe admin actors --restart {entity}"));
        }
        _ => {}
    }
    if place.node.is_none() {
        steps.push("see why nobody owns the shard: troupe admin doctor".to_owned());
    }
    steps
}
