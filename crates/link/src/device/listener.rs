//! The door for devices: who comes in, who enrols, who is sent away.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{io::AsyncWriteExt, sync::mpsc, task::JoinSet, time::timeout};
use troupe_types::{Clock, DeviceId, Uuid};
use troupe_wire::{
    Credit,
    device::{
        DEVICE_VERSION, DeviceFrame, DeviceHello, DeviceRefusal, DeviceRefusalReason,
        DeviceWelcome,
        limits::{DEVICE_CREDIT_BYTES, DEVICE_CREDIT_ITEMS},
    },
};

use super::{
    authority::{Admission, DeviceAuthority, JoinFault, RefusedJoin},
    ca::DeviceCa,
    enrol::Registrar,
    error::DeviceLinkError,
    frames::{read_frame, write_frame},
    identity::{cert_fingerprint, device_cert_name},
    rate::{RateLimit, RateOptions},
    session::{DeviceSession, Keeper, Pump, session},
    tls,
};
use crate::{
    error::LinkError,
    options::LinkOptions,
    stream::{Carrier, Connection, LinkStream, Network, Protocol, Purpose},
};

/// How a door for devices behaves.
#[derive(Clone, Debug)]
pub struct EdgeListenerOptions {
    /// The cluster's name, for enrolment and welcomes.
    pub cluster: String,
    /// The node's name, for people.
    pub node: String,
    /// Times and limits of links. Default: as for nodes, with 2,048 handshakes at once.
    pub link: LinkOptions,
    /// Sessions at once. Default 10,000.
    pub sessions_max: usize,
    /// Bounds of enrolment.
    pub enrol: RateOptions,
    /// Who serves the sessions says *begin* of what devices take. Default `true`; nodes before
    /// there was that word do not.
    pub begins: bool,
}

impl EdgeListenerOptions {
    /// The defaults, for a node of a cluster.
    #[must_use]
    pub fn new(cluster: &str, node: &str) -> Self {
        let link = LinkOptions { handshakes_max: 2_048, ..LinkOptions::default() };
        Self {
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            link,
            sessions_max: 10_000,
            enrol: RateOptions::default(),
            begins: true,
        }
    }
}

/// A node's side of all device links.
#[derive(Debug)]
pub struct EdgeListener {
    options: EdgeListenerOptions,
    ca: Arc<DeviceCa>,
    authority: Arc<dyn DeviceAuthority>,
    clock: Arc<dyn Clock>,
    limit: RateLimit,
    greetings: AtomicUsize,
    sessions: AtomicUsize,
}

/// Counts one as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Closes a connection that did not become a session.
struct CloseOnDrop(Option<Arc<dyn Connection>>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.close("no session");
        }
    }
}

