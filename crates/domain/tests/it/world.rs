//! A Task with everything around it simulated: ids, time, runners, a journal.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use troupe_domain::task::{
    Ack, Answer, AttemptToken, CollaborationModel, Command, Context, ContextPassing, CreateTask,
    Execution, History, LeaderDecision, MemberPlan, OpenCall, Output, Refusal, RunEvent,
    SendMessage, StepRecord, TaskEntry, TaskEvent, TaskState, TeamPlan, Transcript, Work, WorkItem,
    decide,
};
use troupe_types::{
    Attempt, Block, BlockKind, BlockPatch, BlockStatus, DeviceId, ErrorType, ExecutionId, Frame,
    FrameBody, MessageId, OutSeq, Place, Sender, Status, TaskId, Timestamp, UsageFrame, UserId,
    Uuid, limits::ENTRY_BYTES_MAX,
};

/// How long a person has for an approval or a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a simulated runner knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runner {
    pub(crate) attempt: u32,
    pub(crate) answer: String,
    pub(crate) out_seq: u64,
    pub(crate) open: Vec<String>,
    pub(crate) pieces: u32,
}

/// A Task and its surroundings.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) state: TaskState,
    pub(crate) entries: Vec<TaskEntry>,
    pub(crate) runners: BTreeMap<ExecutionId, Runner>,
    pub(crate) acks: Vec<(Command, Ack)>,
    /// Answers of done attempts.
    pub(crate) answers: BTreeMap<MessageId, String>,
    ended: BTreeSet<(ExecutionId, Attempt)>,
    ended_rows: BTreeSet<(MessageId, Attempt)>,
    /// Blocks that were answered or expired.
    settled: BTreeSet<String>,
    next_id: u128,
    now: i64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            state: TaskState::default(),
            entries: Vec::new(),
            runners: BTreeMap::new(),
            acks: Vec::new(),
            answers: BTreeMap::new(),
            ended: BTreeSet::new(),
            ended_rows: BTreeSet::new(),
            settled: BTreeSet::new(),
            next_id: 1,
            now: 1_700_000_000_000,
        }
    }

    /// A Task of this Team with its first message.
    pub(crate) fn begun(plan: &Arc<TeamPlan>) -> Self {
        let mut world = Self::new();
        world.send(plan, "first request").expect("a new task");
        world
    }

    pub(crate) fn key(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid::from_u128(self.next_id)
    }

    pub(crate) fn message(&mut self, plan: &Arc<TeamPlan>, content: &str) -> SendMessage {
        let create = self.state.id.is_none().then(|| CreateTask {
            task: TaskId::derived(&["task"]),
            owner: ann(),
            owner_name: "ann".into(),
            title: String::new(),
            labels: BTreeMap::new(),
        });
        SendMessage {
            key: self.key(),
            sender: Sender::User { user_id: ann(), user_name: "ann".into() },
            content: content.into(),
            plan: Arc::clone(plan),
            model: None,
            create,
        }
    }

    pub(crate) fn send(&mut self, plan: &Arc<TeamPlan>, content: &str) -> Result<Ack, Refusal> {
        let message = self.message(plan, content);
        self.ask(Command::Send(message))
    }

    /// Decides and folds, and checks what must hold for every entry.
    pub(crate) fn ask(&mut self, command: Command) -> Result<Ack, Refusal> {
        self.now += 1;
        let mut next = self.next_id;
        let mut ids = || {
            next += 1;
            Uuid::from_u128(next)
        };
        let now = Timestamp::from_millis(self.now);
        let mut ctx = Context { now, ids: &mut ids, asks_expire_after: Some(PATIENCE) };
        let before = self.state.clone();
        let decision = decide(&self.state, command.clone(), &mut ctx)?;
        assert_eq!(before, self.state, "deciding changes nothing");
        self.next_id = next;
        if let Some(entry) = decision.entry {
            self.commit(entry);
        }
        if matches!(command, Command::Send(_) | Command::Edit { .. } | Command::Confirm { .. }) {
            self.acks.push((command, decision.ack.clone()));
        }
        Ok(decision.ack)
    }

    fn commit(&mut self, entry: TaskEntry) {
        let text = serde_json::to_string(&entry).expect("an entry encodes");
        assert!(text.len() <= ENTRY_BYTES_MAX, "an entry of {} bytes", text.len());
        assert_eq!(serde_json::from_str::<TaskEntry>(&text).expect("decodes"), entry);
        assert!(!entry.events.is_empty() || !entry.frames.is_empty());
        for (place, frame) in entry.frames.iter().enumerate() {
            assert_eq!(frame.seq, self.state.next_frame.plus(place as u64), "frames have no gaps");
        }
        self.check_terminal(&entry);
        self.state.apply(&entry);
        assert_eq!(self.state.updated_at, entry.at);
        self.entries.push(entry);
    }

    /// I9: nothing but late output is about an attempt that is over.
    fn check_terminal(&mut self, entry: &TaskEntry) {
        for event in &entry.events {
            let about = match event {
                TaskEvent::AttemptStarted { execution, attempt }
                | TaskEvent::AttemptQueued { execution, attempt, .. }
                | TaskEvent::StepFinished { execution, attempt, .. }
                | TaskEvent::BlockNamed { execution, attempt, .. }
                | TaskEvent::AttemptEnded { execution, attempt, .. } => (*execution, *attempt),
                _ => continue,
            };
            assert!(!self.ended.contains(&about), "{event:?} is about an attempt that is over");
        }
        let starts = |m: MessageId| {
            entry.frames.iter().any(|f| matches!(&f.body, FrameBody::Started(s) if s.message == m))
        };
        for frame in &entry.frames {
            let about = match &frame.body {
                FrameBody::Started(f) => (f.message, f.attempt),
                FrameBody::Text(f) if !f.late => (f.message, f.attempt),
                FrameBody::Thinking(f) if !f.late => (f.message, f.attempt),
                FrameBody::BlockCreated(f) if !f.late => (f.message, f.attempt),
                // The next attempt closes what this one left open.
                FrameBody::BlockUpdated(f) if !f.late && !starts(f.message) => {
                    (f.message, f.attempt)
                }
                FrameBody::Done(f) => (f.message, f.attempt),
                FrameBody::Error(f) => (f.message, f.attempt),
                FrameBody::Cancelled(f) => (f.message, f.attempt),
                _ => continue,
            };
            assert!(!self.ended_rows.contains(&about), "{frame:?} is about an ended attempt");
        }
        for event in &entry.events {
            if let TaskEvent::BlockAnswered { block_id, .. }
            | TaskEvent::AskExpired { block_id, .. } = event
            {
                assert!(self.settled.insert(block_id.clone()), "{block_id} was settled before");
            }
            if let TaskEvent::AttemptEnded { execution, attempt, .. } = event {
                self.ended.insert((*execution, *attempt));
                if let Some(e) = self.state.execution(*execution) {
                    self.ended_rows.insert((e.message, *attempt));
                }
            }
        }
    }

    /// Starts a queued attempt and gives it a runner.
    pub(crate) fn start(&mut self, execution: ExecutionId) {
        let attempt = self.execution(execution).attempt;
        self.begin(execution, Command::Start { execution, attempt, place: Place::Cluster });
    }

    /// The same on a device.
    pub(crate) fn start_on_device(&mut self, execution: ExecutionId) {
        let attempt = self.execution(execution).attempt;
        let device = DeviceId::derived(&["laptop"]);
        let place = Place::Device { id: device.to_string(), name: "laptop".to_owned() };
        let token = AttemptToken::new(format!("token-{attempt}"));
        let hash = token.hash();
        let restored = None;
        self.begin(
            execution,
            Command::StartOnDevice { execution, attempt, device, place, token, restored },
        );
        let e = self.execution(execution);
        if e.is_live(attempt) {
            assert_eq!(
                e.device.as_ref().map(|run| (run.device, &*run.token)),
                Some((device, &*hash))
            );
        }
        let kept = serde_json::to_string(&self.entries).expect("encodes");
        assert!(!kept.contains("token-"), "only its hash is kept");
    }

    fn begin(&mut self, execution: ExecutionId, command: Command) {
        let before = self.entries.len();
        self.ask(command).expect("starts");
        if self.entries.len() == before {
            return;
        }
        let e = self.execution(execution).clone();
        let attempt = e.attempt;
        let history = self.history();
        let plan = self.state.plan().expect("a plan").clone();
        let told = history.conversation(&plan, execution).expect("a conversation");
        assert_eq!(told.kept_text.chars().count() as u64, e.kept_offset);
        assert_eq!(history.transcript().answer_text(e.message), Some(told.kept_text.as_str()));
        assert_eq!(told.resume.len() as u32, e.steps);
        let runner = Runner { attempt: attempt.0, answer: told.kept_text, ..Runner::default() };
        self.runners.insert(execution, runner);
    }

    pub(crate) fn start_all(&mut self) {
        for (execution, ..) in self.state.queued_attempts() {
            self.start(execution);
        }
    }

    pub(crate) fn execution(&self, id: ExecutionId) -> &Execution {
        self.state.execution(id).expect("a known execution")
    }

    pub(crate) fn live(&self) -> Vec<ExecutionId> {
        self.state.live_attempts().into_iter().map(|(e, _)| e).collect()
    }

    /// The newest execution.
    pub(crate) fn last(&self) -> ExecutionId {
        self.state.executions.last().expect("an execution").id
    }

    pub(crate) fn run(&mut self, execution: ExecutionId, event: RunEvent) {
        let runner = self.runners.entry(execution).or_default();
        runner.out_seq += 1;
        let (attempt, out_seq) = (Attempt(runner.attempt), OutSeq(runner.out_seq));
        self.ask(Command::Run { execution, attempt, out_seq, event }).expect("a runner's word");
    }

    /// Streams text that differs per attempt and piece.
    pub(crate) fn text(&mut self, execution: ExecutionId) {
        let ordinal = self.execution(execution).ordinal;
        let runner = self.runners.get_mut(&execution).expect("a runner");
        runner.pieces += 1;
        let text = format!("<{ordinal}.{} {}> 漢🙂 ", runner.attempt, runner.pieces);
        runner.answer.push_str(&text);
        self.run(execution, RunEvent::Output { pieces: vec![Output::Text(text)] });
    }

    pub(crate) fn think(&mut self, execution: ExecutionId) {
        let pieces = vec![Output::Thinking("hm".into()), Output::Thinking("..".into())];
        self.run(execution, RunEvent::Output { pieces });
    }

    /// A finished model call that asks for tools.
    pub(crate) fn model_step(&mut self, execution: ExecutionId, tools: usize) {
        let runner = self.runners.get_mut(&execution).expect("a runner");
        let names: Vec<String> =
            (0..tools).map(|n| format!("call-{}-{}-{n}", runner.attempt, runner.out_seq)).collect();
        runner.open.extend(names.iter().cloned());
        for name in &names {
            let block = tool_block(name);
            self.run(execution, RunEvent::Block { block, name: name.clone() });
        }
        let calls = names
            .iter()
            .map(|n| OpenCall { tool_use_id: n.clone(), block_id: n.clone() })
            .collect();
        let record = StepRecord::Model { message: json!({"role": "assistant"}), calls };
        let usage = UsageFrame { model: "demo".into(), input_tokens: 3, ..UsageFrame::default() };
        self.run(execution, RunEvent::Step { record, usage: Some(usage) });
    }

    /// A tool's result, if a call is open.
    pub(crate) fn tool_result(&mut self, execution: ExecutionId) -> bool {
        let runner = self.runners.get_mut(&execution).expect("a runner");
        let Some(name) = runner.open.pop() else { return false };
        let patch = BlockPatch {
            status: Some(BlockStatus::Done),
            tool_output: Some("ok".into()),
            ..BlockPatch::default()
        };
        self.run(execution, RunEvent::BlockChanged { name: name.clone(), patch });
        let record = StepRecord::Tool { tool_use_id: name, result: json!("ok"), unknown: false };
        self.run(execution, RunEvent::Step { record, usage: None });
        true
    }

    pub(crate) fn done(&mut self, execution: ExecutionId, decision: Option<LeaderDecision>) {
        let e = self.execution(execution);
        let message = e.message;
        let answer = self.runners.get(&execution).expect("a runner").answer.clone();
        let event = RunEvent::Done {
            answer: answer.clone(),
            stop_reason: Some("end_turn".into()),
            decision,
        };
        self.run(execution, event);
        self.runners.remove(&execution);
        self.answers.insert(message, answer);
    }

    /// The runner asks its person something: its name of it, and the Task's.
    fn asked(&mut self, execution: ExecutionId, n: u8) -> Option<(String, String)> {
        let question = n.is_multiple_of(2);
        let name = format!("ask-{n}-{}", self.entries.len());
        let sort = if question { "question" } else { "approval" };
        // The runner has no say in how long it waits.
        let fields = json!({"type": sort, "title": "may I?", "always": always(n),
            "expires_at": Timestamp::from_millis(0)});
        let fields = fields.as_object().cloned();
        let kind = BlockKind::Other(fields.expect("an object"));
        let block = Block { kind, ..tool_block(&name) };
        self.run(execution, RunEvent::Block { block, name: name.clone() });
        let asks = &self.execution(execution).asks;
        // There may be too many blocks with names.
        let (block_id, asked) = asks.iter().find(|(_, asked)| asked.name == name)?;
        assert_eq!(asked.question, question);
        let until = Timestamp::from_millis(self.now).plus(PATIENCE);
        assert_eq!(asked.expires_at, Some(until));
        Some((name, block_id.clone()))
    }

    /// Nobody answers in time: it expires once, and an answer is told so, whenever it comes.
    pub(crate) fn asks_too_long(&mut self, execution: ExecutionId, n: u8) {
        let Some((name, block_id)) = self.asked(execution, n) else { return };
        let open = self.state.open_asks().count();
        let answer = if n.is_multiple_of(2) {
            Answer::Reply { answers: BTreeMap::new() }
        } else {
            Answer::Allow
        };
        let words = format!(
            "expired at {}",
            self.execution(execution).asks[&block_id].expires_at.expect("it expires")
        );
        let is_late = |world: &mut Self| {
            let (key, block_id) = (world.key(), block_id.clone());
            let (answer, entries) = (answer.clone(), world.entries.len());
            let refused = world.ask(Command::Answer { key, block_id, answer });
            assert!(refused.is_err_and(|why| why.to_string().contains(&words)));
            assert_eq!(world.entries.len(), entries, "what is refused changes nothing");
        };
        self.expire();
        assert_eq!(self.state.open_asks().count(), open, "it is not time yet");
        self.now += i64::try_from(PATIENCE.as_millis()).expect("a short time");
        is_late(self);
        assert_eq!(self.expire(), open, "all that is open is older");
        assert_eq!((self.state.open_asks().count(), self.state.next_expiry()), (0, None));
        assert_eq!(self.expire(), 0, "it expires once");
        is_late(self);
        if n < 128 {
            let status = Some(BlockStatus::Done);
            let patch = BlockPatch { status, ..BlockPatch::default() };
            self.run(execution, RunEvent::BlockChanged { name, patch });
            assert!(!self.execution(execution).asks.contains_key(&block_id), "it is closed");
            is_late(self);
        }
    }

    /// How many expire now.
    fn expire(&mut self) -> usize {
        let entries = self.entries.len();
        self.ask(Command::ExpireAsks).expect("it is never refused");
        let new = self.entries[entries..].iter().flat_map(|entry| &entry.events);
        new.filter(|event| matches!(event, TaskEvent::AskExpired { .. })).count()
    }

    /// The runner asks its person, who answers; exactly one answer is taken.
    pub(crate) fn asks(&mut self, execution: ExecutionId, n: u8) {
        let Some((name, block_id)) = self.asked(execution, n) else { return };
        let question = n.is_multiple_of(2);
        let always = always(n);
        let reply = Answer::Reply { answers: BTreeMap::from([("q".into(), vec!["yes".into()])]) };
        let (right, wrong) =
            if question { (reply, Answer::Allow) } else { (Answer::AllowAlways, reply) };
        let entries = self.entries.len();
        let of = |key, answer| Command::Answer { key, block_id: block_id.clone(), answer };
        let key = self.key();
        assert!(self.ask(of(key, wrong)).is_err(), "the wrong sort of answer");
        assert_eq!(self.entries.len(), entries, "what is refused changes nothing");
        assert_eq!(self.ask(of(key, right.clone())), Ok(Ack::Ok));
        let known = self.state.grants.iter().filter(|grant| **grant == always).count();
        assert_eq!(known > 0, !question || known > 0, "a grant is kept once");
        assert!(known <= 1);
        let entries = self.entries.len();
        assert_eq!(self.ask(of(key, right.clone())), Ok(Ack::Ok), "the same key, the same answer");
        let key = self.key();
        assert!(self.ask(of(key, right)).is_err(), "exactly one answer is taken");
        assert_eq!(self.entries.len(), entries);
        if n < 128 {
            let status = Some(BlockStatus::Done);
            let patch = BlockPatch { status, ..BlockPatch::default() };
            self.run(execution, RunEvent::BlockChanged { name, patch });
            assert!(!self.execution(execution).asks.contains_key(&block_id), "it is closed");
        }
    }

    pub(crate) fn fail(&mut self, execution: ExecutionId) {
        let event = RunEvent::Failed { error: ErrorType::ProviderError, text: "broken".into() };
        self.run(execution, event);
        self.runners.remove(&execution);
    }

    pub(crate) fn lose(&mut self, execution: ExecutionId, planned: bool) {
        let attempt = self.execution(execution).attempt;
        let command = Command::Lost { execution, attempt, retry_at: None, planned };
        self.ask(command).expect("a loss");
        self.runners.remove(&execution);
    }

    /// Starts the only queued attempt, lets it say something, ends it well.
    pub(crate) fn answer(&mut self, decision: Option<LeaderDecision>) -> ExecutionId {
        self.start_all();
        let live = self.live();
        assert_eq!(live.len(), 1, "one member works");
        self.text(live[0]);
        self.done(live[0], decision);
        live[0]
    }

    pub(crate) fn fail_next(&mut self) -> ExecutionId {
        self.start_all();
        let live = self.live();
        self.fail(live[0]);
        live[0]
    }

    pub(crate) fn confirm(&mut self, message: Option<&str>) -> Result<Ack, Refusal> {
        let key = self.key();
        self.ask(Command::Confirm {
            key,
            message: message.map(Into::into),
            original: "from the command".into(),
            previous: "previous answer".into(),
        })
    }

    pub(crate) fn frames(&self) -> impl Iterator<Item = &Frame> + Clone {
        self.entries.iter().flat_map(|e| &e.frames)
    }

    pub(crate) fn transcript(&self) -> Transcript {
        Transcript::of(self.frames())
    }

    pub(crate) fn history(&self) -> History {
        let mut history = History::new();
        self.entries.iter().for_each(|e| history.fold(e));
        history
    }

    /// Lets everything run until nothing moves; odd work items fail if `faults`.
    pub(crate) fn settle(&mut self) {
        for _ in 0..2_000 {
            self.start_all();
            let Some(execution) = self.live().first().copied() else { return };
            if !self.runners.contains_key(&execution) {
                self.lose(execution, false);
                continue;
            }
            self.text(execution);
            let decision =
                good_decision(self.state.plan().expect("a plan"), self.execution(execution));
            self.done(execution, decision);
        }
        panic!("the run does not end: {:#?}", self.state.executions);
    }

    pub(crate) fn statuses(&self) -> Vec<Status> {
        self.transcript().messages().map(|m| m.status).collect()
    }

    pub(crate) fn fallbacks(&self) -> Vec<String> {
        self.frames()
            .filter_map(|f| match &f.body {
                FrameBody::Status(s) if s.phase == "fallback" => s.wait.as_ref(),
                _ => None,
            })
            .map(|w| w.code.clone())
            .collect()
    }
}

