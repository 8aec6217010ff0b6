//! What a device is asked over the Router.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use troupe_api::device::{DevicePath, DeviceTool, DeviceView, LinkSpan};
use troupe_domain::{
    device::{Connection, DeviceRefusal, Gone, Registration, Settings},
    task::AttemptToken,
};
use troupe_types::{Attempt, ExecutionId, TaskId, UserId, Uuid};

/// What a device is and can do, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `linux`..
    pub os: String,
    /// `x86_64`..
    pub arch: String,
    /// What the machine calls itself.
    pub host: String,
    /// What was found on it.
    pub tools: Vec<DeviceTool>,
    /// Labels of its own.
    pub labels: BTreeMap<String, String>,
    /// Executions at once.
    pub slots: u16,
    /// It takes no new work now.
    pub draining: bool,
}

/// One attempt that a device has when it comes (back).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Has {
    /// The execution.
    pub execution: ExecutionId,
    /// The try.
    pub attempt: Attempt,
}

/// A link came up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Which.
    pub connection: Connection,
    /// The node where it ends.
    pub node: String,
    /// The agent's version.
    pub build: String,
    /// What the device can do.
    pub found: Found,
    /// What it has.
    pub has: Vec<Has>,
    /// When it was linked before, oldest first, as it says itself.
    #[serde(default)]
    pub links: Vec<LinkSpan>,
    /// The session passes on when an attempt begins. Those of older nodes do not.
    #[serde(default)]
    pub begins: bool,
}

/// A Task wants an attempt run.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The execution.
    pub execution: ExecutionId,
    /// The try.
    pub attempt: Attempt,
    /// The Task.
    pub task: TaskId,
    /// Whose it is: only the device's owner may.
    pub owner: UserId,
    /// What the device is to prove itself with: secret.
    pub token: AttemptToken,
    /// The Team, `namespace/name`.
    pub team: String,
    /// Who asked, by name.
    pub user: String,
    /// The job as JSON.
    pub spec: String,
    /// Sealed secrets by name.
    pub secrets: BTreeMap<String, String>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("execution", &self.execution)
            .field("attempt", &self.attempt)
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

/// What became of something that a device was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "settled", rename_all = "snake_case")]
pub enum Settled {
    /// An assignment is on its disk.
    Taken {
        /// Which.
        has: Has,
        /// The session wants to know whether the device may begin: one that was given up is
        /// refused. Sessions of older nodes know of no refusal.
        #[serde(default)]
        begins: bool,
    },
    /// It does not run it.
    Refused {
        /// Which.
        has: Has,
        /// `policy`, `no_runtime`..
        reason: String,
        /// A sentence for people.
        message: String,
    },
    /// Nothing of it runs any more, and all its output is committed.
    Ended {
        /// Which.
        has: Has,
        /// A sentence for people; mostly empty.
        message: String,
    },
    /// An input was taken, or came too late.
    Input {
        /// Which.
        id: Uuid,
    },
}

/// A question to a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum DeviceAsk {
    /// It enrolled.
    Register {
        /// Who it is.
        registration: Registration,
    },
    /// A link came up.
    Connect {
        /// Which, and with what.
        hello: Box<Hello>,
    },
    /// A link is gone.
    Disconnect {
        /// Which.
        session: Uuid,
    },
    /// It can other things now.
    Capable {
        /// Of this link.
        session: Uuid,
        /// What.
        found: Box<Found>,
    },
    /// What is there for the device? Held for some seconds while there is nothing.
    Next {
        /// Of this link.
        session: Uuid,
        /// It has everything up to here.
        after: u64,
        /// How the device is linked now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<DevicePath>,
    },
    /// What became of something.
    Settled {
        /// Of this link.
        session: Uuid,
        /// What.
        settled: Settled,
    },
    /// The device started anew: its secrets are gone.
    Secrets {
        /// Of this link.
        session: Uuid,
        /// Whose.
        has: Has,
    },
    /// Whether the job of an attempt brings a package. `Ok`, or `NotFound`.
    Package {
        /// Of this link.
        session: Uuid,
        /// Whose job.
        has: Has,
        /// SHA-256 of the package, in hexadecimal digits.
        hash: String,
    },
    /// A Task wants an attempt run. Answered when it is on the device's disk.
    Offer {
        /// What.
        offer: Box<Offer>,
    },
    /// What it is, and whether it has this attempt.
    Probe {
        /// The attempt.
        has: Option<Has>,
    },
    /// The Task has something to say about an attempt: ask it.
    Poke {
        /// Which.
        has: Has,
    },
    /// An execution waits for a slot, as long as this is asked again.
    Wait {
        /// Which.
        execution: ExecutionId,
        /// It does not wait any more.
        #[serde(default)]
        leaves: bool,
    },
    /// Its owner changes something.
    Change {
        /// All of it.
        settings: Settings,
    },
    /// It is taken out for good.
    Revoke {
        /// Why, unless its owner wants it so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gone: Option<Gone>,
    },
}

/// What a device is told.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "to_device", rename_all = "snake_case")]
pub enum ToDevice {
    /// Run this.
    Assign(Box<Work>),
    /// Something for a running attempt.
    Input {
        /// Whose.
        has: Has,
        /// Known by it when it comes twice.
        id: Uuid,
        /// `approval`, `answer`, `cancel`.
        kind: String,
        /// The runtime's name of what is answered.
        name: String,
        /// JSON.
        body: String,
    },
    /// Its Task wants it run, if it does not yet. Only for sessions that say that they know it.
    Begin {
        /// What.
        has: Has,
    },
    /// Stop and delete it.
    Forget {
        /// What.
        has: Has,
        /// A sentence for people.
        reason: String,
    },
    /// No new work, or new work again.
    Drain {
        /// Which.
        on: bool,
    },
    /// Not wanted any more.
    Revoked,
    /// Another link took the place of this one.
    Replaced,
}

