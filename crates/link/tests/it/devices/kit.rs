//! A door for devices, an authority in memory, and devices in front of it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use troupe_link::{
    Carrier, LinkOptions, Network,
    device::{
        Admission, DeviceAuthority, DeviceCa, DeviceIdentity, DeviceKey, DeviceLink,
        DeviceLinkError, DeviceSession, Dialler, EdgeDialler, EdgeListener, EdgeListenerOptions,
        EnrolFacts, Enrolled, Invitation, QuicEdgeNetwork, Redemption, RefusedJoin, WsEdgeNetwork,
        greet, read_frame, write_frame,
    },
};
use troupe_types::{Attempt, DeviceId, ExecutionId, SystemClock, Timestamp, Uuid};
use troupe_wire::{
    Credit,
    device::{
        AttemptKey, Capabilities, DeviceFrame, DeviceHello, DeviceRefusal, DeviceRefusalReason,
        EnrolRefusal, EnrolRefusalReason,
    },
};

use crate::fixture::{LONG, anywhere, now};

/// The key that redeemed an invitation, and the device that it became.
type Redeemed = Option<([u8; 32], DeviceId)>;

/// Invitations and revocations in memory.
#[derive(Debug, Default)]
pub(super) struct Authority {
    invited: Mutex<HashMap<[u8; 32], Redeemed>>,
    revoked: Mutex<Vec<DeviceId>>,
    pub(super) asked: AtomicUsize,
    /// So many are told that it cannot be done now, after their invitation was used.
    pub(super) unavailable: AtomicUsize,
    pub(super) refused: Mutex<Vec<RefusedJoin>>,
}

impl Authority {
    pub(super) fn invite(&self, secret: [u8; 16]) {
        self.invited.lock().unwrap().insert(Invitation::secret_hash(&secret), None);
    }

    pub(super) fn revoke(&self, device: DeviceId) {
        self.revoked.lock().unwrap().push(device);
    }
}

#[async_trait]
impl DeviceAuthority for Authority {
    async fn redeem(&self, redemption: Redemption) -> Result<Enrolled, EnrolRefusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut invited = self.invited.lock().unwrap();
        let refused = EnrolRefusal {
            reason: EnrolRefusalReason::UnknownToken,
            message: "no such invitation, or it was used".to_owned(),
            retry_after_ms: 0,
        };
        let slot = invited.get_mut(&Invitation::secret_hash(&redemption.secret));
        let slot = slot.ok_or_else(|| refused.clone())?;
        let device = match slot {
            Some((hash, device)) if *hash == redemption.request_hash => *device,
            Some(_) => return Err(refused),
            None => DeviceId::new(now()),
        };
        *slot = Some((redemption.request_hash, device));
        if self.unavailable.load(Ordering::SeqCst) > 0 {
            self.unavailable.fetch_sub(1, Ordering::SeqCst);
            let reason = EnrolRefusalReason::Unavailable;
            return Err(EnrolRefusal { reason, retry_after_ms: 10, ..refused });
        }
        Ok(Enrolled { device, name: redemption.host, addresses: Vec::new() })
    }

    async fn admit(&self, admission: Admission) -> Result<(), DeviceRefusal> {
        let revoked = self.revoked.lock().unwrap().contains(&admission.device);
        let reason = DeviceRefusalReason::Revoked;
        if revoked { Err(DeviceRefusal { reason, message: "revoked".to_owned() }) } else { Ok(()) }
    }

    async fn renew(&self, _: DeviceId) -> Result<(), String> {
        Ok(())
    }

    fn is_revoked(&self, device: DeviceId) -> Option<String> {
        let revoked = self.revoked.lock().unwrap().contains(&device);
        revoked.then(|| "this device was revoked".to_owned())
    }

    fn refused(&self, refused: RefusedJoin) {
        self.refused.lock().unwrap().push(refused);
    }
}

pub(super) fn network(
    carrier: Carrier,
    at: SocketAddr,
    ca: &DeviceCa,
    options: &LinkOptions,
) -> Arc<dyn Network> {
    let cert = ca.issue_server("node-1", now()).unwrap();
    match carrier {
        Carrier::Quic => {
            Arc::new(QuicEdgeNetwork::bind(at, &cert, options.clone()).unwrap().unwrap())
        }
        _ => Arc::new(WsEdgeNetwork::bind(at, &cert, options.clone()).unwrap().unwrap()),
    }
}

/// Tries both carriers.
pub(super) fn dialler(to: SocketAddr, identity: &DeviceIdentity) -> EdgeDialler {
    EdgeDialler::new(vec![to.to_string()], identity, LinkOptions::default()).unwrap()
}

/// A node's door for devices.
pub(super) struct EdgeDoor {
    /// What its devices dial.
    pub(super) carrier: Carrier,
    pub(super) ca: Arc<DeviceCa>,
    pub(super) authority: Arc<Authority>,
    pub(super) listener: Arc<EdgeListener>,
    pub(super) network: Arc<dyn Network>,
    pub(super) sessions: mpsc::Receiver<DeviceSession>,
    to: mpsc::Sender<DeviceSession>,
    accepting: JoinSet<()>,
}

