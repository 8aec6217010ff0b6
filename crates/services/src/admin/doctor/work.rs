//! What runs, what should, and what was given up.

use std::{collections::HashSet, time::Duration};

use troupe_api::admin::Check;
use troupe_store::{DirectoryTable, TaskFilter, TaskRow, WakeRow};
use troupe_types::{
    EntityId, SHARDS_GENERAL, SHARDS_KNOWLEDGE, ShardId, TaskId, Timestamp, UserId, Uuid,
};

use super::{STORE_TIMEOUT, Verdict, check, some};
use crate::admin::{Operations, in_time, local::long};

/// Users whose Tasks are looked through.
const USERS_MAX: usize = 2_000;
/// Tasks that run at the same time and are looked at.
const RUNNING_MAX: usize = 2_000;
/// Wake rows that are looked at.
const WAKES_MAX: usize = 10_000;
/// Letters that are counted.
const LETTERS_MAX: usize = 1_000;
/// A wake row this much overdue should have been seen to.
const OVERDUE: Duration = Duration::from_secs(60);
/// The wake index is read every five minutes: after this, nothing will see to it by itself.
const LONG_OVERDUE: Duration = Duration::from_secs(600);

/// The statuses of Tasks that run, or will without a person.
const ACTIVE: [&str; 3] = ["PENDING", "RUNNING", "CANCELLING"];

impl Operations {
    pub(super) async fn check_work(&self) -> Vec<Check> {
        let (runs, wakes, orphans, letters) = tokio::join!(
            Box::pin(self.check_runs()),
            self.check_wakes(),
            self.check_orphans(),
            self.check_letters()
        );
        vec![runs, wakes, orphans, letters]
    }

    /// A Task that runs has a wake row from before its first entry until its last projection:
    /// one without is a Task that nothing would take up again.
    async fn check_runs(&self) -> Check {
        let check = check("runs", "Every running Task would go on after a crash").of("I6");
        let running = match self.running().await {
            Ok(running) => running,
            Err(why) => return check.unknown(why),
        };
        let woken: HashSet<EntityId> = match self.wakes(Timestamp::from_millis(i64::MAX)).await {
            Ok(rows) if rows.len() < WAKES_MAX => rows.iter().map(|row| row.entity).collect(),
            Ok(_) => return check.unknown(format!("there are more than {WAKES_MAX} wake rows")),
            Err(why) => return check.unknown(why),
        };
        let without: Vec<TaskId> = running
            .iter()
            .map(|row| row.task)
            .filter(|task| !woken.contains(&EntityId::from(*task)))
            .collect();
        // Those that ended between the two reads are told by a second look at their rows.
        let again = self.parts.stores.projections.get_tasks(&without);
        let again = match in_time(STORE_TIMEOUT, again).await {
            Ok(rows) => rows,
            Err(why) => return check.unknown(why),
        };
        let stuck: Vec<TaskId> =
            again.iter().filter(|row| is_active(row)).map(|r| r.task).collect();
        if stuck.is_empty() {
            return check.ok(format!("{} running, each with a wake row", running.len()));
        }
        let fix = "Look at each with: troupe admin why TASK (that alone activates it and writes \
                   its rows anew); if it stays, report it.";
        check.fail(format!("{} without a wake row: {}", stuck.len(), some(&stuck)), fix)
    }

    /// The rows of Tasks that run, of all users.
    async fn running(&self) -> Result<Vec<TaskRow>, String> {
        let filter =
            TaskFilter { statuses: ACTIVE.map(str::to_owned).to_vec(), ..TaskFilter::default() };
        let mut running = Vec::new();
        for user in self.users().await? {
            let left = RUNNING_MAX - running.len();
            let list = self.parts.stores.projections.list_tasks(user, &filter, None, left);
            running.extend(in_time(STORE_TIMEOUT, list).await?);
            if running.len() >= RUNNING_MAX {
                break;
            }
        }
        Ok(running)
    }

