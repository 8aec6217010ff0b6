//! Finds a device for a queued attempt: asks the owner's devices, picks one, offers it.
//!
//! The device has the attempt on its disk before the Task says that it started. A Task that
//! came back asks first whether a device has it already, so it runs once.

mod line;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde_json::Map;
use tokio::task::JoinSet;
use troupe_actor::spawn_task;
use troupe_api::device::{DevicePresence, DeviceView};
use troupe_chat::variables;
use troupe_domain::task::{AttemptToken, Command, Execution, RunEvent, TeamPlan};
use troupe_executor::RuntimeKind;
use troupe_resources::selector::{Comparison, Selector, Term};
use troupe_sharding::{Crash, Router};
use troupe_store::Directory;
use troupe_types::{
    Attempt, Clock, DeviceId, ErrorType, ExecutionId, Place, TaskId, UserId, Uuid, Wait,
    limits::ENTRY_BYTES_MAX,
};

use super::{
    actor::TaskActor,
    container,
    effects::Effect,
    internal::TaskInternal,
    job::{Asked, JobAndSecrets, REPO_LABEL, job, previous},
    reads::Reader,
};
use crate::{
    device::{DeviceAddress, DeviceReply, Has, Offer, devices_of},
    git::git_token,
};

/// A Task that waits for a device looks again so often.
const AGAIN: Duration = Duration::from_secs(2);

/// The same for a container that is being made, and for who is the next in a device's line.
const SOON: Duration = Duration::from_millis(400);

/// Why a device refuses what it will refuse again.
const FOR_GOOD: [&str; 4] = ["policy", "no_runtime", "bad_spec", "too_large"];

/// How far the search for a device is.
#[derive(Debug)]
pub(super) struct Placing {
    attempt: Attempt,
    stage: Stage,
    /// It wants its Team's slot, or uses it: something can take it.
    wants_slot: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A search is under way.
    Searching,
    /// A timer runs until the next.
    Resting,
    /// The next search may begin.
    Due,
    /// The next search begins once the Task has a slot of its Team.
    Slotless,
}

impl Placing {
    /// Whether this attempt is why the Task wants a slot.
    pub(super) fn wants_slot(&self, attempt: Attempt) -> bool {
        self.wants_slot && self.attempt == attempt
    }

    /// Whether a search found that a slot is of no use to this attempt now.
    pub(super) fn rests(&self, attempt: Attempt) -> bool {
        self.stage == Stage::Resting && !self.wants_slot(attempt)
    }
}

/// Largest job as it is offered; the rest of an offer is secrets.
const SPEC_BYTES_MAX: usize = ENTRY_BYTES_MAX - 32 * 1024;

/// What a search found. `Debug` shows no token.
pub enum Placed {
    /// The device has it.
    On {
        /// Which.
        device: DeviceId,
        /// It for people.
        place: Place,
        /// What it proves itself with.
        token: AttemptToken,
    },
    /// One could take it; the Task has no slot of its Team yet.
    Slotless,
    /// Why none has it yet.
    Waits(Wait),
    /// It will never run as it is.
    Failed(ErrorType, String),
    /// Nobody knows: look again.
    Unknown,
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On { device, .. } => write!(f, "On({device})"),
            Self::Slotless => f.write_str("Slotless"),
            Self::Waits(wait) => write!(f, "Waits({})", wait.code),
            Self::Failed(_, text) => write!(f, "Failed({text})"),
            Self::Unknown => f.write_str("Unknown"),
        }
    }
}

impl TaskActor {
    /// Whether a search found that only the Team's slot is missing.
    pub(super) fn lacks_slot(&self, execution: ExecutionId, attempt: Attempt) -> bool {
        let placing = self.placing.get(&execution);
        placing.is_some_and(|p| p.attempt == attempt && p.stage == Stage::Slotless)
    }

    /// Has a device looked for, unless that is done already or not due.
    pub(super) fn place(&mut self, execution: ExecutionId, attempt: Attempt) {
        let known = self.placing.get(&execution).filter(|p| p.attempt == attempt);
        if known.is_some_and(|p| matches!(p.stage, Stage::Searching | Stage::Resting)) {
            return;
        }
        let wants_slot = known.is_some_and(|p| p.wants_slot);
        self.placing.insert(execution, Placing { attempt, stage: Stage::Searching, wants_slot });
        self.defer(Effect::Place(execution, attempt));
    }

