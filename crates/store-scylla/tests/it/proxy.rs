//! A proxy that understands just enough of CQL (version 4, uncompressed) to lose the answer to
//! a chosen statement, to hold a chosen statement back, or to be a server that is down.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

const HEADER: usize = 9;
const RESULT: u8 = 0x08;
const PREPARE: u8 = 0x09;
const EXECUTE: u8 = 0x0A;
const BATCH: u8 = 0x0D;
const KIND_PREPARED: [u8; 4] = [0, 0, 0, 4];

struct Frame {
    header: [u8; HEADER],
    body: Vec<u8>,
}

impl Frame {
    async fn read(from: &mut OwnedReadHalf) -> io::Result<Self> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header).await?;
        let size = u32::from_be_bytes(header[5..9].try_into().unwrap());
        let mut body = vec![0; size as usize];
        from.read_exact(&mut body).await?;
        Ok(Self { header, body })
    }

    async fn write(&self, to: &mut OwnedWriteHalf) -> io::Result<()> {
        to.write_all(&self.header).await?;
        to.write_all(&self.body).await
    }

    fn opcode(&self) -> u8 {
        self.header[4]
    }

    fn stream(&self) -> [u8; 2] {
        [self.header[2], self.header[3]]
    }
}

#[derive(Default)]
struct Rules {
    /// Texts of prepared statements by their ids.
    prepared: HashMap<Vec<u8>, String>,
    /// Part of a text, and how many answers to lose.
    lose: Option<(String, usize)>,
    /// What is lost from then on, all of it.
    then: Option<String>,
    lost: usize,
    hold: Option<String>,
}

impl Rules {
    fn names(&self, frame: &Frame, part: &str) -> bool {
        let holds = |id: &Vec<u8>| frame.body.windows(id.len()).any(|window| window == id);
        matches!(frame.opcode(), EXECUTE | BATCH)
            && self.prepared.iter().any(|(id, text)| text.contains(part) && holds(id))
    }
}

struct Shared {
    rules: Mutex<Rules>,
    up: watch::Sender<bool>,
    holding: watch::Sender<bool>,
    held: watch::Sender<usize>,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            rules: Mutex::default(),
            up: watch::Sender::new(true),
            holding: watch::Sender::new(false),
            held: watch::Sender::new(0),
        });
        let of = Arc::clone(&shared);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // The set ends its tasks when it is dropped.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if *of.up.borrow() {
                    connections.spawn(serve(client, server, Arc::clone(&of)));
                }
            }
        });
        Self { address, shared, _serving: serving }
    }

    /// Loses the answers to the next `count` statements whose text contains `part`; they are
    /// carried out all the same.
    pub(crate) fn lose_answers(&self, part: &str, count: usize) {
        let mut rules = self.shared.rules.lock().unwrap();
        (rules.lose, rules.then) = (Some((part.to_owned(), count)), None);
    }

    /// Loses the next answer to one, and from then on all to the other, until other orders come.
    pub(crate) fn lose_answer_then(&self, part: &str, then: &str) {
        let mut rules = self.shared.rules.lock().unwrap();
        (rules.lose, rules.then) = (Some((part.to_owned(), 1)), Some(then.to_owned()));
    }

    /// How many answers were lost so far.
    pub(crate) fn lost(&self) -> usize {
        self.shared.rules.lock().unwrap().lost
    }

    /// Keeps statements whose text contains `part` from the server.
    pub(crate) fn hold(&self, part: &str) {
        self.shared.rules.lock().unwrap().hold = Some(part.to_owned());
        self.shared.holding.send_replace(true);
    }

    /// Waits until a statement is being held.
    pub(crate) async fn held(&self) {
        let mut held = self.shared.held.subscribe();
        held.wait_for(|held| *held > 0).await.unwrap();
    }

    /// Lets everything go that is being held.
    pub(crate) fn release(&self) {
        self.shared.rules.lock().unwrap().hold = None;
        self.shared.holding.send_replace(false);
    }

    /// Closes all connections and takes no new ones, or takes them again.
    pub(crate) fn set_up(&self, up: bool) {
        self.shared.up.send_replace(up);
    }
}

type Streams = Arc<Mutex<HashMap<[u8; 2], Pending>>>;

/// What is to be done with the answer on a stream.
enum Pending {
    /// It tells the id of this text.
    Prepared(String),
    Lose,
}

async fn serve(client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let streams = Streams::default();
    let mut up = shared.up.subscribe();
    // The first that ends takes the others with it.
    tokio::select! {
        _ = requests(from_client, to_server, &shared, &streams) => (),
        _ = answers(from_server, to_client, &shared, &streams) => (),
        _ = up.wait_for(|up| !*up) => (),
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: &Shared,
    streams: &Streams,
) -> io::Result<()> {
    loop {
        let frame = Frame::read(&mut client).await?;
        let held = {
            let mut rules = shared.rules.lock().unwrap();
            let mut streams = streams.lock().unwrap();
            streams.remove(&frame.stream());
            if frame.opcode() == PREPARE {
                let text = String::from_utf8_lossy(&frame.body[4..]).into_owned();
                streams.insert(frame.stream(), Pending::Prepared(text));
            }
            if let Some((part, left)) = rules.lose.clone()
                && left > 0
                && rules.names(&frame, &part)
            {
                let then = rules.then.take_if(|_| left == 1).map(|then| (then, usize::MAX));
                rules.lose = then.or(Some((part, left - 1)));
                rules.lost += 1;
                streams.insert(frame.stream(), Pending::Lose);
            }
            rules.hold.as_ref().is_some_and(|part| rules.names(&frame, part))
        };
        if held {
            shared.held.send_modify(|held| *held += 1);
            let mut holding = shared.holding.subscribe();
            holding.wait_for(|holding| !*holding).await.map_err(io::Error::other)?;
        }
        frame.write(&mut server).await?;
    }
}

async fn answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    shared: &Shared,
    streams: &Streams,
) -> io::Result<()> {
    loop {
        let frame = Frame::read(&mut server).await?;
        let pending = streams.lock().unwrap().remove(&frame.stream());
        match pending {
            Some(Pending::Lose) => continue,
            Some(Pending::Prepared(text))
                if frame.opcode() == RESULT && frame.body.starts_with(&KIND_PREPARED) =>
            {
                let size = usize::from(u16::from_be_bytes([frame.body[4], frame.body[5]]));
                let id = frame.body[6..6 + size].to_vec();
                shared.rules.lock().unwrap().prepared.insert(id, text);
            }
            _ => {}
        }
        frame.write(&mut client).await?;
    }
}
