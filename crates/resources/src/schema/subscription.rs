//! Subscription.

use super::{
    Default, Field, Form, Object, Type,
    common::{
        KNOWLEDGE_REFS, LINE, NAME, NAMESPACE, REF, TIME, TITLE, URL, choice, form, line, list,
        text,
    },
    envelope::{MESSAGE, STATE},
};
use crate::validate::rules;

pub(super) static CRON: Object = Object::new(
    "CronTrigger",
    "By the calendar.",
    &[
        Field::new("expression", form(200, Form::Cron), "Minute, hour, day, month, weekday.")
            .required(),
        Field::new("timezone", form(60, Form::TimeZone), "Like `Europe/Berlin`.")
            .or(Default::Text("UTC")),
    ],
);

pub(super) static INTERVAL: Object = Object::new(
    "IntervalTrigger",
    "Again and again.",
    &[
        Field::new("value", Type::Int { min: 1, max: 100_000 }, "How many.").required(),
        Field::new("unit", choice(&["minutes", "hours", "days"]), "Of what.").required(),
    ],
);

pub(super) static ONE_TIME: Object =
    Object::new("OneTimeTrigger", "Once.", &[Field::new("execute_at", TIME, "When.").required()]);

pub(super) static GIT_PUSH: Object = Object::new(
    "GitPush",
    "A push to a repository.",
    &[
        Field::new("repository", form(500, Form::Line), "Which repository.").required(),
        Field::new("branch", form(250, Form::Line), "Which branch; by default any."),
    ],
);
const GIT_PUSH_TYPE: Type = Type::Object(&GIT_PUSH);

pub(super) static EVENT: Object = Object::new(
    "EventTrigger",
    "When something happens.",
    &[
        Field::new("event_type", choice(&["webhook", "git_push", "inbox_message"]), "What.")
            .required(),
        Field::new("git_push", GIT_PUSH_TYPE, "For `git_push`."),
    ],
)
.rule(rules::event_trigger);

const CRON_TYPE: Type = Type::Object(&CRON);
const INTERVAL_TYPE: Type = Type::Object(&INTERVAL);
const ONE_TIME_TYPE: Type = Type::Object(&ONE_TIME);
const EVENT_TYPE: Type = Type::Object(&EVENT);

pub(super) static TRIGGER: Object = Object::new(
    "Trigger",
    "What starts it.",
    &[
        Field::new("type", choice(&["cron", "interval", "one_time", "event"]), "Which of these.")
            .required(),
        Field::new("cron", CRON_TYPE, "For `cron`."),
        Field::new("interval", INTERVAL_TYPE, "For `interval`."),
        Field::new("one_time", ONE_TIME_TYPE, "For `one_time`."),
        Field::new("event", EVENT_TYPE, "For `event`."),
    ],
)
.rule(rules::trigger);

pub(super) static TARGET: Object = Object::new(
    "ExecutionTarget",
    "Where it runs.",
    &[
        Field::new("type", choice(&["managed", "local", "cloud"]), "What kind of place.")
            .or(Default::Text("managed")),
        Field::new("device_id", form(100, Form::Line), "Which device."),
    ],
);

pub(super) static WEBHOOK: Object = Object::new(
    "NotificationWebhook",
    "Is called after each run.",
    &[
        Field::new("type", choice(&["dingtalk", "feishu", "custom"]), "Whose form it has.")
            .required(),
        Field::new("url", URL, "Where.").required(),
        Field::new("secret", text(1, 1_000), "Signs the call; sealed at rest.").secret(),
        Field::new("enabled", Type::Bool, "Whether it is called.").or(Default::Bool(true)),
    ],
);

pub(super) static NAMED_SKILL: Object = Object::new(
    "NamedSkillRef",
    "Names a Skill.",
    &[
        Field::new("name", NAME, "Its name.").required(),
        Field::new("namespace", NAMESPACE, "Its namespace.").or(Default::Text("default")),
        Field::new("skill_id", Type::Id, "Its id."),
        Field::new("is_public", Type::Bool, "Whether it is a public Skill.")
            .or(Default::Bool(false)),
    ],
);

const TRIGGER_TYPE: Type = Type::Object(&TRIGGER);
const TARGET_TYPE: Type = Type::Object(&TARGET);
const WEBHOOK_TYPE: Type = Type::Object(&WEBHOOK);
const NAMED_SKILL_TYPE: Type = Type::Object(&NAMED_SKILL);
const COUNT: Type = Type::Int { min: 0, max: i64::MAX };