    /// Looks for a device; the job is made from what is committed.
    pub(super) fn search(&mut self, execution: ExecutionId, attempt: Attempt) {
        let queued = self.state.queued_attempts();
        let shell = queued.into_iter().find(|(e, a, _)| (*e, *a) == (execution, attempt));
        let current = self.state.execution(execution).cloned();
        let known =
            current.zip(self.state.plan().cloned()).zip(self.state.id.zip(self.state.owner));
        let Some(((_, _, shell), ((of, plan), (task, owner)))) = shell.zip(known) else {
            self.placing.remove(&execution);
            return;
        };
        let search = Search {
            task,
            owner,
            user: self.state.owner_name.clone(),
            title: self.state.title.clone(),
            shell,
            plan,
            execution: of,
            turn: self.state.run.as_ref().map(|run| run.turn),
            has_slot: self.slot.is_held(),
            previous: previous(&self.state),
            labels: self.state.labels.clone(),
            grants: self.state.grants.clone(),
            reader: self.reader(),
            router: self.context.router.clone(),
            directory: Arc::clone(&self.context.stores.directory),
            clock: Arc::clone(&self.context.clock),
        };
        let (me, stop) = (self.context.me.clone(), self.context.stop.clone());
        spawn_task("task-place", async move {
            let Some(outcome) = stop.run_until_cancelled(search.run()).await else { return };
            let _ = me.send(TaskInternal::Placed { execution, attempt, outcome });
        });
    }

    pub(super) fn drop_stale_placings(&mut self) {
        let queued = self.state.queued_attempts();
        self.placing.retain(|execution, p| {
            p.stage == Stage::Searching
                || queued.iter().any(|(e, a, _)| e == execution && *a == p.attempt)
        });
    }

    pub(super) fn placed(
        &mut self,
        execution: ExecutionId,
        attempt: Attempt,
        outcome: Placed,
    ) -> Result<(), Crash> {
        self.unsettled = true;
        let mut again = AGAIN;
        let is_current = self.placing.get(&execution).is_some_and(|p| p.attempt == attempt);
        if is_current {
            self.placing.remove(&execution);
        } else if !matches!(outcome, Placed::On { .. }) {
            // A later attempt is looked after by now.
            return Ok(());
        }
        let command = match outcome {
            Placed::On { device, place, token } => {
                let restored = self.factory.options.restored;
                Command::StartOnDevice { execution, attempt, device, place, token, restored }
            }
            Placed::Slotless => {
                let lacks = Placing { attempt, stage: Stage::Slotless, wants_slot: true };
                self.placing.insert(execution, lacks);
                return Ok(());
            }
            Placed::Waits(wait) => {
                let is_next = wait.args.get("ahead").is_some_and(|ahead| ahead == "0");
                again = if wait.code.starts_with("container_") || is_next { SOON } else { AGAIN };
                Command::Waiting { execution, attempt, wait: Some(wait) }
            }
            Placed::Failed(error, text) => {
                tracing::info!(%execution, %text, "an attempt cannot run on any device");
                // It has to begin to end: its error is that of an attempt.
                let start = Command::Start { execution, attempt, place: Place::Cluster };
                if self.accept(start)?.is_ok() {
                    let failed = RunEvent::Failed { error, text };
                    self.run_event(execution, attempt, failed)?;
                }
                return Ok(());
            }
            Placed::Unknown => {
                let keeps_slot = self.slot.is_held();
                self.look_again(execution, attempt, AGAIN, keeps_slot);
                return Ok(());
            }
        };
        let waits = matches!(command, Command::Waiting { .. });
        if let Err(refusal) = self.accept(command)? {
            tracing::warn!(%execution, %refusal, "a device's attempt did not start");
        }
        if waits {
            self.look_again(execution, attempt, again, false);
        }
        Ok(())
    }

