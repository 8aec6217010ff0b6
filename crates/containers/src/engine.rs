//! A Docker engine, as far as a pool needs it. Every call is bounded in time.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::Ipv4Addr,
    pin::Pin,
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    container::LogOutput,
    errors::Error as DockerError,
    models::{ContainerSummaryStateEnum, NetworkCreateRequest},
    query_parameters::{
        AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
        InspectNetworkOptions, ListContainersOptionsBuilder, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, StartContainerOptions,
    },
};
use futures::StreamExt as _;
use thiserror::Error;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    plan::{Neighbour, Seen},
    spec::{Limits, POOL_LABEL, PORTS, Spec},
};

/// Seconds that one call may take; starting a container on a busy machine takes some.
const CALL_SECONDS: u64 = 60;
const CALL: Duration = Duration::from_secs(CALL_SECONDS);
/// Lines of a container's log that are told when it does not come up.
const LOG_LINES: &str = "10";
/// Characters of them.
const LOG_CHARS: usize = 1_000;

/// What an engine did not do.
#[derive(Debug, Error)]
pub enum EngineError {
    /// It said no, or is not there.
    #[error("the Docker engine: {0}")]
    Docker(#[from] DockerError),
    /// It did not answer in time.
    #[error("the Docker engine does not answer")]
    Silent,
    /// The address is of no known form.
    #[error("`{0}` is no address of an engine: write unix:///var/run/docker.sock")]
    Address(String),
    /// The image is not in the engine.
    #[error("the Docker engine has no image {0}: make it with `cargo xtask image`, or pull it")]
    NoImage(String),
    /// The network has no address of this machine.
    #[error("the network {0} has no gateway")]
    NoGateway(String),
    /// All ports for containers are taken.
    #[error("all ports from {} to {} are taken", PORTS.start(), PORTS.end())]
    NoPort,
}

impl EngineError {
    fn is_status(&self, code: u16) -> bool {
        let Self::Docker(DockerError::DockerResponseServerError { status_code, .. }) = self else {
            return false;
        };
        *status_code == code
    }

    /// A port that somebody took meanwhile.
    fn is_port(&self) -> bool {
        let Self::Docker(DockerError::DockerResponseServerError { message, .. }) = self else {
            return false;
        };
        message.contains("port is already allocated") || message.contains("address already in use")
    }
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) running: bool,
    pub(crate) out_of_memory: bool,
    pub(crate) code: Option<i64>,
}

/// A started container that waits for a line.
pub(crate) struct Waiting {
    pub(crate) name: String,
    input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Waiting {
    /// Gives it the line; it starts to work.
    pub(crate) async fn tell(mut self, line: &str) -> Result<(), EngineError> {
        let told = async {
            self.input.write_all(line.as_bytes()).await?;
            self.input.write_all(b"\n").await?;
            self.input.flush().await?;
            self.input.shutdown().await
        };
        match timeout(CALL, told).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(DockerError::from(error).into()),
            Err(_) => Err(EngineError::Silent),
        }
    }
}

/// A Docker engine.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Docker,
    pool: String,
    network: String,
    limits: Limits,
    publishes: bool,
}

async fn bounded<T>(call: impl Future<Output = Result<T, DockerError>>) -> Result<T, EngineError> {
    timeout(CALL, call).await.map_err(|_| EngineError::Silent)?.map_err(EngineError::from)
}

impl Engine {
    /// Connects to the engine at `unix:///PATH`. `pool`: `CLUSTER/NODE`, the name of what it makes.
    ///
    /// # Errors
    /// It is not there, or does not answer.
    pub async fn connect(
        address: &str,
        pool: String,
        network: String,
        limits: Limits,
    ) -> Result<Self, EngineError> {
        if !address.starts_with("unix:///") {
            return Err(EngineError::Address(address.to_owned()));
        }
        let docker = Docker::connect_with_unix(address, CALL_SECONDS, API_DEFAULT_VERSION)?;
        let docker = bounded(docker.negotiate_version()).await?;
        Ok(Self { docker, pool, network, limits, publishes: true })
    }

