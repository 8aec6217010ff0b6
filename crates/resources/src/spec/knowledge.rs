//! KnowledgeBase and Retriever.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::words;

words! {
    /// How a knowledge base is searched.
    RetrievalMode {
        Vector = "vector",
        Keyword = "keyword",
        Hybrid = "hybrid",
    }
}

words! {
    /// What holds an index.
    StorageType {
        Elasticsearch = "elasticsearch",
        Qdrant = "qdrant",
        Milvus = "milvus",
        Embedded = "embedded",
    }
}

words! {
    /// Which index a knowledge base goes to.
    IndexMode {
        Fixed = "fixed",
        Rolling = "rolling",
        PerDataset = "per_dataset",
        PerUser = "per_user",
    }
}

words! {
    /// What a knowledge base is for.
    KnowledgeBaseType {
        Notebook = "notebook",
        Classic = "classic",
    }
}

/// Documents to search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnowledgeBaseSpec {
    /// Name for people.
    pub name: String,
    /// What is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it is for.
    pub kb_type: KnowledgeBaseType,
    /// `read` or `edit`: least right for reading a document as it is.
    pub direct_access_requirement: String,
    /// How it is searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval_config: Option<RetrievalConfig>,
    /// Whether summaries are written.
    pub summary_enabled: bool,
    /// The Model that writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary_model_ref: Option<SummaryModelRef>,
    /// Searches that one Task may make, 2 to 50.
    pub max_calls_per_conversation: u32,
    /// Searches before room in the prompt is checked; lower than the limit.
    pub exempt_calls_before_check: u32,
    /// Offered for a click; at most 3.
    pub guided_questions: Vec<String>,
    /// How many documents it has.
    #[serde(rename = "document_count")]
    pub document_count: u64,
    /// Written by the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Map<String, Value>>,
}

/// How a knowledge base is searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrievalConfig {
    /// The Retriever; absent: chosen by the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retriever_name: Option<String>,
    /// Its namespace.
    pub retriever_namespace: String,
    /// The Model that makes vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_config: Option<EmbeddingRef>,
    /// The method.
    pub retrieval_mode: RetrievalMode,
    /// How many pieces come back, 1 to 10.
    pub top_k: u32,
    /// Least score of a piece, 0 to 1.
    pub score_threshold: f64,
    /// For `hybrid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hybrid_weights: Option<HybridWeights>,
}

/// The Model that makes vectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingRef {
    /// Its name.
    pub model_name: String,
    /// Its namespace.
    pub model_namespace: String,
}

/// How much each method counts; together 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HybridWeights {
    /// Of vectors.
    pub vector_weight: f64,
    /// Of words.
    pub keyword_weight: f64,
}

/// The Model that writes summaries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SummaryModelRef {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `public`, `user` or `group`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// A search backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetrieverSpec {
    /// Where the index is.
    pub storage_config: StorageConfig,
    /// Methods of search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval_methods: Option<RetrievalMethods>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Where an index is. `Debug` shows no password and no key.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageConfig {
    /// What holds it.
    #[serde(rename = "type")]
    pub storage: StorageType,
    /// Its address; absent for `embedded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Who logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password, or its mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The key, or its mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// Which index; absent for `embedded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_strategy: Option<IndexStrategy>,
    /// Further settings.
    pub ext: Map<String, Value>,
}

impl std::fmt::Debug for StorageConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorageConfig")
            .field("storage", &self.storage)
            .field("url", &self.url)
            .field("index_strategy", &self.index_strategy)
            .finish_non_exhaustive()
    }
}

/// Which index a knowledge base goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IndexStrategy {
    /// Which.
    pub mode: IndexMode,
    /// For `fixed`: the index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_name: Option<String>,
    /// For `rolling`: knowledge bases in one index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_step: Option<u32>,
    /// Begins the names of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// Methods of search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrievalMethods {
    /// By meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<RetrievalMethod>,
    /// By words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyword: Option<RetrievalMethod>,
    /// By both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hybrid: Option<RetrievalMethod>,
}

/// One method of search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetrievalMethod {
    /// Whether it may be used.
    pub enabled: bool,
    /// How much it counts in `hybrid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_weight: Option<f64>,
}
