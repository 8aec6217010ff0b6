//! Subscription.

use serde::{Deserialize, Serialize};
use troupe_types::Timestamp;

use super::{KnowledgeBaseRef, NameRef, State, words};

words! {
    /// What starts a Subscription.
    TriggerType {
        Cron = "cron",
        Interval = "interval",
        OneTime = "one_time",
        Event = "event",
    }
}

words! {
    /// What an interval is counted in.
    IntervalUnit {
        Minutes = "minutes",
        Hours = "hours",
        Days = "days",
    }
}

words! {
    /// What happened.
    EventType {
        Webhook = "webhook",
        GitPush = "git_push",
        InboxMessage = "inbox_message",
    }
}

words! {
    /// What a run is for.
    SubscriptionTaskType {
        Execution = "execution",
        Collection = "collection",
    }
}

words! {
    /// Who else may use a Subscription.
    Visibility {
        Private = "private",
        Public = "public",
        Market = "market",
    }
}

/// A Team that is started by a trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscriptionSpec {
    /// Name for people.
    pub display_name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What a run is for.
    pub task_type: SubscriptionTaskType,
    /// Who else may use it.
    pub visibility: Visibility,
    /// What starts it.
    pub trigger: Trigger,
    /// The Team.
    pub team_ref: NameRef,
    /// The Workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_ref: Option<NameRef>,
    /// Owner and name of a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_repo: Option<String>,
    /// The host's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_repo_id: Option<u64>,
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_domain: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_name: Option<String>,
    /// The Model of Bots that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_ref: Option<NameRef>,
    /// Whether it also replaces the Models of Bots that name one.
    pub force_override_bot_model: bool,
    /// The request, with variables in double braces.
    pub prompt_template: String,
    /// Tries after a failure, 0 to 3.
    pub retry_count: u32,
    /// Longest run, 60 to 86,400 s.
    pub timeout_seconds: u32,
    /// Whether the trigger works.
    pub enabled: bool,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_target: Option<ExecutionTarget>,
    /// Whether runs share one Task.
    pub preserve_history: bool,
    /// Earlier messages that a run sees, 0 to 50.
    pub history_message_count: u32,
    /// The Task that runs share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_task_id: Option<String>,
    /// Its knowledge bases.
    pub knowledge_base_refs: Vec<KnowledgeBaseRef>,
    /// Skills besides the Team's.
    pub skill_refs: Vec<NamedSkillRef>,
    /// Called after each run.
    pub notification_webhooks: Vec<NotificationWebhook>,
    /// Disabled after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// What starts a Subscription; the field of the type is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Which of these.
    #[serde(rename = "type")]
    pub kind: TriggerType,
    /// For `cron`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronTrigger>,
    /// For `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalTrigger>,
    /// For `one_time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_time: Option<OneTimeTrigger>,
    /// For `event`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventTrigger>,
}

/// By the calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CronTrigger {
    /// Minute, hour, day, month, weekday.
    pub expression: String,
    /// Name of a time zone.
    pub timezone: String,
}

/// Again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalTrigger {
    /// How many, at least 1.
    pub value: u32,
    /// Of what.
    pub unit: IntervalUnit,
}

/// Once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneTimeTrigger {
    /// When.
    pub execute_at: Timestamp,
}

/// When something happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTrigger {
    /// What.
    pub event_type: EventType,
    /// For `git_push`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_push: Option<GitPush>,
}

/// A push to a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitPush {
    /// Which repository.
    pub repository: String,
    /// Which branch; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// Where a run takes place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionTarget {
    /// `managed`, `local` or `cloud`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
}

/// Names a Skill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSkillRef {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skill_id: Option<String>,
    /// Whether it is a public Skill.
    pub is_public: bool,
}

/// Is called after each run. `Debug` leaves the secret and the URL out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotificationWebhook {
    /// `dingtalk`, `feishu` or `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where.
    pub url: String,
    /// Signs the call; the secret or its mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whether it is called.
    pub enabled: bool,
}

impl std::fmt::Debug for NotificationWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotificationWebhook").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// How a Subscription is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscriptionStatus {
    /// Whether it can be used.
    pub state: State,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it last ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_execution_time: Option<Timestamp>,
    /// How that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_execution_status: Option<String>,
    /// When it runs next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_execution_time: Option<Timestamp>,
    /// Where an event is sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// Runs.
    pub execution_count: u64,
    /// Runs that ended well.
    pub success_count: u64,
    /// Runs that ended badly.
    pub failure_count: u64,
}
