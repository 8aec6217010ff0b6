//! The cluster's side, as small as it can be: keeps what a device says, once and in order.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use troupe_actor::settle;
use troupe_domain::task::{Output as Piece, RunEvent};
use troupe_edge::{EdgeAgent, EdgeOptions, Engine};
use troupe_executor::{Containment, Machine};
use troupe_link::{
    Carrier, Connection, LinkError, LinkOptions, MemoryHub, MemoryNetwork, Network,
    device::{
        Admission, DeviceAuthority, DeviceCa, DeviceSession, DeviceSessionHandle, Dialler,
        EdgeListener, EdgeListenerOptions, Enrolled, Redemption, device_cert_name,
    },
};
use troupe_types::{
    Attempt, DeviceId, ExecutionId, OutSeq, SystemClock, TaskId, Timestamp, TurnId, Uuid,
};
use troupe_wire::device::{
    Assignment, AssignmentAnswer, AttemptKey, Begin, DeviceFrame, DeviceHello, DeviceRefusal,
    Ended, EnrolRefusal, EnrolRefusalReason, ExecutionReport, ExecutionState, Forget, Input,
    InputAnswer, InputKind, NamedSecret, OutputAck, PackagePart, PackageWanted, SecretsGiven,
};

/// Long enough for anything that is to happen.
pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const SERVER: &str = "troupe-edge";

pub(crate) fn now() -> Timestamp {
    SystemClock::shared().now()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl FnMut() -> bool) {
    assert!(settle(LONG, holds).await, "{what}: not in time");
}

/// Lets in who is not revoked.
#[derive(Debug, Default)]
pub(crate) struct Anyone(pub(crate) Mutex<Vec<DeviceId>>);

#[async_trait]
impl DeviceAuthority for Anyone {
    async fn redeem(&self, _: Redemption) -> Result<Enrolled, EnrolRefusal> {
        let (reason, message) = (EnrolRefusalReason::UnknownToken, "no".to_owned());
        Err(EnrolRefusal { reason, message, retry_after_ms: 0 })
    }

    async fn admit(&self, _: Admission) -> Result<(), DeviceRefusal> {
        Ok(())
    }

    async fn renew(&self, _: DeviceId) -> Result<(), String> {
        Ok(())
    }

    fn is_revoked(&self, device: DeviceId) -> Option<String> {
        self.0.lock().unwrap().contains(&device).then(|| "revoked".to_owned())
    }
}

/// What the owner keeps.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) outputs: BTreeMap<AttemptKey, Vec<Bytes>>,
    pub(crate) doubles: usize,
    /// How many outputs there were of attempts whose bodies are not kept any more: a device that
    /// has not heard so sends them again.
    pub(crate) checked: BTreeMap<AttemptKey, u64>,
    pub(crate) wanted: BTreeMap<AttemptKey, Assignment>,
    pub(crate) answers: Vec<AssignmentAnswer>,
    pub(crate) inputs: BTreeMap<Uuid, Input>,
    pub(crate) input_answers: Vec<InputAnswer>,
    pub(crate) ended: BTreeMap<AttemptKey, Ended>,
    pub(crate) hellos: Vec<DeviceHello>,
    pub(crate) session: Option<DeviceSessionHandle>,
    pub(crate) secrets_asked: usize,
    /// Outputs are kept, but not acknowledged.
    pub(crate) mute: bool,
    pub(crate) keep_ended: bool,
    /// What it has of packages; without one it does not know such questions, as older nodes.
    pub(crate) package: Option<Vec<u8>>,
    /// It is not (yet) said that what was taken begins.
    pub(crate) undecided: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Owner(Arc<Mutex<Kept>>);

impl Owner {
    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    /// Takes sessions, the newest one counts.
    pub(crate) async fn serve(self, mut sessions: mpsc::Receiver<DeviceSession>) {
        let mut current = JoinSet::new();
        while let Some(session) = sessions.recv().await {
            // Waited for: a set keeps those that ended until somebody asks.
            current.shutdown().await;
            let me = self.clone();
            self.kept().session = Some(session.handle.clone());
            current.spawn(me.session(session));
        }
    }

