//! `admin actors`

use std::collections::HashMap;

use serde_json::{Value, json};
use troupe_api::admin::{ActorTreeView, ActorView, EntityOutcome};

use super::{at_node, failed, long, value_of};
use crate::{
    args::{ActorsArgs, Format},
    client::{Client, segment},
    error::CliError,
    output::{self, Table},
};

pub(super) async fn run(client: &Client, format: Format, args: ActorsArgs) -> Result<(), CliError> {
    if let Some(entity) = &args.restart {
        return wish(client, format, entity, "restart").await;
    }
    if let Some(entity) = &args.passivate {
        return wish(client, format, entity, "passivate").await;
    }
    let mut tree: ActorTreeView = client.get(&at_node("actors", args.node.node.as_deref())).await?;
    if !args.entities {
        tree.items.retain(|actor| actor.entity.is_none());
    }
    let names = || tree.items.iter().map(|actor| actor.name.clone()).collect();
    output::print(format, &value_of(&tree), || table(&tree), names);
    Ok(())
}

async fn wish(client: &Client, format: Format, entity: &str, verb: &str) -> Result<(), CliError> {
    let path = format!("/api/v1/admin/actors/{}/{verb}", segment(entity));
    let done: EntityOutcome = client.post(&path, &json!({})).await?;
    let line = || format!("{} on {}: {}\n", done.entity, done.node, done.detail);
    let value: Value = value_of(&done);
    match done.outcome.as_str() {
        "not_idle" => Err(failed("not_idle", format!("{}: {}", done.entity, done.detail))),
        _ => {
            output::print(format, &value, line, || vec![done.entity.clone()]);
            Ok(())
        }
    }
}

/// Actors below their supervisors.
fn table(tree: &ActorTreeView) -> String {
    let known: HashMap<&str, &ActorView> =
        tree.items.iter().map(|actor| (actor.id.as_str(), actor)).collect();
    let mut children: HashMap<Option<&str>, Vec<&ActorView>> = HashMap::new();
    for actor in &tree.items {
        // One whose supervisor is gone meanwhile stands at the top.
        let parent = actor.parent.as_deref().filter(|parent| known.contains_key(parent));
        children.entry(parent).or_default().push(actor);
    }
    let mut table = Table::new(&["actor", "state", "queue", "restarts", "age", "last error"]);
    let mut stack: Vec<(usize, &ActorView)> =
        children.get(&None).into_iter().flatten().rev().map(|actor| (0, *actor)).collect();
    while let Some((depth, actor)) = stack.pop() {
        let name = actor.entity.as_ref().unwrap_or(&actor.name);
        table.row(vec![
            format!("{}{name}", "  ".repeat(depth)),
            actor.state.clone(),
            actor.queue.to_string(),
            actor.restarts.to_string(),
            long(actor.age_seconds),
            actor.last_error.clone().unwrap_or_default(),
        ]);
        let below = children.get(&Some(actor.id.as_str())).into_iter().flatten();
        stack.extend(below.rev().map(|child| (depth + 1, *child)));
    }
    let mut text = table.render();
    if tree.left_out > 0 {
        text.push_str(&format!("{} more entities are in memory\n", tree.left_out));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_stand_below_their_supervisors() {
        let actor = |id: &str, parent: Option<&str>, name: &str| ActorView {
            id: id.to_owned(),
            parent: parent.map(str::to_owned),
            name: name.to_owned(),
            ..ActorView::default()
        };
        let items = vec![
            actor("1", None, "shard host"),
            actor("2", Some("1"), "shard 7"),
            actor("3", Some("1"), "shard 9"),
            actor("4", Some("2"), "task"),
            actor("5", Some("77"), "stray"),
        ];
        let told = table(&ActorTreeView { node: "a".to_owned(), items, left_out: 3 });
        let names: Vec<&str> = told.lines().skip(1).map(|line| line.trim_end()).collect();
        let starts = ["shard host", "  shard 7", "    task", "  shard 9", "stray", "3 more"];
        for (line, start) in names.iter().zip(starts) {
            assert!(line.starts_with(start), "{told}");
        }
        assert_eq!(names.len(), starts.len());
    }
}