pub(super) fn ca() -> Arc<DeviceCa> {
    Arc::new(DeviceCa::create("test", now()).unwrap())
}

impl EdgeDoor {
    pub(super) fn open(
        ca: Arc<DeviceCa>,
        network: Arc<dyn Network>,
        options: EdgeListenerOptions,
    ) -> Self {
        let authority = Arc::new(Authority::default());
        let clock = SystemClock::shared();
        let asked: Arc<dyn DeviceAuthority> = authority.clone();
        let listener = EdgeListener::new(options, Arc::clone(&ca), asked, clock);
        let (to, sessions) = mpsc::channel(64);
        let mut accepting = JoinSet::new();
        accepting.spawn(Arc::clone(&listener).accept(Arc::clone(&network), to.clone()));
        let carrier = Carrier::Memory;
        Self { carrier, ca, authority, listener, network, sessions, to, accepting }
    }

    pub(super) fn with(carrier: Carrier, options: EdgeListenerOptions) -> Self {
        let ca = ca();
        let network = network(carrier, anywhere(), &ca, &options.link);
        Self { carrier, ..Self::open(ca, network, options) }
    }

    pub(super) fn over(carrier: Carrier) -> Self {
        Self::with(carrier, EdgeListenerOptions::new("test", "node-1"))
    }

    /// The same door has a second network, on the same port.
    pub(super) fn and(&mut self, carrier: Carrier) {
        let link = EdgeListenerOptions::new("test", "node-1").link;
        let network = network(carrier, self.addr(), &self.ca, &link);
        let to = self.to.clone();
        self.accepting.spawn(Arc::clone(&self.listener).accept(network, to));
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.network.local_addr().unwrap()
    }

    /// A device without the detour of enrolment.
    pub(super) fn device(&self) -> DeviceIdentity {
        identity(&self.ca, DeviceId::new(now()), now(), Duration::from_secs(3_600))
    }

    pub(super) fn dialler(&self, identity: &DeviceIdentity) -> EdgeDialler {
        dialler(self.addr(), identity).only(self.carrier)
    }

    pub(super) async fn dial(
        &self,
        identity: &DeviceIdentity,
    ) -> Result<DeviceLink, DeviceLinkError> {
        let connection = timeout(LONG, self.dialler(identity).dial()).await.unwrap();
        let connection = connection.map_err(DeviceLinkError::Link)?;
        greet(connection, hello(identity.device), LONG).await
    }

    pub(super) async fn next(&mut self) -> DeviceSession {
        timeout(LONG, self.sessions.recv()).await.unwrap().unwrap()
    }

    pub(super) fn nobody(&mut self) {
        assert!(self.sessions.try_recv().is_err(), "somebody came in");
    }

    pub(super) async fn is_open(&mut self) {
        let honest = self.device();
        let link = self.dial(&honest).await.unwrap();
        assert_eq!(self.next().await.hello.device, honest.device);
        link.connection.close("done");
    }

    pub(super) fn invitation(&self, secret: [u8; 16]) -> Invitation {
        let at = self.addr();
        let (host, port) = (at.ip().to_string(), at.port());
        Invitation { host, port, secret, fingerprint: self.ca.fingerprint() }
    }
}

pub(super) fn identity(
    ca: &DeviceCa,
    device: DeviceId,
    from: Timestamp,
    valid: Duration,
) -> DeviceIdentity {
    let key = DeviceKey::generate().unwrap();
    let cert = ca.sign_for(&key.request().unwrap(), device, from, valid).unwrap();
    DeviceIdentity {
        device,
        chain: vec![cert.into()],
        key_pem: key.pem(),
        ca: Bytes::copy_from_slice(ca.cert_der()),
    }
}

pub(super) fn hello(device: DeviceId) -> DeviceHello {
    DeviceHello {
        version_min: 1,
        version_max: 1,
        device,
        boot: Uuid::new_v4(),
        dial: 1,
        build: "test".to_owned(),
        capabilities: Capabilities { slots: 5, ..Capabilities::default() },
        executions: Vec::new(),
        credit: Credit { bytes: 64 * 1024, items: 4 },
        links: Vec::new(),
    }
}

pub(super) fn facts() -> EnrolFacts {
    EnrolFacts {
        host: "laptop".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        build: "test".to_owned(),
    }
}

pub(super) fn key() -> AttemptKey {
    AttemptKey { execution: ExecutionId::new(now()), attempt: Attempt(1) }
}

pub(super) async fn hear(link: &mut DeviceLink) -> DeviceFrame {
    let read = timeout(LONG, read_frame(&mut link.control.read)).await.unwrap();
    read.unwrap().unwrap().0
}

pub(super) async fn say(link: &mut DeviceLink, frame: &DeviceFrame) {
    write_frame(&mut link.control.write, frame).await.unwrap();
}

pub(super) async fn heard(session: &mut DeviceSession) -> DeviceFrame {
    timeout(LONG, session.frames.next()).await.unwrap().unwrap()
}