    async fn session(self, mut session: DeviceSession) {
        let handle = session.handle.clone();
        let again: Vec<DeviceFrame> = {
            let mut kept = self.kept();
            kept.hellos.push(session.hello.clone());
            let has = |key: &AttemptKey| session.hello.executions.iter().any(|e| e.key == *key);
            let missing = kept.wanted.values().filter(|wanted| !has(&wanted.key));
            let missing = missing.cloned().map(Box::new).map(DeviceFrame::Assignment);
            let accepted = |report: &&ExecutionReport| report.state == ExecutionState::Accepted;
            let accepted = session.hello.executions.iter().filter(accepted).map(|one| one.key);
            let begin = accepted.filter(|key| !kept.undecided && kept.wanted.contains_key(key));
            let begin = begin.map(|key| DeviceFrame::Begin(Begin { key }));
            let missing = missing.chain(begin);
            missing.chain(kept.inputs.values().cloned().map(DeviceFrame::Input)).collect()
        };
        for frame in again {
            if handle.send(&frame).await.is_err() {
                return;
            }
        }
        while let Some(frame) = session.frames.next().await {
            for answer in self.heard(frame) {
                if handle.send(&answer).await.is_err() {
                    return;
                }
            }
        }
    }

    fn heard(&self, frame: DeviceFrame) -> Vec<DeviceFrame> {
        let mut kept = self.kept();
        match frame {
            DeviceFrame::Output(output) if kept.checked.contains_key(&output.key) => {
                let (key, out_seq) = (output.key, OutSeq(kept.checked[&output.key]));
                assert!(output.out_seq <= out_seq, "{} of {out_seq}", output.out_seq);
                kept.doubles += 1;
                vec![DeviceFrame::OutputAck(OutputAck { key, out_seq })]
            }
            DeviceFrame::Output(output) => {
                let mute = kept.mute;
                let list = kept.outputs.entry(output.key).or_default();
                let next = u64::try_from(list.len()).unwrap() + 1;
                assert!(output.out_seq.0 <= next, "a gap: {} after {}", output.out_seq, next - 1);
                if output.out_seq.0 == next {
                    list.push(output.body);
                } else {
                    assert_eq!(list[usize::try_from(output.out_seq.0).unwrap() - 1], output.body);
                }
                let (key, out_seq) = (output.key, OutSeq(u64::try_from(list.len()).unwrap()));
                kept.doubles += usize::from(output.out_seq.0 < next);
                if mute {
                    return Vec::new();
                }
                let mut answers = vec![DeviceFrame::OutputAck(OutputAck { key, out_seq })];
                // The end may be told before the last output arrives.
                let over = kept.ended.get(&key).is_some_and(|ended| ended.last <= out_seq);
                if over && !kept.keep_ended {
                    kept.wanted.remove(&key);
                    let reason = "committed".to_owned();
                    answers.push(DeviceFrame::Forget(Forget { key, reason }));
                }
                answers
            }
            DeviceFrame::AssignmentAnswer(answer) => {
                let key = answer.key();
                if matches!(answer, AssignmentAnswer::Refused { .. }) {
                    kept.wanted.remove(&key);
                }
                let begins = matches!(answer, AssignmentAnswer::Taken(_)) && !kept.undecided;
                kept.answers.push(answer);
                if begins { vec![DeviceFrame::Begin(Begin { key })] } else { Vec::new() }
            }
            DeviceFrame::InputAnswer(answer) => {
                kept.inputs.remove(&answer.id);
                kept.input_answers.push(answer);
                Vec::new()
            }
            DeviceFrame::SecretsWanted(wanted) => {
                kept.secrets_asked += 1;
                let Some(assignment) = kept.wanted.get(&wanted.key) else { return Vec::new() };
                let (token, secrets) = (assignment.token.clone(), assignment.secrets.clone());
                vec![DeviceFrame::SecretsGiven(SecretsGiven { key: wanted.key, token, secrets })]
            }
            DeviceFrame::PackageWanted(wanted) => {
                kept.package.as_deref().map(|all| part(wanted, all)).into_iter().collect()
            }
            DeviceFrame::Ended(ended) => {
                let key = ended.key;
                let have = kept.outputs.get(&key).map_or(0, Vec::len);
                let have = u64::try_from(have).unwrap();
                let all = kept.checked.get(&key).copied().unwrap_or(have) >= ended.last.0;
                kept.ended.insert(key, ended);
                if !all || kept.keep_ended {
                    return Vec::new();
                }
                kept.wanted.remove(&key);
                vec![DeviceFrame::Forget(Forget { key, reason: "committed".to_owned() })]
            }
            _ => Vec::new(),
        }
    }

