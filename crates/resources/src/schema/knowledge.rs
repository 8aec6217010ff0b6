//! KnowledgeBase and Retriever.

use super::{
    Default, Field, Form, Object, Type,
    common::{LINE, NAME, NAMESPACE, URL, choice, form, list, text},
};
use crate::validate::rules;

const SHARE: Type = Type::Number { min: 0.0, max: 1.0 };
const COUNT: Type = Type::Int { min: 0, max: i64::MAX };

pub(super) static EMBEDDING_REF: Object = Object::new(
    "EmbeddingRef",
    "The Model that makes vectors.",
    &[
        Field::new("model_name", NAME, "Its name.").required(),
        Field::new("model_namespace", NAMESPACE, "Its namespace.").or(Default::Text("default")),
    ],
);

pub(super) static HYBRID_WEIGHTS: Object = Object::new(
    "HybridWeights",
    "How much each method counts; together 1.",
    &[
        Field::new("vector_weight", SHARE, "Of vectors.").or(Default::Number(0.7)),
        Field::new("keyword_weight", SHARE, "Of words.").or(Default::Number(0.3)),
    ],
)
.rule(rules::hybrid_weights);

const EMBEDDING_REF_TYPE: Type = Type::Object(&EMBEDDING_REF);
const HYBRID_WEIGHTS_TYPE: Type = Type::Object(&HYBRID_WEIGHTS);

pub(super) static RETRIEVAL: Object = Object::new(
    "RetrievalConfig",
    "How it is searched.",
    &[
        Field::new("retriever_name", NAME, "The Retriever."),
        Field::new("retriever_namespace", NAMESPACE, "Its namespace.").or(Default::Text("default")),
        Field::new("embedding_config", EMBEDDING_REF_TYPE, "The Model that makes vectors."),
        Field::new("retrieval_mode", choice(&["vector", "keyword", "hybrid"]), "The method.")
            .or(Default::Text("vector")),
        Field::new("top_k", Type::Int { min: 1, max: 10 }, "How many pieces come back.")
            .or(Default::Int(5)),
        Field::new("score_threshold", SHARE, "Least score of a piece.").or(Default::Number(0.5)),
        Field::new("hybrid_weights", HYBRID_WEIGHTS_TYPE, "For `hybrid`."),
    ],
);

pub(super) static SUMMARY_MODEL_REF: Object = Object::new(
    "SummaryModelRef",
    "The Model that writes summaries.",
    &[
        Field::new("name", NAME, "Its name.").required(),
        Field::new("namespace", NAMESPACE, "Its namespace.").or(Default::Text("default")),
        Field::new("type", choice(&["public", "user", "group"]), "Whose it is."),
    ],
);

const RETRIEVAL_TYPE: Type = Type::Object(&RETRIEVAL);
const SUMMARY_MODEL_REF_TYPE: Type = Type::Object(&SUMMARY_MODEL_REF);

pub(super) static KNOWLEDGE_BASE: Object = Object::new(
    "KnowledgeBase",
    "Documents to search.",
    &[
        Field::new("name", form(100, Form::Line), "Name for people.").required(),
        Field::new("description", text(0, 500), "What is in it."),
        Field::new(
            "kbType",
            choice(&["notebook", "classic"]),
            "notebook: at most 50 documents, with a page to chat on.",
        )
        .or(Default::Text("notebook")),
        Field::new(
            "directAccessRequirement",
            choice(&["read", "edit"]),
            "Least right for reading a document as it is.",
        )
        .or(Default::Text("read")),
        Field::new("retrievalConfig", RETRIEVAL_TYPE, "How it is searched."),
        Field::new("summaryEnabled", Type::Bool, "Whether summaries are written.")
            .or(Default::Bool(false)),
        Field::new("summaryModelRef", SUMMARY_MODEL_REF_TYPE, "The Model that writes them."),
        Field::new(
            "maxCallsPerConversation",
            Type::Int { min: 2, max: 50 },
            "Searches that one Task may make.",
        )
        .or(Default::Int(10)),
        Field::new(
            "exemptCallsBeforeCheck",
            Type::Int { min: 1, max: 49 },
            "Searches before room in the prompt is checked.",
        )
        .or(Default::Int(5)),
        Field::new("guidedQuestions", list(&text(1, 500), 3), "Offered for a click.")
            .or(Default::List),
        Field::new("document_count", COUNT, "How many documents it has.").or(Default::Int(0)),
        Field::new("summary", Type::Free, "Written by the system."),
    ],
)
.rule(rules::knowledge_base);

pub(super) static INDEX_STRATEGY: Object = Object::new(
    "IndexStrategy",
    "Which index a knowledge base goes to.",
    &[
        Field::new("mode", choice(&["fixed", "rolling", "per_dataset", "per_user"]), "Which.")
            .required(),
        Field::new("fixedName", form(200, Form::Name), "For `fixed`: the index."),
        Field::new(
            "rollingStep",
            Type::Int { min: 1, max: 1_000_000 },
            "For `rolling`: knowledge bases in one index.",
        ),
        Field::new("prefix", form(100, Form::Name), "Begins the names of the others."),
    ],
)
.rule(rules::index_strategy);

pub(super) static METHOD: Object = Object::new(
    "RetrievalMethod",
    "One method of search.",
    &[
        Field::new("enabled", Type::Bool, "Whether it may be used.").or(Default::Bool(true)),
        Field::new("defaultWeight", SHARE, "How much it counts in `hybrid`."),
    ],
);

const INDEX_STRATEGY_TYPE: Type = Type::Object(&INDEX_STRATEGY);
const METHOD_TYPE: Type = Type::Object(&METHOD);
const METHODS_TYPE: Type = Type::Object(&METHODS);
const STORAGE_TYPE: Type = Type::Object(&STORAGE);

pub(super) static METHODS: Object = Object::new(
    "RetrievalMethods",
    "Methods of search.",
    &[
        Field::new("vector", METHOD_TYPE, "By meaning."),
        Field::new("keyword", METHOD_TYPE, "By words."),
        Field::new("hybrid", METHOD_TYPE, "By both."),
    ],
);

pub(super) static STORAGE: Object = Object::new(
    "StorageConfig",
    "Where the index is.",
    &[
        Field::new("type", choice(&["elasticsearch", "qdrant", "milvus", "embedded"]), "What.")
            .required(),
        Field::new("url", URL, "Its address; not for `embedded`."),
        Field::new("username", LINE, "Who logs in."),
        Field::new("password", text(1, 1_000), "Sealed at rest, masked on read.").secret(),
        Field::new("apiKey", text(1, 8_000), "Sealed at rest, masked on read.").secret(),
        Field::new("indexStrategy", INDEX_STRATEGY_TYPE, "Which index; not for `embedded`."),
        Field::new("ext", Type::Free, "Further settings.").or(Default::Map),
    ],
);

pub(super) static RETRIEVER: Object = Object::new(
    "Retriever",
    "A search backend.",
    &[
        Field::new("storageConfig", STORAGE_TYPE, "Where the index is.").required(),
        Field::new("retrievalMethods", METHODS_TYPE, "Methods of search."),
        Field::new("description", text(0, 2_000), "What it is for."),
    ],
)
.rule(rules::retriever);
