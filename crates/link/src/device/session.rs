//! A device's session on the node where its link ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use thiserror::Error;
use tokio::{
    io::{AsyncWriteExt, BufWriter},
    sync::{mpsc, watch},
    task::{JoinSet, yield_now},
    time::{MissedTickBehavior, interval, timeout},
};
use troupe_types::{Clock, DeviceId, OutSeq, Uuid};
use troupe_wire::{
    EncodeError,
    device::{
        AttemptKey, CertificateAnswer, DeviceFrame, DeviceHello, Pong, Revoked,
        limits::MESSAGE_BYTES_MAX,
    },
};

use super::{
    authority::DeviceAuthority,
    ca::DeviceCa,
    credits::Credits,
    error::DeviceLinkError,
    frames::{FrameReader, read_frame},
    heard::{Allowed, DeviceFrames},
};
use crate::{
    error::LinkError,
    stream::{BoxRead, BoxWrite, Carrier, Connection, LinkStream, Purpose},
};

/// Frames that wait for the owner of a session, and for the writer to the device.
pub(super) const QUEUE: usize = 256;
/// How often a session asks whether its device was revoked.
const REVOKED_EVERY: Duration = Duration::from_millis(250);
/// Time for a last word to be read before the link ends.
const LAST_WORD: Duration = Duration::from_millis(300);
/// How long an authority may take over a renewal.
const RENEW_MAX: Duration = Duration::from_secs(10);
/// Frames that go through a queue together, and those that are written before the stream is
/// flushed.
pub(super) const AT_ONCE: usize = 64;
/// Short ones of those go out with one write.
const BUFFER_BYTES: usize = 16 * 1024;

/// Why something was not sent to a device.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SessionError {
    /// The link is gone: nothing is known about frames that were sent shortly before.
    #[error("the device's link is gone")]
    Gone,
    /// The frame does not fit; nothing was sent.
    #[error("the frame does not fit")]
    Frame(#[source] EncodeError),
}

/// What is kept of a link by all its ends.
#[derive(Debug)]
struct Shared {
    device: DeviceId,
    connection: Arc<dyn Connection>,
    outward: mpsc::Sender<Bytes>,
    /// What the device may still send.
    allowed: Arc<Allowed>,
    /// What may still be sent to the device.
    credits: Credits,
    closed: watch::Sender<Option<String>>,
}

impl Shared {
    fn close(&self, why: &str) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert_with(|| why.to_owned());
            first
        });
        self.credits.close();
    }
}

/// Speaks to a device; cheap to clone. Dropping all of them does not end the link.
#[derive(Clone, Debug)]
pub struct DeviceSessionHandle(Arc<Shared>);

impl DeviceSessionHandle {
    /// The device.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.0.device
    }

    /// Sends a frame on the control stream. Waits while the device gives no credit or takes
    /// nothing; a link that takes nothing for 5 s ends.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn send(&self, frame: &DeviceFrame) -> Result<(), SessionError> {
        let bytes = frame.encode().map_err(SessionError::Frame)?;
        if frame.costs_credit() {
            self.0.credits.pay(bytes.len()).await.map_err(|_| SessionError::Gone)?;
        }
        self.0.outward.send(bytes).await.map_err(|_| SessionError::Gone)
    }

    /// Ends the link at once.
    pub fn close(&self, why: &str) {
        self.0.close(why);
    }

    /// Resolves when the link is gone; says why.
    pub async fn closed(&self) -> String {
        let mut closed = self.0.closed.subscribe();
        let why = closed.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    /// Whether the link is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.borrow().is_some()
    }

    /// How long a packet and its answer take.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.0.connection.rtt()
    }

    /// Where the device is now.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.0.connection.remote()
    }

    /// What carries the link.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        self.0.connection.carrier()
    }
}

/// A device that is here.
#[derive(Debug)]
pub struct DeviceSession {
    /// This link, for logs on both sides.
    pub session: Uuid,
    /// What the device said first.
    pub hello: DeviceHello,
    /// Speaks to it.
    pub handle: DeviceSessionHandle,
    /// Hears it. Dropping it ends the link.
    pub frames: DeviceFrames,
}

