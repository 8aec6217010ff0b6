//! Ghost, Shell, Bot.

use super::{
    Default, Field, Form, Object, Type,
    common::{
        KNOWLEDGE_REFS, MCP_SERVERS, NAMES, REF, SHELL_TYPES, SKILL_REFS, choice, form, list,
        open_choice, text,
    },
};
use crate::validate::rules;

pub(super) static GHOST: Object = Object::new(
    "Ghost",
    "A persona: role and rules, tools and skills on offer.",
    &[
        Field::new("systemPrompt", text(1, 100_000), "Role and rules.").required(),
        Field::new("mcpServers", MCP_SERVERS, "MCP servers by name.").or(Default::Map),
        Field::new("skills", NAMES, "Skills on offer, loaded when the model asks.")
            .or(Default::List),
        Field::new("preload_skills", NAMES, "Of these, the ones in the prompt from the start.")
            .or(Default::List),
        Field::new("skill_refs", SKILL_REFS, "Pins names of `skills` to one Skill each.")
            .or(Default::Map),
        Field::new("preload_skill_refs", SKILL_REFS, "The same for `preload_skills`.")
            .or(Default::Map),
        Field::new(
            "defaultKnowledgeBaseRefs",
            KNOWLEDGE_REFS,
            "Knowledge bases that every new Task begins with.",
        )
        .or(Default::List)
        .unused("give it an MCP server that searches, in `mcpServers`"),
    ],
)
.rule(rules::ghost);

pub(super) static SHELL: Object = Object::new(
    "Shell",
    "A runtime.",
    &[
        Field::new("shellType", choice(SHELL_TYPES), "Which runtime.")
            .alias(&["runtime"])
            .required(),
        Field::new(
            "supportModel",
            list(&open_choice(&["claude", "openai", "gemini", "demo"]), 20),
            "Providers that it accepts; none means any.",
        )
        .or(Default::List),
        Field::new("baseImage", form(500, Form::Line), "Container image."),
        Field::new("baseShellRef", super::common::NAME, "Public Shell that this derives from."),
        Field::new(
            "requiresWorkspace",
            Type::Bool,
            "Whether a Task needs a repository; by default if the runtime works on files.",
        ),
    ],
);

pub(super) static BOT: Object = Object::new(
    "Bot",
    "A Ghost in a Shell, with a Model or without.",
    &[
        Field::new("ghostRef", REF, "The Ghost.").required(),
        Field::new("shellRef", REF, "The Shell.").required(),
        Field::new(
            "modelRef",
            REF,
            "The Model. Without one, the Task's choice, else the user's default Model; in a Chat \
             Shell the `demo` Model if there is none.",
        ),
        Field::new("secondaryModelRef", REF, "Model for images and videos.")
            .unused("`modelRef` answers everything"),
    ],
);
