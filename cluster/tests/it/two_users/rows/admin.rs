//! Operations of administrators, and what a node says about itself.

use serde_json::json;

use super::{Call, Check, Row, at, row};
use crate::two_users::world::Ids;

const OPEN: Check = Check::Nothing("a node about itself, for everybody");

fn nothing(_: &Ids) -> Vec<Call> {
    vec![at([])]
}

/// Without an id.
fn plain(id: &'static str) -> Row {
    row(id, [Check::Forbidden(nothing)])
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = of_users();
    rows.extend(of_nodes());
    rows.extend(of_entities());
    rows
}

fn of_users() -> Vec<Row> {
    vec![
        row("health", [OPEN]),
        row("ready", [OPEN]),
        row("startup", [OPEN]),
        row("get_meta", [OPEN]),
        row("get_openapi", [OPEN]),
        plain("metrics"),
        plain("list_users"),
        row(
            "create_user",
            [Check::Forbidden(|i| {
                vec![at([]).json(json!({"user_name": i["user_name"], "password": "long-enough"}))]
            })],
        ),
        row("get_user", [Check::Forbidden(|i| vec![at([&i["user"]])])]),
        row(
            "patch_user",
            [Check::Forbidden(|i| {
                vec![at([&i["user"]]).json(json!({"role": "admin", "is_active": false}))]
            })],
        ),
        row("deactivate_user", [Check::Forbidden(|i| vec![at([&i["user"]])])]),
    ]
}

fn of_nodes() -> Vec<Row> {
    vec![
        plain("admin_nodes"),
        row("admin_drain_node", [Check::Forbidden(|i| vec![at([&i["node"]])])]),
        plain("admin_shards"),
        row("admin_shard", [Check::Forbidden(|i| vec![at([&i["shard"]])])]),
        row(
            "admin_move_shard",
            [Check::Forbidden(|i| vec![at([&i["shard"]]).json(json!({"to": i["node"]}))])],
        ),
        row("admin_rebalance", [Check::Forbidden(|_| vec![at([]).json(json!({"action": "now"}))])]),
        plain("admin_actors"),
        plain("admin_queues"),
        plain("admin_containers"),
        plain("admin_doctor"),
        plain("admin_backup"),
        plain("admin_audit"),
    ]
}

fn of_entities() -> Vec<Row> {
    const OF_TASK: Check = Check::Forbidden(|i| vec![at([&i["task"]])]);
    const OF_LETTER: Check = Check::Forbidden(|i| vec![at([&i["letter"]])]);
    vec![
        row("admin_restart_entity", [OF_TASK]),
        row("admin_passivate_entity", [OF_TASK]),
        row("admin_why_task", [OF_TASK]),
        plain("admin_dead_letters"),
        row("admin_dead_letter", [OF_LETTER]),
        row("admin_retry_dead_letter", [OF_LETTER]),
        row(
            "admin_discard_dead_letter",
            [Check::Forbidden(|i| {
                vec![at([&i["letter"]]).json(json!({"reason": "it is not mine"}))]
            })],
        ),
    ]
}
