//! A device's link: output over the stream of an execution, paid for with credit, taken by the
//! session and acknowledged. Without the outbox, whose disk is another matter.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use troupe_link::{
    Carrier, Connection, LinkOptions, LinkStream, Network as _, Purpose,
    device::{
        Admission, Credits, DeviceAuthority, DeviceCa, DeviceIdentity, DeviceKey, DeviceLink,
        DeviceSession, Dialler as _, EdgeDialler, EdgeListener, EdgeListenerOptions, Enrolled,
        FrameWriter, QuicEdgeNetwork, Redemption, greet, read_frame,
    },
};
use troupe_types::{Attempt, DeviceId, ExecutionId, OutSeq, SystemClock, Timestamp, Uuid};
use troupe_wire::{
    Credit,
    device::{
        Attach, AttemptKey, Capabilities, DEVICE_VERSION, DeviceFrame, DeviceHello, DeviceRefusal,
        EnrolRefusal, EnrolRefusalReason, Output, OutputAck,
    },
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Outputs that one ack is for: what a commit takes together.
const ACKED: u64 = 16;

/// Lets everybody in.
#[derive(Debug)]
struct Anyone;

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

    fn is_revoked(&self, _: DeviceId) -> Option<String> {
        None
    }
}

/// Both ends of a link.
pub(super) struct Edge {
    connection: Arc<dyn Connection>,
    credits: Arc<Credits>,
    acked: watch::Receiver<OutSeq>,
    _tasks: JoinSet<()>,
}

fn output(key: AttemptKey, out_seq: OutSeq, body: Bytes) -> DeviceFrame {
    DeviceFrame::Output(Output { key, out_seq, body })
}

fn key(now: Timestamp) -> AttemptKey {
    AttemptKey { execution: ExecutionId::new(now), attempt: Attempt(1) }
}

/// How long the frame of an output of so many bytes is.
pub(super) fn frame_bytes(body: usize) -> Result<usize> {
    let now = SystemClock::shared().now();
    Ok(output(key(now), OutSeq(1), vec![0; body].into()).encode()?.len())
}

fn identity(ca: &DeviceCa, now: Timestamp) -> Result<DeviceIdentity> {
    let (device, key) = (DeviceId::new(now), DeviceKey::generate()?);
    let cert = ca.sign(&key.request()?, device, now)?;
    let ca = Bytes::copy_from_slice(ca.cert_der());
    Ok(DeviceIdentity { device, chain: vec![cert.into()], key_pem: key.pem(), ca })
}

fn hello(device: DeviceId) -> DeviceHello {
    DeviceHello {
        version_min: DEVICE_VERSION,
        version_max: DEVICE_VERSION,
        device,
        boot: Uuid::new_v4(),
        dial: 1,
        build: "bench".to_owned(),
        capabilities: Capabilities { slots: 1, ..Capabilities::default() },
        executions: Vec::new(),
        credit: Credit { bytes: 64 * 1024, items: 4 },
        links: Vec::new(),
    }
}

impl Edge {
    pub(super) async fn connect() -> Result<Self> {
        let clock = SystemClock::shared();
        let ca = Arc::new(DeviceCa::create("bench", clock.now())?);
        let me = identity(&ca, clock.now())?;
        let options = EdgeListenerOptions::new("bench", "node-1");
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let cert = ca.issue_server("node-1", clock.now())?;
        let network = Arc::new(QuicEdgeNetwork::bind(at, &cert, options.link.clone())??);
        let to = network.local_addr()?.to_string();
        let listener = EdgeListener::new(options, ca, Arc::new(Anyone), clock);
        let (sender, mut sessions) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.accept(network, sender));
        let dialler = EdgeDialler::new(vec![to], &me, LinkOptions::default())?.only(Carrier::Quic);
        let connection = timeout(PATIENCE, dialler.dial()).await.context("dial")??;
        let link = greet(connection, hello(me.device), PATIENCE).await?;
        tasks.spawn(own(sessions.recv().await.context("a session")?));
        let DeviceLink { welcome, connection, control } = link;
        let credits = Arc::new(Credits::new(welcome.credit));
        let (acks, acked) = watch::channel(OutSeq(0));
        let given = Arc::clone(&credits);
        tasks.spawn(listen(control, given, acks));
        Ok(Self { connection, credits, acked, _tasks: tasks })
    }

    /// So many outputs of an execution; how long until the last one is acknowledged.
    pub(super) async fn outputs(&mut self, count: u32, bytes: usize) -> Result<Duration> {
        let key = key(SystemClock::shared().now());
        let stream = self.connection.open(Purpose::Execution).await?;
        // As the agent does it.
        let mut write = FrameWriter::new(stream.write);
        let body = Bytes::from(vec![b'x'; bytes]);
        // Whole groups, so that the last one has an ack.
        let last = OutSeq(u64::from(count).next_multiple_of(ACKED));
        self.acked.mark_unchanged();
        let begun = Instant::now();
        write.write(&DeviceFrame::Attach(Attach { key, from: OutSeq(1) })).await?;
        for n in 1..=last.0 {
            write.write_paid(&output(key, OutSeq(n), body.clone()), &self.credits).await?;
        }
        write.finish().await?;
        while *self.acked.borrow_and_update() != last {
            let changed = timeout(PATIENCE, self.acked.changed()).await;
            changed.context("no acks")?.context("the link ended")?;
        }
        ensure!(begun.elapsed() < PATIENCE, "this took too long to mean anything");
        Ok(begun.elapsed().mul_f64(f64::from(count) / last.0 as f64))
    }
}

/// On the device: credit and acks.
async fn listen(mut control: LinkStream, credits: Arc<Credits>, acks: watch::Sender<OutSeq>) {
    while let Ok(Some((frame, _))) = read_frame(&mut control.read).await {
        match frame {
            DeviceFrame::Credit(credit) => {
                // More than can be kept is as good as any number.
                let _ = credits.add(credit);
            }
            DeviceFrame::OutputAck(ack) => {
                acks.send_replace(ack.out_seq);
            }
            _ => {}
        }
    }
}

/// On the node: takes what comes.
async fn own(mut session: DeviceSession) {
    while let Some(frame) = session.frames.next().await {
        let DeviceFrame::Output(Output { key, out_seq, .. }) = frame else { continue };
        let ack = DeviceFrame::OutputAck(OutputAck { key, out_seq });
        if out_seq.0.is_multiple_of(ACKED) && session.handle.send(&ack).await.is_err() {
            return;
        }
    }
}
