//! The kinds as types, read from what the validator let through.
//!
//! Field names are the house's; serde names are the contract's. The tables of
//! [`crate::schema`] say what each field means and fill in the defaults, so a field with a
//! default is no `Option` here.

mod agent;
mod common;
mod knowledge;
mod model;
mod subscription;
mod team;
mod template;
mod work;

pub use agent::{
    BotSpec, GhostSpec, ShellSpec, SkillBindingSpec, SkillProvider, SkillSource, SkillSpec,
    SkillStatus, SkillTool,
};
pub use common::{KnowledgeBaseRef, McpServer, McpTransport, NameRef, ShellType, SkillRef, State};
pub use knowledge::{
    EmbeddingRef, HybridWeights, IndexMode, IndexStrategy, KnowledgeBaseSpec, KnowledgeBaseType,
    RetrievalConfig, RetrievalMethod, RetrievalMethods, RetrievalMode, RetrieverSpec,
    StorageConfig, StorageType, SummaryModelRef,
};
pub use model::{
    ApiFormat, Auth, EmbeddingConfig, ModelCapabilities, ModelConfig, ModelEnv, ModelSpec,
    ModelType, Provider, RerankConfig, SttConfig, Thinking, TtsConfig,
};
pub use subscription::{
    CronTrigger, EventTrigger, EventType, ExecutionTarget, GitPush, IntervalTrigger, IntervalUnit,
    NamedSkillRef, NotificationWebhook, OneTimeTrigger, SubscriptionSpec, SubscriptionStatus,
    SubscriptionTaskType, Trigger, TriggerType, Visibility,
};
pub use team::{
    CollaborationModel, ContextPassing, Hints, InputPlaceholder, Member, MemberRole, TeamSpec,
};
pub use template::TemplateSpec;
pub use work::{
    BoundKnowledgeBase, ConnectionMode, DevicePresence, DeviceSpec, DeviceStatus, DeviceType,
    ExecutionPlace, ExecutionWorkspace, Fork, KnowledgeScope, Repository, TaskApp, TaskArchive,
    TaskSpec, TaskStatus, TeamRef, WorkspaceSpec,
};

/// An enum whose variants are words of the contract.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $name {
            $(
                #[doc = concat!("`", $word, "`")]
                #[serde(rename = $word)]
                $variant,
            )*
        }

        impl $name {
            /// As it is written outside.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests;
