//! What goes over a link while it is up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use troupe_link::{
    BoxRead, BoxWrite, Connection,
    device::{
        Credits, DeviceIdentity, DeviceKey, DeviceLink, DeviceLinkError, read_frame, write_frame,
    },
};
use troupe_wire::{
    Credit,
    device::{
        AttemptKey, CertificateAnswer, CertificateRequest, DeviceFrame, GoAway, Ping, Pong,
        limits::TO_DEVICE_CREDIT_ITEMS,
    },
};

use super::{
    CREDIT_PIECE, FromLink, LinkArgs, OUT_MAX, PING_EVERY,
    sender::{Sent, send_attempt},
};

/// A device that could not renew its certificate tries again after this.
const RENEW_AGAIN: Duration = Duration::from_secs(600);
/// How often a link over TCP tries whether UDP is let through by now. A link that moves costs a
/// hello and what was not acknowledged, so this is no matter of seconds.
const BETTER_EVERY: Duration = Duration::from_secs(300);
/// How often the age of the certificate is looked at.
const RENEW_LOOK: Duration = Duration::from_secs(60);

/// Why a link ended, as far as the next one is concerned.
#[derive(Debug)]
pub(super) enum Over {
    /// It broke.
    Broke(DeviceLinkError),
    /// The node leaves.
    GoAway(GoAway),
    /// The device is not wanted any more.
    Revoked(String),
    /// There is a better connection, which is not used yet.
    Better(Arc<dyn Connection>),
}

fn broke(what: &'static str) -> Over {
    Over::Broke(DeviceLinkError::Unexpected { what })
}

/// State of one link.
struct Up<'a> {
    args: &'a LinkArgs,
    connection: Arc<dyn Connection>,
    credits: Arc<Credits>,
    /// Frames of the link itself.
    out: mpsc::Sender<DeviceFrame>,
    /// Frames that the agent has not worked through.
    held: Arc<Semaphore>,
    owed: Mutex<Credit>,
    renewing: Mutex<Option<DeviceKey>>,
    pinged: Mutex<Option<(u64, Instant)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries frames until the link is over. Frames of the agent come from `from_agent`.
pub(super) async fn carry(
    args: &LinkArgs,
    link: DeviceLink,
    from_agent: &mut mpsc::Receiver<DeviceFrame>,
) -> Over {
    let DeviceLink { welcome, connection, control } = link;
    let credits = Arc::new(Credits::new(welcome.credit));
    let (out, mine) = mpsc::channel(OUT_MAX);
    let up = Up {
        args,
        connection,
        credits,
        out,
        held: Arc::new(Semaphore::new(usize::try_from(TO_DEVICE_CREDIT_ITEMS).unwrap_or(1))),
        owed: Mutex::new(Credit { bytes: 0, items: 0 }),
        renewing: Mutex::default(),
        pinged: Mutex::default(),
    };
    if args.to_agent.send(FromLink::Linked { begins: welcome.begins }).await.is_err() {
        return broke("the agent ended");
    }
    let over = tokio::select! {
        biased;
        // First, so that a last word is heard before the end of what carried it.
        over = up.read(control.read) => over,
        _ = up.connection.closed() => broke("the connection ended"),
        over = up.write(control.write, mine, from_agent) => over,
        over = up.send_all() => over,
        () = up.ping() => broke("the link ended"),
        () = up.pongs() => broke("the link ended"),
        () = up.tell_capabilities() => broke("the agent ended"),
        () = up.renew() => broke("the link ended"),
        connection = up.better() => Over::Better(connection),
    };
    up.credits.close();
    up.connection.close("the link is over");
    over
}

