//! An enrolled machine: who owns it, and what it was given to do.
//!
//! ```text
//! nothing -> registered -> revoked                      the device
//! assigned -> taken -> ended                            one attempt on it
//! ```
//! Durable is what must outlive any node: the registration, its changes, the revocation, and
//! the assignments. Links, capabilities and inputs under way are soft: the device and the Task
//! say them again.
//!
//! Invariants: an execution is on a device once; assignments never exceed the slots; a revoked
//! device takes nothing; an assignment that the device has taken never goes out again.

mod line;

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use troupe_types::{
    Attempt, DeviceId, ErrorType, ExecutionId, MonoTime, TaskId, Timestamp, UserId, Uuid,
};

use crate::task::AttemptToken;

pub use line::{Line, PLACE_KEPT, PLACES_MAX};

/// Executions that run on a device at once, at most.
pub const SLOTS_MAX: u16 = 20;
/// Executions at once, if its owner does not say otherwise.
pub const SLOTS_DEFAULT: u16 = 5;
/// How long a device may be away before its attempts are lost.
pub const LEASE: Duration = Duration::from_secs(30 * 60);
/// No lease ends so soon after the activation that measures it.
pub const LEASE_GRACE: Duration = Duration::from_secs(60);
/// Labels of a device.
const LABELS_MAX: usize = 64;
/// Characters of a name, an alias or a label.
const WORD_CHARS_MAX: usize = 64;

/// What is durable of a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceState {
    /// Who it is; `None`: nobody enrolled under this id.
    pub device: Option<Registration>,
    /// What its owner may change.
    #[serde(default)]
    pub settings: Settings,
    /// No new work, and no link, ever again.
    #[serde(default)]
    pub revoked: bool,
    /// It was given something once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub worked: bool,
    /// Why, unless its owner wanted it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
    /// What it was given, by execution.
    #[serde(default)]
    pub assignments: BTreeMap<ExecutionId, Assigned>,
}

/// Who a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its id.
    pub id: DeviceId,
    /// Whose it is, for good.
    pub owner: UserId,
    /// Its name, unique among its owner's.
    pub name: String,
    /// When it enrolled.
    pub at: Timestamp,
    /// It is a container: it works for this Task alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
}

/// Why a device is gone: what the attempts on it end with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The kind of error.
    #[serde(default = "lost")]
    pub error: ErrorType,
    /// A sentence for people.
    pub text: String,
    /// Nobody is at fault, and what it did is not reached any more: they begin anew elsewhere by
    /// themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
}

const fn lost() -> ErrorType {
    ErrorType::Lost
}

impl Gone {
    /// Nobody knows how the attempts ended.
    #[must_use]
    pub fn lost(text: impl Into<String>) -> Self {
        Self::failed(ErrorType::Lost, text)
    }

    /// They failed, for this reason.
    #[must_use]
    pub fn failed(error: ErrorType, text: impl Into<String>) -> Self {
        Self { error, text: text.into(), anew: false }
    }

    /// They are lost, and begin anew elsewhere.
    #[must_use]
    pub fn anew(text: impl Into<String>) -> Self {
        Self { anew: true, ..Self::lost(text) }
    }
}

/// What an owner may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Another name for people; selectors know it too.
    #[serde(default)]
    pub alias: String,
    /// Labels beside those that the device itself has.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Executions at once; `None`: as many as the device says.
    #[serde(default)]
    pub slots: Option<u16>,
    /// It gets no new work; what runs goes on.
    #[serde(default)]
    pub draining: bool,
}

/// One attempt on a device. `Debug` shows neither its token nor its secrets nor the job.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Assigned {
    /// The try.
    pub attempt: Attempt,
    /// Its Task.
    pub task: TaskId,
    /// Proves that what is said comes from this attempt.
    pub token: AttemptToken,
    /// The Team that asks, `namespace/name`.
    pub team: String,
    /// Who asked, by name.
    pub user: String,
    /// The job as JSON; empty once the device has it.
    #[serde(default)]
    pub spec: String,
    /// SHA-256 of the packages that the job brings (hexadecimal digits): the device may ask for
    /// these, also when it has the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// Sealed secrets by the names that the job calls them.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// The device has it on its disk.
    #[serde(default)]
    pub taken: bool,
    /// Since when.
    pub since: Timestamp,
}

