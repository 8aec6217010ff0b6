//! Workspace and Task.

use super::{
    Default, Field, Form, Object, Text, Type,
    common::{FREE_LIST, LINE, NAME, NAMESPACE, REF, TIME, TITLE, choice, form, list, text},
    envelope::{MESSAGE, STATE},
};

const REPOSITORY_TYPE: Type = Type::Object(&REPOSITORY);

pub(super) static REPOSITORY: Object = Object::new(
    "Repository",
    "A git repository and a branch.",
    &[
        Field::new("gitUrl", form(2_000, Form::GitUrl), "Where it is cloned from.").required(),
        Field::new("gitRepo", form(500, Form::Line), "Owner and name, like `acme/payments`.")
            .required(),
        Field::new("gitRepoId", Type::Int { min: 0, max: i64::MAX }, "The host's id of it."),
        Field::new("branchName", form(250, Form::Line), "The branch.").required(),
        Field::new("gitDomain", form(250, Form::Line), "The host; selects the git token.")
            .required(),
    ],
);

pub(super) static WORKSPACE: Object = Object::new(
    "Workspace",
    "What a Task works on; empty for a chat.",
    &[Field::new("repository", REPOSITORY_TYPE, "The repository.")],
);

pub(super) static TEAM_REF: Object = Object::new(
    "TeamRef",
    "Names a Team.",
    &[
        Field::new("name", NAME, "Its metadata.name.").required(),
        Field::new("namespace", NAMESPACE, "Its namespace.").or(Default::Text("default")),
        Field::new("user_id", Type::Id, "Its owner, if it is shared."),
    ],
);

pub(super) static BOUND_KNOWLEDGE: Object = Object::new(
    "BoundKnowledgeBase",
    "A knowledge base of this Task.",
    &[
        Field::new("id", Type::Id, "Its id."),
        Field::new("name", TITLE, "Its name.").required(),
        Field::new("boundBy", Type::Id, "Who bound it."),
        Field::new("boundAt", TIME, "When."),
    ],
);

pub(super) static KNOWLEDGE_SCOPE: Object = Object::new(
    "KnowledgeScope",
    "A part of a knowledge base.",
    &[
        Field::new("id", Type::Id, "Id of the knowledge base."),
        Field::new("namespace", NAMESPACE, "Its namespace.").or(Default::Text("default")),
        Field::new("name", TITLE, "Its name.").required(),
        Field::new("scopeRestricted", Type::Bool, "Whether only the parts below count.")
            .or(Default::Bool(false)),
        Field::new("folderIds", list(&Type::Id, 1_000), "Folders.").or(Default::List),
        Field::new("explicitDocumentIds", list(&Type::Id, 1_000), "Documents.").or(Default::List),
        Field::new("includeSubfolders", Type::Bool, "Folders inside the folders too.")
            .or(Default::Bool(true)),
        Field::new("boundBy", Type::Id, "Who bound it."),
        Field::new("boundAt", TIME, "When."),
    ],
);

pub(super) static DIRECTORY: Object = Object::new(
    "ExecutionWorkspace",
    "A directory on a device.",
    &[
        Field::new("source", LINE, "What kind of place."),
        Field::new("path", form(4_000, Form::Line), "Where."),
    ],
);
const DIRECTORY_TYPE: Type = Type::Object(&DIRECTORY);

pub(super) static EXECUTION: Object = Object::new(
    "ExecutionPlace",
    "Where it runs.",
    &[Field::new("workspace", DIRECTORY_TYPE, "Directory on the device.")],
);

pub(super) static FORK: Object = Object::new(
    "Fork",
    "The Task that this one was copied from.",
    &[
        Field::new("sourceTaskId", Type::Id, "That Task.").required(),
        Field::new("afterMessageId", Type::Id, "Copied up to this message."),
        Field::new("rootTaskId", Type::Id, "The first Task of the line."),
        Field::new("runtime", LINE, "What runs it."),
    ],
);

