//! One assistant message being produced, and its attempts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use troupe_types::{
    Attempt, ErrorType, ExecutionId, FrameSeq, MessageId, MessageKind, Ordinal, OutSeq, RunStep,
    Wait,
};

use super::leader::LeaderDecision;

/// Frames of terminal attempts that are kept per execution; more are dropped.
pub const LATE_FRAMES_MAX: u32 = 256;
/// Blocks of one execution that a runner may have open under a name at once.
pub const NAMED_BLOCKS_MAX: usize = 1_024;
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
    /// Why it waits, while queued.
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
        if !keep {
            self.kept = FrameSeq::ZERO;
            self.kept_offset = 0;
            self.steps = 0;
            self.open_calls.clear();
        }
    }
}