impl Up<'_> {
    async fn read(&self, mut read: BoxRead) -> Over {
        loop {
            let (frame, size) = match read_frame(&mut read).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return broke("the stream ended"),
                Err(error) => return Over::Broke(error),
            };
            if let Err(over) = self.on_frame(frame, size).await {
                return over;
            }
        }
    }

    /// What concerns the link is done here; the rest is the agent's.
    async fn on_frame(&self, frame: DeviceFrame, size: usize) -> Result<(), Over> {
        match frame {
            DeviceFrame::OutputAck(ack) => {
                if !self.args.outbox.ack(ack.key, ack.out_seq).await {
                    tracing::error!(key = ?ack.key, "an ack beyond what was ever written");
                    return self.to_agent(FromLink::Damaged(ack.key)).await;
                }
            }
            DeviceFrame::Credit(credit) => {
                // More than can be kept is as good as any number.
                let _ = self.credits.add(credit);
            }
            DeviceFrame::Ping(ping) => {
                self.say(DeviceFrame::Pong(Pong { nonce: ping.nonce })).await
            }
            DeviceFrame::Pong(pong) => self.ponged(pong),
            DeviceFrame::CertificateAnswer(answer) => self.renewed(answer),
            DeviceFrame::Revoked(revoked) => return Err(Over::Revoked(revoked.message)),
            DeviceFrame::GoAway(away) => return Err(Over::GoAway(away)),
            DeviceFrame::Other(..) => {}
            frame => {
                let costs = frame.costs_credit();
                let held = Arc::clone(&self.held).acquire_owned().await;
                let held = held.map_err(|_| broke("the link ended"))?;
                self.to_agent(FromLink::Frame(Box::new(frame), held)).await?;
                if costs {
                    self.give_back(size).await;
                }
            }
        }
        Ok(())
    }

    async fn to_agent(&self, what: FromLink) -> Result<(), Over> {
        self.args.to_agent.send(what).await.map_err(|_| broke("the agent ended"))
    }

    async fn say(&self, frame: DeviceFrame) {
        // The writer takes until the link ends.
        let _ = self.out.send(frame).await;
    }

    /// The agent took a frame: its place is free again.
    async fn give_back(&self, size: usize) {
        let due = {
            let mut owed = lock(&self.owed);
            owed.bytes += u64::try_from(size).unwrap_or(0);
            owed.items += 1;
            let due = owed.bytes >= CREDIT_PIECE || owed.items >= TO_DEVICE_CREDIT_ITEMS / 8;
            due.then(|| std::mem::replace(&mut *owed, Credit { bytes: 0, items: 0 }))
        };
        if let Some(credit) = due {
            self.say(DeviceFrame::Credit(credit)).await;
        }
    }

    async fn write(
        &self,
        mut write: BoxWrite,
        mut mine: mpsc::Receiver<DeviceFrame>,
        from_agent: &mut mpsc::Receiver<DeviceFrame>,
    ) -> Over {
        loop {
            let frame = tokio::select! {
                biased;
                Some(frame) = mine.recv() => frame,
                frame = from_agent.recv() => match frame {
                    Some(frame) => frame,
                    None => return broke("the agent ended"),
                },
            };
            let written = async {
                write_frame(&mut write, &frame).await?;
                write.flush().await.map_err(DeviceLinkError::Stream)
            };
            match written.await {
                Ok(()) => {}
                Err(DeviceLinkError::OwnFrame(error)) => {
                    tracing::error!(%error, "a frame that cannot be said");
                }
                Err(error) => return Over::Broke(error),
            }
        }
    }

    /// A sender for each attempt that has, or may yet have, output.
    async fn send_all(&self) -> Over {
        let mut changes = self.args.outbox.changes();
        let mut senders: JoinSet<(AttemptKey, Result<Sent, DeviceLinkError>)> = JoinSet::new();
        let mut running: BTreeMap<AttemptKey, AbortHandle> = BTreeMap::new();
        loop {
            changes.borrow_and_update();
            let attempts = self.args.outbox.attempts();
            running.retain(|key, sender| {
                let stays = attempts.contains(key);
                if !stays {
                    sender.abort();
                }
                stays
            });
            for key in attempts {
                running.entry(key).or_insert_with(|| {
                    let outbox = self.args.outbox.clone();
                    let connection = Arc::clone(&self.connection);
                    let credits = Arc::clone(&self.credits);
                    senders.spawn(async move {
                        (key, send_attempt(key, outbox, connection, credits).await)
                    })
                });
            }
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return broke("the outbox ended");
                    }
                }
                Some(sent) = senders.join_next(), if !senders.is_empty() => match sent {
                    Ok((_, Ok(Sent::All))) => {}
                    Ok((key, Ok(Sent::Unreadable))) => {
                        if let Err(over) = self.to_agent(FromLink::Damaged(key)).await {
                            return over;
                        }
                    }
                    Ok((_, Err(error))) => return Over::Broke(error),
                    Err(error) if error.is_cancelled() => {}
                    Err(_) => return broke("a sender ended"),
                },
            }
        }
    }

    /// Liveness of the far end itself, and the way there and back.
    async fn ping(&self) {
        let mut ticks = interval(PING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut nonce = 0;
        loop {
            ticks.tick().await;
            nonce += 1;
            *lock(&self.pinged) = Some((nonce, Instant::now()));
            let ping = DeviceFrame::Ping(Ping { nonce });
            let sent = ping.encode().is_ok_and(|bytes| self.connection.send_datagram(bytes));
            if !sent {
                self.say(ping).await;
            }
        }
    }

    async fn pongs(&self) {
        while let Some(datagram) = self.connection.datagram().await {
            if let Ok(DeviceFrame::Pong(pong)) = DeviceFrame::decode_whole(datagram) {
                self.ponged(pong);
            }
        }
    }

    fn ponged(&self, pong: Pong) {
        let Some((nonce, at)) = *lock(&self.pinged) else { return };
        if nonce == pong.nonce {
            let rtt_ms = at.elapsed().as_secs_f64() * 1_000.0;
            self.args.status.send_modify(|status| status.rtt_ms = Some(rtt_ms));
        }
    }

    async fn tell_capabilities(&self) {
        let mut capabilities = self.args.capabilities.clone();
        capabilities.borrow_and_update();
        while capabilities.changed().await.is_ok() {
            let now = capabilities.borrow_and_update().clone();
            self.say(DeviceFrame::Capabilities(Box::new(now))).await;
        }
    }

    /// Resolves when there is something better than the present connection.
    async fn better(&self) -> Arc<dyn Connection> {
        let (dialler, deadline) = (&self.args.dialler, self.args.options.ready_deadline);
        loop {
            sleep(BETTER_EVERY).await;
            let tried = timeout(deadline, dialler.better(self.connection.carrier())).await;
            if let Ok(Ok(connection)) = tried {
                tracing::info!(carrier = connection.carrier().as_str(), "the link moves");
                return connection;
            }
        }
    }

    /// Asks for a new certificate when two thirds of the life of the present one are over.
    async fn renew(&self) {
        let Some(store) = &self.args.identity else { return std::future::pending().await };
        loop {
            let due = store.load().ok().and_then(|identity| identity.renew_at().ok());
            let asks = due.is_some_and(|due| due <= self.args.clock.now());
            if asks
                && let Ok(key) = DeviceKey::generate()
                && let Ok(csr) = key.request()
            {
                *lock(&self.renewing) = Some(key);
                self.say(DeviceFrame::CertificateRequest(CertificateRequest { csr })).await;
                sleep(RENEW_AGAIN).await;
            }
            sleep(RENEW_LOOK).await;
        }
    }

    fn renewed(&self, answer: CertificateAnswer) {
        let (Some(key), Some(store)) = (lock(&self.renewing).take(), &self.args.identity) else {
            return;
        };
        let chain = match answer {
            CertificateAnswer::Granted(chain) => chain,
            refused => {
                tracing::warn!(?refused, "the certificate was not renewed");
                return;
            }
        };
        let kept = store.load().map_err(|error| error.to_string()).and_then(|old| {
            let new = DeviceIdentity { chain, key_pem: key.pem(), ..old };
            // Used before it is kept: one that does not work must not replace one that does.
            self.args.dialler.renewed(&new).map_err(|error| error.to_string())?;
            store.renewed(&new).map_err(|error| error.to_string())
        });
        match kept {
            Ok(()) => tracing::info!("the device's certificate was renewed"),
            Err(error) => tracing::error!(%error, "the renewed certificate could not be kept"),
        }
    }
}