    fn look_again(
        &mut self,
        execution: ExecutionId,
        attempt: Attempt,
        after: Duration,
        wants_slot: bool,
    ) {
        self.placing.insert(execution, Placing { attempt, stage: Stage::Resting, wants_slot });
        let (me, stop) = (self.context.me.clone(), self.context.stop.clone());
        spawn_task("task-place-timer", async move {
            tokio::select! {
                () = tokio::time::sleep(after) => {
                    let _ = me.send(TaskInternal::PlaceAgain { execution });
                }
                () = stop.cancelled() => {}
            }
        });
    }

    pub(super) fn place_again(&mut self, execution: ExecutionId) {
        let resting = |p: &&mut Placing| p.stage == Stage::Resting;
        if let Some(placing) = self.placing.get_mut(&execution).filter(resting) {
            placing.stage = Stage::Due;
            self.unsettled = true;
        }
    }
}

/// Label of a Task that names the device or selector that its person wants.
pub const ON_LABEL: &str = "troupe.on";

/// All that a search needs.
pub(super) struct Search {
    pub(super) task: TaskId,
    pub(super) owner: UserId,
    user: String,
    title: String,
    shell: String,
    pub(super) plan: Arc<TeamPlan>,
    pub(super) execution: Execution,
    turn: Option<troupe_types::TurnId>,
    has_slot: bool,
    previous: Option<troupe_types::TurnId>,
    pub(super) labels: BTreeMap<String, String>,
    grants: Vec<serde_json::Value>,
    reader: Reader,
    router: Router,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) clock: Arc<dyn Clock>,
}

/// A device that answered.
struct Candidate {
    view: DeviceView,
    token: Option<AttemptToken>,
    pending: bool,
}

impl Search {
    fn has(&self) -> Has {
        Has { execution: self.execution.id, attempt: self.execution.attempt }
    }

    fn tool(&self) -> String {
        // A kind that is not known is one of its own name.
        let kind = serde_json::from_value::<RuntimeKind>(self.shell.clone().into());
        kind.map_or_else(|_| self.shell.to_lowercase(), |kind| kind.tool())
    }

    pub(super) fn wait(&self, code: &str, more: &[(&str, String)]) -> Placed {
        let mut args = Map::new();
        args.insert("shell".to_owned(), self.shell.clone().into());
        args.insert("tool".to_owned(), self.tool().into());
        for (name, value) in more {
            args.insert((*name).to_owned(), value.clone().into());
        }
        Placed::Waits(Wait { code: code.to_owned(), args })
    }

    async fn run(self) -> Placed {
        let Some((candidates, all_answered)) = self.candidates().await else {
            return Placed::Unknown;
        };
        let has_it = candidates.iter().find_map(|c| Some((&c.view, c.token.clone()?)));
        if let Some((view, token)) = has_it {
            return Placed::On { device: view.id, place: place_of(view), token };
        }
        // One that does not answer may have it.
        if !all_answered || candidates.iter().any(|c| c.pending) {
            return Placed::Unknown;
        }
        let selector = match self.selector() {
            Ok(selector) => selector,
            Err(text) => return Placed::Failed(ErrorType::InvalidParameter, text),
        };
        let contained = selector.as_ref().is_some_and(container::is_wanted);
        if candidates.iter().all(|c| c.view.task_id.is_some() != contained) {
            return match contained {
                true => self.want_container().await,
                false => self.wait("no_device", &[]),
            };
        }
        let fits = |view: &DeviceView| {
            view.task_id.is_some() == contained
                && view.tools.iter().any(|tool| tool.name == self.tool())
                && selector.as_ref().is_none_or(|selector| fits(selector, view))
        };
        let on = selector.as_ref().map(ToString::to_string).unwrap_or_default();
        let is_there = |c: &&Candidate| {
            c.view.status == DevicePresence::Online && c.view.task_id.is_some() == contained
        };
        let online: Vec<&Candidate> = candidates.iter().filter(is_there).collect();
        if online.is_empty() && contained {
            return self.want_container().await;
        }
        if online.is_empty() {
            return self.wait("no_device_online", &[("on", on)]);
        }
        let fitting: Vec<&Candidate> = online.into_iter().filter(|c| fits(&c.view)).collect();
        if fitting.is_empty() && contained {
            let text = format!("the container has no {} as {on} wants it", self.tool());
            return Placed::Failed(ErrorType::ContainerError, text);
        }
        if fitting.is_empty() {
            return self.wait("no_device_fits", &[("on", on)]);
        }
        let fitting: Vec<&DeviceView> = fitting.iter().map(|c| &c.view).collect();
        let mut free = match self.stand_in_line(&fitting).await {
            Ok(free) => free,
            Err(placed) => return placed,
        };
        if !self.has_slot {
            // Who waits for its Team keeps nobody from the device.
            self.leave_lines(&fitting);
            return Placed::Slotless;
        }
        // The default device first, then the one with the most room, then by name.
        free.sort_by_key(|v| {
            (!v.is_default, std::cmp::Reverse(v.slots - v.slots_used), v.name.clone())
        });
        let placed = self.offer_to(&free, free.len() == fitting.len()).await;
        self.leave_lines(&fitting);
        placed
    }

