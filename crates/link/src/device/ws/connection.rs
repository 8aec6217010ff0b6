//! A connection over a WebSocket, as the rest of the crate knows connections.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rustls::{CommonState, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::{Mutex as AsyncMutex, Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_tungstenite::WebSocketStream;

use super::{
    driver::{Driver, Order, Shared, mux_config, streams_max, told},
    streams::{Place, Rest, halves},
    wire::{Pulse, Wire},
};
use crate::{
    error::LinkError,
    options::LinkOptions,
    stream::{Carrier, Connection, LinkStream, Protocol, Purpose, StallGuard, purpose_of},
    tls,
};

/// What TLS found out about the peer.
#[derive(Debug)]
pub(super) struct Over {
    remote: SocketAddr,
    pub(super) protocol: Protocol,
    cert: Option<CertificateDer<'static>>,
}

impl Over {
    pub(super) fn of(remote: SocketAddr, tls: &CommonState) -> Self {
        let cert = tls.peer_certificates().and_then(|certs| certs.first().cloned());
        Self { remote, protocol: tls::protocol(tls.alpn_protocol()), cert }
    }
}

#[derive(Debug)]
pub(super) struct WsConnection {
    over: Over,
    options: LinkOptions,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    arrived: AsyncMutex<mpsc::Receiver<(Place, yamux::Stream)>>,
    rests: mpsc::Sender<Rest>,
    #[expect(dead_code, reason = "held for its drop, which ends the driver")]
    driving: Mutex<JoinSet<()>>,
}

impl WsConnection {
    /// Takes over a socket whose handshakes are done. Ends when it is dropped, or when `closing`
    /// says so.
    pub(super) fn start<S>(
        socket: WebSocketStream<S>,
        pulse: Arc<Pulse>,
        mode: yamux::Mode,
        over: Over,
        options: LinkOptions,
        closing: watch::Receiver<bool>,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let max = streams_max(&options);
        let (give_order, orders) = mpsc::channel(max);
        let (arrive, arrived) = mpsc::channel(2 * max);
        let (rest, rests) = mpsc::channel(4 * max);
        let mux = yamux::Connection::new(
            Wire::new(socket, Arc::clone(&pulse)),
            mux_config(&options),
            mode,
        );
        let places = Arc::new(Semaphore::new(max));
        let shared = Arc::new(Shared { pulse, over: watch::Sender::new(None), places });
        let driver = Driver {
            mux,
            shared: Arc::clone(&shared),
            options: options.clone(),
            orders,
            arrived: arrive,
            rests,
            closing,
        };
        let mut driving = JoinSet::new();
        driving.spawn(driver.run());
        Self {
            over,
            options,
            shared,
            orders: give_order,
            arrived: AsyncMutex::new(arrived),
            rests: rest,
            driving: Mutex::new(driving),
        }
    }

    fn gone(&self) -> LinkError {
        let reason = self.shared.over.borrow().clone();
        LinkError::Connection {
            reason: reason.unwrap_or_else(|| "the connection is gone".to_owned()),
        }
    }

    fn stream(&self, purpose: Purpose, place: Place, stream: yamux::Stream) -> LinkStream {
        let (read, write) = halves(place, stream, self.rests.clone());
        let write = Box::new(StallGuard::new(write, self.options.write_stall));
        LinkStream { purpose, read: Box::new(read), write }
    }
}

#[async_trait]
impl Connection for WsConnection {
    async fn open(&self, purpose: Purpose) -> Result<LinkStream, LinkError> {
        let place = Arc::clone(&self.shared.places).acquire_owned().await;
        let place = Place::Own(place.map_err(|_| self.gone())?);
        let (order, ordered) = oneshot::channel();
        self.orders.send(order).await.map_err(|_| self.gone())?;
        let stream = ordered.await.map_err(|_| self.gone())?;
        let mut stream = self.stream(purpose, place, stream);
        stream.write.write_u8(purpose.code()).await.map_err(LinkError::Stream)?;
        Ok(stream)
    }

    async fn accept(&self) -> Result<LinkStream, LinkError> {
        let arrived = self.arrived.lock().await.recv().await;
        let (place, stream) = arrived.ok_or_else(|| self.gone())?;
        // Its purpose is not known yet; any will do until then.
        let mut stream = self.stream(Purpose::Control, place, stream);
        stream.purpose = purpose_of(&mut stream.read, self.options.write_stall).await?;
        Ok(stream)
    }

    fn is_of(&self, node: &str) -> bool {
        self.over.cert.as_ref().is_some_and(|cert| tls::names(cert, node))
    }

    fn remote(&self) -> SocketAddr {
        self.over.remote
    }

    fn protocol(&self) -> Protocol {
        self.over.protocol
    }

    fn carrier(&self) -> Carrier {
        Carrier::WebSocket
    }

    fn peer_cert(&self) -> Option<Bytes> {
        self.over.cert.as_ref().map(|cert| Bytes::copy_from_slice(cert))
    }

    fn rtt(&self) -> Option<Duration> {
        self.shared.pulse.rtt()
    }

    fn close(&self, why: &'static str) {
        self.shared.end(why);
    }

    async fn closed(&self) -> String {
        told(&mut self.shared.over.subscribe()).await
    }
}
