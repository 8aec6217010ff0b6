//! Resources: names in namespaces. `default` is the caller's own, so what is foreign there is the
//! name; and there is no name for the namespace of somebody else.

use super::{Call, Check, Row, at, hidden, nowhere, row};
use crate::two_users::world::{Ids, package};

fn team(name: &str, namespace: Option<&str>) -> String {
    let namespace = namespace.map_or(String::new(), |of| format!(", namespace: \"{of}\""));
    format!(
        "kind: Team\nmetadata: {{name: {name}{namespace}}}\nspec:\n  collaborationModel: solo\n  \
         members: [{{botRef: {{name: assistant}}}}]\n"
    )
}

fn ghost(name: &str) -> String {
    format!("kind: Ghost\nmetadata: {{name: {name}}}\nspec: {{systemPrompt: taken}}\n")
}

/// As others might spell the namespace of a person.
fn namespaces(i: &Ids) -> [String; 4] {
    let (user, name) = (&i["user"], &i["user_name"]);
    [user.clone(), name.clone(), format!("group:{name}"), format!("{name}/default")]
}

/// One call for each spelling, with what stands behind the namespace.
fn within<const N: usize>(i: &Ids, rest: [&str; N]) -> Vec<Call> {
    let call = |namespace: &String| {
        let parts = [namespace.as_str()].into_iter().chain(rest);
        Call { parts: parts.map(str::to_owned).collect(), ..Call::default() }
    };
    namespaces(i).iter().map(call).collect()
}

fn with_body(calls: Vec<Call>, text: &str) -> Vec<Call> {
    calls.into_iter().map(|call| call.yaml(text.to_owned())).collect()
}

/// One of each kind that she made.
fn named(i: &Ids) -> Vec<Call> {
    let kinds = [("teams", "team"), ("models", "model"), ("bots", "bot"), ("ghosts", "bot")];
    kinds.map(|(plural, name)| at(["default", plural, &i[name]])).into()
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = reads();
    rows.extend(writes());
    rows.extend(packages());
    rows.push(row(
        "instantiate_template",
        [
            nowhere(404, |i| within(i, ["templates", &i["template"]])),
            hidden(|i| vec![at(["default", "templates", &i["template"]])]),
        ],
    ));
    rows
}

/// Skills by their ids.
fn packages() -> Vec<Row> {
    const SKILL: fn(&Ids) -> Vec<Call> = |i| vec![at([&i["skill"]])];
    vec![
        row(
            "upload_skill",
            [
                nowhere(404, |i| {
                    let call = |namespace: &String| at([]).form(namespace, "taken", &package());
                    namespaces(i).iter().map(call).collect()
                }),
                Check::Alike(201, |i| vec![at([]).form("default", &i["skill_name"], &package())]),
            ],
        ),
        row("get_skill", [hidden(SKILL)]),
        row("download_skill", [hidden(SKILL)]),
        row("replace_skill", [hidden(|i| vec![at([&i["skill"]]).zip(package())])]),
        row("delete_skill", [hidden(SKILL)]),
    ]
}

fn reads() -> Vec<Row> {
    const EVERYBODYS: Check = Check::Nothing("kinds are the same for everybody");
    const KINDS: [&str; 6] = ["teams", "models", "bots", "ghosts", "shells", "skills"];
    vec![
        row("explain", [EVERYBODYS]),
        row("schema", [EVERYBODYS]),
        row("list_all", [Check::Own(|_| KINDS.map(|plural| at([plural])).into())]),
        row(
            "list_in",
            [
                Check::Own(|_| KINDS.map(|plural| at(["default", plural])).into()),
                nowhere(404, |i| within(i, ["teams"])),
            ],
        ),
        row("get_resource", [hidden(named), nowhere(404, |i| within(i, ["teams", &i["team"]]))]),
        row("get_used_by", [hidden(named), nowhere(404, |i| within(i, ["bots", &i["bot"]]))]),
        row("watch", [nowhere(404, |i| within(i, []))]),
    ]
}

fn writes() -> Vec<Row> {
    vec![
        row(
            "apply",
            [nowhere(404, |i| {
                let documents = |namespace: &String| team("taken", Some(namespace));
                namespaces(i)[..2].iter().map(documents).map(|text| at([]).yaml(text)).collect()
            })],
        ),
        row(
            "apply_in",
            [
                nowhere(404, |i| with_body(within(i, []), &ghost("taken"))),
                // A reference to what is hers leads nowhere.
                Check::Hidden {
                    status: 404,
                    owner: true,
                    calls: |i| {
                        let bot = "kind: Bot\nmetadata: {name: taken}\nspec: {shellRef: {name: Chat}, \
                           ghostRef: {name: NAME}}\n";
                        vec![at(["default"]).yaml(bot.replace("NAME", &i["bot"]))]
                    },
                },
            ],
        ),
        row(
            "create_in",
            [
                nowhere(404, |i| with_body(within(i, ["ghosts"]), &ghost("taken"))),
                Check::Alike(201, |i| vec![at(["default", "ghosts"]).yaml(ghost(&i["ghost"]))]),
            ],
        ),
        row(
            "replace_resource",
            [
                nowhere(404, |i| {
                    with_body(within(i, ["teams", &i["spare"]]), &team(&i["spare"], None))
                }),
                hidden(|i| {
                    vec![at(["default", "teams", &i["spare"]]).yaml(team(&i["spare"], None))]
                }),
            ],
        ),
        row(
            "delete_in",
            [
                nowhere(404, |i| with_body(within(i, []), &team(&i["spare"], None))),
                hidden(|i| vec![at(["default"]).yaml(team(&i["spare"], None))]),
            ],
        ),
        row(
            "delete_resource",
            [
                hidden(|i| vec![at(["default", "teams", &i["team"]])]),
                nowhere(404, |i| within(i, ["teams", &i["team"]])),
            ],
        ),
        // Hers is deleted by now.
        row(
            "list_deleted",
            [Check::Own(|_| vec![at(["default"])]), nowhere(404, |i| within(i, []))],
        ),
        row(
            "restore_resource",
            [
                nowhere(404, |i| within(i, ["teams", &i["team"]])),
                hidden(|i| vec![at(["default", "teams", &i["team"]])]),
            ],
        ),
    ]
}
