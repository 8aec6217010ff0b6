//! What an attempt's log says, folded.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use troupe_domain::task::{Output, RunEvent};
use troupe_executor::Grant;
use troupe_types::{Block, BlockKind, BlockStatus, OutSeq, TaskId, Uuid};

use super::record::{Ended, Record};

/// Inputs that are known by their id when they come again.
const INPUTS_KEPT: usize = 256;
/// Approvals whose grants are known when they are answered, and grants that are kept.
const GRANTS_KEPT: usize = 64;
/// A longer command is asked for anew: all of this goes into every checkpoint.
const GRANT_BYTES_MAX: usize = 2 * 1024;
/// A longer answer cannot be told as done, so no more of it is kept.
const ANSWER_BYTES_MAX: usize = 512 * 1024;
/// Calls of tools of an attempt that are kept, the last ones.
const BEGUN_KEPT: usize = 40;
/// How much is kept of what one was called with.
const CALL_BYTES_MAX: usize = 400;

/// An assignment as it is kept: without token and secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The Task.
    pub task: TaskId,
    /// The Team that asked.
    pub team: String,
    /// Who asked.
    pub user: String,
    /// The job, JSON as it came.
    pub spec: String,
    /// Whether secrets came with it, which must come again after a restart.
    pub secrets: bool,
    /// It runs once the cluster says so: until then it may be given to another device.
    #[serde(default)]
    pub waits: bool,
}

/// An input as it is kept. What it says matters only to a cancel, and if it allows something for
/// good: a runtime that is started anew asks all else anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredInput {
    /// Its id.
    pub id: Uuid,
    /// Whether it stops the attempt for good.
    pub cancel: bool,
    /// The approval that it answers with "always".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always: Option<String>,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The name of its block.
    pub block: String,
    /// The tool's name.
    pub tool: String,
    /// What it was called with, or its title as long as that is not known; cut.
    pub with: String,
}

/// What was said so far, as far as the end of an attempt must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The text of the answer.
    pub answer: String,
    /// Blocks that are not finished: their names.
    pub open: BTreeMap<String, bool>,
    /// What "always" would grant, by the names of the open approvals.
    #[serde(default)]
    pub offers: BTreeMap<String, Grant>,
    /// The last calls of tools that began, newest last.
    #[serde(default)]
    pub begun: VecDeque<Call>,
    /// Done or failed was said.
    pub ended: bool,
}

impl Said {
    /// Takes over an event.
    pub fn apply(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Output { pieces } => {
                for piece in pieces {
                    if let Output::Text(text) = piece
                        && self.answer.len() < ANSWER_BYTES_MAX
                    {
                        self.answer.push_str(text);
                    }
                }
            }
            RunEvent::Block { block, name } if !block.status.is_final() => {
                let is_tool = matches!(block.kind, BlockKind::Tool { .. });
                if is_tool && !self.open.contains_key(name) {
                    self.begin(name, block);
                }
                self.open.insert(name.clone(), is_tool);
                if let Some(grant) = on_offer(block)
                    && self.offers.len() < GRANTS_KEPT
                {
                    self.offers.insert(name.clone(), grant);
                }
            }
            RunEvent::BlockChanged { name, patch } => {
                let call = self.begun.iter_mut().rev().find(|call| call.block == *name);
                if let (Some(call), Some(input)) = (call, &patch.tool_input) {
                    call.with = short(input.to_string());
                }
                if patch.status.is_some_and(BlockStatus::is_final) {
                    self.open.remove(name);
                    self.offers.remove(name);
                }
            }
            RunEvent::Done { .. } | RunEvent::Failed { .. } => self.ended = true,
            RunEvent::Block { .. } | RunEvent::Step { .. } | RunEvent::Status(_) => {}
        }
    }

    fn begin(&mut self, name: &str, block: &Block) {
        let BlockKind::Tool { tool_name, display_name, tool_input, .. } = &block.kind else {
            return;
        };
        if self.begun.len() == BEGUN_KEPT {
            self.begun.pop_front();
        }
        let with = match tool_input.is_null() {
            true => display_name.clone().unwrap_or_default(),
            false => tool_input.to_string(),
        };
        let (block, tool) = (name.to_owned(), tool_name.clone());
        self.begun.push_back(Call { block, tool, with: short(with) });
    }
}

fn short(mut text: String) -> String {
    if text.len() > CALL_BYTES_MAX {
        text.truncate(text.floor_char_boundary(CALL_BYTES_MAX));
        text.push('…');
    }
    text
}

/// What an approval would grant for the whole Task.
fn on_offer(block: &Block) -> Option<Grant> {
    let BlockKind::Other(fields) = &block.kind else { return None };
    let grant: Grant = serde_json::from_value(fields.get("always")?.clone()).ok()?;
    let bytes = grant.tool.len() + grant.command.as_ref().map_or(0, String::len);
    (bytes <= GRANT_BYTES_MAX).then_some(grant)
}

/// The fold of an attempt's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    /// The assignment.
    pub accepted: Accepted,
    /// The last output.
    #[serde(default)]
    pub last: OutSeq,
    /// The last acknowledged one.
    #[serde(default)]
    pub acked: OutSeq,
    /// Ids of inputs that were taken.
    #[serde(default)]
    pub inputs: VecDeque<Uuid>,
    /// A cancel was taken.
    #[serde(default)]
    pub cancelled: bool,
    /// What was allowed for the whole Task while this attempt ran.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// The runtime's session.
    #[serde(default)]
    pub session: Option<String>,
    /// What was said.
    #[serde(default)]
    pub said: Said,
    /// How it ended.
    #[serde(default)]
    pub ended: Option<(Ended, String)>,
}

impl Fold {
    pub(super) fn new(accepted: Accepted) -> Self {
        Self {
            accepted,
            last: OutSeq::ZERO,
            acked: OutSeq::ZERO,
            inputs: VecDeque::new(),
            cancelled: false,
            grants: Vec::new(),
            session: None,
            said: Said::default(),
            ended: None,
        }
    }

    /// Whether it may run: something of it did, or it had not to wait.
    #[must_use]
    pub fn may_run(&self) -> bool {
        !self.accepted.waits || self.last > OutSeq::ZERO || self.session.is_some()
    }

    /// Takes over a record. `false`: it cannot follow what is there.
    pub(super) fn apply(&mut self, record: &Record) -> bool {
        match record {
            Record::Accepted(_) => return false,
            Record::Output(seq, body) => {
                if *seq != self.last.next() {
                    return false;
                }
                self.last = *seq;
                // A body of a later version says nothing that this one could act on.
                if let Ok(event) = serde_json::from_slice(body) {
                    self.said.apply(&event);
                }
            }
            Record::Acked(seq) => self.acked = self.acked.max(*seq),
            Record::Input(input) => {
                self.cancelled |= input.cancel;
                self.inputs.push_back(input.id);
                if self.inputs.len() > INPUTS_KEPT {
                    self.inputs.pop_front();
                }
                self.grant(input.always.as_deref());
            }
            Record::Session(session) => self.session = Some(session.clone()),
            Record::Ended(how, text) => {
                self.ended.get_or_insert_with(|| (*how, text.clone()));
            }
            Record::Checkpoint(fold) => *self = (**fold).clone(),
        }
        true
    }

    fn grant(&mut self, name: Option<&str>) {
        let Some(grant) = name.and_then(|name| self.said.offers.get(name)) else { return };
        if !self.grants.contains(grant) && self.grants.len() < GRANTS_KEPT {
            self.grants.push(grant.clone());
        }
    }
}