    /// What a device would be given.
    async fn job(&self) -> Result<JobAndSecrets, Placed> {
        let found = self.reader.conversation(&self.plan, self.execution.id).await;
        let Ok(found) = found else { return Err(Placed::Unknown) };
        let Some(conversation) = found else {
            tracing::warn!(task = %self.task, "the history lacks what was asked");
            return Err(Placed::Unknown);
        };
        let git_token = match self.labels.get(REPO_LABEL) {
            None => None,
            Some(url) => match git_token(self.directory.as_ref(), self.owner, url).await {
                Ok(token) => token,
                Err(error) => {
                    tracing::warn!(%error, "a git token was not read");
                    return Err(Placed::Unknown);
                }
            },
        };
        let (task, user) = ((self.task, &*self.title), (self.owner, &*self.user));
        let asked = Asked {
            git_token: git_token.as_ref(),
            variables: &variables::known(&self.plan, task, user),
            task: self.task,
            turn: self.turn,
            previous: self.previous,
            plan: &self.plan,
            execution: &self.execution,
            shell: &self.shell,
            labels: &self.labels,
            grants: &self.grants,
        };
        job(&asked, conversation).map_err(|text| Placed::Failed(ErrorType::InvalidParameter, text))
    }

    /// Offers it to one after the other; `all`: no others fit.
    async fn offer_to(&self, free: &[&DeviceView], all: bool) -> Placed {
        let (job, secrets) = match self.job().await {
            Ok(job) => job,
            Err(placed) => return placed,
        };
        let Ok(spec) = serde_json::to_string(&job) else {
            let text = "the job cannot be written".to_owned();
            return Placed::Failed(ErrorType::GenericError, text);
        };
        // It travels as a text within a text.
        let length = serde_json::to_string(&spec).map_or(usize::MAX, |text| text.len());
        if length > SPEC_BYTES_MAX {
            let (has, max) = (length / 1024, SPEC_BYTES_MAX / 1024);
            let text = format!(
                "the job has {has} KiB of instructions, Skills and history, {max} are allowed"
            );
            return Placed::Failed(ErrorType::PayloadTooLarge, text);
        }
        let Has { execution, attempt } = self.has();
        let (mut refusals, mut never) = (Vec::new(), all);
        for view in free {
            let offer = Offer {
                execution,
                attempt,
                task: self.task,
                owner: self.owner,
                token: fresh_token(),
                team: format!("{}/{}", self.plan.namespace, self.plan.name),
                user: self.user.clone(),
                spec: spec.clone(),
                secrets: secrets.clone(),
            };
            match DeviceAddress::new(self.router.clone(), view.id).offer(offer).await {
                Ok(DeviceReply::Offered { token }) => {
                    return Placed::On { device: view.id, place: place_of(view), token };
                }
                Ok(DeviceReply::Declined { reason, message }) => {
                    tracing::info!(device = %view.id, %reason, %message, "a device declined");
                    never &= FOR_GOOD.contains(&&*reason);
                    refusals.push((name_of(view), reason, message));
                }
                Ok(_) | Err(_) => return Placed::Unknown,
            }
        }
        let Some((device, reason, text)) = refusals.last().cloned() else {
            return Placed::Unknown;
        };
        if never {
            let told = refusals.iter().map(|(device, _, text)| format!("{device}: {text}"));
            let text = told.collect::<Vec<_>>().join("; ");
            return Placed::Failed(ErrorType::Forbidden, text);
        }
        self.wait("device_refused", &[("device", device), ("reason", reason), ("text", text)])
    }

