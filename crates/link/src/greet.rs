//! From a connection to a link: certificate, hello, version; both ways, under one deadline.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use troupe_types::Uuid;
use troupe_wire::{
    BATCH_VERSION, Hello, Refusal, RefusalReason, Welcome,
    limits::{HELLO_BYTES_MAX, TEXT_BYTES_MAX},
};

use crate::{
    error::LinkError,
    name::check_node_name,
    options::LinkOptions,
    stream::{Connection, LinkStream, Network, Purpose},
};

/// Time for a refusal to be read before the connection is closed.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Who this node is, for every hello.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: String,
    /// The node's name, as in its certificate.
    pub node: String,
    /// New with every start of the process.
    pub boot: Uuid,
    /// What is built in.
    pub build: String,
    /// Its roles by name.
    pub roles: Vec<String>,
    /// The number of its Router's ingress.
    pub ingress: u64,
}

impl Identity {
    fn hello(&self) -> Hello {
        Hello {
            cluster: self.cluster.clone(),
            node: self.node.clone(),
            boot: self.boot,
            version_min: BATCH_VERSION,
            version_max: BATCH_VERSION,
            build: self.build.clone(),
            roles: self.roles.clone(),
            ingress: self.ingress,
            // New for every link, so that a word of an older one is not taken for one of this.
            token: Uuid::new_v4().as_u64_pair().1,
        }
    }

    /// Whether a peer is welcome.
    fn judge(
        &self,
        peer: &Hello,
        mine: &Hello,
        connection: &dyn Connection,
    ) -> Result<u8, Refusal> {
        let refuse = |reason, message: &str| Refusal { reason, message: message.to_owned() };
        if check_node_name(&peer.node).is_err() || !connection.is_of(&peer.node) {
            let message = "the certificate does not name the node that the hello names";
            return Err(refuse(RefusalReason::WrongName, message));
        }
        if peer.cluster != self.cluster {
            return Err(refuse(RefusalReason::WrongCluster, "this is another cluster"));
        }
        if peer.node == self.node {
            return Err(refuse(RefusalReason::Myself, "both ends have the same name"));
        }
        mine.common_version(peer).ok_or_else(|| {
            refuse(RefusalReason::NoCommonVersion, "there is no version that both ends read")
        })
    }
}

/// A connection whose two ends know each other.
#[derive(Debug)]
pub struct Link {
    /// Who the peer is.
    pub peer: Hello,
    /// What it was told.
    pub mine: Hello,
    /// The version of batches to write.
    pub version: u8,
    /// Whether this end dialled.
    pub dialled: bool,
    /// What carries the streams.
    pub connection: Arc<dyn Connection>,
    /// The stream of the hellos; nothing more is said on it today.
    pub control: LinkStream,
}

/// Dials a node once.
///
/// # Errors
/// See [`LinkError`]; nothing is left behind.
pub async fn dial(
    network: &dyn Network,
    me: &Identity,
    node: &str,
    to: SocketAddr,
    options: &LinkOptions,
) -> Result<Link, LinkError> {
    let work = async {
        let connection = network.dial(node, to).await?;
        let guard = CloseOnDrop(Some(Arc::clone(&connection)));
        let mut control = connection.open(Purpose::Control).await?;
        let mine = me.hello();
        say(&mut control, &Welcome::Hello(mine.clone())).await?;
        let peer = hear(&mut control).await?;
        // Whom was dialled is whom the certificate names; the hello must say the same.
        let judged = if peer.node == node {
            me.judge(&peer, &mine, &*connection)
        } else {
            let message = "another node answered".to_owned();
            Err(Refusal { reason: RefusalReason::WrongName, message })
        };
        let version = judged.map_err(LinkError::Unwanted)?;
        guard.keep();
        Ok(Link { peer, mine, version, dialled: true, connection, control })
    };
    timeout(options.ready_deadline, work).await.unwrap_or(Err(LinkError::Deadline))
}

/// Welcomes whoever comes, until the network closes. Every newcomer's handshake runs by itself;
/// a failed one is noted in the log and forgotten.
pub async fn accept_links(
    network: Arc<dyn Network>,
    me: Arc<Identity>,
    options: LinkOptions,
    links: mpsc::Sender<Link>,
) {
    let mut greetings = JoinSet::new();
    loop {
        let under_way = greetings.len();
        let arriving = tokio::select! {
            biased;
            Some(_) = greetings.join_next(), if under_way > 0 => continue,
            arriving = network.arriving(under_way) => arriving,
        };
        let Some(arriving) = arriving else { return };
        let (me, links, deadline) = (Arc::clone(&me), links.clone(), options.ready_deadline);
        greetings.spawn(async move {
            let welcome = async { welcome(arriving.await?, &me).await };
            match timeout(deadline, welcome).await.unwrap_or(Err(LinkError::Deadline)) {
                Ok(link) => {
                    // The owner takes links at once, or is gone and closes the network.
                    let _ = timeout(deadline, links.send(link)).await;
                }
                Err(error) => tracing::debug!(%error, "nobody was welcomed"),
            }
        });
    }
}

async fn welcome(connection: Arc<dyn Connection>, me: &Identity) -> Result<Link, LinkError> {
    let guard = CloseOnDrop(Some(Arc::clone(&connection)));
    let mut control = connection.accept().await?;
    if control.purpose != Purpose::Control {
        return Err(LinkError::Purpose(control.purpose.code()));
    }
    let peer = hear(&mut control).await?;
    let mine = me.hello();
    match me.judge(&peer, &mine, &*connection) {
        Ok(version) => {
            say(&mut control, &Welcome::Hello(mine.clone())).await?;
            guard.keep();
            Ok(Link { peer, mine, version, dialled: false, connection, control })
        }
        Err(refusal) => {
            say(&mut control, &Welcome::Refused(refusal.clone())).await?;
            let _ = control.write.shutdown().await;
            // The peer closes when it has read why.
            let _ = timeout(LAST_WORD, connection.closed()).await;
            Err(LinkError::Unwanted(refusal))
        }
    }
}

async fn say(control: &mut LinkStream, welcome: &Welcome) -> Result<(), LinkError> {
    let bytes = welcome.encode().map_err(LinkError::OwnHello)?;
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    control.write.write_u32(len).await.map_err(LinkError::Stream)?;
    control.write.write_all(&bytes).await.map_err(LinkError::Stream)?;
    control.write.flush().await.map_err(LinkError::Stream)
}

async fn hear(control: &mut LinkStream) -> Result<Hello, LinkError> {
    let len = control.read.read_u32().await.map_err(LinkError::Stream)?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > HELLO_BYTES_MAX {
        let found = u64::try_from(len).unwrap_or(u64::MAX);
        let max = u64::try_from(HELLO_BYTES_MAX).unwrap_or(u64::MAX);
        let what = "hello";
        return Err(LinkError::Hello(troupe_wire::DecodeError::TooLarge { what, found, max }));
    }
    let mut bytes = vec![0; len];
    control.read.read_exact(&mut bytes).await.map_err(LinkError::Stream)?;
    match Welcome::decode(Bytes::from(bytes)).map_err(LinkError::Hello)? {
        Welcome::Hello(hello) => Ok(hello),
        Welcome::Refused(mut refusal) => {
            refusal.message.truncate(refusal.message.floor_char_boundary(TEXT_BYTES_MAX));
            Err(LinkError::Refused(refusal))
        }
    }
}

/// Closes a connection that did not become a link.
struct CloseOnDrop(Option<Arc<dyn Connection>>);

impl CloseOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.close("no link");
        }
    }
}
