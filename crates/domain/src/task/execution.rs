//! One assistant message being produced, and its attempts.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use troupe_types::{
    Attempt, DeviceId, ErrorType, ExecutionId, FrameSeq, MessageId, MessageKind, Ordinal, OutSeq,
    RunStep, Timestamp, Uuid, Wait,
};

use super::{command::Answer, leader::LeaderDecision};

/// Frames of terminal attempts that are kept per execution; more are dropped.
pub const LATE_FRAMES_MAX: u32 = 256;
/// Blocks of one execution that a runner may have open under a name at once.
pub const NAMED_BLOCKS_MAX: usize = 1_024;
/// Expired approvals and questions of one execution that are remembered for late answers.
const EXPIRED_MAX: usize = 64;
/// Attempts before the current one whose late output can still be placed.
const PAST_ATTEMPTS_MAX: usize = 4;

/// How far an attempt is. The last four are final (I9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// Planned; waits for a slot, a device, a retry time.
    Queued,
    /// Handed to a runtime that has not answered yet.
    Starting,
    /// Under way.
    Running,
    /// Waits for an approval or an answer of a person.
    Waiting,
    /// Ended well.
    Done,
    /// Ended badly.
    Failed,
    /// Stopped by a person.
    Cancelled,
    /// Its runner is gone.
    Lost,
}

impl AttemptState {
    /// Nothing changes it any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled | Self::Lost)
    }

    /// A runner works on it.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Waiting)
    }
}

/// What a member is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Work {
    /// An answer to the conversation.
    Answer,
    /// The answer of a pipeline stage, from its hand-off (or the person's message).
    Stage {
        /// From 0.
        stage: u32,
    },
    /// route: a `choose_member` decision.
    Choose,
    /// coordinate: a `split_work` decision.
    Split,
    /// coordinate: one work item.
    Item {
        /// From 0.
        item: u32,
        /// What the leader wants.
        instructions: String,
    },
    /// coordinate: the answer over all items.
    Merge,
    /// collaborate: a contribution; `conclude` is on offer.
    Discuss {
        /// From 1.
        round: u32,
    },
    /// collaborate: the last word.
    Conclusion,
}

/// A tool call of the last finished model call that has no result yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCall {
    /// The provider's id.
    pub tool_use_id: String,
    /// Its block.
    pub block_id: String,
}

/// Where an attempt runs that does not run in a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRun {
    /// The device.
    pub device: DeviceId,
    /// SHA-256 of what it proves itself with, hex.
    pub token: String,
    /// The restore that the store came from when it was started, if it had come from one. Output
    /// of one from before another restore may have been acknowledged and then be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Uuid>,
}

impl DeviceRun {
    pub(in crate::task) fn new(device: DeviceId, token: &str, restored: Option<Uuid>) -> Self {
        Self { device, token: token.to_owned(), restored }
    }
}

/// What a device proves itself with for one attempt: secret, so `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptToken(String);

impl AttemptToken {
    /// From its text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Its text, for the device alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it: SHA-256, hex.
    #[must_use]
    pub fn hash(&self) -> String {
        super::text::hex(&Sha256::digest(self.0.as_bytes()))
    }
}

impl fmt::Debug for AttemptToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttemptToken(..)")
    }
}

/// An approval or a question that its runner waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The runner's own name of it.
    pub name: String,
    /// A question, not an approval.
    #[serde(default)]
    pub question: bool,
    /// What "always" would grant for the Task, as the runtime says it; absent: not on offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always: Option<serde_json::Value>,
    /// The answer on its way, by its name.
    #[serde(default)]
    pub answer: Option<(Uuid, Answer)>,
    /// When it ends without an answer; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// It did, and the word of it is on its way, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<Uuid>,
}

impl Asked {
    /// A person is awaited.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.answer.is_none() && self.expired.is_none()
    }

    /// Its time is over.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// One assistant message being produced by one member through one runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// The row it fills.
    pub message: MessageId,
    /// Ordinal of that row.
    pub ordinal: Ordinal,
    /// What the row is for.
    pub kind: MessageKind,
    /// Where in the run it belongs.
    pub step: Option<RunStep>,
    /// Index of the member.
    pub member: u32,
    /// What the member is asked for.
    pub work: Work,
    /// The current attempt.
    pub attempt: Attempt,
    /// How far it is.
    pub state: AttemptState,
    /// Why it waits: while queued, or while its model is not asked yet (see `retry_at`).
    pub wait: Option<Wait>,
    /// Attempts in a row that were lost without a finished step.
    pub lost_in_a_row: u32,
    /// What a next attempt that goes on by itself keeps: the last frame of the last finished step.
    pub kept: FrameSeq,
    /// Code points of text up to `kept`.
    pub kept_offset: u64,
    /// Steps finished so far (all attempts that keep).
    pub steps: u32,
    /// Code points of the valid text so far.
    pub offset: u64,
    /// Number of the next block of the current attempt, from 1.
    pub next_block: u32,
    /// Tool calls of the last finished model call without a result.
    pub open_calls: Vec<OpenCall>,
    /// High-water mark of what the executor sent for the current attempt.
    pub out_seq: OutSeq,
    /// How the last terminal attempt failed.
    pub error: Option<ErrorType>,
    /// collaborate: the member has nothing to add. `None` until its attempt is done.
    pub concluded: Option<bool>,
    /// What the last done attempt decided.
    #[serde(default)]
    pub decision: Option<LeaderDecision>,
    /// The block that a further piece of the same sort goes into.
    #[serde(default)]
    pub tail: Option<Tail>,
    /// Blocks by the runner's own names of them; final ones leave when a step ends.
    #[serde(default)]
    pub names: BTreeMap<String, NamedBlock>,
    /// Where earlier attempts stopped counting.
    #[serde(default)]
    pub past: BTreeMap<Attempt, Track>,
    /// Late frames kept so far.
    #[serde(default)]
    pub late: u32,
    /// The device that runs the current attempt, once it was started on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceRun>,
    /// Approvals and questions that are open, by block.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asks: BTreeMap<String, Asked>,
    /// When approvals and questions expired, by block: for those who answer too late.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expired: BTreeMap<String, Timestamp>,
    /// When its model may be asked again, until something comes of it. The attempt that goes on
    /// by itself keeps to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// The code of the wait until then, for the attempt that goes on by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_code: Option<String>,
}