    pub(crate) async fn send(&self, frame: &DeviceFrame) {
        let handle = self.kept().session.clone();
        if let Some(handle) = handle {
            let _ = handle.send(frame).await;
        }
    }

    pub(crate) async fn assign(&self, assignment: Assignment) -> AttemptKey {
        let key = assignment.key;
        self.kept().wanted.insert(key, assignment.clone());
        self.send(&DeviceFrame::Assignment(Box::new(assignment))).await;
        key
    }

    pub(crate) async fn input(&self, key: AttemptKey, kind: InputKind, body: &str) -> Uuid {
        let id = Uuid::new_v4();
        let body = Bytes::copy_from_slice(body.as_bytes());
        let input = Input { key, id, kind, name: "ask-1".to_owned(), body };
        self.kept().inputs.insert(id, input.clone());
        self.send(&DeviceFrame::Input(input)).await;
        id
    }

    pub(crate) fn events(&self, key: AttemptKey) -> Vec<RunEvent> {
        let kept = self.kept();
        let bodies = kept.outputs.get(&key).map(Vec::as_slice).unwrap_or_default();
        bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
    }

    /// The text that was streamed, and the answer once it is done.
    pub(crate) fn answer(&self, key: AttemptKey) -> (String, Option<String>) {
        let (mut text, mut answer) = (String::new(), None);
        for event in self.events(key) {
            match event {
                RunEvent::Output { pieces } => {
                    for piece in pieces {
                        if let Piece::Text(piece) = piece {
                            text.push_str(&piece);
                        }
                    }
                }
                RunEvent::Done { answer: whole, .. } => answer = Some(whole),
                _ => {}
            }
        }
        (text, answer)
    }

    pub(crate) async fn ended(&self, key: AttemptKey) -> Ended {
        let me = self.clone();
        until("the end", || me.kept().ended.contains_key(&key)).await;
        self.kept().ended[&key].clone()
    }

    /// The end, once all that was said before it is here: it goes another way, and may be faster.
    pub(crate) async fn whole(&self, key: AttemptKey) -> Ended {
        let ended = self.ended(key).await;
        let have = || self.kept().outputs.get(&key).map_or(0, Vec::len);
        until("all output", || u64::try_from(have()).unwrap() >= ended.last.0).await;
        ended
    }
}

/// A job of the scripted runtime.
fn part(wanted: PackageWanted, package: &[u8]) -> DeviceFrame {
    let PackageWanted { key, hash, from } = wanted;
    let bytes = package.iter().skip(usize::try_from(from).unwrap()).take(500).copied().collect();
    DeviceFrame::PackagePart(Box::new(PackagePart {
        key,
        hash,
        from,
        size: package.len() as u64,
        bytes,
    }))
}

pub(crate) fn assignment(prompt: &str) -> Assignment {
    let key = AttemptKey { execution: ExecutionId::new(now()), attempt: Attempt(1) };
    again(key, TaskId::new(now()), prompt)
}

pub(crate) fn again(key: AttemptKey, task: TaskId, prompt: &str) -> Assignment {
    let job = serde_json::json!({
        "task": task, "turn": TurnId::new(now()), "execution": key.execution,
        "attempt": key.attempt, "bot": "dev", "runtime": "ClaudeCode", "prompt": {"text": prompt},
    });
    Assignment {
        key,
        task,
        token: "attempt-token".to_owned(),
        team: "acme/dev-team".to_owned(),
        user: "ada".to_owned(),
        spec: Bytes::from(serde_json::to_vec(&job).unwrap()),
        secrets: Vec::new(),
    }
}