pub(crate) fn ann() -> UserId {
    UserId::derived(&["ann"])
}

/// The decision that a capable member makes.
pub(crate) fn good_decision(plan: &TeamPlan, e: &Execution) -> Option<LeaderDecision> {
    let choices = plan.choices();
    match e.work {
        Work::Choose => Some(choose(choices.first()?)),
        Work::Split => Some(split(&choices)),
        Work::Discuss { round } => Some(conclude(round > 1)),
        _ => None,
    }
}

pub(crate) fn choose(member: &str) -> LeaderDecision {
    LeaderDecision::ChooseMember { member: member.into(), reason: "fits".into() }
}

pub(crate) fn split(members: &[String]) -> LeaderDecision {
    let items = members
        .iter()
        .map(|m| WorkItem { member: m.clone(), instructions: format!("part of {m}") })
        .collect();
    LeaderDecision::SplitWork { items }
}

pub(crate) fn conclude(done: bool) -> LeaderDecision {
    LeaderDecision::Conclude { done, summary: "settled".into() }
}

pub(crate) fn tool_block(name: &str) -> Block {
    Block {
        id: "ignored".into(),
        kind: BlockKind::Tool {
            tool_use_id: name.into(),
            tool_name: "lookup".into(),
            display_name: None,
            tool_input: json!({"q": 1}),
            tool_output: None,
            server_label: None,
        },
        status: BlockStatus::Running,
        timestamp: 0,
        parent_tool_use_id: None,
    }
}