impl EdgeListener {
    /// A door; nothing is accepted before [`accept`](Self::accept) runs.
    #[must_use]
    pub fn new(
        options: EdgeListenerOptions,
        ca: Arc<DeviceCa>,
        authority: Arc<dyn DeviceAuthority>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let limit = RateLimit::new(options.enrol);
        let (greetings, sessions) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { options, ca, authority, clock, limit, greetings, sessions })
    }

    /// Sessions that are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// Connections whose hello is still to come.
    #[must_use]
    pub fn greetings(&self) -> usize {
        self.greetings.load(Ordering::Acquire)
    }

    /// Serves one network until it is closed; sessions go to `to`, whose reader takes them at
    /// once. Dropping the future ends every session. May run for several networks at a time.
    pub async fn accept(
        self: Arc<Self>,
        network: Arc<dyn Network>,
        to: mpsc::Sender<DeviceSession>,
    ) {
        let mut guests = JoinSet::new();
        loop {
            let arriving = tokio::select! {
                biased;
                Some(_) = guests.join_next(), if !guests.is_empty() => continue,
                arriving = network.arriving(self.greetings()) => arriving,
            };
            let Some(arriving) = arriving else { return };
            let (me, to) = (Arc::clone(&self), to.clone());
            guests.spawn(async move {
                let pump = {
                    let _greeting = Counted::new(&me.greetings);
                    let connection = timeout(me.options.link.ready_deadline, arriving).await;
                    let connection = connection.unwrap_or(Err(LinkError::Deadline));
                    match connection {
                        Ok(connection) => me.guest(connection, &to).await,
                        Err(error) => Err(DeviceLinkError::Link(error)),
                    }
                };
                if let Err(DeviceLinkError::Link(LinkError::Handshake { from, reason })) = &pump
                    && let Some(fault) = tls::client_fault(reason)
                {
                    me.refused(fault, None, Some(from.ip()));
                }
                match pump {
                    Ok(Some(pump)) => {
                        let _session = Counted::new(&me.sessions);
                        pump.run().await;
                    }
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "nobody came in"),
                }
            });
        }
    }

    async fn guest(
        &self,
        connection: Arc<dyn Connection>,
        to: &mpsc::Sender<DeviceSession>,
    ) -> Result<Option<Pump>, DeviceLinkError> {
        let mut guard = CloseOnDrop(Some(Arc::clone(&connection)));
        match connection.protocol() {
            Protocol::Enrol => {
                self.enrol(&*connection).await?;
                Ok(None)
            }
            Protocol::Edge => {
                let welcome = self.welcome(Arc::clone(&connection));
                let welcome = timeout(self.options.link.ready_deadline, welcome).await;
                let (session, pump) = welcome.unwrap_or(Err(DeviceLinkError::Deadline))?;
                let given = timeout(self.options.link.ready_deadline, to.send(session)).await;
                if !matches!(given, Ok(Ok(()))) {
                    return Err(DeviceLinkError::Unexpected { what: "nobody takes sessions" });
                }
                guard.0 = None;
                Ok(Some(pump))
            }
            Protocol::Node => Err(DeviceLinkError::Unexpected { what: "a node" }),
        }
    }

    async fn enrol(&self, connection: &dyn Connection) -> Result<(), DeviceLinkError> {
        let from = connection.remote().ip();
        let limited = self.limit.take(from).err();
        let registrar = Registrar {
            ca: &self.ca,
            authority: &*self.authority,
            clock: &*self.clock,
            cluster: &self.options.cluster,
        };
        let served =
            registrar.serve(connection, from, limited, self.options.link.ready_deadline).await;
        let fault = match &served {
            Ok(fault) => *fault,
            Err(DeviceLinkError::Frame(_)) => Some(JoinFault::Malformed),
            Err(_) => None,
        };
        if let Some(fault) = fault {
            self.refused(fault, None, Some(from));
        }
        served.map(drop)
    }

    fn refused(&self, fault: JoinFault, device: Option<DeviceId>, from: Option<IpAddr>) {
        let from = from.map(|from| from.to_canonical());
        self.authority.refused(RefusedJoin { fault, device, from });
    }

    async fn welcome(
        &self,
        connection: Arc<dyn Connection>,
    ) -> Result<(DeviceSession, Pump), DeviceLinkError> {
        let mut control = connection.accept().await.map_err(DeviceLinkError::Link)?;
        if control.purpose != Purpose::Control {
            return Err(DeviceLinkError::Unexpected { what: "a stream of another purpose" });
        }
        let Some((DeviceFrame::Hello(hello), _)) = read_frame(&mut control.read).await? else {
            return Err(DeviceLinkError::Unexpected { what: "no hello" });
        };
        let version = match self.judge(&hello, &*connection).await {
            Ok(version) => version,
            Err(refusal) => {
                self.refuse(control, &*connection, refusal.clone()).await?;
                return Err(DeviceLinkError::Refused(refusal));
            }
        };
        let id = Uuid::new_v4();
        let welcome = DeviceWelcome {
            version,
            session: id,
            cluster: self.options.cluster.clone(),
            node: self.options.node.clone(),
            now: self.clock.now(),
            credit: Credit { bytes: DEVICE_CREDIT_BYTES, items: DEVICE_CREDIT_ITEMS },
            begins: self.options.begins,
        };
        write_frame(&mut control.write, &DeviceFrame::Welcome(Box::new(welcome))).await?;
        control.write.flush().await.map_err(DeviceLinkError::Stream)?;
        let keeper = Keeper {
            ca: Arc::clone(&self.ca),
            authority: Arc::clone(&self.authority),
            clock: Arc::clone(&self.clock),
        };
        Ok(session(id, *hello, connection, control, keeper))
    }

    /// Whether a device is welcome; the version to speak.
    async fn judge(
        &self,
        hello: &DeviceHello,
        connection: &dyn Connection,
    ) -> Result<u8, DeviceRefusal> {
        let refuse = |reason, message: &str| DeviceRefusal { reason, message: message.to_owned() };
        let in_memory = connection.carrier() == Carrier::Memory;
        let certificate = connection.peer_cert().map(|der| cert_fingerprint(&der));
        let from = (!in_memory).then(|| connection.remote().ip().to_canonical());
        let named = connection.is_of(&device_cert_name(hello.device));
        if !named || (certificate.is_none() && !in_memory) {
            self.refused(JoinFault::WrongName, None, from);
            let message = "the certificate does not name the device that the hello names";
            return Err(refuse(DeviceRefusalReason::WrongName, message));
        }
        if self.sessions() >= self.options.sessions_max {
            return Err(refuse(DeviceRefusalReason::Busy, "too many devices are connected here"));
        }
        let version = hello.common_version(DEVICE_VERSION, DEVICE_VERSION).ok_or_else(|| {
            let message = "there is no version that both ends read: update the older one";
            refuse(DeviceRefusalReason::NoCommonVersion, message)
        })?;
        if let Some(message) = self.authority.is_revoked(hello.device) {
            self.refused(JoinFault::Revoked, Some(hello.device), from);
            return Err(refuse(DeviceRefusalReason::Revoked, &message));
        }
        let admission = Admission { device: hello.device, certificate, from };
        self.authority.admit(admission).await?;
        Ok(version)
    }

    async fn refuse(
        &self,
        mut control: LinkStream,
        connection: &dyn Connection,
        refusal: DeviceRefusal,
    ) -> Result<(), DeviceLinkError> {
        tracing::info!(reason = ?refusal.reason, "a device was refused");
        write_frame(&mut control.write, &DeviceFrame::Refused(refusal)).await?;
        control.write.flush().await.map_err(DeviceLinkError::Stream)?;
        let _ = control.write.shutdown().await;
        // The device closes when it has read why; this runs under the greeting's deadline.
        connection.closed().await;
        Ok(())
    }
}