pub(crate) fn with_secret(mut assignment: Assignment) -> Assignment {
    let (name, value) = ("model-key".to_owned(), "sk-very-secret-value".to_owned());
    assignment.secrets.push(NamedSecret { name, value });
    assignment
}

fn machine() -> Machine {
    let containment = Containment::without_cgroups("edge-tests");
    let path = "/usr/local/bin:/usr/bin:/bin".into();
    Machine { containment, path, login_home: None, fenced: false, clock: SystemClock::shared() }
}

/// Dials over the in-memory twin.
#[derive(Debug)]
pub(crate) struct TwinDialler {
    network: MemoryNetwork,
    to: SocketAddr,
    better: Arc<AtomicBool>,
}

#[async_trait]
impl Dialler for TwinDialler {
    async fn dial(&self) -> Result<Arc<dyn Connection>, LinkError> {
        self.network.dial(SERVER, self.to).await
    }

    async fn better(&self, _: Carrier) -> Result<Arc<dyn Connection>, LinkError> {
        if self.better.swap(false, Ordering::SeqCst) {
            return self.dial().await;
        }
        Err(LinkError::Closed)
    }
}

/// An owner behind a door on the twin, and what a device needs to reach it.
pub(crate) struct World {
    pub(crate) hub: MemoryHub,
    pub(crate) owner: Owner,
    pub(crate) authority: Arc<Anyone>,
    pub(crate) device: DeviceId,
    /// Whether there is something better than the present link.
    pub(crate) better: Arc<AtomicBool>,
    to: SocketAddr,
    #[expect(dead_code, reason = "held for its drop")]
    tasks: JoinSet<()>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(true)
    }

    /// `begins`: the cluster says when what was taken begins.
    pub(crate) fn with(begins: bool) -> Self {
        let hub = MemoryHub::new();
        let server: Arc<dyn Network> = Arc::new(hub.edge_network(SERVER, LinkOptions::default()));
        let to = server.local_addr().unwrap();
        let ca = Arc::new(DeviceCa::create("test", now()).unwrap());
        let authority = Arc::new(Anyone::default());
        let asked: Arc<dyn DeviceAuthority> = authority.clone();
        let options = EdgeListenerOptions { begins, ..EdgeListenerOptions::new("test", "node-1") };
        let listener = EdgeListener::new(options, ca, asked, SystemClock::shared());
        let (give, sessions) = mpsc::channel(16);
        let owner = Owner::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.accept(server, give));
        tasks.spawn(owner.clone().serve(sessions));
        let (device, better) = (DeviceId::new(now()), Arc::default());
        Self { hub, owner, authority, device, better, to, tasks }
    }

    pub(crate) fn name(&self) -> String {
        device_cert_name(self.device)
    }

    pub(crate) fn dialler(&self) -> Arc<dyn Dialler> {
        let network = self.hub.edge_network(&self.name(), LinkOptions::default());
        Arc::new(TwinDialler { network, to: self.to, better: Arc::clone(&self.better) })
    }

    pub(crate) fn options(&self, dir: &Path, engine: Arc<dyn Engine>) -> EdgeOptions {
        let mut options = EdgeOptions::new(self.device, dir.to_owned(), machine());
        options.engines = vec![engine];
        options
    }

    pub(crate) async fn agent(&self, dir: &Path, engine: Arc<dyn Engine>) -> EdgeAgent {
        self.agent_with(self.options(dir, engine)).await
    }

    pub(crate) async fn agent_with(&self, options: EdgeOptions) -> EdgeAgent {
        let agent = EdgeAgent::start(options, self.dialler()).await.unwrap();
        let mut link = agent.link();
        let up = timeout(LONG, link.wait_for(|link| link.state == "connected")).await;
        drop(up.unwrap().unwrap());
        agent
    }
}
