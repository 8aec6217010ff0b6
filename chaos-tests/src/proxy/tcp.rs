//! A TCP proxy that can be slow, silent, closed, or lose answers.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::cql::Statements;

/// Pieces of one direction that are on their way; a full queue stalls the sender.
const PIECES_MAX: usize = 256;
const PIECE_BYTES: usize = 64 * 1024;
const CONNECT: Duration = Duration::from_secs(3);

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    /// As if it were not there.
    Pass,
    /// Every piece of an answer is late by something between these.
    Slow(Duration, Duration),
    /// This share of the answers to statements is lost (CQL only).
    LoseAnswers(f64),
    /// Nothing goes through; connections stay open.
    Silent,
    /// Connections are cut and refused.
    Closed,
}

/// What its connections carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Cql,
    /// Anything else: passed on as it comes, never lost in part.
    Bytes,
}

/// A running proxy; dropping it ends it.
#[derive(Debug)]
pub(crate) struct TcpProxy {
    pub(crate) addr: SocketAddr,
    mode: watch::Sender<Mode>,
    _running: JoinSet<()>,
}

impl TcpProxy {
    /// Listens at `listen` and connects to `target`.
    pub(crate) async fn start(
        listen: SocketAddr,
        target: SocketAddr,
        protocol: Protocol,
        seed: u64,
    ) -> Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("bind {listen}"))?;
        let addr = listener.local_addr()?;
        let mode = watch::Sender::new(Mode::Pass);
        let seen = mode.subscribe();
        let mut running = JoinSet::new();
        running.spawn(serve(listener, target, protocol, seen, seed));
        Ok(Self { addr, mode, _running: running })
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    protocol: Protocol,
    mode: watch::Receiver<Mode>,
    seed: u64,
) {
    let mut links = JoinSet::new();
    let mut rng = StdRng::seed_from_u64(seed);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = links.join_next() => continue,
        };
        let Ok((client, _)) = accepted else { continue };
        if *mode.borrow() == Mode::Closed {
            continue; // Dropped: as good as refused.
        }
        let rng = StdRng::from_rng(&mut rng);
        links.spawn(link(client, target, protocol, mode.clone(), rng));
    }
}

async fn link(
    client: TcpStream,
    target: SocketAddr,
    protocol: Protocol,
    mode: watch::Receiver<Mode>,
    rng: StdRng,
) {
    let Ok(Ok(server)) = timeout(CONNECT, TcpStream::connect(target)).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (requests, asked) = mpsc::channel(PIECES_MAX);
    let mut closing = mode.clone();
    let up = pump_up(from_client, to_server, mode.clone(), requests);
    let statements = (protocol == Protocol::Cql).then(Statements::default);
    let down = pump_down(from_server, to_client, mode, (asked, statements), rng);
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = closing.wait_for(|mode| *mode == Mode::Closed) => {}
    }
}

/// Waits while nothing may go through.
async fn may_pass(mode: &mut watch::Receiver<Mode>) -> Mode {
    mode.wait_for(|mode| *mode != Mode::Silent).await.map_or(Mode::Closed, |mode| *mode)
}

async fn pump_up(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    requests: mpsc::Sender<Vec<u8>>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        may_pass(&mut mode).await;
        // The other side looks at it to know what is asked.
        if requests.send(piece[..count].to_vec()).await.is_err()
            || to.write_all(&piece[..count]).await.is_err()
        {
            return;
        }
    }
}

async fn pump_down(
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    (mut requests, mut statements): (mpsc::Receiver<Vec<u8>>, Option<Statements>),
    mut rng: StdRng,
) {
    let (late, due) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let mut writer = JoinSet::new();
    writer.spawn(write_when_due(due, to));
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = tokio::select! {
            read = from.read(&mut piece) => match read {
                Ok(count @ 1..) => count,
                _ => return,
            },
            Some(request) = requests.recv() => {
                statements.iter_mut().for_each(|s| s.asked(&request));
                continue;
            }
            Some(_) = writer.join_next() => return,
        };
        while let Ok(request) = requests.try_recv() {
            statements.iter_mut().for_each(|s| s.asked(&request));
        }
        let now = may_pass(&mut mode).await;
        let share = if let Mode::LoseAnswers(share) = now { share } else { 0.0 };
        let kept = match &mut statements {
            Some(s) => s.keep(&piece[..count], || share > 0.0 && rng.random_bool(share)),
            None => piece[..count].to_vec(),
        };
        let wait = match now {
            Mode::Slow(least, most) => rng.random_range(least..=most),
            _ => Duration::ZERO,
        };
        if !kept.is_empty() && late.send((Instant::now() + wait, kept)).await.is_err() {
            return;
        }
    }
}