pub(super) static SUBSCRIPTION: Object = Object::new(
    "Subscription",
    "A Team that is started by a trigger.",
    &[
        Field::new("displayName", TITLE, "Name for people.").alias(&["display_name"]).required(),
        Field::new("description", text(0, 2_000), "What it does."),
        Field::new("taskType", choice(&["execution", "collection"]), "Act, or gather information.")
            .alias(&["task_type"])
            .or(Default::Text("collection")),
        Field::new(
            "visibility",
            choice(&["private", "public", "market"]),
            "public: others may follow it; market: others may rent it.",
        )
        .or(Default::Text("private")),
        Field::new("trigger", TRIGGER_TYPE, "What starts it.").required(),
        Field::new("teamRef", REF, "The Team.").required(),
        Field::new("workspaceRef", REF, "The Workspace."),
        Field::new("gitRepo", line(500), "Owner and name of a repository.").alias(&["git_repo"]),
        Field::new("gitRepoId", COUNT, "The host's id of it.").alias(&["git_repo_id"]),
        Field::new("gitDomain", line(250), "The host.").alias(&["git_domain"]),
        Field::new("branchName", line(250), "The branch.").alias(&["branch_name"]),
        Field::new("modelRef", REF, "The Model of Bots that name none.").alias(&["model_ref"]),
        Field::new(
            "forceOverrideBotModel",
            Type::Bool,
            "Whether `modelRef` also replaces the Models of Bots that name one.",
        )
        .alias(&["force_override_bot_model"])
        .or(Default::Bool(false)),
        Field::new(
            "promptTemplate",
            text(1, 50_000),
            "The request; `{{date}}`, `{{time}}`, `{{datetime}}`, `{{timestamp}}`, \
             `{{subscription_name}}`, `{{webhook_data}}` and `{{inbox_message}}` are filled in.",
        )
        .alias(&["prompt_template"])
        .required(),
        Field::new("retryCount", Type::Int { min: 0, max: 3 }, "Tries after a failure.")
            .alias(&["retry_count"])
            .or(Default::Int(0)),
        Field::new("timeoutSeconds", Type::Int { min: 60, max: 86_400 }, "Longest run.")
            .alias(&["timeout_seconds"])
            .or(Default::Int(600)),
        Field::new("enabled", Type::Bool, "Whether the trigger works.").or(Default::Bool(true)),
        Field::new("executionTarget", TARGET_TYPE, "Where it runs.").alias(&["execution_target"]),
        Field::new("preserveHistory", Type::Bool, "Whether runs share one Task.")
            .alias(&["preserve_history"])
            .or(Default::Bool(false)),
        Field::new(
            "historyMessageCount",
            Type::Int { min: 0, max: 50 },
            "Earlier messages that a run sees.",
        )
        .alias(&["history_message_count"])
        .or(Default::Int(10)),
        Field::new("boundTaskId", Type::Id, "The Task that runs share.").alias(&["bound_task_id"]),
        Field::new("knowledgeBaseRefs", KNOWLEDGE_REFS, "Its knowledge bases.")
            .alias(&["knowledge_base_refs"])
            .or(Default::List),
        Field::new("skillRefs", list(&NAMED_SKILL_TYPE, 100), "Skills besides the Team's.")
            .alias(&["skill_refs"])
            .or(Default::List),
        Field::new("notificationWebhooks", list(&WEBHOOK_TYPE, 20), "Called after each run.")
            .alias(&["notification_webhooks"])
            .or(Default::List),
        Field::new("expiresAt", TIME, "Disabled after this.").alias(&["expires_at"]),
    ],
);

pub(super) static STATUS: Object = Object::new(
    "SubscriptionStatus",
    "How it is.",
    &[
        STATE,
        MESSAGE,
        Field::new("lastExecutionTime", TIME, "When it last ran."),
        Field::new("lastExecutionStatus", LINE, "How that ended."),
        Field::new("nextExecutionTime", TIME, "When it runs next."),
        Field::new("webhookUrl", LINE, "Where an event is sent to."),
        Field::new("executionCount", COUNT, "Runs.").or(Default::Int(0)),
        Field::new("successCount", COUNT, "Runs that ended well.").or(Default::Int(0)),
        Field::new("failureCount", COUNT, "Runs that ended badly.").or(Default::Int(0)),
    ],
);
