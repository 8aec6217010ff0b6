//! The actor that owns the link.

use std::{convert::Infallible, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster_derive::RactorMessage;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use troupe_actor::{TaskHandle, spawn_task};
use troupe_link::{
    Connection, LinkError, Redial,
    device::{DeviceLinkError, greet},
};
use troupe_wire::{
    Credit,
    device::{
        DEVICE_VERSION, DeviceFrame, DeviceHello, LinkAgo,
        limits::{EXECUTIONS_MAX, TO_DEVICE_CREDIT_BYTES, TO_DEVICE_CREDIT_ITEMS},
    },
};

use super::{
    FromLink, LinkArgs,
    carry::{Over, carry},
    dialing::dial,
    past::{NOTE_EVERY, Past},
};
use crate::status::LinkStatus;

/// How long a link must have held for the back-off to start over.
const HELD: Duration = Duration::from_secs(5);
/// A device that was refused for good asks again this seldom.
const REFUSED_WAIT: Duration = Duration::from_secs(60);

/// What a link actor is told. Local only.
#[derive(Debug, RactorMessage)]
pub enum LinkMsg {
    /// Its task is over, which is a fault.
    Over,
}

/// Owns the task that dials and carries; its end is this actor's crash.
#[derive(Debug)]
pub struct LinkActor;

impl Actor for LinkActor {
    type Msg = LinkMsg;
    type State = TaskHandle;
    type Arguments = (LinkArgs, Arc<tokio::sync::Mutex<mpsc::Receiver<DeviceFrame>>>);

    async fn pre_start(
        &self,
        myself: ActorRef<LinkMsg>,
        (args, from_agent): Self::Arguments,
    ) -> Result<TaskHandle, ActorProcessingErr> {
        let task = spawn_task("device link", async move {
            let _over = TellOver(myself);
            let mut from_agent = from_agent.lock().await;
            keep_linked(&args, &mut from_agent).await;
        });
        Ok(task.abort_on_drop())
    }

    async fn handle(
        &self,
        _: ActorRef<LinkMsg>,
        LinkMsg::Over: LinkMsg,
        _: &mut TaskHandle,
    ) -> Result<(), ActorProcessingErr> {
        Err("the link's task ended".into())
    }
}

struct TellOver(ActorRef<LinkMsg>);

impl Drop for TellOver {
    fn drop(&mut self) {
        // An actor that is gone need not know.
        let _ = self.0.send_message(LinkMsg::Over);
    }
}

async fn keep_linked(args: &LinkArgs, from_agent: &mut mpsc::Receiver<DeviceFrame>) {
    let mut redial = Redial::new(&args.options);
    let mut network = args.network.clone();
    let (mut dials, mut wait, mut better) = (0, Duration::ZERO, None);
    let mut past = Past::load(args.past.clone());
    loop {
        if wait < REFUSED_WAIT {
            say(args, "connecting", None);
        }
        let connection = match better.take() {
            Some(connection) => connection,
            None => match connect(args, &mut redial, &mut network, wait, from_agent).await {
                Some(connection) => connection,
                None => return,
            },
        };
        dials += 1;
        let begun = Instant::now();
        let hello = hello(args, dials, past.told(args.clock.now()));
        let over = match greet(connection, hello, args.options.ready_deadline).await {
            Ok(link) => {
                up(args, &link);
                redial.held();
                past.begin(args.clock.now());
                let over = tokio::select! {
                    over = carry(args, link, from_agent) => over,
                    never = keep_noting(&mut past, args) => match never {},
                };
                past.end(args.clock.now());
                over
            }
            Err(error) => Over::Broke(error),
        };
        wait = after(args, over, begun.elapsed(), &mut redial, &mut better).await;
    }
}

async fn keep_noting(past: &mut Past, args: &LinkArgs) -> Infallible {
    loop {
        tokio::time::sleep(NOTE_EVERY).await;
        past.note(args.clock.now());
    }
}

/// Dials until there is a connection; `None`: the agent ended.
async fn connect(
    args: &LinkArgs,
    redial: &mut Redial,
    network: &mut watch::Receiver<u64>,
    wait: Duration,
    from_agent: &mut mpsc::Receiver<DeviceFrame>,
) -> Option<Arc<dyn Connection>> {
    let trouble = |error: &LinkError| {
        args.status.send_modify(|status| status.trouble = Some(error.to_string()));
    };
    let dialling = dial(&args.dialler, &args.options, redial, network, wait, trouble);
    tokio::pin!(dialling);
    loop {
        tokio::select! {
            connection = &mut dialling => return Some(connection),
            // What is said without a link is said again by the next hello.
            frame = from_agent.recv() => frame.map(drop)?,
        }
    }
}

/// What the end of a link means for the next one: how long to wait.
async fn after(
    args: &LinkArgs,
    over: Over,
    lasted: Duration,
    redial: &mut Redial,
    better: &mut Option<Arc<dyn Connection>>,
) -> Duration {
    match over {
        Over::Better(connection) => {
            *better = Some(connection);
            Duration::ZERO
        }
        Over::Revoked(message) => {
            say(args, "revoked", Some(message.clone()));
            let _ = args.to_agent.send(FromLink::Revoked(message)).await;
            REFUSED_WAIT
        }
        Over::GoAway(away) => Duration::from_millis(u64::from(away.redial_after_ms)),
        Over::Broke(error) if error.is_final() => {
            say(args, "refused", Some(error.to_string()));
            if let DeviceLinkError::Refused(refusal) = error {
                let _ = args.to_agent.send(FromLink::Revoked(refusal.message)).await;
            }
            REFUSED_WAIT
        }
        Over::Broke(error) => {
            tracing::info!(%error, "the link is gone; it is dialled again");
            say(args, "connecting", Some(error.to_string()));
            // A link that held is dialled again at once.
            if lasted >= HELD { Duration::ZERO } else { redial.failed() }
        }
    }
}

fn say(args: &LinkArgs, state: &str, trouble: Option<String>) {
    let now = args.clock.now();
    args.status.send_modify(|status| {
        if status.state != state {
            state.clone_into(&mut status.state);
            status.since = Some(now);
        }
        status.rtt_ms = None;
        if trouble.is_some() {
            status.trouble = trouble;
        }
    });
}

fn up(args: &LinkArgs, link: &troupe_link::device::DeviceLink) {
    let now = args.clock.now();
    let ahead = link.welcome.now.as_millis() - now.as_millis();
    tracing::info!(node = %link.welcome.node, session = %link.welcome.session, "linked");
    args.status.send_modify(|status| {
        *status = LinkStatus {
            state: "connected".to_owned(),
            cluster: Some(link.welcome.cluster.clone()),
            node: Some(link.welcome.node.clone()),
            carrier: Some(link.connection.carrier().as_str().to_owned()),
            rtt_ms: link.connection.rtt().map(|rtt| rtt.as_secs_f64() * 1_000.0),
            clock_ahead_ms: Some(ahead),
            since: Some(now),
            connects: status.connects + 1,
            trouble: None,
        };
    });
}

fn hello(args: &LinkArgs, dial: u64, links: Vec<LinkAgo>) -> DeviceHello {
    let mut executions = args.outbox.reports();
    executions.truncate(EXECUTIONS_MAX);
    DeviceHello {
        version_min: DEVICE_VERSION,
        version_max: DEVICE_VERSION,
        device: args.device,
        boot: args.boot,
        dial,
        build: args.build.clone(),
        capabilities: args.capabilities.borrow().clone(),
        executions,
        credit: Credit { bytes: TO_DEVICE_CREDIT_BYTES, items: TO_DEVICE_CREDIT_ITEMS },
        links,
    }
}
