//! Team.

use super::{
    Default, Field, Form, ListOf, Object, Type,
    common::{LINE, NO_CATALOGUE, REF, choice, form, list, text},
};
use crate::validate::rules;

const MEMBER_TYPE: Type = Type::Object(&MEMBER);
const HINT: Type = text(0, 500);
const ONE_HINT: &str = "`en` and `zh` are shown on every screen";
const HINTS_TYPE: Type = Type::Object(&HINTS);
const PLACEHOLDER_TYPE: Type = Type::Object(&PLACEHOLDER);

pub(super) static MEMBER: Object = Object::new(
    "Member",
    "A Bot in its place in a Team.",
    &[
        Field::new("botRef", REF, "The Bot.").required(),
        Field::new("prompt", text(0, 50_000), "Extra instruction for this member.")
            .or(Default::Text("")),
        Field::new(
            "role",
            choice(&["leader", "member"]),
            "At most one leads; without a mark the first one does.",
        ),
        Field::new(
            "requireConfirmation",
            Type::Bool,
            "pipeline: a person confirms before the next stage begins.",
        )
        .or(Default::Bool(false)),
        Field::new(
            "contextPassing",
            choice(&["none", "original_user", "previous_bot", "original_and_previous"]),
            "pipeline: what the next stage is told.",
        )
        .or(Default::Text("none")),
        Field::new(
            "on",
            form(500, Form::Selector),
            "Device for this member: a name, or terms like `os=linux, tool=claude>=2, label:gpu`; or \
             `container`.",
        ),
    ],
);

pub(super) static HINTS: Object = Object::new(
    "Hints",
    "One hint in two languages.",
    &[Field::new("en", HINT, "English."), Field::new("zh", HINT, "Chinese.")],
);

pub(super) static PLACEHOLDER: Object = Object::new(
    "InputPlaceholder",
    "Hint in the empty input field.",
    &[
        Field::new("en", HINT, "English."),
        Field::new("zh", HINT, "Chinese."),
        Field::new("mobile", HINTS_TYPE, "On small screens.").unused(ONE_HINT),
        Field::new("desktop", HINTS_TYPE, "On large screens.").unused(ONE_HINT),
    ],
);

pub(super) static TEAM: Object = Object::new(
    "Team",
    "Bots that work together.",
    &[
        Field::new(
            "members",
            Type::List(ListOf { item: &MEMBER_TYPE, min: 1, max: 32 }),
            "Who works, in order.",
        )
        .required(),
        Field::new(
            "collaborationModel",
            choice(&["solo", "pipeline", "route", "coordinate", "collaborate"]),
            "How the members work together.",
        )
        .required(),
        Field::new(
            "bind_mode",
            list(&LINE, 20),
            "Where it is offered: `chat`, `code`, `knowledge`, `task`..; an empty list hides it.",
        )
        .unused("a Team is offered everywhere"),
        Field::new("description", text(0, 2_000), "What it is good for."),
        Field::new("icon", LINE, "Its picture.").unused("no picture is shown"),
        Field::new("requiresWorkspace", Type::Bool, "By default as its Shells do."),
        Field::new("inputPlaceholder", PLACEHOLDER_TYPE, "Hint in the empty input field."),
        Field::new("quick_phrases", list(&text(1, 120), 6), "Offered for a click.")
            .or(Default::List),
        Field::new("capability", Type::Free, "For catalogues.").unused(NO_CATALOGUE),
        Field::new(
            "maxConcurrentTasks",
            Type::Int { min: 1, max: 1_000 },
            "Tasks of one owner that may run at once.",
        )
        .or(Default::Int(10)),
        Field::new("maxRounds", Type::Int { min: 1, max: 20 }, "Rounds of `collaborate`.")
            .or(Default::Int(rules::MAX_ROUNDS)),
    ],
)
.rule(rules::team);
