//! What a model needs to be called, and the factory that makes providers of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::Client;
use troupe_types::Clock;

use crate::{
    anthropic::Anthropic,
    demo::DemoProvider,
    egress::{ClientOptions, Egress},
    error::ModelError,
    http::{HttpProvider, Wire},
    message::Thinking,
    openai::OpenAi,
    provider::Provider,
    retry::{Jitter, RetryPolicy},
    secret::SecretText,
};

/// Whose protocol a model speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    /// Anthropic Messages.
    Claude,
    /// OpenAI chat completions, at OpenAI or any compatible server.
    OpenAi,
    /// The scripted model of this house.
    Demo,
}

impl ProviderKind {
    /// The outside word: `modelConfig.env.model`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::OpenAi => "openai",
            Self::Demo => "demo",
        }
    }

    /// Of the outside word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "claude" | "anthropic" => Some(Self::Claude),
            "openai" => Some(Self::OpenAi),
            "demo" => Some(Self::Demo),
            _ => None,
        }
    }
}

/// How the key is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthStyle {
    /// As the protocol's owner wants it: `x-api-key` for Claude, bearer for `OpenAi`.
    #[default]
    Default,
    /// `Authorization: Bearer` (gateways in front of Claude).
    Bearer,
}

/// One model, with its key in the clear: made for a call, never kept.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// Whose protocol it speaks.
    pub provider: ProviderKind,
    /// The provider's id of the model.
    pub model_id: String,
    /// The key; none for servers that want none.
    pub api_key: Option<SecretText>,
    /// How the key is sent.
    pub auth: AuthStyle,
    /// Another server than the provider's own. For Claude without `/v1`; for `OpenAi` with its
    /// version path (a bare host gets `/v1`).
    pub base_url: Option<String>,
    /// Headers for every call; they replace ours of the same name.
    pub headers: BTreeMap<String, SecretText>,
    /// Tokens that prompt and answer may have together.
    pub context_window: Option<u32>,
    /// Tokens that an answer may have.
    pub max_output_tokens: Option<u32>,
    /// Used when the request names none.
    pub temperature: Option<f32>,
    /// Used when the request says `Default`.
    pub thinking: Thinking,
}

impl ModelConfig {
    /// A model with nothing but its name.
    #[must_use]
    pub fn new(provider: ProviderKind, model_id: impl Into<String>) -> Self {
        Self {
            provider,
            model_id: model_id.into(),
            api_key: None,
            auth: AuthStyle::Default,
            base_url: None,
            headers: BTreeMap::new(),
            context_window: None,
            max_output_tokens: None,
            temperature: None,
            thinking: Thinking::Default,
        }
    }
}

/// Which addresses a model's URL may lead to, beyond the public ones and the allow list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// None.
    Public,
    /// Loopback too: the resource was applied by an administrator, or the node itself listens
    /// on loopback only.
    Loopback,
}

/// Bounds and waits of calls.
#[derive(Clone, Debug)]
pub struct LlmOptions {
    /// For a connection.
    pub connect_timeout: Duration,
    /// From sending the request to the first piece of the answer.
    pub first_byte_timeout: Duration,
    /// Between two pieces; keep-alives count as pieces.
    pub idle_timeout: Duration,
    /// For one whole try.
    pub total_timeout: Duration,
    /// Largest event of a stream, in bytes.
    pub event_bytes_max: usize,
    /// Largest answer (text, thinking and arguments together), in bytes.
    pub answer_bytes_max: usize,
    /// Most bytes read of one answer, keep-alives and framing included.
    pub wire_bytes_max: usize,
    /// Repeating of failed calls.
    pub retry: RetryPolicy,
    /// Makes the random part of waits repeatable.
    pub seed: Option<u64>,
    /// Asks Claude to cache the prompt.
    pub prompt_caching: bool,
    /// Pieces per second of the `demo` model; 0: no waiting.
    pub demo_pace: u32,
    /// Tells providers where in a trace a call stands (`traceparent`).
    pub send_trace: bool,
}

impl Default for LlmOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(60),
            total_timeout: Duration::from_secs(3_600),
            event_bytes_max: 4 * 1024 * 1024,
            answer_bytes_max: 8 * 1024 * 1024,
            wire_bytes_max: 64 * 1024 * 1024,
            retry: RetryPolicy::default(),
            seed: None,
            prompt_caching: true,
            demo_pace: 30,
            send_trace: false,
        }
    }
}

/// Makes providers. One per node: connections are shared between all calls.
#[derive(Debug)]
pub struct Llm {
    egress: Egress,
    options: Arc<LlmOptions>,
    clock: Arc<dyn Clock>,
    jitter: Jitter,
    public: OnceLock<Client>,
    loopback: OnceLock<Client>,
}

impl Llm {
    /// A factory; clients are made when first needed.
    #[must_use]
    pub fn new(egress: Egress, options: LlmOptions, clock: Arc<dyn Clock>) -> Self {
        let jitter = Jitter::new(options.seed);
        let options = Arc::new(options);
        Self { egress, options, clock, jitter, public: OnceLock::new(), loopback: OnceLock::new() }
    }

    /// The model behind `config`. Connects to nothing yet.
    ///
    /// # Errors
    /// `Config` if the configuration cannot work; `Egress` if its URL is refused.
    pub fn provider(
        &self,
        config: ModelConfig,
        reach: Reach,
    ) -> Result<Arc<dyn Provider>, ModelError> {
        if config.model_id.is_empty() {
            return Err(ModelError::Config { detail: "model_id is empty".into() });
        }
        match config.provider {
            ProviderKind::Demo => {
                Ok(Arc::new(DemoProvider::new(&config.model_id, self.options.demo_pace)))
            }
            ProviderKind::Claude => self.http::<Anthropic>(config, reach),
            ProviderKind::OpenAi => self.http::<OpenAi>(config, reach),
        }
    }

    fn http<P: crate::http::Protocol>(
        &self,
        config: ModelConfig,
        reach: Reach,
    ) -> Result<Arc<dyn Provider>, ModelError> {
        let (egress, slot) = match reach {
            Reach::Public => (self.egress.clone(), &self.public),
            Reach::Loopback => (self.egress.with_loopback(), &self.loopback),
        };
        let client = match slot.get() {
            Some(client) => client.clone(),
            None => {
                let connect_timeout = self.options.connect_timeout;
                let options = ClientOptions { connect_timeout, ..ClientOptions::default() };
                let client = egress.client(&options).map_err(ModelError::Egress)?;
                slot.get_or_init(|| client).clone()
            }
        };
        let url = egress.parse(&P::url(&config)).map_err(ModelError::Egress)?;
        let options = Arc::clone(&self.options);
        let headers = P::headers(&config)?;
        let wire = Wire::new(client, url, headers, &config, options, Arc::clone(&self.clock));
        Ok(Arc::new(HttpProvider::<P>::new(config, Arc::new(wire), self.jitter.clone())))
    }
}
