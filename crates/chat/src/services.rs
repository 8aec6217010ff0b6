//! What runs of a node share.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use reqwest::Client;
use troupe_domain::task::{MemberPlan, ModelPlan};
use troupe_llm::{ClientOptions, Egress, EgressError, ModelError, Provider, SecretText};
use troupe_types::Clock;

use crate::tools::ToolRegistry;

/// Makes a callable model of a plan. Opens the sealed key; connects to nothing.
pub trait ModelFactory: fmt::Debug + Send + Sync + 'static {
    /// The model behind `plan`.
    ///
    /// # Errors
    /// `Config` or `Egress`; its text is shown to people and holds no key.
    fn provider(&self, plan: &ModelPlan) -> Result<Arc<dyn Provider>, ModelError>;
}

/// Where a sealed value stands.
#[derive(Clone, Copy, Debug)]
pub struct SecretRef<'a> {
    /// The member whose entry it is.
    pub member: &'a MemberPlan,
    /// Name of the MCP server.
    pub server: &'a str,
    /// `url`, or `headers.NAME`.
    pub field: &'a str,
    /// The sealed text or reference.
    pub sealed: &'a str,
}

/// Opens sealed values of MCP entries.
pub trait SecretOpener: fmt::Debug + Send + Sync + 'static {
    /// Whether a value is sealed, or a reference to something sealed.
    fn is_sealed(&self, value: &str) -> bool;

    /// Its value; `None` if it does not open here.
    fn open(&self, secret: SecretRef<'_>) -> Option<SecretText>;
}

/// For nodes without secrets: nothing that is sealed opens.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

impl SecretOpener for NoSecrets {
    fn is_sealed(&self, value: &str) -> bool {
        value.starts_with("sealed:")
    }

    fn open(&self, _: SecretRef<'_>) -> Option<SecretText> {
        None
    }
}

/// What runs of a node share.
#[derive(Debug)]
pub struct ChatServices {
    /// Makes models.
    pub models: Arc<dyn ModelFactory>,
    /// The node's own tools.
    pub tools: ToolRegistry,
    /// Opens sealed values.
    pub secrets: Arc<dyn SecretOpener>,
    /// Time for blocks and the clock tool.
    pub clock: Arc<dyn Clock>,
    public: Reached,
    /// For servers that an administrator named.
    loopback: Reached,
}

/// A rule for outgoing connections, and its client, made when first needed; connections are
/// shared.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) egress: Egress,
    client: OnceLock<Client>,
}

impl Reached {
    const fn new(egress: Egress) -> Self {
        Self { egress, client: OnceLock::new() }
    }

    pub(crate) fn client(&self) -> Result<Client, EgressError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = self.egress.client(&ClientOptions::default())?;
        Ok(self.client.get_or_init(|| client).clone())
    }
}

impl ChatServices {
    /// Services; MCP servers are reached under the rule of `egress`, and those of trusted
    /// entries on loopback too.
    #[must_use]
    pub fn new(
        models: Arc<dyn ModelFactory>,
        tools: ToolRegistry,
        secrets: Arc<dyn SecretOpener>,
        egress: Egress,
        clock: Arc<dyn Clock>,
    ) -> Self {
        crate::metrics::describe();
        let loopback = Reached::new(egress.with_loopback());
        Self { models, tools, secrets, clock, public: Reached::new(egress), loopback }
    }

    /// How a server is reached.
    pub(crate) const fn reach(&self, trusted: bool) -> &Reached {
        if trusted { &self.loopback } else { &self.public }
    }
}
