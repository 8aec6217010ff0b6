//! Model.

use super::{
    Default, Field, Form, Object, Type,
    common::{LINE, NO_CATALOGUE, URL, choice, form, line, list, open_choice, secret_map, text},
};
use crate::validate::rules;

const KEY: Type = text(1, 8_000);
const TOKENS: Type = Type::Int { min: 1, max: 100_000_000 };
const ENV_TYPE: Type = Type::Object(&ENV);
const CONFIG_TYPE: Type = Type::Object(&CONFIG);
const TEXT_ONLY: &str = "models are sent text only";
const MODEL_ID: Type = form(200, Form::Line);

pub(super) static ENV: Object = Object::new(
    "ModelEnv",
    "How the provider is reached.",
    &[
        Field::new("model", choice(&["demo", "claude", "openai", "gemini"]), "The provider."),
        Field::new("model_id", MODEL_ID, "The provider's id of the model."),
        Field::new("api_key", KEY, "Sealed at rest, masked on read.").secret(),
        Field::new(
            "auth",
            choice(&["key", "bearer"]),
            "bearer: the key is sent as `Authorization: Bearer`, as gateways before Claude want it; \
             key, the default: as the provider itself wants it.",
        ),
        Field::new("base_url", URL, "Where the API is, if not at the provider's own address."),
        Field::new(
            "custom_headers",
            secret_map(&line(8_000), 50),
            "Extra headers of each request; credentials in them are sealed.",
        ),
        Field::new("ANTHROPIC_MODEL", MODEL_ID, "Other spelling of `model_id`."),
        Field::new("ANTHROPIC_BASE_URL", URL, "Other spelling of `base_url`."),
        Field::new("ANTHROPIC_AUTH_TOKEN", KEY, "Other spelling of `api_key`, for `auth: bearer`.")
            .secret(),
        Field::new("ANTHROPIC_API_KEY", KEY, "Other spelling of `api_key`.").secret(),
        Field::new("ANTHROPIC_DEFAULT_HAIKU_MODEL", MODEL_ID, "Small model of Claude Code."),
        Field::new("ANTHROPIC_DEFAULT_SONNET_MODEL", MODEL_ID, "Middle model of Claude Code."),
        Field::new("ANTHROPIC_DEFAULT_OPUS_MODEL", MODEL_ID, "Large model of Claude Code."),
        Field::new("DIFY_API_KEY", KEY, "Key of a Dify app.").secret(),
        Field::new("DIFY_BASE_URL", URL, "Where Dify is."),
        Field::new("DIFY_APP_ID", LINE, "The Dify app."),
        Field::new("DIFY_PARAMS", text(0, 20_000), "Inputs of the Dify app, as JSON."),
    ],
);

pub(super) static CONFIG: Object = Object::new(
    "ModelConfig",
    "A model and its limits.",
    &[
        Field::new("env", ENV_TYPE, "How the provider is reached.").required(),
        Field::new("context_window", TOKENS, "Tokens of prompt and answer together."),
        Field::new("max_output_tokens", TOKENS, "Tokens of one answer, thinking included."),
        Field::new(
            "thinking",
            choice(&["low", "medium", "high"]),
            "How much it thinks before it answers in a Chat Shell; by default as the model does by \
             itself. A runtime on a device decides by itself.",
        ),
        Field::new(
            "thinking_tokens",
            Type::Int { min: 1_024, max: 100_000_000 },
            "The same as a bound in tokens, below `max_output_tokens`; models that know words only \
             are told the nearest one.",
        ),
    ],
);

pub(super) static TTS: Object = Object::new(
    "TtsConfig",
    "Speech output.",
    &[
        Field::new("voice", LINE, "The voice."),
        Field::new("speed", Type::Number { min: 0.25, max: 4.0 }, "How fast.")
            .or(Default::Number(1.0)),
        Field::new("output_format", LINE, "Format of the audio.").or(Default::Text("mp3")),
    ],
);