    fn selector(&self) -> Result<Option<Selector>, String> {
        let member = self.plan.member(self.execution.member);
        let on = self
            .labels
            .get(ON_LABEL)
            .map(String::as_str)
            .or_else(|| member.and_then(|m| m.on.as_deref()));
        on.map(|text| Selector::parse(text).map_err(|error| format!("on: {error}"))).transpose()
    }

    /// All devices of the owner that are not revoked, and whether each of them answered.
    async fn candidates(&self) -> Option<(Vec<Candidate>, bool)> {
        let rows = devices_of(self.directory.as_ref(), self.owner).await;
        let rows =
            rows.inspect_err(|error| tracing::warn!(%error, "devices were not listed")).ok()?;
        let mut asking = JoinSet::new();
        for row in rows {
            let is_others = row.task.is_some_and(|task| task != self.task);
            if row.revoked || row.owner != self.owner || is_others {
                continue;
            }
            let address = DeviceAddress::new(self.router.clone(), row.device);
            let has = self.has();
            asking.spawn(async move { (row, address.probe(Some(has)).await) });
        }
        let (mut candidates, mut all) = (Vec::new(), true);
        while let Some(answered) = asking.join_next().await {
            match answered {
                Ok((row, Ok(DeviceReply::Probed { view: Some(mut view), token, pending, .. }))) => {
                    view.is_default = row.is_default;
                    candidates.push(Candidate { view: *view, token, pending });
                }
                Ok((_, Ok(DeviceReply::Probed { view: None, .. }))) => {}
                Ok((row, other)) => {
                    tracing::debug!(device = %row.device, ?other, "a device did not answer");
                    all = false;
                }
                Err(_) => all = false,
            }
        }
        Some((candidates, all))
    }
}

/// 244 random bits.
fn fresh_token() -> AttemptToken {
    AttemptToken::new(format!("trx_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
}

fn place_of(view: &DeviceView) -> Place {
    match view.task_id {
        Some(_) => Place::Container { id: view.name.clone() },
        None => Place::Device { id: view.id.to_string(), name: name_of(view) },
    }
}

fn name_of(view: &DeviceView) -> String {
    if view.alias.is_empty() { view.name.clone() } else { view.alias.clone() }
}

/// Whether a device is what a selector wants.
fn fits(selector: &Selector, view: &DeviceView) -> bool {
    selector.terms().iter().all(|term| match term {
        Term::Device(_) if view.task_id.is_some() => true,
        Term::Device(name) => [&view.name, &view.alias, &view.id.to_string()].contains(&name),
        Term::Property { key, value } => match key.as_str() {
            "os" => view.os == *value,
            "arch" => view.arch == *value,
            "host" => view.host == *value,
            other => view.labels.get(other) == Some(value),
        },
        Term::Tool { name, version } => view.tools.iter().any(|tool| {
            tool.name == *name
                && version.as_ref().is_none_or(|(how, than)| compares(&tool.version, *how, than))
        }),
        Term::Label(label) => view.labels.contains_key(label),
    })
}

/// Versions are compared number by number; what is missing counts as 0.
fn compares(version: &str, how: Comparison, than: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    };
    let (mut a, mut b) = (numbers(version), numbers(than));
    if a.is_empty() {
        return false;
    }
    let longest = a.len().max(b.len());
    a.resize(longest, 0);
    b.resize(longest, 0);
    match how {
        Comparison::AtLeast => a >= b,
        Comparison::Above => a > b,
        Comparison::AtMost => a <= b,
        Comparison::Below => a < b,
        Comparison::Exactly => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_numbers() {
        for (version, how, than, holds) in [
            ("2.1.330", Comparison::AtLeast, "2", true),
            ("2.1.330", Comparison::AtLeast, "2.1.331", false),
            ("10.0", Comparison::Above, "9.9", true),
            ("2.0.0", Comparison::Exactly, "2", true),
            ("1.9", Comparison::Below, "2", true),
            ("", Comparison::AtLeast, "0", false),
        ] {
            assert_eq!(compares(version, how, than), holds, "{version} {how:?} {than}");
        }
    }
}