    async fn users(&self) -> Result<Vec<UserId>, String> {
        let directory = &self.parts.stores.directory;
        let mut users = Vec::new();
        let mut after = None::<bytes::Bytes>;
        loop {
            let list = directory.list(DirectoryTable::User, None, after.as_deref(), 200);
            let rows = in_time(STORE_TIMEOUT, list).await?;
            let id = |key: &[u8]| Uuid::from_slice(key).ok().map(UserId::from_uuid);
            users.extend(rows.iter().filter_map(|row| id(&row.key)));
            after = rows.last().map(|row| row.key.clone());
            if after.is_none() || rows.len() < 200 || users.len() >= USERS_MAX {
                return Ok(users);
            }
        }
    }

    /// The first wake rows that are due by then.
    async fn wakes(&self, until: Timestamp) -> Result<Vec<WakeRow>, String> {
        let all: Vec<ShardId> = (0..SHARDS_GENERAL + SHARDS_KNOWLEDGE).map(ShardId).collect();
        in_time(STORE_TIMEOUT, self.parts.stores.wake.due(&all, until, None, WAKES_MAX)).await
    }

    /// What runs keeps its row although it is due, so only entities that are not in memory count.
    async fn check_wakes(&self) -> Check {
        let check = check("wakes", "Nothing waits to be taken up").of("I6");
        let now = self.parts.clock.now();
        let overdue_ms = i64::try_from(OVERDUE.as_millis()).unwrap_or(i64::MAX);
        let until = Timestamp::from_millis(now.as_millis() - overdue_ms);
        let rows = match self.wakes(until).await {
            Ok(rows) => rows,
            Err(why) => return check.unknown(why),
        };
        let entities: Vec<EntityId> =
            rows.iter().map(|r| r.entity).collect::<HashSet<_>>().into_iter().collect();
        let places = match self.operator().places(&entities).await {
            Ok(places) => places,
            Err(why) => return check.unknown(why),
        };
        let asleep: HashSet<EntityId> =
            places.iter().filter(|place| place.live.is_none()).map(|place| place.entity).collect();
        let oldest = rows.iter().filter(|row| asleep.contains(&row.entity)).map(|r| r.due).min();
        let Some(oldest) = oldest else {
            let awake = entities.len();
            return check.ok(format!("{awake} entities are due and all of them are in memory"));
        };
        let late = now.since(oldest);
        let names: Vec<EntityId> = asleep.into_iter().collect();
        let found = format!(
            "{} entities are due and not in memory, the oldest for {}: {}",
            names.len(),
            long(late),
            some(&names)
        );
        if late < LONG_OVERDUE {
            let fix =
                "After a start or a fail-over they are taken up at a limited rate: look again.";
            return check.warn(found, fix);
        }
        let fix = "Their node does not take them up: look at its log for `activation failed`, and \
                   at the checks of shards and crashes.";
        check.fail(found, fix)
    }

    async fn check_letters(&self) -> Check {
        let check = check("dead_letters", "No message was given up");
        let list = self.parts.stores.dead_letters.list(None, LETTERS_MAX + 1);
        match in_time(STORE_TIMEOUT, list).await {
            Ok(letters) if letters.is_empty() => check.ok("no dead letters"),
            Ok(letters) => {
                let more = if letters.len() > LETTERS_MAX { "more than " } else { "" };
                let last = letters.last().map(|letter| letter.at.to_string()).unwrap_or_default();
                let count = letters.len().min(LETTERS_MAX);
                let fix = "troupe admin dead-letters shows them; retry them after a fix, or \
                           discard them with a reason.";
                check.warn(format!("{more}{count} dead letters, the last one of {last}"), fix)
            }
            Err(why) => check.unknown(why),
        }
    }
}

fn is_active(row: &TaskRow) -> bool {
    ACTIVE.contains(&row.status.as_str()) && !row.deleted
}
