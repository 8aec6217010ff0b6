//! Template.

use super::{
    Default, Field, MapOf, Object, Type,
    agent::{BOT, GHOST},
    common::{line, text},
    subscription::SUBSCRIPTION,
    team::TEAM,
};
use crate::validate::rules;

const GHOST_TYPE: Type = Type::Object(&GHOST);
const BOT_TYPE: Type = Type::Object(&BOT);
const TEAM_TYPE: Type = Type::Object(&TEAM);
const SUBSCRIPTION_TYPE: Type = Type::Object(&SUBSCRIPTION);

/// Specs of one kind, each under the name that its resource gets.
const fn specs(of: &'static Type) -> Type {
    Type::Map(MapOf { value: of, max: 32, secret_by_key: false })
}

pub(super) static TEMPLATE: Object = Object::new(
    "Template",
    "A bundle of resources that a person makes their own: `troupe instantiate NAME`.",
    &[
        Field::new("displayName", line(200), "Name for people."),
        Field::new("description", text(0, 2_000), "What it is good for."),
        Field::new("category", line(100), "Under what it is listed."),
        Field::new("ghosts", specs(&GHOST_TYPE), "Specs of Ghosts by name.").or(Default::Map),
        Field::new("bots", specs(&BOT_TYPE), "Specs of Bots by name.").or(Default::Map),
        Field::new("teams", specs(&TEAM_TYPE), "Specs of Teams by name.").or(Default::Map),
        Field::new("subscriptions", specs(&SUBSCRIPTION_TYPE), "Specs of Subscriptions by name.")
            .or(Default::Map),
    ],
)
.rule(rules::template);
