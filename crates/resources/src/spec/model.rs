//! Model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::words;

words! {
    /// Who runs a model.
    Provider {
        Demo = "demo",
        Claude = "claude",
        OpenAi = "openai",
        Gemini = "gemini",
    }
}

words! {
    /// What a model does.
    ModelType {
        Llm = "llm",
        Tts = "tts",
        Stt = "stt",
        Embedding = "embedding",
        Rerank = "rerank",
        Video = "video",
        Image = "image",
    }
}

words! {
    /// Which of OpenAI's APIs.
    ApiFormat {
        ChatCompletions = "chat/completions",
        Responses = "responses",
    }
}

words! {
    /// How a key is sent.
    Auth {
        Key = "key",
        Bearer = "bearer",
    }
}

words! {
    /// How much a model thinks before it answers.
    Thinking {
        Low = "low",
        Medium = "medium",
        High = "high",
    }
}

/// A model of a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelSpec {
    /// The model and its limits.
    pub model_config: ModelConfig,
    /// Typed in place by a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_custom_config: Option<bool>,
    /// The API that is spoken; absent: the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Of OpenAI's APIs.
    pub api_format: ApiFormat,
    /// What it does.
    pub model_type: ModelType,
    /// Where catalogues show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_group: Option<String>,
    /// Where catalogues show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_sub_group: Option<String>,
    /// For comparing costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_index: Option<f64>,
    /// For `tts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tts_config: Option<TtsConfig>,
    /// For `stt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stt_config: Option<SttConfig>,
    /// For `embedding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_config: Option<EmbeddingConfig>,
    /// For `rerank`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank_config: Option<RerankConfig>,
    /// For `video`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_config: Option<Map<String, Value>>,
    /// For `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_config: Option<Map<String, Value>>,
    /// Shown in the advanced picker only.
    pub is_advanced: bool,
    /// What it can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_capabilities: Option<ModelCapabilities>,
}

/// A model and its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// How the provider is reached.
    pub env: ModelEnv,
    /// Tokens of prompt and answer together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// Tokens of one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// How much it thinks; absent: as the model does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// The same as a bound in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking_tokens: Option<u32>,
}

/// How a provider is reached. `Debug` shows no key and no header.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEnv {
    /// The provider; absent for Dify.
    #[serde(rename = "model", default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The provider's id of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// The key, or its mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// How the key is sent; absent: as the provider itself wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Where the API is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Extra headers of each request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_headers: BTreeMap<String, String>,
    /// Small model of Claude Code.
    #[serde(
        rename = "ANTHROPIC_DEFAULT_HAIKU_MODEL",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub haiku_model: Option<String>,
    /// Middle model of Claude Code.
    #[serde(
        rename = "ANTHROPIC_DEFAULT_SONNET_MODEL",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub sonnet_model: Option<String>,
    /// Large model of Claude Code.
    #[serde(
        rename = "ANTHROPIC_DEFAULT_OPUS_MODEL",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub opus_model: Option<String>,
    /// Key of a Dify app, or its mask.
    #[serde(rename = "DIFY_API_KEY", default, skip_serializing_if = "Option::is_none")]
    pub dify_api_key: Option<String>,
    /// Where Dify is.
    #[serde(rename = "DIFY_BASE_URL", default, skip_serializing_if = "Option::is_none")]
    pub dify_base_url: Option<String>,
    /// The Dify app.
    #[serde(rename = "DIFY_APP_ID", default, skip_serializing_if = "Option::is_none")]
    pub dify_app_id: Option<String>,
    /// Inputs of the Dify app, as JSON.
    #[serde(rename = "DIFY_PARAMS", default, skip_serializing_if = "Option::is_none")]
    pub dify_params: Option<String>,
}

impl std::fmt::Debug for ModelEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelEnv")
            .field("provider", &self.provider)
            .field("model_id", &self.model_id)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

/// Speech output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TtsConfig {
    /// The voice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// How fast, 0.25 to 4.
    pub speed: f64,
    /// Format of the audio.
    pub output_format: String,
}

/// Speech input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SttConfig {
    /// The spoken language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Format of the text.
    pub transcription_format: String,
}

/// Vectors of texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingConfig {
    /// Length of a vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
    /// How the numbers are sent.
    pub encoding_format: String,
    /// Besides text.
    pub additional_input_modalities: Vec<String>,
}

/// Order of search results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RerankConfig {
    /// How many are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_n: Option<u32>,
    /// Whether texts come back.
    pub return_documents: bool,
}

/// What a model can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelCapabilities {
    /// Images.
    pub supports_image: bool,
    /// Videos.
    pub supports_video: bool,
}
