//! The server's end of device links, on the node where they end.
//!
//! Nothing here is durable and nothing here decides: frames become questions to the device's
//! entity and to Tasks, wherever those live, and are repeated until they are answered or the
//! link is gone. What was not answered comes again with the next link.
//!
//! Invariant: the reader of a link waits for no Task. What it has for one goes into the attempt's
//! [`Inbox`]; it waits for the device's own entity alone, and when that has not heard 128 words.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use troupe_api::device::DevicePath;
use troupe_domain::{
    device::DeviceRefusal,
    task::{AttemptToken, RunEvent},
};
use troupe_entities::{
    DeviceAddress, TaskAddress,
    device::{DeviceError, Found, Settled, ToDevice},
    task::TaskError,
};
use troupe_link::device::{DeviceFrames, DeviceSession, DeviceSessionHandle};
use troupe_sharding::{AskError, Router};
use troupe_store::Blobs;
use troupe_types::{OutSeq, StatusFrame, TaskId, Uuid};
use troupe_wire::device::{
    AttemptKey, Begin, DeviceFrame, Ended, EndedHow, ExecutionReport, ExecutionState, Forget,
    GoAway, Output, OutputAck, PackageWanted, SecretsGiven,
};

use super::{
    authority::Authority,
    convert::{Say, answered, found, has, hello, key, named, say},
    inbox::{Inbox, Next},
    packages::{Packages, QUESTIONS_MAX},
};

/// Words that wait for the device's entity; with more, the device waits.
const WORDS_MAX: usize = 128;
/// A Task that has not taken output for so long keeps none of the link's credit.
const STUCK_AFTER: Duration = Duration::from_secs(2);
/// Pauses between tries.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long the first word about a link may take.
const CONNECT_MAX: Duration = Duration::from_secs(15);

/// Serves all links of a node.
#[derive(Clone, Debug)]
pub struct Sessions {
    router: Router,
    authority: Arc<Authority>,
    node: String,
    packages: Arc<Packages>,
}

impl Sessions {
    /// For the links that end at the node of this name; packages of Skills are in `blobs`.
    #[must_use]
    pub fn new(
        router: Router,
        authority: Arc<Authority>,
        node: String,
        blobs: Arc<dyn Blobs>,
    ) -> Self {
        Self { router, authority, node, packages: Arc::new(Packages::new(blobs)) }
    }

    /// Takes links until there is no door any more. Dropping the future ends them.
    pub async fn serve(self, mut links: mpsc::Receiver<DeviceSession>) {
        let mut serving = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = serving.join_next(), if !serving.is_empty() => {}
                link = links.recv() => {
                    let Some(link) = link else { return };
                    serving.spawn(self.clone().one(link));
                }
            }
        }
    }

    async fn one(self, link: DeviceSession) {
        let DeviceSession { session, hello: said, handle, frames } = link;
        let device = handle.device();
        let address = DeviceAddress::new(self.router.clone(), device);
        let mut acked = HashMap::new();
        for report in &said.executions {
            acked.insert(report.key, report.acked);
        }
        let now = self.authority.clock.now();
        let connecting = self.connect(&address, hello(session, &self.node, &said, now));
        let running = tokio::select! {
            _ = handle.closed() => return,
            running = timeout(CONNECT_MAX, connecting) => running,
        };
        let (running, begins) = match running {
            Ok(Ok(running)) => running,
            Ok(Err(DeviceError::Refused(DeviceRefusal::Revoked))) => {
                self.authority.note_revoked(device);
                return;
            }
            other => {
                tracing::info!(%device, ?other, "a device's link is not wanted");
                handle.close("the cluster does not take this link");
                return;
            }
        };
        tracing::info!(%device, %session, "a device is here");
        let tokens = running.into_iter().map(|one| {
            (
                AttemptKey { execution: one.has.execution, attempt: one.has.attempt },
                (one.task, one.token),
            )
        });
        let link = Arc::new(Link {
            session,
            address,
            router: self.router.clone(),
            authority: Arc::clone(&self.authority),
            handle: handle.clone(),
            tokens: Mutex::new(tokens.collect()),
            acked,
            packages: Arc::clone(&self.packages),
            questions: Semaphore::new(QUESTIONS_MAX),
        });
        let why = tokio::select! {
            biased;
            why = handle.closed() => why,
            () = async {
                if !begins {
                    link.begin_accepted(&said.executions).await;
                }
                Arc::clone(&link).commands().await;
            } => "its entity has another link".to_owned(),
            () = Arc::clone(&link).frames(frames, found(said.capabilities)) => "it said its last word".to_owned(),
        };
        handle.close(&why);
        tracing::info!(%device, %session, %why, "a device's link ended");
        if let Err(error) = link.address.disconnect(session).await {
            tracing::debug!(%device, %error, "the end of a link was not told");
        }
    }

    async fn connect(
        &self,
        address: &DeviceAddress,
        hello: troupe_entities::device::Hello,
    ) -> Result<(Vec<troupe_entities::device::Running>, bool), DeviceError> {
        let mut pause = PAUSE_MIN;
        loop {
            match address.connect(hello.clone()).await {
                Err(DeviceError::Ask(error)) => {
                    tracing::debug!(%error, "a device's entity was not reached");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                settled => return settled,
            }
        }
    }
}