/// In order: a piece that is late holds up those behind it, as on a real connection.
async fn write_when_due(mut due: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) {
    while let Some((at, piece)) = due.recv().await {
        sleep_until(at).await;
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use troupe_testkit::wait_until;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Answers every frame with a frame of the same stream.
    async fn server() -> Result<(SocketAddr, JoinSet<()>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let mut running = JoinSet::new();
        running.spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut frame = [0; 9];
                while socket.read_exact(&mut frame).await.is_ok() {
                    frame[4] = 8;
                    let _ = socket.write_all(&frame).await;
                }
            }
        });
        Ok((addr, running))
    }

    fn request(stream: u8, opcode: u8) -> [u8; 9] {
        [4, 0, 0, stream, opcode, 0, 0, 0, 0]
    }

    #[tokio::test]
    async fn answers_are_passed_delayed_lost_and_cut() -> Result<()> {
        let (target, _server) = server().await?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let proxy = TcpProxy::start(any, target, Protocol::Cql, 1).await?;
        let mut client = TcpStream::connect(proxy.addr).await?;
        let mut answer = [0; 9];
        client.write_all(&request(1, 10)).await?;
        timeout(PATIENCE, client.read_exact(&mut answer)).await??;
        assert_eq!((answer[3], answer[4]), (1, 8));

        let late = Duration::from_millis(150);
        proxy.set(Mode::Slow(late, late));
        let began = Instant::now();
        client.write_all(&request(2, 10)).await?;
        timeout(PATIENCE, client.read_exact(&mut answer)).await??;
        assert!(began.elapsed() >= late);

        proxy.set(Mode::LoseAnswers(1.0));
        client.write_all(&request(3, 10)).await?;
        client.write_all(&request(4, 5)).await?;
        timeout(PATIENCE, client.read_exact(&mut answer)).await??;
        assert_eq!(answer[3], 4, "the statement's answer is lost, the ping's is not");

        proxy.set(Mode::Silent);
        client.write_all(&request(5, 5)).await?;
        let silent = timeout(Duration::from_millis(200), client.read_exact(&mut answer)).await;
        assert!(silent.is_err());
        proxy.set(Mode::Pass);
        timeout(PATIENCE, client.read_exact(&mut answer)).await??;
        assert_eq!(answer[3], 5);

        proxy.set(Mode::Closed);
        let end = timeout(PATIENCE, client.read(&mut answer)).await?;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        wait_until(PATIENCE, async || match TcpStream::connect(proxy.addr).await {
            Ok(mut again) => !matches!(again.read(&mut [0; 1]).await, Ok(1..)),
            Err(_) => true,
        })
        .await;
        Ok(())
    }

    #[tokio::test]
    async fn what_is_no_cql_passes_as_it_comes() -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let proxy = TcpProxy::start(any, listener.local_addr()?, Protocol::Bytes, 1).await?;
        let mut client = TcpStream::connect(proxy.addr).await?;
        client.write_all(b"PING\r\n").await?;
        let (mut server, _) = timeout(PATIENCE, listener.accept()).await??;
        let mut asked = [0; 6];
        timeout(PATIENCE, server.read_exact(&mut asked)).await??;
        assert_eq!(&asked, b"PING\r\n");
        // In CQL it would be the beginning of a frame of 1.2 GB.
        server.write_all(b"+PONG\r\n-ERR\r\n").await?;
        let mut answer = [0; 13];
        timeout(PATIENCE, client.read_exact(&mut answer)).await??;
        assert_eq!(&answer, b"+PONG\r\n-ERR\r\n");
        Ok(())
    }
}