/// The two sorts of streamed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Part of the answer.
    Text,
    /// What the model thought.
    Thinking,
}

/// The text block that still grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// What goes into it.
    pub sort: Sort,
    /// Its id.
    pub block_id: String,
}

/// A block that its runner knows by a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedBlock {
    /// The Task's id of it.
    pub block_id: String,
    /// Nothing further happens to it.
    #[serde(default)]
    pub is_final: bool,
}

/// Counters of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// Number of the next block, from 1.
    pub next_block: u32,
    /// High-water mark of what the executor sent.
    pub out_seq: OutSeq,
    /// The block that a further piece goes into.
    pub tail: Option<Tail>,
}

impl Execution {
    /// A new one, its first attempt queued.
    #[must_use]
    pub fn planned(
        id: ExecutionId,
        message: MessageId,
        ordinal: Ordinal,
        kind: MessageKind,
        step: Option<RunStep>,
        member: u32,
        work: Work,
    ) -> Self {
        Self {
            id,
            message,
            ordinal,
            kind,
            step,
            member,
            work,
            attempt: Attempt::FIRST,
            state: AttemptState::Queued,
            wait: None,
            lost_in_a_row: 0,
            kept: FrameSeq::ZERO,
            kept_offset: 0,
            steps: 0,
            offset: 0,
            next_block: 1,
            open_calls: Vec::new(),
            out_seq: OutSeq::ZERO,
            error: None,
            concluded: None,
            decision: None,
            tail: None,
            names: BTreeMap::new(),
            past: BTreeMap::new(),
            late: 0,
            device: None,
            asks: BTreeMap::new(),
            expired: BTreeMap::new(),
            retry_at: None,
            retry_code: None,
        }
    }

    /// Whether this attempt is the current one and not over.
    #[must_use]
    pub fn is_open(&self, attempt: Attempt) -> bool {
        self.attempt == attempt && !self.state.is_terminal()
    }

    /// Whether this attempt is the current one and has a runner.
    #[must_use]
    pub fn is_live(&self, attempt: Attempt) -> bool {
        self.attempt == attempt && self.state.is_live()
    }

    /// Whether a person may have it tried again.
    #[must_use]
    pub const fn can_retry(&self) -> bool {
        matches!(self.state, AttemptState::Failed | AttemptState::Cancelled | AttemptState::Lost)
    }

    /// Counters of an attempt, if they are still known.
    #[must_use]
    pub fn track(&self, attempt: Attempt) -> Option<Track> {
        if attempt == self.attempt {
            let Self { next_block, out_seq, .. } = *self;
            return Some(Track { next_block, out_seq, tail: self.tail.clone() });
        }
        self.past.get(&attempt).cloned()
    }

    /// Puts back the counters of an attempt that [`Execution::track`] knows.
    pub(super) fn set_track(&mut self, attempt: Attempt, track: Track) {
        if attempt == self.attempt {
            self.next_block = track.next_block;
            self.out_seq = track.out_seq;
            self.tail = track.tail;
        } else if let Some(past) = self.past.get_mut(&attempt) {
            *past = track;
        }
    }

    /// Its model is asked again at `at`, and not before.
    pub(super) fn held(&mut self, at: Timestamp, wait: Option<&Wait>) {
        if self.state.is_live() {
            self.retry_at = Some(at);
            self.retry_code = wait.map(|wait| wait.code.clone());
            self.wait = wait.cloned();
        }
    }

    /// Something came of its model.
    pub(super) fn goes_on(&mut self, attempt: Attempt) {
        if self.is_live(attempt) {
            self.retry_at = None;
            self.retry_code = None;
            self.wait = None;
        }
    }

    /// Nobody answered in time.
    pub(super) fn ask_expired(&mut self, block_id: &str, input: Uuid) {
        let Some(asked) = self.asks.get_mut(block_id).filter(|asked| asked.is_open()) else {
            return;
        };
        asked.expired = Some(input);
        if let Some(at) = asked.expires_at {
            self.expired.insert(block_id.to_owned(), at);
        }
        while self.expired.len() > EXPIRED_MAX {
            self.expired.pop_first();
        }
    }

    /// Queues the attempt after the current one.
    pub(super) fn queue_next(&mut self, keep: bool, lost_in_a_row: u32) {
        if let Some(track) = self.track(self.attempt) {
            self.past.insert(self.attempt, track);
        }
        while self.past.len() > PAST_ATTEMPTS_MAX {
            self.past.pop_first();
        }
        self.attempt = Attempt(self.attempt.0.saturating_add(1));
        self.state = AttemptState::Queued;
        self.lost_in_a_row = lost_in_a_row;
        self.wait = None;
        self.error = None;
        self.concluded = None;
        self.decision = None;
        self.next_block = 1;
        self.out_seq = OutSeq::ZERO;
        self.tail = None;
        self.names.clear();
        self.device = None;
        self.asks.clear();
        if !keep {
            self.retry_at = None;
            self.retry_code = None;
            self.kept = FrameSeq::ZERO;
            self.kept_offset = 0;
            self.steps = 0;
            self.open_calls.clear();
        }
    }
}