/// One link.
struct Link {
    session: Uuid,
    address: DeviceAddress,
    router: Router,
    authority: Arc<Authority>,
    handle: DeviceSessionHandle,
    /// Task and token of what the device may speak for.
    tokens: Mutex<HashMap<AttemptKey, (TaskId, AttemptToken)>>,
    /// What was acknowledged when the link came up.
    acked: HashMap<AttemptKey, OutSeq>,
    packages: Arc<Packages>,
    /// Questions for packages under way.
    questions: Semaphore,
}

/// Something for the device's entity.
#[derive(Clone)]
enum Word {
    Settled(Settled),
    Capable(Found),
}

/// The attempts of a link, and who works for them.
struct Workers {
    link: Arc<Link>,
    inboxes: HashMap<AttemptKey, Arc<Inbox>>,
    tasks: JoinSet<()>,
    say: mpsc::Sender<Word>,
}

impl Workers {
    fn of(link: Arc<Link>) -> Self {
        let (say, saying) = mpsc::channel(WORDS_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&link).speak(saying));
        Self { link, inboxes: HashMap::new(), tasks, say }
    }

    /// Where things for an attempt go. One whose worker ended, since the device was told to forget
    /// it, is told so again.
    fn inbox(&mut self, key: AttemptKey) -> &Inbox {
        let is_there = self.inboxes.get(&key).is_some_and(|inbox| !inbox.is_closed());
        if !is_there {
            self.inboxes.retain(|_, inbox| !inbox.is_closed());
            let inbox = Arc::new(Inbox::default());
            let work = Arc::clone(&self.link).worker(key, Arc::clone(&inbox), self.say.clone());
            self.tasks.spawn(work);
            self.inboxes.insert(key, inbox);
        }
        &self.inboxes[&key]
    }
}

