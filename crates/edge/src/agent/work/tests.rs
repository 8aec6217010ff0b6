//! What comes for a run at the very end of it.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use ractor::ActorProcessingErr;
use tokio::sync::{mpsc, watch};
use troupe_executor::{Containment, Machine};
use troupe_link::{Connection, LinkError, LinkOptions, device::Dialler};
use troupe_types::{Attempt, DeviceId, ExecutionId, SystemClock, TaskId, Timestamp, Uuid};
use troupe_wire::device::{Capabilities, Input, InputFate, InputKind};

use super::*;
use crate::{
    agent::actor::AgentArgs,
    execution::ExecutorMsg,
    link::LinkArgs,
    options::EdgeOptions,
    outbox::{Accepted, Outbox},
    status::LinkStatus,
};

/// An executor that is gone, which its agent has not heard yet.
struct Gone;

impl Actor for Gone {
    type Msg = ExecutorMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<ExecutorMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// Stands for the agent.
struct Deaf;

impl Actor for Deaf {
    type Msg = AgentMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<AgentMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Dialler for Nowhere {
    async fn dial(&self) -> Result<Arc<dyn Connection>, LinkError> {
        Err(LinkError::Closed)
    }
}

fn state(dir: &Path, outbox: Outbox) -> (AgentState, mpsc::Receiver<DeviceFrame>) {
    let device = DeviceId::from_uuid(Uuid::from_u128(1));
    let containment = Containment::without_cgroups("edge-tests");
    let clock = SystemClock::shared();
    let (path, login_home) = ("/bin".into(), None);
    let machine = Machine { containment, path, login_home, fenced: false, clock: clock.clone() };
    let options = EdgeOptions::new(device, dir.to_owned(), machine);
    let (capabilities, capable) = watch::channel(Capabilities::default());
    let (out, said) = mpsc::channel(16);
    let link = LinkArgs {
        device,
        boot: Uuid::from_u128(2),
        build: String::new(),
        dialler: Arc::new(Nowhere),
        options: LinkOptions::default(),
        outbox: outbox.clone(),
        capabilities: capable,
        network: watch::channel(0).1,
        to_agent: mpsc::channel(1).0,
        status: watch::channel(LinkStatus::default()).0,
        identity: None,
        past: dir.join("links.json"),
        clock,
    };
    let from_agent = Arc::new(tokio::sync::Mutex::new(mpsc::channel(1).1));
    let args = AgentArgs { options, outbox, link, from_agent, out, capabilities };
    (AgentState::new(args), said)
}

async fn run_that_is_gone(outbox: &Outbox, state: &mut AgentState, n: u128) -> AttemptKey {
    let key =
        AttemptKey { execution: ExecutionId::from_uuid(Uuid::from_u128(n)), attempt: Attempt(1) };
    let accepted = Accepted {
        task: TaskId::new(Timestamp::from_millis(1_795_000_000_000)),
        team: "a/b".to_owned(),
        user: "ada".to_owned(),
        spec: "{}".to_owned(),
        secrets: false,
        waits: false,
    };
    outbox.accept(key, accepted).await.unwrap();
    let (actor, over) = Actor::spawn(None, Gone, ()).await.unwrap();
    actor.stop(None);
    over.await.unwrap();
    state.running.insert(key, Running { actor, forget: false });
    key
}

#[tokio::test]
async fn what_comes_for_a_run_that_just_ended_ends_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path().join("executions"), 1 << 20).await.unwrap().outbox;
    let (mut state, mut said) = state(dir.path(), outbox.clone());
    let (me, _) = Actor::spawn(None, Deaf, ()).await.unwrap();
    let key = run_that_is_gone(&outbox, &mut state, 1).await;
    for (n, kind) in [InputKind::Steer, InputKind::Cancel].into_iter().enumerate() {
        let id = Uuid::from_u128(10 + u128::try_from(n).unwrap());
        let input = Input { key, id, kind, name: String::new(), body: Bytes::new() };
        state.input(&me, input).await.unwrap();
        let answer = timeout(Duration::from_secs(60), said.recv()).await.unwrap().unwrap();
        let DeviceFrame::InputAnswer(answer) = answer else { panic!("{answer:?}") };
        let fate = if n == 0 { InputFate::Gone } else { InputFate::Taken };
        assert_eq!((answer.id, answer.fate), (id, fate));
    }
    state.damaged(key).await;
    state.forget(Forget { key, reason: String::new() }).await;
    assert!(state.running[&key].forget, "its end deletes it");
    state.ended(key, None).await.unwrap();
    let end = timeout(Duration::from_secs(60), said.recv()).await.unwrap().unwrap();
    assert!(matches!(end, DeviceFrame::Ended(_)), "{end:?}");
}