impl fmt::Debug for ToDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assign(work) => write!(f, "Assign({:?})", work.has),
            Self::Input { has, kind, .. } => write!(f, "Input({kind} of {has:?})"),
            Self::Begin { has } => write!(f, "Begin({has:?})"),
            Self::Forget { has, .. } => write!(f, "Forget({has:?})"),
            Self::Drain { on } => write!(f, "Drain({on})"),
            Self::Revoked => f.write_str("Revoked"),
            Self::Replaced => f.write_str("Replaced"),
        }
    }
}

/// An assignment with its secrets open.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Which.
    pub has: Has,
    /// Its Task.
    pub task: TaskId,
    /// Secret.
    pub token: AttemptToken,
    /// The Team, `namespace/name`.
    pub team: String,
    /// Who asked, by name.
    pub user: String,
    /// The job as JSON.
    pub spec: String,
    /// Secrets by name.
    pub secrets: BTreeMap<String, String>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({:?} of {})", self.has, self.task)
    }
}

/// Something for the device, with its number on this link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbered {
    /// From 1.
    pub number: u64,
    /// What.
    pub what: ToDevice,
}

/// An attempt that the device may speak for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Which.
    pub has: Has,
    /// Its Task.
    pub task: TaskId,
    /// Secret.
    pub token: AttemptToken,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({:?} of {})", self.has, self.task)
    }
}

/// The answer to a [`DeviceAsk`]. `Debug` shows no token and no secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum DeviceReply {
    /// Done, and durable where it has to be.
    Ok,
    /// To `Connect`: what the device may speak for.
    Connected {
        /// All of it.
        running: Vec<Running>,
        /// It will be said of what the device has when it begins. Older entities do not.
        #[serde(default)]
        begins: bool,
    },
    /// To `Next`.
    Next {
        /// In order.
        commands: Vec<Numbered>,
    },
    /// To `Secrets`.
    Secrets {
        /// The attempt's token.
        token: AttemptToken,
        /// By name.
        secrets: BTreeMap<String, String>,
    },
    /// To `Offer`: the device has it; its token (that of the first offer).
    Offered {
        /// Secret.
        token: AttemptToken,
    },
    /// To `Offer`: it does not run it.
    Declined {
        /// `away`, `policy`, `no_runtime`, `busy`, `draining`, `no_answer`..
        reason: String,
        /// A sentence for people.
        message: String,
    },
    /// To `Wait`.
    InLine {
        /// How many are before it.
        ahead: u64,
    },
    /// To `Probe`.
    Probed {
        /// The device, if it enrolled.
        view: Option<Box<DeviceView>>,
        /// Whose it is.
        owner: Option<UserId>,
        /// Settings as they are.
        settings: Settings,
        /// The token of the attempt that was asked for, if the device has it on its disk.
        token: Option<AttemptToken>,
        /// It was given that attempt and has not said yet whether it takes it.
        pending: bool,
        /// It was given something once. Older nodes do not say so.
        #[serde(default)]
        worked: bool,
    },
    /// Refused; nothing happened.
    Refused {
        /// Why.
        refusal: DeviceRefusal,
    },
    /// The link is not the device's link any more: end it.
    Stale,
}

impl fmt::Debug for DeviceReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("Ok"),
            Self::Connected { running, .. } => write!(f, "Connected({running:?})"),
            Self::Next { commands } => write!(f, "Next({commands:?})"),
            Self::Secrets { secrets, .. } => write!(f, "Secrets({:?})", secrets.keys()),
            Self::Offered { .. } => f.write_str("Offered"),
            Self::InLine { ahead } => write!(f, "InLine({ahead})"),
            Self::Declined { reason, message } => write!(f, "Declined({reason}: {message})"),
            Self::Probed { view, token, pending, .. } => f
                .debug_struct("Probed")
                .field("device", &view.as_ref().map(|view| view.id))
                .field("has", &token.is_some())
                .field("pending", pending)
                .finish_non_exhaustive(),
            Self::Refused { refusal } => write!(f, "Refused({refusal:?})"),
            Self::Stale => f.write_str("Stale"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_and_no_secret_shows() {
        let has = Has { execution: ExecutionId::from_uuid(Uuid::nil()), attempt: Attempt(1) };
        let task = TaskId::from_uuid(Uuid::nil());
        let token = AttemptToken::new("trx_hidden".to_owned());
        let hidden = BTreeMap::from([("key".to_owned(), "hidden".to_owned())]);
        let work = Work {
            has,
            task,
            token: token.clone(),
            team: "ns/team".to_owned(),
            user: "ada".to_owned(),
            spec: "hidden".to_owned(),
            secrets: hidden.clone(),
        };
        let what = ToDevice::Assign(Box::new(work.clone()));
        let running = Running { has, task, token: token.clone() };
        let replies = [
            DeviceReply::Connected { running: vec![running], begins: true },
            DeviceReply::Next { commands: vec![Numbered { number: 1, what }] },
            DeviceReply::Secrets { token: token.clone(), secrets: hidden },
            DeviceReply::Offered { token: token.clone() },
            DeviceReply::Probed {
                view: None,
                owner: None,
                settings: Settings::default(),
                token: Some(token),
                pending: false,
                worked: false,
            },
        ];
        let shown = format!("{work:?} {replies:?}");
        assert!(shown.contains("Probed") && !shown.contains("hidden"), "{shown}");
    }
}