/// Closes an inbox whose worker is gone.
struct CloseOnDrop(Arc<Inbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Link {
    fn token(&self, key: AttemptKey) -> Option<(TaskId, AttemptToken)> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    fn path(&self) -> DevicePath {
        let micros = |rtt: Duration| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        DevicePath {
            carrier: self.handle.carrier().as_str().to_owned(),
            rtt_us: self.handle.rtt().map(micros),
        }
    }

    /// What the device took before this link, which its entity has committed by now. An entity of
    /// this version says it by itself, once the Task wants it still.
    async fn begin_accepted(&self, executions: &[ExecutionReport]) {
        let accepted = executions.iter().filter(|one| one.state == ExecutionState::Accepted);
        for key in accepted.map(|one| one.key).filter(|key| self.token(*key).is_some()) {
            self.begin(key).await;
        }
    }

    async fn begin(&self, key: AttemptKey) {
        // A link that does not carry it ends, and it comes with the next one.
        let _ = self.handle.send(&DeviceFrame::Begin(Begin { key })).await;
    }

    /// What the entity has for the device, until the link is not its link any more.
    async fn commands(self: Arc<Self>) {
        let (mut after, mut pause) = (0, PAUSE_MIN);
        loop {
            let commands = match self.address.next(self.session, after, self.path()).await {
                Ok(commands) => commands,
                Err(DeviceError::Stale | DeviceError::Refused(_)) => return,
                Err(error) => {
                    tracing::debug!(%error, "a device's entity was not reached");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    continue;
                }
            };
            pause = PAUSE_MIN;
            for command in commands {
                if let ToDevice::Assign(work) = &command.what {
                    let key =
                        AttemptKey { execution: work.has.execution, attempt: work.has.attempt };
                    let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
                    tokens.insert(key, (work.task, work.token.clone()));
                }
                if matches!(command.what, ToDevice::Revoked) {
                    // The link says it to the device and ends.
                    self.authority.note_revoked(self.handle.device());
                }
                match say(command.what) {
                    Say::Frame(frame) => {
                        if let Err(error) = self.handle.send(&frame).await {
                            tracing::warn!(%error, "a frame did not reach a device");
                            return;
                        }
                    }
                    Say::Nothing => {}
                    Say::End => return,
                }
                after = command.number;
            }
        }
    }

    /// What the device says, until the link is gone.
    async fn frames(self: Arc<Self>, mut frames: DeviceFrames, mut last: Found) {
        let mut workers = Workers::of(Arc::clone(&self));
        while let Some((frame, held)) = frames.next_held().await {
            while workers.tasks.try_join_next().is_some() {}
            let word = match frame {
                DeviceFrame::Output(output) => {
                    workers.inbox(output.key).put(output, held);
                    continue;
                }
                DeviceFrame::Ended(ended) => {
                    workers.inbox(ended.key).end(ended);
                    continue;
                }
                DeviceFrame::AssignmentAnswer(answer) => answered(answer).map(Word::Settled),
                DeviceFrame::InputAnswer(answer) => {
                    Some(Word::Settled(Settled::Input { id: answer.id }))
                }
                DeviceFrame::Capabilities(capabilities) => {
                    last = found(*capabilities);
                    Some(Word::Capable(last.clone()))
                }
                DeviceFrame::Drain(drain) => {
                    last.draining = drain.on;
                    Some(Word::Capable(last.clone()))
                }
                DeviceFrame::SecretsWanted(wanted) => {
                    workers.tasks.spawn(Arc::clone(&self).give_secrets(wanted.key));
                    None
                }
                DeviceFrame::PackageWanted(wanted) => {
                    workers.tasks.spawn(Arc::clone(&self).give_package(wanted));
                    None
                }
                _ => None,
            };
            if let Some(word) = word
                && workers.say.send(word).await.is_err()
            {
                return;
            }
        }
    }

    /// Tells the entity what the device says of itself and of things, in order, each until it is
    /// heard.
    async fn speak(self: Arc<Self>, mut saying: mpsc::Receiver<Word>) {
        while let Some(word) = saying.recv().await {
            let mut pause = PAUSE_MIN;
            loop {
                let heard = match word.clone() {
                    Word::Settled(settled) => self.address.settled(self.session, settled).await,
                    Word::Capable(found) => self.address.capable(self.session, found).await,
                };
                match (heard, &word) {
                    (Ok(()), Word::Settled(Settled::Taken { has, .. })) => {
                        self.begin(key(*has)).await;
                        break;
                    }
                    // The entity has it forgotten.
                    (Ok(()), _) | (Err(DeviceError::Refused(DeviceRefusal::NotFound)), _) => break,
                    (Err(DeviceError::Stale), _) => return,
                    (Err(error), _) => {
                        tracing::debug!(%error, "a device's word was not heard");
                        sleep(pause).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
            }
        }
    }

    async fn give_secrets(self: Arc<Self>, key: AttemptKey) {
        let mut pause = PAUSE_MIN;
        loop {
            match self.address.secrets(self.session, has(key)).await {
                Ok((token, secrets)) => {
                    let token = token.expose().to_owned();
                    let given = SecretsGiven { key, token, secrets: named(secrets) };
                    let _ = self.handle.send(&DeviceFrame::SecretsGiven(given)).await;
                    return;
                }
                Err(DeviceError::Refused(_)) => {
                    self.forget(key, "the cluster has no use for it any more").await;
                    return;
                }
                Err(DeviceError::Stale) => return,
                Err(_) => sleep(pause).await,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// A part of a package, or that there is none.
    async fn give_package(self: Arc<Self>, wanted: PackageWanted) {
        // Until it is sent: no device has more parts wait here than this.
        let Ok(_asking) = self.questions.try_acquire() else { return };
        let part = self.packages.part(&wanted, &self.address, self.session).await;
        let _ = self.handle.send(&DeviceFrame::PackagePart(Box::new(part))).await;
    }

    async fn forget(&self, key: AttemptKey, reason: &str) {
        let reason = reason.to_owned();
        let _ = self.handle.send(&DeviceFrame::Forget(Forget { key, reason })).await;
    }

    /// Output of one attempt, in order; its end once all of it is committed.
    async fn worker(self: Arc<Self>, key: AttemptKey, inbox: Arc<Inbox>, say: mpsc::Sender<Word>) {
        let _close = CloseOnDrop(Arc::clone(&inbox));
        let mut acked = self.acked.get(&key).copied().unwrap_or(OutSeq::ZERO);
        let mut ended: Option<Ended> = None;
        loop {
            if let Some(end) = ended.take_if(|end| end.last <= acked) {
                let message = match end.how {
                    EndedHow::Finished | EndedHow::Cancelled => String::new(),
                    _ if end.message.is_empty() => "the device lost it".to_owned(),
                    _ => end.message,
                };
                let settled = Settled::Ended { has: has(key), message };
                let _ = say.send(Word::Settled(settled)).await;
            }
            let Next { ended: end, batch } = inbox.next().await;
            ended = end.or(ended);
            let (outputs, held): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let Some((first, last)) = outputs.first().zip(outputs.last()) else { continue };
            let (first, last) = (first.out_seq, last.out_seq);
            let events = outputs.iter().map(event).collect();
            drop(outputs);
            let delivering = self.deliver(key, first, events);
            tokio::pin!(delivering);
            let taken = match timeout(STUCK_AFTER, &mut delivering).await {
                Ok(taken) => {
                    drop(held);
                    taken
                }
                Err(_) => {
                    drop(held);
                    inbox.note_stuck();
                    delivering.await
                }
            };
            if !taken {
                self.forget(key, "the cluster does not know this attempt").await;
                return;
            }
            acked = last;
            let ack = DeviceFrame::OutputAck(OutputAck { key, out_seq: acked });
            if self.handle.send(&ack).await.is_err() {
                return;
            }
            if inbox.note_taken() {
                self.again(key).await;
            }
        }
    }

    /// Output of an attempt was let go while its Task took none. A device sends output again with
    /// a new link and not before, so it is asked for one; nothing else is lost by that.
    async fn again(&self, key: AttemptKey) {
        tracing::info!(device = %self.handle.device(), ?key, "output is taken again: the device dials anew");
        let reason = "output that was not taken is taken again".to_owned();
        let away = DeviceFrame::GoAway(GoAway { reason, redial_after_ms: 0 });
        let _ = self.handle.send(&away).await;
    }

    /// `true`: committed. `false`: nobody wants it.
    async fn deliver(&self, key: AttemptKey, first: OutSeq, mut events: Vec<RunEvent>) -> bool {
        let Some((task, token)) = self.token(key) else { return false };
        let address = TaskAddress::new(self.router.clone(), task);
        let mut pause = PAUSE_MIN;
        loop {
            let said = address.device_output(
                key.execution,
                key.attempt,
                token.clone(),
                first,
                events.clone(),
            );
            match said.await {
                Ok(_) => return true,
                Err(TaskError::Ask(AskError::Failed(why))) if why.code == "wrong_token" => {
                    return false;
                }
                Err(TaskError::Ask(AskError::Failed(why))) if why.code == "too_large" => {
                    let large = events.iter_mut().max_by_key(|event| size_of(event));
                    if let Some(large) = large {
                        *large = unreadable("a piece of output is too large to be kept");
                    }
                }
                Err(error) => {
                    tracing::debug!(%task, %error, "output was not taken yet");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

fn size_of(event: &RunEvent) -> usize {
    serde_json::to_vec(event).map_or(0, |json| json.len())
}

/// What does not read keeps its number, so that what follows is in order.
fn event(output: &Output) -> RunEvent {
    serde_json::from_slice(&output.body).unwrap_or_else(|error| {
        tracing::warn!(key = ?output.key, %error, "output of a device does not read");
        unreadable("a piece of output does not read: is the device newer than the cluster?")
    })
}

fn unreadable(text: &str) -> RunEvent {
    RunEvent::Status(StatusFrame {
        phase: "notice".to_owned(),
        text: Some(text.to_owned()),
        ..StatusFrame::default()
    })
}