const TEAM_REF_TYPE: Type = Type::Object(&TEAM_REF);
const BOUND_KNOWLEDGE_TYPE: Type = Type::Object(&BOUND_KNOWLEDGE);
const KNOWLEDGE_SCOPE_TYPE: Type = Type::Object(&KNOWLEDGE_SCOPE);
const EXECUTION_TYPE: Type = Type::Object(&EXECUTION);
const FORK_TYPE: Type = Type::Object(&FORK);

pub(super) static TASK: Object = Object::new(
    "Task",
    "A durable conversation with a Team.",
    &[
        Field::new("title", TITLE, "Name for people.").required(),
        Field::new(
            "prompt",
            Type::Text(Text {
                min: 1,
                max: 60_000,
                bytes_max: Some(troupe_types::limits::MESSAGE_BYTES_MAX),
                form: Form::Free,
            }),
            "The first request.",
        )
        .required(),
        Field::new("teamRef", TEAM_REF_TYPE, "The Team.").required(),
        Field::new("workspaceRef", REF, "The Workspace.").required(),
        Field::new("is_group_chat", Type::Bool, "Whether several people take part.")
            .or(Default::Bool(false)),
        Field::new("knowledgeBaseRefs", list(&BOUND_KNOWLEDGE_TYPE, 50), "Its knowledge bases.")
            .or(Default::List),
        Field::new("knowledgeBaseScopes", list(&KNOWLEDGE_SCOPE_TYPE, 50), "Parts of them.")
            .or(Default::List),
        Field::new("externalKnowledgeRefs", FREE_LIST, "Knowledge of third parties.")
            .or(Default::List),
        Field::new("device_id", form(100, Form::Line), "The device to run on."),
        Field::new("execution", EXECUTION_TYPE, "Where it runs."),
        Field::new("fork", FORK_TYPE, "The Task that it was copied from."),
        Field::new("currentStage", Type::Int { min: 0, max: 1_000 }, "pipeline: position, from 0.")
            .or(Default::Int(0)),
    ],
);

pub(super) static APP: Object = Object::new(
    "TaskApp",
    "A service that the agent started.",
    &[
        Field::new("name", LINE, "Its name.").required(),
        Field::new("address", LINE, "Where it listens.").required(),
        Field::new("previewUrl", LINE, "Where people see it."),
    ],
);

pub(super) static ARCHIVE: Object = Object::new(
    "TaskArchive",
    "The archived workspace.",
    &[
        Field::new("storageKey", LINE, "Where it lies.").required(),
        Field::new("archivedAt", TIME, "When it was made."),
        Field::new("expiresAt", TIME, "When it goes."),
        Field::new("sizeBytes", Type::Int { min: 0, max: i64::MAX }, "How large it is."),
        Field::new("sessionFileIncluded", Type::Bool, "With the runtime's session."),
        Field::new("gitIncluded", Type::Bool, "With the repository."),
    ],
);

const APP_TYPE: Type = Type::Object(&APP);
const ARCHIVE_TYPE: Type = Type::Object(&ARCHIVE);

pub(super) static TASK_STATUS: Object = Object::new(
    "TaskStatus",
    "How far it is.",
    &[
        STATE,
        MESSAGE,
        Field::new(
            "status",
            choice(&[
                "PENDING",
                "RUNNING",
                "CANCELLING",
                "PENDING_CONFIRMATION",
                "COMPLETED",
                "FAILED",
                "CANCELLED",
                "DELETE",
            ]),
            "How far it is.",
        )
        .or(Default::Text("PENDING")),
        Field::new("progress", Type::Int { min: 0, max: 100 }, "Per cent.").or(Default::Int(0)),
        Field::new("result", Type::Free, "Of the last turn."),
        Field::new("errorMessage", text(0, 10_000), "Of the last turn."),
        Field::new("createdAt", TIME, "When it was made."),
        Field::new("updatedAt", TIME, "When it last changed."),
        Field::new("completedAt", TIME, "When its last turn ended."),
        Field::new("subTasks", FREE_LIST, "Read, never written."),
        Field::new("app", APP_TYPE, "A service that the agent started."),
        Field::new("archive", ARCHIVE_TYPE, "The archived workspace."),
    ],
);
