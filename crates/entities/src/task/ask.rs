//! What a Task is asked over the Router: versionless JSON today, envelopes between nodes later.

use serde::{Deserialize, Serialize};
use troupe_api::task::{FramesPage, JoinAnswer, TaskView, TurnsPage, WhyAnswer};
use troupe_domain::task::{Ack, Command};
use troupe_types::{Frame, FrameSeq, LogId, Ordinal, TurnId, Uuid};

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
    /// The Team has (or may have) a slot for it now.
    SlotChanged,
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
    /// Answer to `Why`.
    Why {
        /// The words.
        answer: WhyAnswer,
    },
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
