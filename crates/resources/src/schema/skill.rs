//! Skill, SkillBinding.

use super::{
    Default, Field, Form, Object, Type,
    common::{LINE, LINES, MCP_SERVERS, REF, SHELL_TYPES, TIME, choice, form, line, list, text},
    envelope::{MESSAGE, STATE},
};

const TOOL_TYPE: Type = Type::Object(&TOOL);
const PROVIDER_TYPE: Type = Type::Object(&PROVIDER);
const SOURCE_TYPE: Type = Type::Object(&SOURCE);

pub(super) static TOOL: Object = Object::new(
    "SkillTool",
    "A tool that the Skill declares.",
    &[
        Field::new("name", form(100, Form::Line), "Its name.").required(),
        Field::new("provider", LINE, "Who makes it."),
        Field::new("config", Type::Free, "For its provider.").or(Default::Map),
    ],
);

pub(super) static PROVIDER: Object = Object::new(
    "SkillProvider",
    "Tool factory inside the package, for trusted Skills.",
    &[
        Field::new("module", LINE, "Module.").or(Default::Text("provider")),
        Field::new("class", form(200, Form::Line), "Class.").required(),
    ],
);

pub(super) static SOURCE: Object = Object::new(
    "SkillSource",
    "Where the package came from.",
    &[
        Field::new("type", choice(&["upload", "git"]), "How it came."),
        Field::new("repo_url", form(2_000, Form::GitUrl), "For `git`: the repository."),
        Field::new("skill_path", LINE, "For `git`: the folder."),
        Field::new("imported_at", TIME, "When."),
    ],
);

pub(super) static SKILL: Object = Object::new(
    "Skill",
    "Instructions and tools that a model loads when it needs them.",
    &[
        Field::new("description", text(1, 4_000), "By this the model decides to load it.")
            .required(),
        Field::new("displayName", line(200), "Name for people."),
        Field::new("author", line(200), "Who wrote it."),
        Field::new("version", line(50), "Text, like `\"1.0\"`."),
        Field::new("prompt", text(0, 200_000), "Body of `SKILL.md`."),
        Field::new("tags", LINES, "For finding it.").or(Default::List),
        Field::new("bindShells", list(&choice(SHELL_TYPES), 10), "Shells that it works in.")
            .or(Default::Texts(&["ClaudeCode"])),
        Field::new("config", Type::Free, "For its tool provider.").or(Default::Map),
        Field::new("tools", list(&TOOL_TYPE, 100), "Tools that it declares.").or(Default::List),
        Field::new("provider", PROVIDER_TYPE, "Tool factory inside the package."),
        Field::new("mcpServers", MCP_SERVERS, "Join the Ghost's own, from the start of each run."),
        Field::new("visible", Type::Bool, "Whether lists show it.").or(Default::Bool(true)),
        Field::new("source", SOURCE_TYPE, "Where the package came from."),
    ],
);

pub(super) static STATUS: Object = Object::new(
    "SkillStatus",
    "How it is.",
    &[
        STATE,
        MESSAGE,
        Field::new("fileSize", Type::Int { min: 0, max: 10 * 1024 * 1024 }, "Bytes."),
        Field::new("fileHash", form(64, Form::Sha256), "SHA-256 of the package."),
    ],
);

pub(super) static BINDING: Object = Object::new(
    "SkillBinding",
    "A Skill that is on by default for the person who applied it; one in `public` for all.",
    &[
        Field::new("skillRef", REF, "The Skill.").required(),
        Field::new("preload", Type::Bool, "Whether it is in the prompt from the start.")
            .or(Default::Bool(false)),
        Field::new("enabled", Type::Bool, "Whether it is on.").or(Default::Bool(true)),
    ],
);
