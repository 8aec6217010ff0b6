//! Types and objects that several kinds share.

use super::{Choice, Default, Field, Form, ListOf, MapOf, Object, Text, Type};
use crate::validate::rules;

pub(super) const fn text(min: usize, max: usize) -> Type {
    Type::Text(Text { min, max, bytes_max: None, form: Form::Free })
}

pub(super) const fn form(max: usize, form: Form) -> Type {
    Type::Text(Text { min: 1, max, bytes_max: None, form })
}

pub(super) const fn line(max: usize) -> Type {
    Type::Text(Text { min: 0, max, bytes_max: None, form: Form::Line })
}

pub(super) const fn choice(values: &'static [&'static str]) -> Type {
    Type::Choice(Choice { values, aliases: &[], refused: &[], open: false })
}

pub(super) const fn open_choice(values: &'static [&'static str]) -> Type {
    Type::Choice(Choice { values, aliases: &[], refused: &[], open: true })
}

pub(super) const fn list(item: &'static Type, max: usize) -> Type {
    Type::List(ListOf { item, min: 0, max })
}

pub(super) const fn map(value: &'static Type, max: usize) -> Type {
    Type::Map(MapOf { value, max, secret_by_key: false })
}

pub(super) const fn secret_map(value: &'static Type, max: usize) -> Type {
    Type::Map(MapOf { value, max, secret_by_key: true })
}

pub(super) const NAME: Type = form(100, Form::Name);
pub(super) const NAMESPACE: Type = form(100, Form::Namespace);
pub(super) const URL: Type = form(2_000, Form::Url);
pub(super) const LINE: Type = line(1_000);
pub(super) const TITLE: Type = form(200, Form::Line);
pub(super) const TIME: Type = Type::Time;
pub(super) const NAMES: Type = list(&NAME, 100);
pub(super) const LINES: Type = list(&LINE, 100);
pub(super) const FREE_LIST: Type = list(&Type::Free, 100);

/// For fields that only catalogues would show.
pub(super) const NO_CATALOGUE: &str = "no catalogue shows it";

const DEFAULT_NAMESPACE: Default = Default::Text("default");

pub(super) static NAME_REF: Object = Object::new(
    "NameRef",
    "Names another resource.",
    &[
        Field::new("name", NAME, "Its metadata.name.").required(),
        Field::new(
            "namespace",
            NAMESPACE,
            "Its namespace; `default` means the caller's own resource, else the public one.",
        )
        .or(DEFAULT_NAMESPACE),
    ],
);
pub(super) const REF: Type = Type::Object(&NAME_REF);

pub(super) static SKILL_REF: Object = Object::new(
    "SkillRef",
    "Pins a Skill's name to one Skill.",
    &[
        Field::new("skill_id", Type::Id, "Id of the Skill."),
        Field::new("namespace", NAMESPACE, "Namespace of the Skill.").or(DEFAULT_NAMESPACE),
        Field::new("is_public", Type::Bool, "Whether it is a public Skill.")
            .or(Default::Bool(false)),
        Field::new("content_hash", form(64, Form::Sha256), "SHA-256 of the package."),
    ],
);
const SKILL_REF_TYPE: Type = Type::Object(&SKILL_REF);
pub(super) const SKILL_REFS: Type = map(&SKILL_REF_TYPE, 100);

pub(super) static KNOWLEDGE_REF: Object = Object::new(
    "KnowledgeBaseRef",
    "Names a KnowledgeBase.",
    &[Field::new("id", Type::Id, "Its id."), Field::new("name", TITLE, "Its name.").required()],
);
const KNOWLEDGE_REF_TYPE: Type = Type::Object(&KNOWLEDGE_REF);
pub(super) const KNOWLEDGE_REFS: Type = list(&KNOWLEDGE_REF_TYPE, 50);

pub(super) static MCP_SERVER: Object = Object::new(
    "McpServer",
    "An MCP server whose tools the agent may call.",
    &[
        Field::new(
            "type",
            Type::Choice(Choice {
                values: &["streamable-http", "stdio"],
                aliases: &[("http", "streamable-http"), ("streamable_http", "streamable-http")],
                refused: &[(
                    "sse",
                    "the legacy SSE transport is not supported; use `streamable-http`",
                )],
                open: false,
            }),
            "How it is reached; by default `stdio` if there is a command, else `streamable-http`.",
        ),
        Field::new("url", URL, "Its address, for `streamable-http`."),
        Field::new(
            "headers",
            secret_map(&line(8_000), 50),
            "Headers of each request, for `streamable-http`; credentials in them are sealed.",
        ),
        Field::new("command", form(1_000, Form::Line), "The program, for `stdio`."),
        Field::new("args", list(&text(0, 8_000), 200), "Its arguments, for `stdio`."),
        Field::new(
            "env",
            secret_map(&text(0, 8_000), 200),
            "Its environment, for `stdio`; credentials in it are sealed.",
        ),
        Field::new("timeout", Type::Number { min: 1.0, max: 3_600.0 }, "Seconds for one call."),
    ],
)
.rule(rules::mcp_server);
const MCP_SERVER_TYPE: Type = Type::Object(&MCP_SERVER);
pub(super) const MCP_SERVERS: Type = map(&MCP_SERVER_TYPE, 50);

pub(super) const SHELL_TYPES: &[&str] =
    &["ClaudeCode", "Agno", "Dify", "Chat", "Codex", "ACP", "Command"];