impl fmt::Debug for Assigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assigned")
            .field("attempt", &self.attempt)
            .field("task", &self.task)
            .field("team", &self.team)
            .field("taken", &self.taken)
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

/// One entry of a device's journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DeviceEvent {
    /// It enrolled.
    Registered {
        /// Who it is.
        registration: Registration,
    },
    /// Its owner changed something.
    Changed {
        /// All of it.
        settings: Settings,
    },
    /// It was given an attempt.
    Assigned {
        /// Of this execution.
        execution: ExecutionId,
        /// What.
        assigned: Box<Assigned>,
    },
    /// The attempt is on its disk.
    Taken {
        /// Of this execution.
        execution: ExecutionId,
        /// Which.
        attempt: Attempt,
    },
    /// Nothing of the attempt is on it any more, or counts any more.
    Ended {
        /// Of this execution.
        execution: ExecutionId,
        /// Which.
        attempt: Attempt,
    },
    /// It is not wanted any more.
    Revoked {
        /// Why, unless its owner wanted it so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gone: Option<Gone>,
    },
}

/// Why a device is not given something, or not changed.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum DeviceRefusal {
    /// There is no such device, or it is somebody else's.
    #[error("device not found")]
    NotFound,
    /// It was revoked.
    #[error("the device was revoked")]
    Revoked,
    /// Its owner wants no new work on it.
    #[error("the device takes no new work")]
    Draining,
    /// Every slot is taken.
    #[error("all {slots} slots of the device are taken")]
    Busy {
        /// How many there are.
        slots: u16,
    },
    /// It is a container of another Task.
    #[error("the container works for another Task")]
    OtherTask,
    /// It has another attempt of this execution.
    #[error("the device has another attempt of this")]
    Other,
    /// A field is out of bounds.
    #[error("{message}")]
    Invalid {
        /// Which.
        field: String,
        /// A sentence for people.
        message: String,
    },
}

impl DeviceState {
    /// Folds an entry. Total: what does not fit is ignored.
    pub fn apply(&mut self, event: &DeviceEvent) {
        match event {
            DeviceEvent::Registered { registration } => {
                self.device.get_or_insert_with(|| registration.clone());
            }
            DeviceEvent::Changed { settings } => self.settings.clone_from(settings),
            DeviceEvent::Assigned { execution, assigned } => {
                self.worked = true;
                self.assignments.entry(*execution).or_insert_with(|| (**assigned).clone());
            }
            DeviceEvent::Taken { execution, attempt } => {
                if let Some(held) = self.held_mut(*execution, *attempt) {
                    held.taken = true;
                    held.spec = String::new();
                }
            }
            DeviceEvent::Ended { execution, attempt } => {
                if self.held_mut(*execution, *attempt).is_some() {
                    self.assignments.remove(execution);
                }
            }
            // What it had is ended one by one, once each Task was told.
            DeviceEvent::Revoked { gone } => {
                if !std::mem::replace(&mut self.revoked, true) {
                    self.gone.clone_from(gone);
                }
            }
        }
    }

    fn held_mut(&mut self, execution: ExecutionId, attempt: Attempt) -> Option<&mut Assigned> {
        self.assignments.get_mut(&execution).filter(|held| held.attempt == attempt)
    }

    /// What it has of this attempt.
    #[must_use]
    pub fn held(&self, execution: ExecutionId, attempt: Attempt) -> Option<&Assigned> {
        self.assignments.get(&execution).filter(|held| held.attempt == attempt)
    }

    /// Executions at once, given what the device itself says.
    #[must_use]
    pub fn slots(&self, offered: u16) -> u16 {
        self.settings.slots.unwrap_or(offered).min(offered).clamp(1, SLOTS_MAX)
    }

    /// Enrols it. The same registration again is nothing new.
    ///
    /// # Errors
    /// [`DeviceRefusal::NotFound`]: it is somebody else's; `Revoked`.
    pub fn register(
        &self,
        registration: Registration,
    ) -> Result<Option<DeviceEvent>, DeviceRefusal> {
        match &self.device {
            _ if self.revoked => Err(DeviceRefusal::Revoked),
            None => Ok(Some(DeviceEvent::Registered { registration })),
            Some(known) if known.owner == registration.owner => Ok(None),
            Some(_) => Err(DeviceRefusal::NotFound),
        }
    }