/// What the pump of a session needs besides.
pub(super) struct Keeper {
    pub(super) ca: Arc<DeviceCa>,
    pub(super) authority: Arc<dyn DeviceAuthority>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Moves frames between a link and its session, until one of them is gone.
pub(super) struct Pump {
    shared: Arc<Shared>,
    control: LinkStream,
    inward: mpsc::Sender<(DeviceFrame, usize)>,
    outward: mpsc::Receiver<Bytes>,
    keeper: Keeper,
}

/// A session and its pump.
pub(super) fn session(
    session: Uuid,
    hello: DeviceHello,
    connection: Arc<dyn Connection>,
    control: LinkStream,
    keeper: Keeper,
) -> (DeviceSession, Pump) {
    let (inward, frames) = mpsc::channel(QUEUE);
    let (out, outward) = mpsc::channel(QUEUE);
    let shared = Arc::new(Shared {
        device: hello.device,
        connection,
        outward: out,
        allowed: Arc::default(),
        credits: Credits::new(hello.credit),
        closed: watch::Sender::new(None),
    });
    let frames = DeviceFrames::new(shared.device, frames, Arc::clone(&shared.allowed));
    let handle = DeviceSessionHandle(Arc::clone(&shared));
    (
        DeviceSession { session, hello, handle, frames },
        Pump { shared, control, inward, outward, keeper },
    )
}

impl Pump {
    /// Runs until the link is gone.
    pub(super) async fn run(self) {
        let Self { shared, control, inward, outward, keeper } = self;
        let LinkStream { read, write, .. } = control;
        let mut closed = shared.closed.subscribe();
        let why = tokio::select! {
            biased;
            why = closed.wait_for(Option::is_some) => {
                why.ok().and_then(|why| why.clone()).unwrap_or_default()
            }
            why = shared.connection.closed() => why,
            () = inward.closed() => "the session was dropped".to_owned(),
            why = watch_revocation(&shared, &*keeper.authority) => why,
            error = write_control(write, outward, &shared.allowed) => text(&error),
            error = read_control(read, &shared, &inward, &keeper) => text(&error),
            error = read_executions(&shared, &inward) => text(&error),
            () = answer_datagrams(&*shared.connection) => "the link ended".to_owned(),
        };
        tracing::debug!(device = %shared.device, %why, "the link of a device ended");
        shared.close(&why);
        shared.connection.close("the session ended");
    }
}

fn text(error: &DeviceLinkError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Resolves when the device was revoked and had time to read that.
async fn watch_revocation(shared: &Shared, authority: &dyn DeviceAuthority) -> String {
    let mut ticks = interval(REVOKED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(mut message) = authority.is_revoked(shared.device) else { continue };
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        if let Ok(frame) = DeviceFrame::Revoked(Revoked { message }).encode() {
            // A queue that is full will not be read in time either.
            let _ = shared.outward.try_send(frame);
        }
        let _ = timeout(LAST_WORD, shared.connection.closed()).await;
        return "revoked".to_owned();
    }
}

/// Writes what is to be said, and credit when enough of it is owed.
async fn write_control(
    write: BoxWrite,
    mut queue: mpsc::Receiver<Bytes>,
    allowed: &Allowed,
) -> DeviceLinkError {
    let mut write = BufWriter::with_capacity(BUFFER_BYTES, write);
    let mut frames = Vec::new();
    loop {
        tokio::select! {
            count = queue.recv_many(&mut frames, AT_ONCE) => if count == 0 {
                return DeviceLinkError::Unexpected { what: "the end of the queue" };
            },
            credit = allowed.due() => match DeviceFrame::Credit(credit).encode() {
                Ok(frame) => frames.push(frame),
                Err(error) => return DeviceLinkError::OwnFrame(error),
            },
        }
        for frame in frames.drain(..) {
            if let Err(error) = write.write_all(&frame).await {
                return DeviceLinkError::Stream(error);
            }
        }
        if let Err(error) = write.flush().await {
            return DeviceLinkError::Stream(error);
        }
    }
}

async fn read_control(
    mut read: BoxRead,
    shared: &Shared,
    inward: &mpsc::Sender<(DeviceFrame, usize)>,
    keeper: &Keeper,
) -> DeviceLinkError {
    loop {
        let (frame, size) = match read_frame(&mut read).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return DeviceLinkError::Unexpected { what: "the end of the stream" },
            Err(error) => return error,
        };
        match on_control(frame, size, shared, inward, keeper).await {
            Ok(()) => {}
            Err(error) => return error,
        }
    }
}

/// What concerns the link is answered here; the rest goes to the session's owner.
async fn on_control(
    frame: DeviceFrame,
    size: usize,
    shared: &Shared,
    inward: &mpsc::Sender<(DeviceFrame, usize)>,
    keeper: &Keeper,
) -> Result<(), DeviceLinkError> {
    let answer = match frame {
        DeviceFrame::Ping(ping) => DeviceFrame::Pong(Pong { nonce: ping.nonce }),
        DeviceFrame::Pong(_) => return Ok(()),
        DeviceFrame::Credit(credit) => {
            let kept = shared.credits.add(credit);
            return kept.then_some(()).ok_or(DeviceLinkError::OverCredit);
        }
        DeviceFrame::CertificateRequest(request) => {
            DeviceFrame::CertificateAnswer(renew(shared.device, &request.csr, keeper).await)
        }
        DeviceFrame::AssignmentAnswer(_)
        | DeviceFrame::InputAnswer(_)
        | DeviceFrame::Ended(_)
        | DeviceFrame::SecretsWanted(_)
        | DeviceFrame::PackageWanted(_)
        | DeviceFrame::Capabilities(_)
        | DeviceFrame::Drain(_)
        | DeviceFrame::Other(..) => return deliver(inward, frame, size).await,
        _ => return Err(DeviceLinkError::Unexpected { what: "a frame that devices do not send" }),
    };
    let bytes = answer.encode().map_err(DeviceLinkError::OwnFrame)?;
    shared.outward.send(bytes).await.map_err(|_| DeviceLinkError::Deadline)
}

async fn deliver(
    inward: &mpsc::Sender<(DeviceFrame, usize)>,
    frame: DeviceFrame,
    size: usize,
) -> Result<(), DeviceLinkError> {
    inward.send((frame, size)).await.map_err(|_| session_gone())
}

const fn session_gone() -> DeviceLinkError {
    DeviceLinkError::Unexpected { what: "the end of the session" }
}

async fn renew(device: DeviceId, csr: &[u8], keeper: &Keeper) -> CertificateAnswer {
    let allowed = timeout(RENEW_MAX, keeper.authority.renew(device)).await;
    let allowed = allowed.unwrap_or_else(|_| Err("the cluster did not answer in time".to_owned()));
    let signed = allowed.and_then(|()| {
        let signed = keeper.ca.sign(csr, device, keeper.clock.now());
        signed.map_err(|error| error.to_string())
    });
    match signed {
        Ok(cert) => {
            tracing::info!(%device, "a device's certificate was renewed");
            CertificateAnswer::Granted(vec![cert.into()])
        }
        Err(mut message) => {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            CertificateAnswer::Refused(message)
        }
    }
}

/// Every stream of an execution has a reader of its own, so that none waits behind another;
/// their number is bounded by the transport's limit of streams.
async fn read_executions(
    shared: &Arc<Shared>,
    inward: &mpsc::Sender<(DeviceFrame, usize)>,
) -> DeviceLinkError {
    let mut readers: JoinSet<Result<(), DeviceLinkError>> = JoinSet::new();
    let mut accepting = Box::pin(shared.connection.accept());
    loop {
        let stream = tokio::select! {
            biased;
            Some(read) = readers.join_next(), if !readers.is_empty() => match read {
                Ok(Err(error)) => return error,
                Ok(Ok(())) => continue,
                Err(_) => return DeviceLinkError::Unexpected { what: "the end of a reader" },
            },
            stream = &mut accepting => stream,
        };
        let stream = match stream {
            Ok(stream) if stream.purpose == Purpose::Execution => stream,
            Ok(_) => return DeviceLinkError::Unexpected { what: "a stream of another purpose" },
            // It was let go of before it was known; as later, that is an end like another.
            Err(LinkError::Stream(error)) => {
                tracing::debug!(device = %shared.device, %error, "a stream that came to nothing");
                accepting = Box::pin(shared.connection.accept());
                yield_now().await;
                continue;
            }
            Err(error) => return DeviceLinkError::Link(error),
        };
        accepting = Box::pin(shared.connection.accept());
        readers.spawn(read_execution(stream, Arc::clone(shared), inward.clone()));
    }
}

/// Attach, then output without gaps; a stream that is reset is an end like another.
async fn read_execution(
    stream: LinkStream,
    shared: Arc<Shared>,
    inward: mpsc::Sender<(DeviceFrame, usize)>,
) -> Result<(), DeviceLinkError> {
    let mut read = FrameReader::new(stream.read);
    let (mut attached, mut frames) = (None, Vec::new());
    loop {
        let mut next = match read.next().await {
            Ok(Some(frame)) => Some(frame),
            Ok(None) | Err(DeviceLinkError::Stream(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        while let Some((frame, size)) = next {
            if on_execution(&frame, size, &mut attached, &shared)? {
                frames.push((frame, size));
            }
            next = if frames.len() < AT_ONCE { read.next_here()? } else { None };
        }
        deliver_all(&inward, &mut frames).await?;
    }
}

/// Whether a frame of an execution's stream is for the session's owner.
fn on_execution(
    frame: &DeviceFrame,
    size: usize,
    attached: &mut Option<(AttemptKey, OutSeq)>,
    shared: &Shared,
) -> Result<bool, DeviceLinkError> {
    match (frame, attached) {
        (DeviceFrame::Attach(attach), attached @ None) => {
            *attached = Some((attach.key, attach.from));
        }
        (DeviceFrame::Output(output), Some((key, next)))
            if output.key == *key && output.out_seq == *next =>
        {
            *next = next.next();
            shared.allowed.pay(size)?;
        }
        (DeviceFrame::Other(..), _) => return Ok(false),
        _ => return Err(DeviceLinkError::Unexpected { what: "output out of order" }),
    }
    Ok(true)
}

/// Takes some frames at once to the session's owner: who has to wake up for them does so once.
async fn deliver_all(
    inward: &mpsc::Sender<(DeviceFrame, usize)>,
    frames: &mut Vec<(DeviceFrame, usize)>,
) -> Result<(), DeviceLinkError> {
    let places = inward.reserve_many(frames.len()).await.map_err(|_| session_gone())?;
    for (place, frame) in places.zip(frames.drain(..)) {
        place.send(frame);
    }
    Ok(())
}

async fn answer_datagrams(connection: &dyn Connection) {
    while let Some(datagram) = connection.datagram().await {
        if let Ok(DeviceFrame::Ping(ping)) = DeviceFrame::decode_whole(datagram)
            && let Ok(pong) = DeviceFrame::Pong(Pong { nonce: ping.nonce }).encode()
        {
            let _ = connection.send_datagram(pong);
        }
    }
}
