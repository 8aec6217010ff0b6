//! The driver's session, which is replaced when it has lost every server.
//!
//! A session waits up to 10 s between two looks at a server that it cannot reach, and nothing
//! stable tells it to look now. While another server answers that is no harm. After an outage of
//! all of them it would be longer than what Troupe promises for the time after one, so whoever
//! has no connection at all asks the contact points every half second, and connects anew as soon
//! as one listens.

use std::{io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::future::select_ok;
use scylla::{
    client::{
        PoolSize, execution_profile::ExecutionProfile, session::Session,
        session_builder::SessionBuilder,
    },
    cluster::Node,
    policies::timestamp_generator::MonotonicTimestampGenerator,
};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use troupe_store::cause;

use crate::{addresses::Addresses, error::ConnectError, options::ScyllaOptions};

/// Between two looks at whether any server is connected.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same while sessions cannot be made: for a proxy that listens for a database that is away.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Time for a new session.
const BUILD_MAX: Duration = Duration::from_secs(10);
/// CQL's usual port.
const PORT: u16 = 9042;
/// A server that takes no connection within this is not asked for more.
const KNOCK_MAX: Duration = Duration::from_secs(1);

/// The session of now, and what keeps it connected for as long as this lives.
pub(crate) struct Sessions {
    current: Arc<ArcSwap<Session>>,
    _keeper: JoinSet<()>,
}

impl Sessions {
    /// Connects. `profile` is that of statements without one of their own.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`]: no server answered within the time of a start.
    pub(crate) async fn connect(
        options: &ScyllaOptions,
        profile: &ExecutionProfile,
    ) -> Result<Self, ConnectError> {
        let session = build(builder(options, profile), options.timeouts.start).await?;
        let current = Arc::new(ArcSwap::from_pointee(session));
        let mut keeper = JoinSet::new();
        // The keyspace is there once somebody has been connected for a while.
        let again = builder(options, profile).use_keyspace(&options.keyspace, false);
        keeper.spawn(keep(Arc::clone(&current), again, options.clone()));
        Ok(Self { current, _keeper: keeper })
    }

    pub(crate) fn current(&self) -> Arc<Session> {
        self.current.load_full()
    }
}

fn builder(options: &ScyllaOptions, profile: &ExecutionProfile) -> SessionBuilder {
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.contact_points)
        .connection_timeout(options.timeouts.connect)
        .default_execution_profile_handle(profile.clone().into_handle())
        .pool_size(PoolSize::default())
        .schema_agreement_interval(Duration::from_millis(50))
        // Where rows are is all that is asked of the schema, and only of ours.
        .keyspaces_to_fetch([options.keyspace.as_str()])
        .fetch_full_schema_metadata(false)
        .refresh_metadata_on_auto_schema_agreement(false)
        .keepalive_interval(Duration::from_secs(5))
        .keepalive_timeout(Duration::from_secs(5))
        .timestamp_generator(Arc::new(
            // Orders the writes of this process among each other. Nothing else leans on it.
            MonotonicTimestampGenerator::new().without_warnings(),
        ));
    if let Some(credentials) = &options.credentials {
        builder = builder.user(&credentials.user, &credentials.password);
    }
    if let Some(tls) = &options.tls {
        builder = builder.tls_context(Some(Arc::clone(tls)));
    }
    if let Some(datacenter) = &options.datacenter {
        builder = builder.prefer_datacenter(datacenter.clone());
    }
    if !options.addresses.is_empty() {
        builder = builder.address_translator(Arc::new(Addresses(options.addresses.clone())));
    }
    builder
}

async fn build(builder: SessionBuilder, max: Duration) -> Result<Session, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { source };
    let session = timeout(max, builder.build()).await;
    session.map_err(|e| unreachable(cause(e)))?.map_err(|e| unreachable(cause(e)))
}

/// Replaces the session whenever it is connected to nothing and a contact point is there.
async fn keep(current: Arc<ArcSwap<Session>>, again: SessionBuilder, options: ScyllaOptions) {
    let datacenter = options.datacenter.as_deref();
    let is_connected = || is_connected_in(&current.load(), datacenter);
    let (mut away_since, mut pause): (Option<Instant>, _) = (None, LOOK_EVERY);
    loop {
        sleep(pause).await;
        if is_connected() {
            if let Some(since) = away_since.take() {
                let seconds = since.elapsed().as_secs();
                tracing::info!(seconds, "the database is there again");
            }
            pause = LOOK_EVERY;
            continue;
        }
        if away_since.is_none() {
            away_since = Some(Instant::now());
            tracing::warn!(servers = ?options.contact_points, "no server of the database is there");
        }
        if !is_anyone_there(&options.contact_points).await {
            pause = LOOK_EVERY;
            continue;
        }
        match build(again.clone(), BUILD_MAX).await {
            // It may have found its way back meanwhile: it knows the statements already.
            Ok(_) if is_connected() => {}
            Ok(session) if is_connected_in(&session, datacenter) => {
                current.store(Arc::new(session))
            }
            // To another data centre's servers, which are not asked.
            Ok(_) => {}
            Err(error) if pause == LOOK_EVERY => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "the database listens, and no session can be made");
            }
            Err(_) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether a server is connected that requests go to.
fn is_connected_in(session: &Session, datacenter: Option<&str>) -> bool {
    let state = session.get_cluster_state();
    let asked =
        |node: &&Arc<Node>| datacenter.is_none() || node.datacenter.as_deref() == datacenter;
    state.get_nodes_info().iter().filter(asked).any(|node| node.is_connected())
}

/// Whether any of these servers takes a connection.
async fn is_anyone_there(servers: &[String]) -> bool {
    let knock = |server: &String| {
        let server = server.clone();
        let knock = async move {
            match TcpStream::connect(server.as_str()).await {
                // Without a port it is the usual one, as it is to the driver.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    TcpStream::connect((server.as_str(), PORT)).await
                }
                known => known,
            }
        };
        Box::pin(knock)
    };
    timeout(KNOCK_MAX, select_ok(servers.iter().map(knock))).await.is_ok_and(|first| first.is_ok())
}