pub(crate) fn member(name: &str) -> MemberPlan {
    MemberPlan {
        name: name.into(),
        shell_type: "Chat".into(),
        system_prompt: "be brief".into(),
        prompt: String::new(),
        require_confirmation: false,
        context_passing: ContextPassing::None,
        on: None,
        base_image: None,
        model: None,
        mcp_servers: BTreeMap::new(),
        skills: Vec::new(),
        skill_texts: Vec::new(),
    }
}

pub(crate) fn plan_of(
    model: CollaborationModel,
    members: Vec<MemberPlan>,
    leader: u32,
) -> TeamPlan {
    // The golden files hold what this made before there were images and texts of Skills.
    let hash = format!("{model:?}-{leader}-{members:?}").replace("base_image: None, ", "");
    let hash = hash.replace(", skill_texts: []", "").replace("thinking: None, ", "");
    let hash = hash.replace("bearer: false, small_model: None, ", "");
    TeamPlan {
        hash: Uuid::new_v5(&Uuid::NAMESPACE_OID, hash.as_bytes()).simple().to_string(),
        name: "team".into(),
        namespace: "default".into(),
        display_name: "Team".into(),
        model,
        max_rounds: 3,
        max_concurrent_tasks: 10,
        members,
        leader,
        deep_thinking: false,
    }
}

/// A Team of members a, b, c.. led by the first.
pub(crate) fn team(model: CollaborationModel, size: usize) -> Arc<TeamPlan> {
    let names = ["a", "b", "c", "d", "e"];
    Arc::new(plan_of(model, names[..size].iter().map(|n| member(n)).collect(), 0))
}

/// What "always" would grant.
fn always(n: u8) -> serde_json::Value {
    json!({"tool": "Bash", "command": format!("do {n}")})
}