    /// Changes what its owner may change.
    ///
    /// # Errors
    /// [`DeviceRefusal::Invalid`] names the field.
    pub fn change(&self, settings: Settings) -> Result<Option<DeviceEvent>, DeviceRefusal> {
        if self.device.is_none() {
            return Err(DeviceRefusal::NotFound);
        }
        let invalid = |field: &str, message: String| {
            Err(DeviceRefusal::Invalid { field: field.to_owned(), message })
        };
        if settings.slots.is_some_and(|slots| !(1..=SLOTS_MAX).contains(&slots)) {
            return invalid("slots", format!("1 to {SLOTS_MAX} are allowed"));
        }
        if settings.labels.len() > LABELS_MAX {
            return invalid("labels", format!("at most {LABELS_MAX} are allowed"));
        }
        let long = |word: &String| word.chars().count() > WORD_CHARS_MAX;
        if long(&settings.alias) {
            return invalid("alias", format!("at most {WORD_CHARS_MAX} characters"));
        }
        if settings.labels.iter().any(|(key, value)| key.is_empty() || long(key) || long(value)) {
            return invalid("labels", format!("a label has 1 to {WORD_CHARS_MAX} characters"));
        }
        Ok((settings != self.settings).then_some(DeviceEvent::Changed { settings }))
    }

    /// Gives it an attempt of `owner`; `offered`: how many the device says it runs at once.
    ///
    /// # Errors
    /// Why not; nothing was given.
    pub fn assign(
        &self,
        owner: UserId,
        offered: u16,
        execution: ExecutionId,
        assigned: Assigned,
    ) -> Result<Option<DeviceEvent>, DeviceRefusal> {
        let Some(device) = &self.device else { return Err(DeviceRefusal::NotFound) };
        if device.owner != owner {
            return Err(DeviceRefusal::NotFound);
        }
        if self.revoked {
            return Err(DeviceRefusal::Revoked);
        }
        if device.task.is_some_and(|task| task != assigned.task) {
            return Err(DeviceRefusal::OtherTask);
        }
        if self.held(execution, assigned.attempt).is_some() {
            return Ok(None);
        }
        if self.assignments.contains_key(&execution) {
            return Err(DeviceRefusal::Other);
        }
        if self.settings.draining {
            return Err(DeviceRefusal::Draining);
        }
        let slots = self.slots(offered);
        if self.assignments.len() >= usize::from(slots) {
            return Err(DeviceRefusal::Busy { slots });
        }
        let assigned = Box::new(assigned);
        Ok(Some(DeviceEvent::Assigned { execution, assigned }))
    }

    /// Ends an attempt, if it is there.
    #[must_use]
    pub fn end(&self, execution: ExecutionId, attempt: Attempt) -> Option<DeviceEvent> {
        self.held(execution, attempt)?;
        Some(DeviceEvent::Ended { execution, attempt })
    }
}

/// One link of a device, at whatever node it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The link.
    pub session: Uuid,
    /// New with every start of the device's agent.
    pub boot: Uuid,
    /// Rises with every dial of a boot.
    pub dial: u64,
}

impl Connection {
    /// Whether this link takes the place of `old`. Of one boot the later dial wins, wherever it
    /// arrived first; another boot is a newer one, since an agent runs once on its machine.
    #[must_use]
    pub fn supersedes(&self, old: &Self) -> bool {
        self.session == old.session || self.boot != old.boot || self.dial > old.dial
    }
}

/// When the attempts of a device that is away are lost. Measured by one activation on its own
/// clock: anew after each activation, from the last word of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    activated: MonoTime,
    heard: MonoTime,
    length: Duration,
}

impl Lease {
    /// Begins with an activation.
    #[must_use]
    pub const fn new(activated: MonoTime, length: Duration) -> Self {
        Self { activated, heard: activated, length }
    }

    /// The device said something.
    pub fn heard(&mut self, now: MonoTime) {
        self.heard = self.heard.max(now);
    }

    /// How long ago its last word is, as far as this activation knows.
    #[must_use]
    pub fn away(&self, now: MonoTime) -> Duration {
        now.since(self.heard)
    }

    /// Whether it has been away for too long.
    #[must_use]
    pub fn is_over(&self, now: MonoTime) -> bool {
        now.since(self.heard) >= self.length && now.since(self.activated) >= LEASE_GRACE
    }
}

#[cfg(test)]
mod tests;