    /// Makes the bridge network unless it is there; answers this machine's address on it.
    /// `isolated`: containers reach this machine and nothing else.
    ///
    /// # Errors
    /// The engine's.
    pub async fn open_network(&mut self, isolated: bool) -> Result<Ipv4Addr, EngineError> {
        // A port of an isolated network leads nowhere.
        self.publishes = !isolated;
        let options: Option<InspectNetworkOptions> = None;
        let found = bounded(self.docker.inspect_network(&self.network, options.clone())).await;
        match found {
            Err(error) if error.is_status(404) => {
                let request = NetworkCreateRequest {
                    name: self.network.clone(),
                    driver: Some("bridge".to_owned()),
                    internal: Some(isolated),
                    // Containers do not reach each other.
                    options: Some(HashMap::from([(
                        "com.docker.network.bridge.enable_icc".to_owned(),
                        "false".to_owned(),
                    )])),
                    labels: Some(HashMap::from([(POOL_LABEL.to_owned(), self.pool.clone())])),
                    ..NetworkCreateRequest::default()
                };
                bounded(self.docker.create_network(request)).await?;
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let network = bounded(self.docker.inspect_network(&self.network, options)).await?;
        let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let mut gateways = configs.into_iter().filter_map(|config| config.gateway?.parse().ok());
        gateways.next().ok_or_else(|| EngineError::NoGateway(self.network.clone()))
    }

    /// Whether the image is there.
    ///
    /// # Errors
    /// [`EngineError::NoImage`], or the engine's.
    pub async fn find_image(&self, image: &str) -> Result<(), EngineError> {
        match bounded(self.docker.inspect_image(image)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_status(404) => Err(EngineError::NoImage(image.to_owned())),
            Err(error) => Err(error),
        }
    }

    /// Starts a container that waits for a line.
    pub(crate) async fn start(&self, name: &str, image: &str) -> Result<Waiting, EngineError> {
        let mut tried = BTreeSet::new();
        loop {
            let port = match self.publishes {
                true => Some(self.free_port(&tried).await?),
                false => None,
            };
            match self.try_start(name, image, port).await {
                Err(error) if error.is_port() => {
                    tried.extend(port);
                    self.remove(name).await?;
                }
                Err(error) if error.is_status(404) => {
                    return Err(EngineError::NoImage(image.to_owned()));
                }
                Err(error) => {
                    // Nothing stays of what did not start.
                    if let Err(left) = self.remove(name).await {
                        tracing::warn!(%name, %left, "a container that did not start stays");
                    }
                    return Err(error);
                }
                Ok(waiting) => return Ok(waiting),
            }
        }
    }

    async fn try_start(
        &self,
        name: &str,
        image: &str,
        port: Option<u16>,
    ) -> Result<Waiting, EngineError> {
        let (pool, network, limits) = (&self.pool, &self.network, self.limits);
        let spec = Spec { name, image, pool, network, port, limits };
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        bounded(self.docker.create_container(Some(options), spec.body())).await?;
        let options = AttachContainerOptionsBuilder::default().stdin(true).stream(true).build();
        let attached = bounded(self.docker.attach_container(name, Some(options))).await?;
        let none: Option<StartContainerOptions> = None;
        bounded(self.docker.start_container(name, none)).await?;
        Ok(Waiting { name: name.to_owned(), input: attached.input })
    }

    /// The lowest port that no container of this engine has and that was not tried.
    async fn free_port(&self, tried: &BTreeSet<u16>) -> Result<u16, EngineError> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let all = bounded(self.docker.list_containers(Some(options))).await?;
        let ports = all.into_iter().flat_map(|container| container.ports.unwrap_or_default());
        let taken: BTreeSet<u16> = ports.filter_map(|port| port.public_port).collect();
        let is_free = |port: &u16| !taken.contains(port) && !tried.contains(port);
        PORTS.into_iter().find(is_free).ok_or(EngineError::NoPort)
    }

    /// Containers of this pool, and those of other nodes of its cluster.
    pub(crate) async fn list(&self) -> Result<(Vec<Seen>, Vec<Neighbour>), EngineError> {
        let filters = HashMap::from([("label", vec![POOL_LABEL.to_owned()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let all = bounded(self.docker.list_containers(Some(options))).await?;
        let (mut own, mut others) = (Vec::new(), Vec::new());
        let (cluster, _) = self.pool.rsplit_once('/').unwrap_or_default();
        for container in all {
            let Some(name) = container.names.and_then(|names| names.into_iter().next()) else {
                continue;
            };
            let name = name.trim_start_matches('/').to_owned();
            let pool = container.labels.and_then(|mut labels| labels.remove(POOL_LABEL));
            let running = matches!(
                container.state,
                Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::CREATED)
            );
            match pool {
                Some(pool) if pool == self.pool => own.push(Seen { name, running }),
                Some(pool) => match pool.rsplit_once('/') {
                    Some((of, node)) if of == cluster => {
                        others.push(Neighbour { name, node: node.to_owned() });
                    }
                    _ => {}
                },
                None => {}
            }
        }
        Ok((own, others))
    }

    /// How a container ended; `None`: there is none of this name.
    pub(crate) async fn end_of(&self, name: &str) -> Result<Option<End>, EngineError> {
        let none: Option<InspectContainerOptions> = None;
        match bounded(self.docker.inspect_container(name, none)).await {
            Ok(container) => {
                let state = container.state.unwrap_or_default();
                let running = state.running.unwrap_or_default();
                let out_of_memory = state.oom_killed.unwrap_or_default();
                Ok(Some(End { running, out_of_memory, code: state.exit_code }))
            }
            Err(error) if error.is_status(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The end of its log, for people.
    pub(crate) async fn log_of(&self, name: &str) -> String {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(LOG_LINES);
        let lines = self.docker.logs(name, Some(options.build()));
        let read = lines.filter_map(|line| std::future::ready(line.ok()));
        let read = read.map(|line: LogOutput| line.to_string());
        let lines: Vec<String> = timeout(CALL, read.take(64).collect()).await.unwrap_or_default();
        lines.concat().trim().chars().take(LOG_CHARS).collect()
    }

    /// Kills and removes a container; one that is not there is no error.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match bounded(self.docker.remove_container(name, Some(options))).await {
            Ok(()) => Ok(()),
            // Gone, or going.
            Err(error) if error.is_status(404) || error.is_status(409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
