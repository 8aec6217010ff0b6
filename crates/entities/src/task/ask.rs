//! What a Task is asked over the Router: versionless JSON today, envelopes between nodes later.

use serde::{Deserialize, Serialize};
use troupe_api::task::{FramesPage, JoinAnswer, OpenAsk, TaskView, TurnsPage, WhyAnswer};
use troupe_domain::{
    device::Gone,
    task::{Ack, AttemptToken, Command, RunEvent},
};
use troupe_types::{Attempt, ExecutionId, Frame, FrameSeq, LogId, Ordinal, OutSeq, TurnId, Uuid};

/// A question or command to a Task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum TaskAsk {
    /// A person's command.
    Command {
        /// Which.
        command: Box<Command>,
    },
    /// A person passes a gate; the Task itself looks up the texts of the hand-off.
    Confirm {
        /// The person's key.
        key: Uuid,
        /// Replaces the automatic hand-off.
        message: Option<String>,
    },
    /// The Task without its transcript.
    View,
    /// The Task with its newest turns.
    Join {
        /// How many.
        turns: u32,
        /// The contract's way: rows above this ordinal.
        after_message_id: Option<Ordinal>,
    },
    /// Older turns.
    Turns {
        /// Those before this one.
        before: Option<TurnId>,
        /// How many.
        limit: u32,
    },
    /// Frames after a seq.
    Frames {
        /// The seq.
        after: FrameSeq,
        /// How many.
        limit: u32,
    },
    /// The same, as frames: for followers that catch up.
    Raw {
        /// The seq.
        after: FrameSeq,
        /// How many.
        limit: u32,
    },
    /// Why it waits or what it does.
    Why,
    /// What its agents wait for.
    Asks,
    /// The Team has (or may have) a slot for it now.
    SlotChanged,
    /// A device says what an attempt of this Task put out; answered once it is committed.
    DeviceOutput {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// Proves that the device has it.
        token: AttemptToken,
        /// Number of the first of them.
        first: OutSeq,
        /// What, in order and without gaps.
        events: Vec<RunEvent>,
    },
    /// A device asks how an attempt stands, and what there is for it.
    DeviceCheck {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// Proves that the device has it.
        token: AttemptToken,
    },
    /// Nothing of an attempt runs on its device any more.
    DeviceEnded {
        /// The execution.
        execution: ExecutionId,
        /// The attempt.
        attempt: Attempt,
        /// Proves that the device had it.
        token: AttemptToken,
        /// Why; the text is mostly empty.
        #[serde(flatten)]
        gone: Gone,
    },
}

impl TaskAsk {
    /// Whether a second owner may be given it although the first one may have handled it: what
    /// only reads, and what the Task knows by a key or finds done.
    #[must_use]
    pub fn may_repeat(&self) -> bool {
        let Self::Command { command } = self else { return true };
        matches!(
            **command,
            Command::Send(_)
                | Command::Edit { .. }
                | Command::Confirm { .. }
                | Command::Repeat { .. }
                | Command::Cancel
                | Command::Answer { .. }
                | Command::Update { .. }
        )
    }
}

/// The answer to a [`TaskAsk`] of the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum TaskReply {
    /// A command was accepted and is durable.
    Ack {
        /// What to tell the person.
        ack: Ack,
    },
    /// Answer to `View`.
    View {
        /// The Task.
        view: Box<TaskView>,
    },
    /// Answer to `Join`.
    Join {
        /// The Task and its turns.
        answer: Box<JoinAnswer>,
    },
    /// Answer to `Turns`.
    Turns {
        /// The page.
        page: TurnsPage,
    },
    /// Answer to `Frames`.
    Frames {
        /// The page.
        page: FramesPage,
    },
    /// Answer to `Raw`.
    Raw {
        /// In order, from the frame after `after`.
        frames: Vec<Frame>,
    },
    /// Answer to `DeviceOutput`: it is committed, or will never be needed.
    DeviceOutput {
        /// Whether the attempt still counts.
        live: bool,
    },
    /// Answer to `DeviceCheck`.
    DeviceCheck {
        /// How it stands.
        checked: DeviceChecked,
    },
    /// Answer to `Why`.
    Why {
        /// The words.
        answer: WhyAnswer,
    },
    /// Answer to `Asks`.
    Asks {
        /// Oldest first.
        asks: Vec<OpenAsk>,
    },
}

/// How an attempt on a device stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceChecked {
    /// It still counts; else the device is to stop it.
    pub live: bool,
    /// Answers of persons, the device's to take. Known ones are told again.
    #[serde(default)]
    pub inputs: Vec<DeviceInput>,
}

/// An answer for a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInput {
    /// Names it.
    pub id: Uuid,
    /// `approval` or `answer`.
    pub kind: String,
    /// The runtime's name of what is answered.
    pub name: String,
    /// JSON.
    pub body: String,
}

/// From where a subscriber wants frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeAsk {
    /// It has everything up to here.
    pub after: FrameSeq,
}

/// What a subscription begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeReply {
    /// This history of frames.
    pub log: LogId,
    /// The last committed frame.
    pub head: FrameSeq,
    /// `false`: the frames after `after` are no longer in memory; read pages first, then
    /// subscribe again. Nothing follows then.
    pub following: bool,
}