pub(super) static STT: Object = Object::new(
    "SttConfig",
    "Speech input.",
    &[
        Field::new("language", LINE, "The spoken language."),
        Field::new("transcription_format", LINE, "Format of the text.").or(Default::Text("text")),
    ],
);

pub(super) static EMBEDDING: Object = Object::new(
    "EmbeddingConfig",
    "Vectors of texts.",
    &[
        Field::new("dimensions", Type::Int { min: 1, max: 65_536 }, "Length of a vector."),
        Field::new("encoding_format", LINE, "How the numbers are sent.").or(Default::Text("float")),
        Field::new("additional_input_modalities", list(&LINE, 20), "Besides text.")
            .or(Default::List),
    ],
);

pub(super) static RERANK: Object = Object::new(
    "RerankConfig",
    "Order of search results.",
    &[
        Field::new("top_n", Type::Int { min: 1, max: 1_000 }, "How many are kept."),
        Field::new("return_documents", Type::Bool, "Whether texts come back.")
            .or(Default::Bool(true)),
    ],
);

pub(super) static CAPABILITIES: Object = Object::new(
    "ModelCapabilities",
    "What the model can read.",
    &[
        Field::new("supportsImage", Type::Bool, "Images.")
            .or(Default::Bool(false))
            .unused(TEXT_ONLY),
        Field::new("supportsVideo", Type::Bool, "Videos.")
            .or(Default::Bool(false))
            .unused(TEXT_ONLY),
    ],
);

const TTS_TYPE: Type = Type::Object(&TTS);
const STT_TYPE: Type = Type::Object(&STT);
const EMBEDDING_TYPE: Type = Type::Object(&EMBEDDING);
const RERANK_TYPE: Type = Type::Object(&RERANK);
const CAPABILITIES_TYPE: Type = Type::Object(&CAPABILITIES);

pub(super) static MODEL: Object = Object::new(
    "Model",
    "A model of a provider.",
    &[
        Field::new("modelConfig", CONFIG_TYPE, "The model and its limits.").required(),
        Field::new("isCustomConfig", Type::Bool, "Typed in place by a user."),
        Field::new(
            "protocol",
            open_choice(rules::PROTOCOLS),
            "The API that is spoken; by default the provider's.",
        ),
        Field::new("apiFormat", choice(&["chat/completions", "responses"]), "Of OpenAI's APIs.")
            .or(Default::Text("chat/completions")),
        Field::new(
            "modelType",
            choice(&["llm", "tts", "stt", "embedding", "rerank", "video", "image"]),
            "What it does.",
        )
        .or(Default::Text("llm")),
        Field::new("modelGroup", LINE, "Where catalogues show it.").unused(NO_CATALOGUE),
        Field::new("modelSubGroup", LINE, "Where catalogues show it.").unused(NO_CATALOGUE),
        Field::new("costIndex", Type::Number { min: 0.0, max: 1e9 }, "For comparing costs.")
            .unused("costs are not compared"),
        Field::new("ttsConfig", TTS_TYPE, "For `tts`."),
        Field::new("sttConfig", STT_TYPE, "For `stt`."),
        Field::new("embeddingConfig", EMBEDDING_TYPE, "For `embedding`."),
        Field::new("rerankConfig", RERANK_TYPE, "For `rerank`."),
        Field::new("videoConfig", Type::Free, "For `video`."),
        Field::new("imageConfig", Type::Free, "For `image`."),
        Field::new("isAdvanced", Type::Bool, "Shown in the advanced picker only.")
            .or(Default::Bool(false))
            .unused("one picker shows all Models"),
        Field::new("modelCapabilities", CAPABILITIES_TYPE, "What it can read."),
        Field::new("contextWindow", TOKENS, "Old place of `modelConfig.context_window`."),
        Field::new("maxOutputTokens", TOKENS, "Old place of `modelConfig.max_output_tokens`."),
    ],
)
.rule(rules::model);
